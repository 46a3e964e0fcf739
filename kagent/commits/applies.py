"""Whether a commit's patch applies to a branch, and whether the branch has the same patch."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from kagent.commits.history import git_call
from kagent.errors import InputError, MissingDataError

if TYPE_CHECKING:
    import git

__all__ = ["Applies", "find_same_patch", "try_patch"]

Applies = Literal["cleanly", "with less context", "no"]

_MAX_COMPARED = 2000
"""Commits of a branch whose patches are compared at most."""
_SECONDS = 120.0
_FAILED = re.compile(
    r"^error: (?:patch failed: )?(.{1,4096}?)(?::\d{1,9})?(?:: [\w ]{1,80})?$", re.M
)
_PATCH = ("--no-color", "--no-ext-diff", "--no-textconv", "--full-index", "--binary")


def try_patch(
    repository: git.Repo, commit: str, ref: str
) -> tuple[Applies, tuple[str, ...]] | None:
    """Apply the patch of `commit` to `ref`, in an index of its own that is thrown away.

    The second part names the files that reject it. None when the repository lacks what is needed
    (a merge, a partial clone).
    """
    try:
        patch = git_call(repository, "diff-tree", "-p", "--root", *_PATCH, commit)
        files = _files(repository, commit)
    except (InputError, MissingDataError):
        return None
    if not files:
        return None
    with tempfile.TemporaryDirectory(prefix="kagent-") as scratch:
        index, patch_file = Path(scratch, "index"), Path(scratch, "patch")
        # The first line is the commit's hash.
        patch_file.write_bytes(_raw(patch.partition("\n")[2] + "\n"))
        try:
            _fill_index(repository, ref, files, index)
        except (InputError, MissingDataError):
            return None
        rejected = _rejected(repository, index, patch_file, ())
        if rejected is None:
            return "cleanly", ()
        if _rejected(repository, index, patch_file, ("-C1",)) is None:
            return "with less context", ()
        return "no", rejected


def find_same_patch(repository: git.Repo, commit: str, ref: str) -> str | None:
    """The commit of `ref`, since it left the history of `commit`, whose patch is the same.

    `git patch-id` decides: the same changes, whatever the line numbers and white space.
    """
    try:
        wanted = _patch_ids(repository, git_call(repository, "diff-tree", "-p", *_PATCH, commit))
        files = _files(repository, commit)
        if not wanted or not files:
            return None
        span = f"{commit}..{ref}"
        limit = f"--max-count={_MAX_COMPARED}"
        patches = git_call(
            repository, "log", "-p", "--format=commit %H", "--no-merges", limit, *_PATCH,
            "--no-show-signature", span, "--", *files, timeout=_SECONDS,
        )  # fmt: skip
    except (InputError, MissingDataError):
        return None
    return _patch_ids(repository, patches).get(next(iter(wanted)))


def _files(repository: git.Repo, commit: str) -> list[str]:
    names = git_call(
        repository, "diff-tree", "-r", "-z", "--root", "--name-only", "--no-commit-id", commit
    )
    return [name for name in names.split("\0") if name]


def _fill_index(repository: git.Repo, ref: str, files: Sequence[str], index: Path) -> None:
    """An index with those of `files` that `ref` has: the whole tree would take a second."""
    entries = git_call(repository, "--literal-pathspecs", "ls-tree", "-r", "-z", ref, "--", *files)
    with tempfile.TemporaryFile() as listing:
        listing.write(_raw(entries))
        listing.seek(0)
        _run(repository, ["update-index", "-z", "--index-info"], index, listing)


def _raw(text: str) -> bytes:
    """The bytes that git printed."""
    return text.encode("utf-8", "surrogateescape")


def _rejected(
    repository: git.Repo, index: Path, patch: Path, options: Sequence[str]
) -> tuple[str, ...] | None:
    """Files that reject the patch; None when it applies."""
    command = ["apply", "--cached", "--check", *options, str(patch)]
    try:
        _run(repository, command, index)
    except InputError as error:
        return tuple(dict.fromkeys(_FAILED.findall(str(error))))
    return None


def _run(
    repository: git.Repo, command: list[str], index: Path, stdin: BinaryIO | None = None
) -> str:
    import git

    environment = {"GIT_INDEX_FILE": str(index)}
    try:
        out: str = repository.git.execute(
            ["git", *command], istream=stdin, env=environment, kill_after_timeout=_SECONDS
        )
    except git.GitCommandError as error:
        text = str(error.stderr).strip().removeprefix("stderr:").strip().strip("'").strip()
        raise InputError(text) from error
    return out


def _patch_ids(repository: git.Repo, patches: str) -> dict[str, str]:
    """Patch id → commit."""
    with tempfile.TemporaryFile() as stream:
        stream.write(_raw(patches) + b"\n")
        stream.seek(0)
        lines = repository.git.execute(
            ["git", "patch-id", "--stable"], istream=stream, kill_after_timeout=_SECONDS
        )
    return dict(line.split(" ", 1) for line in str(lines).splitlines() if " " in line)
