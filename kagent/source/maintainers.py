"""Who looks after a file, by the rules of scripts/get_maintainer.pl for F:, X: and N: lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Maintainers", "SubsystemEntry"]

_LINE = re.compile(r"([A-Z]):[ \t]+(\S.{0,500})")
_MAX_ENTRIES = 20_000
_MAX_PATH = 512
_MAX_STARS = 4
_NOTHING = re.compile(r"(?!)")
_REST = "THE REST"
# A repeated group that repeats inside can take exponential time; no N: line needs one.
_NESTED = re.compile(r"[*+}][^()]{0,200}\)[*+{]")


class SubsystemEntry(NamedTuple):
    """One subsystem as MAINTAINERS names it."""

    name: str
    maintainers: tuple[str, ...]
    """``Name <address>``."""
    lists: tuple[str, ...]
    """Mailing list addresses."""
    reviewers: tuple[str, ...] = ()
    status: str | None = None
    """``Supported``, ``Maintained``, ``Odd Fixes``, ``Orphan`` ..."""
    trees: tuple[str, ...] = ()
    """Repositories it is developed in, as ``git git://...``."""


@dataclass(slots=True)
class _Section:
    name: str
    values: dict[str, list[str]] = field(default_factory=dict)

    def get(self, key: str) -> list[str]:
        return self.values.get(key, [])


class Maintainers:
    """A parsed MAINTAINERS file."""

    def __init__(self, text: str) -> None:
        self._sections = list(_parse(text))

    def __len__(self) -> int:
        return len(self._sections)

    def subsystem_of(self, path: str) -> SubsystemEntry | None:
        """The subsystem whose pattern fits `path` most closely; None when only THE REST does."""
        best: tuple[int, _Section] | None = None
        for section in self._sections:
            depth = _depth(section, path)
            if depth is not None and (best is None or depth > best[0]):
                best = (depth, section)
        if best is None or best[1].name == _REST:
            return None
        section = best[1]
        lists = tuple(value.split()[0] for value in section.get("L"))
        return SubsystemEntry(
            section.name,
            tuple(section.get("M")),
            lists,
            tuple(section.get("R")),
            next(iter(section.get("S")), None),
            tuple(section.get("T")),
        )


def _parse(text: str) -> Iterator[_Section]:
    """A section is a title line in the first column, then ``K: value`` lines."""
    current: _Section | None = None
    previous = ""
    made = 0
    for line in text.splitlines():
        if found := _LINE.match(line):
            if current is None:
                if made >= _MAX_ENTRIES:
                    return
                made += 1
                current = _Section(previous.strip())
            current.values.setdefault(found[1], []).append(found[2].strip())
            continue
        if current is not None and not line[:1].isspace():  # a blank line or the next title
            yield current
            current = None
        if line.strip():
            previous = line
    if current is not None:
        yield current


def _depth(section: _Section, path: str) -> int | None:
    """How specific the section's best match is; None when it does not match."""
    if any(_fits(pattern, path) for pattern in section.get("X")):
        return None
    depths = [_pattern_depth(p) for p in section.get("F") if _fits(p, path)]
    if not depths and any(_search(expression, path) for expression in section.get("N")):
        depths = [0]
    return max(depths, default=None)


def _pattern_depth(pattern: str) -> int:
    if pattern.startswith("*"):
        return -1
    return pattern.count("/") + (not pattern.endswith("/"))


def _fits(pattern: str, path: str) -> bool:
    """``dir/`` takes all below; anything else only names with as many slashes as it has."""
    if not _glob(pattern).match(path[:_MAX_PATH]):
        return False
    return pattern.endswith("/") or pattern.count("/") == path.count("/")


@lru_cache(maxsize=32_768)
def _glob(pattern: str) -> re.Pattern[str]:
    """Anchored at the start only, as in the script's ``file_match_pattern``."""
    pattern = re.sub(r"\*+", "*", pattern)
    if pattern.count("*") > _MAX_STARS:
        return _NOTHING
    spelled = {"*": ".*", "?": "."}
    return re.compile("".join(spelled.get(char) or re.escape(char) for char in pattern))


def _search(expression: str, path: str) -> bool:
    pattern = _regex(expression)
    return bool(pattern and pattern.search(path[:_MAX_PATH]))


@lru_cache(maxsize=4096)
def _regex(expression: str) -> re.Pattern[str] | None:
    if len(expression) > 200 or _NESTED.search(expression):
        return None
    try:
        return re.compile(expression, re.VERBOSE)
    except (re.error, OverflowError, RecursionError):
        return None
