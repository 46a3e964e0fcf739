"""How the reports of one log hang together: repetitions and consequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kagent.klog.kinds import LOCKUPS
from kagent.klog.model import Report

__all__ = ["relate"]


def relate(reports: Sequence[Report]) -> tuple[Report, ...]:
    """Fold repetitions into the first of their kind and link consequences to their causes."""
    kept: list[Report] = []
    seen: dict[tuple[object, ...], int] = {}
    for report in reports:
        key = _identity(report)
        if key in seen:
            index = seen[key]
            first = kept[index]
            kept[index] = replace(
                first,
                repeats=first.repeats + 1,
                panicked=first.panicked or report.panicked,
                tasks=first.tasks or report.tasks,
            )
        else:
            seen[key] = len(kept)
            kept.append(report)
    return tuple(
        replace(report, caused_by=_cause(kept, index)) for index, report in enumerate(kept)
    )


def _identity(report: Report) -> tuple[object, ...]:
    context = report.context
    if report.kind in LOCKUPS:  # caught at another place each time
        header = report.header.split("INFO: ")[-1].split("BUG: ")[-1].split(" for ")[0]
        return report.kind, header, context.task, context.pid
    return report.kind, report.title, report.fingerprint, report.corrupted


_DEADLY = frozenset({"LOCKDEP"})


def _cause(reports: Sequence[Report], index: int) -> int | None:
    report = reports[index]
    taint = report.context.taint or ""
    for earlier in range(index):
        cause = reports[earlier]
        if not cause.kernel_bug:
            continue
        if "D" in taint and "D" not in (cause.context.taint or "") and cause.pc is not None:
            return earlier
        if report.kind in LOCKUPS and cause.kind == "LOCKDEP" and _share(cause, report):
            return earlier
        if report.kind in LOCKUPS and cause.kind in LOCKUPS and _same_task(cause, report):
            return earlier
    return None


def _same_task(one: Report, other: Report) -> bool:
    return one.context.pid is not None and one.context.pid == other.context.pid


def _share(lockdep: Report, hang: Report) -> bool:
    """Whether a hang stands where a lockdep report saw its locks taken."""
    if _same_task(lockdep, hang):
        return True
    facts = lockdep.locks
    if facts is None:
        return False
    takers = {lock.at.symbol for lock in facts.holding if lock.at}
    if facts.acquiring and facts.acquiring.at:
        takers.add(facts.acquiring.at.symbol)
    for link in facts.chain:
        takers.update(frame.symbol for frame in link.frames[:6] if frame.module)
    return any(frame.symbol in takers for frame in hang.call_frames)
