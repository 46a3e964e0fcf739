"""Edges of the wait-for graph: who cannot go on before whom, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kagent.diagnosis.locks.model import LockUse, TaskLocks, identities, same_lock

__all__ = ["Edge", "wait_edges"]


@dataclass(frozen=True, slots=True)
class Edge:
    """`waiter` (index) cannot go on before `owner` (index) does."""

    waiter: int
    owner: int
    lock: LockUse
    """As the owner holds it, or will signal it."""
    certain: bool
    """False where the identity of the lock rests on its type alone, or on reading source."""
    why: str
    ambiguous: bool = False
    """True where the owner may just as well be another waiter."""


def wait_edges(tasks: Sequence[TaskLocks]) -> list[Edge]:
    """Every edge the evidence supports; proven ones displace guesses about the same wait."""
    edges: list[Edge] = []
    holding = _index(task.holds for task in tasks)
    signalling = _index(task.signals for task in tasks)
    for at, task in enumerate(tasks):
        waits = task.waits
        if waits is None:
            continue
        keys = identities(waits)
        others = {index for key in keys for index in holding.get(key, ())}
        others |= {index for key in keys for index in signalling.get(key, ())}
        if waits.handlers or task.owner:
            others = set(range(len(tasks)))
        found = list(_edges_of(at, task, waits, tasks, sorted(others)))
        firm = [edge for edge in found if not edge.ambiguous]
        found = firm or (found if len(found) == 1 else [])
        certain = [edge for edge in found if edge.certain]
        elsewhere = [edge for edge in found if edge.owner != at]
        edges += certain or elsewhere or found
    return edges


def _index(uses: Iterable[Iterable[LockUse]]) -> dict[str, set[int]]:
    """Which tasks (by number) may be meant by an identity of a lock."""
    found: dict[str, set[int]] = {}
    for number, mine in enumerate(uses):
        for key in {key for use in mine for key in identities(use)}:
            found.setdefault(key, set()).add(number)
    return found


def _edges_of(
    at: int, task: TaskLocks, waits: LockUse, tasks: Sequence[TaskLocks], others: Iterable[int]
) -> Iterable[Edge]:
    for other in others:
        owner = tasks[other]
        if task.owner and task.owner == (owner.comm, owner.pid):
            yield Edge(at, other, waits, True, "is named by the kernel as its owner")
            continue
        if waits.kind == "handler":
            if other != at and (ran := _running(waits, owner)):
                yield Edge(at, other, waits, True, f"is in {ran}(), which must return first")
            continue
        if edge := _owned(at, other, waits, owner, tasks):
            yield edge


def _owned(
    at: int, other: int, waits: LockUse, owner: TaskLocks, tasks: Sequence[TaskLocks]
) -> Edge | None:
    """An edge because of what `owner` holds or will signal."""
    pool = [(use, "holds") for use in owner.holds if waits.kind == "lock"]
    if at != other and (waits.kind == "event" or waits.type == "semaphore"):
        # What it must wait for itself before, it cannot signal first.
        later = [s for s in owner.signals if not (owner.waits and same_lock(s, owner.waits)[0])]
        pool += [(use, "would signal") for use in later]
    for use, verb in pool:
        if waits.mode == use.mode == "read" and not _writer_between(waits, tasks):
            continue
        same, proven = same_lock(waits, use)
        if not same or (at == other and not (proven or _same_text(waits, use))):
            continue
        if not owner.sites and use == owner.holds[-1]:
            # lockdep lists a lock before it is taken; without a stack one cannot tell.
            why = f"lists {use.name} as held, or is taking it too (its stack is not shown)"
            return Edge(at, other, use, False, why, ambiguous=True)
        return Edge(at, other, use, proven and not use.inferred, f"{verb} {use.name}")
    return None


def _running(waits: LockUse, owner: TaskLocks) -> str | None:
    return next((name for name in waits.handlers if name in owner.runs), None)


def _writer_between(waits: LockUse, tasks: Sequence[TaskLocks]) -> bool:
    """A reader queues behind a waiting writer, even while other readers hold the lock."""
    return any(
        task.waits is not None and task.waits.mode == "write" and same_lock(task.waits, waits)[0]
        for task in tasks
    )


def _same_text(waits: LockUse, holds: LockUse) -> bool:
    """Whether a task waits for what it holds, by source alone.

    The same expression after following parameters says so. So does a spinlock of the same
    member: nobody spins for minutes unless the owner cannot run, and the owner is below it on
    the same stack (typically code that an interrupt handler interrupted).
    """
    if waits.member is None or waits.member != holds.member:
        return False
    return waits.name == holds.name or (waits.type == "spinlock" and holds.inferred)
