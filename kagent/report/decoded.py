"""Part 2 of the summary: the faulting code and the decoded stacks, ready to print."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from kagent.report.prose import one_line
from kagent.resolution import Evidence, Fault, FrameView, Resolution, SourcePoint

__all__ = ["Code", "Stack", "StackLine", "fault_code", "position", "stacks"]

_CONTEXT_LINES = 7
_STACK_LINES = 60
_COMMON_NOTE = 3
_STACK_TITLES = {
    "call": "Call trace",
    "alloc": "Allocated by",
    "free": "Freed by",
    "origin": "Uninitialised memory came from",
    "store": "Stored by",
    "work": "Queued by",
    "lock": "Lock taken at",
    "task": "Other task",
    "cpu": "Other CPU",
}
_ORIGIN = re.compile(r"(?P<path>[^\n]{1,4096}?):(?P<start>\d{1,9})(?:-\d{1,9})?(?:@.*)?")
_NUMBERED = re.compile(r"[> ]\s{0,9}(\d{1,9})(?:  (.*))?")


@dataclass(frozen=True, slots=True)
class StackLine:
    """One function of a stack; an inlined one stands above the frame that contains it."""

    text: str
    where: str = ""
    inlined: bool = False
    mark: Literal["", "fault", "own"] = ""
    """The faulting line, or the line of the caller that owns the bad value."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """A decoded stack, innermost function first."""

    title: str
    lines: tuple[StackLine, ...]
    remarks: tuple[str, ...] = ()
    """What is left out, and notes that hold for several lines."""


@dataclass(frozen=True, slots=True)
class Code:
    """Source lines, the first of which has number `start`; `mark` is the faulting one."""

    origin: str
    lines: tuple[str, ...]
    start: int
    mark: int | None = None

    def between(self, first: int, last: int) -> Code:
        """Only the lines `first` to `last` of it."""
        start = max(first, self.start)
        return replace(
            self, lines=self.lines[start - self.start : last + 1 - self.start], start=start
        )

    def numbered(self) -> list[tuple[int, str, bool]]:
        """(number, text with tabs as blanks, is the marked line) for every line."""
        rows = enumerate(self.lines, self.start)
        return [(number, text.expandtabs(8), number == self.mark) for number, text in rows]


def position(file: str | None, line: int | None) -> str:
    """``file:line`` as far as it is known."""
    if not file:
        return ""
    return one_line(file if line is None else f"{file}:{line}")


def fault_code(res: Resolution) -> Code | None:
    """The lines around the fault, from the source evidence that shows most of them."""
    fault = res.fault
    if fault is None or fault.file is None or fault.line is None:
        return None
    first, last = fault.line - _CONTEXT_LINES, fault.line + _CONTEXT_LINES
    found = [
        code.between(first, last)
        for item in res.evidence
        if item.kind == "source"
        and (code := _read_code(item, fault.file))
        and code.start <= fault.line < code.start + len(code.lines)
    ]
    best = max(found, key=lambda code: len(code.lines), default=None)
    return replace(best, mark=fault.line) if best else None


def _read_code(item: Evidence, file: str) -> Code | None:
    """The excerpt's bare lines: a content may carry `Excerpt.numbered`'s numbers or not."""
    origin = _ORIGIN.fullmatch(item.origin)
    if origin is None or not f"/{file}".endswith(f"/{origin['path']}"):
        return None  # debug info may name a file by where it was built, evidence by its tree
    start = int(origin["start"])
    rows = item.content.splitlines()
    marks = [_NUMBERED.fullmatch(row) for row in rows]
    if rows and all(m and int(m[1]) == n for n, m in enumerate(marks, start)):
        rows = [m[2] or "" for m in marks if m]
    return Code(one_line(item.origin), tuple(rows), start)


def stacks(frames: list[FrameView], fault: Fault | None) -> Iterable[Stack]:
    """One stack for each run of frames of the same trace; `fault` is marked in the first."""
    at = 0
    while at < len(frames):
        end = at
        while end < len(frames) and frames[end].trace == frames[at].trace:
            end += 1
        yield _stack(frames[at:end], fault if at == 0 else None)
        at = end


def _stack(frames: list[FrameView], fault: Fault | None) -> Stack:
    shown = [frame for frame in frames if frame.reliable] or frames
    lines = [line for frame in shown for line in _frame_lines(frame)]
    remarks = []
    if len(lines) > _STACK_LINES:
        remarks.append(f"outer functions left out: {len(lines) - _STACK_LINES}")
        del lines[_STACK_LINES:]
    if len(shown) < len(frames):
        remarks.append(f"unreliable entries left out: {len(frames) - len(shown)}")
    for note, count in Counter(line.note for line in lines if line.note).items():
        if count >= _COMMON_NOTE:
            remarks.append(f"{note}: {count} functions")
            lines = [replace(line, note="") if line.note == note else line for line in lines]
    if fault:
        _mark(lines, "own", fault.own_frame)
        innermost = SourcePoint(function=fault.symbol, file=fault.file, line=fault.line)
        _mark(lines, "fault", innermost)
    title = _STACK_TITLES.get(frames[0].trace, frames[0].trace)
    return Stack(one_line(title), tuple(lines), tuple(remarks))


def _frame_lines(frame: FrameView) -> Iterable[StackLine]:
    for point in frame.inline[:-1]:
        yield StackLine(one_line(point.function), position(point.file, point.line), inlined=True)
    text = frame.symbol
    if frame.offset is not None:
        text += f"+{frame.offset:#x}" + (f"/{frame.size:#x}" if frame.size is not None else "")
    if frame.module:
        text += f" [{frame.module}]"
    own = frame.inline[-1] if frame.inline else None
    where = position(own.file, own.line) if own else position(frame.file, frame.line)
    yield StackLine(one_line(text), where, note=one_line(frame.note or ""))


def _mark(lines: list[StackLine], mark: Literal["fault", "own"], point: SourcePoint | None) -> None:
    """Mark the innermost line at `point`: by its position, without one by its symbol."""
    if point is None:
        return
    where = position(point.file, point.line)
    symbol = point.function.partition("+")[0]
    for i, line in enumerate(lines):
        if line.where == where if where else line.text.partition("+")[0] == symbol:
            lines[i] = replace(line, mark=mark)
            return
