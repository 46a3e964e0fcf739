"""Where a tree's files come from: a directory, or one revision of a git repository.

Both keep to their root: whatever name is asked for, nothing outside can be read.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kagent.errors import InputError, MissingDataError
from kagent.repository import Directory, Output, Repository

__all__ = [
    "MAX_FILE_BYTES",
    "DirectoryStore",
    "GrepHit",
    "RevisionStore",
    "Store",
    "confined",
    "readable",
]

MAX_FILE_BYTES = 8 * 1024 * 1024
"""What is read of one file."""
_MAX_GREP_BYTES = 16 * 1024 * 1024
_MAX_NAME = 1024
_MAX_LINK_HOPS = 8
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 8
_LINK = "120000"
"""The mode of a symbolic link in a tree of git."""
# What a kernel makes up as it is read: settings, memory and secrets of this machine.
_MADE_UP = {
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts",
    "devtmpfs", "efivarfs", "fusectl", "mqueue", "nsfs", "proc", "pstore", "securityfs",
    "selinuxfs", "smackfs", "sysfs", "tracefs",
}  # fmt: skip
_SHORT_NAME = re.compile(r"git~\d", re.I)
_SEPARATOR = re.compile(r"[/\\]")


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
    if clean == "." or any(map(_is_hidden, _SEPARATOR.split(clean))):
        raise InputError(
            f"{path!r} is not a source file",
            hint="names that start with a dot (.git, .env, .config) are not read",
        )
    return clean


def _is_hidden(name: str) -> bool:
    """Whether a name starts with a dot, or does for some file system.

    HFS+ leaves out invisible characters, NTFS has ``git~1`` for ``.git``; other forms of the dot
    come with names that were normalised on the way.
    """
    if name.isascii():
        return name.startswith(".") or _SHORT_NAME.match(name) is not None
    visible = "".join(c for c in name if unicodedata.category(c) not in ("Cf", "Cc", "Mn", "Zs"))
    return unicodedata.normalize("NFKC", visible).startswith(".")


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

    def read(self, path: str) -> tuple[bytes, bool]:
        """Its content, and whether it goes on after these 8 MiB.

        `MissingDataError` when there is no such file.
        """

    def named(self, name: str) -> list[str]:
        """Files of that last name anywhere, in a small directory; nothing in a repository."""

    def grep(self, patterns: Sequence[str], globs: Sequence[str]) -> tuple[list[GrepHit], bool]:
        """Lines that match any POSIX extended expression; also whether output was cut."""


class DirectoryStore:
    """The files of a directory as they are now."""

    revision = None

    def __init__(self, root: Path) -> None:
        """Raises `InputError` for a directory whose files a kernel makes up, such as ``/proc``."""
        self.root = root.resolve()
        self._made_up = _made_up_devices()
        if self.root.stat().st_dev in self._made_up:
            raise InputError(f"{root} holds no source", hint="give the path of a kernel tree")
        self._git = Directory(self.root)

    def _inside(self, path: str) -> Path:
        full = (self.root / path).resolve()
        if not full.is_relative_to(self.root):
            raise InputError(f"{path} is a link that leaves the source tree")
        confined(full.relative_to(self.root).as_posix())
        return full

    def is_file(self, path: str) -> bool:
        try:
            about = self._inside(path).stat()
        except (OSError, RuntimeError, InputError):
            return False
        return self._is_source(about)

    def _is_source(self, about: os.stat_result) -> bool:
        return stat.S_ISREG(about.st_mode) and about.st_dev not in self._made_up

    def first_file(self, paths: Sequence[str]) -> str | None:
        return next((path for path in paths if self.is_file(path)), None)

    def read(self, path: str) -> tuple[bytes, bool]:
        try:
            full = self._inside(path)
            handle = os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(handle, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
                if not self._is_source(os.fstat(handle)):
                    raise MissingDataError(f"{path} is not a regular file")
                content = stream.read(MAX_FILE_BYTES + 1)
        except RuntimeError:
            raise MissingDataError(f"{path} is a link to itself") from None
        except OSError as error:
            raise MissingDataError(f"{path}: {error.strerror or error}") from None
        return content[:MAX_FILE_BYTES], len(content) > MAX_FILE_BYTES

    def named(self, name: str) -> list[str]:
        found, seen = [], 0
        for folder, folders, files in os.walk(self.root):
            place = Path(folder).relative_to(self.root)
            folders[:] = sorted(
                f for f in folders if not _is_hidden(f) and len(place.parts) < _MAX_DEPTH
            )
            seen += len(files) + len(folders)
            if seen > _MAX_ENTRIES:
                return []
            if name in files:
                found.append((place / name).as_posix())
        return [path for path in found if readable(path) and self.is_file(path)]

    def grep(self, patterns: Sequence[str], globs: Sequence[str]) -> tuple[list[GrepHit], bool]:
        # Also in a checkout: generated files count, and ignore rules must not hide sources.
        found = self._git.grep(patterns, globs, options=["--no-index"], limit=_MAX_GREP_BYTES)
        return _hits(found, ""), found.truncated


class RevisionStore:
    """The files of one commit; no checkout is needed."""

    def __init__(self, repository: Repository, revision: str) -> None:
        self._git = repository
        self.revision: str = revision
        self.commit = self._git.resolve(revision)

    def _entries(self, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
        """(mode, blob id) of those `paths` that are files or links."""
        found = self._git.run(
            "ls-tree", "-z", "--full-tree", revisions=[self.commit], paths=paths,
            environment={"GIT_LITERAL_PATHSPECS": "1"},
        )  # fmt: skip
        entries = {}
        for record in filter(None, found.data.split(b"\0")):
            fields, _, name = record.partition(b"\t")
            mode, kind, blob = fields.decode("ascii").split()
            if kind == "blob":
                entries[os.fsdecode(name)] = (mode, blob)
        return entries

    def _blob(self, path: str) -> str | None:
        """The blob of a file, links followed inside the tree; None if there is none."""
        for _ in range(_MAX_LINK_HOPS):
            mode, blob = self._entries([path]).get(path, ("", ""))
            if mode != _LINK:
                return blob or None
            target = os.fsdecode(self._git.run("cat-file", "blob", blob, limit=4096).data)
            joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            if target.startswith("/") or joined.startswith("../"):
                raise InputError(f"{path} is a link that leaves the source tree")
            path = confined(joined)
        return None

    def is_file(self, path: str) -> bool:
        try:
            return self._blob(path) is not None
        except InputError:
            return False

    def first_file(self, paths: Sequence[str]) -> str | None:
        entries = self._entries(paths) if paths else {}
        return next(
            (
                path
                for path in paths
                if path in entries and (entries[path][0] != _LINK or self.is_file(path))
            ),
            None,
        )

    def named(self, name: str) -> list[str]:
        del name  # a repository has the folders of the build: suffixes find every file
        return []

    def read(self, path: str) -> tuple[bytes, bool]:
        blob = self._blob(path)
        if blob is None:
            raise MissingDataError(f"{path} is not in {self.revision}")
        found = self._git.run("cat-file", "blob", blob, limit=MAX_FILE_BYTES)
        return found.data, found.truncated

    def grep(self, patterns: Sequence[str], globs: Sequence[str]) -> tuple[list[GrepHit], bool]:
        found = self._git.grep(patterns, globs, commit=self.commit, limit=_MAX_GREP_BYTES)
        return _hits(found, f"{self.commit}:"), found.truncated


def _hits(found: Output, prefix: str) -> list[GrepHit]:
    """``PATH NUL LINE NUL TEXT LF`` records, of files that may be read."""
    hits = []
    for record in found.data.split(b"\n"):
        name, _, rest = record.partition(b"\0")
        number, _, text = rest.partition(b"\0")
        if number.isdigit():
            path = os.fsdecode(name).removeprefix(prefix)
            if readable(path):
                hits.append(GrepHit(path, int(number), text.decode("utf-8", "replace")[:500]))
    return hits


def _made_up_devices() -> frozenset[int]:
    """Numbers of the mounted file systems that are `_MADE_UP` (proc_pid_mountinfo(5))."""
    found = set()
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    for mount in mounts.splitlines():
        fields, _, rest = mount.partition(" - ")
        if rest.partition(" ")[0] in _MADE_UP:
            major, _, minor = fields.split(" ")[2].partition(":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)
