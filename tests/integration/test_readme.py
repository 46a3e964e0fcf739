"""The README tells the truth: its sessions are run and its output is compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
ELSEWHERE = {
    "python3 -m venv": ".ci/run",
    "pip install '.[studio]'": "pyproject.toml",
    "langgraph dev": "tests/integration/test_studio.py",
    "kagent mcp": "tests/integration/test_mcp.py",
    "OPENAI_BASE_URL": "tests/integration/test_models.py",
}
"""What cannot run in a plain session, and what runs it instead."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def sessions() -> list[tuple[str, list[str]]]:
    """(command, expected lines) in the README's order; a line of dots stands for anything."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(blocks("console")).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line.rstrip())
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def run(command: str, place: Path) -> str:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("KAGENT_", "OPENAI_"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def shown(expected: list[str], output: str) -> str | None:
    """The first expected line that `output` does not have in its place; None when all are there."""
    rows = [row.rstrip() for row in output.splitlines()]
    at, free = 0, False
    for line in expected:
        if line.strip() in {"...", "…"}:
            free = True
            continue
        found = next((i for i in range(at, len(rows)) if rows[i] == line), None)
        if found is None or (not free and found != at):
            return line
        at, free = found + 1, False
    return None if free or at == len(rows) else "(the end)"


def test_every_session_prints_what_the_readme_shows(place: Path) -> None:
    assert len(sessions()) >= 5
    for command, expected in sessions():
        missing = shown(expected, run(command, place))
        assert missing is None, f"$ {command} does not print: {missing}"


def test_the_python_example_runs(place: Path) -> None:
    if not (place / "case").exists():
        run("kagent demo --keep case --quiet", place)
    (example,) = blocks("python")
    output = run(f"python3 - <<'END'\n{example}\nEND", place)
    assert "st->datum->gain_ppm" in output


def test_other_commands_are_run_elsewhere() -> None:
    for line in "".join(blocks("sh")).splitlines():
        runner = next((file for start, file in ELSEWHERE.items() if start in line), None)
        assert runner, f"nothing runs: {line}"
        assert (ROOT / runner).is_file()


def test_the_mcp_configuration_is_json() -> None:
    for text in blocks("json"):
        assert json.loads(text)["mcpServers"]["kagent"]["command"] == "kagent"


def test_its_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_set_up_commands_are_what_ci_runs() -> None:
    script = (ROOT / ".ci/run").read_text()
    for line in blocks("sh")[0].splitlines():
        assert line in script or "README.md" in script
