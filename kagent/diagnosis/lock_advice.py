"""What usually fixes a deadlock of this shape, said with the locks and lines at hand.

The remedies are those of Documentation/locking/lockdep-design.rst, mutex-design.rst and
Documentation/kernel-hacking/locking.rst ("Common Problems").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kagent.diagnosis.actions import clean
from kagent.klog.model import Report
from kagent.resolution import Culprit, CycleMember, Deadlock, SourcePoint

__all__ = ["lock_advice"]

_HANDLERS = {
    "work": ("flush or cancel the work", "the work function"),
    "workqueue": ("flush the workqueue", "the work functions"),
    "kthread": ("stop the thread", "the thread"),
    "timer": ("delete the timer", "the timer callback"),
    "hrtimer": ("cancel the timer", "the timer callback"),
    "irq": ("free or disable the interrupt", "the interrupt handler"),
}
_SINGLE = re.compile(r"\w+(?:\.\w+)*")
_EVENTS = ("completion", "wait queue", "bit")
_TRYLOCK = {
    "mutex": "mutex_trylock()",
    "rwsem": "down_write_trylock()",
    "semaphore": "down_trylock()",
    "spinlock": "spin_trylock()",
    "rwlock": "write_trylock()",
}


@dataclass(frozen=True, slots=True)
class _Step:
    """One member of a cycle in words."""

    holds: str
    wants: str
    type: str
    holds_at: str
    wants_at: str
    member: CycleMember


def lock_advice(report: Report, deadlock: Deadlock) -> list[str]:
    """Remedies for the first cycle, the most usual first; for no cycle, where to look.

    Empty when nothing waits.
    """
    if not deadlock.cycles:
        return _without_cycle(deadlock)
    steps = [_step(member) for member in deadlock.cycles[0]]
    if any(step.member.interrupt for step in steps) or _irq_states(report):
        return _interrupt(report, steps)
    if handler := next((step for step in steps if step.type in _HANDLERS), None):
        return _handler(handler)
    if event := next((step for step in steps if step.type in _EVENTS), None):
        return _event(event, steps)
    if len(steps) == 1:
        return _recursion(steps[0], deadlock)
    if any(not step.holds for step in steps):
        return _behind_a_writer(steps)
    if len({step.wants for step in steps}) == 1:
        return _same_class(steps[0], deadlock)
    return _order(steps, deadlock)


def _order(steps: Sequence[_Step], deadlock: Deadlock) -> list[str]:
    """Two or more locks in different orders."""
    possible = deadlock.verdict == "possible"
    inverted = steps[0]
    orders = "; ".join(f"{_task(s.member)}: {s.holds}{s.holds_at}, then {s.wants}{s.wants_at}"
                       for s in steps[:6])  # fmt: skip
    found = [f"take these locks in one order everywhere; now they are taken so: {orders}"]
    if possible and inverted.wants_at:
        found.append(
            f"the newest of these orders is {inverted.holds}, then {inverted.wants}"
            f"{inverted.wants_at}: take {inverted.wants} first there, or drop {inverted.holds} "
            "before"
        )
    trylock = _TRYLOCK.get(inverted.type.split(" ")[0])
    if trylock:
        found.append(
            f"where the order cannot change, use {trylock} for the second lock, and on failure "
            "release the first and start again"
        )
    if possible:
        found += _annotate(inverted)
    return found


def _same_class(step: _Step, deadlock: Deadlock) -> list[str]:
    found = [
        f"take several {step.wants} in one global order (by address, or parent before child)"
        f"{step.wants_at}"
    ]
    if deadlock.verdict == "possible":
        found += _annotate(step)
    return found


def _annotate(step: _Step) -> list[str]:
    """How to silence a false positive; a lock of one global object cannot be one."""
    if _SINGLE.fullmatch(step.holds) and _SINGLE.fullmatch(step.wants):
        return []
    nested = {"spinlock": "spin_lock_nested()", "rwsem": "down_write_nested()"}
    name = nested.get(step.type.split(" ")[0], "mutex_lock_nested()")
    return [
        "if these can never be the same objects, it is a false positive: tell lockdep with a "
        f"class of its own (lockdep_set_class()) or a subclass ({name})"
    ]


def _recursion(step: _Step, deadlock: Deadlock) -> list[str]:
    if deadlock.verdict == "possible" and step.holds != step.wants:
        return _same_class(step, deadlock)
    found = [
        f"do not take {step.wants} again{step.wants_at}: it is held"
        f"{step.holds_at or ' by the same task'}; drop it first, or split out a variant for "
        "callers that hold it"
    ]
    if deadlock.verdict == "possible":
        found += _annotate(step)
    return found


def _behind_a_writer(steps: Sequence[_Step]) -> list[str]:
    """A member that holds nothing is a writer in the queue, ahead of a reader that reads again."""
    writer = next(step for step in steps if not step.holds)
    reader = next((step for step in steps if step.holds == writer.wants), steps[0])
    return [
        f"do not take {reader.wants} again{reader.wants_at}: it is held{reader.holds_at}, and a "
        f"second read lock queues behind a waiting writer ({_task(writer.member)}"
        f"{writer.wants_at}), who waits for the first",
        "split out a variant of the inner function for callers that hold it",
    ]


def _handler(step: _Step) -> list[str]:
    what, who = _HANDLERS[step.type]
    lock = step.holds or "what it holds"
    return [
        f"release {lock}{step.holds_at} before you {what}{step.wants_at}: {who} needs it",
        f"or let {who} do without {lock}: a trylock that queues itself again, or a flag that says "
        "it is being stopped",
    ]


def _event(step: _Step, steps: Sequence[_Step]) -> list[str]:
    other = next((s for s in steps if s is not step), step)
    lock = step.holds or "what it holds"
    return [
        f"do not wait for the {step.type} {step.wants}{step.wants_at} while holding {lock}"
        f"{step.holds_at}",
        f"or signal it before {_task(other.member)} takes {other.wants}{other.wants_at}",
    ]


def _interrupt(report: Report, steps: Sequence[_Step]) -> list[str]:
    stopped = next((step for step in steps if step.member.interrupt), steps[0])
    facts = report.locks
    softly = "SOFTIRQ" in "".join(_irq_states(report)) or (
        facts is not None and facts.irq is not None and facts.irq.irq == "SOFTIRQ"
    )
    suffix = "_bh" if softly else "_irqsave"
    outside = stopped.holds or stopped.wants
    found = [
        f"take {outside} with spin_lock{suffix}() wherever an interrupt may come in, as"
        f"{stopped.holds_at or ' outside of interrupts'}"
    ]
    if len(steps) > 1:
        inner = next(step for step in steps if step is not stopped)
        found.append(
            f"or do not take {inner.wants} while holding {inner.holds}{inner.wants_at}: an "
            "interrupt takes the latter"
        )
    return found


def _irq_states(report: Report) -> tuple[str, ...]:
    facts = report.locks
    return facts.states if facts is not None and facts.states else ()


def _without_cycle(deadlock: Deadlock) -> list[str]:
    culprit = deadlock.culprit
    if culprit is None:
        if not any(victim.waits_for for victim in deadlock.victims):
            return []
        return [
            "look for a path that returns with the lock held: early returns and error labels; or "
            "get the owner's stack (sysrq-t, or sysrq-l if it runs)"
        ]
    name = _task(culprit)
    remedies = {
        "died": f"fix the oops of {name} first: what the others wait for died with it",
        "left": (
            f"look for the path on which {name} returns with the lock held: early returns and "
            "error labels"
        ),
        "event": (
            f"find the path that should have woken {name} and returned without doing so: an error "
            "path, a lost interrupt, or a wake-up before the wait"
        ),
        "runs": f"find out why {name} does not leave its loop; no lock order is at fault",
        "handler": f"find out why what {name} waits for does not get on; it is not in the log",
        "grace-period": f"find the reader that {name} waits for: sysrq-l, or the RCU stall report",
        "sleep": f"do not sleep or poll with the lock held: {name} does, and the others queue",
        "io": f"look at the device or file system that {name} waits for, not at the locks",
    }
    return [remedies[culprit.kind]] if culprit.kind in remedies else []


def _step(member: CycleMember) -> _Step:
    return _Step(
        holds=_bare(member.holds[0]) if member.holds else "",
        wants=_bare(member.waits_for or "a lock"),
        type=member.lock_type or "",
        holds_at=_at(member.taken[0] if member.taken else None),
        wants_at=_at(member.where),
        member=member,
    )


def _task(member: CycleMember | Culprit) -> str:
    """A task by name and number; the name is its own choice."""
    name = clean("name", member.task)
    return f"{name}/{member.pid}" if member.pid is not None else name


def _at(point: SourcePoint | None) -> str:
    if point is None:
        return ""
    line = clean("place", f" at {point.file}:{point.line}") if point.file and point.line else ""
    return f" in {clean('function', point.function)}(){line}"


def _bare(lock: str) -> str:
    """A lock's name without its address or its handlers."""
    return clean("name", lock.split(" (")[0])
