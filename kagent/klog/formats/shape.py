"""The vocabulary of the tables: families, formats, and where to look for the culprit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

__all__ = [
    "AT",
    "BAD_ACCESS",
    "CALL_TRACE",
    "CIRCULAR",
    "FAULT",
    "INVERSION",
    "LOCK_SOCK",
    "PC_ONLY",
    "RECURSIVE",
    "RETURN_WITH_LOCK",
    "STACK",
    "TRACE",
    "TRAPPING_PC",
    "UNLOCK",
    "USB_TRANSFER",
    "Before",
    "Blame",
    "Family",
    "Format",
    "Stack",
    "Step",
    "after",
    "any_of",
    "rx",
    "trace",
    "warning",
    "way",
]

Picker = Literal["first", "stall", "hung"]


class Stack(Enum):
    """Step of a :class:`Blame`: take the frames up to the next step's line or the next stack."""

    HERE = 0


STACK = Stack.HERE


@dataclass(frozen=True, slots=True)
class Before:
    """Step of a :class:`Blame`: as a regex step, but given up at a line that matches `barrier`."""

    pattern: re.Pattern[str]
    barrier: re.Pattern[str]


Step = re.Pattern[str] | Before | Stack


@dataclass(frozen=True, slots=True)
class Blame:
    """Which stack names the culprit.

    A way is a list of steps from the header on. A regex step moves on to the line it matches, and
    its groups are frames; ``STACK`` takes a whole stack. The first way that yields a frame counts.
    """

    ways: tuple[tuple[Step, ...], ...]
    rescue: tuple[Step, ...] = ()
    """The way to try when these fail; what they came to stands unless it names everybody."""
    skip: str = ""
    """Names to pass over here besides :mod:`kagent.klog.blameless`; blank-separated regexes."""
    pick: Picker = "first"


@dataclass(frozen=True, slots=True)
class Format:
    """One header and its title."""

    header: re.Pattern[str]
    title: str
    alt: tuple[str, ...] = ()
    details: tuple[re.Pattern[str], ...] = ()
    """Must match, in order; the first from the header line on, the others further down."""
    blame: Blame | None = None
    stackless: bool = False
    """True where such a report may have no stack and still be whole."""
    broken: bool = False
    """True where this header alone proves that the better one was lost."""
    kind: str | None = None
    """For what :mod:`kagent.klog.kinds` cannot tell from the title."""
    kernel_bug: bool = True
    """False where user space or an operator is to blame."""


@dataclass(frozen=True, slots=True)
class Family:
    """All formats that share a literal."""

    marker: str
    formats: tuple[Format, ...]
    lookalikes: re.Pattern[str] | None = None
    strict: bool = False
    """True where the marker proves nothing without a format's header."""
    weak: bool = False
    """True for lines that usually go on with a report whose header stands above."""
    dump: bool = False
    """True for lists of tasks that somebody asked for: no report."""


_MACROS = {
    "<FUNC>": r"([A-Za-z0-9_]+)[.+]",
    "<SRC>": r"[A-Za-z0-9\-_/.]+\.[a-z]+:[0-9]+",
    "<PC>": r"\[<?(?:0x)?[0-9a-f]+>?\]",
}


def rx(pattern: str) -> re.Pattern[str]:
    for macro, text in _MACROS.items():
        pattern = pattern.replace(macro, text)
    return re.compile(pattern, re.ASCII)


def any_of(*patterns: str) -> re.Pattern[str]:
    return rx("|".join(patterns))


# ── where to look for the culprit ────────────────────────────────────────────────────────────

CALL_TRACE = rx(r"Call [Tt]race:|Backtrace:")
TRAPPING_PC = any_of(
    r"(?:IP|NIP|pc |PC is at):? (?:[0-9]+:)?(?:<PC> +){0,2}<FUNC>",
    r"(?:IP|NIP|pc |PC is at):? (?:[0-9]+:)?(?:0x[0-9a-f]+|<PC> +\[< *\(null\)>\] +\(null\))",
    r"(?:IP|NIP|pc |PC is at):? [0-9]+: +\(null\)",
    r"(?:epc|ERA) *: [0-9a-f]{8,16} <FUNC>",  # mips, loongarch
    r"Krnl PSW : [0-9a-f]{16} [0-9a-f]{16} \(<FUNC>",  # s390
)
AT = rx(r"at: (?:<PC> +)?<FUNC>")


def way(*steps: Step, skip: str = "", pick: Picker = "first") -> Blame:
    return Blame((steps,), skip=skip, pick=pick)


FAULT = way(TRAPPING_PC, CALL_TRACE, STACK)
TRACE = way(CALL_TRACE, STACK)
PC_ONLY = way(TRAPPING_PC)


def trace(skip: str) -> Blame:
    return way(CALL_TRACE, STACK, skip=skip)


def warning(skip: str = "") -> Blame:
    # WARN() traps: the PC and the stack below it. Where it is a call, only the stack is printed.
    warn_pc = any_of(TRAPPING_PC.pattern, r"--- interrupt: [0-9]+ at <FUNC>")
    return Blame(((warn_pc, STACK), (CALL_TRACE, STACK)), skip=skip)


def after(header: str) -> Blame:
    """The function in the header itself, then the stack right below it."""
    return way(rx(header), STACK)


# ── what several tables share ────────────────────────────────────────────────────────────────

BAD_ACCESS = ("bad-access in {frame}",)
USB_TRANSFER = "usb_submit_urb usb_start_wait_urb usb_bulk_msg usb_interrupt_msg usb_control_msg"
CIRCULAR = r"possible circular locking dependency detected"
INVERSION = r"possible irq lock inversion dependency detected"
RECURSIVE = r"possible recursive locking detected"
RETURN_WITH_LOCK = (
    rx(r"leaving the kernel with locks still held"),
    rx(r"at: (?:<PC> +)?(?P<frame>[A-Za-z0-9_]+)[.+]"),
)
UNLOCK = way(rx(r"<PC> +<FUNC>"), CALL_TRACE, STACK)
LOCK_SOCK = "lock_sock release_sock"
