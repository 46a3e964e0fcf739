"""Taking a query apart, and what a pasted trace gives."""

from __future__ import annotations

import time

import pytest

from kagent.commits.model import CrashQuery
from kagent.commits.pasted import read_trace, stated_release
from kagent.commits.plumbing import is_pathway, is_plumbing, is_plumbing_file
from kagent.commits.query import prepare

PASTED = """\
Hi, my board died with this:

[   12.0] BUG: kernel NULL pointer dereference, address: 0000000000000010
[   12.0] CPU: 0 PID: 77 Comm: sh Tainted: G        W  OE 6.6.0-rc3 #1
[   12.0] RIP: 0010:fan_curve_lookup.isra.0+0x12/0x60 drivers/hwmon/fan.c:12
[   12.0] Call Trace:
[   12.0]  ? __die_body+0x1f/0x70
[   12.0]  fan_set drivers/hwmon/fan.c:40 [inline]
[   12.0]  fan_apply+0x20/0x50 [fan]
[   12.0]  really_probe+0x10/0x20 drivers/base/dd.c:600
[   12.0]  speed_store+0x2a/0x40
[   12.0]  vfs_write+0x2fc/0xcb0 fs/read_write.c:500
[   12.0]  __x64_sys_write+0x10/0x20
"""


def test_a_pasted_trace_is_read() -> None:
    trace = read_trace(PASTED)
    assert trace is not None
    assert trace.functions == (
        "fan_curve_lookup.isra.0",
        "fan_set",
        "fan_apply",
        "really_probe",
        "speed_store",
        "vfs_write",
        "__x64_sys_write",
    )
    assert trace.files == ("drivers/hwmon/fan.c", "drivers/base/dd.c", "fs/read_write.c")
    assert stated_release(PASTED) == "6.6.0-rc3"
    assert trace.headlines == (
        "[   12.0] BUG: kernel NULL pointer dereference, address: 0000000000000010",
    )


def test_prose_is_no_trace() -> None:
    assert read_trace("ext4: use-after-free in ext4_es_insert_extent() at boot") is None


def test_terms_of_a_pasted_trace() -> None:
    terms = prepare(CrashQuery(text=PASTED))
    assert terms.frames == (
        "fan_curve_lookup",
        "fan_set",
        "fan_apply",
        "really_probe",
        "speed_store",
        "sys_write",
    )
    assert list(terms.files) == ["drivers/hwmon/fan.c"]
    assert terms.development
    assert "null" in terms.words
    assert "board" not in terms.words


def test_deeper_frames_weigh_less_and_pathways_little() -> None:
    weights = prepare(CrashQuery(text=PASTED)).functions
    assert weights["fan_curve_lookup"] == 1
    assert weights["fan_curve_lookup"] > weights["fan_set"] > weights["fan_apply"]
    assert max(weights["really_probe"], weights["sys_write"]) < weights["speed_store"]


def test_what_the_caller_states_stands_before_the_text() -> None:
    query = CrashQuery(text=PASTED, functions=("foo_bar",), files=("a/b.c",), release="5.10.7")
    terms = prepare(query)
    assert terms.frames == ("foo_bar",)
    assert terms.related["fan_curve_lookup"] == 1
    assert list(terms.files) == ["a/b.c", "drivers/hwmon/fan.c"]
    assert (terms.release, terms.development) == ("5.10.7", False)


def test_numbers_of_a_headline_are_no_words() -> None:
    terms = prepare(CrashQuery(title="WARNING in foo", text="CPU: 1 PID: 9 at a+0x1/0x2 [inline]"))
    assert {"cpu", "pid", "inline", "x1"}.isdisjoint(terms.words)


def test_the_log_dates_a_crash_and_names_its_bug() -> None:
    log = (
        "Comm: sh Not tainted 6.4.0-rc7-syzkaller #0\n"
        "Hardware name: Google, BIOS Google 06/27/2023\n"
        "https://syzkaller.appspot.com/bug?extid=0123456789abcdef0123\n"
    )
    terms = prepare(CrashQuery(title="WARNING in foo", functions=("foo",), log=log))
    assert terms.day == terms.not_before == 19535
    assert terms.development
    assert terms.syzbot
    assert terms.references == ("syzbot:0123456789abcdef0123",)
    assert "sh" not in terms.words
    stable = prepare(CrashQuery(title="x", log=log, release="5.10.7"))
    assert stable.day is not None
    assert stable.day < 19535
    unknown = prepare(CrashQuery(title="x", log="BIOS Google 06/27/2023"))
    assert (unknown.day, unknown.development) == (None, False)


def test_identifiers_are_single_names() -> None:
    query = CrashQuery(identifiers=("&sb->s_type->i_mutex_key#9", "fan_curve.points"))
    assert list(prepare(query).identifiers) == ["s_type", "i_mutex_key", "fan_curve", "points"]


def test_symbols_of_a_question_are_functions() -> None:
    terms = prepare(CrashQuery(text="why does probe() crash in foo_bar and mutex_lock?"))
    assert terms.functions == {"probe": 1.0, "foo_bar": 1.0}
    assert terms.frames == ()


@pytest.mark.parametrize(
    "query", [CrashQuery(), CrashQuery(text=" \n"), CrashQuery(functions=("schedule",))]
)
def test_nothing_to_search_for(query: CrashQuery) -> None:
    assert prepare(query).empty


def test_what_most_traces_hold() -> None:
    assert is_plumbing("kasan_report")
    assert is_plumbing("____kasan_kmalloc")
    assert is_pathway("netlink_sendmsg")
    assert not is_pathway("nf_tables_newrule")
    assert is_plumbing_file("mm/kasan/report.c")
    assert is_plumbing_file("include/linux/list.h")
    assert not is_plumbing_file("mm/huge_memory.c")
    assert not is_plumbing_file("net/ipv4/tcp.c")


@pytest.mark.parametrize(
    "piece",
    [
        "a/",
        "a_",
        "foo+0x",
        "foo+0x1/0x2 ",
        "Comm: " + "x " * 30,
        "? ",
        "\n",
        "a.c:1 ",
        "foo  \n   ",
        "Tainted:",
    ],
)
def test_reading_is_linear(piece: str) -> None:
    text = piece * (250_000 // len(piece))
    start = time.perf_counter()
    prepare(CrashQuery(title=text, text=text))
    assert time.perf_counter() - start < 2
