"""A report while it is being read: mutable counterparts of :mod:`kagent.klog.model`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from kagent.klog.lines import Line
from kagent.klog.model import ChainLink, Frame, LeftOut, LockRef, TaskState, Trace, TraceRole
from kagent.klog.oom_model import OomCounter, OomSlab, OomTask, OomVictim, OomZone

__all__ = [
    "MAX_SLABS",
    "MAX_TASKS",
    "MAX_VICTIMS",
    "MAX_ZONES",
    "Block",
    "Draft",
    "LockClassDraft",
    "LockdepDraft",
    "OomDraft",
    "StackDraft",
]

MAX_WORDS = 8
MAX_TASKS = 64
MAX_SLABS = 32
MAX_ZONES = 256
MAX_VICTIMS = 256
"""Of an out-of-memory report, as many as anybody reads; the counts are told."""


@dataclass(slots=True)
class StackDraft:
    """A stack whose frames are still coming in."""

    role: TraceRole
    title: str
    block: Block
    pid: int | None = None
    cpu: int | None = None
    time: float | None = None
    caller: Frame | None = None
    """Who allocated or freed, as the introducing line names it; the stack may begin above it."""
    frames: list[Frame] = field(default_factory=list)
    start: int = 0
    end: int = 0
    index: int | None = None
    """``#N`` of a lockdep chain."""
    lock: LockRef | None = None

    def whole(self) -> tuple[Frame, ...]:
        """The frames, the introducing line's first where the stack does not have it."""
        caller = self.caller
        if caller is None or any(
            (frame.symbol, frame.offset) == (caller.symbol, caller.offset) for frame in self.frames
        ):
            return tuple(self.frames)
        return (caller, *self.frames)

    def freeze(self) -> Trace:
        """The stack as it stands; of the past only what the log says about it."""
        block = self.block if self.role in ("call", "cpu", "task", "lock") else None
        pid = self.pid if self.pid is not None or block is None else block.pid
        return Trace(
            self.role,
            self.whole(),
            self.title,
            task=block.comm if block and block.pid == pid else None,
            pid=pid,
            cpu=self.cpu if self.cpu is not None or block is None else block.cpu,
            time=self.time,
            span=(self.start, self.end),
        )


@dataclass(slots=True)
class Block:
    """A part of a report about one task or CPU: its own, another CPU's, another task's."""

    kind: Literal["self", "cpu", "task", "panic"]
    comm: str | None = None
    pid: int | None = None
    cpu: int | None = None
    state: str | None = None
    blocked_seconds: int | None = None
    owner: tuple[str, int] | None = None
    last_owner: bool = False
    workqueue: str | None = None
    pc: Frame | None = None
    registers: dict[str, int] = field(default_factory=dict)
    code: str | None = None
    frames: list[Frame] = field(default_factory=list)
    """Of its first call stack."""
    stacks: int = 0
    source: Literal["hung-task", "sysrq", "lockup", "held-locks", "rcu-stall", "oops"] = "oops"
    running: bool = False
    start: int = 0
    end: int = 0


@dataclass(slots=True)
class LockClassDraft:
    """A class in a list of dependencies, with the stacks that belong to it."""

    part: str
    """Which list: ``safe``, ``unsafe`` or ``short``."""
    lock: LockRef
    first: int
    """Index into the draft's stacks where its own begin."""


@dataclass(slots=True)
class LockdepDraft:
    """What a lockdep report has stated so far."""

    variant: str
    task: str | None = None
    pid: int | None = None
    acquiring: LockRef | None = None
    already: list[LockRef] = field(default_factory=list)
    holding: list[LockRef] = field(default_factory=list)
    chain: list[ChainLink] = field(default_factory=list)
    states: tuple[str, str] | None = None
    expect: Literal["acquiring", "holding", "release", "safe", "unsafe", None] = None
    """What the next line of a lock, or the next frame for a release, will be."""
    irq: str | None = None
    """Which interrupts an irq report is about."""
    safe: LockRef | None = None
    unsafe: LockRef | None = None
    part: str = ""
    """The list of dependencies that is being printed."""
    classes: list[LockClassDraft] = field(default_factory=list)


@dataclass(slots=True)
class OomDraft:
    """What an out-of-memory report has stated so far."""

    facts: dict[str, Any]
    """Fields of :class:`kagent.klog.oom_model.OomFacts` that one line states."""
    columns: list[str] = field(default_factory=list)
    """Of the task table, between pid and name."""
    tasks: list[OomTask] = field(default_factory=list)
    rows: int = 0
    counters: dict[str, OomCounter] = field(default_factory=dict)
    stats: dict[str, int] = field(default_factory=dict)
    in_stats: bool = False
    pages: dict[str, int] = field(default_factory=dict)
    zones: list[OomZone] = field(default_factory=list)
    slabs: list[OomSlab] = field(default_factory=list)
    victims: dict[int, OomVictim] = field(default_factory=dict)
    """By pid, in the order of their death."""
    more_zones: int = 0
    more_victims: int = 0

    def left_out(self) -> Iterator[LeftOut]:
        """What limits kept out of the facts."""
        rows, slabs = self.rows, len(self.slabs)
        yield LeftOut("rows of the task table", min(rows, MAX_TASKS), rows, "the largest are kept")
        yield LeftOut("slab caches", min(slabs, MAX_SLABS), slabs, "the largest are kept")
        for what, kept, more in (
            ("memory zones", len(self.zones), self.more_zones),
            ("killed processes", len(self.victims), self.more_victims),
        ):
            yield LeftOut(what, kept, kept + more, "the first are kept")


@dataclass(slots=True)
class Draft:
    """One report, or one dump of tasks, with everything the section readers found."""

    header: Line
    own: Block
    block: Block
    blocks: list[Block] = field(default_factory=list)
    stacks: list[StackDraft] = field(default_factory=list)
    stack: StackDraft | None = None
    """The stack that takes the next frame."""
    user_pc: bool = False
    """The line before stated a user-space PC: a ``Code:`` line would be of user space."""
    user_registers: bool = False
    s390_mark: str = ""
    """What stands before the trapping instruction in s390's disassembly, once that began."""
    facts: dict[str, str] = field(default_factory=dict)
    """Context: kernel, build, hardware, taint, workqueue, cpu, task, pid, modules."""
    access: dict[str, str] = field(default_factory=dict)
    memory: dict[str, str] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    """The sanitizer's description of the object."""
    telling: bool = False
    lockdep: LockdepDraft | None = None
    oom: OomDraft | None = None
    held: dict[tuple[str, int], list[LockRef]] = field(default_factory=dict)
    counted: dict[tuple[str, int], int] = field(default_factory=dict)
    """How many locks a list of held locks announces."""
    holder: tuple[str, int] | None = None
    """Whose locks are being listed."""
    messages: list[str] = field(default_factory=list)
    unsaid: int = 0
    """Lines that :meth:`say` had no room for."""
    panicked: bool = False
    died: bool = False
    tasks: list[TaskState] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, header: Line) -> Draft:
        """A draft that nothing but its header is known of."""
        own = Block("self", start=header.start, end=header.end)
        return cls(header, own, own)

    def say(self, text: str) -> None:
        """Keep the kernel's own words: a WARN() may print any number of lines before its stack."""
        if len(self.messages) < MAX_WORDS:
            self.messages.append(text.strip()[:300])
        else:
            self.unsaid += 1

    def left_out(self) -> Iterator[LeftOut]:
        """What limits kept out of the report."""
        kept = len(self.messages)
        yield LeftOut("lines of the kernel's words", kept, kept + self.unsaid, "the first are kept")
        if self.oom is not None:
            yield from self.oom.left_out()

    def open_block(self, block: Block, line: Line) -> None:
        """Go on with another task or CPU."""
        block.start, block.end = line.start, line.end
        self.block = block
        self.blocks.append(block)
        self.stack = None
        self.holder = None

    def open_stack(
        self,
        role: TraceRole,
        line: Line,
        *,
        pid: int | None = None,
        cpu: int | None = None,
        titled: bool = True,
    ) -> StackDraft:
        """Begin a stack with its introducing line, or unannounced with its first frame."""
        stack = StackDraft(
            role,
            line.text.strip()[:200] if titled else "",
            self.block,
            pid,
            cpu,
            line.time,
            start=line.start,
        )
        stack.end = line.end
        self.stacks.append(stack)
        self.stack = stack
        self.holder = None
        return stack

    def unkept_stack(self, line: Line) -> StackDraft:
        """A stack for frames that are none of the report's."""
        return StackDraft("origin", "", Block("panic"), start=line.start, end=line.end)
