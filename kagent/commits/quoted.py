"""Crash reports that commit messages quote, and how much a crash resembles one of them.

Whoever repairs a crash often pastes its report. Reports of one bug share the title and most of the
stack; reports from one build share offsets as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kagent.commits.names import base_symbol
from kagent.commits.plumbing import is_plumbing
from kagent.klog import parse_log
from kagent.klog.model import Report

__all__ = [
    "Quote",
    "likeness",
    "pack_quotes",
    "quotes_in",
    "references",
    "same_places",
    "unpack_quotes",
]

MAX_QUOTES = 4
MAX_FRAMES = 24
_MAX_TEXT = 64 * 1024

_SIGN = re.compile(
    r"\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}|BUG: |WARNING: |INFO: |UBSAN: |kernel BUG at"
    r"|general protection fault|Unable to handle|unreferenced object 0x|Oops[: ]|Call [Tt]race"
    r"|\[inline\]"
)
_BARE = re.compile(r"([A-Za-z_][\w.]{1,127})\+0x([0-9a-f]{1,8})/0x([0-9a-f]{1,8})")

# https://github.com/google/syzkaller/blob/master/docs/syzbot.md: a report is named by 20 digits.
_SYZBOT_ID = re.compile(r"(?:syzbot\+|[?&]extid=)([0-9a-f]{16,40})\b")
_CVE = re.compile(r"\bCVE-(\d{4}-\d{4,7})\b", re.I)
_MESSAGE = re.compile(
    r"(?:^Message-I[Dd]:[ \t]{0,4}<|^Closes:[ \t]{0,4}https://lore\.kernel\.org/[\w.-]{1,40}/)"
    r"([^\s<>/#]{6,200}@[\w.-]{1,100})",
    re.M,
)
_MAX_REFERENCES = 16


@dataclass(frozen=True, slots=True)
class Quote:
    """A quoted report; `title` is empty for a bare trace."""

    title: str
    kind: str
    frames: tuple[str, ...]
    """Of its own stack, innermost first: ``symbol``, or ``symbol+0x1c/0x70`` where printed."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """The functions, by the names the source has, those that say nothing left out."""
        return tuple(dict.fromkeys(name for frame in self.frames if (name := _telling(frame))))


@lru_cache(maxsize=1 << 16)
def _telling(frame: str) -> str:
    """The function's name as the source has it; empty where it says nothing."""
    name = base_symbol(frame.partition("+")[0])
    return "" if is_plumbing(name) else name


def quotes_in(message: str) -> tuple[Quote, ...]:
    """The reports, or failing those the trace, that `message` quotes; cheap when it has none."""
    sign = _SIGN.search(message)
    if sign is None:
        return ()
    start = message.rfind("\n", 0, sign.start()) + 1
    text = message[start : start + _MAX_TEXT]
    found = [quote for quote in map(_quote, parse_log(text).reports) if quote.frames or quote.title]
    if not any(quote.frames for quote in found):
        bare = dict.fromkeys(f"{m[1]}+0x{m[2]}/0x{m[3]}" for m in _BARE.finditer(text))
        if len(bare) > 1:
            found.append(Quote("", "", tuple(bare)[:MAX_FRAMES]))
    return tuple(dict.fromkeys(found))[:MAX_QUOTES]


def _quote(report: Report) -> Quote:
    frames = (frame for frame in report.call_frames if frame.reliable)
    return Quote(report.title, report.kind, tuple(dict.fromkeys(map(place, frames)))[:MAX_FRAMES])


def place(frame: object) -> str:
    """``symbol+0x1c/0x70``, without the module."""
    return str(frame).partition(" ")[0]


def pack_quotes(quotes: Sequence[Quote]) -> str:
    """As the index keeps them; compact JSON."""
    rows = [[quote.title, quote.kind, *quote.frames] for quote in quotes]
    return json.dumps(rows, separators=(",", ":"))


def unpack_quotes(text: str) -> tuple[Quote, ...]:
    """What `pack_quotes` made."""
    return tuple(Quote(title, kind, tuple(frames)) for title, kind, *frames in json.loads(text))


def likeness(quote: Quote, weights: Mapping[str, float]) -> float:
    """Share of the weight of all functions of either stack that both have, 0..1.

    `weights` holds the crash's functions; a function that it lacks weighs as much as the mean.
    """
    if not weights or not quote.symbols:
        return 0.0
    both = sum(weights.get(name, 0.0) for name in quote.symbols)
    other = sum(name not in weights for name in quote.symbols)
    whole = sum(weights.values())
    return both / (whole + other * whole / len(weights))


def same_places(quote: Quote, places: frozenset[str]) -> float:
    """Share of the quoted ``symbol+offset/size`` that the crash has as well, 0..1."""
    exact = [frame for frame in quote.frames if "+" in frame]
    return sum(frame in places for frame in exact) / len(exact) if exact else 0.0


def references(text: str) -> tuple[str, ...]:
    """What names a bug or its report: ``syzbot:0123…``, ``cve:2025-37958``, ``mail:ID@HOST``."""
    return tuple(dict.fromkeys(_references(text)))[:_MAX_REFERENCES]


def _references(text: str) -> Iterator[str]:
    # Most messages have none of them, and patterns take much longer to see that.
    if "syzbot+" in text or "extid=" in text:
        yield from (f"syzbot:{match[1]}" for match in _SYZBOT_ID.finditer(text))
    if "cve-" in text.lower():
        yield from (f"cve:{match[1]}" for match in _CVE.finditer(text))
    if "@" in text and ("Message-I" in text or "Closes:" in text):
        yield from (f"mail:{match[1]}" for match in _MESSAGE.finditer(text))
