"""Which tasks to look at, and how to share them out: one analysis for every distinct stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kagent.diagnosis.locks.model import TaskGroup
from kagent.diagnosis.stack import reliable
from kagent.klog.model import Frame, KernelLog, Report, TaskState

__all__ = ["fold_tasks", "tasks_of"]

_DEATHS = ("Oops", "BUG:", "kernel BUG", "general protection", "Unable to handle", "divide error",
           "Internal error", "invalid opcode", "stack segment")  # fmt: skip


def tasks_of(log: KernelLog) -> tuple[TaskState, ...]:
    """Every task the log shows, each once: its latest stack, its latest list of held locks.

    Tasks that died in an oops are among them (``source="oops"``): what they held stays locked.
    """
    latest: dict[int, TaskState] = {}
    for report in log.reports:
        dead = _crashed(report)
        if dead:
            latest.setdefault(dead.pid, dead)
    for task in log.tasks:
        if task.frames or task.held or task.pc or task.unlisted:
            known = latest.get(task.pid)
            latest[task.pid] = _newer(known, task) if known else task
    return tuple(sorted(latest.values(), key=lambda task: task.span))


def fold_tasks(tasks: Iterable[TaskState], limit: int) -> list[TaskGroup]:
    """Group tasks for at most `limit` sub-agents.

    Tasks with one stack (and the same locks held) are analysed once. Beyond `limit` distinct
    stacks, several stacks share a group; blocked tasks are dealt out first.
    """
    stacks: dict[object, list[TaskState]] = {}
    for task in _latest(tasks):
        stacks.setdefault(_key(task), []).append(task)
    ordered = sorted(stacks.values(), key=lambda stack: _weight(stack[0]))
    hands: list[list[tuple[TaskState, ...]]] = [[] for _ in range(min(limit, len(ordered)))]
    for at, stack in enumerate(ordered):
        hands[at % len(hands)].append(tuple(stack))
    return [TaskGroup(tuple(hand)) for hand in hands]


def _latest(tasks: Iterable[TaskState]) -> list[TaskState]:
    latest: dict[int, TaskState] = {}
    for task in tasks:
        known = latest.get(task.pid)
        latest[task.pid] = _newer(known, task) if known else task
    return list(latest.values())


def _newer(old: TaskState, new: TaskState) -> TaskState:
    """The later of two dumps; what only the earlier one shows is kept."""
    if old.source == "oops":
        return old  # it died there: later dumps show its exit
    stack = new if new.frames or new.pc else old
    return replace(
        stack,
        held=new.held or old.held,
        unlisted=0 if new.held else new.unlisted or old.unlisted,
        state=new.state or old.state,
        cpu=new.cpu if new.cpu is not None else old.cpu,
        owner=new.owner or old.owner,
        last_owner=new.last_owner if new.owner else old.last_owner,
        blocked_seconds=new.blocked_seconds or old.blocked_seconds,
        workqueue=new.workqueue or old.workqueue,
        running=stack.running,
        span=min(old.span, new.span),
    )


def _key(task: TaskState) -> object:
    frames = tuple(_place(frame) for frame in _frames(task))
    if not frames:
        return task.pid
    held = tuple((ref.address, ref.name) for ref in task.held)
    return frames, held, task.source == "oops", task.workqueue


def _frames(task: TaskState) -> Sequence[Frame]:
    frames = reliable(task.frames)
    return [task.pc, *frames] if task.pc else frames


def _place(frame: Frame) -> tuple[str, int | None, str | None]:
    return frame.symbol, frame.offset, frame.module


def _weight(task: TaskState) -> tuple[int, tuple[int, int]]:
    """Order of interest: blocked, dead or spinning, holding something, the rest."""
    if task.blocked_seconds or task.state == "D":
        rank = 0
    elif task.running or task.source == "oops":
        rank = 1
    else:
        rank = 2 if task.held else 3
    return rank, task.span


def _crashed(report: Report) -> TaskState | None:
    """The task that an oops killed."""
    context = report.context
    fatal = report.kernel_bug and report.pc is not None and bool(report.registers)
    if not fatal or context.pid is None or context.task is None:
        return None
    if not report.header.startswith(_DEATHS) and "Oops" not in report.header:
        return None
    if any(word in report.header for word in ("lockup", "stall", "scheduling while atomic")):
        return None
    trace = report.trace("call")
    return TaskState(
        comm=context.task,
        pid=context.pid,
        cpu=context.cpu,
        pc=report.pc,
        frames=trace.frames if trace else (),
        source="oops",
        span=report.span,
    )
