"""A task's stack as functions standing at lines, and where on it the task waits."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from kagent.diagnosis.helpers import base_name, is_scaffold
from kagent.diagnosis.locks.model import TaskLocks
from kagent.diagnosis.locks.names import Link
from kagent.diagnosis.locks.primitives import Primitive, waits_in, wrapped
from kagent.diagnosis.reader import Reader
from kagent.diagnosis.stack import Symbols, contexts, frame_points, in_helper, reliable
from kagent.klog.model import Frame, TaskState
from kagent.resolution import Evidence, LeftOut

__all__ = ["TaskStack", "unread_frames"]

_MAX_LINKS = 512
"""Functions of a stack that are read, inlined ones included: a kernel stack of 16 kB has far
fewer; beyond are recursion and damage."""
_WAIT_QUEUE = Primitive("wait queue", "event")
_OFF_CPU = re.compile(r"__schedule|schedule|context_switch|__switch_to|__sched_text_start")


class TaskStack:
    """The stack of one task, with the ledger of what was read from it."""

    def __init__(self, task: TaskState, symbols: Symbols, reader: Reader) -> None:
        self.task = task
        self.symbols = symbols
        self.reader = reader
        self.frames = _stack(task)
        self.running = task.running or task.state == "R"
        self.links = list(itertools.islice(self._links(), _MAX_LINKS))
        read = {id(link.frame) for link in self.links}
        self.unread = sum(id(frame) not in read for frame in self.frames)
        self._ledger: dict[str, Evidence] = {}

    @property
    def ledger(self) -> tuple[Evidence, ...]:
        """What was cited so far, each fact once."""
        return tuple(self._ledger.values())

    def _links(self) -> Iterator[Link]:
        callee: str | None = None
        for frame, context in zip(self.frames, contexts(self.frames), strict=True):
            for point in frame_points(frame, self.symbols):
                function = None
                if point.line and not in_helper(point):
                    function = self.reader.function_at(point)
                yield Link(frame, point, function, callee, context)
                callee = base_name(point.function)

    def wait_link(self) -> tuple[Primitive, int] | None:
        """The outermost waiting primitive on top of the stack, and the link that called it.

        A task caught on a CPU may have been interrupted in it: then it is on top of what the
        interrupt interrupted. To count, a lock's slow path must be the very top there.
        """
        if not self.running:
            return self._wait_in(0)
        for context in range(1 + max((link.context for link in self.links), default=0)):
            found = self._wait_in(context)
            spins = found is not None and self._spins(context)
            if found and (spins or (found[0].kind != "lock" and self.task.running)):
                return found
        return None

    def _wait_in(self, context: int) -> tuple[Primitive, int] | None:
        found: Primitive | None = None
        for at, link in enumerate(self.links):
            if link.context < context:
                continue
            name = link.point.function
            primitive = waits_in(name)
            if found is None and _OFF_CPU.fullmatch(base_name(name)):
                found = _WAIT_QUEUE  # wait_event() leaves no frame of its own
            if primitive is not None:
                found = primitive
            elif not (in_helper(link.point) or is_scaffold(name) or wrapped(name)):
                return (found, at) if found else None
        return (found, len(self.links)) if found else None

    def _spins(self, context: int) -> bool:
        """Whether a context of a running task is in a lock's slow path, not merely near it."""
        own = (link.frame for link in self.links if link.context == context)
        top = next((frame for frame in own if not is_scaffold(frame.symbol)), None)
        return top is not None and waits_in(top.symbol) is not None

    def context_of(self, frame: Frame) -> int:
        """In which context of the stack a function stands."""
        found = (link.context for link in self.links if link.frame.symbol == frame.symbol)
        return next(found, 0)

    def cite(self, fact: Evidence) -> str:
        self._ledger.setdefault(fact.id, fact)
        return fact.id


def unread_frames(tasks: Iterable[TaskLocks]) -> Iterator[LeftOut]:
    """The frames of very deep stacks that no lock was looked for in."""
    deep = [task for task in tasks if task.unread]
    if deep:
        total = sum(len(task.sites) for task in deep)
        yield LeftOut(
            what="frames of very deep stacks",
            kept=total - sum(task.unread for task in deep),
            total=total,
            why=f"locks are looked for in the {_MAX_LINKS} innermost functions of a stack",
        )


def _stack(task: TaskState) -> list[Frame]:
    frames = reliable(task.frames)
    return [task.pc, *frames] if task.pc and task.pc not in frames else frames
