"""Where commits have landed: in the user's kernel, upstream, and on the stable branches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kagent.commits.branches import Branch, Containment, find_branch, maintained_branches
from kagent.commits.mentions import Mention, names, read_mention, read_mentions
from kagent.errors import InputError
from kagent.repository import Repository

__all__ = ["Landed", "Landing", "OnBranch", "check_hash", "fix_status"]

How = Literal["ancestry", "upstream line", "subject", "patch-id"]
State = Literal["has", "lacks", "reverted", "not affected"]

_HASH = re.compile(r"[0-9a-fA-F]{7,64}")
_MAX_REVERTS = 8
"""Reverts of reverts that are followed."""


@dataclass(frozen=True, slots=True)
class OnBranch:
    """How one branch, or the kernel that crashed, stands to a commit."""

    branch: str
    state: State
    how: How | None = None
    """What shows that it is there."""
    commit: str | None = None
    """The commit of that branch that carries it; the revert, where it was reverted."""
    first_tag: str | None = None
    """The branch's first release with it."""
    applies: Literal["cleanly", "with less context", "no"] | None = None
    """Whether `git apply` takes the patch there; None when not tried."""
    conflicts: tuple[str, ...] = ()
    """Files whose hunks do not apply."""


@dataclass(frozen=True, slots=True)
class Landing:
    """What a repository knows of one commit; None means that it cannot tell."""

    hash: str
    """In full; as given when the repository does not have it."""
    known: bool = False
    subject: str = ""
    first_tag: str | None = None
    """The lowest version tag that contains it."""
    kernel: OnBranch | None = None
    """The revision asked about."""
    branches: tuple[OnBranch, ...] = ()
    introduced_by: tuple[Mention, ...] = ()
    """The commits that its ``Fixes:`` tags name and the repository has."""
    reverts: tuple[Mention, ...] = ()
    """Commits, of whatever branch, that revert it and were not reverted themselves."""
    follow_ups: tuple[Mention, ...] = ()
    """Commits whose ``Fixes:`` tags name it: repairs that belong with it."""


def check_hash(hash: str) -> str:
    """`hash` in lower case.

    Raises:
        InputError: it is no commit hash.
    """
    if not _HASH.fullmatch(hash):
        raise InputError(f"not a commit hash: {hash[:80]}", hint="give 7 to 40 hexadecimal digits")
    return hash.lower()


def fix_status(
    repo: Path,
    hashes: Sequence[str],
    revision: str | None = None,
    *,
    branches: Sequence[str] | None = None,
) -> list[Landing]:
    """Look `hashes` up in `repo`, in order, with one walk over its history.

    `revision` is the tag or commit that the user's kernel was built from; `branches` are those to
    look at, by default mainline and the maintained stable series.

    Raises:
        MissingDataError, InputError: `repo` is no repository, one of `hashes` no commit hash, or
            a revision not one of the repository's.
    """
    checked = [check_hash(hash) for hash in hashes]
    repository = Repository(repo)
    kernel = find_branch(repository, revision) if revision is not None else None
    if branches is None:
        lines = maintained_branches(repository)
    else:
        lines = [find_branch(repository, name) for name in branches]
    with_history = Landed(repository, checked)
    return [with_history.landing(hash, kernel, lines) for hash in checked]


class Landed:
    """Looks several commits of one repository up, sharing what git was asked."""

    def __init__(self, repository: Repository, hashes: Sequence[str]) -> None:
        self.repository = repository
        self.containment = Containment(repository)
        self._known = {hash: found for hash in hashes if (found := self._read(hash))}
        causes = [self._read(cause) for m in self._known.values() for cause in m.fixes]
        self._causes = [cause for cause in causes if cause is not None]
        wanted = [*self._known.values(), *self._causes]
        self._mentions = (
            read_mentions(
                repository,
                list(dict.fromkeys(m.hash for m in wanted)),
                list(dict.fromkeys(m.subject for m in wanted)),
            )
            if wanted
            else []
        )

    def landing(self, hash: str, kernel: Branch | None, branches: Sequence[Branch]) -> Landing:
        """Everything about one of the hashes given at the start."""
        commit = self._known.get(hash)
        if commit is None:
            return Landing(hash=hash)
        causes = tuple(cause for cause in self._causes if names(commit.fixes, cause.hash))
        return Landing(
            hash=commit.hash,
            known=True,
            subject=commit.subject,
            first_tag=self.containment.first_tag(commit.hash),
            kernel=self._on(kernel, commit, causes) if kernel else None,
            branches=tuple(self._on(branch, commit, causes) for branch in branches),
            introduced_by=causes,
            reverts=tuple(m for m in self._reverting(commit.hash) if not self._undone(m)),
            follow_ups=tuple(m for m in self._mentions if names(m.fixes, commit.hash)),
        )

    def upstream_of(self, hash: str) -> str | None:
        """The full hash of the mainline commit that `hash` is a backport of, if it is one."""
        commit = self._known.get(hash)
        for written in commit.upstream if commit else ():
            original = self._read(written)
            if original is not None:
                return original.hash
        return None

    def _read(self, hash: str) -> Mention | None:
        shape = ("-1", "--no-show-signature", "--format=%H%n%cI%n%s%n%b")
        try:
            full = self.repository.resolve(hash)
            text = self.repository.text("log", *shape, revisions=[full], paths=())
        except InputError:  # git's only way to say that it has no such commit
            return None
        found, date, subject, body = (*text.split("\n", 3), "", "", "")[:4]
        return read_mention(found, date, subject, body)

    def _on(self, branch: Branch, commit: Mention, causes: Sequence[Mention]) -> OnBranch:
        carrier = self._carrier(branch.ref, commit)
        if carrier is None:
            affected = not causes or any(self._carrier(branch.ref, cause) for cause in causes)
            return OnBranch(branch.name, "lacks" if affected else "not affected")
        which, how = carrier
        revert = self._reverted_on(branch.ref, {commit.hash, which})
        if revert is not None:
            return OnBranch(branch.name, "reverted", how, revert)
        first = self.containment.first_tag(which, branch.series)
        return OnBranch(branch.name, "has", how, which, first)

    def _carrier(self, ref: str, commit: Mention) -> tuple[str, How] | None:
        """The commit of `ref` that brings `commit`, and what shows it."""
        if self.containment.contains(ref, commit.hash):
            return commit.hash, "ancestry"
        for mention in self._mentions:
            named = names(mention.upstream, commit.hash)
            same = mention.subject == commit.subject and not mention.reverts
            if (named or same) and self.containment.contains(ref, mention.hash):
                return mention.hash, "upstream line" if named else "subject"
        return None

    def _reverting(self, hash: str) -> list[Mention]:
        return [mention for mention in self._mentions if names(mention.reverts, hash)]

    def _undone(self, revert: Mention) -> bool:
        return bool(self._reverting(revert.hash))

    def _reverted_on(self, ref: str, hashes: set[str], depth: int = 0) -> str | None:
        """The revert of one of `hashes` that stands on `ref` and was not reverted itself."""
        for mention in self._mentions:
            if not any(names(mention.reverts, hash) for hash in hashes):
                continue
            if not self.containment.contains(ref, mention.hash):
                continue
            again = depth < _MAX_REVERTS and self._reverted_on(ref, {mention.hash}, depth + 1)
            if not again:
                return mention.hash
        return None
