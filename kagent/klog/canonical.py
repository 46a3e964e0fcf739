"""The canonical call trace: one form that every later step and any client understands.

A call-trace line becomes ``[1234.123][ T1] symbol+0xoff/0xsize``, every other line stays byte for
byte. Time stamp and caller are the log's own where it has them; the constants stand in where it
has none. What precedes the stamp (syslog prefix, mail quote, indentation) is kept, and so is all
that follows the symbol (``[module]``, ``file:line``); only the address columns of old kernels go.
"""

from __future__ import annotations

import re

from kagent.klog.blanks import plain
from kagent.klog.frames import CALLED_FROM, trace_match
from kagent.klog.lines import MAX_LINE, NO_CALLER, NO_STAMP, peel
from kagent.text import encoded

__all__ = ["reformat"]

_INDENT = re.compile(r"[ \t]*")


def reformat(text: str) -> str:
    """Return `text` with its call-trace lines in the canonical form.

    The number of lines does not change, line ends stay as they are, and reformatting again changes
    nothing. Any text is fit; one without a trace comes back as it is.
    """
    return "\n".join(_reformat_line(line) for line in text.split("\n"))


def _reformat_line(line: str) -> str:
    if ("+0x" not in line and "[inline]" not in line) or len(line) > MAX_LINE:
        return line
    body = line.rstrip("\r")
    end = line[len(body) :]
    raw, lone = encoded(body)
    if (smooth := plain(raw)) is not None:
        raw = smooth.data
        body = raw.decode("utf-8", lone)
    size, time, context = peel(raw)
    prefix = raw[:size].decode("utf-8", lone)
    rest = body[len(prefix) :]
    frame = _frame_text(rest)
    if frame is None:
        return line
    return _stamped(prefix, rest, time, context) + frame + end


def _frame_text(text: str) -> str | None:
    """A trace line from its ``? `` or symbol on; None for other lines."""
    match = trace_match(text)
    if match is None:
        return None
    if match.re is CALLED_FROM:
        return text[match.start("csym") : match.start("close")] + text[match.end("close") :]
    start = match.start("guess" if match["guess"] else "sym")
    if match.groupdict().get("open"):  # s390: "([<address>] symbol+0x1/0x2)", not reliable
        apart = text.startswith("[", match.end("open")) and not match["guess"]
        doubt = "? " if apart else ""
        return doubt + text[start : match.start("close")] + text[match.end("close") :]
    return text[start:]


_HAS_CALLER = re.compile(r"\] ?\[ *[CT]\d{1,9}(?:@\d{1,4})?\]$")
_HAS_STAMP = re.compile(r"\[ *\d{1,9}\.\d{1,9}(?:@\d{1,3})?\]$")


def _stamped(prefix: str, rest: str, time: float | None, context: str) -> str:
    """What goes before the symbol.

    A prefix that states time and caller in a way of its own (``/dev/kmsg``, vendors' consoles) is
    kept, and they are said again.
    """
    stamp = prefix.rstrip(" ")
    if _HAS_CALLER.search(stamp):
        return f"{stamp} "
    if _HAS_STAMP.search(stamp):
        return f"{stamp}{NO_CALLER} "
    indent = _INDENT.match(rest)
    blank = indent[0] if indent and not prefix.strip(" >|") else ""
    if time is None:
        return f"{prefix}{blank}{NO_STAMP}{NO_CALLER} "
    caller = f"[{context:>6}]" if context[:1] in ("T", "C") else NO_CALLER
    return f"{prefix}{blank}[{time:.6f}]{caller} "
