"""``kagent index``: its commands, their output, and what importing it costs."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import GitRepository, fan_history
from typer.testing import CliRunner

from kagent.cli.index import app
from kagent.errors import IndexCorruptError, InputError, NoReportError
from kagent.settings import Settings

LOG = """\
[   12.000000] BUG: kernel NULL pointer dereference, address: 0000000000000010
[   12.000001] #PF: supervisor read access in kernel mode
[   12.000002] #PF: error_code(0x0000) - not-present page
[   12.000003] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   12.000004] CPU: 0 PID: 77 Comm: sh Not tainted 6.6.0 #1
[   12.000005] Hardware name: QEMU Standard PC (Q35 + ICH9, 2009)
[   12.000006] RIP: 0010:fan_curve_lookup+0x12/0x60
[   12.000007] Call Trace:
[   12.000008]  <TASK>
[   12.000009]  fan_apply+0x20/0x50
[   12.000010]  speed_store+0x2a/0x40
[   12.000011]  vfs_write+0x2fc/0xcb0
[   12.000012]  do_syscall_64+0x6a/0x120
[   12.000013]  </TASK>
[   12.000014] ---[ end trace 0000000000000000 ]---
"""


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[GitRepository, str]:
    return fan_history(tmp_path_factory.mktemp("history") / "repo")


@pytest.fixture(scope="module")
def index(history: tuple[GitRepository, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "fan.index"
    assert run("build", str(history[0].path), "-o", str(out)) == f"24 commits, 24 vectors: {out}\n"
    return out


def run(*arguments: str, stdin: str | bytes | None = None) -> str:
    """Standard output of a command that must succeed."""
    result = CliRunner().invoke(app, arguments, input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_search_prints_the_fix_and_why(index: Path, history: tuple[GitRepository, str]) -> None:
    out = run("search", str(index), "NULL dereference in fan_curve_lookup", "-k", "2")
    lines = out.splitlines()
    assert lines[0] == (
        f"1. {history[1][:12]}  hwmon: fan: fix NULL dereference in fan_curve_lookup()"
    )
    assert lines[1].startswith("   Ada Example <ada@example.org>, 2023-12-07, confidence 0.")
    assert "   - touches fan_curve_lookup, which the question names" in lines
    assert "\x1b" not in out


def test_search_as_json(index: Path, history: tuple[GitRepository, str]) -> None:
    (hit,) = json.loads(run("search", str(index), "fan_curve_lookup NULL", "-k", "1", "--json"))
    assert hit["hash"] == history[1]
    assert 0 <= hit["confidence"] <= 1


def test_the_question_from_stdin(index: Path, history: tuple[GitRepository, str]) -> None:
    out = run("search", str(index), "-", stdin="crash in\nfan_curve_lookup\n")
    assert out.startswith(f"1. {history[1][:12]}")


def test_search_by_a_crash_log(
    index: Path, history: tuple[GitRepository, str], tmp_path: Path
) -> None:
    (tmp_path / "oops.txt").write_text(LOG)
    out = run("search", str(index), "--log", str(tmp_path / "oops.txt"))
    assert out.startswith(f"1. {history[1][:12]}")
    assert "touches fan_curve_lookup, where it crashed" in out
    assert run("search", str(index), "--log", "-", stdin=LOG) == out
    (tmp_path / "oops.gz").write_bytes(gzip.compress(LOG.encode()))
    assert run("search", str(index), "--log", str(tmp_path / "oops.gz")) == out


def test_the_release_dates_no_module_built_elsewhere(index: Path) -> None:
    """6.1 is of 2022, the history of 2023: all too young for the kernel, not for a module."""
    older = LOG.replace("Not tainted 6.6.0", "Tainted: G           O       6.1.0")
    foreign = re.sub(r"(fan_\w+\+\S+|speed_store\+\S+)", r"\1 [fan]", older)
    foreign += "[   12.000015] Modules linked in: fan(O)\n"
    ofkernel = run("search", str(index), "--log", "-", stdin=older)
    assert "speaks against it: what it repairs is younger than 6.1.0" in ofkernel
    assert "younger" not in run("search", str(index), "--log", "-", stdin=foreign)


def test_what_cannot_be_an_index_directory_is_named(
    history: tuple[GitRepository, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "index"
    with pytest.raises(InputError, match=f"{out} cannot be written: "):
        run("build", str(history[0].path), "-o", str(out))


def test_several_indexes_are_searched_as_one_and_merged(
    index: Path, history: tuple[GitRepository, str], tmp_path: Path
) -> None:
    patch = history[0].git("format-patch", "-1", "--stdout", history[1])
    (tmp_path / "list.mbox").write_text(f"{patch}\n")
    run("build", str(tmp_path / "list.mbox"), "-o", str(tmp_path / "list"))
    (tmp_path / "oops.txt").write_text(LOG)
    alone = run("search", str(tmp_path / "list"), "--log", str(tmp_path / "oops.txt"))
    assert "a fix is on the list, not merged yet" in alone
    places = (str(tmp_path / "list"), str(index))
    for question in (("--log", str(tmp_path / "oops.txt")), ("fan_curve_lookup",)):
        out = run("search", *places, *question)
        assert out.startswith(f"1. {history[1][:12]}")
        assert "was posted as patch:" in out
    out = run("merge", *places, "-o", str(tmp_path / "all"))
    assert out == f"25 commits, 25 vectors: {tmp_path / 'all'}\n"
    assert run("verify", str(tmp_path / "all")) == "sound\n"


def test_search_needs_one_question(index: Path) -> None:
    for arguments in ((), ("words", "--log", "x")):
        with pytest.raises(InputError, match="one of them"):
            run("search", str(index), *arguments)
    with pytest.raises(InputError, match="empty"):
        run("search", str(index), "  ")


def test_logs_that_say_nothing(index: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        run("search", str(index), "--log", str(tmp_path / "none"))
    with pytest.raises(InputError, match="is empty"):
        run("search", str(index), "--log", "-", stdin="")
    with pytest.raises(NoReportError):
        run("search", str(index), "--log", "-", stdin="[    1.0] all is well\n")


def test_commit_text_cannot_reach_the_terminal(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "repo")
    repository.commit("fan: \x1b[31mfix\x1b[0m \x1b]0;owned\x07[bold]fan_probe()[/bold] \u202e\n")
    out = tmp_path / "index"
    run("build", str(repository.path), "-o", str(out))
    text = run("search", str(out), "fan_probe")
    assert "fan: fix [bold]fan_probe()[/bold]" in text
    assert not any(bad in text for bad in "\x1b\x07\u202e")


def test_update(tmp_path: Path) -> None:
    repository, _ = fan_history(tmp_path / "repo", others=2)
    out = tmp_path / "index"
    run("build", str(repository.path), "-o", str(out))
    repository.commit("fan: more\n")
    assert run("update", str(out)) == "1 commit added, 7 in all\n"
    repository.git("reset", "-q", "--hard", "HEAD~2")
    result = CliRunner().invoke(app, ["update", str(out)])
    assert result.stdout == "0 commits added, 5 in all\n"
    assert "history was rewritten" in result.stderr


def test_build_of_a_part(history: tuple[GitRepository, str], tmp_path: Path) -> None:
    out = tmp_path / "index"
    arguments = ("--paths", "drivers/hwmon", "--paths", "drivers/ring")
    text = run("build", str(history[0].path), "-o", str(out), *arguments)
    assert text.startswith("7 commits")
    text = run("build", str(history[0].path), "-o", str(out), "--since", "HEAD~2")
    assert text.startswith("2 commits")


def test_export(index: Path, tmp_path: Path) -> None:
    text = run("export", str(index), "--markdown")
    assert text.startswith("---\n## Commit 1\n### Metadata\n")
    assert run("export", str(index), "--markdown", "-o", str(tmp_path / "x.md")) == ""
    assert (tmp_path / "x.md").read_text() == text
    with pytest.raises(InputError, match="in which form"):
        run("export", str(index))


def test_stats_and_verify(index: Path) -> None:
    facts = json.loads(run("stats", str(index), "--json"))
    assert facts["commits"] == 24
    assert "commits                  24\n" in run("stats", str(index))
    assert run("verify", str(index)) == "sound\n"


def test_stats_name_every_source(index: Path, history: tuple[GitRepository, str]) -> None:
    out = run("stats", str(index))
    assert f"sources.1.location       {history[0].path}\n" in out
    assert f"sources.1.heads.HEAD     {history[0].git('rev-parse', 'HEAD')}\n" in out


def test_settings_take_one_index_or_several(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().index == ()
    assert Settings(index=Path("a")).index == (Path("a"),)
    assert Settings(index=[Path("a"), Path("b")]).index == (Path("a"), Path("b"))
    monkeypatch.setenv("KAGENT_INDEX", "a,b")
    assert Settings().index == (Path("a"), Path("b"))


def test_verify_fails_on_damage(history: tuple[GitRepository, str], tmp_path: Path) -> None:
    out = tmp_path / "index"
    run("build", str(history[0].path), "-o", str(out))
    data = bytearray((out / "commits.sqlite").read_bytes())
    data[-100] ^= 1
    (out / "commits.sqlite").write_bytes(data)
    with pytest.raises(IndexCorruptError, match="damaged"):
        run("verify", str(out))


@pytest.mark.parametrize(
    "command", ["build", "update", "search", "export", "stats", "verify", "merge"]
)
def test_help_has_examples(command: str) -> None:
    text = run(command, "--help")
    assert "Example" in text
    assert f"kagent index {command}" in text or f"index {command}" in " ".join(text.split())


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("faiss", "numpy", "scipy", "git", "langchain_core", "rich.progress", "pydantic")
    code = f"import sys, kagent.cli.index; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
