"""Whatever stands in a log: no exception, true spans, clean strings, linear time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kagent.klog import KernelLog, parse_log

LOGS = sorted((Path(__file__).parents[1] / "data" / "klog").glob("*.log"))
LINES = [line for path in LOGS for line in path.read_bytes().split(b"\n")]
CONTROLS = {chr(c) for c in (*range(32), *range(127, 160))} - {"\t", "\n"}


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _strings(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _strings(getattr(value, field.name))


def _check(data: bytes) -> KernelLog:
    log = parse_log(data)
    assert log.size == len(data)
    position = 0
    for report in log.reports:
        start, end = report.span
        assert position <= start < end <= len(data)
        position = start
        assert report.title.strip() == report.title != ""
        assert report.kind
        assert report.caused_by is None or report.caused_by < len(log.reports)
    for text in _strings((log.reports, log.tasks)):
        assert not CONTROLS & set(text)
    return log


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(LINES), max_size=60).map(b"\n".join))
def test_shuffled_lines(data: bytes) -> None:
    _check(data)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(LOGS).map(Path.read_bytes),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=12), st.integers(0, 60)), max_size=12),
)
def test_damaged_logs(data: bytes, damages: list[tuple[float, bytes, int]]) -> None:
    damaged = bytearray(data)
    for where, inserted, removed in damages:
        at = int(where * len(damaged))
        damaged[at : at + removed] = inserted
    _check(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=400), st.text(max_size=400)))
def test_any_input(data: bytes | str) -> None:
    parse_log(data)
    if isinstance(data, bytes):
        _check(b"BUG: KASAN: x in f+0x1/0x2\n" + data)


@pytest.mark.parametrize("path", LOGS, ids=[path.stem for path in LOGS])
def test_a_span_holds_its_report(path: Path) -> None:
    data = path.read_bytes()
    for report in parse_log(data).reports:
        start, end = report.span
        again = parse_log(data[start:end]).reports
        assert (report.title, report.kind) == (again[0].title, again[0].kind)
        assert [str(f) for f in report.call_frames] == [str(f) for f in again[0].call_frames]


def test_escapes_in_names_do_not_get_out() -> None:
    data = (LOGS[0].parent / "oops-null.log").read_bytes()
    evil = data.replace(b"Comm: ledbard", b"Comm: \x1b]0;pwn\x07a\xe2\x80\xaeb\x9b31m").replace(
        b"ledbar_set", b"ledbar_set"
    )
    assert _check(evil).reports[0].title == parse_log(data).reports[0].title


def test_escapes_in_the_boot_banner_do_not_get_out() -> None:
    log = _check(b"Linux version 6.1 (a@b) #1\x00\x1b[31m SMP\nBUG: foo\n")
    assert (log.reports[0].context.kernel, log.reports[0].context.build) == ("6.1", "#1 SMP")


def test_an_endless_line_is_cut() -> None:
    title = parse_log(b"BUG: " + b"A" * 5_000_000).reports[0].title
    assert len(title) <= 120


ADVERSARIES = {
    "headers": b"BUG: foo\n",
    "warnings": b"[    1.000000] WARNING: CPU: 0 PID: 1 at mm/a.c:1 foo+0x1/0x2\n",
    "slashes": b"WARNING: " + b"mm/x.c " * 550 + b"\n",
    "brackets": b"BUG: #0: ffffffff81000000 (" + b"){" * 1900 + b"\n",
    "parentheses": b"BUG: #0: ffffffff81000000 (" + b")" * 3900 + b"\n",
    "tasks": b"INFO: task " + b"a:1 blocked " * 330 + b"\n",
    "escapes": b"BUG: " + b"\x1b[" * 2000 + b"\n",
    "spaces": b"BUG: x\n" + b" " * 4000 + b"x\n",
    "mangled": b"BUG: x\n _RNv" + b"NvC" * 1200 + b"+0x1/0x2\n",
    "quotes": b"> " * 2000 + b"BUG: x\n",
    "panics": b"Kernel panic - not syncing: " + b"1.2.3.4" * 500 + b"\n",
    "no line end": b"BUG: WARNING: INFO: ",
}


@pytest.mark.parametrize("name", ADVERSARIES)
def test_time_grows_with_the_size(name: str) -> None:
    """Four times the input must not take sixteen times as long."""

    def seconds(size: int) -> float:
        data = ADVERSARIES[name] * (size // len(ADVERSARIES[name]))
        started = time.process_time()
        parse_log(data)
        return time.process_time() - started

    small = seconds(60_000)
    assert seconds(240_000) < 9 * small + 0.5
