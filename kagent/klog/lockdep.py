"""lockdep's reports (kernel/locking/lockdep.c) and lists of held locks."""

from __future__ import annotations

import re

from kagent.klog.draft import Draft, LockClassDraft, LockdepDraft
from kagent.klog.irq_paths import irq_proof
from kagent.klog.lines import Line
from kagent.klog.model import ChainLink, Frame, LockdepFacts, LockRef

__all__ = ["freeze_lockdep", "parse_lock", "read_lockdep", "variant_of"]

_VARIANTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("circular", re.compile(r"possible circular locking dependency detected")),
    ("recursive", re.compile(r"possible recursive locking detected")),
    ("inconsistent-state", re.compile(r"inconsistent lock state")),
    ("irq-safe-unsafe", re.compile(r"-safe -> \S{1,20}-unsafe lock order detected")),
    ("irq-inversion", re.compile(r"possible irq lock inversion dependency detected")),
    ("wait-context", re.compile(r"BUG: Invalid wait context")),
    ("bad-unlock", re.compile(r"bad (?:unlock balance|contention) detected")),
    ("held-freed", re.compile(r"held lock freed!")),
    ("held-at-return", re.compile(r"lock held when returning to user space")),
    ("held-at-exit", re.compile(r"still has locks held!")),
    ("suspicious-rcu", re.compile(r"suspicious RCU usage")),
    ("other", re.compile(r"Nested lock was not taken|trying to register non-static key")),
)


def variant_of(header: str) -> str | None:
    """Which lockdep report `header` announces; None when it is another report's."""
    return next((name for name, pattern in _VARIANTS if pattern.search(header)), None)


# print_lock(): "ffff888004 (&mm->mmap_lock){++++}-{4:4}, at: foo+0x12/0x30 [mod]". A held list
# prefixes " #0: "; before 5.10 there is no wait type, before 4.13 "at:" has an address.
_LOCK = re.compile(
    r"[ \t]{0,16}(?:#(?P<index>\d{1,6}): {1,2})?"
    r"(?:(?:\[<)?(?P<addr>[0-9a-f]{8,16}|\(____ptrval____\)|\(ptrval\))(?:>\])? )?"
    r"\((?P<name>.{1,200})\)\{(?P<usage>[^{}]{0,16})\}(?:-\{(?P<wait>\d{1,2}:\d{1,2})\})?"
    r"(?:, at: (?:\[<(?P<pc>[0-9a-f]{8,16})>\] )?(?P<at>\S{1,300})(?: \[(?P<mod>[\w.-]{1,64})"
    r"(?: [0-9a-f]{6,64})?\])?)?"
)
_AT = re.compile(r"([\w.$]{1,256})\+0x([0-9a-f]{1,8})/0x([0-9a-f]{1,8})$")
_TASK = re.compile(r"(?P<comm>.{1,64})/(?P<pid>\d{1,10})")
_HELD_BY = re.compile(
    r"(?:(?P<n>\d{1,6}) locks?|no locks) held by (?P<comm>.{1,64})/(?P<pid>\d{1,10})[:.]"
)
_LAST_HELD = re.compile(r"(?P<n>\d{1,6}) locks? held by (?P<comm>.{1,64}?)/(?P<pid>\d{1,10})/")
_CHAIN = re.compile(r"-> #(?P<index>\d{1,6}) \(")
_WANTS = re.compile(
    r"(?P<comm>.{1,64})/(?P<pid>\d{1,10})(?: \[HC.{1,80}\])? "
    r"(?:is trying to (?:acquire(?: lock)?|lock|release lock \((?P<lock>.{1,200})\) at"
    r"|contend lock "
    r"\((?P<lock2>.{1,200})\) at)|just changed the state of lock|takes|is freeing memory|is exiting"
    r"|is leaving the kernel)"
)
_STATES = re.compile(r"(?:inconsistent )?\{([\w -]{1,40})\} -> \{([\w -]{1,40})\} usage")
_HOLDING = re.compile(
    r"but task is already holding(?: lock)?:|and this task is already "
    r"holding:|but there are no more locks to release!"
)
_END_OF_PATH = re.compile(
    r"(?:but this new dependency connects a|to a|but this lock (?:took|was taken by) another,)"
    r" (?P<irq>[A-Z_]{3,16})(?:-READ)?-(?:irq-)?(?P<end>safe|unsafe) lock(?: in the past)?:"
)
"""What print_bad_irq_dependency and print_irq_inversion_bug say before the ends of a path."""
_PARTS = (
    ("safe", re.compile(r"the dependencies between .{1,40}-safe lock and the holding lock:")),
    ("unsafe", re.compile(r"the dependencies between the lock to be acquired")),
    ("short", re.compile(r"the shortest dependencies between 2nd lock and 1st lock:")),
)
_CLASS = re.compile(r"-> (?=\()")
_TALK = re.compile(
    r"which lock already depends|the existing dependency chain|other info that might help"
    r"|.{0,4}Possible (?:unsafe|interrupt unsafe) locking scenario|.{0,24}CPU0 |.{0,24}---- "
    r"| {1,40}lock\(|.{0,3}<Interrupt>|.{0,8}\*\*\* DEADLOCK|.{0,8}\*\*\* INTERRUPT|Chain exists of"
    r"|May be due to missing lock nesting|to a |but this new dependency|.{0,16}might help us debug"
    r"|which would create a new|stack backtrace:|Showing all locks held|INFO: lockdep is turned off"
    r"|context-\{\d|={10,}|-{10,}|rcu_scheduler_active|\S{1,200}:\d{1,6} .{0,120}!$|and interrupts"
    r"|the shortest dependencies|the dependencies between|.{1,200} --> |... key {1,6}at:| *\}$"
)


def parse_lock(line: Line, text: str | None = None) -> LockRef | None:
    """The lock that print_lock() wrote, if the line holds one."""
    match = _LOCK.match(line.text if text is None else text)
    if match is None:
        return None
    address = match["addr"]
    at = None
    if match["at"] and (place := _AT.match(match["at"])):
        pc = int(match["pc"], 16) if match["pc"] else None
        at = Frame(
            place[1],
            int(place[2], 16),
            int(place[3], 16),
            match["mod"],
            address=pc,
            span=line.span,
        )
    return LockRef(
        name=match["name"],
        address=int(address, 16) if address and address[0] != "(" else None,
        usage=match["usage"],
        wait_type=match["wait"],
        at=at,
        index=int(match["index"]) if match["index"] else None,
        span=line.span,
    )


def read_lockdep(draft: Draft, line: Line) -> bool:
    """Take a line of a lockdep report or of a list of held locks."""
    text = line.text.lstrip()
    if "held by " in text and (match := _HELD_BY.search(text) or _LAST_HELD.search(text)):
        draft.holder = (match["comm"].strip(), int(match["pid"]))
        draft.held.setdefault(draft.holder, [])
        draft.counted[draft.holder] = int(match["n"] or 0)
        draft.stack = None
        return True
    if "){" in text and not text.startswith("->") and (lock := parse_lock(line)):
        return _take_lock(draft, lock)
    facts = draft.lockdep
    if facts is not None and _take_path(draft, facts, line, text):
        return True
    if facts is None:
        return text.startswith("Showing all locks held")
    if text.startswith("-> #") and (match := _CHAIN.match(text)):
        stack = draft.open_stack("lock", line)
        stack.index = int(match["index"])
        stack.lock = parse_lock(line, text[match.end() - 1 :])
        return True
    if "/" in text and (match := _WANTS.match(text)):
        _take_task(facts, match)
        return True
    if match := _STATES.search(text):
        facts.states = (match[1], match[2])
        return True
    if _HOLDING.match(text):
        facts.expect = "holding"
        draft.stack = None
        return True
    return _TALK.match(text) is not None


def _take_path(draft: Draft, facts: LockdepDraft, line: Line, text: str) -> bool:
    """A line about the path of an irq report: its ends, a list of dependencies, a class in it."""
    if match := _END_OF_PATH.match(text):
        facts.irq = facts.irq or match["irq"]
        facts.expect = "safe" if match["end"] == "safe" else "unsafe"
        draft.stack = None
        return True
    if part := next((name for name, pattern in _PARTS if pattern.match(text)), None):
        facts.part = part
        draft.stack = None
        return True
    if facts.part and (match := _CLASS.match(text)):
        if lock := parse_lock(line, text[match.end() :]):
            facts.classes.append(LockClassDraft(facts.part, lock, len(draft.stacks)))
            draft.stack = None
        return True
    return False


def _take_task(facts: LockdepDraft, match: re.Match[str]) -> None:
    if facts.task is None:
        facts.task, facts.pid = match["comm"].strip(), int(match["pid"])
    name = match["lock"] or match["lock2"]
    if name:
        facts.acquiring = facts.acquiring or LockRef(name)
        facts.expect = "release"
    elif facts.variant.startswith("held-"):
        facts.expect = "holding"
    else:
        facts.expect = "acquiring"


def _take_lock(draft: Draft, lock: LockRef) -> bool:
    facts = draft.lockdep
    if draft.holder is not None and (lock.index is not None or lock.at is not None):
        held = draft.held[draft.holder]
        if lock.index is not None and lock.index < len(held):
            draft.holder = None  # of another list, whose first lines are lost
        else:
            held.append(lock)
        return True
    if facts is None:
        return lock.index is not None
    if facts.expect == "acquiring" and facts.acquiring is None:
        facts.acquiring = lock
    elif facts.expect == "safe":
        facts.safe = facts.safe or lock
    elif facts.expect == "unsafe":
        facts.unsafe = facts.unsafe or lock
    elif facts.expect == "holding" or lock.at is not None:
        facts.already.append(lock)
    facts.expect = None
    return True


def freeze_lockdep(draft: Draft, current: tuple[str | None, int | None]) -> LockdepFacts | None:
    """The facts as a value; None for other reports.

    `current` is the task that the report says ran, for reports that name it nowhere else.
    """
    facts = draft.lockdep
    if facts is None:
        return None
    if facts.task is None:
        facts.task, facts.pid = current
    holding: list[LockRef] = []
    for (comm, pid), locks in draft.held.items():
        if facts.pid is None or (comm, pid) == (facts.task, facts.pid) or pid == facts.pid:
            holding.extend(locks)
    held = tuple(holding or facts.already)
    chain = tuple(
        ChainLink(stack.index, stack.lock, tuple(stack.frames))
        for stack in draft.stacks
        if stack.index is not None and stack.lock is not None
    )
    return LockdepFacts(
        variant=facts.variant,
        task=facts.task,
        pid=facts.pid,
        acquiring=facts.acquiring,
        holding=held,
        chain=chain,
        states=facts.states,
        irq=irq_proof(draft, facts),
    )
