"""Undoing what mail clients and slides do to lines: folding and indentation."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import replace

from kagent.klog.lines import PLAIN, Line

__all__ = ["dedent", "unwrap"]

_WIDTH = 80
"""Clients fold at 72 to 78 columns; a console log with no line longer than this is rare."""
_NARROW = 50
_MAX_FOLDS = 4
_MAX_INDENT = 16

# printk() formats that cannot end here.
_UNFINISHED = re.compile(
    r"(?:BUG: (?:unable to handle(?: kernel)?(?: page fault(?: for(?: address:?)?)?| NULL pointer"
    r"(?: dereference)?(?: at)?)?| kernel NULL(?: pointer(?: dereference,(?: address:)?)?)?)"
    r"|BUG: sleeping function called(?: from(?: invalid(?: context(?: at)?)?)?)?"
    r"|INFO: task \S{1,64}(?: blocked(?: for(?: more(?: than(?: \d{1,6})?)?)?)?)?"
    r"|WARNING: possible(?: circular| recursive)?(?: locking(?: dependency)?)?"
    r"|(?:WARNING: )?CPU: \d{1,4} PID: \d{1,9}(?: at)?"
    r"|WARNING: \S{1,200}:\d{1,6}(?: at)?|probably for(?: non-canonical(?: address)?)?"
    r"|(?:at )?virtual address|Kernel panic - not(?: syncing:)?|is trying to acquire)$"
)
# Those that a function ends, and how it looks.
_LACKS_FUNCTION = re.compile(
    r"(?:BUG: K[A-Z]{1,2}SAN: [a-z-]{1,40}(?: in)?|PID: \d{1,9} at \S{1,200}:\d{1,6})$"
)
_PLACE = r"\S{1,255}\.[chS]:\d{1,7}(?: \[inline\])?$"
_FUNCTION = re.compile(r"(?:in )?[\w.]{1,200}(?:\+0x[0-9a-f]| " + _PLACE + ")")
# What symbolizers add to a function that was inlined.
_LACKS_PLACE = re.compile(
    r"(?:BUG: K[A-Z]{1,5}: [a-z -]{1,40} in|PID: \d{1,9} at \S{1,200}:\d{1,6}) \w{1,200}$"
)
_INLINED = re.compile(_PLACE)


def unwrap(lines: Sequence[Line]) -> list[Line]:
    """Return `lines` with folded ones joined; spans go from the first piece to the last."""
    narrow = _is_narrow(lines)
    joined: list[Line] = []
    folds = 0
    for line in lines:
        last = joined[-1] if joined else None
        if last is not None and folds < _MAX_FOLDS and _goes_on(last, line, narrow):
            text = f"{last.text} {line.text.strip()}"
            joined[-1] = replace(last, end=line.end, text=text)
            folds += 1
        else:
            joined.append(line)
            folds = 0
    return joined


def _is_narrow(lines: Sequence[Line]) -> bool:
    """Whether every line fits a mail, and those without a stamp are the rest of others."""
    stamped = [index for index, line in enumerate(lines) if line.time is not None]
    if not stamped or any(line.end - line.start > _WIDTH for line in lines):
        return False
    last = lines[stamped[0]]
    for line in lines[stamped[0] + 1 : stamped[-1]]:
        rest = line.context == PLAIN != last.context and line.text.strip()
        if rest and not (_fills(last, line) or _lacks(last, line)):
            return False
        last = line
    return True


def _goes_on(last: Line, line: Line, narrow: bool) -> bool:
    if line.context != PLAIN or not line.text.strip():
        return False
    if _lacks(last, line):
        return True
    return narrow and last.context != PLAIN and _fills(last, line)


def _lacks(last: Line, line: Line) -> bool:
    """Whether the kernel never ends `last` there, and goes on as `line` does."""
    if "+0x" in last.text or "Call Trace" in line.text:
        return False
    if _LACKS_PLACE.search(last.text):
        return _INLINED.match(line.text.lstrip()) is not None
    if _LACKS_FUNCTION.search(last.text):
        return _FUNCTION.match(line.text.lstrip()) is not None
    return _UNFINISHED.search(last.text) is not None


def _fills(last: Line, line: Line) -> bool:
    """Whether the first word of `line` found no room in `last`."""
    first_word = line.text.split(None, 1)[0]
    columns = last.body - last.start + len(last.text)
    return columns > _NARROW and columns + 1 + len(first_word) > _WIDTH - 16


def dedent(lines: Sequence[Line], headers: Container[int]) -> list[Line]:
    """Shift quoted reports to the left: the kernel prints no header with leading blanks.

    `headers` holds the first bytes of header lines. Lines with a kernel prefix stay.
    """
    shifted: list[Line] = []
    indent = 0
    for line in lines:
        text = line.text
        if line.context == PLAIN:
            own = min(len(text) - len(text.lstrip(" ")), _MAX_INDENT)
            if line.start in headers:
                indent = own
            if 0 < indent <= own:
                body = line.body + line.indent_bytes(indent)
                line = replace(line, body=body, text=text[indent:], indents=())
        shifted.append(line)
    return shifted
