"""Debug info that nobody named: installed, or of a server on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.debuginfod import debuginfod
from support.kernel_elf import RELEASE, build_module, build_vmlinux, run

from kagent.errors import MismatchError, MissingDataError
from kagent.klog.frame_model import Frame
from kagent.symbols import DebugFiles, Symbolizer
from kagent.symbols.debuginfod import Debuginfod
from kagent.symbols.dwarf import drgn_available
from kagent.symbols.notes import build_id_in
from kagent.symbols.objects import open_object

needs_drgn = pytest.mark.skipif(not drgn_available(), reason="drgn has no wheel here")


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vmlinux(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def build_id(vmlinux: Path) -> str:
    found = open_object(vmlinux).image.build_id
    assert found
    return found


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Installed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        f"boot/vmlinux-{RELEASE}",
        f"boot/vmlinux-{RELEASE}.debug",
        f"lib/modules/{RELEASE}/vmlinux",
    ],
)
def test_places_of_debug_packages(tmp_path: Path, vmlinux: Path, name: str) -> None:
    place = tmp_path / name
    place.parent.mkdir(parents=True)
    place.symlink_to(vmlinux)
    files = DebugFiles(tmp_path)
    assert files.vmlinux(RELEASE) == place
    assert files.vmlinux("5.10.7") is None
    with Symbolizer.open(release=RELEASE, files=files) as symbolizer:
        assert symbolizer.vmlinux_release == RELEASE
        assert symbolizer.notes == (f"debug info: {place}",)


def test_what_is_given_comes_before_what_is_installed(tmp_path: Path, vmlinux: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / f"vmlinux-{RELEASE}").write_bytes(b"no ELF")
    with Symbolizer.open(vmlinux, release=RELEASE, files=DebugFiles(tmp_path)) as symbolizer:
        assert symbolizer.notes == ()


@pytest.mark.parametrize("release", ["../../etc/passwd", "", "..", "a b", "x" * 200, None])
def test_names_that_are_no_release(tmp_path: Path, release: str | None) -> None:
    files = DebugFiles(tmp_path)
    assert files.vmlinux(release) is None
    assert files.module_directories(release) == ()


def test_debug_files_by_build_id(tmp_path: Path, vmlinux: Path, build_id: str) -> None:
    place = tmp_path / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
    place.parent.mkdir(parents=True)
    place.symlink_to(vmlinux)
    files = DebugFiles(tmp_path)
    assert files.vmlinux("9.9.9-other", build_id) == place
    for other in ("0" * 40, "../../../etc/passwd", ""):
        with pytest.raises(MissingDataError):
            files.by_build_id(other)


@needs_drgn
def test_a_stripped_module_gets_its_lines_from_the_installed_one(tmp_path: Path) -> None:
    module = build_module(tmp_path / "built")
    stripped = tmp_path / "stripped"
    stripped.mkdir()
    run("strip", "--strip-debug", "-o", stripped / module.name, module)
    frame = Frame("fan_write", 4, module="fan_ctl")
    bare = Symbolizer.open(None, stripped, release=RELEASE)
    assert bare.symbolize([frame])[0].chain == ()
    installed = tmp_path / "debug" / "lib" / "modules" / RELEASE
    installed.parent.mkdir(parents=True)
    installed.symlink_to(module.parent)
    files = DebugFiles(tmp_path / "debug")
    (found,) = Symbolizer.open(None, stripped, release=RELEASE, files=files).symbolize([frame])
    assert [Path(at.file).name for at in found.chain] == ["fan.c"]
    identity = open_object(module).image.build_id
    assert identity
    with debuginfod({identity: module.read_bytes()}) as server:
        files = DebugFiles(tmp_path / "none", servers=server.url)
        (found,) = Symbolizer.open(None, stripped, release=RELEASE, files=files).symbolize([frame])
    assert [Path(at.file).name for at in found.chain] == ["fan.c"]


def test_an_installed_vmlinux_of_another_build_is_refused(tmp_path: Path, vmlinux: Path) -> None:
    """Distributions rebuild a kernel under the same release."""
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / f"vmlinux-{RELEASE}").symlink_to(vmlinux)
    with pytest.raises(MismatchError, match="build-id"):
        Symbolizer.open(release=RELEASE, build_id="0" * 40, files=DebugFiles(tmp_path))


def test_the_running_kernel_tells_its_build_id() -> None:
    notes = Path("/sys/kernel/notes")
    if not notes.is_file():
        pytest.skip("no /sys/kernel/notes here")
    found = build_id_in(notes.read_bytes())
    assert found is None or len(found) >= 16
    assert DebugFiles().module_build_id("no_such_module", os.uname().release) is None


# Servers --------------------------------------------------------------------------------------


def test_a_file_is_fetched_once(vmlinux: Path, build_id: str, cache: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    data = vmlinux.read_bytes()
    with debuginfod({build_id: data}) as server:
        client = Debuginfod(server.url + "/", progress=lambda _, *counts: seen.append(counts))
        path = client.debug_info(build_id)
        assert client.debug_info(build_id) == Debuginfod(server.url).debug_info(build_id) == path
    assert server.asked == [f"/buildid/{build_id}/debuginfo"]
    assert path == cache / build_id / "debuginfo"  # where elfutils' clients look, too
    assert path.read_bytes() == data
    assert seen[-1] == (len(data), len(data))
    assert sorted(p.name for p in path.parent.iterdir()) == ["debuginfo"]


def test_the_next_server_is_asked(vmlinux: Path, build_id: str) -> None:
    with debuginfod({}) as empty, debuginfod({build_id: vmlinux.read_bytes()}) as server:
        urls = f"ftp://nowhere {empty.url}\n{server.url}"
        assert Debuginfod(urls).debug_info(build_id).is_file()
    assert len(empty.asked) == len(server.asked) == 1


def test_what_servers_do_not_have_is_asked_for_once(build_id: str) -> None:
    with debuginfod({}) as server:
        client = Debuginfod(server.url)
        for _ in range(2):
            with pytest.raises(MissingDataError, match="does not have it"):
                client.debug_info(build_id)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"<html>log in</html>", 200, "sent no debug info"),
        (b"", 200, "sent no debug info"),
        (b"busy", 503, "says 503"),
    ],
)
def test_a_server_that_sends_something_else(
    build_id: str, cache: Path, data: bytes, status: int, words: str
) -> None:
    with (
        debuginfod({build_id: data}, status=status) as server,
        pytest.raises(MissingDataError, match=words),
    ):
        Debuginfod(server.url).debug_info(build_id)
    assert list(cache.rglob("*debug*")) == []


def test_a_server_that_sends_another_build(vmlinux: Path, build_id: str, cache: Path) -> None:
    other = "f" * 40
    with (
        debuginfod({other: vmlinux.read_bytes()}) as server,
        pytest.raises(MissingDataError, match=f"sent another build, {build_id[:12]}"),
    ):
        Debuginfod(server.url).debug_info(other)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_server_that_is_not_there(build_id: str) -> None:
    with debuginfod({}) as gone:
        pass
    with pytest.raises(MissingDataError, match="does not answer"):
        Debuginfod(gone.url).debug_info(build_id)


def test_an_empty_file_in_the_cache_is_elfutils_way_to_say_no(
    vmlinux: Path, build_id: str, cache: Path
) -> None:
    (cache / build_id).mkdir(parents=True)
    (cache / build_id / "debuginfo").touch()
    with debuginfod({build_id: vmlinux.read_bytes()}) as server:
        assert Debuginfod(server.url).debug_info(build_id).stat().st_size


@needs_drgn
def test_frames_by_the_build_ids_they_print(tmp_path: Path, vmlinux: Path, build_id: str) -> None:
    module = build_module(tmp_path / "built")
    identity = open_object(module).image.build_id
    assert identity
    frames = [Frame("widget_poll", 4), Frame("fan_write", 4, module="fan_ctl", build_id=identity)]
    with debuginfod({build_id: vmlinux.read_bytes(), identity: module.read_bytes()}) as server:
        files = DebugFiles(tmp_path / "none", servers=server.url)
        opened = Symbolizer.open(release=RELEASE, build_id=build_id, files=files)
        found = opened.symbolize(frames)
    assert [bool(one.chain) for one in found] == [True, True]
    assert not any(one.approximate for one in found)


def test_why_there_is_no_vmlinux_is_told(tmp_path: Path, build_id: str) -> None:
    with debuginfod({}) as server:
        files = DebugFiles(tmp_path, servers=server.url)
        (note,) = Symbolizer.open(release=RELEASE, build_id=build_id, files=files).notes
        assert "does not have it" in note
        (note,) = Symbolizer.open(release=RELEASE, files=files).notes
        assert "no build-id" in note
