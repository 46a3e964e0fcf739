"""Replacing a directory as one step, so that readers see the old one or the new one whole."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["staging"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Give a fresh directory beside `target`; on success it takes the place of `target`.

    When the block raises, `target` stays as it was. What a killed process left behind is removed
    by the next call. The directory that is replaced is deleted: check first that it may be.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.new-"
    _sweep(target.parent, prefix)
    fresh = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    # The lock tells a live build from the remains of a killed one; the kernel drops it.
    lock = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fresh
        _sync(fresh)
        fresh.chmod(0o777 & ~_umask())
        _put_in_place(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        os.close(lock)


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


def _sweep(parent: Path, prefix: str) -> None:
    for stale in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            handle = os.open(stale, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(stale, ignore_errors=True)
            finally:
                os.close(handle)


def _sync(directory: Path) -> None:
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
