"""Crash reports quoted in commit messages, and the names of bugs."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent.commits.quoted import (
    Quote,
    likeness,
    pack_quotes,
    quotes_in,
    references,
    same_places,
    unpack_quotes,
)

MESSAGE = """\
syzbot reported a use-after-free:

BUG: KASAN: slab-use-after-free in fan_curve_lookup+0x12/0x60 drivers/hwmon/fan.c:12
Read of size 8 at addr ffff888012345678 by task sh/77

CPU: 0 PID: 77 Comm: sh Not tainted 6.6.0-rc3 #1
Call Trace:
 dump_stack_lvl+0x10/0x20
 kasan_report+0x1/0x2
 fan_curve_lookup+0x12/0x60 drivers/hwmon/fan.c:12
 fan_apply.constprop.0+0x20/0x50
 speed_store+0x2a/0x40
 vfs_write+0x2fc/0xcb0

Take the lock.

Reported-by: syzbot+0123456789abcdef0123@syzkaller.appspotmail.com
Closes: https://lore.kernel.org/all/20260101.fan@example.org/
"""
WEIGHTS = {"fan_curve_lookup": 1.0, "fan_apply": 0.85, "speed_store": 0.72}


def test_a_quoted_report_has_title_and_frames() -> None:
    (quote,) = quotes_in(MESSAGE)
    assert quote.title == "KASAN: slab-use-after-free Read in fan_curve_lookup"
    assert quote.symbols == ("fan_curve_lookup", "fan_apply", "speed_store")
    assert "speed_store+0x2a/0x40" in quote.frames


def test_a_bare_trace_is_quoted_without_title() -> None:
    (quote,) = quotes_in("It died in\n  foo_bar+0x1/0x2\n  foo_baz+0x3/0x4\nso fix it.")
    assert (quote.title, quote.symbols) == ("", ("foo_bar", "foo_baz"))


@pytest.mark.parametrize("message", ["", "Fix a typo.", "See foo() and bar_baz.\n\nFixes: 0123"])
def test_prose_quotes_nothing(message: str) -> None:
    assert quotes_in(message) == ()


def test_likeness_is_one_for_the_same_stack_and_falls_with_what_differs() -> None:
    (quote,) = quotes_in(MESSAGE)
    assert likeness(quote, WEIGHTS) == pytest.approx(1)
    shorter = Quote("", "", ("fan_curve_lookup",))
    longer = Quote("", "", (*quote.frames, "other_driver_probe+0x1/0x2"))
    assert 0 < likeness(shorter, WEIGHTS) < 1
    assert 0 < likeness(longer, WEIGHTS) < 1
    assert likeness(Quote("", "", ("tcp_sendmsg",)), WEIGHTS) == 0
    assert likeness(quote, {}) == 0


def test_same_offsets_tell_the_same_build() -> None:
    quote = Quote("", "", ("a_b+0x1/0x2", "c_d+0x3/0x4", "e_f"))
    assert same_places(quote, frozenset({"a_b+0x1/0x2", "c_d+0x9/0x4"})) == 0.5
    assert same_places(quote, frozenset()) == 0


def test_references_of_reports_and_commits_are_the_same() -> None:
    mail = "Message-ID: <20260101.fan@example.org>\nhttps://x/bug?extid=0123456789abcdef0123\n"
    assert set(references(mail)) == set(references(MESSAGE))
    assert references("CVE-2025-37958 and cve-2025-37958") == ("cve:2025-37958",)
    assert references("syzbot+xyz@ or extid=12") == ()


symbols = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
frames = st.tuples(symbols, st.integers(0, 0xFFF)).map(lambda f: f"{f[0]}+{f[1]:#x}/0x1000")
quotes = st.builds(Quote, st.text(max_size=20), st.text(max_size=8), st.lists(frames).map(tuple))


@given(st.lists(quotes, max_size=4).map(tuple))
def test_quotes_survive_packing(found: tuple[Quote, ...]) -> None:
    assert unpack_quotes(pack_quotes(found)) == found


@given(quotes, st.dictionaries(symbols, st.floats(0.1, 1), max_size=6))
def test_likeness_is_a_share(quote: Quote, weights: dict[str, float]) -> None:
    assert 0 <= likeness(quote, weights) <= 1 + 1e-9


@pytest.mark.parametrize("piece", ["syzbot+", "Closes: https://lore.kernel.org/", "a+0x1/0x", "@"])
def test_reading_is_linear(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    start = time.perf_counter()
    quotes_in(text)
    references(text)
    assert time.perf_counter() - start < 3
