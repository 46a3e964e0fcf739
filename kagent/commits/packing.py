"""A commit as the values that an index stores, and the keys by which two are the same change."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kagent.commits.message import parse_trailers
from kagent.commits.model import Commit
from kagent.commits.names import words

__all__ = [
    "BODY_LEVEL",
    "day_of",
    "is_posted",
    "pack_body",
    "patch_key",
    "plain_subject",
    "posted_link",
    "short_hash",
    "subject_key",
    "unpack_commit",
]

BODY_LEVEL = 4
"""Of zlib: 6 takes twice the time and saves three per cent."""
_TAGS = re.compile(r"^(?:\s{0,4}(?:\[[^\]\n]{0,80}\]|re:|fwd?:|aw:))+\s*", re.I)
_HASH = re.compile(r"[0-9a-f]{7,64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_posted(hash: str) -> bool:
    """Whether `hash` is the id of a change that was only posted, not a commit's."""
    return _HASH.fullmatch(hash) is None


def short_hash(hash: str) -> str:
    """Twelve digits of a commit's hash; the whole id of what was only posted."""
    return hash if is_posted(hash) else hash[:12]


def posted_link(hash: str) -> str:
    """Where the mail with that Message-ID can be read; empty when it is none."""
    return f"https://lore.kernel.org/r/{hash}" if is_posted(hash) and "@" in hash else ""


def plain_subject(subject: str) -> str:
    """A subject without what mail adds to it.

    >>> plain_subject("Re: [PATCH v2 net 1/3] ipv6: fix it")
    'ipv6: fix it'
    """
    return _TAGS.sub("", subject, count=1) if subject[:1] in "[RrFfAa \t" else subject


def subject_key(subject: str) -> int:
    """The same for backports and postings of one change."""
    plain = plain_subject(subject)
    return _key(" ".join(words(plain)) or plain)


def patch_key(diff: str) -> int | None:
    """The same for two diffs that change the same lines of the same files.

    What stands around them, line numbers and white space may differ, as for ``git patch-id``.
    None for a diff without changed lines.
    """
    parts: list[str] = []
    inside = changed = False
    for line in diff.split("\n"):
        mark = line[:1]
        if mark in ("+", "-"):
            if inside:
                parts.append("".join(line.split()))
                changed = True
        elif mark == "@" and line.startswith("@@ "):
            inside = True
        elif mark == "d" and line.startswith("diff --git "):
            inside = False
            parts.append("".join(line.split()))
    return _key("\n".join(parts)) if changed else None


def _key(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def day_of(date: str) -> int:
    """Days from 1970-01-01 to an ISO 8601 date; -1 when it cannot be read or is older."""
    try:
        when = datetime.fromisoformat(date)
    except ValueError:
        return -1
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(-1, (when - _EPOCH).days)


def pack_body(commit: Commit) -> bytes:
    """What is read of hits only: texts and lists, compressed."""
    parts = (
        commit.author,
        commit.date,
        commit.message,
        commit.diff,
        commit.functions,
        commit.identifiers,
        int(commit.truncated),
    )
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return zlib.compress(text.encode("utf-8", "replace"), BODY_LEVEL)


def unpack_commit(row: Sequence[Any]) -> Commit:
    """The commit in (hash, subject, files as JSON, fixes as JSON, body).

    Raises:
        ValueError, zlib.error: the row is damaged.
    """
    hash, subject, files, fixes, body = row
    author, date, message, diff, functions, identifiers, truncated = json.loads(
        zlib.decompress(body)
    )
    return Commit(
        hash=hash,
        subject=subject,
        author=author,
        date=date,
        message=message,
        files=tuple(json.loads(files)),
        functions=tuple(functions),
        diff=diff,
        fixes=tuple(json.loads(fixes)),
        trailers=parse_trailers(message),
        identifiers=tuple(identifiers),
        truncated=bool(truncated),
    )
