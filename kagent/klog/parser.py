"""Log text in, reports out."""

from __future__ import annotations

import re
from collections.abc import Callable

from kagent.klog.completion import Completion, share_foreign
from kagent.klog.draft import Draft
from kagent.klog.flood import Collected, likeness
from kagent.klog.lines import Line
from kagent.klog.model import KernelLog, Report, TaskState
from kagent.klog.oom import completes_oom
from kagent.klog.reader import freeze, read
from kagent.klog.relations import relate
from kagent.klog.scan import Candidate, Region, scan
from kagent.klog.tasks import freeze_tasks, merge_tasks
from kagent.klog.threads import Threads
from kagent.klog.titles import make_title
from kagent.klog.views import view_of
from kagent.text import encoded

__all__ = ["parse_log"]


def parse_log(data: str | bytes, *, failed: Callable[[Exception], None] | None = None) -> KernelLog:
    """Find every kernel report in `data`: any text, of any origin, hostile or not.

    Spans are byte offsets into `data`, in its UTF-8 form if it is a ``str``. Never raises for
    any content. What a flood repeats is counted (`Report.repeats`), and whatever a limit kept from
    being read is said in `KernelLog.left_out`.

    With `failed`, a bug in reading one report is told there and costs that report alone.
    """
    raw = encoded(data)[0] if isinstance(data, str) else data
    found = scan(raw)
    completion = Completion(raw, found.landmarks)
    collected = Collected()
    for region in found.regions():
        reading = _Reading(region, completion, collected)
        for candidate in region.candidates:
            try:
                reading.take(candidate)
            except Exception as error:
                if failed is None:
                    raise
                failed(error)
    collected.count()
    collected.tally.extend(found.left_out())
    boots = [completion.boot_of(report.span[0]) for report in collected.reports]
    reports = relate(share_foreign(collected.reports, boots), boots)
    return KernelLog(reports, merge_tasks(collected.tasks), len(raw), collected.tally.items())


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


class _Reading:
    """Reads the reports and dumps of a region."""

    def __init__(self, region: Region, completion: Completion, collected: Collected) -> None:
        self.region = region
        self.threads = Threads(region.lines)
        self.starts = _starts(region)
        self.completion = completion
        self.collected = collected

    def take(self, candidate: Candidate) -> None:
        """Read what `candidate` announces, unless it goes on with what was read already."""
        index = candidate.index
        if index not in self.starts:
            return
        if candidate.family.dump:
            self.collected.tasks.extend(self._tasks(index))
            return
        header = self.region.lines[index]
        boot = self.completion.boot_of(header.start)
        alike = boot, likeness(header, self.threads.after(index, self.starts))
        self.collected.take(
            candidate.family, alike, lambda: self._report(candidate), lambda: self._tasks(index)
        )

    def _report(self, candidate: Candidate) -> Report:
        """The report that `candidate` begins; a header it is named by begins none of its own."""
        view = view_of(self.region, candidate)
        title = make_title(view, candidate.family)
        if title.header:
            self.starts.discard(view.at[title.header])
        draft = self._draft(candidate.index)
        draft.own.end = max(draft.own.end, view.ends[title.last])
        report = self.completion.complete(freeze(draft, title))
        self.collected.tally.extend(draft.left_out())
        return report

    def _tasks(self, index: int) -> tuple[TaskState, ...]:
        return freeze_tasks(self._draft(index))

    def _draft(self, index: int) -> Draft:
        own = self.threads.after(index, self.starts)
        return read(self.region.lines[index], own, self.threads.before(index, self.starts))
