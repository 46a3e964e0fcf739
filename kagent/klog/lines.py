"""Console lines: what precedes the kernel's own text is peeled off and remembered.

A line may have been through a serial console (CR LF, terminal escapes), syslog, journald,
``dmesg -T``/``-x``, ``/dev/kmsg``, Android's logger, netconsole or a mail client (``> ``). Peeling
works on bytes so that every :class:`Line` knows where its text stands in the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kagent.klog.blanks import Plain, plain
from kagent.text import strip_control

__all__ = [
    "CONSOLE",
    "MAX_LINE",
    "NO_CALLER",
    "NO_STAMP",
    "PLAIN",
    "USER",
    "Line",
    "peel",
    "split_lines",
]

MAX_LINE = 4096
"""Bytes of a line that are looked at: printk's own limit is 1024 plus its prefixes."""

CONSOLE = "console"
"""Context of lines with a time stamp but no caller."""
USER = "user"
"""Context of lines that say themselves that a program wrote them, to /dev/kmsg or syslog."""
PLAIN = ""
"""Context of lines without any kernel prefix."""

NO_STAMP = "[1234.123]"
NO_CALLER = "[ T1]"
"""What :func:`kagent.klog.reformat` puts where a log has no stamp or caller. printk() pads callers
to six characters, so its own ``[    T1]`` differs."""

_WEEKDAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = rb"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"

# Wrappers around a kernel line, outermost first; each is tried once, in this order.
_QUOTE = re.compile(rb"(?:[>|] ?){1,8}")
_DROPPED = re.compile(rb"\*\* \d{1,9} printk messages dropped \*\* ")
_LOGIN = re.compile(rb".{0,200} login: (?=\[|<)")
_SYSLOG = re.compile(
    rb"(?:"
    rb"(?:" + _WEEKDAY + rb" )?" + _MONTH + rb" [ \d]\d " + _CLOCK + rb"(?: \d{4})?"
    rb"|\d{4}-\d\d-\d\d[T ]" + _CLOCK + rb"(?:Z|[+-]\d\d:?\d\d)?"
    rb"|\[ {0,8}\d{1,9}\.\d{1,9}\](?= \S{1,64} kernel: )"  # journalctl -o short-monotonic
    rb")"
    rb"(?: (?!kernel:)\S{1,64})? (?:kernel|\w{1,8}\.\w{1,8} kernel)(?:\[\d{1,9}\])?: "
)
_LOGCAT = re.compile(
    rb"\d\d-\d\d "
    + _CLOCK
    + rb" {1,8}(?:\w{1,16} {1,8})?\d{1,9} {1,8}\d{1,9} [VDIWEF] [^:]{0,40}: "
)
_ISO = re.compile(rb"\d{4}-\d\d-\d\dT" + _CLOCK + rb"(?:Z|[+-]\d\d:?\d\d)? ")
# A program's line in a syslog: its name and pid, where the kernel's has "kernel".
_PROGRAM = re.compile(
    rb"(?:"
    + _MONTH
    + rb" [ \d]\d "
    + _CLOCK
    + rb"|\d{4}-\d\d-\d\d[T ]"
    + _CLOCK
    + rb"(?:Z|[+-]\d\d:?\d\d)?) \S{1,64} (?!kernel\[)[\w@./-]{1,64}\[\d{1,10}\]: "
)
_KMSG = re.compile(rb"(\d{1,3}),\d{1,12},(\d{1,15}),[-c+](?:,caller=([CT]\d{1,9}))?[^;]{0,64};")
_FACILITY = re.compile(rb"[a-z]{1,10}\d? {0,8}:[a-z]{1,8} {0,6}: ")
_LEVEL = re.compile(rb"<(\d{1,3})>")
_KERNELS = 8
"""Priorities below it are of facility 0, the kernel's; devkmsg_write() lets nobody else use it."""
_HUMAN = re.compile(
    rb"\[" + _WEEKDAY + rb" " + _MONTH + rb" [ \d]\d " + _CLOCK + rb" \d{4}\](?: |$)"
)
_STAMP = re.compile(rb"[ \t]{0,32}\[ {0,8}(\d{1,9})\.(\d{1,9})(?:@\d{1,3})?\]")
_CALLER = re.compile(rb" ?\[ {0,8}([CT])(\d{1,9})(?:@\d{1,4})?\]")
_VENDOR = re.compile(
    rb" ?(?:\(CPU:\d{1,4}-pid:(\d{1,9}):[^)]{0,32}\)"
    rb"|(?:<\d>\.?)?\(\d{1,3}\)\[(\d{1,9}):[^\]]{0,32}\]"
    rb"|[cC]\d{1,3} {1,8}(\d{1,9}) \([^)]{0,32}\))"
)
# What reformat() puts behind a prefix that states time and caller in its own way.
_RESTATED = re.compile(rb" ?\[\d{1,10}\.\d{6}\]\[ {0,8}[CT]\d{1,9}\](?: |$)")
_NO_STAMP, _NO_CALLER = NO_STAMP.encode(), NO_CALLER.encode()
_WRAPPERS = (_DROPPED, _LOGIN, _LOGCAT, _SYSLOG, _ISO, _FACILITY)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: ``data[start:end]`` without its terminator; ``text`` begins at byte `body`."""

    start: int
    end: int
    body: int
    text: str
    time: float | None = None
    context: str = PLAIN
    """PLAIN, CONSOLE, ``syslog``, or the caller as printk writes it (``T61``, ``C0``)."""
    indents: tuple[int, ...] = ()
    """Bytes of the first one, two, ... blanks of `text`, where they are not one byte each."""

    def indent_bytes(self, blanks: int) -> int:
        """How many bytes of the log the first `blanks` characters of `text`, all blanks, take."""
        return self.indents[blanks - 1] if self.indents and blanks else blanks

    @property
    def caller(self) -> str | None:
        """``T<pid>`` or ``C<cpu>`` where the log has CONFIG_PRINTK_CALLER prefixes."""
        return self.context if self.context[:1] in ("T", "C") else None

    @property
    def span(self) -> tuple[int, int]:
        """The text without the prefix."""
        return min(self.body, self.end), self.end


def peel(raw: bytes) -> tuple[int, float | None, str]:
    """Return (length of the prefix, seconds since boot, context) of one raw line."""
    at = 0
    context = PLAIN
    if match := _QUOTE.match(raw):
        at = match.end()
    if raw[at : at + 1] in b"[< \t":  # the common case: nothing but printk's own prefix
        if match := _SYSLOG.match(raw, at):
            at, context = match.end(), "syslog"
    else:
        if match := _PROGRAM.match(raw, at):
            return _as_user(raw, match.end())
        for wrapper in _WRAPPERS:
            if match := wrapper.match(raw, at):
                at = match.end()
                if wrapper in (_SYSLOG, _LOGCAT):
                    context = "syslog"
                elif wrapper is _FACILITY and not match[0].startswith(b"kern"):
                    return _as_user(raw, at)
        if match := _KMSG.match(raw, at):
            caller = match[3].decode("ascii") if match[3] else CONSOLE
            context = caller if int(match[1]) < _KERNELS else USER
            return _behind_restated(raw, match.end()), int(match[2]) / 1e6, context
    if match := _LEVEL.match(raw, at):
        at = match.end()
        if int(match[1]) >= _KERNELS:
            return _as_user(raw, at)
    if match := _HUMAN.match(raw, at):
        at, context = match.end(), CONSOLE
    if not (match := _STAMP.match(raw, at)):
        return at, None, context
    time: float | None = float(match[1] + b"." + match[2])
    before, at, context = context, match.end(), CONSOLE
    if raw.startswith(_NO_CALLER, at):  # reformatted: no caller, maybe no time stamp
        at += len(_NO_CALLER)
        if match[0].lstrip() == _NO_STAMP:
            time, context = None, before
    elif match := _CALLER.match(raw, at):
        at, context = match.end(), (match[1] + match[2]).decode("ascii")
    elif match := _VENDOR.match(raw, at):
        pid = match[1] or match[2] or match[3]
        at, context = _behind_restated(raw, match.end()), "T" + pid.decode("ascii")
    if raw[at : at + 1] == b" ":
        at += 1
    elif at < len(raw):  # "[1.0]text" is no printk prefix
        return (0, None, PLAIN) if context == CONSOLE else (at, time, context)
    return at, time, context


def _as_user(raw: bytes, at: int) -> tuple[int, float | None, str]:
    """A line whose facility is not the kernel's; time and caller are printk()'s all the same."""
    if match := _STAMP.match(raw, at):
        at = match.end()
        if raw.startswith(_NO_CALLER, at):
            at += len(_NO_CALLER)
        elif caller := _CALLER.match(raw, at):
            at = caller.end()
        at += raw[at : at + 1] == b" "
        return at, float(match[1] + b"." + match[2]), USER
    return at, None, USER


def _behind_restated(raw: bytes, at: int) -> int:
    """Where the text begins when the prefix of a reformatted line ends at `at`."""
    match = _RESTATED.match(raw, at)
    return match.end() if match else at


def split_lines(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Line]:
    r"""Yield the lines of ``data[start:end]``; ``\n``, ``\r\n`` and ``\r\r\n`` end a line."""
    stop = len(data) if end is None else end
    while start < stop:
        newline = data.find(b"\n", start, stop)
        newline = stop if newline < 0 else newline
        last = newline
        if data[newline - 1] == 0x0D:
            last = start + len(data[start:newline].rstrip(b"\r"))
        yield _line(data[start : min(last, start + MAX_LINE)], start, last)
        start = newline + 1


def _line(raw: bytes, start: int, end: int) -> Line:
    smooth = plain(raw)
    if smooth is not None:
        raw = smooth.data
    skip = _terminal_noise(raw) if raw[:1] in (b"\x1b", b"\r", b"\x00") else 0
    size, time, context = peel(raw[skip:] if skip else raw)
    body = skip + size
    text = raw[body:].decode("utf-8", "replace")
    if not text.isascii() or not text.isprintable():
        text = strip_control(text).replace("\n", " ")
    text = text.rstrip()
    if smooth is None:
        return Line(start, end, start + body, text, time, context)
    origin = smooth.origin(body)
    return Line(start, end, start + origin, text, time, context, _indents(smooth, body, origin))


def _indents(smooth: Plain, body: int, origin: int) -> tuple[int, ...]:
    blanks = len(smooth.data) - body - len(smooth.data[body:].lstrip(b" "))
    return tuple(smooth.origin(body + n) - origin for n in range(1, min(blanks, 32) + 1))


_NOISE = re.compile(
    rb"(?:\x1b\[[0-?]{0,32}[ -/]{0,4}[@-~]|\x1b[()][0-9A-Za-z]|\x1b[78=>cM]|\r|\x00)+"
)


def _terminal_noise(raw: bytes) -> int:
    """Length of the escapes (colour, clear screen) in front of a line."""
    match = _NOISE.match(raw)
    return match.end() if match else 0
