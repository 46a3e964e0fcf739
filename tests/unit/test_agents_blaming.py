"""The faulting line's history, as far as the source has one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.repository import GitRepository, fan_source

from kagent.agents.blaming import blamed_commits
from kagent.agents.toolbox import open_toolbox
from kagent.klog.model import Context
from kagent.resolution import Fault, SourcePoint
from kagent.settings import Settings

PATH = "drivers/hwmon/fan.c"
LOOP = fan_source().split("\n").index("\tfor (i = 0; i < curve->points; i++)") + 1


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    repository = GitRepository(tmp_path_factory.mktemp("blame") / "linux")
    repository.commit(
        "start\n", {"Makefile": "VERSION = 6\nPATCHLEVEL = 6\n", "mm/a.c": "int a;\n"}
    )
    return repository.path, repository.commit("hwmon: add a fan driver\n", {PATH: fan_source()})


def blamed(kernel_src: str | None, fault: Fault | None) -> list[str]:
    with open_toolbox(Settings(kernel_src=kernel_src), Context()) as box:
        return blamed_commits(box, fault)


def test_the_commit_that_wrote_the_faulting_line(source: tuple[Path, str]) -> None:
    path, introduced = source
    fault = Fault(symbol="fan_curve_lookup", file=PATH, line=LOOP)
    assert blamed(f"{path}@HEAD", fault) == [introduced]
    own = SourcePoint(function="fan_curve_lookup", file=PATH, line=LOOP)
    inside = Fault(symbol="memcpy", file="arch/x86/lib/memcpy_64.S", line=30, own_frame=own)
    assert blamed(f"{path}@HEAD", inside) == [introduced]


def test_what_has_no_history_blames_nobody(source: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = source
    known = Fault(symbol="fan_curve_lookup", file=PATH, line=LOOP)
    assert blamed(None, known) == []
    assert blamed(f"{path}@HEAD", None) == []
    assert blamed(f"{path}@HEAD", Fault(symbol="fan_curve_lookup")) == []
    assert (
        blamed(f"{path}@HEAD", Fault(symbol="a", file="mm/a.c", line=1)) == []
    )  # known no further
    (tmp_path / "drivers/hwmon").mkdir(parents=True)
    (tmp_path / PATH).write_text(fan_source())
    assert blamed(str(tmp_path), known) == []
