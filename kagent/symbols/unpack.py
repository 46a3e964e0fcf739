"""Unpacking compressed debug files into unnamed temporary ones."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from kagent.errors import CorruptDataError, InputError, MissingDataError

__all__ = ["unpack"]

MAX_UNPACKED = 8 * 1024**3
_ANY_PACKING, _MAX_RATIO = 256 << 20, 100
"""Beyond so many bytes more than the hundredfold is no debug info, which packs to a tenth."""
_MAX_DICTIONARY = 512 << 20
_CHUNK = 1 << 20


def unpack(stream: BinaryIO, packing: str, path: Path) -> BinaryIO:
    """The content of `stream`, which is `packing` ("xz", "zst" or "gz"), at its beginning.

    `path` names it in errors: `CorruptDataError`, `InputError` where it does not fit or grows
    beyond 8 GiB or, if it is large, the hundredfold,
    `MissingDataError` where there is no Zstandard decompressor.
    """
    target = cast(BinaryIO, tempfile.TemporaryFile(prefix="kagent-"))  # noqa: SIM115
    packed = os.fstat(stream.fileno()).st_size
    limit = min(MAX_UNPACKED, max(_ANY_PACKING, _MAX_RATIO * packed))
    try:
        if packing == "zst":
            _copy_zstd(stream, target, path, limit)
        elif packing == "xz":
            _copy(_unxz(stream), target, path, limit)
        else:
            with gzip.open(stream) as plain:
                _copy(iter(lambda: plain.read(_CHUNK), b""), target, path, limit)
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


def _copy(chunks: Iterable[bytes], target: BinaryIO, path: Path, limit: int) -> None:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise InputError(f"{path} unpacks to more than {limit >> 20} MiB")
        target.write(chunk)


def _unxz(stream: BinaryIO) -> Iterator[bytes]:
    """What `lzma.open` gives, with a bound on the memory that a header may ask for."""
    data, unpacker = b"", lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY)
    while True:
        if unpacker.eof:
            data = (unpacker.unused_data or stream.read(_CHUNK)).lstrip(b"\0")  # padding
            if not data:
                return
            unpacker = lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY)
        elif unpacker.needs_input and not (data := stream.read(_CHUNK)):
            raise EOFError("it ends before its end marker")
        yield unpacker.decompress(data, _CHUNK)
        data = b""


def _copy_zstd(stream: BinaryIO, target: BinaryIO, path: Path, limit: int) -> None:
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
            _copy(iter(lambda: pipe.read(_CHUNK), b""), target, path, limit)
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise CorruptDataError(f"{path} cannot be unpacked", hint="copy or download it again")
