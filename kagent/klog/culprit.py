"""Who is to blame: the function of a stack that a title names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kagent.klog.blameless import blameless, is_dispatcher, is_waiting, strip_syscall
from kagent.klog.formats import Before, Blame, Stack, Step
from kagent.klog.rust import demangle

__all__ = ["RISCV_REGS", "STACK_LINES", "STACK_STARTS", "Culprit", "culprits", "starts_stack"]


@dataclass(frozen=True, slots=True)
class Culprit:
    name: str
    """As the title has it: without system call prefix."""
    raw: str


_NOBODY = Culprit("corrupted", "corrupted")
_Name = tuple[str, int]
"""A function and the index of the line that names it."""

# ── reading stacks ───────────────────────────────────────────────────────────────────────────

_PC = r"\[<?(?:0x)?[0-9a-f]{1,16}>?\]"
STACK_LINES = (
    re.compile(rf"^ *(?:{_PC} ){{0,2}}([a-zA-Z0-9_]+)[.+]", re.ASCII),
    # arm: callee and caller on a line; the innermost callee stands nowhere else.
    re.compile(rf"^ *{_PC} \(([a-zA-Z0-9_.]+)\) from {_PC} \(([a-zA-Z0-9_]+)[.+]", re.ASCII),
    re.compile(r"^ *([a-zA-Z0-9_.]+) from ([a-zA-Z0-9_]+)[.+]", re.ASCII),  # since 5.18
)
RISCV_REGS = re.compile(r"status: [0-9a-f]{16} badaddr: [0-9a-f]{16} cause: [0-9a-f]{16}")
STACK_STARTS = (
    re.compile(r"Call [Tt]race"),
    re.compile(r"Allocated:"),
    re.compile(r"Allocated by task [0-9]+:"),
    re.compile(r"Freed:"),
    re.compile(r"Freed by task [0-9]+:"),
    re.compile(r"(?:^|[^k]) backtrace(?: \(crc [0-9a-fA-F]*\))?:"),
    re.compile(r"Backtrace:"),
    re.compile(r"Uninit was stored to memory at"),
    RISCV_REGS,  # its show_regs() dumps the stack without announcing it
)
_INJECTED = re.compile(rf"^( {_PC})? should_fail(slab)?(\.[a-z0-9.]+)?\+0x")


def starts_stack(text: str) -> bool:
    """Whether `text` announces a stack."""
    return any(start.search(text) for start in STACK_STARTS)


def _stack_names(text: str) -> tuple[str, ...]:
    if "+0x" not in text and "." not in text and "+" not in text:
        return ()
    for line in STACK_LINES:
        if match := line.match(text):
            return match.groups()
    return ()


class _Walk:
    """Goes through a report's lines by the steps of a :class:`Blame`, collecting names."""

    def __init__(self, lines: Sequence[str], skip: re.Pattern[str]) -> None:
        self.lines = lines
        self.skip = skip
        self.at = 0
        self.names: list[_Name] = []
        self.injected: int | None = None
        """Index of the line where a stack of fault injection got mixed in."""

    def stacks(self, steps: Sequence[Step]) -> list[list[_Name]]:
        """The names of each stack that `steps` lead to."""
        found: list[list[_Name]] = []
        seen_stack = False
        queue = list(steps)
        while queue:
            step = queue.pop(0)
            if isinstance(step, Stack):
                if seen_stack:
                    found.append(self.names)
                    self.names = []
                seen_stack = True
                if self.read(queue[0] if queue else None):
                    queue.pop(0)
            elif isinstance(step, Before):
                self.find(step.pattern, step.barrier)
            else:
                self.find(step)
        return [*found, self.names]

    def next_line(self) -> str | None:
        if self.at >= len(self.lines):
            return None
        text = self.lines[self.at]
        self.at += 1
        if _INJECTED.match(text):
            self.injected = self.at - 1
            return None
        return text

    def find(self, wanted: re.Pattern[str], barrier: re.Pattern[str] | None = None) -> None:
        """Move behind the line that matches; to the end where none does."""
        while (text := self.next_line()) is not None:
            if match := wanted.search(text):
                self.add(match.groups())
                return
            if barrier is not None and barrier.search(text):
                self.at = len(self.lines)

    def read(self, until: Step | None) -> bool:
        """Take frames up to the next stack, or up to a line of the next step: True then."""
        while (text := self.next_line()) is not None:
            if starts_stack(text):
                return False
            if isinstance(until, re.Pattern) and (match := until.search(text)):
                self.add(match.groups())
                return True
            self.add(_stack_names(text))
        return False

    def add(self, groups: Sequence[str | None]) -> None:
        for raw in groups:
            if raw and not self.skip.search(name := demangle(raw)):
                self.names.append((name, self.at - 1))


# ── picking the culprit ──────────────────────────────────────────────────────────────────────


_Pick = tuple[str, int, int]
"""A name or ``""``, the index of the frame that has it, and of the last frame that decided so."""


_NO_PICK: _Pick = ("", -1, -1)


def _first(names: list[str]) -> _Pick:
    return names[0], 0, 0


def _stalled(names: list[str]) -> _Pick:
    """The callee of the innermost dispatcher: what the CPU keeps being busy with."""
    for index, name in enumerate(names):
        if is_dispatcher(name):
            at = max(index - 1, 0)
            if "smp_call_function" in name:
                return "smp_call_function", index, index
            return names[at], at, index
    return _NO_PICK


def _hung(names: list[str]) -> _Pick:
    """Who waits, unless all wait for the same: grace periods and rtnl_lock get one title each."""
    for index, name in enumerate(names):
        if "rtnl_lock" in name:
            return name, index, index
        if re.search(r"synchronize_(?:s?rcu|net|sched)", name):
            return "synchronize_rcu", index, index
    for index, name in enumerate(names):
        if not is_waiting(name):
            return name, index, index
    return _NO_PICK


_PICKERS: dict[str, Callable[[list[str]], _Pick]] = {
    "first": _first,
    "stall": _stalled,
    "hung": _hung,
}


@dataclass(frozen=True, slots=True)
class _Found:
    """What one way of a :class:`Blame` came to."""

    culprits: list[Culprit]
    ok: bool
    """Whether every stack named somebody and none was mixed with another's."""
    last: int
    """Index of the last line that a culprit's choice depends on."""
    mixed: int
    """Index of the line where another stack got mixed in, or 0."""


def culprits(lines: Sequence[str], blame: Blame) -> tuple[list[Culprit], bool, int]:
    """Who is to blame, one a stack; whether all were found; the last line this depends on.

    Without the lines behind that one the answer would be the same.
    """
    mixed = 0
    for steps in blame.ways:
        found = _try(lines, steps, blame)
        mixed = max(mixed, found.mixed)
        if found.ok:
            break
    else:
        if blame.rescue and (rescued := _try(lines, blame.rescue, blame)).ok:
            found = rescued
    return found.culprits, found.ok, max(mixed, found.last)


def _try(lines: Sequence[str], steps: Sequence[Step], blame: Blame) -> _Found:
    walk = _Walk(lines, blameless(blame.skip))
    pick = _PICKERS[blame.pick]
    result: list[Culprit] = []
    last = 0
    for names in walk.stacks(steps):
        name, index, decided = pick([strip_syscall(n) for n, _ in names]) if names else _NO_PICK
        result.append(Culprit(name, names[index][0]) if name else _NOBODY)
        if name:
            last = max(last, names[decided][1])
    ok = walk.injected is None and _NOBODY not in result
    return _Found(result, ok, last, walk.injected or 0)
