"""The branches of a kernel repository that somebody still maintains, and what is on them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kagent.repository import Repository

__all__ = ["Branch", "Containment", "find_branch", "maintained_branches", "version_key"]

_STABLE_BRANCH = re.compile(r"(?:.*/)?linux-(\d{1,3}\.\d{1,3})(?:\.y)?")
_MAINLINE = re.compile(r"refs/(?:remotes/[\w.-]{1,80}|heads)/(?:master|main)")
_TAG = re.compile(r"v(\d{1,4})\.(\d{1,4})(?:\.(\d{1,5}))?(?:-rc(\d{1,3}))?")
_FINAL = 1_000_000
ALIVE = timedelta(days=120)
"""A branch without a commit for this long, beside one that has some, has reached its end."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of development: mainline, a stable series, or one the user named."""

    name: str
    ref: str
    """``refs/remotes/stable/linux-6.6.y``, the last tag of the series, or a commit's full id."""
    series: str | None = None
    """``6.6`` for a stable series."""


def version_key(tag: str) -> tuple[int, int, int, int] | None:
    """Sort key of a version tag; a candidate comes before its release, a stable release after.

    >>> sorted(["v6.1.2", "v6.1", "v6.1-rc8"], key=version_key)
    ['v6.1-rc8', 'v6.1', 'v6.1.2']
    """
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    major, minor, point, candidate = (int(part) if part else None for part in match.groups())
    return (major or 0, minor or 0, point or 0, _FINAL if candidate is None else candidate)


def find_branch(repository: Repository, revision: str) -> Branch:
    """The branch, tag or commit that the user named.

    Raises:
        InputError: it is none of the repository's.
    """
    found = repository.resolve(revision)
    stable = _STABLE_BRANCH.fullmatch(revision)
    key = version_key(revision)
    series = stable[1] if stable else f"{key[0]}.{key[1]}" if key and key[2] else None
    return Branch(revision, found, series)


def maintained_branches(repository: Repository) -> list[Branch]:
    """Mainline first, then the living stable series, newest first.

    Stable series are branches called ``linux-X.Y.y``, of whatever remote, or the last ``vX.Y.Z``
    tag where a clone has only tags.
    """
    shape = "--format=%(committerdate:iso-strict) %(creatordate:iso-strict) %(refname)"
    places = ("refs/heads", "refs/remotes", "refs/tags/v[0-9]*")
    rows = repository.text("for-each-ref", shape, *places).splitlines()
    mainline: tuple[datetime, Branch] | None = None
    stable: dict[str, tuple[datetime, Branch]] = {}
    tagged: dict[str, tuple[tuple[int, ...], datetime, Branch]] = {}
    for row in rows:
        *dates, ref = row.split(" ")
        when = datetime.fromisoformat(next(filter(None, dates), "1970-01-01T00:00:00+00:00"))
        short = ref.removeprefix("refs/remotes/").removeprefix("refs/heads/")
        if ref.startswith("refs/tags/"):
            key = version_key(tag := ref.removeprefix("refs/tags/"))
            if key and key[2]:
                series = f"{key[0]}.{key[1]}"
                tagged[series] = max(
                    tagged.get(series, ((), when, Branch("", ""))),
                    (key, when, Branch(tag, ref, series)),
                    key=lambda entry: entry[0],
                )
        elif found := _STABLE_BRANCH.fullmatch(short):
            best = stable.get(found[1])
            if best is None or when > best[0]:
                stable[found[1]] = (when, Branch(f"linux-{found[1]}.y", ref, found[1]))
        elif _MAINLINE.fullmatch(ref) and (mainline is None or when > mainline[0]):
            mainline = (when, Branch("mainline", ref))
    for series, (_, when, branch) in tagged.items():
        stable.setdefault(series, (when, branch))
    living = _living(stable.values())
    return ([mainline[1]] if mainline else []) + living


def _living(stable: Iterable[tuple[datetime, Branch]]) -> list[Branch]:
    dated = list(stable)
    if not dated:
        return []
    newest = max(when for when, _ in dated)
    alive = [branch for when, branch in dated if newest - when <= ALIVE]
    return sorted(alive, key=lambda branch: _series_key(branch.series), reverse=True)


def _series_key(series: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (series or "0").split("."))


class Containment:
    """Which branches and version tags contain a commit; asked of git once a commit."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._tags: dict[str, list[str]] = {}
        self._inside: dict[tuple[str, str], bool] = {}

    def contains(self, ref: str, commit: str) -> bool:
        """Whether `commit` is `ref` or an ancestor of it."""
        key = (ref, commit)
        if key not in self._inside:
            # Counting what the commit has and the ref has not answers without exit codes.
            missing = self._repository.text(
                "rev-list", "--count", "--max-count=1", revisions=[f"{ref}..{commit}"], paths=()
            )
            self._inside[key] = missing == "0"
        return self._inside[key]

    def first_tag(self, commit: str, series: str | None = None) -> str | None:
        """The lowest version tag that contains `commit`, of one stable series if asked so."""
        if commit not in self._tags:
            shape = ("--format=%(refname:strip=2)", "--contains", commit)
            tags = self._repository.text("for-each-ref", *shape, "refs/tags/v[0-9]*").split()
            keyed = sorted((key, tag) for tag in tags if (key := version_key(tag)) is not None)
            self._tags[commit] = [tag for _, tag in keyed]
        tags = self._tags[commit]
        if series:
            tags = [tag for tag in tags if tag.startswith(f"v{series}.")]
        return tags[0] if tags else None
