"""What a pasted log shows at first sight."""

from __future__ import annotations

import time
from datetime import date, timedelta

import pytest

from kagent.commits.pasted import earliest_day, from_syzbot


def day(text: str) -> date | None:
    found = earliest_day(text)
    return None if found is None else date(1970, 1, 1) + timedelta(days=found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hardware name: Google Compute Engine, BIOS Google 10/25/2025", date(2025, 10, 25)),
        ("Hardware name: QEMU Standard PC, BIOS\n1.16.3-2 04/01/2014", date(2014, 4, 1)),
        ("Linux version 6.9 (a@b) #1 SMP Tue Feb  6 12:00:00 UTC 2024", date(2024, 2, 6)),
        ("Comm: sh Not tainted 6.1.0 #1  Debian 6.1.76-1 (2024-02-01)", date(2024, 2, 1)),
        ("2024-04-01T19:18:28.000000+00:00 host kernel: BUG", date(2024, 4, 1)),
        ("Hardware name: x 01/01/2011\n2021-03-01 10:00:00 BUG", date(2021, 3, 1)),
        ("Hardware name: x 13/45/2021", None),
        ("see the mail of 2024-04-01T19:18:28", None),
        ("", None),
    ],
)
def test_a_log_is_no_older_than_its_youngest_date(text: str, expected: date | None) -> None:
    assert day(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Not tainted 6.4.0-rc7-syzkaller-00041-ge660abd551f1 #0", True),
        ("syzkaller #0 Tainted: G L", True),
        ("by task syz-executor148/5000", True),
        ("Comm: syz.0.17 Not tainted", True),
        ("reported by syzbot, says the mail", False),
        ("Comm: sh Not tainted 6.1.0", False),
    ],
)
def test_syzkaller_leaves_its_signs(text: str, expected: bool) -> None:
    assert from_syzbot(text) is expected


@pytest.mark.parametrize("piece", ["Hardware name:", "#1 ", "#1 Mon ", "2024-04-01T1", "syz-"])
def test_reading_is_linear(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    start = time.perf_counter()
    earliest_day(text)
    from_syzbot(text)
    assert time.perf_counter() - start < 2
