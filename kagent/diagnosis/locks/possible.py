"""Reports about lock rules that no task is stuck in: what can go wrong, and where.

A circular report tells orders: link ``#k`` of its chain was once taken while the lock of link
``#k-1`` was held. An interrupt report tells a path between a lock that interrupts take and one
that interrupts may break into; the interrupt closes the circle.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kagent.diagnosis.helpers import base_name
from kagent.diagnosis.locks.model import LockUse, class_label, plain_class, same_lock
from kagent.diagnosis.locks.outside import Verdict
from kagent.diagnosis.locks.primitives import waits_in
from kagent.diagnosis.locks.task import analyse_task
from kagent.diagnosis.reader import LineSource, TypeSource
from kagent.diagnosis.stack import Symbols, is_common, log_origin, own_point
from kagent.klog.model import (
    ChainLink,
    Frame,
    IrqProof,
    KernelLog,
    LockdepFacts,
    LockRef,
    Report,
    TaskState,
)
from kagent.resolution import (
    CycleMember,
    Deadlock,
    Evidence,
    Finding,
    LeftOut,
    SourcePoint,
    evidence,
    merge_evidence,
)

__all__ = ["Possible"]

_HARMLESS = {
    "bad-unlock": "it releases a lock that it does not hold",
    "held-freed": "it frees memory in which a lock is still held",
    "held-at-return": "it returns to user space with a lock still held",
    "held-at-exit": "it exits, or is frozen, with a lock still held",
    "suspicious-rcu": "it uses RCU-protected data without the protection RCU asks for",
    "wait-context": "it takes a lock that may sleep where sleeping is not allowed",
}
_IRQS = {
    "HARDIRQ": "hardware interrupt",
    "SOFTIRQ": "soft interrupt",
    "NMI": "non-maskable interrupt",
    "RECLAIM_FS": "memory reclaim",
}
_MAX_LINKS = 64
"""Of a chain that are told: real ones have some dozen."""
_T = TypeVar("_T")
_ATOMIC = ("scheduling while atomic", "sleeping function called from invalid context")


@dataclass(frozen=True, slots=True)
class _Step:
    """Where a stack took one lock, and before it the one it held."""

    where: SourcePoint | None
    type: str | None
    taken: SourcePoint | None
    evidence: tuple[Evidence, ...] = ()


class Possible:
    """The verdict on a log's first report about lock rules."""

    def __init__(
        self,
        log: KernelLog,
        symbols: Symbols,
        source: LineSource | None = None,
        types: TypeSource | None = None,
    ) -> None:
        self.log = log
        self.symbols = symbols
        self.source = source
        self.types = types
        self.ledger: list[Evidence] = []
        self.twins: set[str] = set()
        self.left_out: list[LeftOut] = []

    def verdict(self) -> Verdict | None:
        """None when the log has no such report."""
        for report in self.log.reports:
            if report.locks is not None:
                return self._lockdep(report, self._shortened(report.locks))
            if any(word in report.header for word in _ATOMIC):
                return self._atomic(report)
        return None

    def _shortened(self, facts: LockdepFacts) -> LockdepFacts:
        """`facts` with the ends of an endless chain or path; that it is a circle stays true."""
        path = facts.irq.path if facts.irq else ()
        for what, links in (("chain", facts.chain), ("path", path)):
            if len(links) > _MAX_LINKS:
                self.left_out.append(
                    LeftOut(
                        what=f"links of lockdep's {what}",
                        kept=_MAX_LINKS,
                        total=len(links),
                        why="its ends are told; the links between lead from one to the other",
                    )
                )
        if facts.irq is not None:
            facts = replace(facts, irq=replace(facts.irq, path=_ends(path)))
        held = facts.holding
        if len(held) > _MAX_LINKS:
            self.left_out.append(
                LeftOut(
                    what="locks that one task holds",
                    kept=_MAX_LINKS,
                    total=len(held),
                    why="the first and the last are told; lockdep tracks 48 (MAX_LOCK_DEPTH)",
                )
            )
        return replace(facts, chain=_ends(facts.chain), holding=_ends(held))

    def _lockdep(self, report: Report, facts: LockdepFacts) -> Verdict:
        who = _who(facts)
        self.twins = _twins(facts)
        stated = [_stated(facts, ref, verb, report) for ref, verb in _refs(facts)]
        if facts.variant in _HARMLESS or facts.variant == "other":
            what = _HARMLESS.get(
                facts.variant, "it breaks a rule of lockdep, without a cycle of locks"
            )
            reason = f"{who}: {what}{self._place(report, facts)}."
            deadlock = Deadlock(verdict="not-a-deadlock", reason=reason)
        else:
            cycle = self._cycle(report, facts)
            reason = self._reason(facts, who, cycle)
            deadlock = Deadlock(verdict="possible", reason=reason, cycles=[cycle] if cycle else [])
        facts_found = merge_evidence(stated, self.ledger)
        claim = Finding(claim=reason, confidence=0.95, evidence=[fact.id for fact in facts_found],
                        by="rule:lockdep")  # fmt: skip
        return deadlock, [claim], facts_found

    def _place(self, report: Report, facts: LockdepFacts) -> str:
        """Which lock, and where in the code."""
        ref = facts.acquiring or next(iter(facts.holding[-1:]), None)
        name = f", {self._label(ref)}" if ref else ""
        frames = [ref.at] if ref and ref.at else report.call_frames
        point = self._point(frames)
        if point is None:
            return name
        line = f" at {point.file}:{point.line}" if point.line else ""
        return f"{name} in {point.function}(){line}"

    # Cycles -------------------------------------------------------------------------------------

    def _cycle(self, report: Report, facts: LockdepFacts) -> list[CycleMember]:
        if facts.irq is not None:
            return self._irq_cycle(report, facts, facts.irq)
        if facts.variant in ("recursive", "inconsistent-state"):
            return self._recursion(report, facts)
        return self._orders(report, facts)

    def _recursion(self, report: Report, facts: LockdepFacts) -> list[CycleMember]:
        wanted = facts.acquiring
        if wanted is None:
            return []
        same = [r for r in facts.holding if plain_class(r.name) == plain_class(wanted.name)]
        held = [ref for ref in same if ref is not same[-1] or not _is_new(ref, wanted)] or [wanted]
        return [
            CycleMember(
                task=facts.task or "a task",
                pid=facts.pid,
                holds=[self._label(ref) for ref in held],
                taken=[self._point([ref.at]) if ref.at else None for ref in held],
                waits_for=self._label(wanted),
                lock_type=_type_of(report.call_frames),
                where=self._point([wanted.at] if wanted.at else report.call_frames),
                interrupt=facts.variant == "inconsistent-state",
            )
        ]

    def _orders(self, report: Report, facts: LockdepFacts) -> list[CycleMember]:
        """One member for each order: the reporting task's, then those it collides with."""
        links = sorted(facts.chain, key=lambda link: link.index)
        if not links:
            return []
        wanted, newest = facts.acquiring or links[0].lock, links[-1].lock
        held = next((ref for ref in reversed(facts.holding) if ref.name == newest.name), None)
        at = [wanted.at] if wanted.at else []
        members = [
            CycleMember(
                task=facts.task or "a task",
                pid=facts.pid,
                holds=[self._label(held or newest)],
                taken=[self._point([held.at]) if held and held.at else None],
                waits_for=self._label(wanted),
                lock_type=_type_of(report.call_frames),
                where=self._point(at) or self._point(report.call_frames),
            )
        ]
        known = {ref.name: ref for ref in (*facts.holding, wanted)}
        pairs = itertools.pairwise(links)
        return members + [self._order(before.lock, link, known) for before, link in pairs]

    def _order(
        self, held: LockRef, link: ChainLink, known: dict[str, LockRef] | None = None
    ) -> CycleMember:
        """Who once took the lock of `link` while holding `held`: lockdep keeps the stack alone."""
        step = self._step(held, link.frames)
        first, wanted = (known or {}).get(held.name, held), (known or {}).get(link.lock.name)
        return CycleMember(
            task=_other(link.frames),
            holds=[self._label(first)],
            taken=[step.taken],
            waits_for=self._label(wanted or link.lock),
            lock_type=step.type,
            where=step.where,
            inferred=True,
        )

    def _irq_cycle(self, report: Report, facts: LockdepFacts, proof: IrqProof) -> list[CycleMember]:
        """The CPU that an interrupt stops, then every order on the path to what it holds."""
        safe, unsafe = proof.path[0].lock, proof.path[-1].lock
        outside = self._step(None, proof.unsafe_at)
        inside = self._step(None, proof.safe_at)
        reporter = proof.here == "unsafe" and facts.task is not None
        stopped = CycleMember(
            task=facts.task if reporter and facts.task else _other(proof.unsafe_at),
            pid=facts.pid if reporter else None,
            holds=[self._label(unsafe)],
            taken=[outside.where],
            waits_for=self._label(safe),
            lock_type=inside.type or outside.type,
            where=inside.where,
            interrupt=True,
            inferred=not reporter,
        )
        members = [stopped]
        for before, link in itertools.pairwise(proof.path):
            if _is_current(facts, before, link):
                members.append(self._current(report, facts, before.lock, link.lock))
            else:
                members.append(self._order(before.lock, link))
        return members

    def _current(
        self, report: Report, facts: LockdepFacts, held: LockRef, wanted: LockRef
    ) -> CycleMember:
        """The order that the reporting task is about to add."""
        mine = next((ref for ref in reversed(facts.holding) if ref.name == held.name), held)
        at = facts.acquiring.at if facts.acquiring else None
        return CycleMember(
            task=facts.task or "a task",
            pid=facts.pid,
            holds=[self._label(mine)],
            taken=[self._point([mine.at]) if mine.at else None],
            waits_for=self._label(facts.acquiring or wanted),
            lock_type=_type_of(report.call_frames),
            where=self._point([at] if at else report.call_frames),
        )

    def _step(self, held: LockRef | None, frames: tuple[Frame, ...]) -> _Step:
        """Where a stack that lockdep kept took its lock, and where it had taken `held`.

        The latter is read from the source of the functions on the stack.
        """
        where, taken = self._point(frames), None
        if held is not None and self.source is not None and frames:
            task = TaskState("", 0, state="D", frames=frames)
            locks = analyse_task(task, self.symbols, source=self.source, types=self.types)
            wanted = LockUse(class_label(held.name), "", lock_class=held.name)
            use = next((use for use in locks.holds if same_lock(wanted, use)[0]), None)
            if use is not None:
                taken = use.where
                self.ledger += [fact for fact in locks.evidence if fact.id in use.evidence]
        return _Step(where, _type_of(frames), taken)

    def _atomic(self, report: Report) -> Verdict:
        held = list(_ends(tuple(ref for task in report.tasks for ref in task.held)))
        own = own_point(report.call_frames, self.symbols)
        place = f" in {own[1].function}()" if own else ""
        locks = f" while holding {', '.join(self._label(ref) for ref in held)}" if held else ""
        reason = f"A task sleeps{place} where that is not allowed{locks}: no wait cycle."
        fact = evidence("log", report.header, log_origin(report.span))
        claim = Finding(claim=reason, confidence=0.95, evidence=[fact.id], by="rule:atomic-sleep")
        return Deadlock(verdict="not-a-deadlock", reason=reason), [claim], [fact]

    def _label(self, ref: LockRef) -> str:
        """Lockdep's class as people say it: ``&q->lock/1`` → ``q->lock``, told from its twins."""
        name = class_label(ref.name)
        return f"{name} ({ref.address:#x})" if ref.address and name in self.twins else name

    def _reason(self, facts: LockdepFacts, who: str, cycle: Sequence[CycleMember]) -> str:
        if facts.irq is not None and cycle:
            return _interrupted(facts.irq, cycle)
        if facts.variant == "recursive" and facts.acquiring:
            lock = self._label(facts.acquiring)
            return f"{who} takes a lock of a class that it already holds: {lock}. " + _NOBODY
        if not cycle:
            held = f", holding {self._label(facts.holding[-1])}" if facts.holding else ""
            wanted = f": {self._label(facts.acquiring)}" if facts.acquiring else ""
            return (
                f"{who} takes locks in an order that can block for ever{wanted}{held}. " + _NOBODY
            )
        steps = "; ".join(
            f"{member.task} holds {', '.join(member.holds)} and takes {member.waits_for}"
            for member in cycle
        )
        return f"Locks are taken in orders that can block each other: {steps}. " + _NOBODY

    def _point(self, frames: Sequence[Frame]) -> SourcePoint | None:
        found = own_point(frames, self.symbols) if frames else None
        return found[1] if found else None


def _ends(items: tuple[_T, ...]) -> tuple[_T, ...]:
    half = _MAX_LINKS // 2
    return items if len(items) <= _MAX_LINKS else (*items[:half], *items[-half:])


def _twins(facts: LockdepFacts) -> set[str]:
    """Names that several locks of a report have."""
    known = {(class_label(ref.name), ref.address) for ref, _ in _refs(facts) if ref.address}
    return {name for name, count in Counter(name for name, _ in known).items() if count > 1}


def _refs(facts: LockdepFacts) -> Iterable[tuple[LockRef, str]]:
    if facts.acquiring:
        yield facts.acquiring, "releases" if facts.variant == "bad-unlock" else "is acquiring"
    for ref in facts.holding:
        yield ref, "holds"
    for link in facts.chain:
        yield link.lock, f"chain #{link.index}:"
    for link in facts.irq.path if facts.irq else ():
        yield link.lock, f"path {link.index}:"


def _stated(facts: LockdepFacts, ref: LockRef, verb: str, report: Report) -> Evidence:
    at = f" at {ref.at}" if ref.at else ""
    span = ref.span if ref.span != (0, 0) else report.span
    return evidence("lock-edge", f"{_who(facts)} {verb} {ref.name}{at}", log_origin(span))


def _who(facts: LockdepFacts) -> str:
    return f"{facts.task}/{facts.pid}" if facts.task else "a task"


def _is_new(held: LockRef, wanted: LockRef) -> bool:
    """lockdep may have entered the lock it complains about in the list of held ones."""
    return held.address == wanted.address and held.at == wanted.at


def _is_current(facts: LockdepFacts, before: ChainLink, link: ChainLink) -> bool:
    """Whether this step of the path is the new one, from a held lock to the one asked for."""
    if facts.variant != "irq-safe-unsafe" or facts.acquiring is None:
        return False
    held = {ref.name for ref in facts.holding}
    return link.lock.name == facts.acquiring.name and before.lock.name in held


def _other(frames: Sequence[Frame]) -> str:
    """Who took a lock, where lockdep kept the stack but not the task."""
    own = [f for f in frames if not is_common(f)]
    path = " ← ".join(base_name(frame.symbol) for frame in own[:2])
    return f"any task in {path}" if path else "any task"


_NOBODY = "No task is seen stuck in it."


def _interrupted(proof: IrqProof, cycle: Sequence[CycleMember]) -> str:
    """The interrupt edge in words, then the orders that lead back to it."""
    stopped, orders = cycle[0], cycle[1:]
    irq = _IRQS.get(proof.irq, "interrupt")
    taken = stopped.taken[0] if stopped.taken else None
    text = (
        f"{stopped.task} takes {stopped.holds[0]}{_in(taken)} with {irq}s enabled; one may "
        f"come in there and take {stopped.waits_for}{_in(stopped.where)}"
    )
    if not orders:
        return f"{text}: it would wait for ever for what it interrupted. {_NOBODY}"
    chain = "; ".join(f"{m.task} holds {m.holds[0]} and takes {m.waits_for}" for m in orders)
    return f"{text}, and that may be held by who waits for the former: {chain}. {_NOBODY}"


def _in(point: SourcePoint | None) -> str:
    if point is None:
        return ""
    line = f" at {point.file}:{point.line}" if point.file and point.line else ""
    return f" in {point.function}(){line}"


def _type_of(frames: Sequence[Frame]) -> str | None:
    found = None
    for frame in frames:
        primitive = waits_in(frame.symbol)
        if primitive is not None and frame.reliable:
            found = primitive.type
        elif found:
            break
    return found
