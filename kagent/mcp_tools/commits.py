"""Commits that may fix a crash, out of a commit index."""

from __future__ import annotations

from pydantic import BaseModel

from kagent.mcp_tools.roots import Roots
from kagent.text import clip

__all__ = ["CommitMatch", "CommitMatches", "find_commits"]

_MAX_MESSAGE = 3_000
_MAX_DIFF = 6_000


class CommitMatch(BaseModel):
    """A commit that may answer the question."""

    hash: str
    subject: str
    author: str
    date: str
    confidence: float
    why: list[str]
    message: str
    diff: str
    truncated: bool = False


class CommitMatches(BaseModel):
    """What search_commits returns."""

    commits: list[CommitMatch]


def find_commits(roots: Roots, question: str, index: str | None, k: int) -> CommitMatches:
    """The `k` commits that answer `question` best."""
    matches = []
    for hit in roots.index(index).search(question, k):
        message, cut_message = clip(hit.message, _MAX_MESSAGE)
        diff, cut_diff = clip(hit.diff, _MAX_DIFF)
        matches.append(
            CommitMatch(
                hash=hit.hash,
                subject=hit.subject,
                author=hit.author,
                date=hit.date,
                confidence=hit.confidence,
                why=list(hit.why),
                message=message,
                diff=diff,
                truncated=cut_message or cut_diff,
            )
        )
    return CommitMatches(commits=matches)
