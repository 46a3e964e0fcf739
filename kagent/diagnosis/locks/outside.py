"""No cycle: what the stuck tasks wait for instead, and whose fault that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kagent.diagnosis.locks.edges import Edge, never_served
from kagent.diagnosis.locks.leaks import leaks
from kagent.diagnosis.locks.model import DIED, LockUse, TaskLocks, likeness, same_lock
from kagent.diagnosis.locks.owners import Owners
from kagent.diagnosis.locks.words import at, edge_fact, label, named, victim, what
from kagent.diagnosis.reader import Reader
from kagent.resolution import Culprit, Deadlock, Evidence, Finding

__all__ = ["Verdict", "behind", "no_deadlock", "undecided"]

_MAX_LEAKS = 4
_BYSTANDERS = ("khungtaskd", "swapper/", "watchdog/")  # they report, or idle
Verdict = tuple[Deadlock, list[Finding], list[Evidence]]


def behind(edges: Sequence[Edge], roots: Iterable[int]) -> list[int]:
    """Tasks that wait, directly or through others, for one of `roots`; in index order."""
    return sorted(_reach(_waiters(edges), roots))


def _waiters(edges: Sequence[Edge]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for edge in edges:
        found.setdefault(edge.owner, []).append(edge.waiter)
    return found


def _reach(waiters: Mapping[int, Sequence[int]], roots: Iterable[int]) -> set[int]:
    reached = set(roots)
    open_ends = list(reached)
    while open_ends:
        for waiter in waiters.get(open_ends.pop(), ()):
            if waiter not in reached:
                reached.add(waiter)
                open_ends.append(waiter)
    return reached


def undecided(tasks: Sequence[TaskLocks], edges: Sequence[Edge], owners: Owners) -> Verdict | None:
    """Stuck on locks that nothing tells from others: a cycle can be neither shown nor ruled out.

    For graphs without a cycle that could be named.
    """
    waiting = {edge.waiter for edge in edges}
    knotted = never_served(tasks, edges)
    stuck = [
        task
        for index, task in enumerate(tasks)
        if task.waits and _matters(task) and not task.waits.timed
        and (index in knotted or (index not in waiting and _unidentified(task, owners)))
    ]  # fmt: skip
    if not stuck:
        return None
    names = _some([f"{named(task)} waits for {_wait(task)}" for task in stuck])
    reason = (
        f"{names}: the log alone does not say which lock that is nor who holds it, so a deadlock "
        "is neither shown nor ruled out; debug info and source of that code would tell."
    )
    # Not for a lock, and so not in a queue that is seen; they hang all the same, and may hold one.
    others = [
        task for task in tasks if task.blocked_seconds and task.waits and task.waits.kind != "lock"
    ]
    if others:
        reason += f" Besides, {_some([_other_wait(task) for task in others])}."
    stuck += others
    deadlock = Deadlock(verdict="possible", reason=reason, victims=[victim(task) for task in stuck])
    cited = [fact for task in stuck for fact in (task.waits.evidence if task.waits else ())]
    claim = Finding(
        claim=reason, confidence=0.5, evidence=list(dict.fromkeys(cited)), by="rule:wait-graph"
    )
    return deadlock, [claim], []


def _unidentified(task: TaskLocks, owners: Owners) -> bool:
    """A lock that nothing tells from others, or only from too many: its type is held by many."""
    waits = task.waits
    if waits is None or waits.kind != "lock":
        return False
    known = (waits.address, waits.lock_class, waits.member, waits.instance, waits.expression)
    typed = waits.address is None and waits.instance is None and waits.path is None
    return all(one is None for one in known) or (typed and owners.is_crowd(task))


def _other_wait(task: TaskLocks) -> str:
    """What a task waits for; not who keeps it waiting, which may be one whose locks are unknown."""
    assert task.waits is not None
    return f"{named(task)} waits for {what(task.waits).partition(', which')[0]}"


def _wait(task: TaskLocks) -> str:
    assert task.waits is not None
    return f"a {task.waits.type or 'lock'}{at(task.waits)}"


def no_deadlock(tasks: Sequence[TaskLocks], edges: Sequence[Edge], reader: Reader) -> Verdict:
    """The task at the end of most waits, and why it does not get on."""
    root = _root(tasks, edges)
    if root is None:
        reason = "the log shows no task that waits for another"
        return Deadlock(verdict="not-a-deadlock", reason=reason), [], []
    task = tasks[root]
    if task.waits is not None and task.waits.kind == "lock" and not task.fate:
        return _unowned(tasks, edges, root, reader)
    kind, why = _why(task)
    queue = [index for index in behind(edges, [root]) if index != root]
    reason = f"No cycle: {named(task)} {why}.{_queue(tasks, edges, root, queue)}"
    facts = [edge_fact(tasks, edge) for edge in edges if edge.owner == root]
    cited = [*(fact.id for fact in facts), *(task.waits.evidence if task.waits else ())]
    cited = cited or [fact.id for fact in task.evidence[:3]]
    deadlock = Deadlock(
        verdict="not-a-deadlock",
        reason=reason,
        victims=[victim(tasks[index]) for index in queue],
        culprit=Culprit(task=task.comm, pid=task.pid, why=why, kind=kind),
    )
    claim = Finding(claim=reason, confidence=0.85 if queue or task.waits else 0.7,
                    evidence=list(dict.fromkeys(cited)), by="rule:wait-graph")  # fmt: skip
    return deadlock, [claim], facts


def _unowned(
    tasks: Sequence[TaskLocks], edges: Sequence[Edge], root: int, reader: Reader
) -> Verdict:
    """A lock whose owner the log does not show: everybody who waits for it is a victim.

    Where source is there, functions are named that return with the lock held on an error path.
    """
    waits = tasks[root].waits
    assert waits is not None
    waiting = {edge.waiter for edge in edges}
    alike: dict[object, bool] = {}
    first = []
    for index, task in enumerate(tasks):
        if index in waiting or task.waits is None:
            continue
        key = task.waits.address, likeness(task.waits)
        if key not in alike:
            alike[key] = same_lock(task.waits, waits)[0]
        if alike[key]:
            first.append(index)
    queue = behind(edges, first)
    names = _some([named(tasks[index]) for index in first])
    verb = "waits" if len(first) == 1 else "wait"
    reason = (
        f"No cycle is seen: {names} {verb} for {what(waits)}."
        f"{_queue(tasks, edges, root, [index for index in queue if index not in first])}"
    )
    left = [] if waits.timed else list(leaks(reader, waits))[:_MAX_LEAKS]
    if left:
        paths = ", ".join(f"{p.function}() at {p.file}:{p.line}" for _, p in left)
        reason += f" Some path returns with it held: {paths}."
    facts = [reader.line_evidence(function, p.line) for function, p in left if p.line]
    cited = list(dict.fromkeys(e for n in first for e in (_uses(tasks[n]).evidence)))
    cited += [fact.id for fact in facts]
    deadlock = Deadlock(
        verdict="not-a-deadlock", reason=reason, victims=[victim(tasks[index]) for index in queue]
    )
    claim = Finding(claim=reason, confidence=0.7, evidence=cited, by="rule:wait-graph")
    return deadlock, [claim], facts


def _uses(task: TaskLocks) -> LockUse:
    assert task.waits is not None
    return task.waits


def _some(names: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


_SHOWN = 8


def _queue(
    tasks: Sequence[TaskLocks], edges: Sequence[Edge], root: int, queue: Sequence[int]
) -> str:
    """Who only queues, and behind which locks of the root."""
    if not queue:
        return ""
    holds = [
        label(use)
        for use in tasks[root].holds
        if any(edge.owner == root and edge.lock == use for edge in edges)
    ]
    names = _some([named(tasks[index]) for index in queue])
    through = f" behind {', '.join(dict.fromkeys(holds))}" if holds else ""
    verb = "queues" if len(queue) == 1 else "queue"
    return f" {names} only {verb}{through}."


def _root(tasks: Sequence[TaskLocks], edges: Sequence[Edge]) -> int | None:
    """The task at the end of most waits: it waits for nobody in the log."""
    waiters = _waiters(edges)
    waiting = {edge.waiter for edge in edges}
    ends = [
        index
        for index, task in enumerate(tasks)
        if index not in waiting and (index in waiters or _matters(task))
    ]
    sizes = _queue_sizes(waiters, ends)
    return max(ends, key=lambda index: (sizes[index], _rank(tasks[index]), -index), default=None)


def _queue_sizes(waiters: Mapping[int, Sequence[int]], ends: Sequence[int]) -> dict[int, int]:
    """How many wait, directly or through others, for each of `ends`.

    Ends with the same direct waiters have the same queue, which is counted once. Beyond
    `_MAX_COUNTED` steps, which only queues woven into each other by the thousand take, the direct
    waiters stand for all: the longest of these queues are counted first.
    """
    known: dict[tuple[int, ...], int] = {}
    sizes: dict[int, int] = {}
    steps = 0
    for end in sorted(ends, key=lambda index: -len(waiters.get(index, ()))):
        first = tuple(waiters.get(end, ()))
        if first not in known:
            reached = len(_reach(waiters, first)) if steps < _MAX_COUNTED else len(first)
            known[first] = reached
            steps += reached
        sizes[end] = known[first] + 1
    return sizes


_MAX_COUNTED = 2_000_000


def _matters(task: TaskLocks) -> bool:
    if task.comm.startswith(_BYSTANDERS):
        return False
    return bool(task.blocked_seconds or task.running or task.fate or task.waits)


def _rank(task: TaskLocks) -> int:
    return 2 * bool(task.blocked_seconds) + bool(task.waits) + bool(task.running)


def _why(task: TaskLocks) -> tuple[str, str]:
    """What keeps the last task of a queue: its kind, and in words."""
    held = ", ".join(dict.fromkeys(use.name for use in task.holds))
    holding = f", while it holds {held}" if held else ""
    waits = task.waits
    place = f" in {task.where.function}()" if task.where else ""
    if task.fate:
        kind = "died" if task.fate == DIED else "left"
        return kind, f"{task.fate}{place}{holding}; nobody will release that"
    if task.unlisted and not task.sites:
        count = f"{task.unlisted} lock" + "s" * (task.unlisted != 1)
        return "runs", (
            f"keeps running while it holds {count} (lockdep does not list the locks of a running "
            "task); it waits for no lock"
        )
    if not task.sites:
        return "unknown", f"holds {held or 'what they want'}, and its stack is not in the log"
    if waits is None:
        cpu = f" on CPU {task.cpu}" if task.cpu is not None else ""
        verb = "keeps running" if task.running else "is stuck"
        return "runs" if task.running else "unknown", (
            f"{verb}{cpu}{place}{holding}; it waits for no lock"
        )
    return waits.kind, f"waits for {what(waits)}{holding}"
