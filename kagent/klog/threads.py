"""Whose line is whose: contexts of a log, picked apart in one pass over a region.

Lines of many tasks and CPUs interleave. Each report reads its own context's lines, found by an
index, so that a log of thousands of contexts is not gone through once for each of them.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Container, Iterator, Sequence

from kagent.klog.lines import Line
from kagent.klog.oom import is_oom, is_reaper

__all__ = ["Threads"]

_ASKS = "Sending NMI from CPU"
_ANSWERS = "NMI backtrace for cpu"
_LOOK_BACK = 60


class Threads:
    """The lines of a region by context."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self._own: dict[str, list[int]] = {}
        self._reapers: list[int] = []
        self._answers: dict[int, list[int]] = {}
        """For a line that asks other CPUs for their backtraces: the lines they answer with."""
        asked: list[int] | None = None
        asker, answering = "", set[str]()
        for at, line in enumerate(lines):
            self._own.setdefault(line.context, []).append(at)
            text = line.text
            if asked is not None and line.context[:1] == "C" and line.context != asker:
                if _ANSWERS in text:
                    answering.add(line.context)
                if line.context in answering:
                    asked.append(at)
            if _ASKS in text:
                if line.context != asker:
                    asker, answering = line.context, set()
                asked = self._answers[at] = []
            elif is_reaper(text):
                self._reapers.append(at)

    def after(self, index: int, starts: Container[int]) -> Iterator[Line]:
        """The lines of a report's context up to the next report there.

        When it asks other CPUs for their backtraces, those lines belong to it, too; and what the
        oom_reaper thread says after memory ran out.
        """
        lines = self.lines
        context = lines[index].context
        answers: deque[int] = deque()
        for at in self._from(index):
            while answers and answers[0] < at:
                if (other := answers.popleft()) not in starts:
                    yield lines[other]
            if at in starts and lines[at].context == context:
                return
            yield lines[at]
            answers.extend(self._answers.get(at, ()))
        yield from (lines[at] for at in answers if at not in starts)

    def _from(self, index: int) -> Iterator[int]:
        own = self._own[self.lines[index].context]
        mine = _behind(own, index)
        if not is_oom(self.lines[index].text) or not self._reapers:
            return mine
        others = (
            at
            for at in _behind(self._reapers, index)
            if self.lines[at].context != self.lines[index].context
        )
        return heapq.merge(mine, others)

    def before(self, index: int, starts: Container[int]) -> list[Line]:
        """What the report's context printed before its header; all above one without a stamp."""
        header = self.lines[index]
        found: list[Line] = []
        for at in range(index - 1, max(index - _LOOK_BACK, -1), -1):
            if at in starts:
                break
            if header.time is None or self.lines[at].context == header.context:
                found.append(self.lines[at])
        return found[::-1]


def _behind(ascending: Sequence[int], index: int) -> Iterator[int]:
    return (ascending[at] for at in range(bisect_right(ascending, index), len(ascending)))
