"""Result files: written whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from kagent.errors import InputError, OutputError

__all__ = ["check_output", "open_output", "write_file"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_NO_NEIGHBOUR = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)
"""Where the file may be written, but none beside it; a file that is a mount point is busy."""


def check_output(output: Path | None) -> None:
    """Fail before the work is done rather than after it.

    Raises:
        InputError: `output` can be no file.
    """
    if output is None:
        return
    if output.is_dir():
        raise InputError(f"{output} is a directory", hint="name a file in it")
    if not output.parent.is_dir():
        raise InputError(f"{output} cannot be written: no directory {output.parent}")


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`; raises as `open_output`."""
    with open_output(path) as file:
        file.write(data)


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when the block ends well, and else is removed.

    A device or a pipe is written as it is.

    Raises:
        InputError: `path` cannot be written.
        OutputError: there is no room for it.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        if target.exists() and not target.is_file():
            with target.open("wb") as device:
                yield device
            return
        with _replacing(target) as file:
            yield file
    except OSError as error:
        problem = f"{path} cannot be written: {error.strerror or error}"
        kind = OutputError if error.errno in _NO_ROOM else InputError
        raise kind(problem) from error


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    beside = target.with_name(f".kagent-{os.urandom(8).hex()}.part")
    try:
        file = beside.open("xb")
    except OSError as error:
        if error.errno not in _NO_NEIGHBOUR or not target.exists():
            raise
        with _overwriting(target) as existing:
            yield existing
        return
    try:
        with file:
            yield file
        if target.exists():
            shutil.copymode(target, beside)
        beside.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise error from None


@contextmanager
def _overwriting(target: Path) -> Iterator[BinaryIO]:
    """In place; what fails half way leaves nothing that could be taken for a result."""
    try:
        with target.open("wb") as file:
            yield file
    except BaseException:
        with contextlib.suppress(OSError):
            os.truncate(target, 0)
        raise
