"""How the reports of one log hang together: repetitions and consequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
    return tuple(
        replace(entry.report, caused_by=_cause(kept, index)) for index, entry in enumerate(kept)
    )


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


def _same_task(cause: _Kept, effect: _Kept) -> bool:
    one, other = cause.report.context, effect.report.context
    return one.pid is not None and one.pid == other.pid and one.task == other.task


def _after_death(cause: _Kept, effect: _Kept) -> bool:
    """TAINT_DIE: the kernel had oopsed, and whatever that task held stays held."""
    return "D" in effect.taint and "D" not in cause.taint and cause.report.pc is not None


def _after_corruption(cause: _Kept, effect: _Kept) -> bool:
    """TAINT_BAD_PAGE: memory was known to be bad, and the same code or task meets it again."""
    if not cause.report.kind.startswith(("KASAN", "KFENCE", "MEMORY")) or "B" in cause.taint:
        return False
    return "B" in effect.taint and _related(cause, effect)


def _after_warning(cause: _Kept, effect: _Kept) -> bool:
    """A WARN() about the very object that is then used."""
    if not cause.report.kind.endswith("WARNING") or effect.report.kind.endswith("WARNING"):
        return False
    return "W" not in cause.taint and "W" in effect.taint and _related(cause, effect)


def _related(cause: _Kept, effect: _Kept) -> bool:
    return _same_task(cause, effect) or bool(cause.functions & effect.functions)


def _after_lock_warning(cause: _Kept, effect: _Kept) -> bool:
    """lockdep warns of a deadlock, then it happens."""
    if cause.report.kind != "LOCKDEP" or effect.report.kind not in LOCKUPS:
        return False
    return _same_task(cause, effect) or _share_lock(cause.report, effect.report)


def _share_lock(lockdep: Report, hang: Report) -> bool:
    """Whether a task hangs where lockdep saw the report's locks taken."""
    facts = lockdep.locks
    if facts is None:
        return False
    locks = (*facts.holding, *((facts.acquiring,) if facts.acquiring else ()))
    takers = {lock.at.symbol for lock in locks if lock.at}
    names = {lock.name for lock in locks}
    skip = blameless()
    for link in facts.chain:
        takers.update(f.symbol for f in link.frames[:6] if not skip.search(f.symbol))
    if any(frame.symbol in takers for frame in hang.call_frames if frame.reliable):
        return True
    return any(lock.name in names for task in hang.tasks[:1] for lock in task.held)


def _same_stall(cause: _Kept, effect: _Kept) -> bool:
    """One busy or blocked task makes several watchdogs bark."""
    both = cause.report.kind in LOCKUPS and effect.report.kind in LOCKUPS
    return both and _same_task(cause, effect)


def _same_atomic_section(cause: _Kept, effect: _Kept) -> bool:
    """A leaked preempt_count is complained about at every later schedule()."""
    return cause.report.kind == effect.report.kind == "ATOMIC_SLEEP" and _same_task(cause, effect)


_RULES: tuple[Callable[[_Kept, _Kept], bool], ...] = (
    _after_lock_warning,
    _after_death,
    _after_corruption,
    _after_warning,
    _same_stall,
    _same_atomic_section,
)
_LOOK_BACK = 50


def _cause(kept: Sequence[_Kept], index: int) -> int | None:
    effect = kept[index]
    if not effect.report.kernel_bug:
        return None
    for earlier in range(max(index - _LOOK_BACK, 0), index):
        cause = kept[earlier]
        candidate = cause.boot == effect.boot and cause.report.kernel_bug
        if candidate and any(rule(cause, effect) for rule in _RULES):
            return earlier
    return None
