"""Ranking: what brings a commit to the top, what it says of itself, and when it says nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent.commits import CommitIndex, CrashQuery, Hit
from kagent.commits.candidates import gather
from kagent.commits.query import prepare
from kagent.commits.ranker import FACTS, load_ranker
from kagent.commits.signals import DESCRIPTIONS, signals

SYZBOT = "0123456789abcdef0123"
QUOTED = """\
The lookup races with removal:

BUG: KASAN: slab-use-after-free in fan_curve_lookup+0x12/0x60
Read of size 8 at addr ffff888012345678 by task sh/77
CPU: 0 PID: 77 Comm: sh Not tainted 6.6.0-rc3 #1
Call Trace:
 fan_curve_lookup+0x12/0x60
 fan_apply+0x20/0x50
 speed_store+0x2a/0x40
"""
COMMITS: dict[str, dict[str, Any]] = {
    "introduce": {
        "subject": "hwmon: fan: add curves",
        "date": "2023-05-01T00:00:00+00:00",
        "files": ["drivers/hwmon/fan.c"],
        "functions": ["fan_curve_lookup", "fan_apply"],
    },
    "lookup": {
        "subject": "hwmon: fan: fix use-after-free of the curve",
        "message": "Take the lock.\n\nFixes: {introduce} (x)\nReported-by: A <a@b>",
        "files": ["drivers/hwmon/fan.c"],
        "functions": ["fan_curve_lookup"],
    },
    "quoting": {
        "subject": "hwmon: core: hold a reference",
        "message": QUOTED,
        "files": ["drivers/hwmon/hwmon.c"],
        "functions": ["hwmon_get"],
    },
    "named": {
        "subject": "driver core: wait for readers",
        "message": f"Reported-by: syzbot+{SYZBOT}@syzkaller.appspotmail.com\n",
        "files": ["drivers/other/core.c"],
        "functions": ["remove_all"],
    },
    "blamed": {
        "subject": "lib: count from zero",
        "message": "Fixes: {introduce} (x)\n",
        "files": ["lib/count.c"],
        "functions": ["count_all"],
    },
}
CRASH = CrashQuery(
    title="KASAN: slab-use-after-free Read in fan_curve_lookup",
    functions=("fan_curve_lookup", "fan_apply", "speed_store"),
    places=("fan_curve_lookup+0x12/0x60", "fan_apply+0x20/0x50"),
    release="6.6.0-rc3",
)


def hash_of(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommitIndex]:
    directory = tmp_path_factory.mktemp("search")
    rows = [
        {"author": "A <a@b>", "date": "2023-10-10T00:00:00+00:00", "message": "", **row}
        | {"hash": hash_of(name)}
        for name, row in COMMITS.items()
    ]
    rows += [
        {
            "hash": hash_of(f"panel {n}"),
            "subject": f"panel: set up unit {n}",
            "author": "B <b@c>",
            "date": "2023-10-10T00:00:00+00:00",
            "message": "No crash here.",
            "files": [f"drivers/panel/unit{n}.c"],
            "functions": [f"panel_setup_{n}"],
        }
        for n in range(60)
    ]
    for row in rows:
        row["message"] = row["message"].replace("{introduce}", hash_of("introduce")[:12])
    source = directory / "changes.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with CommitIndex.build(source, directory / "index") as built:
        yield built


def found(index: CommitIndex, query: CrashQuery, name: str) -> Hit:
    hits = {hit.hash: hit for hit in index.search_crash(query, 20)}
    return hits[hash_of(name)]


def test_the_fix_beats_the_change_that_it_repairs(index: CommitIndex) -> None:
    fix = found(index, CRASH, "lookup")
    assert found(index, CRASH, "introduce").score < fix.score
    assert any(why.startswith(f"repairs {hash_of('introduce')[:12]}, which") for why in fix.why)


def test_a_quoted_stack_is_evidence(index: CommitIndex) -> None:
    why = found(index, CRASH, "quoting").why
    assert (
        "quotes a report of this title: KASAN: slab-use-after-free Read in fan_curve_lookup" in why
    )
    assert any("shares 3 functions" in reason and "same offsets" in reason for reason in why)
    elsewhere = found(index, replace(CRASH, places=()), "quoting")
    assert elsewhere.score < found(index, CRASH, "quoting").score


@pytest.mark.parametrize(
    "log",
    [
        f"https://syzkaller.appspot.com/bug?extid={SYZBOT}\n",
        f"From: syzbot <syzbot+{SYZBOT}@syzkaller.appspotmail.com>\n",
    ],
)
def test_the_same_bug_by_name_comes_first(index: CommitIndex, log: str) -> None:
    first = index.search_crash(replace(CRASH, log=log))[0]
    assert first.hash == hash_of("named")
    assert f"names syzbot's bug {SYZBOT}" in first.why


def test_blame_finds_who_repairs_the_faulting_line(index: CommitIndex) -> None:
    blamed = replace(CRASH, blamed=(hash_of("introduce"),))
    hit = found(index, blamed, "blamed")
    assert "repairs the commit that last changed the faulting line" in hit.why
    assert index.search_crash(CrashQuery(blamed=(hash_of("introduce"),)))


def test_what_is_older_than_the_crash_says_so(index: CommitIndex) -> None:
    why = found(index, CRASH, "introduce").why
    assert "speaks against it: older than 6.6.0-rc3" in why
    undated = replace(CRASH, release=None, log="Hardware name: PC, BIOS 1.0 09/01/2023\n")
    why = found(index, undated, "introduce").why
    assert "speaks against it: older than the log, which is of 2023-09-01 or later" in why


def test_who_freed_the_object_is_looked_at(index: CommitIndex) -> None:
    query = CrashQuery(functions=("speed_store",), related=(("hwmon_get",),))
    first = index.search_crash(query)[0]
    assert first.hash == hash_of("quoting")
    assert "touches hwmon_get, of another stack of the report" in first.why


def test_files_of_an_unsymbolised_log_are_learnt_from_history(index: CommitIndex) -> None:
    why = found(index, CrashQuery(functions=("fan_apply",)), "lookup").why
    assert "changes drivers/hwmon/fan.c, where functions of the trace live" in why


def test_a_crash_of_elsewhere_is_doubtful(index: CommitIndex) -> None:
    query = CrashQuery(
        title="KASAN: slab-out-of-bounds Write in ext4_xattr_set_entry",
        functions=("ext4_xattr_set_entry", "ext4_xattr_block_set"),
        files=("fs/ext4/xattr.c",),
        release="6.6.0-rc3",
    )
    assert all(hit.verdict == "doubtful" for hit in index.search_crash(query))


def test_every_signal_is_described_and_weighed(index: CommitIndex) -> None:
    terms = prepare(CRASH)
    evidence = gather(index._store, terms, None)
    assert evidence is not None
    values = signals(terms, evidence)
    assert set(values) == set(DESCRIPTIONS) == set(load_ranker().weights)
    assert {array.shape for array in values.values()} == {(len(evidence.rows),)}
    assert all(np.isfinite(array).all() and (array >= 0).all() for array in values.values())
    assert set(load_ranker().confidence) == set(FACTS)


@given(st.lists(st.floats(-20, 30), min_size=1, max_size=40))
def test_confidence_is_shared_out_and_falls_with_the_score(scores: list[float]) -> None:
    falling = np.array(sorted(scores, reverse=True))
    stated = load_ranker().confidences(falling)
    assert ((stated >= 0) & (stated <= 1)).all()
    assert (np.diff(stated) <= 0).all()
    assert stated.sum() <= 1 + 1e-9


def test_verdicts_follow_confidence() -> None:
    ranker = load_ranker()
    assert 0 < ranker.doubtful < ranker.confident < 1
    verdicts = [ranker.verdict(value) for value in (0.0, ranker.doubtful, ranker.confident, 1.0)]
    assert verdicts == ["doubtful", "possible", "confident", "confident"]
