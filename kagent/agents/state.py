"""The graph's state: what flows from node to node."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from langchain_core.messages import AnyMessage
from langgraph.graph import MessagesState
from langgraph.graph.message import add_messages
from pydantic import BaseModel

from kagent.agents.answers import Draft
from kagent.commits.model import Hit
from kagent.diagnosis import TaskGroup, TaskLocks
from kagent.klog.model import KernelLog
from kagent.resolution import (
    Deadlock,
    Evidence,
    Failure,
    Fault,
    Finding,
    LeftOut,
    MemoryFacts,
    Resolution,
    Subsystem,
    Usage,
    merge_evidence,
)
from kagent.source.model import FunctionSource
from kagent.symbols.model import Symbolized

__all__ = [
    "InputState",
    "OutputState",
    "Route",
    "Stage",
    "State",
    "TaskInput",
    "add_usage",
]

_T = TypeVar("_T")
Route = Literal["general", "deadlock"]
Stage = Literal["source", "commits", "model"]
"""What an analyser does at its next visit."""


def add_usage(left: Usage | None, right: Usage | None) -> Usage:
    """Reducer: sum calls, tokens and seconds per node."""
    left, right = left or Usage(), right or Usage()
    seconds = dict(left.seconds)
    for node, value in right.seconds.items():
        seconds[node] = round(seconds.get(node, 0.0) + value, 4)
    return Usage(
        calls=left.calls + right.calls,
        tokens_in=left.tokens_in + right.tokens_in,
        tokens_out=left.tokens_out + right.tokens_out,
        seconds=seconds,
    )


def _union(left: list[_T] | None, right: list[_T] | None) -> list[_T]:
    """Reducer: append what is not there yet, in time that grows with their sizes."""
    merged: dict[object, _T] = {}
    for item in (*(left or ()), *(right or ())):
        merged.setdefault(_identity(item), item)
    return list(merged.values())


def _identity(item: object) -> object:
    """What tells an item from others: itself, where it can be hashed; a model's whole content."""
    if isinstance(item, BaseModel):
        return type(item), item.model_dump_json()
    return item


def _tasks(left: list[TaskLocks] | None, right: list[TaskLocks] | None) -> list[TaskLocks]:
    """Reducer: each task once; a dump may show thousands."""
    merged = {(task.comm, task.pid): task for task in left or []}
    for task in right or []:
        merged.setdefault((task.comm, task.pid), task)
    return list(merged.values())


def _latest(_left: str, right: str) -> str:
    """Reducer: parallel sub-agents may all say which model spoke."""
    return right


class InputState(MessagesState, total=False):
    """A log, or a chat whose last message is one."""

    log: str


class OutputState(MessagesState, total=False):
    """The resolution, and the same as a chat message."""

    resolution: Resolution


class State(MessagesState, total=False):
    """Everything known about the case. Facts are appended, never taken back."""

    log: str
    kernel_log: KernelLog
    primary: int
    reformatted: str
    route: Route
    route_reason: str
    subsystem: Subsystem | None
    symbolized: list[Symbolized]
    functions: Annotated[list[FunctionSource], _union]
    hits: Annotated[list[Hit], _union]
    fault: Fault | None
    memory: MemoryFacts | None
    deadlock: Deadlock | None
    task_groups: list[TaskGroup]
    task_locks: Annotated[list[TaskLocks], _tasks]
    evidence: Annotated[list[Evidence], merge_evidence]
    findings: Annotated[list[Finding], _union]
    summary: str
    explanation: str
    draft: Draft | None
    unverified: Annotated[list[str], _union]
    notes: Annotated[list[str], _union]
    failures: Annotated[list[Failure], _union]
    left_out: Annotated[list[LeftOut], _union]
    model: Annotated[str, _latest]
    """The model that spoke; empty while only the rules did."""
    usage: Annotated[Usage, add_usage]
    stage: Stage | None
    scratch: Annotated[list[AnyMessage], add_messages]
    resolution: Resolution


class TaskInput(State, total=False):
    """What one task's sub-agent gets to see."""

    group: TaskGroup
