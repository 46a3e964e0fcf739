"""Whether a commit's patch applies to a branch, and whether the branch has the same patch."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kagent.errors import InputError, MissingDataError
from kagent.repository import Repository

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
    repository: Repository, commit: str, ref: str
) -> tuple[Applies, tuple[str, ...]] | None:
    """Apply the patch of `commit` to `ref`, in an index of its own that is thrown away.

    The second part names the files that reject it. None when the repository lacks what is needed
    (a merge, a partial clone).
    """
    try:
        patch = repository.text("diff-tree", "-p", "--root", *_PATCH, revisions=[commit])
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
        rejected = _rejected(repository, index, patch_file, files)
        if rejected is None:
            return "cleanly", ()
        if _rejected(repository, index, patch_file, files, "-C1") is None:
            return "with less context", ()
        return "no", rejected


def find_same_patch(repository: Repository, commit: str, ref: str) -> str | None:
    """The commit of `ref`, since it left the history of `commit`, whose patch is the same.

    `git patch-id` decides: the same changes, whatever the line numbers and white space.
    """
    try:
        wanted = _patch_ids(
            repository, repository.text("diff-tree", "-p", *_PATCH, revisions=[commit])
        )
        files = _files(repository, commit)
        if not wanted or not files:
            return None
        span = f"{commit}..{ref}"
        limit = f"--max-count={_MAX_COMPARED}"
        patches = repository.text(
            "log", "-p", "--format=commit %H", "--no-merges", limit, *_PATCH,
            "--no-show-signature", revisions=[span], paths=_literal(files), seconds=_SECONDS,
        )  # fmt: skip
    except (InputError, MissingDataError):
        return None
    return _patch_ids(repository, patches).get(next(iter(wanted)))


def _files(repository: Repository, commit: str) -> list[str]:
    names = repository.text(
        "diff-tree", "-r", "-z", "--root", "--name-only", "--no-commit-id", revisions=[commit]
    )
    return [name for name in names.split("\0") if name]


def _literal(files: Sequence[str]) -> list[str]:
    """Names that git shall not take for patterns."""
    return [f":(literal){name}" for name in files]


def _fill_index(repository: Repository, ref: str, files: Sequence[str], index: Path) -> None:
    """An index with those of `files` that `ref` has: the whole tree would take a second."""
    entries = repository.run(
        "ls-tree", "-r", "-z", revisions=[ref], paths=files,
        environment={"GIT_LITERAL_PATHSPECS": "1"},
    )  # fmt: skip
    repository.run("update-index", "-z", "--index-info", stdin=entries.data, environment=_at(index))


def _at(index: Path) -> dict[str, str]:
    return {"GIT_INDEX_FILE": str(index)}


def _raw(text: str) -> bytes:
    """The bytes that git printed."""
    return text.encode("utf-8", "surrogateescape")


def _rejected(
    repository: Repository, index: Path, patch: Path, files: Sequence[str], *options: str
) -> tuple[str, ...] | None:
    """Which of `files` reject the patch; None when it applies."""
    command = ("apply", "--cached", "--check", *options, str(patch))
    tried = repository.run(*command, ok=(0, 1, 128), environment=_at(index), seconds=_SECONDS)
    if tried.code == 0:
        return None
    named = _FAILED.findall(tried.errors.decode("utf-8", "surrogateescape"))
    return tuple(name for name in dict.fromkeys(named) if name in files)


def _patch_ids(repository: Repository, patches: str) -> dict[str, str]:
    """Patch id → commit."""
    found = repository.run("patch-id", "--stable", stdin=_raw(patches) + b"\n", seconds=_SECONDS)
    return dict(line.split(" ", 1) for line in found.text.splitlines() if " " in line)
