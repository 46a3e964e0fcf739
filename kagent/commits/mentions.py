"""Commits that speak of another commit: backports, reverts and later repairs of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kagent.commits.message import parse_fixes
from kagent.errors import InputError
from kagent.repository import Repository

__all__ = [
    "Mention",
    "names",
    "read_mention",
    "read_mentions",
    "reverted_commits",
    "upstream_commits",
]

_MAX_MENTIONS = 50_000
_SECONDS = 300.0
_HASH = r"([0-9a-f]{7,40})"
# Documentation/process/stable-kernel-rules.rst has the first two; `git cherry-pick -x` writes the
# third, distributions the others.
_UPSTREAM = re.compile(
    rf"^[ \t\[(]{{0,4}}(?:commit {_HASH} upstream|upstream[- ]commit:? {_HASH}"
    rf"|(?:cherry[- ]picked|backported) from commit {_HASH})",
    re.I | re.M,
)
_REVERTS = re.compile(rf"\bthis reverts\s{{1,4}}(?:upstream )?commit\s{{1,4}}{_HASH}", re.I)


@dataclass(frozen=True, slots=True)
class Mention:
    """One commit's words about others; hashes are as written, of seven digits or more."""

    hash: str
    subject: str
    date: str
    """ISO 8601, when it was committed."""
    upstream: tuple[str, ...] = ()
    """Commits it says to be the backport of."""
    reverts: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()


def names(written: Sequence[str], full: str) -> bool:
    """Whether one of the hashes `written` is, or abbreviates, `full`."""
    return any(full.startswith(hash) for hash in written)


def upstream_commits(message: str) -> tuple[str, ...]:
    """Hashes of the commits that `message` says it backports, lower case.

    >>> upstream_commits("[ Upstream commit 0123456789ab ]")
    ('0123456789ab',)
    """
    return tuple(next(filter(None, m.groups())).lower() for m in _UPSTREAM.finditer(message))


def reverted_commits(message: str) -> tuple[str, ...]:
    """Hashes of the commits that `message` says it reverts, lower case."""
    return tuple(found.lower() for found in _REVERTS.findall(message))


def read_mentions(
    repository: Repository, hashes: Sequence[str], subjects: Sequence[str]
) -> list[Mention]:
    """Every commit of any branch or tag that mentions one of `hashes` or has one of `subjects`.

    All reverts that are newer than the oldest of `hashes` come along: a backport can only be
    reverted by its own hash. One git process, however many hashes.

    Raises:
        InputError: git failed, or took more than five minutes.
    """
    words = ["This reverts", *(hash[:7] for hash in hashes), *filter(None, subjects)]
    options = ["-z", "--fixed-strings", "--regexp-ignore-case", "--no-show-signature"]
    options += ["--format=%H%n%cI%n%s%n%b", f"--max-count={_MAX_MENTIONS}"]
    options += [f"--grep={word}" for word in words]
    options += ["--branches", "--remotes", "--tags", repository.resolve("HEAD")]
    older = _older(repository, hashes)
    return list(
        _parsed(repository.text("log", *options, revisions=older, paths=(), seconds=_SECONDS))
    )


def _older(repository: Repository, hashes: Sequence[str]) -> list[str]:
    """What need not be walked: history that all of `hashes` stand on."""
    if not hashes:
        return []
    try:
        base = repository.text("merge-base", "--octopus", revisions=hashes)
    except InputError:  # histories without a common root, as after a graft
        return []
    return [f"^{base}"]


def _parsed(text: str) -> Iterator[Mention]:
    for record in text.split("\0"):
        hash, _, rest = record.strip("\n").partition("\n")
        date, _, rest = rest.partition("\n")
        subject, _, body = rest.partition("\n")
        if hash:
            yield read_mention(hash, date, subject, body)


def read_mention(hash: str, date: str, subject: str, body: str) -> Mention:
    """What one message says of other commits."""
    return Mention(
        hash=hash,
        subject=subject,
        date=date,
        upstream=upstream_commits(body),
        reverts=reverted_commits(body),
        fixes=parse_fixes(body),
    )
