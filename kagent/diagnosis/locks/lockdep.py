"""What lockdep's reports add to stuck tasks: exact lock classes, and locks that were kept.

kernel/locking/lockdep.c prints the chain as ``#N .. #0``: link ``#0`` is the new acquisition, and
link ``#k`` was once taken while the lock of link ``#k-1`` was held.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kagent.diagnosis.helpers import base_name
from kagent.diagnosis.locks.model import (
    INVENTED,
    LockUse,
    TaskLocks,
    class_label,
    same_lock,
)
from kagent.diagnosis.stack import is_common, log_origin, site_of
from kagent.klog.model import ChainLink, Frame, KernelLog, LockdepFacts, LockRef, Report
from kagent.resolution import (
    SourcePoint,
    evidence,
)

__all__ = ["enrich", "own_frame"]

_LEFT = {
    "held-at-return": "returned to user space without unlocking",
    # do_exit() and try_to_freeze() ask for it alike (debug_check_no_locks_held()).
    "held-at-exit": "exited or was frozen without unlocking",
}


def enrich(tasks: Sequence[TaskLocks], log: KernelLog) -> list[TaskLocks]:
    """Give stuck tasks the lock classes that lockdep printed for the very same call sites."""
    known = list(tasks)
    places: dict[int | None, int] = {}
    for at, task in enumerate(known):
        places.setdefault(task.pid, at)
    for report in log.reports:
        if report.locks is not None and report.locks.variant in _LEFT:
            _keep_holding(known, places, report.locks, report)
    open_waits = _OpenWaits(known)
    for report in log.reports:
        facts = report.locks
        if facts is None or not (facts.chain or facts.acquiring):
            continue
        addresses = _addresses(facts)
        links = _by_function(facts)
        for at in open_waits.concerned(facts, links, addresses):
            known[at] = _with_classes(_matched(known[at], facts, report, links), addresses)
            open_waits.settle(at, known[at])
    return [*known, *_named_owners(known)]


class _OpenWaits:
    """Tasks that wait for a lock of unknown address, by what a lockdep report may tell of them."""

    def __init__(self, tasks: Sequence[TaskLocks]) -> None:
        self._by_pid: dict[int, list[int]] = {}
        self._by_function: dict[str, list[int]] = {}
        self._by_class: dict[str, list[int]] = {}
        self._open: set[int] = set()
        for at, task in enumerate(tasks):
            self.settle(at, task)
            if at not in self._open or task.waits is None:
                continue
            self._by_pid.setdefault(task.pid, []).append(at)
            if task.waits.where is not None:
                function = base_name(task.waits.where.function)
                self._by_function.setdefault(function, []).append(at)

    def settle(self, at: int, task: TaskLocks) -> None:
        """Enter what is known of task number `at` now."""
        waits = task.waits
        if waits is None or waits.kind != "lock" or waits.address is not None:
            self._open.discard(at)
            return
        self._open.add(at)
        classes = {use.lock_class for use in (*task.holds, waits) if use.address is None}
        for name in classes - {None}:
            self._by_class.setdefault(str(name), []).append(at)

    def concerned(
        self,
        facts: LockdepFacts,
        links: Mapping[str, list[_Order]],
        addresses: Mapping[str, set[int]],
    ) -> list[int]:
        """Whom a report may tell something of, ascending."""
        found = set(self._by_pid.get(facts.pid, ())) if facts.pid is not None else set()
        found.update(at for name in links for at in self._by_function.get(name, ()))
        found.update(at for name in addresses for at in self._by_class.get(name, ()))
        return sorted(found & self._open)


_Order = tuple[ChainLink, ChainLink, Frame]
"""A link of a chain, the one it was taken under, and the first own frame of its stack."""


def _by_function(facts: LockdepFacts) -> dict[str, list[_Order]]:
    found: dict[str, list[_Order]] = {}
    for link, held in itertools.pairwise(facts.chain):
        own = own_frame(link.frames)
        if own is not None:
            found.setdefault(base_name(own.symbol), []).append((link, held, own))
    return found


def _named_owners(known: Sequence[TaskLocks]) -> list[TaskLocks]:
    """Owners that the kernel names and whose stacks are not in the log."""
    seen = {(task.comm, task.pid) for task in known}
    missing: dict[tuple[str, int], list[LockUse]] = {}
    for task in known:
        if task.owner is not None and task.owner not in seen and task.waits is not None:
            held = replace(task.waits, where=None, inferred=False)
            missing.setdefault(task.owner, []).append(held)
    return [TaskLocks(*owner, holds=tuple(held)) for owner, held in missing.items()]


def _keep_holding(
    known: list[TaskLocks], places: dict[int | None, int], facts: LockdepFacts, report: Report
) -> None:
    """A task that left the kernel, or died, with locks held: it holds them still."""
    if facts.task is None or facts.pid is None or not facts.holding:
        return
    at = places.get(facts.pid)
    task = known[at] if at is not None else TaskLocks(facts.task, facts.pid)
    for ref in facts.holding:
        task = _with_hold(task, ref, report)
    if task.waits is None:
        task = replace(task, fate=_LEFT[facts.variant], running=False)
    if at is None:
        places[facts.pid] = len(known)
        known.append(task)
    else:
        known[at] = task


def _matched(
    task: TaskLocks, facts: LockdepFacts, report: Report, links: Mapping[str, list[_Order]]
) -> TaskLocks:
    acquiring = facts.acquiring
    if acquiring and acquiring.at and facts.pid == task.pid and site_of(acquiring.at) in task.sites:
        task = _with_wait(task, acquiring, report)
        for ref in facts.holding:
            task = _with_hold(task, ref, report)
        return task
    place = task.waits.where if task.waits else None
    for link, held, own in links.get(base_name(place.function), ()) if place else ():
        if _same_way(task, link, own):
            return _with_hold(_with_wait(task, link.lock, report), held.lock, report, read=True)
    return task


def _same_way(task: TaskLocks, link: ChainLink, own: Frame) -> bool:
    """Whether the task stands where the chain's lock was taken, called from the same places."""
    way = [site_of(frame) for frame in link.frames[link.frames.index(own) :] if frame.reliable]
    if not way or way[0] not in task.sites:
        return False
    mine = task.sites[task.sites.index(way[0]) :]
    return all(one == other for one, other in zip(way, mine, strict=False))


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


def own_frame(frames: Iterable[Frame]) -> Frame | None:
    """The first frame that is no lock primitive and no scaffold."""
    return next((f for f in frames if not is_common(f)), None)
