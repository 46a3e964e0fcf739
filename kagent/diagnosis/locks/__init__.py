"""Who holds what, who waits for what, and whether that is a deadlock."""

from __future__ import annotations

from kagent.diagnosis.locks.edges import Edge
from kagent.diagnosis.locks.fold import fold_tasks, tasks_of
from kagent.diagnosis.locks.graph import GraphResult, build_wait_graph
from kagent.diagnosis.locks.model import LockUse, TaskGroup, TaskLocks
from kagent.diagnosis.locks.task import analyse_task
from kagent.diagnosis.locks.whole import analyse_stack, shows_blocked_tasks, wait_facts

__all__ = [
    "Edge",
    "GraphResult",
    "LockUse",
    "TaskGroup",
    "TaskLocks",
    "analyse_stack",
    "analyse_task",
    "build_wait_graph",
    "fold_tasks",
    "shows_blocked_tasks",
    "tasks_of",
    "wait_facts",
]
