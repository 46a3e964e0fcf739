"""``kagent fix-status`` from the outside: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import GitRepository, fan_history

from kagent.commits import CommitIndex


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A repository where v6.2 has the fix and v6.1 lacks it."""
    repo = GitRepository(tmp_path_factory.mktemp("fixed") / "linux")
    repo.commit("start\n", {"fan.c": "a\n"})
    repo.git("tag", "v6.1")
    fix = repo.commit("fan: fix an oops\n", {"fan.c": "b\n"})
    repo.git("tag", "v6.2")
    return repo.path, fix


def _run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kagent", "fix-status", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "KAGENT_KERNEL_SRC": "", "NO_COLOR": "1"},
        check=False,
    )


def test_a_hash(fixed: tuple[Path, str]) -> None:
    repo, fix = fixed
    done = _run(fix[:12], "--kernel-src", str(repo), "--release", "6.1.0")
    assert done.returncode == 0, done.stderr
    assert f"{fix[:12]} fan: fix an oops" in done.stdout
    assert "upstream     v6.2" in done.stdout
    assert "your kernel  6.1.0: lacks it; the patch applies cleanly" in done.stdout


@pytest.mark.parametrize(
    ("release", "code"), [("6.1", 1), ("6.2", 0), ("6.1.0-12-amd64", 3), ("6.2.0-12-amd64", 0)]
)
def test_check_answers_with_the_exit_code(fixed: tuple[Path, str], release: str, code: int) -> None:
    repo, fix = fixed
    done = _run(fix, "--kernel-src", str(repo), "--release", release, "--check")
    assert done.returncode == code


def test_the_revision_of_the_tree_is_the_kernel(fixed: tuple[Path, str]) -> None:
    repo, fix = fixed
    assert _run(fix, "--kernel-src", f"{repo}@v6.1", "--check").returncode == 1
    assert _run(fix, "--kernel-src", f"{repo}@v6.2", "--check").returncode == 0


def test_json_from_a_report_on_standard_input(fixed: tuple[Path, str]) -> None:
    repo, fix = fixed
    report = {
        "fixes": [{"hash": fix}, {"hash": "f" * 40}],
        "reports": [{"primary": True, "kernel": "6.1.0"}],
    }
    arguments = ("--from-report", "-", "--kernel-src", str(repo), "--json")
    done = _run(*arguments, stdin=json.dumps(report))
    document = json.loads(done.stdout)
    assert document["schema"] == "kagent-fix-status/1"
    [found] = document["fixes"]
    assert found["landing"]["kernel"]["state"] == "lacks"
    assert found["stable"]["verdict"] == "likely"
    assert "has no commit ffff" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        ((), "", 2, "give a HASH or --from-report FILE"),
        (("HEAD",), "", 2, "not a commit hash: HEAD"),
        (("f" * 40,), "", 3, "has no commit ffff"),
        (("--from-report", "-"), "{}", 2, "that JSON is no report of kagent"),
        (("--from-report", "-"), "all is well\n", 1, "no kernel report in it"),
        (("--from-report", "-"), "BUG: kernel NULL pointer dereference, address: 0\n", 3, "index"),
        (("f" * 40, "--branch", "--all"), "", 2, "not a revision"),
    ],
)
def test_errors_are_one_line_and_a_hint(
    fixed: tuple[Path, str], arguments: tuple[str, ...], stdin: str, code: int, said: str
) -> None:
    done = _run(*arguments, "--kernel-src", str(fixed[0]), stdin=stdin)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


ELSEWHERE = """\
BUG: KASAN: slab-out-of-bounds in ext4_xattr_set_entry+0x12/0x60
Write of size 8 at addr ffff888012345678 by task sh/77
CPU: 0 PID: 77 Comm: sh Not tainted 6.1.0 #1
Call Trace:
 <TASK>
 ext4_xattr_set_entry+0x12/0x60
 ext4_xattr_block_set+0x20/0x50
 speed_store+0x2a/0x40
 </TASK>
"""


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--check",), 3)])
def test_a_log_that_no_commit_looks_like_the_fix_of(
    fixed: tuple[Path, str], tmp_path: Path, options: tuple[str, ...], code: int
) -> None:
    repo, fix = fixed
    history, _ = fan_history(tmp_path / "history")
    CommitIndex.build(history.path, tmp_path / "index").close()
    arguments = (
        "--from-report",
        "-",
        "--kernel-src",
        str(repo),
        "--index",
        str(tmp_path / "index"),
    )
    done = _run(*arguments, *options, stdin=ELSEWHERE)
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith("No commit looks like the fix. The nearest: ")
    assert "your kernel" not in done.stdout
    done = _run(*arguments, *options, "--json", stdin=ELSEWHERE)
    assert done.returncode == code
    document = json.loads(done.stdout)
    assert (document["schema"], document["fixes"]) == ("kagent-fix-status/1", [])
    assert document["nearest"]["verdict"] == "doubtful"
    assert len(document["nearest"]["hash"]) == len(fix)


def test_doubtful_fixes_of_a_report_are_left_out(fixed: tuple[Path, str]) -> None:
    repo, fix = fixed
    doubtful = {"hash": "e" * 40, "subject": "not it", "verdict": "doubtful", "confidence": 0.02}
    arguments = ("--from-report", "-", "--kernel-src", str(repo))
    report = {"fixes": [doubtful, {"hash": fix, "verdict": "possible"}], "reports": []}
    done = _run(*arguments, stdin=json.dumps(report))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(fix[:12])
    assert "eeee" not in done.stderr
    done = _run(*arguments, stdin=json.dumps({"fixes": [doubtful], "reports": []}))
    assert done.returncode == 1
    assert done.stdout == (
        "No commit looks like the fix. The nearest: eeeeeeeeeeee not it (confidence 0.02)\n"
    )


def test_a_fix_that_was_only_posted(fixed: tuple[Path, str], tmp_path: Path) -> None:
    repo, fix = fixed
    report = tmp_path / "report.json"
    posted, merged = {"hash": "1.fan@example.org"}, {"hash": fix}
    arguments = ("--from-report", str(report), "--kernel-src", str(repo))
    report.write_text(json.dumps({"reports": [], "fixes": [posted, merged]}))
    done = _run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "not merged yet, only posted: https://lore.kernel.org/r/1.fan@example.org" in done.stderr
    assert done.stdout.startswith(fix[:12])
    report.write_text(json.dumps({"reports": [], "fixes": [posted]}))
    done = _run(*arguments)
    assert done.returncode == 1
    assert "no fix is merged yet" in done.stderr


def test_a_partial_clone(fixed: tuple[Path, str], tmp_path: Path) -> None:
    repo, fix = fixed
    subprocess.run(["git", "-C", repo, "config", "uploadpack.allowFilter", "true"], check=True)
    clone = tmp_path / "partial"
    command = ["git", "clone", "-q", "--no-checkout", "--filter=blob:none"]
    subprocess.run([*command, f"file://{repo}", clone], check=True)
    done = _run(fix, "--kernel-src", str(clone))
    assert done.returncode == 3
    assert "partial clone" in done.stderr
    assert "--refetch" in done.stderr
