"""What lockdep's reports add: exact lock classes for stuck tasks, and cycles that may happen.

kernel/locking/lockdep.c prints the chain as ``#N .. #0``: link ``#0`` is the new acquisition, and
link ``#k`` was once taken while the lock of link ``#k-1`` was held.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kagent.diagnosis.helpers import base_name, is_helper, is_scaffold
from kagent.diagnosis.locks.model import (
    INVENTED,
    LockUse,
    TaskLocks,
    class_label,
    same_lock,
)
from kagent.diagnosis.locks.primitives import waits_in
from kagent.diagnosis.stack import Symbols, log_origin, own_point, site_of
from kagent.klog.model import ChainLink, Frame, KernelLog, LockdepFacts, LockRef, Report
from kagent.resolution import (
    CycleMember,
    Deadlock,
    Evidence,
    Finding,
    SourcePoint,
    evidence,
)

__all__ = ["enrich", "lock_label", "possible"]

_HARMLESS = {
    "bad-unlock": "it releases a lock that it does not hold",
    "held-freed": "it frees memory in which a lock is still held",
    "held-at-return": "it returns to user space with a lock still held",
    "held-at-exit": "it exits with a lock still held",
    "suspicious-rcu": "it uses RCU-protected data without the protection RCU asks for",
    "wait-context": "it takes a lock that may sleep where sleeping is not allowed",
}
_NESTED = {
    "irq-safe-unsafe": (
        "takes a lock that is elsewhere held with interrupts enabled while it holds one that "
        "interrupts take: the interrupt may wait for a lock that waits for the interrupt"
    ),
    "irq-inversion": (
        "takes a lock in interrupt context that other code holds while it waits, with interrupts "
        "enabled, for a lock the interrupt can delay"
    ),
}
_ONE_LOCK = {
    "recursive": "takes a lock of a class that it already holds",
    "inconsistent-state": (
        "takes a lock in interrupt context that is elsewhere taken with interrupts enabled: an "
        "interrupt on the CPU that holds it would spin for ever"
    ),
}
_LEFT = {
    "held-at-return": "returned to user space without unlocking",
    "held-at-exit": "exited without unlocking",
}
_ATOMIC = ("scheduling while atomic", "sleeping function called from invalid context")


def lock_label(ref: LockRef) -> str:
    """Lockdep's class as people say it: ``&q->lock/1`` → ``q->lock``, with its address."""
    name = class_label(ref.name)
    return f"{name} ({ref.address:#x})" if ref.address else name


# Stuck tasks that an earlier report already described ----------------------------------------


def enrich(tasks: Sequence[TaskLocks], log: KernelLog) -> list[TaskLocks]:
    """Give stuck tasks the lock classes that lockdep printed for the very same call sites."""
    known = list(tasks)
    for report in log.reports:
        facts = report.locks
        if facts is not None and facts.variant in _LEFT:
            _keep_holding(known, facts, report)
        if facts is None or not (facts.chain or facts.acquiring):
            continue
        addresses = _addresses(facts)
        for at, task in enumerate(known):
            if task.waits is None or task.waits.kind != "lock" or task.waits.address is not None:
                continue
            known[at] = _with_classes(_matched(task, facts, report), addresses)
    return known


def _keep_holding(known: list[TaskLocks], facts: LockdepFacts, report: Report) -> None:
    """A task that left the kernel, or died, with locks held: it holds them still."""
    if facts.task is None or facts.pid is None or not facts.holding:
        return
    at = next((n for n, task in enumerate(known) if task.pid == facts.pid), None)
    task = known[at] if at is not None else TaskLocks(facts.task, facts.pid)
    for ref in facts.holding:
        task = _with_hold(task, ref, report)
    if task.waits is None:
        task = replace(task, fate=_LEFT[facts.variant], running=False)
    if at is None:
        known.append(task)
    else:
        known[at] = task


def _matched(task: TaskLocks, facts: LockdepFacts, report: Report) -> TaskLocks:
    acquiring = facts.acquiring
    if acquiring and acquiring.at and facts.pid == task.pid and site_of(acquiring.at) in task.sites:
        task = _with_wait(task, acquiring, report)
        for ref in facts.holding:
            task = _with_hold(task, ref, report)
        return task
    for link, held in itertools.pairwise(facts.chain):
        own = _own_frame(link)
        if own is None or not _is_waitsite_of(task, own) or not _same_way(task, link, own):
            continue
        return _with_hold(_with_wait(task, link.lock, report), held.lock, report, read=True)
    return task


def _same_way(task: TaskLocks, link: ChainLink, own: Frame) -> bool:
    """Whether the task stands where the chain's lock was taken, called from the same places."""
    way = [site_of(frame) for frame in link.frames[link.frames.index(own) :] if frame.reliable]
    if not way or way[0] not in task.sites:
        return False
    mine = task.sites[task.sites.index(way[0]) :]
    return all(one == other for one, other in zip(way, mine, strict=False))


def _is_waitsite_of(task: TaskLocks, own: Frame) -> bool:
    waits = task.waits
    return bool(waits and waits.where and base_name(own.symbol) == base_name(waits.where.function))


def _with_wait(task: TaskLocks, ref: LockRef, report: Report) -> TaskLocks:
    assert task.waits is not None
    fact = evidence("lock-edge", f"{task.comm}/{task.pid} is acquiring {ref.name} there",
                    log_origin(ref.span if ref.span != (0, 0) else report.span))  # fmt: skip
    waits = replace(
        task.waits,
        name=class_label(ref.name),
        address=ref.address,
        lock_class=ref.name,
        evidence=(*task.waits.evidence, fact.id),
    )
    return replace(task, waits=waits, evidence=(*task.evidence, fact))


def _with_hold(task: TaskLocks, ref: LockRef, report: Report, *, read: bool = False) -> TaskLocks:
    """Add a lock lockdep saw held, or lend its class to the one that was read from source."""
    if INVENTED.match(ref.name):
        return task
    use = LockUse(name=class_label(ref.name), type="", address=ref.address,
                  lock_class=ref.name, inferred=read)  # fmt: skip
    for at, held in enumerate(task.holds):
        if same_lock(use, held)[0]:
            named = replace(held, name=use.name, address=ref.address, lock_class=ref.name)
            return replace(task, holds=(*task.holds[:at], named, *task.holds[at + 1 :]))
    fact = evidence("lock-edge", f"{task.comm}/{task.pid} holds {ref.name}, says lockdep",
                    log_origin(ref.span if ref.span != (0, 0) else report.span))  # fmt: skip
    where = SourcePoint(function=base_name(ref.at.symbol), module=ref.at.module) if ref.at else None
    use = replace(use, evidence=(fact.id,), where=where)
    return replace(task, holds=(*task.holds, use), evidence=(*task.evidence, fact))


def _with_classes(task: TaskLocks, addresses: dict[str, set[int]]) -> TaskLocks:
    """Addresses of classes of which the report shows exactly one lock."""

    def filled(use: LockUse) -> LockUse:
        known = addresses.get(use.lock_class or "", set())
        if use.address is None and len(known) == 1:
            return replace(use, address=next(iter(known)))
        return use

    return replace(
        task,
        waits=filled(task.waits) if task.waits else None,
        holds=tuple(filled(use) for use in task.holds),
    )


def _addresses(facts: LockdepFacts) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for ref in (*facts.holding, *((facts.acquiring,) if facts.acquiring else ())):
        if ref.address is not None:
            found.setdefault(ref.name, set()).add(ref.address)
    return found


# Reports without a stuck task -------------------------------------------------------------------


def possible(
    log: KernelLog, symbols: Symbols
) -> tuple[Deadlock, list[Finding], list[Evidence]] | None:
    """The verdict on the log's first report about lock rules, when no task is in a cycle."""
    for report in log.reports:
        if report.locks is not None:
            return _verdict(report, report.locks, symbols)
        if any(word in report.header for word in _ATOMIC):
            return _atomic(report, symbols)
    return None


def _verdict(
    report: Report, facts: LockdepFacts, symbols: Symbols
) -> tuple[Deadlock, list[Finding], list[Evidence]]:
    who = f"{facts.task}/{facts.pid}" if facts.task else "a task"
    stated = [_stated(facts, ref, verb, report) for ref, verb in _refs(facts)]
    if facts.variant in _HARMLESS or facts.variant == "other":
        what = _HARMLESS.get(facts.variant, "breaks a rule of lockdep, without a cycle of locks")
        reason = f"{who}: {what}{_place(report, facts, symbols)}."
        deadlock = Deadlock(verdict="not-a-deadlock", reason=reason)
    else:
        cycle = _cycle(report, facts, symbols)
        reason = _reason(facts, who, cycle)
        deadlock = Deadlock(verdict="possible", reason=reason, cycles=[cycle] if cycle else [])
    claim = Finding(claim=reason, confidence=0.95, evidence=[fact.id for fact in stated],
                    by="rule:lockdep")  # fmt: skip
    return deadlock, [claim], stated


def _refs(facts: LockdepFacts) -> Iterable[tuple[LockRef, str]]:
    if facts.acquiring:
        yield facts.acquiring, "is acquiring"
    for ref in facts.holding:
        yield ref, "holds"
    for link in facts.chain:
        yield link.lock, f"chain #{link.index}:"


def _stated(facts: LockdepFacts, ref: LockRef, verb: str, report: Report) -> Evidence:
    at = f" at {ref.at}" if ref.at else ""
    span = ref.span if ref.span != (0, 0) else report.span
    return evidence(
        "lock-edge", f"{facts.task}/{facts.pid} {verb} {ref.name}{at}", log_origin(span)
    )


def _place(report: Report, facts: LockdepFacts, symbols: Symbols) -> str:
    """Which lock, and where in the code."""
    ref = facts.acquiring or next(iter(facts.holding[-1:]), None)
    name = f", {lock_label(ref)}" if ref else ""
    frames = [ref.at] if ref and ref.at else report.call_frames
    point = _point(frames, symbols)
    if point is None:
        return name
    line = f" at {point.file}:{point.line}" if point.line else ""
    return f"{name} in {point.function}(){line}"


def _cycle(report: Report, facts: LockdepFacts, symbols: Symbols) -> list[CycleMember]:
    acquiring = facts.acquiring
    if acquiring is None:
        return []
    at = [acquiring.at] if acquiring.at else []
    where = _point(at, symbols) or _point(report.call_frames, symbols)
    kind = _type_at(report)
    task = facts.task or "a task"
    if facts.variant in _ONE_LOCK or not facts.chain:
        if facts.variant not in _ONE_LOCK:
            return []
        same = [ref for ref in facts.holding if ref.name == acquiring.name]
        held = [lock_label(ref) for ref in same or [acquiring]]
        return [CycleMember(task=task, pid=facts.pid, holds=held, lock_type=kind, where=where,
                            waits_for=lock_label(acquiring))]  # fmt: skip
    links = sorted(facts.chain, key=lambda link: link.index)
    members = [
        CycleMember(task=task, pid=facts.pid, holds=[lock_label(links[-1].lock)], lock_type=kind,
                    waits_for=lock_label(acquiring), where=where)
    ]  # fmt: skip
    for before, link in itertools.pairwise(links):
        point = _point(link.frames, symbols)
        members.append(
            CycleMember(
                task=_other(link),
                holds=[lock_label(before.lock)],
                waits_for=lock_label(link.lock),
                lock_type=_type_of(link.frames),
                where=point,
                inferred=True,
            )
        )
    return members


def _other(link: ChainLink) -> str:
    """Who took the lock of a chain link: lockdep keeps the stack, not the task."""
    own = [frame for frame in link.frames if not _is_common(frame)]
    path = " ← ".join(base_name(frame.symbol) for frame in own[:2])
    return f"any task in {path}" if path else "any task"


def _is_common(frame: Frame) -> bool:
    return is_helper(frame.symbol) or is_scaffold(frame.symbol)


def _reason(facts: LockdepFacts, who: str, cycle: Sequence[CycleMember]) -> str:
    if facts.variant in _ONE_LOCK:
        lock = lock_label(facts.acquiring) if facts.acquiring else "a lock"
        return f"{who} {_ONE_LOCK[facts.variant]}: {lock}. No task is seen stuck in it."
    if facts.variant in _NESTED or not cycle:
        what = _NESTED.get(facts.variant, "takes locks in an order that can block for ever")
        held = f", holding {lock_label(facts.holding[-1])}" if facts.holding else ""
        wanted = f": {lock_label(facts.acquiring)}" if facts.acquiring else ""
        return f"{who} {what}{wanted}{held}. No task is seen stuck in it."
    steps = "; ".join(
        f"{member.task} holds {', '.join(member.holds)} and takes {member.waits_for}"
        for member in cycle
    )
    return f"Locks are taken in orders that can block each other: {steps}. No task is seen stuck."


def _atomic(report: Report, symbols: Symbols) -> tuple[Deadlock, list[Finding], list[Evidence]]:
    held = [ref for task in report.tasks for ref in task.held]
    own = own_point(report.call_frames, symbols)
    place = f" in {own[1].function}()" if own else ""
    locks = f" while holding {', '.join(lock_label(ref) for ref in held)}" if held else ""
    reason = f"A task sleeps{place} where that is not allowed{locks}: no wait cycle."
    fact = evidence("log", report.header, log_origin(report.span))
    claim = Finding(claim=reason, confidence=0.95, evidence=[fact.id], by="rule:atomic-sleep")
    return Deadlock(verdict="not-a-deadlock", reason=reason), [claim], [fact]


def _point(frames: Sequence[Frame], symbols: Symbols) -> SourcePoint | None:
    found = own_point(frames, symbols) if frames else None
    return found[1] if found else None


def _own_frame(link: ChainLink) -> Frame | None:
    return next((frame for frame in link.frames if not _is_common(frame)), None)


def _type_at(report: Report) -> str | None:
    return _type_of(report.call_frames)


def _type_of(frames: Sequence[Frame]) -> str | None:
    found = None
    for frame in frames:
        primitive = waits_in(frame.symbol)
        if primitive is not None and frame.reliable:
            found = primitive.type
        elif found:
            break
    return found
