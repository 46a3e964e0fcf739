"""What a kernel log says, as typed values. Everything here is plain data, cheap to pass around.

Spans are byte offsets ``[start, end)`` into the log as given (UTF-8 for ``str`` input), so that
any fact can be traced back to the exact bytes that state it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from kagent.klog.frame_model import Frame
from kagent.klog.oom_model import OomFacts

__all__ = [
    "Access",
    "ChainLink",
    "Context",
    "Frame",
    "KernelLog",
    "LeftOut",
    "LockRef",
    "LockdepFacts",
    "MemoryObject",
    "Report",
    "TaskState",
    "Trace",
    "TraceRole",
]

TraceRole = Literal["call", "alloc", "free", "origin", "store", "work", "lock", "task", "cpu"]
"""Why a stack was printed.

call: the report's own; alloc/free/origin/store: sanitizer history; work: "Last potentially
related work creation"; lock: a lockdep acquisition; task: another task's stack; cpu: an NMI
backtrace of another CPU.
"""


@dataclass(frozen=True, slots=True)
class Trace:
    """A stack, innermost frame first."""

    role: TraceRole
    frames: tuple[Frame, ...]
    title: str = ""
    """The line that introduces it, e.g. ``Freed by task 65:``."""
    task: str | None = None
    pid: int | None = None
    cpu: int | None = None
    time: float | None = None
    span: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Context:
    """Where and as what the report was raised."""

    cpu: int | None = None
    task: str | None = None
    pid: int | None = None
    kernel: str | None = None
    """The release, as ``uname -r`` prints it."""
    build: str | None = None
    """What follows the release on the CPU line, e.g. ``#1 Debian 6.1.192-2``."""
    build_id: str | None = None
    """Of vmlinux, where the kernel prints it there (CONFIG_STACKTRACE_BUILD_ID)."""
    arch: str | None = None
    """x86_64, i386, arm64, arm, riscv64, ppc64le, ppc64, ppc, s390x, mips64, mips or loongarch."""
    hardware: str | None = None
    taint: str | None = None
    """Taint letters without blanks (``GOE``); None when the log does not say, "" when clean."""
    workqueue: str | None = None
    modules: tuple[str, ...] = ()
    """``Modules linked in:``, without taint flags."""
    unloaded: str | None = None
    """The module that was unloaded last, where the log says so."""
    out_of_tree: tuple[str, ...] = ()
    """Modules that the log itself marks as built outside of the kernel's tree: ``nvidia(PO)``.

    The taint letter O alone is of the whole kernel and proves it of no module."""
    time: float | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """The memory access that was refused or found wrong."""

    kind: Literal["read", "write", "exec", "free"] | None = None
    size: int | None = None
    address: int | None = None
    task: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryObject:
    """The object a sanitizer says the address belongs to."""

    address: int | None = None
    cache: str | None = None
    size: int | None = None
    offset: int | None = None
    """Bytes from the object's start; negative when the access lies before it."""
    description: str = ""
    """The kernel's own words, joined to one line."""


@dataclass(frozen=True, slots=True)
class LockRef:
    """One printed lock: ``ffff.. (&tbl.lock){+.+.}-{2:2}, at: port_reset+0xf/0x40 [portstat]``."""

    name: str
    address: int | None = None
    """Of ``dep_map`` as lockdep prints it, not of the lock itself."""
    usage: str | None = None
    wait_type: str | None = None
    at: Frame | None = None
    index: int | None = None
    """``#N`` in a list of held locks."""
    span: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class ChainLink:
    """``-> #N (class){...}:`` of a lockdep chain with the stack that took it."""

    index: int
    lock: LockRef
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class IrqProof:
    """Why an interrupt can close a circle: it takes the first lock of `path`, while the last one
    may be held when the interrupt comes in.

    Each lock of the path was taken while the one before it was held, on the stack that it carries;
    the first carries none. One lock alone is its own circle.
    """

    irq: str
    """HARDIRQ, SOFTIRQ, NMI or (before 4.15) RECLAIM_FS."""
    path: tuple[ChainLink, ...]
    safe_at: tuple[Frame, ...] = ()
    """The stack on which an interrupt took the first lock of the path."""
    unsafe_at: tuple[Frame, ...] = ()
    """The stack that took the last lock of the path with interrupts enabled."""
    here: Literal["safe", "unsafe", "order"] = "order"
    """Which of these the reporting task did: took the first lock in an interrupt, the last one
    outside, or two of the path in this order."""


@dataclass(frozen=True, slots=True)
class LockdepFacts:
    """What a lockdep report states."""

    variant: str
    """circular, recursive, inconsistent-state, irq-safe-unsafe, irq-inversion, wait-context,
    bad-unlock, held-freed, held-at-return, held-at-exit, suspicious-rcu or other."""
    task: str | None = None
    pid: int | None = None
    acquiring: LockRef | None = None
    holding: tuple[LockRef, ...] = ()
    chain: tuple[ChainLink, ...] = ()
    """In the kernel's order: ``#N`` first, ``#0`` (the new acquisition) last."""
    states: tuple[str, str] | None = None
    """``{IN-HARDIRQ-W} -> {HARDIRQ-ON-W}`` of an inconsistent lock state."""
    irq: IrqProof | None = None
    """Of irq-safe-unsafe, irq-inversion and inconsistent-state reports."""


@dataclass(frozen=True, slots=True)
class TaskState:
    """One task as a hung-task report, a sysrq dump, a lockup or a held-locks list shows it."""

    comm: str
    pid: int
    state: str | None = None
    """D, S, R, ... as printed by ``sched_show_task``."""
    cpu: int | None = None
    blocked_seconds: int | None = None
    running: bool = False
    """True when it was caught on a CPU (lockup, NMI backtrace)."""
    pc: Frame | None = None
    frames: tuple[Frame, ...] = ()
    held: tuple[LockRef, ...] = ()
    unlisted: int = 0
    """Locks that lockdep counted and did not list, as it does for running tasks."""
    owner: tuple[str, int] | None = None
    """``blocked on a mutex likely owned by task`` (comm, pid), printed since 6.16."""
    last_owner: bool = False
    """True when `owner` only held it last: of a semaphore, or as one of an rwsem's readers."""
    workqueue: str | None = None
    source: Literal["hung-task", "sysrq", "lockup", "held-locks", "rcu-stall", "oops"] = "hung-task"
    span: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Report:
    """One kernel report in a log."""

    title: str
    """In syzbot's form: ``KASAN: slab-use-after-free Read in foo``."""
    kind: str
    """syzbot's type name: KASAN-USE-AFTER-FREE-READ, NULL-POINTER-DEREFERENCE, LOCKDEP, ..."""
    header: str
    """The line that announces it, without prefix."""
    span: tuple[int, int]
    context: Context = field(default_factory=Context)
    pc: Frame | None = None
    """The trapping instruction (``RIP:``, ``pc :``, ``NIP``) of the kernel."""
    traces: tuple[Trace, ...] = ()
    registers: dict[str, int] = field(default_factory=dict)
    """Lower-case names; ``cr2`` and ``far`` included where printed."""
    code: str | None = None
    """The ``Code:`` line's text; the trapping byte or word stands in ``<>`` or ``()``."""
    access: Access | None = None
    memory: MemoryObject | None = None
    locks: LockdepFacts | None = None
    oom: OomFacts | None = None
    """Who asked for memory, who had it and who was killed, of an out-of-memory report."""
    tasks: tuple[TaskState, ...] = ()
    alt_titles: tuple[str, ...] = ()
    frame: str | None = None
    """The function the title blames."""
    corrupted: bool = False
    corrupted_reason: str | None = None
    panicked: bool = False
    """A panic line follows this report."""
    kernel_bug: bool = True
    """False for reports that blame user space or an operator: segfault lines, sysrq-c."""
    caused_by: int | None = None
    """Index of the report in the same log that this one is a consequence of."""
    repeats: int = 0
    """How many identical later reports were folded into this one."""
    fingerprint: str = ""
    message: str = ""
    """What the kernel said around the header in its own words, one line each: the text of a
    WARN(), ``list_add corruption. ...``, ``index 8 is out of range for type ...``."""

    def trace(self, role: TraceRole) -> Trace | None:
        """The first stack of that role."""
        return next((t for t in self.traces if t.role == role), None)

    @property
    def is_bare_remark(self) -> bool:
        """Whether nothing but a header of no known wording is there: no stack, no registers."""
        if self.pc or any(trace.frames for trace in self.traces):
            return False
        return self.kind in ("UNKNOWN", "WARNING") and self.frame is None

    @property
    def call_frames(self) -> tuple[Frame, ...]:
        """The report's own stack, the trapping PC first (and once: some architectures print it
        as the first entry of the stack, too).
        """
        call = self.trace("call")
        frames = call.frames if call else ()
        if self.pc is None:
            return frames
        first = frames[0] if frames else None
        repeated = first is not None and first.exact and first.symbol == self.pc.symbol
        return (self.pc, *frames[repeated:])

    def all_frames(self) -> Iterator[tuple[TraceRole, Frame]]:
        """Every frame with its stack's role; the call stack comes first."""
        for frame in self.call_frames:
            yield "call", frame
        seen_call = False
        for trace in self.traces:
            if trace.role == "call" and not seen_call:
                seen_call = True
                continue
            for frame in trace.frames:
                yield trace.role, frame


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was not read or kept because there was too much of it."""

    what: str
    """``alike reports``, ``rows of the task table``, ... in the plural."""
    kept: int
    total: int | None
    """None where counting on would have cost what the limit saves."""
    why: str


@dataclass(frozen=True, slots=True)
class KernelLog:
    """All that was found in one log, in its order."""

    reports: tuple[Report, ...]
    tasks: tuple[TaskState, ...] = ()
    """Every task stack of the log: hung tasks, sysrq w/t, held-locks lists, lockups."""
    size: int = 0
    """Bytes of the log."""
    left_out: tuple[LeftOut, ...] = ()
    """What limits kept from being read; empty for all but floods and very large reports."""

    @property
    def primary(self) -> int | None:
        """Index of the report to analyse first: the first cause, not its echoes.

        A kernel that finds a fault prints registers or a stack, or dies at once. A lone ``BUG:`` or
        ``WARNING:`` of a wording that no kernel check has is some driver's remark, in words that
        pr_err() lets anybody choose: it comes first only where it is followed by a stack of its
        own or, within a second, by a panic, or where the log has nothing else.
        """
        causes = [i for i, r in enumerate(self.reports) if r.caused_by is None]
        ours = [i for i in causes if self.reports[i].kernel_bug]
        proven = [i for i in ours if not self._is_remark(i)]
        return next(iter(proven or ours or causes), None)

    def _is_remark(self, index: int) -> bool:
        report = self.reports[index]
        if not report.is_bare_remark:
            return False
        following = self.reports[index + 1] if index + 1 < len(self.reports) else None
        if following is None or not following.title.startswith("kernel panic:"):
            return True
        then, now = following.context.time, report.context.time
        return None not in (then, now) and not 0 <= (then or 0) - (now or 0) <= 1
