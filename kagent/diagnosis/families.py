"""What each family of reports means, in plain English: one row for every family.

Nothing here says more than the report, the decoded fault and the lock graph do; where the cause
is open, it says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kagent.diagnosis.commandlike import command_like
from kagent.diagnosis.out_of_memory import tell
from kagent.klog.model import Frame, Report
from kagent.resolution import Deadlock, Fault, MemoryEvent, MemoryFacts, SourcePoint

__all__ = ["Case", "choose"]


@dataclass(frozen=True, slots=True)
class Case:
    """One report with what the experts found out about it."""

    report: Report
    fault: Fault | None
    memory: MemoryFacts | None
    deadlock: Deadlock | None
    own: tuple[Frame, SourcePoint] | None

    @property
    def place(self) -> str:
        """Where in the code, as well as it is known."""
        return self.known_place or "an unknown function"

    @property
    def known_place(self) -> str:
        """Where in the code; empty where that is not known."""
        point: SourcePoint | None = None
        if self.fault is not None:
            point = self.fault.own_frame or SourcePoint(
                function=self.fault.function or self.fault.symbol,
                file=self.fault.file,
                line=self.fault.line,
                module=self.fault.module,
            )
        elif self.own is not None:
            point = self.own[1]
        return _at(point) if point else ""

    @property
    def helper(self) -> str:
        """``, inside strlen()`` when the fault is in a helper."""
        if self.fault is None or self.fault.own_frame is None:
            return ""
        return f" (inside {self.fault.function}())"

    @property
    def target(self) -> str:
        """The member and expression, if proven."""
        fault = self.fault
        if fault is None or fault.struct is None:
            return ""
        name = f"{fault.struct}.{fault.member}"
        return f"`{fault.expression}` ({name})" if fault.expression else name

    @property
    def meaning(self) -> str:
        """What the bad pointer's value says."""
        return self.fault.pointer.meaning if self.fault and self.fault.pointer else ""


_Told = tuple[str, list[str]]
_Rule = Callable[[Case], _Told]


def choose(case: Case) -> tuple[str, str, list[str]]:
    """The name of the family that fits, one sentence, and the reasons."""
    name, rule = _family(case)
    summary, reasons = rule(case)
    return name, summary, reasons


def _family(case: Case) -> tuple[str, _Rule]:
    if case.report.oom is not None:
        return "out-of-memory", _out_of_memory
    if not case.report.kernel_bug:
        return "not-a-kernel-bug", _not_a_bug
    waits = case.deadlock
    about_waiting = case.report.kind in ("HANG", "LOCKDEP", "ATOMIC_SLEEP")
    if about_waiting and waits and (waits.cycles or waits.culprit or waits.victims):
        return "waiting", _waiting
    text = f"{case.report.kind}\n{case.report.title}\n{case.report.header}"
    for name, pattern, rule in _FAMILIES:
        if re.search(pattern, text, re.IGNORECASE):
            return name, rule
    return "other", _other


# Rules ------------------------------------------------------------------------------------------


def _not_a_bug(case: Case) -> _Told:
    return (
        f"No kernel bug: {_title(case)}.",
        ["The log blames user space or an operator, not kernel code."],
    )


def _out_of_memory(case: Case) -> _Told:
    assert case.report.oom is not None
    return tell(case.report.oom)


def _waiting(case: Case) -> _Told:
    deadlock = case.deadlock
    assert deadlock is not None
    titles = {
        "deadlock": "Deadlock",
        "possible": "A deadlock is possible",
        "not-a-deadlock": "Tasks hang, but not in a deadlock",
    }
    reasons = []
    if deadlock.victims and (deadlock.cycles or deadlock.culprit):
        names = ", ".join(f"{v.task}/{v.pid}" for v in deadlock.victims[:12])
        reasons.append(f"Only queued behind it: {names}.")
    if any(member.inferred for cycle in deadlock.cycles for member in cycle):
        reasons.append(
            "Some locks were inferred from source along the stacks or from earlier lockdep "
            "records; they are marked as such."
        )
    title = titles[deadlock.verdict]
    if deadlock.verdict == "possible" and not deadlock.cycles:
        title = "Tasks hang, perhaps in a deadlock"
    what = deadlock.reason.removeprefix("No cycle: ")
    if case.report.kind == "LOCKDEP" and not deadlock.cycles and not deadlock.victims:
        return what, reasons  # a rule was broken; nobody is seen to wait
    return f"{title}: {what}", reasons


def _broken_lock_rule(case: Case) -> _Told:
    if case.deadlock is not None:
        return case.deadlock.reason, []
    return f"A locking rule was broken in {case.place}: {_header(case)}.", []


def _use_after_free(case: Case) -> _Told:
    memory = case.memory
    what = f"{case.target} after the object" if case.target else "an object after it"
    summary = f"Use after free: {_accessor(case)} touched {what} was freed."
    reasons = _history(memory)
    if memory and memory.free:
        reasons.append(
            f"A pointer to the object outlived the free in {_at(memory.free)}: either it was "
            "freed too early (a missing reference), or the pointer was not cleared."
        )
    return summary, reasons


def _out_of_bounds(case: Case) -> _Told:
    memory = case.memory
    size = f"a {memory.size}-byte object" if memory and memory.size else "an object"
    target = f" through {case.target}" if case.target else ""
    summary = f"Out of bounds: {_accessor(case)} accessed memory outside of {size}{target}."
    reasons = _history(memory)
    if memory and memory.offset is not None and memory.size is not None:
        past = memory.offset - memory.size
        where = f"{past} bytes past its end" if past >= 0 else f"at offset {memory.offset}"
        reasons.append(f"The access lies {where}; an index or length was not checked against it.")
    return summary, reasons


def _double_free(case: Case) -> _Told:
    reasons = _history(case.memory)
    reasons.append("Two owners each believe they must free the object; only one may.")
    return f"Double or invalid free in {case.place}{case.helper}.", reasons


def _slab_check(case: Case) -> _Told:
    return f"The slab allocator refused to free what {case.place} gave it: {_header(case)}.", [
        "The object was already free (a double free), or the pointer is not that of an object."
    ]


def _title(case: Case) -> str:
    return case.report.title.rstrip("!. ")


def _header(case: Case) -> str:
    return case.report.header.rstrip("!. ")


def _said(case: Case) -> str:
    """The first of the kernel's own words. A device may choose some: none that one may run."""
    words = " ".join(case.report.message.splitlines()[:2]).rstrip("!. ")
    return "" if command_like(words, code=True) else words


def _bad_pointer(case: Case) -> _Told:
    fault = case.fault
    if fault is not None and fault.access == "exec":
        return _bad_call(case)
    what = f" {case.target}" if case.target else ""
    at = f" at {fault.address:#x}" if fault and fault.address is not None else ""
    verb = {"read": "reading", "write": "writing"}.get(fault.access or "" if fault else "", "")
    doing = verb or ("using" if what else "used")
    when = f" when {doing}{what}{at}" if what or at or verb else ""
    summary = f"Bad pointer in {case.place}{case.helper}{when}"
    summary += f": the pointer was {case.meaning}." if case.meaning else "."
    return summary, _pointer_reasons(case)


def _bad_call(case: Case) -> _Told:
    fault = case.fault
    address = fault.address if fault else None
    to = "NULL" if address == 0 else (f"{address:#x}" if address is not None else "no code")
    through = f" through {case.target}" if case.target else ""
    reason = "The function pointer was called without a check that it is set."
    if "module that is gone" in case.meaning:
        reason = _LEFT_BEHIND
    elif address:
        reason = (
            "The function pointer holds no address of code: its object was freed or overwritten, "
            "or the code it pointed to was unloaded."
        )
    return f"{case.place} called {to}{through}.", [reason]


def _pointer_reasons(case: Case) -> list[str]:
    """What the value proves, and what it leaves open."""
    for words, reason in _POINTER_REASONS:
        if words in case.meaning:
            return [reason]
    return ["The log does not show where the bad pointer came from."]


_LEFT_BEHIND = (
    "The module left something behind when it was unloaded: a timer, a work item, a callback or a "
    "list entry that is still in use."
)
_POINTER_REASONS = (
    ("module that is gone", _LEFT_BEHIND),
    ("ERR_PTR", "A function returned an error code as a pointer; it was used without IS_ERR()."),
    ("NULL", "The pointer was NULL, or a member of an object behind a NULL pointer; the code on "
             "this path does not check it."),
    ("slab free poison", "The pointer was read out of memory that was already freed (SLUB "
                         "poisoning filled it with 0x6b): a use after free one level up."),
    ("LIST_POISON", "The list entry was already deleted: it was deleted twice, or walked while "
                    "another context deleted it."),
    ("never initialised", "The object was allocated but this member was never set."),
    ("ASCII", "Text was written over the pointer: an overflow of a string buffer next to it."),
    ("user-space", "A user-space pointer was used directly instead of through copy_from_user() "
                   "and its kin."),
    ("stack overflow", "The kernel stack is full: unbounded recursion or large local variables."),
)  # fmt: skip


def _divide(case: Case) -> _Told:
    what = case.target or "a value"
    return f"Division by zero in {case.place}: {what} is 0.", [
        "Nothing on this path keeps the divisor from being 0."
    ]


def _check_failed(case: Case) -> _Told:
    return f"A BUG() check failed in {case.place}{case.helper}: {_header(case)}.", [
        "The code found a state it considers impossible and stopped; the cause lies with who "
        "created that state."
    ]


def _warned(case: Case) -> _Told:
    marks = "the condition {}marks a bug in the caller or in its input."
    reason = f"The kernel carried on; {marks.format('still ')}"
    if case.report.panicked:
        reason = marks.format("").capitalize()
    said = [f"The kernel says: {words}."] if (words := _said(case)) else []
    return f"A warning fired in {case.place}{case.helper}: {case.report.title}.", [*said, reason]


def _refcount(case: Case) -> _Told:
    target = f" of {case.target}" if case.target else ""
    return f"Reference count error{target} in {case.place}: {_header(case)}.", [
        "One more put than get (or a get on an object that is already gone): somebody dropped a "
        "reference that was not theirs."
    ]


def _list(case: Case) -> _Told:
    target = f" with {case.target}" if case.target else ""
    return f"List corruption in {case.place}{target}: {_header(case)}.", [
        "An entry was added or deleted twice, its object was freed while still linked, or two "
        "contexts changed the list without a common lock."
    ]


def _usercopy(case: Case) -> _Told:
    return f"{case.place} copied to or from user space past an object: {_header(case)}.", [
        "The length was not limited to the size of the object."
    ]


def _smashed(case: Case) -> _Told:
    return f"Stack corruption: {_header(case)}.", [
        "A local array was written past its end and destroyed the canary; the writer is the "
        "function named there, or one it called."
    ]


def _overflow(case: Case) -> _Told:
    return f"Kernel stack overflow in {case.place}.", [
        "Unbounded recursion or large local variables; a function that repeats in the trace is "
        "the recursion."
    ]


def _undefined(case: Case) -> _Told:
    return f"Undefined behaviour in {case.place}: {_said(case) or _header(case)}.", [
        "An index, shift or value was used without a range check."
    ]


def _leak(case: Case) -> _Told:
    alloc = case.memory.alloc if case.memory else None
    place = _at(alloc) if alloc else case.place
    return f"Memory leak: an object allocated in {place} is no longer referenced.", [
        "No path frees it after its last pointer was dropped."
    ]


def _overwritten(case: Case) -> _Told:
    return f"Memory next to an object was overwritten, as was found in {case.place}.", [
        "KFENCE looks at what surrounds an object when that is freed: the write came before."
    ]


def _race(case: Case) -> _Told:
    return f"Data race in {case.place}: {case.report.title}.", [
        "Two contexts access the same memory without a common lock, and one of them writes."
    ]


def _uninitialised(case: Case) -> _Told:
    return f"Uninitialised memory was used in {case.place}: {case.report.title}.", []


def _stall(case: Case) -> _Told:
    cpu = f"CPU {case.report.context.cpu}" if case.report.context.cpu is not None else "A CPU"
    return f"{cpu} keeps running in {case.place} and lets nothing else run.", [
        "It was caught in a loop, not in a lock's slow path: the loop's end condition is never met."
    ]


def _atomic_sleep(case: Case) -> _Told:
    reasons = ["A spinlock, RCU read section, interrupt or disabled preemption forbids sleeping."]
    if case.deadlock is not None:
        reasons.append(case.deadlock.reason)
    return f"{case.place} sleeps where it must not.", reasons


def _other(case: Case) -> _Told:
    if case.report.frame is not None:
        return f"{_title(case)}.", []
    place = f", in {case.known_place}" if case.known_place else ""
    return f"{_header(case)}{place}.", []


# First match wins; patterns look at kind, title and header.
_FAMILIES: tuple[tuple[str, str, _Rule], ...] = (
    ("atomic-sleep", r"ATOMIC_SLEEP|scheduling while atomic|invalid context", _atomic_sleep),
    ("lock-rule", r"^LOCKDEP\b", _broken_lock_rule),
    ("undefined-behaviour", r"UBSAN", _undefined),
    ("double-free", r"double.free|invalid.free|free_nonslab|Object already free", _double_free),
    ("slab-check", r"kernel BUG at mm/(?:slub|slab)\.c", _slab_check),
    ("use-after-free", r"KASAN.*use-after-free|KFENCE.*use-after-free", _use_after_free),
    ("out-of-bounds", r"out-of-bounds (?:Read|Write|in)|(?:KASAN|KFENCE).*out-of-bounds",
     _out_of_bounds),
    ("overwritten", r"KFENCE.*memory corruption", _overwritten),
    ("data-race", r"KCSAN", _race),
    ("uninitialised", r"KMSAN", _uninitialised),
    ("leak", r"^LEAK\b|memory leak", _leak),
    ("usercopy", r"usercopy", _usercopy),
    ("stack-smash", r"stack-protector|stack is corrupted", _smashed),
    ("stack-overflow", r"stack guard page|stack overflow|overflowed? .{0,20}stack", _overflow),
    ("refcount", r"refcount", _refcount),
    ("list-corruption", r"list_(?:add|del)|corrupted list", _list),
    ("division", r"divide error", _divide),
    ("stall", r"soft lockup|hard LOCKUP|rcu.{0,40}stall", _stall),
    ("bug-check", r"kernel BUG|invalid opcode", _check_failed),
    ("bad-pointer", r"NULL.pointer|null-ptr|paging request|page fault|general protection|"
     r"Unable to handle|wild-memory|user-memory", _bad_pointer),
    ("warning", r"WARNING", _warned),
    ("hang", r"HANG|blocked for more", lambda case: (f"{_title(case)}.", [])),
)  # fmt: skip


def _at(point: SourcePoint) -> str:
    place = f" at {point.file}:{point.line}" if point.file and point.line else ""
    module = f" [{point.module}]" if point.module else ""
    return f"{point.function}(){place}{module}"


def _accessor(case: Case) -> str:
    event = case.memory.access if case.memory else None
    return _at(event) if event else case.place


def _history(memory: MemoryFacts | None) -> list[str]:
    """Who allocated and who freed the object."""
    if memory is None:
        return []
    steps = [
        f"{verb} in {_at(event)}{_by(event)}"
        for verb, event in (("allocated", memory.alloc), ("freed", memory.free))
        if event is not None
    ]
    return [f"The object was {' and '.join(steps)}."] if steps else []


def _by(event: MemoryEvent) -> str:
    return f" by {event.task}/{event.pid}" if event.task else ""
