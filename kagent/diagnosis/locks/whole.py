"""The wait graph of a whole log in one go, for callers that need no sub-agents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kagent.diagnosis.locks.fold import fold_tasks, tasks_of
from kagent.diagnosis.locks.graph import GraphResult, build_wait_graph
from kagent.diagnosis.locks.model import TaskLocks
from kagent.diagnosis.locks.task import analyse_task
from kagent.diagnosis.reader import LineSource, TypeSource
from kagent.diagnosis.stack import Symbols, by_frame
from kagent.klog.model import KernelLog, TaskState
from kagent.symbols.model import Symbolized

__all__ = ["analyse_stack", "shows_blocked_tasks", "wait_facts"]


def shows_blocked_tasks(log: KernelLog) -> bool:
    """Whether some task of the log hangs or spins, as the kernel or a dump of tasks says."""
    return any(t.blocked_seconds or t.state == "D" or t.source == "lockup" for t in log.tasks)


def wait_facts(
    log: KernelLog,
    symbolized: Iterable[Symbolized] = (),
    *,
    source: LineSource | None = None,
    types: TypeSource | None = None,
) -> GraphResult:
    """Who waits for whom in `log`: every distinct stack is read once, then judged together."""
    known = list(symbolized)
    symbols = by_frame(known)
    (group,) = fold_tasks(tasks_of(log), 1) or (None,)
    locks = [
        entry
        for stack in (group.stacks if group else ())
        for entry in analyse_stack(stack, symbols, source=source, types=types)
    ]
    return build_wait_graph(locks, log, known, source=source, types=types)


def analyse_stack(
    stack: Sequence[TaskState],
    symbolized: Iterable[Symbolized] | Symbols = (),
    *,
    source: LineSource | None = None,
    types: TypeSource | None = None,
) -> list[TaskLocks]:
    """Tasks that share one stack: the same locks, each under its own name."""
    first = analyse_task(stack[0], symbolized, source=source, types=types)
    return [first, *(_alike(first, task) for task in stack[1:])]


def _alike(first: TaskLocks, task: TaskState) -> TaskLocks:
    return replace(
        first,
        comm=task.comm,
        pid=task.pid,
        state=task.state,
        cpu=task.cpu,
        running=task.running or task.state == "R",
        owner=task.owner,
        last_owner=task.last_owner,
        blocked_seconds=task.blocked_seconds,
    )
