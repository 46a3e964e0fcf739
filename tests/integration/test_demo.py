"""``kagent demo`` finds what happened, and every example of the help runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
EXPECTED = json.loads((ROOT / "tests" / "data" / "demo" / "expected.json").read_text("utf-8"))
COMMANDS = ("", "analyze", "parse", "reformat", "demo", "mcp")
ENV = {
    **{k: v for k, v in os.environ.items() if not k.startswith(("KAGENT_", "OPENAI_"))},
    "NO_COLOR": "1",
    "COLUMNS": "200",
}


def shell(command: str, where: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as a user's shell does; ``kagent`` is this checkout's."""
    line = re.sub(r"\bkagent (?=\w|--)", f"{sys.executable} -m kagent ", command)
    return subprocess.run(
        ["bash", "-c", line],
        cwd=where,
        env=ENV,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """A directory in which ``kagent demo --keep case`` ran."""
    where = tmp_path_factory.mktemp("work")
    done = shell("kagent demo --keep case --json > demo.json", where)
    assert done.returncode == 0, done.stderr
    assert "$ kagent analyze case/console.log --modules case/modules" in done.stderr
    return where


def test_the_demo_explains_its_crash(workdir):
    found = json.loads((workdir / "demo.json").read_text())
    fault, truth = found["fault"], EXPECTED["fault"]
    assert found["reports"][0]["kind"] == EXPECTED["kind"]
    for key in ("function", "line", "module", "access", "address", "struct", "member"):
        assert fault[key] == truth[key], key
    assert places(fault["inline_chain"]) == places(truth["inline_chain"])
    assert found["fixes"][0]["hash"] == EXPECTED["commits"]["fix"]["hash"]
    assert found["engine"]["kind"] == "rules"


def places(chain: list[dict]) -> list[tuple[str, str, int]]:
    """Functions and lines; a file may be named by its tree or by where it was built."""
    return [(point["function"], Path(point["file"]).name, point["line"]) for point in chain]


def test_the_printed_commands_give_the_same_result(workdir):
    printed = shell("kagent demo --keep again > again.txt", workdir).stderr
    (build, analyze) = re.findall(r"^\$ (.*)$", printed, re.MULTILINE)
    assert shell(build, workdir).returncode == 0
    done = shell(f"{analyze} --json", workdir)
    assert done.returncode == 0, done.stderr
    first, second = json.loads((workdir / "demo.json").read_text()), json.loads(done.stdout)
    assert first["fault"] == second["fault"]
    assert first["fixes"] == second["fixes"]


def test_the_sample_of_the_talk_is_read_without_any_data(workdir):
    done = shell("kagent demo --sample cve-2025-37958 --json", workdir)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["reports"][0]["title"].endswith("in split_huge_pmd_locked")
    assert found["missing"]


def examples() -> list[str]:
    found = []
    for command in COMMANDS:
        done = shell(f"kagent {command} --help".replace("  ", " "), ROOT)
        _, _, tail = done.stdout.partition("Examples")
        found += [
            line.strip() for line in tail.splitlines() if re.match(r" *(dmesg \| )?kagent ", line)
        ]
    return found


def test_every_example_of_the_help_runs(workdir):
    lines = [line for line in examples() if "--keep case" not in line]
    assert len(lines) >= 10
    for line in lines:
        done = shell(line, workdir)
        allowed = {0, 1} if line.startswith("dmesg") else {0}
        assert done.returncode in allowed, f"{line}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    assert (workdir / "case" / "crash.html").read_text().startswith("<!DOCTYPE html>")
