"""Where a tree's files come from: a directory, or one revision of a git repository.

Both keep to their root: whatever name is asked for, nothing outside can be read.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kagent.errors import InputError, MissingDataError
from kagent.source.git import GitOutput, GitRepository

__all__ = ["DirectoryStore", "GrepHit", "RevisionStore", "Store", "confined", "readable"]

MAX_FILE_BYTES = 8 * 1024 * 1024
_MAX_GREP_BYTES = 16 * 1024 * 1024
_MAX_NAME = 1024
_MAX_LINK_HOPS = 8
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class GrepHit:
    """One matching line."""

    path: str
    line: int
    text: str


def confined(path: str) -> str:
    """A relative name inside a tree, normalised; `InputError` for anything that could leave it."""
    if not path or len(path) > _MAX_NAME or "\0" in path or "\n" in path:
        raise InputError(f"{path[:80]!r} is not a file name")
    if path.startswith(("/", "\\", "~", "-", ":")):
        raise InputError(
            f"{path!r} is not a name inside the source tree",
            hint="give it relative to the tree's root, e.g. mm/slub.c",
        )
    if ".." in path.split("/"):
        raise InputError(f"{path!r} leaves the source tree")
    clean = posixpath.normpath(path)
    if clean.partition("/")[0].lower() == ".git":
        raise InputError(f"{path!r} is not a source file")
    return clean


def readable(path: str) -> bool:
    """Whether the tree lets that name be read; a search may also hit ``-x.c``."""
    try:
        return confined(path) == path
    except InputError:
        return False


class Store(Protocol):
    """What `SourceTree` needs of a place with files. Paths are `confined` already."""

    @property
    def revision(self) -> str | None:
        """Tag or commit as asked for; None for plain files."""

    def is_file(self, path: str) -> bool:
        """Whether there is a regular file of that name."""

    def first_file(self, paths: Sequence[str]) -> str | None:
        """The first of several names that is a file."""

    def read(self, path: str) -> bytes:
        """Its content, at most 8 MiB; `MissingDataError` when there is no such file."""

    def named(self, name: str) -> list[str]:
        """Files of that last name anywhere, in a small directory; nothing in a repository."""

    def grep(self, patterns: Sequence[str], globs: Sequence[str]) -> tuple[list[GrepHit], bool]:
        """Lines that match any POSIX extended expression; also whether output was cut."""


class DirectoryStore:
    """The files of a directory as they are now."""

    revision = None

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._git = GitRepository(self.root)

    def _inside(self, path: str) -> Path:
        full = (self.root / path).resolve()
        if not full.is_relative_to(self.root):
            raise InputError(f"{path} is a link that leaves the source tree")
        return full

    def is_file(self, path: str) -> bool:
        try:
            return self._inside(path).is_file()
        except (OSError, RuntimeError, InputError):
            return False

    def first_file(self, paths: Sequence[str]) -> str | None:
        return next((path for path in paths if self.is_file(path)), None)

    def read(self, path: str) -> bytes:
        full = self._inside(path)
        try:
            handle = os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(handle, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise MissingDataError(f"{path} is not a regular file")
                return stream.read(MAX_FILE_BYTES)
        except OSError as error:
            raise MissingDataError(f"{path}: {error.strerror or error}") from None

    def named(self, name: str) -> list[str]:
        found, seen = [], 0
        for folder, folders, files in os.walk(self.root):
            place = Path(folder).relative_to(self.root)
            folders[:] = sorted(f for f in folders if f != ".git" and len(place.parts) < _MAX_DEPTH)
            seen += len(files) + len(folders)
            if seen > _MAX_ENTRIES:
                return []
            if name in files:
                found.append((place / name).as_posix())
        return [path for path in found if self.is_file(path)]

    def grep(self, patterns: Sequence[str], globs: Sequence[str]) -> tuple[list[GrepHit], bool]:
        # Also in a checkout: generated files count, and ignore rules must not hide sources.
        found = self._git.grep(patterns, globs, options=["--no-index"], limit=_MAX_GREP_BYTES)
        return _hits(found, ""), found.truncated


class RevisionStore:
    """The files of one commit; no checkout is needed."""

    def __init__(self, root: Path, revision: str) -> None:
        self._git = GitRepository(root)
        self.revision: str = revision
        self.commit = self._git.resolve(revision)

    def _entry(self, path: str) -> tuple[str, str] | None:
        """(mode, blob id) of a file, links followed inside the tree; None if there is none."""
        for _ in range(_MAX_LINK_HOPS):
            found = self._git.run(
                ["--literal-pathspecs", "ls-tree", "-z", "--full-tree", self.commit, "--", path]
            )
            fields, tab, name = found.data.rstrip(b"\0").partition(b"\t")
            if not tab or os.fsdecode(name) != path or fields.split()[1] != b"blob":
                return None
            mode, _, blob = fields.decode("ascii").split()
            if mode != "120000":
                return mode, blob
            target = os.fsdecode(self._git.run(["cat-file", "blob", blob], limit=4096).data)
            joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if target.startswith("/") or joined.startswith("../"):
                raise InputError(f"{path} is a link that leaves the source tree")
            path = joined
        return None

    def is_file(self, path: str) -> bool:
        return self._entry(path) is not None

    def first_file(self, paths: Sequence[str]) -> str | None:
        names = [f"{self.commit}:{path}" for path in paths]
        found = self._git.run(
            ["cat-file", "--batch-check=%(objecttype)"],
            stdin=os.fsencode("".join(name + "\n" for name in names)),
        )
        answers = found.data.decode("utf-8", "replace").splitlines()
        pairs = zip(paths, answers, strict=False)
        return next((path for path, answer in pairs if answer == "blob"), None)

    def named(self, name: str) -> list[str]:
        del name  # a repository has the folders of the build: suffixes find every file
        return []

    def read(self, path: str) -> bytes:
        entry = self._entry(path)
        if entry is None:
            raise MissingDataError(f"{path} is not in {self.revision}")
        return self._git.run(["cat-file", "blob", entry[1]], limit=MAX_FILE_BYTES).data

    def grep(self, patterns: Sequence[str], globs: Sequence[str]) -> tuple[list[GrepHit], bool]:
        found = self._git.grep(patterns, globs, commit=self.commit, limit=_MAX_GREP_BYTES)
        return _hits(found, f"{self.commit}:"), found.truncated


def _hits(found: GitOutput, prefix: str) -> list[GrepHit]:
    """``PATH NUL LINE NUL TEXT LF`` records."""
    hits = []
    for record in found.data.split(b"\n"):
        name, _, rest = record.partition(b"\0")
        number, _, text = rest.partition(b"\0")
        if number.isdigit():
            path = os.fsdecode(name).removeprefix(prefix)
            hits.append(GrepHit(path, int(number), text.decode("utf-8", "replace")[:500]))
    return hits
