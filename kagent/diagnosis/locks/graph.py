"""The wait-for graph: task → task, and what it proves.

An edge says that one task cannot go on before another does. A cycle of edges is a deadlock; a
stuck task outside any cycle has a reason that is named instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from kagent.diagnosis.locks.cycles import Circles, circles, rings
from kagent.diagnosis.locks.edges import Edge, never_served, wait_edges
from kagent.diagnosis.locks.links import unread_frames
from kagent.diagnosis.locks.lockdep import enrich
from kagent.diagnosis.locks.model import LockUse, TaskLocks
from kagent.diagnosis.locks.outside import Verdict, behind, no_deadlock, undecided
from kagent.diagnosis.locks.owners import Owners
from kagent.diagnosis.locks.possible import Possible
from kagent.diagnosis.locks.words import at, edge_fact, label, named, victim
from kagent.diagnosis.reader import LineSource, Reader, TypeSource
from kagent.diagnosis.stack import by_frame
from kagent.klog.model import KernelLog
from kagent.resolution import (
    CycleMember,
    Deadlock,
    Evidence,
    Finding,
    LeftOut,
    SourcePoint,
    merge_evidence,
)
from kagent.symbols.model import Symbolized

__all__ = ["GraphResult", "build_wait_graph"]

_TOLD = 12
"""Steps of a circle that are told in words."""
_MEMBERS = 64
"""Steps of a circle that are told at all: no view shows more beside each other."""
_PROVEN, _LIKELY = 0.95, 0.75


@dataclass(frozen=True, slots=True)
class GraphResult:
    """A verdict with its ledger; `edges` index `tasks`."""

    deadlock: Deadlock
    evidence: tuple[Evidence, ...]
    findings: tuple[Finding, ...]
    edges: tuple[Edge, ...] = ()
    tasks: tuple[TaskLocks, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    """What limits kept from being looked at; the verdict does not depend on it."""


def build_wait_graph(
    tasks: Sequence[TaskLocks],
    log: KernelLog,
    symbolized: Iterable[Symbolized] = (),
    *,
    source: LineSource | None = None,
    types: TypeSource | None = None,
) -> GraphResult:
    """Join the tasks' locks to a graph and judge it.

    `symbolized` gives lockdep's own stacks their source lines; `source` tells where they took the
    locks that they held.
    """
    known = _told_apart(enrich(tasks, log))
    owners = Owners(known)
    edges = wait_edges(known, owners)
    cycles = _cycles(known, edges)
    left_out = [
        *owners.left_out(), *cycles.left_out(), *_long(cycles.found), *unread_frames(known)
    ]  # fmt: skip
    ledger = merge_evidence([], [fact for task in known for fact in task.evidence])
    if cycles.found:
        deadlock, findings, more = _deadlock(known, edges, cycles.found)
    else:
        possible = Possible(log, by_frame(symbolized), source, types)
        warned = possible.verdict()
        left_out += possible.left_out
        found = undecided(known, edges, owners) or no_deadlock(known, edges, Reader(source, types))
        deadlock, findings, more = _with_warning(warned, found) if warned else found
    ledger = merge_evidence(ledger, more)
    return GraphResult(
        deadlock, tuple(ledger), tuple(findings), tuple(edges), tuple(known), tuple(left_out)
    )


def _told_apart(tasks: Sequence[TaskLocks]) -> list[TaskLocks]:
    """Mark locks that share their name with another lock."""
    uses = [use for task in tasks for use in (*task.holds, task.waits) if use is not None]
    known = {(use.name, use.address) for use in uses if use.address is not None}
    twins = {name for name, count in Counter(name for name, _ in known).items() if count > 1}
    if not twins:
        return list(tasks)

    def marked(use: LockUse) -> LockUse:
        return replace(use, twin=True) if use.name in twins else use

    return [
        replace(
            task,
            holds=tuple(map(marked, task.holds)),
            waits=marked(task.waits) if task.waits else None,
        )
        for task in tasks
    ]


def _with_warning(warned: Verdict, found: Verdict) -> Verdict:
    """A lock rule that the log says is broken, and what hangs besides; cycles are the warning's."""
    rule, deadlock = warned[0], found[0]
    held_up = deadlock.culprit is not None and deadlock.culprit.kind in ("died", "left")
    if not deadlock.victims and not held_up:
        return warned
    if not deadlock.victims:  # the rule's own words tell what is known of the one task
        told = rule.model_copy(update={"culprit": deadlock.culprit})
        return told, warned[1], [*warned[2], *found[2]]
    open_question = "possible" in (rule.verdict, deadlock.verdict)
    joined = rule.model_copy(
        update={
            "verdict": "possible" if open_question else rule.verdict,
            "reason": f"{rule.reason} {deadlock.reason}",
            "victims": deadlock.victims,
            "culprit": deadlock.culprit,
        }
    )
    return joined, [*warned[1], *found[1]], [*warned[2], *found[2]]


# Cycles -----------------------------------------------------------------------------------------


def _cycles(tasks: Sequence[TaskLocks], edges: Sequence[Edge]) -> Circles:
    """Circles of tasks that can never go on, each task in at most one of them.

    Where the owner of a lock is one of several, the circle is not told from others: then it is all
    tasks that may be in it, if these are few.
    """
    stuck = never_served(tasks, edges)
    inside = [edge for edge in edges if edge.waiter in stuck and edge.owner in stuck]
    result = circles(edge for edge in inside if not edge.vague)
    taken = {at for cycle in result.found for at in cycle}
    explained = set(behind(inside, taken))
    result.found = sorted([*result.found, *rings(e for e in inside if e.waiter not in explained)])
    return result


def _deadlock(
    tasks: Sequence[TaskLocks], edges: Sequence[Edge], cycles: Sequence[Sequence[int]]
) -> tuple[Deadlock, list[Finding], list[Evidence]]:
    step = {(edge.waiter, edge.owner): edge for edge in edges}
    findings: list[Finding] = []
    facts: list[Evidence] = []
    members: list[list[CycleMember]] = []
    reasons: list[str] = []
    for cycle in cycles:
        used = [step[pair] for pair in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
        around = _ends(_with_before(used))
        members.append([_member(tasks, edge, before) for edge, before in around])
        reasons.append(_tell(tasks, used))
        told = [edge for edge, _ in around]
        edge_facts = [edge_fact(tasks, edge) for edge in told]
        facts += edge_facts
        cited = [fact.id for fact in edge_facts]
        for edge in told:
            waits = tasks[edge.waiter].waits
            cited += [*(waits.evidence if waits else ()), *edge.lock.evidence]
        sure = all(edge.certain for edge in used)
        findings.append(
            Finding(
                claim=reasons[-1],
                confidence=_PROVEN if sure else _LIKELY,
                evidence=list(dict.fromkeys(cited)),
                by="rule:wait-graph",
            )
        )
    inside = {index for cycle in cycles for index in cycle}
    victims = [victim(tasks[index]) for index in behind(edges, inside) if index not in inside]
    reason = " ".join(reasons)
    deadlock = Deadlock(verdict="deadlock", reason=reason, cycles=members, victims=victims)
    return deadlock, findings, facts


def _ends(steps: list[tuple[Edge, Edge]]) -> list[tuple[Edge, Edge]]:
    half = _MEMBERS // 2
    return steps if len(steps) <= _MEMBERS else [*steps[:half], *steps[-half:]]


def _long(cycles: Sequence[Sequence[int]]) -> Iterator[LeftOut]:
    """The steps of very long circles that are not told."""
    long = [len(cycle) for cycle in cycles if len(cycle) > _MEMBERS]
    if long:
        yield LeftOut(
            what="tasks of a long circle",
            kept=_MEMBERS * len(long),
            total=sum(long),
            why=f"{_MEMBERS} of a circle are told, half at either end; all of them wait",
        )


def _with_before(used: Sequence[Edge]) -> list[tuple[Edge, Edge]]:
    """Each edge of a cycle with the one that leads to its waiter."""
    return [(edge, used[at - 1]) for at, edge in enumerate(used)]


def _member(tasks: Sequence[TaskLocks], edge: Edge, before: Edge) -> CycleMember:
    task = tasks[edge.waiter]
    waits = _alike(task.waits, edge.lock) if task.waits else None
    # What the task before it waits for, as this task holds it
    wanted = _alike(before.lock, tasks[before.waiter].waits)
    held: dict[str, SourcePoint | None] = {}
    owed = before.lock.kind != "lock" or before.why.startswith("would signal")
    first = () if before.queued or owed else (wanted,)
    for use in (*first, *(use for use in task.holds if use != before.lock)):
        held.setdefault(label(use), use.where)
    return CycleMember(
        task=task.comm,
        pid=task.pid,
        holds=list(held),
        taken=list(held.values()),
        owes=label(wanted) if owed else None,
        waits_for=label(waits) if waits else None,
        lock_type=waits.type or None if waits else None,
        where=waits.where if waits else None,
        inferred=not edge.certain or wanted.inferred,
        interrupt=waits is not None and waits.context < wanted.context,
    )


def _alike(use: LockUse, other: LockUse | None) -> LockUse:
    """`use` under the better name of an edge's two ends: lockdep's, or that of the one object."""
    if other is None or use.kind != "lock" or use.address is not None:
        return use
    if other.address is not None:
        return replace(use, name=other.name, address=other.address, twin=other.twin)
    vague = use.instance is None and use.path is None
    return replace(use, name=other.name) if vague and (other.instance or other.path) else use


def _tell(tasks: Sequence[TaskLocks], used: Sequence[Edge]) -> str:
    if len(used) == 1:
        task, waits = tasks[used[0].waiter], tasks[used[0].waiter].waits
        assert waits is not None
        if waits.kind == "handler":
            return (
                f"{named(task)} waits for itself: for {label(waits)}{at(waits)}, and {used[0].why}."
            )
        if waits.context < used[0].lock.context:
            return (
                f"{named(task)} deadlocks against an interrupt on its own CPU: it holds "
                f"{used[0].lock.name}{at(used[0].lock)}, and the interrupt waits for it{at(waits)}."
            )
        return (
            f"{named(task)} deadlocks against itself: it already holds {used[0].lock.name}"
            f"{at(used[0].lock)} and waits for it again{at(waits)}."
        )
    parts = []
    for edge in used[:_TOLD]:
        waits = tasks[edge.waiter].waits
        assert waits is not None
        wanted = f"{waits.type or 'lock'} {waits.name}{at(waits)}"
        why = edge.why
        # A handler's edge carries the wait itself, whose place is told already.
        place = at(edge.lock) if edge.lock.kind != "handler" else ""
        parts.append(
            f"{named(tasks[edge.waiter])} waits for {wanted}, "
            f"{named(tasks[edge.owner])} {why}{place}"
        )
    if len(used) > _TOLD:
        parts.append(f"and so on, {len(used) - _TOLD} more steps back to the first")
    return f"{len(used)} tasks wait for each other in a circle: " + "; ".join(parts) + "."
