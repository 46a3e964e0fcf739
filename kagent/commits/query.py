"""Taking a query apart: names in canonical form, weighed by how near the crash they stand.

Free text may hold a pasted trace. What it says comes after what the caller states, so that a log
pasted as a question finds what a parsed one does, and one that was parsed badly does as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kagent.commits.model import CrashQuery
from kagent.commits.names import base_symbol, named_symbols, words
from kagent.commits.plumbing import is_pathway, is_plumbing, is_plumbing_file
from kagent.commits.releases import release_date

__all__ = ["PastedTrace", "Terms", "prepare", "read_trace"]

MAX_FUNCTIONS = 40
MAX_FILES = 24
MAX_WORDS = 200
MAX_TEXT = 256 * 1024
"""Characters of free text that are read."""
_PROSE = 4000
"""Characters of it that give words."""
_DEPTH = 0.85
"""Weight of a frame relative to the one above it."""
_PATHWAY = 0.3
"""Weight of a frame that everything of its kind passes, relative to one that tells more."""
_EPOCH = 719_163
"""`datetime.date.toordinal` of 1970-01-01."""

# ``symbol+0x1c/0x70``, and ``symbol file.c:12 [inline]`` as symbolised logs have it. A ``?`` marks
# what was found on the stack but not by unwinding.
_FRAME = re.compile(
    r"(\?[ \t]{1,4})?\b(?!(?:at|in|by)\b)([A-Za-z_][\w.]{1,127})"
    r"(?:\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}|[ \t]{1,4}\n?[ \t]{0,8}(?=[\w./-]{1,200}\.[chS]:\d))"
)
_SOURCE = re.compile(r"(?<![\w./-])((?:[\w.-]{1,64}/){1,12}[\w.-]{1,64}\.(?:[chS]|rs)):\d")
_RELEASE = re.compile(r"(?:[Tt]ainted:?|Comm:)[^\n]{0,80}?\s(\d{1,2}\.\d{1,3}\.\d{1,4}\S{0,60})")
_HEADLINE = re.compile(
    r"BUG:|WARNING:|INFO:|KASAN|KMSAN|UBSAN|KCSAN|kernel BUG|general protection|Unable to handle|"
    r"unable to handle|Oops|divide error|stack segment|Internal error|memory leak"
)
_MAX_HEADLINES = 3
_NAME = re.compile(r"[A-Za-z_]\w{2,79}")


@dataclass(frozen=True, slots=True)
class PastedTrace:
    """What a log pasted as text shows at first sight."""

    functions: tuple[str, ...]
    files: tuple[str, ...]
    release: str | None
    headlines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """A query taken apart; weights fall with the distance from the crash."""

    frames: tuple[str, ...]
    """Functions of the stack, innermost first, plumbing left out."""
    functions: dict[str, float]
    """The frames, and functions that the free text names."""
    files: dict[str, float]
    identifiers: dict[str, float]
    words: tuple[str, ...]
    text: str
    """For the embedding."""
    release: str | None = None
    day: int | None = None
    """Of the crashed release, days since 1970-01-01."""
    development: bool = False
    """The release is of the development line, not of a stable branch."""

    @property
    def empty(self) -> bool:
        """Nothing to search for."""
        return not (self.text or self.functions or self.files or self.identifiers)


def read_trace(text: str) -> PastedTrace | None:
    """Find a call trace in `text`; None when there is none."""
    symbols = [match[2] for match in _FRAME.finditer(text) if not match[1]]
    functions = dict.fromkeys(symbols)
    if len(functions) < 2:
        return None
    release = _RELEASE.search(text)
    headlines = (line.strip() for line in text.split("\n") if _HEADLINE.search(line))
    return PastedTrace(
        functions=tuple(functions),
        files=tuple(dict.fromkeys(_SOURCE.findall(text))),
        release=release[1] if release else None,
        headlines=tuple(dict.fromkeys(headlines))[:_MAX_HEADLINES],
    )


def prepare(query: CrashQuery) -> Terms:
    """Canonical names, plumbing frames dropped, weights by depth."""
    text = query.text[:MAX_TEXT]
    trace = read_trace(text)
    prose = "\n".join(trace.headlines) if trace else text[:_PROSE]
    frames = _telling((*query.functions, *(trace.functions if trace else ())))
    files = _telling_files((*query.files, *(trace.files if trace else ())))
    release = query.release or (trace.release if trace else None)
    title = query.title[:_PROSE]
    named = _telling(named_symbols(f"{title}\n{prose}"))
    identifiers = _names(query.identifiers)
    functions = _by_depth(frames)
    for name in named:
        functions.setdefault(name, 0.5 if frames else 1.0)
    released = release_date(release) if release else None
    said = "\n".join(part for part in (title, prose) if part.strip())
    return Terms(
        frames=frames,
        functions=functions,
        files={path: _DEPTH**depth for depth, path in enumerate(files)},
        identifiers=dict.fromkeys(identifiers, 1.0),
        words=tuple(dict.fromkeys(words(" ".join((said, *frames[:8], *identifiers[:16])))))[
            :MAX_WORDS
        ],
        text="\n".join(part for part in (said, " ".join(frames[:8])) if part),
        release=release,
        day=(released[0].toordinal() - _EPOCH) if released else None,
        development=released[1] if released else False,
    )


def _names(identifiers: Iterable[str]) -> tuple[str, ...]:
    """``&sb->s_type->i_mutex_key#9`` and ``fan_curve.points`` name more than one thing."""
    found = (name for text in identifiers for name in _NAME.findall(text[:200]))
    return tuple(dict.fromkeys(found))[:MAX_FUNCTIONS]


def _telling_files(paths: Iterable[str]) -> tuple[str, ...]:
    telling = (path for path in dict.fromkeys(paths) if not is_plumbing_file(path))
    return tuple(telling)[:MAX_FILES]


def _by_depth(frames: Iterable[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    weight = 1.0
    for name in frames:
        if is_pathway(name):
            weights[name] = _PATHWAY * weight
        else:
            weights[name] = weight
            weight *= _DEPTH
    return weights


def _telling(symbols: Iterable[str]) -> tuple[str, ...]:
    bases = dict.fromkeys(base_symbol(name) for name in symbols)
    return tuple(name for name in bases if not is_plumbing(name))[:MAX_FUNCTIONS]
