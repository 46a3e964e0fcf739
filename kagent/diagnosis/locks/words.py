"""Locks, tasks and waits in words, and an edge as evidence."""

from __future__ import annotations

from collections.abc import Sequence

from kagent.diagnosis.locks.edges import Edge
from kagent.diagnosis.locks.model import LockUse, TaskLocks
from kagent.resolution import Evidence, Victim, evidence

__all__ = ["at", "edge_fact", "label", "named", "victim", "what"]


def label(use: LockUse) -> str:
    """A lock by name, with its address where another lock has the same name."""
    text = use.name
    if use.kind == "handler" and use.handlers:
        text = f"{use.name} ({', '.join(use.handlers)})"
    return f"{text} ({use.address:#x})" if use.twin and use.address is not None else text


def at(use: LockUse) -> str:
    """Where, after a blank; empty where that is not known."""
    point = use.where
    if point is None:
        return ""
    return f" in {point.function}()" + (f" at {point.file}:{point.line}" if point.line else "")


def named(task: TaskLocks) -> str:
    """``comm/pid``."""
    return f"{task.comm}/{task.pid}"


def what(waits: LockUse) -> str:
    """A wait that no task in the log can end."""
    name = f"{waits.type or 'lock'} {waits.name}" if waits.name != waits.type else waits.type
    if waits.timed:
        return f"{name}{at(waits)}, but only until its timeout"
    if waits.kind == "lock":
        return (
            f"{name}{at(waits)}, which no task in the log is seen to hold (its owner is not shown, "
            "or returned without unlocking)"
        )
    if waits.kind == "event":
        return f"{name}{at(waits)}, which nobody in the log is about to signal"
    if waits.kind == "handler":
        if not waits.handlers:  # without its function, whoever runs it cannot be told from others
            return f"{name} to finish{at(waits)}, which any task of the log or none may be running"
        handlers = ", ".join(waits.handlers)
        return f"{name} ({handlers}) to finish{at(waits)}, which no task in the log is running"
    if waits.kind == "grace-period":
        return f"an RCU grace period{at(waits)}, which some reader holds up"
    if waits.kind == "io":
        return f"{name}{at(waits)}: a device or file system must answer"
    return f"a timeout{at(waits)}"


def victim(task: TaskLocks) -> Victim:
    """A task that only queues."""
    waits = task.waits
    return Victim(
        task=task.comm,
        pid=task.pid,
        waits_for=label(waits) if waits else None,
        where=(waits.where if waits else None) or task.where,
    )


def edge_fact(tasks: Sequence[TaskLocks], edge: Edge) -> Evidence:
    """One edge of the graph as a fact of the ledger."""
    waiter, owner = tasks[edge.waiter], tasks[edge.owner]
    wanted = label(waiter.waits) if waiter.waits else "?"
    content = f"{named(waiter)} waits for {wanted}; {named(owner)} {edge.why}"
    basis = "as the kernel printed it" if edge.certain else "inferred from source and types"
    return evidence("lock-edge", content, f"wait graph, {basis}")
