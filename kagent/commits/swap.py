"""Replacing a directory as one step, so that readers see the old one or the new one whole."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from kagent.errors import InputError

__all__ = ["staging", "sync_files"]

_NOT_THERE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
"""Why no directory can be made at a place, whatever room there is."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


@contextlib.contextmanager
def staging(target: Path, *, keep: Callable[[BaseException], bool] | None = None) -> Iterator[Path]:
    """Give the directory beside `target` that takes its place when the block ends well.

    When the block raises, `target` stays as it was; what is in the directory is kept for the next
    call if `keep` says so, as it is when the process is killed. The directory that is replaced is
    deleted: check first that it may be.

    Raises:
        InputError: another process is at it, or it cannot be there.
    """
    target = target.resolve()
    fresh = target.with_name(f".{target.name}.new")
    lock = _lock(fresh, target)
    kept = False
    try:
        yield fresh
        sync_files(fresh)
        fresh.chmod(0o777 & ~_umask())
        _put_in_place(fresh, target)
    except BaseException as error:
        kept = keep is not None and keep(error)
        raise
    finally:
        if not kept:
            shutil.rmtree(fresh, ignore_errors=True)
        os.close(lock)


def _lock(fresh: Path, target: Path) -> int:
    """Make and lock the directory; the kernel drops the lock with the process."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        raise InputError(
            f"{target} cannot be written: {error.strerror}", hint="name another directory with -o"
        ) from error
    lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Meanwhile it may have become the target, or be gone.
        if fresh.exists() and os.path.samestat(fresh.stat(), os.fstat(lock)):
            return lock
    except OSError:  # somebody else has it
        pass
    os.close(lock)
    raise InputError(
        f"another process is building {target}", hint="wait until it is done, or stop it"
    )


def _put_in_place(fresh: Path, target: Path) -> None:
    """Afterwards `fresh` is what stood at `target`, or is gone."""
    if not target.exists():
        fresh.rename(target)
    elif not _exchange(fresh, target):
        # Without an atomic exchange a reader may, for a moment, find nothing.
        old = fresh.with_name(f"{fresh.name}.old")
        target.rename(old)
        fresh.rename(target)
        old.rename(fresh)
    _sync_directory(target.parent)


def _exchange(left: Path, right: Path) -> bool:
    """Swap two paths by renameat2(2); False where the system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    done = renameat2(
        _AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    return bool(done == 0)


def sync_files(directory: Path) -> None:
    """Wait until the files of `directory` are on the disk."""
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
