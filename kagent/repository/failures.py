"""What to say when git fails. Its own words stay in the debug log: they quote files and paths."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Literal

from kagent.errors import InputError, KagentError, MissingDataError

__all__ = ["GitError", "Reason", "failure"]

Reason = Literal[
    "revision", "place", "damage", "format", "dialect", "memory", "size", "time", "other"
]

_log = logging.getLogger("kagent.git")


class GitError(InputError):
    """A git command failed; `reason` says of what kind the failure is."""

    def __init__(self, message: str, *, reason: Reason, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Case:
    reason: Reason
    words: str
    """What git says, an expression."""
    said: str
    hint: str | None = None


_FSCK = "see what `git fsck` says; fetch or clone it again"
# First match counts. The words are those of git 2.24 to 2.50 in the C locale.
_CASES = (
    _Case("dialect", r"Perl|PCRE", "this git has no Perl-compatible expressions"),
    _Case(
        "memory",
        r"out of memory|malloc|mmap failed|Cannot allocate|over limit",
        "a file is larger than 1 GiB, or memory ran out",
        "give a tree of sources alone",
    ),
    _Case(
        "format",
        r"[Ee]xpected git repo version|unknown repository extension|unknown .{0,20}(?:hash|object"
        r"|ref).{0,20}format|repositoryformatversion",
        "the repository has a format that this git does not read",
        "use a newer git",
    ),
    _Case(
        "place",
        r"no such path|does not exist in|has only \d+ lines?|outside repository",
        "there is no such file or line at that revision",
    ),
    _Case(
        "revision",
        r"unknown revision|bad revision|ambiguous argument|[Nn]eeded a single revision"
        r"|malformed object name|unable to resolve revision|not a valid commit|Not a valid object",
        "there is no such revision",
        "list what there is with `git tag` and `git branch -a`; a shallow clone lacks most of it",
    ),
    _Case(
        "damage",
        r"bad object|unable to (?:read|find|unpack|parse|open)|could not (?:read|parse|get)|corrupt"
        r"|inflate|bad (?:tree|pack|line)|missing (?:blob|tree|commit|object)|packfile|promisor"
        r"|lazy fetching|not a tree|invalid object|no such object|Could not read"
        r"|[Ff]ailed to (?:read|traverse)|not allowed|does not point to a valid object",
        "the repository is damaged or lacks some of its objects",
        _FSCK,
    ),
)


def failure(command: str, code: int, errors: bytes, *, partial: bool = False) -> KagentError:
    """The error for a `command` of git that ended with `code` and printed `errors`.

    `partial` says that the repository is a clone without some of its objects.
    """
    text = errors.decode("utf-8", "replace")
    _log.debug("git %s ended with %d: %r", command, code, text)
    case = next((case for case in _CASES if re.search(case.words, text)), None)
    if partial and case is not None and case.reason == "damage":
        return MissingDataError(
            "a partial clone: the repository lacks files or trees of its history, and fetching "
            "them one by one would take days",
            hint="fetch all of it once: git fetch --refetch --no-filter origin "
            "(or clone again without --filter)",
        )
    if case is None:
        return GitError(
            f"git {command} failed with status {code}",
            reason="other",
            hint="its words are in the log of `kagent.git` at level DEBUG",
        )
    return GitError(f"git {command} failed: {case.said}", reason=case.reason, hint=case.hint)
