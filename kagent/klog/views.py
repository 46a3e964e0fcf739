"""The lines that belong to one report's context, as the title rules want them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kagent.klog.scan import Candidate, Region

__all__ = ["View", "view_of"]

# A title is made of a report's first lines and its first stack; all else is read without a view.
MAX_LINES = 3000
_MAX_HEADERS = 12

# These go on with a report instead of beginning another one.
_CONTINUES = re.compile(
    r"invalid opcode: 0000|Kernel panic - not syncing|unregister_netdevice: waiting for"
    r"|PANIC: double fault|Internal error:"
)
# Not reports, yet they print a stack: what follows may belong to them.
_FOREIGN_STACK = re.compile(
    r"vmalloc: allocation failure:|FAULT_INJECTION: forcing a failure"
    r"|FAULT_FLAG_ALLOW_RETRY missing"
)
_GUESSED = re.compile(r"(?:\[<[0-9a-f]+>\])? \? ")
_ALL_CPUS = "Sending NMI from CPU"
_TAINT_NOTE = "Disabling lock debugging due to kernel taint"
_ECHO = re.compile(
    r"Kernel panic - not syncing|WARNING: possible circular locking dependency detected"
)


@dataclass(frozen=True, slots=True)
class View:
    """Text of a report's own context, from its header on."""

    lines: list[str]
    """Up to where another report may begin to mix in."""
    whole: list[str]
    at: list[int]
    """Where each of `whole` stands in the region."""
    ends: list[int]
    """Where each of `whole` ends in the log."""


def view_of(region: Region, candidate: Candidate) -> View:
    """Collect what the header's CPU or task went on to print."""
    lines = region.lines
    header = lines[candidate.index]
    has_caller = header.caller is not None
    enough = 16 if "BUG: KMSAN:" in header.text else 22
    whole, ends, at = [header.text], [header.end], [candidate.index]
    limit: int | None = None
    all_cpus = muted = False
    seen, printed = 0, 1
    for index in range(candidate.index + 1, min(candidate.index + MAX_LINES, len(lines))):
        line = lines[index]
        text = line.text
        seen += index in region.announced
        if seen > _MAX_HEADERS:
            break
        if limit is None and not has_caller and _another_begins(region, index):
            limit = len(whole)
        if line.context != header.context and not (all_cpus and line.context[:1] == "C"):
            continue
        if line.context and _is_guess(text):
            continue
        all_cpus = all_cpus or _ALL_CPUS in text
        # The stack of panic_on_warn, or lockdep's complaint about the oops itself.
        muted = muted or (printed >= enough and _ECHO.search(text) is not None)
        printed += 1
        if not muted and _TAINT_NOTE not in text:
            whole.append(text)
            ends.append(line.end)
            at.append(index)
    return View(whole[:limit], whole, at, ends)


def _another_begins(region: Region, index: int) -> bool:
    text = region.lines[index].text
    if index not in region.announced:
        return _FOREIGN_STACK.search(text) is not None
    return _CONTINUES.search(text) is None


def _is_guess(text: str) -> bool:
    """Whether a frame was found on the stack, not by unwinding it."""
    if "<EOI>" in text:
        return False
    return text.endswith("(unreliable)") or _GUESSED.search(text) is not None
