"""Where a repository keeps its parts, and that all of them are its own.

A directory that somebody sent may say that its repository is elsewhere: ``.git`` as a file or a
link, ``commondir``, links below ``objects``, ``objects/info/alternates``. Each would have git read
what belongs to the user, so each has to stay inside the directory. What git itself makes with a
pointer back, a linked worktree or a submodule, is believed: nobody can write that pointer into
another's repository by sending a directory. Object stores named in the user's own
``GIT_ALTERNATE_OBJECT_DIRECTORIES`` are believed too.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kagent.errors import InputError, MissingDataError

__all__ = ["Place", "is_bare", "is_repository", "locate", "read_small"]

_MAX_POINTER = 4096
_MAX_ALTERNATES = 1 << 16
_HEAD = re.compile(rb"(?:ref: refs/[^\0-\x20\x7f]{1,1000}|[0-9a-f]{40}|[0-9a-f]{64})\s*\Z")
_PARTS = ("objects", "refs", "packed-refs", "shallow", "reftable", "config")
"""What is read of a repository, beside ``HEAD``."""

WorktreeOf = Callable[[Path], str | None]
"""Reads ``core.worktree`` of a configuration file."""


@dataclass(frozen=True, slots=True)
class Place:
    """The parts of one repository."""

    root: Path
    """As it was given."""
    common: Path
    """With ``objects``, ``refs`` and ``config``; resolved."""
    head: bytes
    """Content of ``HEAD``: of the worktree, where there are several."""
    partial: bool
    """Whether it says to be a clone without some of its objects."""


def is_repository(path: Path) -> bool:
    """Whether `path` is, or says to be, the top of a working tree or a bare repository."""
    return os.path.lexists(path / ".git") or _is_git_dir(path)


def is_bare(path: Path) -> bool:
    """Whether `path` is a repository without a working tree."""
    return not os.path.lexists(path / ".git") and _is_git_dir(path)


def locate(path: Path, worktree_of: WorktreeOf) -> Place:
    """Find the parts of the repository at `path`.

    Raises:
        MissingDataError: there is no such directory.
        InputError: it is no repository, or one that leads out of itself.
    """
    if not path.is_dir():
        raise MissingDataError(
            f"no such directory: {path}",
            hint="give a clone of the kernel: git clone "
            "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git",
        )
    root = path.resolve()
    own = _git_dir(path, root, worktree_of)
    common = _common(own, root)
    head = read_small(own / "HEAD", _MAX_POINTER)
    if not _is_git_dir(common) or head is None or not _HEAD.match(head):
        raise _not_one(path)
    allowed = [common, *_believed()]
    for part in _PARTS:
        _check_inside(common / part, allowed, path)
    partial = _check_objects(common / "objects", allowed, path)
    _check_alternates(common / "objects", [root, *allowed], path)
    return Place(path, common, head, partial)


def read_small(path: Path, limit: int) -> bytes | None:
    """The content of a regular file of at most `limit` bytes; None for anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        content = file.read(limit + 1)
    return content if len(content) <= limit else None


def _is_git_dir(path: Path) -> bool:
    """As git itself decides."""
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def _not_one(path: Path) -> InputError:
    return InputError(
        f"not a git repository: {path}", hint="give the directory that holds .git, or a bare one"
    )


def _leads_out(what: str, path: Path) -> InputError:
    return InputError(
        f"{what} leads out of {path}",
        hint="give the repository that it leads to, if you trust it",
    )


def _git_dir(path: Path, root: Path, worktree_of: WorktreeOf) -> Path:
    """The directory that ``.git`` is or names; `path` itself for a bare repository."""
    dot = root / ".git"
    if not os.path.lexists(dot):
        if _is_git_dir(root):
            return root
        raise _not_one(path)
    if dot.is_dir():
        found = dot.resolve()
        if not found.is_relative_to(root):
            raise _leads_out(".git", path)
        return found
    pointer = read_small(dot, _MAX_POINTER)
    if pointer is None or not pointer.startswith(b"gitdir: "):
        raise _not_one(path)
    found = _joined(root, pointer[len(b"gitdir: ") :])
    if found.is_relative_to(root) or _points_back(found, dot, worktree_of):
        return found
    raise _leads_out(".git", path)


def _joined(folder: Path, written: bytes) -> Path:
    return (folder / os.fsdecode(written.strip(b"\r\n"))).resolve()


def _points_back(git_dir: Path, dot: Path, worktree_of: WorktreeOf) -> bool:
    """Whether a repository knows the worktree, or the submodule, at `dot` as its own."""
    pointer = read_small(git_dir / "gitdir", _MAX_POINTER)
    if pointer is not None:
        worktrees = git_dir.parent
        return worktrees.name == "worktrees" and _joined(git_dir, pointer) == dot
    worktree = worktree_of(git_dir / "config")
    return worktree is not None and (git_dir / worktree).resolve() == dot.parent


def _common(own: Path, root: Path) -> Path:
    """The repository that a worktree's directory belongs to."""
    pointer = read_small(own / "commondir", _MAX_POINTER)
    if pointer is None:
        return own
    common = _joined(own, pointer)
    if common.is_relative_to(root) or (
        own.parent.name == "worktrees" and own.parent.parent == common
    ):
        return common
    raise _leads_out("commondir", root)


def _believed() -> list[Path]:
    """Object stores that the user's environment names."""
    named = os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "")
    return [Path(one).resolve() for one in named.split(os.pathsep) if one]


def _check_inside(part: Path, allowed: list[Path], path: Path) -> None:
    found = part.resolve()
    if not any(found.is_relative_to(one) for one in allowed):
        raise _borrows(path)


def _borrows(path: Path) -> InputError:
    return InputError(
        f"{path} borrows objects from another repository",
        hint="make it whole: git repack -a -d, then remove .git/objects/info/alternates; or export "
        "GIT_ALTERNATE_OBJECT_DIRECTORIES=the other's objects directory, if you trust it",
    )


def _check_objects(objects: Path, allowed: list[Path], path: Path) -> bool:
    """Refuse links out and what is no file; whether a pack came from a promisor."""
    partial = False
    for entry in _entries(objects):
        if entry.is_symlink():
            _check_inside(Path(entry.path), allowed, path)
        elif not entry.is_file(follow_symlinks=False):
            raise InputError(f"{path} has something else than files among its objects")
        partial = partial or entry.name.endswith(".promisor")
    return partial


def _entries(folder: Path, depth: int = 2) -> Iterator[os.DirEntry[str]]:
    """What lies below a directory, without the directories themselves."""
    try:
        found = list(os.scandir(folder))
    except OSError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False) and depth:
            yield from _entries(Path(entry.path), depth - 1)
        elif not entry.is_dir(follow_symlinks=False):
            yield entry


def _check_alternates(objects: Path, allowed: list[Path], path: Path) -> None:
    """`objects/info/alternates` (gitrepository-layout(5)), which git follows by itself."""
    listing = objects / "info" / "alternates"
    if not os.path.lexists(listing):
        return
    lines = read_small(listing, _MAX_ALTERNATES)
    if lines is None:
        raise _borrows(path)
    for line in lines.splitlines():
        if line and not line.startswith(b"#"):
            # A quoted name is one that git unquotes: too rare to be worth doing.
            if line.startswith(b'"'):
                raise _borrows(path)
            _check_inside(objects / os.fsdecode(line), allowed, path)
