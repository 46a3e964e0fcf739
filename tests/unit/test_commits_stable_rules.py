"""Which changes read like stable material, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kagent.commits.message import parse_fixes, parse_trailers
from kagent.commits.model import Commit
from kagent.commits.stable_rules import StableMaterial, judge_stable

_HUNK = "diff --git a/fan.c b/fan.c\n--- a/fan.c\n+++ b/fan.c\n@@ -1,3 +1,4 @@\n a\n+b\n c\n d\n"


def _commit(subject: str, message: str, diff: str = _HUNK) -> Commit:
    return Commit(
        "a" * 40, subject, "Ada <ada@example.org>", "2026-01-01", message, diff=diff,
        fixes=parse_fixes(message), trailers=parse_trailers(message),
    )  # fmt: skip


def _judge(subject: str, message: str, diff: str = _HUNK) -> StableMaterial:
    return judge_stable(_commit(subject, message, diff), "v6.10-rc1", on_mainline=True)


@pytest.mark.parametrize(
    ("subject", "message", "verdict"),
    [
        ("fan: check the curve", "It oopses.\n\nCc: stable@vger.kernel.org", "tagged"),
        ("fan: check the curve", "It hangs.\n\nCc: <stable@kernel.org> # 6.6+", "tagged"),
        (
            "fan: check the curve",
            "It oopses.\n\nCc: <stable+noautosel@kernel.org> # needs the rework",
            "excluded",
        ),
        ("fan: fix a use-after-free", "KASAN found it.\n\nFixes: 0123456789ab", "likely"),
        ("fan: fix typo in comment", "No functional change.", "unlikely"),
        ("fan: fix a race", "This could in theory happen.", "unlikely"),
        ("fan: fix a leak", "It leaks.", "likely"),
    ],
)
def test_verdicts(subject: str, message: str, verdict: str) -> None:
    assert _judge(subject, message).verdict == verdict


def test_a_long_patch_is_unlikely_and_says_how_long() -> None:
    long = _HUNK + "".join(f"+line {number}\n" for number in range(120))
    judged = _judge("fan: fix an oops", "It oopses.\n\nFixes: 0123456789ab", long)
    assert judged.verdict == "unlikely"
    assert judged.why == "124 lines with context"


def test_what_mainline_lacks_is_unlikely() -> None:
    commit = _commit("fan: fix an oops", "It oopses.")
    judged = judge_stable(commit, None, on_mainline=False)
    assert judged.verdict == "unlikely"
    assert "lacks the change" in judged.why


def test_a_patch_cut_by_the_reader_counts_as_long() -> None:
    commit = replace(_commit("fan: fix an oops", "It oopses."), truncated=True)
    assert judge_stable(commit, "v6.10", on_mainline=True).verdict == "unlikely"


def test_what_a_program_cannot_judge_stays_open() -> None:
    criteria = {c.rule: c.met for c in _judge("fan: rename", "For clarity.").criteria}
    assert criteria["it is obviously correct and tested"] is None
    assert criteria["it fixes a real bug that bothers people"] is None
