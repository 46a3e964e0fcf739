"""What kind of change a commit is."""

from __future__ import annotations

import pytest

from kagent.commits.message import parse_fixes, parse_trailers
from kagent.commits.model import Commit
from kagent.commits.traits import (
    FIX_TAG,
    OUTSIDE,
    POSTED,
    REPORTED,
    REVERT,
    STABLE,
    SYZBOT,
    symptom_names,
    symptoms,
    traits,
)


def commit(subject: str = "fan: tidy", message: str = "", **more: object) -> Commit:
    facts: dict[str, object] = {"hash": "0123456789ab", "author": "", "date": "", **more}
    facts |= {"fixes": parse_fixes(message), "trailers": parse_trailers(message)}
    return Commit(subject=subject, message=message, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "bits"),
    [
        (commit(), 0),
        (commit('Revert "fan: tidy"'), REVERT),
        (
            commit(message="x\n\nFixes: 0123456789ab (x)\nCc: stable@vger.kernel.org"),
            FIX_TAG | STABLE,
        ),
        (commit(message="x\n\nReported-by: A Tester <...>"), REPORTED),
        (
            commit(message="x\n\nReported-by: syzbot+01@syzkaller.appspotmail.com"),
            REPORTED | SYZBOT,
        ),
        (commit(message="x\n\nTested-by: syzbot+01@syzkaller.appspotmail.com"), 0),
        (commit(files=("Documentation/a.rst", "tools/perf/b.c")), OUTSIDE),
        (commit(files=("Documentation/a.rst", "drivers/b.c")), 0),
        (commit(hash="p2405d87076c"), POSTED),
    ],
)
def test_traits(changed: Commit, bits: int) -> None:
    assert traits(changed) & 0xFFFF == bits


@pytest.mark.parametrize(
    ("title", "message", "shared"),
    [
        ("KASAN: slab-use-after-free Read in foo", "fix UAF in foo()", ["use after free"]),
        ("KASAN: slab-out-of-bounds Write in foo", "reject OOB index", ["out of bounds"]),
        ("possible deadlock in foo", "fix lock order (ABBA)", ["deadlock"]),
        ("INFO: task hung in foo", "do not hang on removal", ["hang"]),
        ("KMSAN: uninit-value in foo", "use of uninitialized flags", ["uninitialised"]),
        (
            "UBSAN: shift-out-of-bounds in foo",
            "avoid a shift overflow",
            ["out of bounds", "arithmetic"],
        ),
        ("memory leak in foo", "plug leaks", ["leak"]),
        ("memory leak in foo", "releaks nothing, bleak", []),
    ],
)
def test_a_title_and_a_message_speak_of_the_same(
    title: str, message: str, shared: list[str]
) -> None:
    assert symptom_names(symptoms(title) & symptoms(message)) == shared
