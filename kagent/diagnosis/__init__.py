"""The experts that need no model: they turn facts into evidence and findings."""

from __future__ import annotations

from kagent.diagnosis.advice import advise, missing_data
from kagent.diagnosis.classify import Classification, classify, subsystem
from kagent.diagnosis.explain import Explanation, explain
from kagent.diagnosis.fault import FaultResult, decode_fault
from kagent.diagnosis.guilty import crash_query, functions_to_read, in_tree, significant
from kagent.diagnosis.locks import (
    Edge,
    GraphResult,
    LockUse,
    TaskGroup,
    TaskLocks,
    analyse_stack,
    analyse_task,
    build_wait_graph,
    fold_tasks,
    shows_blocked_tasks,
    tasks_of,
    wait_facts,
)
from kagent.diagnosis.memory import MemoryResult, memory_facts
from kagent.diagnosis.stack import frames_of

__all__ = [
    "Classification",
    "Edge",
    "Explanation",
    "FaultResult",
    "GraphResult",
    "LockUse",
    "MemoryResult",
    "TaskGroup",
    "TaskLocks",
    "advise",
    "analyse_stack",
    "analyse_task",
    "build_wait_graph",
    "classify",
    "crash_query",
    "decode_fault",
    "explain",
    "fold_tasks",
    "frames_of",
    "functions_to_read",
    "in_tree",
    "memory_facts",
    "missing_data",
    "shows_blocked_tasks",
    "significant",
    "subsystem",
    "tasks_of",
    "wait_facts",
]
