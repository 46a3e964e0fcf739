"""Where a commit has landed, as far as the tags of one repository tell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kagent.commits.history import git_call, open_repository
from kagent.errors import InputError

__all__ = ["CommitStatus", "fix_status", "release_tags"]

_RELEASE = re.compile(r"(\d{1,3}\.\d{1,4})(?:\.(\d{1,4}))?(-rc\d{1,2})?")
_VERSION_TAG = re.compile(r"v(\d+)\.(\d+)(?:\.(\d+))?(?:-rc(\d+))?")
_HASH = re.compile(r"[0-9a-fA-F]{7,64}")
_FINAL = 1_000_000


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """What is known of a commit; None means that the repository cannot tell."""

    hash: str
    """In full; as given when the repository does not have it."""
    first_tag: str | None = None
    """The lowest version tag that contains it."""
    release_tag: str | None = None
    """The tag of the release asked about."""
    in_release: bool | None = None
    """Whether `release_tag` contains it."""


def fix_status(repo: Path, hash: str, release: str | None) -> CommitStatus:
    """Look `hash` up in the tags of `repo`; `release` is a ``uname -r`` string.

    A backport is another commit: `in_release` is about this very hash. Three git processes at
    most, each with a time limit.

    Raises:
        MissingDataError, InputError: `repo` is no repository, or `hash` no commit hash.
    """
    if not _HASH.fullmatch(hash):
        raise InputError(f"not a commit hash: {hash}", hint="give 7 to 40 hexadecimal digits")
    repository = open_repository(repo)
    try:
        full = git_call(repository, "rev-parse", "--verify", "--quiet", f"{hash}^{{commit}}")
    except InputError:
        return CommitStatus(hash=hash)
    containing = git_call(repository, "tag", "--contains", full, "--list", "v[0-9]*").split()
    versions = sorted((key, tag) for tag in containing if (key := _version(tag)) is not None)
    tag = None
    if release:
        wanted = release_tags(release)
        existing = set(git_call(repository, "tag", "--list", *wanted).split()) if wanted else set()
        tag = next((name for name in wanted if name in existing), None)
    return CommitStatus(
        hash=full,
        first_tag=versions[0][1] if versions else None,
        release_tag=tag,
        in_release=tag in containing if tag else None,
    )


def release_tags(release: str) -> list[str]:
    """The tags a ``uname -r`` string may stand for, likeliest first.

    >>> release_tags("6.14.0-rc3-00012-gdeadbeef"), release_tags("6.1.57-generic")
    (['v6.14-rc3'], ['v6.1.57'])
    """
    match = _RELEASE.match(release)
    if match is None:
        return []
    base, point, candidate = match[1], match[2], match[3] or ""
    if point and point != "0":
        return [f"v{base}.{point}{candidate}"]
    return [f"v{base}{candidate}"]


def _version(tag: str) -> tuple[int, int, int, int] | None:
    """Sort key; a release candidate comes before its release, a stable release after."""
    match = _VERSION_TAG.fullmatch(tag)
    if match is None:
        return None
    major, minor, point, candidate = (int(part) if part else None for part in match.groups())
    return (major or 0, minor or 0, point or 0, _FINAL if candidate is None else candidate)
