"""A log with the source lines of its frames written behind them, all else left as it is.

A frame line ends with where its instruction stands. The innermost function comes first, the one
that the frame names last::

     vfs_write+0xc7/0x3f0 at fs/read_write.c:584
     fan_apply+0x1e/0x70 [fanctl] at fanctl.c:12 in lookup, inlined at fanctl.c:23

One line in is one line out. Whatever else is wanted below a frame goes on lines that begin with
`MARGIN`, so that anybody can take everything out again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from kagent.klog.frame_model import Frame
from kagent.klog.frames import SYMBOL, parse_frame, parse_pc
from kagent.klog.lines import Line, split_lines
from kagent.klog.release import stated_kernels
from kagent.symbols.model import Location, Symbolized
from kagent.symbols.symbolizer import Symbolizer
from kagent.text import strip_control

__all__ = ["MARGIN", "Decoding", "FrameLine", "Insertion", "annotate", "frame_lines", "spell"]

MARGIN = "    | "
"""What the lines between those of the log begin with."""

_MAX_MENTION = 1024
# A place that ends a line of another kind: "BUG: KASAN: ... in foo+0x5/0x10 [mod]", "lr : foo+...",
# lockdep's "at: foo+...", "last enabled at (42): [<...>] foo+...".
_MENTION = re.compile(
    r"(?<![\w.$])(?P<sym>" + SYMBOL + r")\+0x(?P<off>[0-9a-f]{1,16})/0x(?P<size>[0-9a-f]{1,16})"
    r"(?: \[(?P<mod>[\w.-]{1,64})(?: (?P<build>[0-9a-f]{6,64}))?\])?\)?$"
)
_DECODED = re.compile(r"\+0x[0-9a-f]{1,16}/0x[0-9a-f]{1,16}(?: \[[\w. -]{1,130}\])?\)? at \S")
# kernel/panic.c, __warn(): states the trapping instruction, not a return address.
_STATES_PC = re.compile(r"WARNING: CPU: \d|WARNING: \S{1,255}:\d{1,7} at ")


@dataclass(frozen=True, slots=True)
class FrameLine:
    """A line of a log and the frames it states; two on arm: callee, then caller."""

    start: int
    end: int
    """Byte offsets into the log, the line's terminator left out."""
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Insertion:
    """Text to put into a log in front of byte `at`."""

    at: int
    text: str


@dataclass(slots=True)
class Decoding:
    """A decoded log."""

    insertions: list[Insertion] = field(default_factory=list)
    frames: int = 0
    """Frames in the log, repeated ones included."""
    decoded: int = 0
    approximate: int = 0
    """Those of `decoded` whose debug info is of another build."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why the others were not decoded."""

    def apply(self, data: bytes, kept: Callable[[bytes], bytes] | None = None) -> bytes:
        """The log with everything inserted; `kept` may change what comes from the log itself."""
        pieces: list[bytes] = []
        at = 0
        for new in self.insertions:
            pieces += [data[at : new.at], new.text.encode("utf-8", "replace")]
            at = new.at
        pieces.append(data[at:])
        if kept is not None:
            pieces[::2] = map(kept, pieces[::2])
        return b"".join(pieces)


def frame_lines(data: bytes) -> list[FrameLine]:
    """Every line of `data` that states frames without a source line, in order.

    Works line by line on any text. An architecture that begins the stack with the trapping
    instruction itself gets that entry marked `exact`, as a report's own stack has it.
    """
    found: list[FrameLine] = []
    trapped: Frame | None = None
    for line in _lines_with(data, b"+0x"):
        if _DECODED.search(line.text):
            continue
        pc = parse_pc(line)
        frames = (pc,) if pc else parse_frame(line) or _mentioned(line)
        if trapped and not pc and frames:
            frames = tuple(replace(f, exact=True) if _same(f, trapped) else f for f in frames)
        trapped = pc or trapped
        wanted = tuple(f for f in frames if f.offset is not None and f.file is None)
        if wanted:
            found.append(FrameLine(line.start, line.end, wanted))
    return found


def _lines_with(data: bytes, word: bytes) -> Iterator[Line]:
    """The lines that hold a word; a long log has few of them."""
    start = 0
    while (at := data.find(word, start)) >= 0:
        start = data.rfind(b"\n", start, at) + 1 or start
        newline = data.find(b"\n", at)
        end = newline + 1 if newline >= 0 else len(data)
        yield from split_lines(data, start, end)
        start = end


def _same(frame: Frame, pc: Frame) -> bool:
    return (frame.symbol, frame.offset, frame.module) == (pc.symbol, pc.offset, pc.module)


def _mentioned(line: Line) -> tuple[Frame, ...]:
    place = _MENTION.search(line.text, max(0, len(line.text) - _MAX_MENTION))
    if place is None:
        return ()
    return (
        Frame(
            place["sym"],
            int(place["off"], 16),
            int(place["size"], 16),
            place["mod"],
            place["build"],
            exact=_STATES_PC.search(line.text) is not None,
            span=line.span,
        ),
    )


def spell(chain: Sequence[Location], position: Callable[[Location], str]) -> str:
    """``a.h:12 in lookup, inlined at b.c:23``; `position` writes each ``path:line``."""
    *inlined, own = chain
    parts = [f"{position(at)} in {_plain(at.function)}, inlined at " for at in inlined]
    return "".join([*parts, position(own)])


def _nothing(_: Symbolized) -> Iterable[str]:
    return ()


def annotate(
    data: bytes,
    symbolizer: Symbolizer,
    *,
    position: Callable[[Location], str] | None = None,
    style: Callable[[str], str] = str,
    below: Callable[[Symbolized], Iterable[str]] = _nothing,
    symbolize: Callable[[Symbolizer, Sequence[Frame]], Sequence[Symbolized]] | None = None,
) -> Decoding:
    """Decode every frame of `data`, in one call of the symbolizer.

    `position` writes ``path:line``, `style` wraps an annotation (for colours), and `below` gives
    the lines to put under a frame line. `symbolize` asks the symbolizer, and may deal with what it
    raises; else that goes on.
    """
    lines = frame_lines(data)
    foreign = _foreign_lines(data, lines, symbolizer)
    known = _symbolize(
        [f for line in lines if line.start not in foreign for f in line.frames],
        symbolizer,
        symbolize or Symbolizer.symbolize,
    )
    result = Decoding()
    for line in lines:
        result.frames += len(line.frames)
        if reason := foreign.get(line.start):
            result.reasons[reason] += len(line.frames)
            continue
        answers = [known.get(_bare(frame)) for frame in line.frames]
        for answer in answers:
            if answer is not None and answer.chain:
                result.decoded += 1
                result.approximate += answer.approximate
            else:
                note = answer.note if answer else None
                result.reasons[note or "no line in the debug info"] += 1
        # What stands on the stack by chance is not what a report is about.
        certain = all(frame.reliable or frame.exact for frame in line.frames)
        under = below if certain else _nothing
        if text := _annotation([a for a in answers if a], position or _position, style, under):
            end = _line_end(data, line.end)
            result.insertions.append(Insertion(line.end, text.replace("\n", end)))
    return result


def _foreign_lines(
    data: bytes, lines: Sequence[FrameLine], symbolizer: Symbolizer
) -> dict[int, str]:
    """By their start, the lines of another kernel than the one with the debug info, and why.

    A log of several boots, or of several machines, states each kernel before its frames; what
    stands above the first statement is taken to be of the same kernel.
    """
    stated = stated_kernels(data)
    if len(stated) < 2:
        return {}
    reasons = [symbolizer.foreign(kernel.release, kernel.build_id) for kernel in stated]
    places = [kernel.at for kernel in stated]
    by_line = ((line.start, bisect_right(places, line.end) - 1) for line in lines)
    return {start: reason for start, at in by_line if (reason := reasons[max(at, 0)])}


def _symbolize(
    frames: Iterable[Frame],
    symbolizer: Symbolizer,
    symbolize: Callable[[Symbolizer, Sequence[Frame]], Sequence[Symbolized]],
) -> dict[Frame, Symbolized]:
    distinct = list(dict.fromkeys(map(_bare, frames)))
    return dict(zip(distinct, symbolize(symbolizer, distinct), strict=True))


def _bare(frame: Frame) -> Frame:
    """The frame without what differs from one time it is printed to the next."""
    return replace(frame, span=(0, 0), address=None)


def _annotation(
    answers: Sequence[Symbolized],
    position: Callable[[Location], str],
    style: Callable[[str], str],
    below: Callable[[Symbolized], Iterable[str]],
) -> str:
    decoded = [answer for answer in answers if answer.chain]
    if not decoded:
        return ""
    text = " from ".join(spell(answer.chain, position) for answer in decoded)
    if any(answer.approximate for answer in decoded):
        text += " (approximate)"
    rows = [MARGIN + row for answer in decoded for row in below(answer)]
    return "\n".join([style(f" at {text}"), *rows])


def _position(at: Location) -> str:
    return _plain(f"{at.file}:{at.line}")


def _plain(text: str) -> str:
    return " ".join(strip_control(text).split())


def _line_end(data: bytes, end: int) -> str:
    r"""The line's own terminator: ``\r\n`` on most serial consoles."""
    newline = data.find(b"\n", end)
    return data[end : newline + 1].decode("ascii") if newline >= 0 else "\n"
