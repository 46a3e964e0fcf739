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
from kagent.commits.pasted import PastedTrace, earliest_day, from_syzbot, read_trace, stated_release
from kagent.commits.plumbing import is_pathway, is_plumbing, is_plumbing_file
from kagent.commits.quoted import references
from kagent.commits.releases import release_date
from kagent.commits.traits import symptoms

__all__ = ["Terms", "prepare"]

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
_CYCLE = 84
"""Days from a release to the next one, at most."""
_EPOCH = 719_163
"""`datetime.date.toordinal` of 1970-01-01."""

_NAME = re.compile(r"[A-Za-z_]\w{2,79}")
# Addresses, offsets, where and as what a header line says it happened: no commit has such words.
_NUMBERS = re.compile(
    r"\+?0x[0-9a-f]{1,16}(?:/0x[0-9a-f]{1,16})?|\bCPU: \d{1,5}|\bU?PID: \d{1,9}|\[#\d{1,4}\]"
    r"|\b(?:PREEMPT(?:_\w{1,10})?|SMP|NOPTI|PTI|DEBUG_PAGEALLOC)\b|\bRIP: [0-9a-f]{4}:|\[inline\]"
    r"|\bprobably for\b|\b[0-9a-f]{8,16}\b"
)


@dataclass(frozen=True, slots=True)
class Terms:
    """A query taken apart; weights fall with the distance from the crash."""

    frames: tuple[str, ...]
    """Functions of the stack, innermost first, plumbing left out."""
    functions: dict[str, float]
    """The frames, and functions that the free text names."""
    related: dict[str, float]
    """Functions of other stacks: of who freed the object, who held the lock, ..."""
    files: dict[str, float]
    identifiers: dict[str, float]
    words: tuple[str, ...]
    text: str
    """For the embedding."""
    title: str = ""
    places: frozenset[str] = frozenset()
    modules: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    blamed: tuple[str, ...] = ()
    symptoms: int = 0
    """Bits of `kagent.commits.traits.symptoms`."""
    syzbot: bool = False
    release: str | None = None
    day: int | None = None
    """Of the crashed release, days since 1970-01-01."""
    development: bool = False
    """The release is of the development line, not of a stable branch."""
    not_before: int | None = None
    """The crash is no older than this day."""

    @property
    def empty(self) -> bool:
        """Nothing to search for."""
        return not (
            self.text
            or self.functions
            or self.related
            or self.files
            or self.identifiers
            or self.references
            or self.blamed
        )


def prepare(query: CrashQuery) -> Terms:
    """Canonical names, plumbing frames dropped, weights by depth."""
    log = f"{query.text[:MAX_TEXT]}\n{query.log[:MAX_TEXT]}"
    trace = read_trace(log)
    pasted = trace.functions if trace else ()
    frames = _telling(query.functions or pasted)
    others = [_telling(stack) for stack in (*query.related, pasted if query.functions else ())]
    files = _telling_files((*query.files, *(trace.files if trace else ())))
    release = query.release or stated_release(log)
    title, said = _said(query, trace)
    identifiers = _names(query.identifiers)
    functions = _by_depth(frames)
    related = _related(others, functions)
    for name in _telling(named_symbols(said)):
        functions.setdefault(name, 0.5 if frames else 1.0)
        related.pop(name, None)
    day, development, not_before = _dates(release, log)
    return Terms(
        frames=frames,
        functions=functions,
        related=related,
        files={path: _DEPTH**depth for depth, path in enumerate(files)},
        identifiers=dict.fromkeys(identifiers, 1.0),
        words=tuple(dict.fromkeys(words(" ".join((said, *frames[:8], *identifiers[:16])))))[
            :MAX_WORDS
        ],
        text="\n".join(part for part in (said, " ".join(frames[:8])) if part),
        title=title,
        places=frozenset(query.places),
        modules=tuple(dict.fromkeys(name.replace("-", "_") for name in query.modules)),
        references=references(log),
        blamed=query.blamed,
        symptoms=symptoms(said),
        syzbot=from_syzbot(log),
        release=release,
        day=day,
        development=development,
        not_before=not_before,
    )


def _dates(release: str | None, log: str) -> tuple[int | None, bool, int | None]:
    """Day of the release, whether it is of the development line, and the log's earliest day.

    A development kernel is run when it is new: where the log is younger, but not by much, its own
    day tells more than that of the release.
    """
    released = release_date(release) if release else None
    earliest = earliest_day(log)
    if released is None:
        return None, False, earliest
    day, development = released[0].toordinal() - _EPOCH, released[1]
    if development and earliest is not None and 0 < earliest - day <= _CYCLE:
        day = earliest
    return day, development, earliest


def _said(query: CrashQuery, trace: PastedTrace | None) -> tuple[str, str]:
    """The title, and all that says what went wrong, the title first.

    Of a pasted trace only its headlines count as words: the rest is names and numbers.
    """
    title = query.title[:_PROSE]
    plain = bool(query.log) or read_trace(query.text[:MAX_TEXT]) is None
    prose = query.text[:_PROSE] if plain else ""
    headlines = "\n".join(trace.headlines) if trace and not (title and query.log) else ""
    said = "\n".join(part for part in (title, prose, headlines) if part.strip())
    return title or headlines.partition("\n")[0], _NUMBERS.sub(" ", said)


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


def _related(stacks: Iterable[Iterable[str]], own: dict[str, float]) -> dict[str, float]:
    """What other stacks add to the crash's own, each weighed by its own depth."""
    weights: dict[str, float] = {}
    for stack in stacks:
        fresh = [name for name in stack if name not in own and name not in weights]
        for name, weight in _by_depth(fresh).items():
            if len(weights) < 2 * MAX_FUNCTIONS:
                weights[name] = weight
    return weights


def _telling(symbols: Iterable[str]) -> tuple[str, ...]:
    bases = dict.fromkeys(base_symbol(name) for name in symbols)
    return tuple(name for name in bases if not is_plumbing(name))[:MAX_FUNCTIONS]
