"""Commits, and what a search over them returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Commit", "CrashQuery", "Hit", "Verdict"]

Verdict: TypeAlias = Literal["confident", "possible", "doubtful"]


@dataclass(frozen=True, slots=True)
class Commit:
    """One change of a history."""

    hash: str
    subject: str
    author: str
    """``Name <address>``."""
    date: str
    """ISO 8601, author date."""
    message: str
    """Body without the subject."""
    files: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    """Functions touched: from hunk headers and definitions inside hunks."""
    diff: str = ""
    fixes: tuple[str, ...] = ()
    """Hashes that ``Fixes:`` tags name."""
    trailers: tuple[tuple[str, str], ...] = ()
    """``Key: value`` lines that close the message, in order."""
    identifiers: tuple[str, ...] = ()
    """Names on changed lines: functions called, struct members, macros, locks."""
    truncated: bool = False
    """True when the patch was longer than the index keeps; the lists then cover its start."""


@dataclass(frozen=True, slots=True)
class CrashQuery:
    """What of a crash a search may use; empty fields are simply not used."""

    title: str = ""
    text: str = ""
    """Free words: a question, or the lines that explain the crash."""
    log: str = ""
    """The log's text, read for what the other fields leave open: further traces, dates, ids."""
    functions: tuple[str, ...] = ()
    """Of the stack, innermost first, inlined functions included."""
    related: tuple[tuple[str, ...], ...] = ()
    """Of other stacks, each innermost first: who freed the object, who held the lock, ..."""
    places: tuple[str, ...] = ()
    """Frames of the stack as the log prints them, ``symbol+0x1c/0x70``."""
    files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    """Modules that the frames lie in, innermost first."""
    identifiers: tuple[str, ...] = ()
    """Struct, member and lock names that the evidence names."""
    blamed: tuple[str, ...] = ()
    """Hashes of the commits that last changed the faulting line, as ``git blame`` names them."""
    release: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A commit that may be the fix."""

    hash: str
    subject: str
    author: str
    date: str
    score: float
    """Higher is better; comparable within one search only."""
    confidence: float
    """0 to 1: how likely this is the fix at all."""
    why: tuple[str, ...]
    verdict: Verdict = "possible"
    """``confident``: of hits as sure as this one, nine in ten were right. ``doubtful``: where the
    first hit is no surer, mostly no commit of the index was the fix.
    """
    message: str = ""
    diff: str = ""
    files: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()
    posted: bool = False
    """It is on a mailing list only; `hash` is then the Message-ID, where that is known."""
    link: str = ""
    """Where a posted patch can be read."""
    index: str = ""
    """Where several indexes were searched: the name of the one it is of."""
