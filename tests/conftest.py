"""What tests of every room share: golden files, the lab data beside the checkout, samples."""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.resolutions import deadlock_resolution, oops_resolution

from kagent.resolution import Resolution

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "data" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files under tests/data/golden instead of comparing with them",
    )


@pytest.fixture(autouse=True)
def no_debug_info_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is installed or configured here, or a distribution's server, must not decide a test."""
    monkeypatch.setenv("KAGENT_DEBUG_DIR", str(tmp_path_factory.getbasetemp() / "nothing"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "nothing"))
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)``: `text` must equal the file `name` under tests/data/golden."""
    update = request.config.getoption("--update-golden")

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        assert path.is_file(), f"no golden file {name}: run pytest --update-golden"
        with path.open(encoding="utf-8", newline="") as file:
            assert text == file.read(), f"{name} differs: pytest --update-golden rewrites it"

    return check


@pytest.fixture(scope="session")
def shared() -> Path:
    """Logs, kernels and benchmarks that lie beside the checkout and are not part of it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"no {path}: the lab data is not shipped")
    return path


@pytest.fixture(scope="session")
def crashlab(shared: Path) -> Path:
    """Directory with ``logs/NAME.log``, ``logs/NAME.json`` (truth) and ``modules/``."""
    return shared / "logs" / "crashlab-dev"


@pytest.fixture(scope="session")
def syzkaller_logs(shared: Path) -> Path:
    """Directory with ``report/``, ``guilty/`` and ``decompile/``."""
    return shared / "logs" / "syzkaller-dev"


@pytest.fixture(scope="session")
def crashlab_vmlinux(shared: Path, request: pytest.FixtureRequest) -> Path:
    """The unpacked vmlinux behind the ``c612-*`` logs, kept in pytest's cache between runs."""
    packed = shared / "kernels" / "vmlinux-6.12.117-crashlab.xz"
    if not packed.is_file():
        pytest.skip(f"no {packed}")
    cache = request.config.cache
    assert cache is not None
    path = cache.mkdir("crashlab") / "vmlinux"
    if not path.is_file():
        part = path.with_suffix(".part")
        with lzma.open(packed) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        part.rename(path)
    return path


@pytest.fixture
def resolution() -> Resolution:
    """A NULL dereference with source, struct member, fixes, findings and a ledger."""
    return oops_resolution()


@pytest.fixture
def deadlocked() -> Resolution:
    """A deadlock of two tasks with a victim, by a model."""
    return deadlock_resolution()
