"""How the reports of one log hang together: repetitions and consequences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kagent.klog.blameless import blameless
from kagent.klog.kinds import LOCKUPS
from kagent.klog.model import Report

__all__ = ["relate"]


def relate(reports: Sequence[Report], boots: Sequence[int]) -> tuple[Report, ...]:
    """Fold repetitions into the first of their kind and link consequences to their causes.

    `boots` numbers the boot of each report: nothing crosses a reboot.
    """
    kept: list[_Kept] = []
    seen: dict[tuple[object, ...], int] = {}
    for report, boot in zip(reports, boots, strict=True):
        key = (boot, *_identity(report))
        if key in seen:
            first = kept[seen[key]]
            first.report = _fold(first.report, report)
        else:
            seen[key] = len(kept)
            kept.append(_Kept(report, boot, _functions(report)))
    causes: dict[int, _Causes] = {}
    related = []
    for index, entry in enumerate(kept):
        earlier = causes.setdefault(entry.boot, _Causes())
        cause = earlier.of(entry) if entry.report.kernel_bug else None
        related.append(replace(entry.report, caused_by=cause))
        if entry.report.kernel_bug:
            earlier.add(index, entry)
    return tuple(related)


@dataclass(slots=True)
class _Kept:
    report: Report
    boot: int
    functions: frozenset[str]

    @property
    def taint(self) -> str:
        return self.report.context.taint or ""


def _fold(first: Report, again: Report) -> Report:
    return replace(
        first,
        repeats=first.repeats + again.repeats + 1,
        panicked=first.panicked or again.panicked,
    )


_NUMBER = re.compile(r"[0-9a-f]*\d[0-9a-f]*")


def _identity(report: Report) -> tuple[object, ...]:
    context = report.context
    if report.kind in LOCKUPS:  # caught at another place each time
        what = report.title.partition(" in ")[0]
        cpu = context.cpu if context.pid is None else None
        return report.kind, what, context.task, context.pid, cpu
    if report.oom is not None:  # one cgroup that runs out again and again
        killed = frozenset(victim.comm for victim in report.oom.victims)
        return report.kind, report.title, report.oom.memcg, killed
    if not report.kernel_bug:
        return report.kind, report.title
    header = "" if report.frame else _NUMBER.sub("", report.header)
    return report.kind, report.title, report.fingerprint, report.corrupted, header


def _functions(report: Report) -> frozenset[str]:
    """The significant functions near the top of the stack."""
    skip = blameless()
    names = [f.symbol for f in report.call_frames if f.reliable and f.offset is not None]
    return frozenset([name for name in names if not skip.search(name)][:5])


# ── consequences ─────────────────────────────────────────────────────────────────────────────


class _First:
    """For what two reports may have in common, the first report that has it."""

    def __init__(self) -> None:
        self._by_task: dict[tuple[int | None, str | None], int] = {}
        self._by_function: dict[str, int] = {}

    def add(self, index: int, entry: _Kept) -> None:
        self._by_task.setdefault(_task(entry), index)
        for name in entry.functions:
            self._by_function.setdefault(name, index)

    def of_task(self, entry: _Kept) -> Iterator[int]:
        if entry.report.context.pid is not None and _task(entry) in self._by_task:
            yield self._by_task[_task(entry)]

    def related(self, entry: _Kept) -> Iterator[int]:
        yield from self.of_task(entry)
        yield from (self._by_function[n] for n in entry.functions if n in self._by_function)


class _Causes:
    """The reports of one boot so far, by what later ones may be a consequence of."""

    def __init__(self) -> None:
        self.died: int | None = None
        """The first oops."""
        self.corrupted, self.warned = _First(), _First()
        self.lock_warned, self.stalled, self.atomic = _First(), _First(), _First()
        self.lock_reports: list[tuple[int, _LockSites]] = []

    def add(self, index: int, entry: _Kept) -> None:
        kind, taint = entry.report.kind, entry.taint
        if self.died is None and "D" not in taint and entry.report.pc is not None:
            self.died = index
        if kind.startswith(("KASAN", "KFENCE", "MEMORY")) and "B" not in taint:
            self.corrupted.add(index, entry)
        if kind.endswith("WARNING") and "W" not in taint:
            self.warned.add(index, entry)
        if kind == "LOCKDEP":
            self.lock_warned.add(index, entry)
            sites = _LockSites.of(entry.report)
            if sites is not None and len(self.lock_reports) < _LOCK_REPORTS:
                self.lock_reports.append((index, sites))
        if kind in LOCKUPS:
            self.stalled.add(index, entry)
        if kind == "ATOMIC_SLEEP":
            self.atomic.add(index, entry)

    def of(self, effect: _Kept) -> int | None:
        """The earliest of them that `effect` is a consequence of."""
        return min(self._of(effect), default=None)

    def _of(self, effect: _Kept) -> Iterator[int]:
        kind, taint = effect.report.kind, effect.taint
        if "D" in taint and self.died is not None:
            yield self.died  # TAINT_DIE: and whatever the dead task held stays held
        if "B" in taint:  # TAINT_BAD_PAGE: memory was known to be bad, and is met again
            yield from self.corrupted.related(effect)
        if "W" in taint and not kind.endswith("WARNING"):
            yield from self.warned.related(effect)  # a WARN() about the very object then used
        if kind in LOCKUPS:
            yield from self.lock_warned.of_task(effect)  # lockdep warns, then it happens
            yield from (i for i, sites in self.lock_reports if sites.met_by(effect.report))
            yield from self.stalled.of_task(effect)  # one stall makes several watchdogs bark
        if kind == "ATOMIC_SLEEP":
            yield from self.atomic.of_task(effect)  # a leaked preempt_count, at every schedule()


_LOCK_REPORTS = 64
"""More than a boot can have: lockdep turns itself off at its first report (debug_locks_off())."""


def _task(entry: _Kept) -> tuple[int | None, str | None]:
    return entry.report.context.pid, entry.report.context.task


@dataclass(frozen=True, slots=True)
class _LockSites:
    """Where lockdep saw a report's locks taken, and what they are called."""

    takers: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, lockdep: Report) -> _LockSites | None:
        facts = lockdep.locks
        if facts is None:
            return None
        locks = (*facts.holding, *((facts.acquiring,) if facts.acquiring else ()))
        takers = {lock.at.symbol for lock in locks if lock.at}
        skip = blameless()
        for link in facts.chain:
            takers.update(f.symbol for f in link.frames[:6] if not skip.search(f.symbol))
        return cls(frozenset(takers), frozenset(lock.name for lock in locks))

    def met_by(self, hang: Report) -> bool:
        """Whether a task hangs there."""
        if any(frame.symbol in self.takers for frame in hang.call_frames if frame.reliable):
            return True
        return any(lock.name in self.names for task in hang.tasks[:1] for lock in task.held)
