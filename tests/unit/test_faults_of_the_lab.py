"""Crashes of real kernels, made on purpose: the line, the member and the pointer behind each.

``tests/lab/faults`` has the modules that crash; ``tests/data/faults`` what two kernels printed
(Debian's 6.1, and 6.12 with KASAN, lockdep and UBSAN), the modules as built, and the truth. The
kernels' own debug info is not needed: what they call is known by name.
"""

from __future__ import annotations

import lzma
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kagent.diagnosis import decode_fault, frames_of, memory_facts
from kagent.klog import parse_log
from kagent.source import SourceTree
from kagent.symbols import Symbolizer
from kagent.symbols.dwarf import drgn_available

pytestmark = pytest.mark.skipif(not drgn_available(), reason="drgn has no wheel here")

TESTS = Path(__file__).parents[1]
LAB, DATA = TESTS / "lab" / "faults", TESTS / "data" / "faults"
KERNELS = ("debian61", "kasan612")
TRUTH: dict[str, dict[str, Any]] = tomllib.loads((DATA / "truth.toml").read_text())


def cases() -> Iterator[tuple[str, str]]:
    for name, truth in TRUTH.items():
        for kernel in truth.get("kernels", KERNELS):
            yield kernel, name


def line_of(module: str, mark: str) -> tuple[str, int]:
    """The source line that carries ``/* @mark */``."""
    lines = (LAB / f"{module}.c").read_text().splitlines()
    found = [n for n, line in enumerate(lines, 1) if f"/* @{mark} */" in line]
    return f"{module}.c", found[0]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each kernel the modules, their sources beside them."""
    found = {}
    for kernel in KERNELS:
        folder = tmp_path_factory.mktemp(kernel)
        for packed in (DATA / kernel).glob("*.ko.xz"):
            (folder / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
        for source in LAB.glob("*.[ch]"):
            shutil.copy(source, folder)
        found[kernel] = folder
    return found


@pytest.mark.parametrize(("kernel", "name"), list(cases()))
def test_a_crash_of_known_cause(kernel: str, name: str, modules: dict[str, Path]) -> None:
    truth = TRUTH[name]
    log = parse_log((DATA / kernel / f"{name}.log").read_bytes())
    assert log.primary is not None
    report = log.reports[log.primary]
    with Symbolizer.open(None, modules[kernel]) as symbolizer:
        symbolized = symbolizer.symbolize(frames_of(log))
        source = SourceTree.open(modules[kernel])
        result = decode_fault(report, symbolized, types=symbolizer, source=source)
        memory = memory_facts(report, symbolized)
    assert result is not None
    fault = result.fault
    if "at" in truth:
        blamed = fault.own_frame or fault
        assert (Path(blamed.file or "").name, blamed.line) == line_of(
            name.partition("-")[0], truth["at"]
        )
    if "member" in truth:
        assert f"{fault.struct}.{fault.member}" == truth["member"]
    if "access" in truth:
        assert fault.access == truth["access"]
    if "pointer" in truth:
        assert fault.pointer is not None
        assert truth["pointer"] in fault.pointer.meaning
    if "alloc" in truth:
        assert memory is not None
        assert memory.memory.alloc is not None
        assert memory.memory.alloc.line == line_of(name.partition("-")[0], truth["alloc"])[1]


def test_every_log_has_its_truth() -> None:
    for kernel in KERNELS:
        logs = {path.stem for path in (DATA / kernel).glob("*.log")}
        assert logs == {name for where, name in cases() if where == kernel}


def test_the_logs_tell_no_place_of_the_machine_that_made_them() -> None:
    for path in DATA.glob("*/*.log"):
        names = re.findall(r"(/[\w./-]+)/(?:nulls|objs|mixed|gone)\.c\b", path.read_text())
        assert set(names) <= {"/usr/src/faultlab"}
