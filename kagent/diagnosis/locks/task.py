"""One task: what it waits for, what it holds, what it will signal.

The kernel's own statements (held-locks lists, lockdep) come first; what they do not say is read
from the source along the task's stack, and marked as inferred.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from kagent.diagnosis.code import Call, CFunction
from kagent.diagnosis.helpers import base_name, is_scaffold
from kagent.diagnosis.locks.callees import definition
from kagent.diagnosis.locks.handlers import handlers_of
from kagent.diagnosis.locks.held import (
    Taken,
    dropped_at,
    held_at,
    lock_argument,
    polled,
    signals_after,
)
from kagent.diagnosis.locks.links import TaskStack
from kagent.diagnosis.locks.model import DIED, INVENTED, LockUse, TaskLocks, class_label, same_lock
from kagent.diagnosis.locks.names import Link, follow, root_of
from kagent.diagnosis.locks.primitives import Primitive, wrapped
from kagent.diagnosis.reader import LineSource, Reader, TypeSource
from kagent.diagnosis.stack import (
    Symbols,
    by_frame,
    frame_evidence,
    is_common,
    log_origin,
    own_point,
    site_of,
)
from kagent.klog.model import LockRef, TaskState
from kagent.resolution import SourcePoint, evidence
from kagent.symbols.model import Symbolized

__all__ = ["analyse_task"]

_MAX_FRAME_FACTS = 6
"""Frames of a stack that are cited for it; what the graph rests on cites frames of its own."""
_TIMED = re.compile(
    r"(?:wait_for_completion|wait_event|wait_on_bit|down|mutex_lock|io_schedule|wait_woken)\w*_timeout"
)
"""Waits that end by themselves; schedule_timeout() alone may wait for ever."""


def analyse_task(
    task: TaskState,
    symbolized: Iterable[Symbolized] | Symbols = (),
    *,
    source: LineSource | None = None,
    types: TypeSource | None = None,
) -> TaskLocks:
    """Work out one task's part in the wait graph.

    `symbolized` should cover the task's frames and the ``at:`` frames of its held locks.
    """
    symbols = symbolized if isinstance(symbolized, Mapping) else by_frame(symbolized)
    return _Task(task, symbols, Reader(source, types)).analyse()


class _Task(TaskStack):
    def analyse(self) -> TaskLocks:
        task = self.task
        waits = self._waits()
        holds, waits = self._printed(waits)
        holds += self._inferred_holds(holds)
        if waits is not None:
            waits = self._handed_down(waits, holds)
        own = own_point(self.frames, self.symbols)
        telling = [f for f in self.frames if not is_common(f)]
        if waits or holds or self.running:
            for frame in telling[:_MAX_FRAME_FACTS]:
                self.cite(frame_evidence(frame, self.symbols))
        runs = [link.point.function for link in self.links]
        return TaskLocks(
            comm=task.comm,
            pid=task.pid,
            holds=tuple(holds),
            waits=waits,
            signals=tuple(self._signals()),
            runs=tuple(dict.fromkeys([*runs, *_queue(task)])),
            sites=tuple(site_of(frame) for frame in self.frames),
            where=own[1] if own else None,
            state=task.state,
            cpu=task.cpu,
            running=self.running,
            fate=DIED if task.source == "oops" else "",
            unlisted=task.unlisted,
            owner=task.owner,
            last_owner=task.last_owner,
            reads_rcu=_reads_rcu(task),
            blocked_seconds=task.blocked_seconds,
            unread=self.unread,
            evidence=self.ledger,
        )

    # Waiting ------------------------------------------------------------------------------------

    def _waits(self) -> LockUse | None:
        found = self.wait_link()
        if found is None:
            return None
        primitive, at = found
        if at >= len(self.links):
            return LockUse(name=primitive.type, type=primitive.type, kind=primitive.kind,
                           mode=primitive.mode)  # fmt: skip
        link = self.links[at]
        use = LockUse(
            name=primitive.type,
            type=primitive.type,
            kind=primitive.kind,
            mode=primitive.mode,
            where=link.point,
            context=link.context,
            timed=any(_TIMED.search(inner.point.function) for inner in self.links[:at]),
            evidence=(self.cite(frame_evidence(link.frame, self.symbols)),),
        )
        if single := self._known_wrapper(at):
            return replace(use, name=single, instance=single)
        taken = self._wait_call(link, primitive)
        if primitive.kind == "sleep" and link.function and link.line:
            tried = polled(self.reader, link.function, link.line)
            if tried is not None:
                lock = tried.primitive
                use = replace(use, type=lock.type, kind="lock", mode=lock.mode, inferred=True)
                taken = tried
        if taken is None:
            return use
        timed = use.timed or _TIMED.search(taken.call.name) is not None
        return self._named(replace(use, timed=timed), taken, at)

    def _known_wrapper(self, at: int) -> str | None:
        """The one lock of the whole kernel that ``rtnl_lock()`` and its like take."""
        known = (wrapped(link.point.function) for link in self.links[:at])
        single = (e[1] for e in known if e and e[0].kind == "lock" and "{" not in e[1])
        return next(single, None)

    def _wait_call(self, link: Link, primitive: Primitive) -> Taken | None:
        """The call at the wait line that takes that kind of lock.

        Where the line only calls a function that ends in that call, that function left the stack:
        the compiler made a jump of the call.
        """
        function, line = link.function, link.line
        if function is None or line is None:
            return None
        calls = function.calls(line, line)
        options = list(_takers(calls, function, primitive))
        if not options:
            for call in calls:
                callee = definition(self.reader, call.name, function)
                if callee is not None and callee.name != link.callee:
                    options += _takers(callee.calls(), callee, primitive, call)
            options = options if len({taken.argument for taken in options}) == 1 else []
        same_type = [taken for taken in options if taken.primitive.type == primitive.type]
        return next(iter(same_type or options), None)

    # Holding ------------------------------------------------------------------------------------

    def _printed(self, waits: LockUse | None) -> tuple[list[LockUse], LockUse | None]:
        """Locks from the kernel's held-locks list; its last entry may be the one waited for.

        lockdep enters a lock in the list before the task blocks on it.
        """
        holds: list[LockUse] = []
        entries = [ref for ref in self.task.held if not INVENTED.match(ref.name)]
        for at, ref in enumerate(entries):
            use = self._from_lockdep(ref)
            last = at == len(entries) - 1
            if last and waits and waits.kind == "lock" and self._is_waited(ref, waits):
                waits = _merge(use, waits)
            else:
                holds.append(use)
        return holds, waits

    def _is_waited(self, ref: LockRef, waits: LockUse) -> bool:
        """Whether lockdep entered `ref` in the call that the task now waits in."""
        at = next((n for n, link in enumerate(self.links) if link.point == waits.where), None)
        if ref.at is None or at is None:
            return False
        frames = [link.frame for link in self.links[: at + 1]]
        return any(f.symbol == ref.at.symbol and f.offset in (ref.at.offset, None) for f in frames)

    def _from_lockdep(self, ref: LockRef) -> LockUse:
        fact = evidence("lock-edge", f"{self.task.comm}/{self.task.pid} holds {_describe(ref)}",
                        log_origin(ref.span))  # fmt: skip
        use = LockUse(
            name=class_label(ref.name),
            type="",
            address=ref.address,
            lock_class=ref.name,
            evidence=(self.cite(fact),),
        )
        if ref.at is None:
            return use
        own = own_point([ref.at], self.symbols)
        point = own[1] if own else SourcePoint(function=base_name(ref.at.symbol),
                                               module=ref.at.module)  # fmt: skip
        use = replace(use, where=point, context=self.context_of(ref.at))
        function = self.reader.function_at(point)
        if function is None or point.line is None:
            return use
        for call in function.calls(point.line, point.line):
            named = lock_argument(call)
            if named and named[0].kind == "lock":
                taken = Taken(call, named[0], named[1], function)
                typed = self._named(
                    replace(use, type=named[0].type, mode=named[0].mode), taken, None
                )
                return replace(typed, name=use.name)
        return use

    def _inferred_holds(self, printed: Sequence[LockUse]) -> list[LockUse]:
        """Locks that the functions on the stack took before the calls they are in.

        Where the kernel printed its own list, only what lockdep does not track is added. What an
        inner function released of its callers' locks is not held any more.
        """
        found: list[LockUse] = []
        dropped: list[LockUse] = []
        for at, link in enumerate(self.links):
            if link.function is None or link.line is None or is_scaffold(link.point.function):
                continue
            for taken in held_at(self.reader, link.function, link.line, link.callee):
                if self.task.held and taken.primitive.type != "semaphore":
                    continue
                use = LockUse(
                    name=taken.primitive.type,
                    type=taken.primitive.type,
                    mode=taken.primitive.mode,
                    where=SourcePoint(function=link.point.function, file=link.point.file,
                                      line=taken.call.line, module=link.point.module),
                    context=link.context,
                    inferred=True,
                    evidence=(
                        self.cite(self.reader.line_evidence(link.function, taken.call.line)),
                        self.cite(self.reader.line_evidence(link.function, link.line)),
                    ),
                )  # fmt: skip
                named = self._named(use, taken, at)
                if not any(same_lock(named, other)[0] for other in (*printed, *dropped)):
                    found.append(named)
            gone = dropped_at(self.reader, link.function, link.line, link.callee)
            dropped += [self._named(LockUse("", ""), taken, at) for taken in gone]
        return found

    # Signals ------------------------------------------------------------------------------------

    def _signals(self) -> Iterator[LockUse]:
        """What the functions on the stack will signal after the calls they are in return."""
        for at, link in enumerate(self.links):
            if link.function is None or link.point.line is None:
                continue
            for taken in signals_after(self.reader, link.function, link.point.line):
                cited = self.cite(self.reader.line_evidence(link.function, taken.call.line))
                use = LockUse(
                    name=taken.primitive.type,
                    type=taken.primitive.type,
                    kind=taken.primitive.kind,
                    where=SourcePoint(function=link.point.function, file=link.point.file,
                                      line=taken.call.line, module=link.point.module),
                    inferred=True,
                    evidence=(cited,),
                )  # fmt: skip
                yield self._named(use, taken, at)

    # Names --------------------------------------------------------------------------------------

    def _named(self, use: LockUse, taken: Taken, at: int | None) -> LockUse:
        """Name a lock by its source expression: struct member, global object, handler."""
        function = taken.function
        if at is not None:
            cited = self.cite(self.reader.line_evidence(function, taken.call.line))
            use = replace(use, evidence=tuple(dict.fromkeys((*use.evidence, cited))))
        meant = follow(self.reader, self.links, taken, at)
        return replace(
            use,
            name=meant.instance or meant.path or next(iter(meant.members[-1:]), meant.text),
            members=meant.members,
            path=meant.path,
            instance=meant.instance,
            home=meant.home,
            origin=meant.origin,
            beyond=meant.stopped,
            expression=taken.argument,
            handlers=handlers_of(self.reader, function, taken.primitive, meant.text),
        )

    def _handed_down(self, waits: LockUse, holds: Sequence[LockUse]) -> LockUse:
        """The awaited lock as the holder knows it, where its object came back by a callback.

        Code without source (a notifier chain, an iterator) stands between the function that holds
        the lock and the one that takes it again; the holder handed it a pointer to the object.
        """
        if waits.beyond is None or waits.member is None:
            return waits
        outer = self.links[waits.beyond]
        given = self._arguments(outer)
        for use in holds:
            same_place = use.where and use.where.function == outer.point.function
            alike = use.type == waits.type and same_lock(use, waits)[0]
            if alike and same_place and root_of(use.expression or "") in given:
                return replace(waits, name=use.name, origin=use.origin, instance=use.instance,
                               path=use.path, home=use.home)  # fmt: skip
        return waits

    def _arguments(self, link: Link) -> set[str]:
        """The variables that a function hands to what it calls at its line."""
        function, line = link.function, link.line
        if function is None or line is None:
            return set()
        calls = function.calls(line, line)
        return {root_of(given) for call in calls for given in call.arguments}


def _takers(
    calls: Iterable[Call], function: CFunction, primitive: Primitive, via: Call | None = None
) -> Iterator[Taken]:
    """Which of the calls wait in that kind of primitive."""
    for call in calls:
        named = lock_argument(call)
        if named and named[0].kind == primitive.kind:
            yield Taken(call, named[0], named[1], function, via)


def _reads_rcu(task: TaskState) -> str:
    """Whether a grace period waits for this task: a stall names it, or it left its reader open."""
    if task.source == "rcu-stall":
        return "the RCU stall names it"
    held = [ref for ref in task.held if ref.name == "rcu_read_lock"]
    if task.running or not held or any(ref.at and "show_all" in ref.at.symbol for ref in held):
        return ""
    return "it is inside rcu_read_lock()"


def _queue(task: TaskState) -> tuple[str, ...]:
    """``Workqueue: events foo_work_fn`` → the queue and the work function."""
    if not task.workqueue:
        return ()
    words = task.workqueue.split()
    return (f"workqueue:{words[0]}", *words[1:2])


def _merge(printed: LockUse, read: LockUse) -> LockUse:
    """One use from what lockdep printed and what stack and source say."""
    return replace(
        read,
        name=printed.name,
        address=printed.address,
        lock_class=printed.lock_class,
        members=read.members or printed.members,
        evidence=tuple(dict.fromkeys((*printed.evidence, *read.evidence))),
    )


def _describe(ref: LockRef) -> str:
    address = f"{ref.address:#x} " if ref.address else ""
    return f"{address}({ref.name})" + (f" taken at {ref.at}" if ref.at else "")
