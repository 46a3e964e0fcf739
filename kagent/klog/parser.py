"""Log text in, reports out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from kagent.klog.completion import Completion
from kagent.klog.draft import Draft
from kagent.klog.lines import Line
from kagent.klog.model import KernelLog, Report, TaskState
from kagent.klog.oom import completes_oom, is_oom, is_reaper
from kagent.klog.reader import freeze, read
from kagent.klog.relations import relate
from kagent.klog.scan import Candidate, Region, scan
from kagent.klog.tasks import freeze_tasks, merge_tasks
from kagent.klog.titles import make_title
from kagent.klog.views import view_of

__all__ = ["parse_log"]


def parse_log(data: str | bytes, *, failed: Callable[[Exception], None] | None = None) -> KernelLog:
    """Find every kernel report in `data`: any text, of any origin, hostile or not.

    Spans are byte offsets into `data`, in its UTF-8 form if it is a ``str``. Never raises for
    any content. Of a flood, the first :data:`MAX_REPORTS` reports are read, and of those with
    equal headers the first :data:`MAX_ALIKE`; the others only count as repetitions.

    With `failed`, a bug in reading one report is told there and costs that report alone.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    found = scan(raw)
    completion = Completion(raw, found.landmarks)
    collected = _Collected()
    for region in found.regions():
        starts = _starts(region)
        for candidate in region.candidates:
            if candidate.index not in starts:
                continue
            if collected.is_flood(region.lines[candidate.index].text):
                continue
            try:
                if candidate.family.dump:
                    collected.tasks.extend(freeze_tasks(_draft(region, candidate.index, starts)))
                else:
                    collected.add(completion.complete(_report(region, candidate, starts)))
            except Exception as error:
                if failed is None:
                    raise
                failed(error)
    boots = [completion.boot_of(report) for report in collected.reports]
    reports = relate(collected.reports, boots)
    return KernelLog(reports, merge_tasks(collected.tasks), len(raw))


MAX_REPORTS = 2000
MAX_ALIKE = 200
_NUMBERS = re.compile(r"[0-9a-f]*\d[0-9a-f]*")


class _Collected:
    """Reports and tasks so far, with a brake for floods."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.tasks: list[TaskState] = []
        self._alike: Counter[str] = Counter()
        self._key = ""
        self._read = 0
        self._latest: dict[str, int] = {}

    def is_flood(self, header: str) -> bool:
        """Whether enough of such reports were read; counts this one as repetition then."""
        self._key = _NUMBERS.sub("0", header[:300])
        self._alike[self._key] += 1
        if self._alike[self._key] <= MAX_ALIKE and self._read < MAX_REPORTS:
            self._read += 1
            return False
        index = self._latest.get(self._key)
        if index is not None:
            report = self.reports[index]
            self.reports[index] = replace(report, repeats=report.repeats + 1)
        return True

    def add(self, report: Report) -> None:
        self._latest[self._key] = len(self.reports)
        self.reports.append(report)
        self.tasks.extend(report.tasks)


# Second lines of reports that have begun already, with what they go on with.
_CONTINUES: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = (
    (
        re.compile(r"invalid opcode:|Internal error: "),
        re.compile(r"kernel BUG at|rust_kernel: panicked"),
    ),
    (re.compile(r"Internal error: "), re.compile(r"Unable to handle kernel|Unhandled fault")),
    (re.compile(r"unreferenced object 0x"), re.compile(r"BUG: memory leak")),
    (re.compile(r"Kernel BUG \[#"), re.compile(r"kernel BUG at")),
    (re.compile(r"INFO: (?:Allocated in |Freed in |Slab |Object |0x)"), re.compile(r"BUG")),
    (re.compile(r"kernel BUG at "), re.compile(r"rust_kernel: panicked")),
    (re.compile(r"WARNING: .*umount_check"), re.compile(r"BUG: Dentry ")),
    (re.compile(r"Unhandled fault: alignment"), re.compile(r"Alignment trap:")),
)
_ECHO = re.compile(
    r"Kernel panic - not syncing: (?:.{0,80}?Fatal exception|(?:kernel: )?panic_on_|hung_task:"
    r"|softlockup"
    r"|RCU Stall|Attempted to kill|Aiee|Oops|[Hh]ard ?(?:LOCKUP|lockup)|[A-Z]{4,6}: panic_on_|kasan"
    r"|BUG!|Machine halted|Unrecoverable|scheduling while|workqueue lockup|UBSAN|KASAN|KFENCE"
    r"|kmsan|KCSAN)"
)
_NEAR = 120
_LOOK_BACK = 60


def _continues(lines: list[Line], candidate: Candidate, previous: Candidate | None) -> bool:
    """Whether a header line goes on with the report before it."""
    if previous is None:
        return False
    text, before = lines[candidate.index].text, lines[previous.index].text
    if _ECHO.search(text) or "---[ end Kernel panic" in text:
        return True
    if candidate.index - previous.index > _NEAR:
        return False
    if candidate.family.weak:
        return True
    return any(later.search(text) and first.search(before) for later, first in _CONTINUES)


def _starts(region: Region) -> set[int]:
    """Indices of the lines that begin a report or a dump."""
    lines = region.lines
    starts: list[Candidate] = []
    killed: set[int] = set()
    """Out-of-memory reports that have named their victim."""
    for candidate in region.candidates:
        context = lines[candidate.index].context
        recent = reversed(starts[-8:])
        same = (c for c in recent if lines[c.index].context == context)
        previous = next(same, starts[-1] if starts else None)
        if previous is not None and completes_oom(
            lines, candidate.index, previous.index, killed=previous.index in killed
        ):
            killed.add(previous.index)
        elif not _continues(lines, candidate, previous):
            starts.append(candidate)
    return {c.index for c in starts}


def _report(region: Region, candidate: Candidate, starts: set[int]) -> Report:
    """The report that `candidate` begins; a header it is named by is taken out of `starts`."""
    view = view_of(region, candidate)
    title = make_title(view, candidate.family)
    if title.header:
        starts.discard(view.at[title.header])
    draft = _draft(region, candidate.index, starts)
    draft.own.end = max(draft.own.end, view.ends[title.last])
    return freeze(draft, title)


def _draft(region: Region, index: int, starts: set[int]) -> Draft:
    lines = region.lines
    return read(lines[index], _own_lines(lines, index, starts), _lines_before(lines, index, starts))


def _lines_before(lines: list[Line], index: int, starts: set[int]) -> list[Line]:
    """What the report's context printed before its header; everything above one without a stamp."""
    header = lines[index]
    before: list[Line] = []
    for at in range(index - 1, max(index - _LOOK_BACK, -1), -1):
        if at in starts:
            break
        if header.time is None or lines[at].context == header.context:
            before.append(lines[at])
    return before[::-1]


def _own_lines(lines: list[Line], index: int, starts: set[int]) -> Iterator[Line]:
    """The lines of a report's context up to the next report there.

    When it asks other CPUs for their backtraces, those lines belong to it, too; and what the
    oom_reaper thread says after memory ran out.
    """
    context = lines[index].context
    asked, out_of_memory = False, is_oom(lines[index].text)
    answering: set[str] = set()
    for at in range(index + 1, len(lines)):
        line = lines[at]
        if line.context == context:
            if at in starts:
                return
            asked = asked or "Sending NMI from CPU" in line.text
            yield line
        elif asked and line.context[:1] == "C" and at not in starts:
            if "NMI backtrace for cpu" in line.text:
                answering.add(line.context)
            if line.context in answering:
                yield line
        elif out_of_memory and is_reaper(line.text):
            yield line
