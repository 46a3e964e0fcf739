"""Whether a report is whole, as far as its stacks can tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kagent.klog.culprit import RISCV_REGS, STACK_LINES, STACK_STARTS, starts_stack

__all__ = ["broken_stacks"]

_STACK_WORDS = ("all", "llocated", "reed", "acktrace:", "backtrace", "Uninit", "badaddr")
_LOOK_AHEAD = 15


def broken_stacks(lines: Sequence[str]) -> str | None:
    """Every kind of stack that is announced must come with a frame soon."""
    announced: dict[re.Pattern[str], int] = {}
    for index, text in enumerate(lines):
        if any(word in text for word in _STACK_WORDS):
            for start in STACK_STARTS:
                if start not in announced and start.search(text):
                    announced[start] = index
    any_frame = False
    for start in STACK_STARTS:
        if start not in announced:
            continue
        index = announced[start]
        if len(lines) - index < 3:
            return "the log ends where a stack begins"
        if _has_frame(lines[index + 1 : index + 1 + _LOOK_AHEAD]):
            any_frame = True
        elif start is not RISCV_REGS:
            return "a stack is announced but has no frames"
    return None if any_frame else "it has no stack"


def _has_frame(lines: Sequence[str]) -> bool:
    for text in lines:
        if starts_stack(text):
            return False
        if "(stack is not available)" in text or any(f.search(text) for f in STACK_LINES):
            return True
    return False
