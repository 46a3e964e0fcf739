"""The wait-for graph: task → task, and what it proves.

An edge says that one task cannot go on before another does. A cycle of edges is a deadlock; a
stuck task outside any cycle has a reason that is named instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kagent.diagnosis.locks.edges import Edge, never_served, wait_edges
from kagent.diagnosis.locks.lockdep import enrich, possible
from kagent.diagnosis.locks.model import LockUse, TaskLocks
from kagent.diagnosis.stack import by_frame
from kagent.klog.model import KernelLog
from kagent.resolution import (
    Culprit,
    CycleMember,
    Deadlock,
    Evidence,
    Finding,
    SourcePoint,
    Victim,
    evidence,
    merge_evidence,
)
from kagent.symbols.model import Symbolized

__all__ = ["GraphResult", "build_wait_graph"]

_MAX_CYCLES = 16
_MAX_CYCLE_LENGTH = 12
_BYSTANDERS = ("khungtaskd", "swapper/", "watchdog/")  # they report, or idle
_PROVEN, _LIKELY = 0.95, 0.75


@dataclass(frozen=True, slots=True)
class GraphResult:
    """A verdict with its ledger; `edges` index `tasks`."""

    deadlock: Deadlock
    evidence: tuple[Evidence, ...]
    findings: tuple[Finding, ...]
    edges: tuple[Edge, ...] = ()
    tasks: tuple[TaskLocks, ...] = ()


def build_wait_graph(
    tasks: Sequence[TaskLocks], log: KernelLog, symbolized: Iterable[Symbolized] = ()
) -> GraphResult:
    """Join the tasks' locks to a graph and judge it.

    `symbolized` gives lockdep's own stacks their source lines.
    """
    known = enrich(tasks, log)
    edges = wait_edges(known)
    cycles = _cycles(known, edges)
    ledger = merge_evidence([], [fact for task in known for fact in task.evidence])
    if cycles:
        deadlock, findings, more = _deadlock(known, edges, cycles)
    elif found := possible(log, by_frame(symbolized)):
        deadlock, findings, more = found
    else:
        deadlock, findings, more = _undecided(known, edges) or _no_deadlock(known, edges)
    ledger = merge_evidence(ledger, more)
    return GraphResult(deadlock, tuple(ledger), tuple(findings), tuple(edges), tuple(known))


# Cycles -----------------------------------------------------------------------------------------


def _cycles(tasks: Sequence[TaskLocks], edges: Sequence[Edge]) -> list[list[int]]:
    """Cycles of tasks that can never go on, smallest first, each task in at most one of them."""
    import networkx as nx

    graph = nx.DiGraph()
    stuck = never_served(tasks, edges)
    graph.add_edges_from((e.waiter, e.owner) for e in edges if {e.waiter, e.owner} <= stuck)
    found: list[list[int]] = []
    for cycle in nx.simple_cycles(graph, length_bound=_MAX_CYCLE_LENGTH):
        found.append(cycle)
        if len(found) >= 64 * _MAX_CYCLES:
            break
    if not found:  # only longer ones, if any
        with contextlib.suppress(nx.NetworkXNoCycle):
            found = [[step[0] for step in nx.find_cycle(graph)]]
    sure = {(edge.waiter, edge.owner): edge.certain for edge in edges}
    found.sort(key=lambda c: (_doubts(c, sure), len(c), min(c)))
    chosen: list[list[int]] = []
    taken: set[int] = set()
    for cycle in found:
        if taken.isdisjoint(cycle):
            start = cycle.index(min(cycle))
            chosen.append(cycle[start:] + cycle[:start])
            taken.update(cycle)
    return sorted(chosen[:_MAX_CYCLES])


def _doubts(cycle: Sequence[int], sure: dict[tuple[int, int], bool]) -> int:
    steps = zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    return sum(not sure[step] for step in steps)


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
        members.append([_member(tasks, edge, before) for edge, before in _with_before(used)])
        reasons.append(_tell(tasks, used))
        edge_facts = [_edge_fact(tasks, edge) for edge in used]
        facts += edge_facts
        cited = [fact.id for fact in edge_facts]
        for edge in used:
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
    victims = [_victim(tasks[index]) for index in _behind(edges, inside) if index not in inside]
    reason = " ".join(reasons)
    deadlock = Deadlock(verdict="deadlock", reason=reason, cycles=members, victims=victims)
    return deadlock, findings, facts


def _with_before(used: Sequence[Edge]) -> list[tuple[Edge, Edge]]:
    """Each edge of a cycle with the one that leads to its waiter."""
    return [(edge, used[at - 1]) for at, edge in enumerate(used)]


def _member(tasks: Sequence[TaskLocks], edge: Edge, before: Edge) -> CycleMember:
    task = tasks[edge.waiter]
    waits = task.waits
    wanted = before.lock  # what the task before it waits for, as this task holds it
    held: dict[str, SourcePoint | None] = {}
    for use in (wanted, *(use for use in task.holds if use != wanted)):
        held.setdefault(_label(use), use.where)
    return CycleMember(
        task=task.comm,
        pid=task.pid,
        holds=list(held),
        taken=list(held.values()),
        waits_for=_label(waits) if waits else None,
        lock_type=waits.type or None if waits else None,
        where=waits.where if waits else None,
        inferred=not edge.certain or wanted.inferred,
    )


def _label(use: LockUse) -> str:
    """A lock by name, with the address where lockdep printed one."""
    text = use.name if use.kind != "handler" or not use.handlers else _handler(use)
    return f"{text} ({use.address:#x})" if use.address is not None else text


def _handler(use: LockUse) -> str:
    return f"{use.name} ({', '.join(use.handlers)})"


def _tell(tasks: Sequence[TaskLocks], used: Sequence[Edge]) -> str:
    if len(used) == 1:
        task, waits = tasks[used[0].waiter], tasks[used[0].waiter].waits
        assert waits is not None
        return (
            f"{_name(task)} deadlocks against itself: it already holds {used[0].lock.name}"
            f"{_at(used[0].lock)} and waits for it again{_at(waits)}."
        )
    parts = []
    for edge in used[:_MAX_CYCLE_LENGTH]:
        waits = tasks[edge.waiter].waits
        assert waits is not None
        wanted = f"{waits.type or 'lock'} {waits.name}{_at(waits)}"
        why = edge.why
        parts.append(
            f"{_name(tasks[edge.waiter])} waits for {wanted}, "
            f"{_name(tasks[edge.owner])} {why}{_at(edge.lock)}"
        )
    return f"{len(used)} tasks wait for each other in a circle: " + "; ".join(parts) + "."


def _at(use: LockUse) -> str:
    point = use.where
    if point is None:
        return ""
    return f" in {point.function}()" + (f" at {point.file}:{point.line}" if point.line else "")


def _name(task: TaskLocks) -> str:
    return f"{task.comm}/{task.pid}"


def _edge_fact(tasks: Sequence[TaskLocks], edge: Edge) -> Evidence:
    waiter, owner = tasks[edge.waiter], tasks[edge.owner]
    waits = waiter.waits
    label = _label(waits) if waits else "?"
    content = f"{_name(waiter)} waits for {label}; {_name(owner)} {edge.why}"
    basis = "as the kernel printed it" if edge.certain else "inferred from source and types"
    return evidence("lock-edge", content, f"wait graph, {basis}")


# No cycle ---------------------------------------------------------------------------------------


def _behind(edges: Sequence[Edge], roots: Iterable[int]) -> list[int]:
    """Tasks that wait, directly or through others, for one of `roots`; in index order."""
    reached = set(roots)
    grew = True
    while grew:
        more = {edge.waiter for edge in edges if edge.owner in reached} - reached
        grew = bool(more)
        reached |= more
    return sorted(reached)


def _victim(task: TaskLocks) -> Victim:
    waits = task.waits
    return Victim(
        task=task.comm,
        pid=task.pid,
        waits_for=_label(waits) if waits else None,
        where=(waits.where if waits else None) or task.where,
    )


def _undecided(
    tasks: Sequence[TaskLocks], edges: Sequence[Edge]
) -> tuple[Deadlock, list[Finding], list[Evidence]] | None:
    """Stuck on locks that nothing identifies: a cycle can be neither shown nor ruled out."""
    waiting = {edge.waiter for edge in edges}
    stuck = [
        task
        for index, task in enumerate(tasks)
        if index not in waiting and _matters(task) and task.waits and _unidentified(task.waits)
    ]
    if not stuck:
        return None
    names = ", ".join(f"{_name(task)} waits for {_wait(task)}" for task in stuck[:8])
    reason = (
        f"{names}: the log alone does not say which lock that is nor who holds it, so a deadlock "
        "is neither shown nor ruled out; debug info and source of that code would tell"
    )
    deadlock = Deadlock(
        verdict="possible", reason=reason, victims=[_victim(task) for task in stuck]
    )
    cited = [fact for task in stuck for fact in (task.waits.evidence if task.waits else ())]
    claim = Finding(
        claim=reason, confidence=0.5, evidence=list(dict.fromkeys(cited)), by="rule:wait-graph"
    )
    return deadlock, [claim], []


def _unidentified(waits: LockUse) -> bool:
    """A lock that neither lockdep, nor source, nor a printed owner tells from others."""
    known = (waits.address, waits.lock_class, waits.member, waits.instance, waits.expression)
    return waits.kind == "lock" and all(one is None for one in known)


def _wait(task: TaskLocks) -> str:
    assert task.waits is not None
    return f"a {task.waits.type or 'lock'}{_at(task.waits)}"


def _no_deadlock(
    tasks: Sequence[TaskLocks], edges: Sequence[Edge]
) -> tuple[Deadlock, list[Finding], list[Evidence]]:
    root = _root(tasks, edges)
    if root is None:
        reason = "the log shows no task that waits for another"
        return Deadlock(verdict="not-a-deadlock", reason=reason), [], []
    task = tasks[root]
    why = _why(task)
    behind = [index for index in _behind(edges, [root]) if index != root]
    holds = [
        use.name for use in task.holds if any(e.owner == root and e.lock == use for e in edges)
    ]
    queue = ""
    if behind:
        names = ", ".join(_name(tasks[index]) for index in behind[:8])
        through = f" behind {', '.join(dict.fromkeys(holds))}" if holds else ""
        queue = f" {names} only queue{'s' if len(behind) == 1 else ''}{through}."
    reason = f"No cycle: {_name(task)} {why}.{queue}"
    facts = [_edge_fact(tasks, edge) for edge in edges if edge.owner == root]
    cited = [*(fact.id for fact in facts), *(task.waits.evidence if task.waits else ())]
    cited = cited or [fact.id for fact in task.evidence[:3]]
    deadlock = Deadlock(
        verdict="not-a-deadlock",
        reason=reason,
        victims=[_victim(tasks[index]) for index in behind],
        culprit=Culprit(task=task.comm, pid=task.pid, why=why),
    )
    claim = Finding(claim=reason, confidence=0.85 if behind or task.waits else 0.7,
                    evidence=list(dict.fromkeys(cited)), by="rule:wait-graph")  # fmt: skip
    return deadlock, [claim], facts


def _root(tasks: Sequence[TaskLocks], edges: Sequence[Edge]) -> int | None:
    """The task at the end of most waits: it waits for nobody in the log."""
    waiting = {edge.waiter for edge in edges}
    wanted = {edge.owner for edge in edges}
    ends = [
        index
        for index, task in enumerate(tasks)
        if index not in waiting and (index in wanted or _matters(task))
    ]
    return max(ends, key=lambda index: (len(_behind(edges, [index])), _rank(tasks[index]), -index),
               default=None)  # fmt: skip


def _matters(task: TaskLocks) -> bool:
    if task.comm.startswith(_BYSTANDERS):
        return False
    return bool(task.blocked_seconds or task.running or task.dead or task.waits)


def _rank(task: TaskLocks) -> int:
    return 2 * bool(task.blocked_seconds) + bool(task.waits) + bool(task.running)


def _why(task: TaskLocks) -> str:
    held = ", ".join(dict.fromkeys(use.name for use in task.holds))
    holding = f", while it holds {held}" if held else ""
    waits = task.waits
    if not task.sites:
        return f"holds {held or 'what they want'}, and its stack is not in the log"
    if task.dead:
        place = f" in {task.where.function}()" if task.where else ""
        return f"died in an oops{place}{holding}; nobody will release that"
    if waits is None:
        place = f" in {task.where.function}()" if task.where else ""
        cpu = f" on CPU {task.cpu}" if task.cpu is not None else ""
        verb = "keeps running" if task.running else "is stuck"
        return f"{verb}{cpu}{place}{holding}; it waits for no lock"
    return f"waits for {_what(waits)}{holding}"


def _what(waits: LockUse) -> str:
    """A wait that no task in the log can end, in words."""
    name = f"{waits.type or 'lock'} {waits.name}" if waits.name != waits.type else waits.type
    at = _at(waits)
    if waits.kind == "lock":
        return (
            f"{name}{at}, which no task in the log is seen to hold (its owner is not shown, or "
            "returned without unlocking)"
        )
    if waits.kind == "event":
        return f"{name}{at}, which nobody in the log is about to signal"
    if waits.kind == "handler":
        handler = f" ({', '.join(waits.handlers)})" if waits.handlers else ""
        return f"{name}{handler} to finish{at}, which no task in the log is running"
    if waits.kind == "grace-period":
        return f"an RCU grace period{at}, which some reader holds up"
    if waits.kind == "io":
        return f"{name}{at}: a device or file system must answer"
    return f"a timeout{at}"
