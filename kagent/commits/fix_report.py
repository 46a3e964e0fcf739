"""Is it fixed, and is the fix in my kernel: everything a repository tells of one fix."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent.commits.applies import find_same_patch, try_patch
from kagent.commits.branches import Branch, find_branch, maintained_branches
from kagent.commits.history import GitHistory
from kagent.commits.landed import Landed, Landing, OnBranch, check_hash
from kagent.commits.stable_rules import StableMaterial, judge_stable
from kagent.errors import InputError, MissingDataError
from kagent.klog.release import KernelRelease, read_release, revision_candidates
from kagent.repository import Repository

if TYPE_CHECKING:
    from kagent.commits.model import Commit

__all__ = ["FixReport", "UsersKernel", "fix_report"]


@dataclass(frozen=True, slots=True)
class UsersKernel:
    """The kernel asked about, and how well the repository stands for it."""

    release: KernelRelease | None
    revision: str | None
    """What was looked up for it; None when the repository has nothing for that release."""
    sound: bool
    """Whether the answer holds for the kernel itself, not just for the version it started from."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class FixReport:
    """One fix: what it is, where it is, where it should go."""

    landing: Landing
    author: str
    date: str
    """ISO 8601, author date."""
    backport_of: str | None
    """The mainline commit, when the hash given was that of its backport."""
    kernel: UsersKernel | None
    stable: StableMaterial


def fix_report(
    repo: Path,
    hash: str,
    *,
    release: str | None = None,
    build: str | None = None,
    revision: str | None = None,
    branches: Sequence[str] = (),
) -> FixReport:
    """Look `hash` up in `repo` and try it on every branch that lacks it.

    `release` is `uname -r` of the kernel asked about and `build` what its boot banner prints after
    that; `revision` names its tag or commit outright. `branches` are looked at instead of mainline
    and the maintained stable series. A backport's hash is answered for the mainline commit it
    carries.

    Raises:
        MissingDataError: `repo` does not exist, or does not have the commit.
        InputError: it is no repository, or `hash` or a revision cannot be one.
    """
    hash = check_hash(hash)
    repository = Repository(repo)
    lines = [find_branch(repository, name) for name in branches] or maintained_branches(repository)
    landed = Landed(repository, [hash])
    original = landed.upstream_of(hash)
    if original is not None:
        landed = Landed(repository, [original])
    kernel = _users_kernel(repository, release, build, revision)
    line = find_branch(repository, kernel.revision) if kernel and kernel.revision else None
    landing = landed.landing(original or hash, line, lines)
    if not landing.known:
        raise MissingDataError(
            f"{repo} has no commit {hash}",
            hint="fetch mainline into it: git fetch origin (a shallow clone lacks most commits)",
        )
    places = {branch.name: branch.ref for branch in (*lines, *((line,) if line else ()))}
    landing = replace(
        landing,
        kernel=_tried(repository, landing, landing.kernel, places) if landing.kernel else None,
        branches=tuple(_tried(repository, landing, on, places) for on in landing.branches),
    )
    commit = _commit(repo, landing.hash)
    return FixReport(
        landing=landing,
        author=commit.author,
        date=commit.date,
        backport_of=original,
        kernel=kernel,
        stable=judge_stable(commit, landing.first_tag, _on_mainline(landing, lines)),
    )


def _tried(
    repository: Repository, landing: Landing, on: OnBranch, places: dict[str, str]
) -> OnBranch:
    """A branch that seems to lack the commit: by its patches, then by trying the patch."""
    if on.state not in ("lacks", "reverted"):
        return on
    ref = places[on.branch]
    if on.state == "lacks":
        same = find_same_patch(repository, landing.hash, ref)
        if same is not None:
            return replace(on, state="has", how="patch-id", commit=same)
    tried = try_patch(repository, landing.hash, ref)
    return on if tried is None else replace(on, applies=tried[0], conflicts=tried[1])


def _users_kernel(
    repository: Repository, release: str | None, build: str | None, revision: str | None
) -> UsersKernel | None:
    read = read_release(release, build) if release else None
    if revision is not None:
        return UsersKernel(read, revision, sound=True)
    if read is None:
        return None
    for candidate, _why in revision_candidates(read.release, build):
        try:
            find_branch(repository, candidate)
        except InputError:
            continue
        return UsersKernel(read, candidate, read.exact or candidate == read.commit, read.note)
    wanted = ", ".join(itertools.islice((c for c, _ in _unique(read, build)), 3))
    return UsersKernel(read, None, sound=False, note=f"the repository has none of {wanted or '-'}")


def _unique(read: KernelRelease, build: str | None) -> Iterator[tuple[str, str]]:
    return iter(dict(revision_candidates(read.release, build)).items())


def _on_mainline(landing: Landing, lines: Sequence[Branch]) -> bool:
    by_name = {on.branch: on for on in landing.branches}
    mainline = [by_name[line.name] for line in lines if line.series is None]
    return any(on.state == "has" for on in mainline)


def _commit(repo: Path, hash: str) -> Commit:
    """The commit with its patch; a merge has none and is refused."""
    stream: Any = GitHistory(repo).commits(hash)
    try:
        commit: Commit | None = next(stream, None)
    finally:
        stream.close()
    if commit is None or commit.hash != hash:
        raise InputError(f"{hash[:12]} is a merge", hint="give the commit that holds the change")
    return commit
