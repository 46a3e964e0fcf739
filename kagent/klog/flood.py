"""Floods: what a log repeats is read a few times and counted from then on.

Two reports are alike where their headers differ in numbers only and their innermost frames not at
all. A hung task or a held lock is never only a repetition: tasks of folded reports are kept, each
with its own name, because who waits for whom is told by all of them together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice

from kagent.klog.formats import Family
from kagent.klog.lines import Line
from kagent.klog.model import Report, TaskState
from kagent.klog.tally import Tally

__all__ = ["Collected", "Likeness", "likeness"]

MAX_ALIKE = 200
"""Reports that are read of those that are alike; the others count as their repetitions."""
MAX_REPORTS = 10_000
"""Different reports that are kept of each class: the kernel's, remarks, user space's."""

_NUMBERS = re.compile(r"[0-9a-f]*\d[0-9a-f]*")
_PLACE = re.compile(r"[\w.$]{1,128}\+0x[0-9a-f]{1,8}(?=/0x)")
_TELLS_OF_TASKS = re.compile(
    r"held by |task:\S|blocked (?:in I/O wait )?for more|can't die for|lockup|LOCKUP|stall"
)
_LOOK = 48
"""Lines of a report that are compared: its header, what it says of itself, its innermost frames."""
_HEADER = 300


@dataclass(frozen=True, slots=True)
class Likeness:
    """What reports that are alike have in common."""

    key: tuple[str, ...]
    tasks: bool
    """Whether such a report tells of tasks that the wait graph needs."""


def likeness(header: Line, lines: Iterable[Line]) -> Likeness:
    """Of the report that `header` announces, with the `lines` that follow it."""
    key = [_NUMBERS.sub("0", header.text[:_HEADER])]
    tasks = _TELLS_OF_TASKS.search(header.text) is not None
    for line in islice(lines, _LOOK):
        text = line.text
        if "+0x" in text:
            key += _PLACE.findall(text)
        tasks = tasks or _TELLS_OF_TASKS.search(text) is not None
    return Likeness(tuple(key), tasks)


class Collected:
    """Reports and tasks of a log so far, with a brake for floods."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.tasks: list[TaskState] = []
        self.tally = Tally()
        self._kept: Counter[str] = Counter()
        self._met: Counter[str] = Counter()
        self._alike: Counter[tuple[int, Likeness]] = Counter()
        self._latest: dict[tuple[int, Likeness], int] = {}
        self._folded = 0

    def take(
        self,
        family: Family,
        alike: tuple[int, Likeness],
        read: Callable[[], Report],
        tasks: Callable[[], Iterable[TaskState]],
    ) -> None:
        """Read and keep a report, or count it; `alike` is its boot and what it looks like.

        `tasks` reads no more than the tasks that it shows.
        """
        self._alike[alike] += 1
        if self._alike[alike] > MAX_ALIKE:
            self._repeat(alike)
        elif self._is_full(family):
            self._met["user" if _blames_nobody(family) else "kernel"] += 1
        else:
            self._add(alike, read())
            return
        if alike[1].tasks:
            self.tasks.extend(tasks())

    def _repeat(self, alike: tuple[int, Likeness]) -> None:
        index = self._latest.get(alike)
        self._folded += 1
        if index is not None:
            report = self.reports[index]
            self.reports[index] = replace(report, repeats=report.repeats + 1)

    def _add(self, alike: tuple[int, Likeness], report: Report) -> None:
        self.tasks.extend(report.tasks)
        kind = _class_of(report)
        self._met[kind] += 1
        if self._kept[kind] < MAX_REPORTS:
            self._kept[kind] += 1
            self._latest[alike] = len(self.reports)
            self.reports.append(report)

    def _is_full(self, family: Family) -> bool:
        """Whether no report of that family can be kept any more, whatever it turns out to be."""
        classes = ("user",) if _blames_nobody(family) else ("kernel", "remark", "user")
        return all(self._kept[kind] >= MAX_REPORTS for kind in classes)

    def count(self) -> None:
        """Enter in the tally what was not kept."""
        met, kept = self._met.total(), self._kept.total()
        self.tally.add("different reports", kept, met, f"{MAX_REPORTS} of each class are kept")
        self.tally.add(
            "alike reports",
            kept,
            kept + self._folded,
            f"{MAX_ALIKE} with one header and stack are read; the others count as repetitions, "
            "and the tasks that they show are kept",
        )


def _blames_nobody(family: Family) -> bool:
    """Whether the reports of a family are never the kernel's fault."""
    return bool(family.formats) and not any(one.kernel_bug for one in family.formats)


def _class_of(report: Report) -> str:
    if not report.kernel_bug:
        return "user"
    return "remark" if report.is_bare_remark else "kernel"
