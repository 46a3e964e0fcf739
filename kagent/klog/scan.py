"""Finding the few lines of a long log that matter.

An Aho-Corasick automaton over some dozen literals passes over a boot log at several hundred MB/s;
Python code runs only where one of them was found. The literals are the shortest telling parts of
what :mod:`kagent.klog.formats` looks for.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cache

import ahocorasick_rs

from kagent.klog.authorship import kernel_text
from kagent.klog.blanks import plain
from kagent.klog.formats import Family, family_of
from kagent.klog.lines import MAX_LINE, Line, split_lines
from kagent.klog.model import LeftOut
from kagent.klog.unwrap import dedent, unwrap

__all__ = ["Candidate", "Landmarks", "Region", "Scan", "scan"]

_LITERALS = (
    b"BUG",
    b"WARNING:",
    b"INFO:",
    b"nable to handle kernel",
    b"eneral protection fault",
    b"Unhandled fault:",
    b"double fault",
    b"stack segment: ",
    b"Kernel panic",
    b"panicked",
    b"panic:",
    b"trusty: panic",
    b"divide error:",
    b"divide_error:",
    b"Internal error:",
    b"fatal error:",
    b"opcode: ",
    b"int3: ",
    b"Booting the kernel.",
    b"unregister_netdevice: waiting for",
    b"VFS: Close: file count is 0",
    b"VFS: Busy inodes after unmount",
    b"Alignment trap:",
    b"UBSAN:",
    b"SYZFA",
    b"segfault at ",
    b"traps: ",
    b"unreferenced object 0x",
    b"hard LOCKUP",
    b"Kernel bug detected",
    b" [#",
    b"ysrq: Show ",
    b"SysRq : Show ",
    b"Linux version ",
    b"serialport: VM disconnected.",
    b"invoked oom-killer:",
    b"Killed process ",
    b": loading out-of-tree module taints",
)
_BOOT = b"Linux version "
_CUT_OFF = b"serialport: VM disconnected."
_PANIC = b"Kernel panic - not syncing"
_LOADS_FOREIGN = b": loading out-of-tree module taints"
_FOREIGN = re.compile(r"([\w-]{1,64}): loading out-of-tree module taints kernel")
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line that announces a report."""

    index: int
    """Of the line in its region."""
    family: Family


@dataclass(slots=True)
class Region:
    """A stretch of the log around candidates, as lines."""

    lines: list[Line]
    candidates: list[Candidate]
    announced: frozenset[int]
    """Indices of the headers that prove another report has begun."""
    read: int = 0
    """Lines before those that a mail client had folded were joined."""
    cut: int = 0
    """How many of them are longer than what is read of a line."""


MAX_HEADERS = 200_000
"""Header lines that are read from: a log with more is a flood, and only counts them."""
_LEAD_IN = 40
"""Lines before a header that may belong to it (``list_add corruption.``, ``cut here``)."""
_QUIET = 400
"""Lines without anything of a stack after which a region ends."""


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Offsets of boot banners (init/version.c) and panic lines, ascending."""

    boots: list[int] = field(default_factory=list)
    panics: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """Where a cloud's serial console said that it was cut off."""
    foreign: list[tuple[int, str]] = field(default_factory=list)
    """Modules that the kernel names as built outside of its tree (kernel/module/main.c)."""


@dataclass(slots=True)
class Scan:
    """What one pass over a log finds."""

    data: bytes
    headers: dict[int, Family]
    """Families of the lines that announce a report, by the line's first byte."""
    landmarks: Landmarks
    unread: int = 0
    """Header lines beyond `MAX_HEADERS`, and those too deep in a line to be looked at."""
    deep: int = 0
    lines: int = 0
    """Lines of the regions that were read, and how many of them were cut."""
    cut: int = 0

    def left_out(self) -> Iterator[LeftOut]:
        """What limits kept from being read; complete once the regions were."""
        headers = len(self.headers)
        yield LeftOut(
            "header lines", headers, headers + self.unread, f"{MAX_HEADERS} of a log are read from"
        )
        yield LeftOut(
            "lines in full",
            self.lines - self.cut,
            self.lines,
            f"{MAX_LINE} bytes of a line are read: printk() writes no longer ones",
        )
        yield LeftOut(
            "words that may announce a report",
            headers,
            headers + self.deep,
            f"they stand more than {MAX_LINE} bytes behind the beginning of their line",
        )

    def regions(self) -> Iterator[Region]:
        """Yield the parts of the log that hold reports, in order, without overlap."""
        starts = sorted(self.headers)
        floor = position = 0
        while position < len(starts):
            start = _lines_back(self.data, starts[position], floor)
            region, floor = _read(self.data, start, self.headers)
            self.lines += region.read
            self.cut += region.cut
            position = bisect_left(starts, floor, position)
            yield region


def scan(data: bytes) -> Scan:
    """Find the header lines, boots and panics of a log."""
    found = Scan(data, {}, Landmarks())
    line_end = 0
    for at in _hits(data):
        if at < line_end:
            continue  # one look at a line is enough
        newline = data.rfind(b"\n", max(at - MAX_LINE, 0), at)
        line_end = data.find(b"\n", at) + 1 or len(data)
        if newline >= 0 or at < MAX_LINE:  # else too deep in an endless line
            _look(found, newline + 1, line_end)
        else:
            found.deep += 1
    return found


def _look(found: Scan, start: int, end: int) -> None:
    line = next(split_lines(found.data, start, end), None)
    if line is None:
        return
    raw = found.data[line.start : min(line.end, line.start + MAX_LINE)]
    if (smooth := plain(raw)) is not None:
        raw = smooth.data
    if (at := raw.find(_BOOT)) >= 0:
        found.landmarks.boots.append(start + at)
    if (at := raw.find(_PANIC)) >= 0:
        found.landmarks.panics.append(start + at)
    if (at := raw.find(_CUT_OFF)) >= 0:
        found.landmarks.cuts.append(start + at)
    if _LOADS_FOREIGN in raw and (match := _FOREIGN.match(kernel_text(line).lstrip())):
        found.landmarks.foreign.append((start, match[1]))
    if (family := family_of(line.text)) is None:
        return
    if (family := family_of(kernel_text(line))) is None:
        return  # it stands in a name that somebody chose
    if len(found.headers) < MAX_HEADERS:
        found.headers[start] = family
    else:
        found.unread += 1


@cache
def _automaton() -> ahocorasick_rs.BytesAhoCorasick:
    return ahocorasick_rs.BytesAhoCorasick(_LITERALS)


def _hits(data: bytes) -> Iterator[int]:
    """Offsets of the literals, ascending."""
    automaton = _automaton()
    view = memoryview(data)
    start = 0
    while start < len(data):
        end = min(start + _CHUNK, len(data))
        if end < len(data):  # cut at a line's end: no literal goes over it
            end = data.rfind(b"\n", start, end) + 1 or end
        if (smooth := plain(data[start:end])) is not None:
            for _, at, _ in automaton.find_matches_as_indexes(smooth.data):
                yield start + smooth.origin(at)
        else:
            for _, at, _ in automaton.find_matches_as_indexes(view[start:end]):
                yield start + at
        start = end


def _lines_back(data: bytes, start: int, floor: int) -> int:
    limit = max(floor, start - _LEAD_IN * 200)
    for _ in range(_LEAD_IN):
        if start <= limit:
            break
        start = max(data.rfind(b"\n", limit, start - 1) + 1, floor)
    return start


def _read(data: bytes, start: int, headers: dict[int, Family]) -> tuple[Region, int]:
    """The region that begins at `start`, and where it ends."""
    lines: list[Line] = []
    quiet, cut = -_LEAD_IN, 0
    end = start
    for line in split_lines(data, start):
        lines.append(line)
        quiet = 0 if _is_loud(line) or line.start in headers else quiet + 1
        end = line.end + 1
        cut += line.end - line.start > MAX_LINE
        if quiet > _QUIET:
            break
    read = len(lines)
    lines = unwrap(dedent(lines, headers))
    candidates = [
        Candidate(index, headers[line.start])
        for index, line in enumerate(lines)
        if line.start in headers
        and not _is_replayed(lines, index)
        and not _is_inlined(lines, index, headers)
    ]
    sure = (c.index for c in candidates if not (c.family.strict or c.family.dump))
    return Region(lines, candidates, frozenset(sure), read, cut), end


def _is_loud(line: Line) -> bool:
    """Whether a line is a frame, or a row of a table of tasks (``[    123]     0   123 ...``)."""
    return "+0x" in line.text or line.text.startswith("[  ")


_WHERE = re.compile(r".{0,200}?(?:\bK[A-Z]{1,5}: [a-z -]{1,40} in |WARNING: .{0,200}? at )")


def _is_inlined(lines: list[Line], index: int, headers: Container[int]) -> bool:
    """Whether the next line is the same header, with the function that this one was inlined in.

    Symbolizers print a header once for each function at its address, the innermost first.
    """
    line = lines[index]
    if not line.text.endswith("[inline]") or index + 1 >= len(lines):
        return False
    following = lines[index + 1]
    stem = _WHERE.match(line.text)
    return (
        stem is not None
        and following.start in headers
        and following.context == line.context
        and following.text.startswith(stem[0])
    )


def _is_replayed(lines: list[Line], index: int) -> bool:
    """Whether the console lost the rest of this line and prints it again."""
    following = lines[index + 1].text if index + 1 < len(lines) else ""
    return "** replaying previous printk message **" in following
