"""From a command line argument to log text: files, pipes, compressed logs, and clear refusals."""

from __future__ import annotations

import importlib
import io
import re
import shlex
import sys
from pathlib import Path
from typing import BinaryIO

from kagent.errors import CorruptDataError, InputError

__all__ = ["DEFAULT_MAX_BYTES", "byte_size", "read_log", "read_log_bytes"]

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
"""Of the log after decompression; the same as the setting ``max_log_bytes``."""

_CHUNK = 1 << 20
_MAGIC = {
    b"\x7fELF": (
        "an ELF file, not a log",
        "give the log that goes with it: `dmesg`, a serial console, or vmcore-dmesg.txt",
    ),
    b"KDUMP   ": (
        "a compressed crash dump, not a log",
        "take the log out of it: makedumpfile --dump-dmesg DUMP LOG",
    ),
    b"PK\x03\x04": ("a ZIP archive, not a log", "unpack it and give the log inside"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "unpack it: zstd -dc FILE | kagent analyze -"),
    b"%PDF": ("a PDF, not a log", "copy the log's text out of it"),
}
_PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "lzma", b"BZh": "bz2"}
"""First bytes of compressed logs, and the module that opens them; most logs need none."""
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
# NUL and the controls that no console prints; the rest of C0 occurs in real serial logs.
_UNPRINTED = bytes(set(range(32)) - set(b"\a\b\t\n\v\f\r\x1b\x0e\x0f"))
_MAX_UNPRINTED = 0.05
_STDIN = "standard input"


def byte_size(text: str) -> int:
    """Bytes, with K, M or G for powers of 1024.

    Raises:
        ValueError: it is no size.
    """
    match = re.fullmatch(r"([1-9]\d{0,15})([kmg]?)", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 200M")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]]


def read_log(source: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> str:
    """The text of `source`, a path or ``-``; bytes that are not UTF-8 become U+FFFD.

    Raises:
        InputError: it cannot be read, is empty, too large, or no text.
        CorruptDataError: it is compressed and damaged.
    """
    return read_log_bytes(source, max_bytes=max_bytes).decode("utf-8", "replace")


def read_log_bytes(source: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """As `read_log`, but byte for byte (of UTF-16 only the encoding changes)."""
    name = _STDIN if source == "-" else source
    if source == "-":
        if sys.stdin.isatty():
            raise InputError("no log was given", hint="name a FILE, or pipe a log into kagent")
        return _read(sys.stdin.buffer, name, max_bytes)
    path = Path(source)
    try:
        if path.is_dir():
            raise InputError(f"{name} is a directory", hint="name the log file in it")
        with path.open("rb") as file:
            return _read(file, name, max_bytes)
    except FileNotFoundError:
        raise InputError(f"{name} does not exist") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name} cannot be read: {reason}") from error


def _read(file: BinaryIO, name: str, max_bytes: int) -> bytes:
    data = file.read(max_bytes + 1)
    for magic, (what, hint) in _MAGIC.items():
        if data.startswith(magic):
            raise InputError(f"{name} is {what}", hint=hint)
    if len(data) <= max_bytes:
        data = _unpacked(data, name, max_bytes)
    if len(data) > max_bytes:
        raise InputError(
            f"{name} is larger than {max_bytes:,} bytes",
            hint=f"give only its end, `{_tail(name)}`, or raise --max-log-bytes",
        )
    return _text(data, name)


def _tail(name: str) -> str:
    if name == _STDIN:
        return "... | tail -c 20M | kagent analyze -"
    return f"kagent analyze <(tail -c 20M {shlex.quote(name)})"


def _unpacked(data: bytes, name: str, max_bytes: int) -> bytes:
    """At most one byte more than `max_bytes`, so that a bomb costs no more than a large log."""
    for magic, module in _PACKED.items():
        if data.startswith(magic):
            from lzma import LZMAError
            from zlib import error as ZlibError  # noqa: N812 - its name says nothing here

            try:
                with importlib.import_module(module).open(io.BytesIO(data)) as stream:
                    return bytes(stream.read(max_bytes + 1))
            except (EOFError, OSError, ZlibError, LZMAError) as error:
                raise CorruptDataError(
                    f"{name} is compressed, but damaged: {error}",
                    hint="copy it again, or unpack by hand what can be saved",
                ) from error
    return data


def _text(data: bytes, name: str) -> bytes:
    encoding = _UTF16.get(data[:2])
    if encoding:
        data = data[2:].decode(encoding, "replace").encode("utf-8", "replace")
    data = data.strip(b"\0")  # pstore and flash logs are padded
    if not data.strip():
        raise InputError(f"{name} is empty", hint="give a kernel log: dmesg, console or journal")
    unprinted = len(data) - len(data.translate(None, _UNPRINTED))
    if unprinted > _MAX_UNPRINTED * len(data):
        raise InputError(f"{name} is binary data, not a log", hint="give the log's text")
    return data
