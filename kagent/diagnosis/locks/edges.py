"""Edges of the wait-for graph: who cannot go on before whom, and how sure that is.

What a waiter waits for are all of its edges, or any one of them: a writer waits for every reader,
but for a completion any task that would signal it will do, and of several tasks that may hold a
lock of one type only one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kagent.diagnosis.locks.model import LockUse, TaskLocks, is_one, same_lock
from kagent.diagnosis.locks.owners import MAX_OWNERS, Owners

__all__ = ["Edge", "never_served", "wait_edges"]


_NAMED = "is named by the kernel as its owner"


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
    any_of: bool = False
    """True where one of the waiter's edges is enough to let it go on."""
    queued: bool = False
    """True where the owner does not hold the lock yet, but comes before the waiter."""

    @property
    def vague(self) -> bool:
        """Whether it is one of several guesses about who owns a lock."""
        return self.any_of and self.lock.kind == "lock" and self.lock.type != "semaphore"


def wait_edges(tasks: Sequence[TaskLocks], owners: Owners) -> list[Edge]:
    """Every edge the evidence supports; proven ones displace guesses about the same wait."""
    edges: list[Edge] = []
    for at, task in enumerate(tasks):
        if task.waits is None or task.waits.timed:
            continue  # a timeout ends the wait, whatever the others do
        found = list(_edges_of(at, task, task.waits, tasks, owners))
        firm = [edge for edge in found if not edge.ambiguous]
        found = firm or (found if len(found) == 1 else [])
        certain = [edge for edge in found if edge.certain]
        itself = [edge for edge in found if edge.owner == at and _one_object(edge, task.waits)]
        elsewhere = [edge for edge in found if edge.owner != at]
        chosen = certain or itself or elsewhere or found
        edges += [replace(edge, any_of=_any_will_do(chosen, task.waits)) for edge in chosen]
    return edges


def never_served(tasks: Sequence[TaskLocks], edges: Sequence[Edge]) -> set[int]:
    """Tasks that can never go on because those they wait for cannot either.

    The rest may: some task they may wait for runs, sleeps, or waits for something outside.
    """
    owners: dict[int, set[int]] = {}
    waiters: dict[int, set[int]] = {}
    easy: set[int] = set()
    for edge in edges:
        if not tasks[edge.waiter].fate:
            owners.setdefault(edge.waiter, set()).add(edge.owner)
            waiters.setdefault(edge.owner, set()).add(edge.waiter)
            easy |= {edge.waiter} if edge.any_of else set()
    free = [owner for owner in waiters if owner not in owners]
    while free:
        gone = free.pop()
        for waiter in waiters.get(gone, ()):
            if waiter not in owners:
                continue
            owners[waiter].discard(gone)
            if waiter in easy or not owners[waiter]:
                del owners[waiter]
                free.append(waiter)
    return set(owners)


def _any_will_do(chosen: Sequence[Edge], waits: LockUse) -> bool:
    if len(chosen) < 2 or waits.kind == "handler":
        return False
    if waits.kind == "event" or waits.type == "semaphore":
        return True
    shared = all(edge.lock.mode == "read" and is_one(waits, edge.lock) for edge in chosen)
    return not (shared or all(edge.certain for edge in chosen))


def _one_object(edge: Edge, waits: LockUse) -> bool:
    """Whether a task waits for the very object that it holds, by what its own stack says."""
    return waits.origin is not None and waits.origin == edge.lock.origin


def _edges_of(
    at: int, task: TaskLocks, waits: LockUse, tasks: Sequence[TaskLocks], owners: Owners
) -> Iterator[Edge]:
    shut_out = False
    for other in owners.around(task, waits):
        owner = tasks[other]
        if task.owner and task.owner == (owner.comm, owner.pid):
            said = "held it last, says the kernel" if task.last_owner else _NAMED
            yield Edge(at, other, waits, not task.last_owner, said)
            shut_out = True
        elif waits.kind == "handler":
            if ran := _running(waits, owner):
                what = f"is in {ran}(), which must return first"
                yield Edge(at, other, waits, True, what)
            elif what := _blocked_worker(task, waits, owner):
                yield Edge(at, other, waits, False, what)
        elif waits.kind == "grace-period":
            if other != at and owner.reads_rcu:
                yield Edge(at, other, waits, False, f"holds up {waits.type}: {owner.reads_rcu}")
        elif edge := _owned(at, other, waits, owner):
            shut_out = shut_out or other != at or edge.lock.mode == "write"
            yield edge
    if waits.kind == "lock" and waits.mode == "read" and not shut_out:
        yield from _behind_writers(at, waits, tasks, owners)
    elif waits.kind == "lock" and not shut_out:
        yield from _unlisted(at, waits, tasks, owners)


def _behind_writers(
    at: int, waits: LockUse, tasks: Sequence[TaskLocks], owners: Owners
) -> Iterator[Edge]:
    """Readers that nobody shuts out queue behind a waiting writer (kernel/locking/rwsem.c)."""
    for other in owners.writers(waits):
        queued = tasks[other].waits
        if other == at or queued is None or queued.mode != "write":
            continue
        same, proven = same_lock(waits, queued)
        if same:
            why = f"comes before it, queued as a writer of {queued.name}"
            yield Edge(at, other, queued, proven, why, queued=True)


def _unlisted(
    at: int, waits: LockUse, tasks: Sequence[TaskLocks], owners: Owners
) -> Iterator[Edge]:
    """Running tasks that may hold what nobody else holds (lockdep_print_held_locks())."""
    if waits.address is None:
        return  # no list of held locks would show it
    for other in owners.unlisted[:MAX_OWNERS]:  # all of them run: none can be in a circle
        task = tasks[other]
        if other != at:
            why = (
                f"runs with {task.unlisted} locks that lockdep does not list while it runs, and "
                f"no other task holds {waits.name}"
            )
            yield Edge(at, other, replace(waits, where=None, inferred=True), False, why)


def _owned(at: int, other: int, waits: LockUse, owner: TaskLocks) -> Edge | None:
    """An edge because of what `owner` holds or will signal."""
    pool = [(use, "holds") for use in owner.holds if waits.kind == "lock"]
    if at != other and (waits.kind == "event" or waits.type == "semaphore"):
        # What it must wait for itself before, it cannot signal first.
        later = [s for s in owner.signals if not (owner.waits and same_lock(s, owner.waits)[0])]
        pool += [(use, "would signal") for use in later]
    for use, verb in pool:
        if waits.mode == use.mode == "read":
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


def _blocked_worker(task: TaskLocks, waits: LockUse, owner: TaskLocks) -> str:
    """A worker that waits for what the flushing task holds, where the work's function is unknown.

    A flush returns when its work does: if a worker hangs on a lock of the flusher, it is that one.
    """
    if waits.handlers or waits.type not in ("work", "workqueue") or owner.waits is None:
        return ""
    queue = next((run for run in owner.runs if run.startswith("workqueue:")), None)
    wanted = next((use for use in task.holds if same_lock(use, owner.waits)[0]), None)
    if queue is None or wanted is None:
        return ""
    return f"is a worker of {queue} and waits for {wanted.name}, which the flusher holds"


def _running(waits: LockUse, owner: TaskLocks) -> str | None:
    return next((name for name in waits.handlers if name in owner.runs), None)


def _same_text(waits: LockUse, holds: LockUse) -> bool:
    """Whether a task waits for what it holds, by source alone.

    Both expressions lead to one object; or it is a spinlock of the same member: nobody spins for
    minutes unless the owner cannot run, and the owner is below it on the same stack (typically
    code that an interrupt handler interrupted).
    """
    if waits.origin is not None and waits.origin == holds.origin:
        return True
    if waits.member is None or waits.member != holds.member:
        return False
    return waits.type == "spinlock" and holds.inferred
