"""Where a commit has landed, as far as one repository tells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kagent.commits.history import git_call, open_repository
from kagent.errors import InputError

__all__ = ["CommitStatus", "fix_status"]

_VERSION_TAG = re.compile(r"v(\d+)\.(\d+)(?:\.(\d+))?(?:-rc(\d+))?")
_STABLE = re.compile(r"v?(\d+\.\d+)\.([1-9]\d*)")
_HASH = re.compile(r"[0-9a-fA-F]{7,64}")
_REVISION = re.compile(r"[\w][\w./+~^-]{0,199}", re.ASCII)
_FINAL = 1_000_000


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """What is known of a commit; None means that the repository cannot tell."""

    hash: str
    """In full; as given when the repository does not have it."""
    first_tag: str | None = None
    """The lowest version tag that contains it."""
    in_revision: bool | None = None
    """Whether the revision asked about has it, itself or as a backport."""
    backport: str | None = None
    """The commit of that revision's stable branch that carries it."""


def fix_status(repo: Path, hash: str, revision: str | None = None) -> CommitStatus:
    """Look `hash` up in `repo`; `revision` is the tag or commit that the kernel was built from.

    A stable kernel is searched for the backport as well: its message names the original
    (``commit <hash> upstream.``, ``[ Upstream commit <hash> ]``; see
    Documentation/process/stable-kernel-rules.rst). At most five git processes, each with a time
    limit.

    Raises:
        MissingDataError, InputError: `repo` is no repository, `hash` no commit hash, or
            `revision` not one of the repository's.
    """
    if not _HASH.fullmatch(hash):
        raise InputError(f"not a commit hash: {hash}", hint="give 7 to 40 hexadecimal digits")
    if revision is not None and not _REVISION.fullmatch(revision):
        raise InputError(f"not a revision: {revision[:80]}")
    repository = open_repository(repo)
    try:
        full = git_call(repository, "rev-parse", "--verify", "--quiet", f"{hash}^{{commit}}")
    except InputError:
        return CommitStatus(hash=hash)
    containing = git_call(repository, "tag", "--contains", full, "--list", "v[0-9]*").split()
    versions = sorted((key, tag) for tag in containing if (key := _version(tag)) is not None)
    first = versions[0][1] if versions else None
    if revision is None:
        return CommitStatus(full, first)
    # Counting what the commit has and the revision has not answers ancestry without exit codes.
    missing = git_call(repository, "rev-list", "--count", "--max-count=1", f"{revision}..{full}")
    if missing == "0":
        return CommitStatus(full, first, in_revision=True)
    stable = _STABLE.fullmatch(revision)
    if stable is None:
        return CommitStatus(full, first, in_revision=False)
    span = f"v{stable[1]}..{revision}"
    named = ["log", "-1", "--format=%H", "--fixed-strings", f"--grep={full}", span, "--"]
    backport = git_call(repository, *named) or None
    return CommitStatus(full, first, in_revision=backport is not None, backport=backport)


def _version(tag: str) -> tuple[int, int, int, int] | None:
    """Sort key; a release candidate comes before its release, a stable release after."""
    match = _VERSION_TAG.fullmatch(tag)
    if match is None:
        return None
    major, minor, point, candidate = (int(part) if part else None for part in match.groups())
    return (major or 0, minor or 0, point or 0, _FINAL if candidate is None else candidate)
