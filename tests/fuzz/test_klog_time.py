"""One endless line, or very many bad ones, must not cost more than their length."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import pytest

from kagent.klog import parse_log, reformat

SIZE = 10_000_000
SECONDS = 5.0
"""Processor time for 10 MB; most need 0.1 s on a quiet machine."""

# (what the line begins with, what it goes on with): each tempts another rule to look for its end.
LINES = {
    "nothing": (b"", b"\x00"),
    "blanks": (b"", b" "),
    "quotes": (b"", b"> "),
    "brackets": (b"", b"[ "),
    "stamps": (b"", b"[    1.000000] "),
    "callers": (b"[    1.000000]", b"[    T1]"),
    "escapes": (b"\x1b[", b"0;"),
    "titles": (b"\x1b]", b"\x1b]"),
    "carriage returns": (b"BUG: x", b"\r"),
    "broken UTF-8": (b"BUG: ", b"\xe2\x80"),
    "headers": (b"", b"BUG: KASAN: WARNING: INFO: "),
    "panics": (b"Kernel panic - not syncing: ", b"Fatal exception "),
    "hung": (b"INFO: task ", b"a:1 blocked for more than "),
    "frames": (b"Call Trace:\n ", b"f+0x1/0x2 "),
    "symbol": (b" ", b"f."),
    "symbol's offset": (b" f+0x", b"1"),
    "columns": (b"", b"[<ffffffff81000000>] "),
    "arm frames": (b" (", b"f from g "),
    "mangled": (b" _R", b"NvC1a"),
    "inlines": (b" ", b"a b.c:1 [inline] "),
    "locks": (b" #0: ffffffff81000000 (", b"&a){+.+.}-{3:3}, at: "),
    "registers": (b"RAX: ", b"0000000000000000 RBX: "),
    "modules": (b"Modules linked in: ", b"a(O) "),
    "digits": (b"BUG: ", b"12345678"),
    "syslog": (b"Jan  1 00:00:00 ", b"host kernel: "),
    "login": (b"", b" login: "),
    "oom header": (b"a invoked oom-killer: gfp_mask=0x1(", b"G|, order=0"),
    "oom summary": (b"oom-kill:constraint=A", b",cpuset=,mems_allowed=,oom_memcg=,task_memcg="),
    "oom kill": (b"Out of memory: Killed process 1 (", b") total-vm:1kB"),
    "oom row": (b"[    1]", b" 1"),
    "oom pages": (b"", b"free:1 "),
    "oom free lists": (b"Node 0 DMA: ", b"1*4kB (U) "),
    "oom slab": (b"", b"cache 1KB "),
    "oom stats": (b"Memory cgroup stats for ", b"/a: cache:1KB"),
}

REPORTS = (
    b"BUG: KASAN: slab-out-of-bounds in f+0x1/0x2\nCall Trace:\n",
    b"WARNING: possible circular locking dependency detected\n",
    b"INFO: task a:1 blocked for more than 120 seconds.\n",
    b"a invoked oom-killer: gfp_mask=0x1(G), order=0, oom_score_adj=0\n[ pid ] uid tgid rss name\n",
)
"""Each has section readers of its own."""


def _give_up(signum: int, frame: FrameType | None) -> NoReturn:
    raise TimeoutError("no end in sight")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """A rule that takes for ever fails its test; the regular expression engine heeds signals."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def cost(data: bytes) -> float:
    """Processor seconds for all that a log goes through."""
    text = data.decode("utf-8", "replace")
    started = time.process_time()
    parse_log(data)
    reformat(text)
    return time.process_time() - started


def endless(name: str, size: int) -> bytes:
    start, rest = LINES[name]
    return start + rest * (size // len(rest))


@pytest.mark.parametrize("name", LINES)
def test_one_line_of_ten_megabytes(name: str) -> None:
    assert cost(endless(name, SIZE)) < SECONDS


@pytest.mark.parametrize("name", LINES)
def test_a_report_full_of_long_lines(name: str) -> None:
    """4 KB is the most that is looked at of a line: 60 such lines stand inside each report."""
    long = endless(name, 4000).replace(b"\n", b" ")
    for report in REPORTS:
        assert cost(report + b"\n".join([long] * 60) + b"\n f+0x1/0x2\n") < SECONDS
