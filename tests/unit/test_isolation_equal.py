"""The child changes nothing: the same facts with it and without, on real crashes and hangs."""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

import kagent
from kagent.isolation import InProcess, Worker, using
from kagent.resolution import Resolution, Usage
from kagent.settings import Settings
from kagent.symbols.dwarf import drgn_available

pytestmark = pytest.mark.skipif(not drgn_available(), reason="drgn has no wheel here")

DATA = Path(__file__).parents[1] / "data"
LAB = Path(__file__).parents[1] / "lab" / "faults"


def some(logs: Iterable[Path]) -> list[ParameterSet]:
    """Every fourth log for each run of the tests; the others where time does not count."""
    return [
        pytest.param(log, id=f"{log.parent.name}-{log.stem}",
                     marks=[pytest.mark.integration] if number % 4 else [])
        for number, log in enumerate(sorted(logs))
    ]  # fmt: skip


def both_ways(log: Path, settings: Settings) -> tuple[Resolution, Resolution]:
    text = log.read_bytes().decode("utf-8", "replace")
    found = []
    for runner in (InProcess(), Worker()):
        with using(runner):
            one = kagent.analyze(text, settings=settings)
        runner.close()
        assert not one.failures
        found.append(one.model_copy(update={"usage": Usage()}))
    return found[0], found[1]


@pytest.mark.parametrize("log", some(DATA.glob("faults/*/*.log")))
def test_faults(log: Path, tmp_path: Path) -> None:
    for packed in log.parent.glob("*.ko.xz"):
        (tmp_path / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    for source in LAB.glob("*.[ch]"):
        shutil.copy(source, tmp_path)
    here, there = both_ways(log, Settings(modules=tmp_path))
    assert here == there
    assert there.fault is not None


@pytest.mark.parametrize("log", some(DATA.glob("waits/*.log")))
def test_waits(log: Path) -> None:
    here, there = both_ways(log, Settings(kernel_src=str(DATA / "waits" / "src")))
    assert here == there


@pytest.mark.integration
def test_crashlab(crashlab: Path) -> None:
    for log in sorted(crashlab.glob("logs/*.log")):
        if log.stem.endswith("-clean"):
            continue  # nothing went wrong there
        stage = "stage1" if log.name.startswith("d61") else "stage2"
        here, there = both_ways(log, Settings(modules=crashlab / "modules" / stage))
        assert here == there, log.name
