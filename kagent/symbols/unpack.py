"""Unpacking compressed debug files into unnamed temporary ones."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, BinaryIO, cast

from kagent.errors import CorruptDataError, InputError, MissingDataError

__all__ = ["unpack"]

MAX_UNPACKED = 8 * 1024**3
_CHUNK = 1 << 20


def unpack(stream: BinaryIO, packing: str, path: Path) -> BinaryIO:
    """The content of `stream`, which is `packing` ("xz", "zst" or "gz"), at its beginning.

    `path` names it in errors: `CorruptDataError`, `InputError` where it does not fit or grows
    beyond 8 GiB, `MissingDataError` where there is no Zstandard decompressor.
    """
    target = cast(BinaryIO, tempfile.TemporaryFile(prefix="kagent-"))  # noqa: SIM115
    try:
        if packing == "zst":
            _copy_zstd(stream, target, path)
        else:
            opener = lzma.open if packing == "xz" else gzip.open
            with opener(stream) as plain:
                _copy(iter(lambda: plain.read(_CHUNK), b""), target, path)
        target.flush()
        target.seek(0)
    except (lzma.LZMAError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        target.close()
        raise CorruptDataError(
            f"{path} cannot be unpacked: {error}", hint="copy or download it again"
        ) from None
    except OSError as error:
        target.close()
        raise InputError(
            f"cannot unpack {path}: {error.strerror or error}",
            hint="set TMPDIR to a directory with room, or unpack it yourself",
        ) from None
    except BaseException:
        target.close()
        raise
    return target


def _copy(chunks: Iterable[bytes], target: BinaryIO, path: Path) -> None:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > MAX_UNPACKED:
            raise InputError(f"{path} unpacks to more than {MAX_UNPACKED >> 30} GiB")
        target.write(chunk)


def _copy_zstd(stream: BinaryIO, target: BinaryIO, path: Path) -> None:
    program = shutil.which("zstd") or shutil.which("unzstd")
    if program is None:
        raise MissingDataError(
            f"{path} is compressed with Zstandard and there is no zstd program",
            hint="install zstd, or unpack the file yourself",
        )
    os.lseek(stream.fileno(), 0, os.SEEK_SET)  # the child sees the descriptor, not our buffer
    with subprocess.Popen(
        [program, "-d", "-c", "-q"],
        stdin=stream,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        pipe = cast("IO[bytes]", child.stdout)
        try:
            _copy(iter(lambda: pipe.read(_CHUNK), b""), target, path)
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise CorruptDataError(f"{path} cannot be unpacked", hint="copy or download it again")
