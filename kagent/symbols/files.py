"""Finding and opening vmlinux and ``.ko`` files, compressed or not."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from kagent.errors import InputError

__all__ = ["ModuleDirectory", "fold_module_name", "open_image_file"]

_MAX_ENTRIES = 200_000
_MAX_DEPTH = 16
_MODULE_FILE = re.compile(r"(?P<name>[^/]{1,200})\.ko(?P<debug>\.debug)?(?:\.(?:xz|zst|gz))?\Z")
_MAGICS = {b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst", b"\x1f\x8b": "gz"}


def fold_module_name(name: str) -> str:
    """Module names are the same with ``-`` and ``_``."""
    return name.replace("-", "_")


def open_image_file(path: Path) -> BinaryIO:
    """Open `path` for reading; a compressed file is unpacked into an unnamed temporary file.

    Which compression is told by content, not by name. Raises `InputError`, `CorruptDataError`,
    or `MissingDataError` when there is no Zstandard decompressor.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a directory", hint="give the file itself")
        if not stat.S_ISREG(mode):
            raise InputError(f"{path} is not a regular file")
        stream = path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {_strerror(error)}") from None
    head = stream.read(6)
    stream.seek(0)
    packing = next((kind for magic, kind in _MAGICS.items() if head.startswith(magic)), None)
    if packing is None:
        return stream
    from kagent.symbols.unpack import unpack

    with stream:
        return unpack(stream, packing, path)


class ModuleDirectory:
    """The ``.ko`` files below a directory (or one file), by module name.

    The directory is read when the first module is asked for.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.truncated = False
        """Whether the search stopped at its bound."""
        single = root.is_file()
        if not single and not root.is_dir():
            raise InputError(
                f"{root} is not a directory", hint="give the directory with the .ko files"
            )
        if single and not _MODULE_FILE.match(root.name):
            raise InputError(
                f"{root} is not a .ko file", hint="give the directory with the .ko files"
            )

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        files: dict[str, list[Path]] = {}
        for path in [self.root] if self.root.is_file() else self._walk():
            if found := _MODULE_FILE.match(path.name):
                files.setdefault(fold_module_name(found["name"]), []).append(path)
        return files

    def _walk(self) -> Iterator[Path]:
        seen = 0
        for folder, folders, files in os.walk(self.root):
            depth = len(Path(folder).relative_to(self.root).parts)
            if depth >= _MAX_DEPTH:
                folders.clear()
            folders.sort()
            seen += len(files) + len(folders)
            if seen > _MAX_ENTRIES:
                self.truncated = True
                return
            for name in files:
                if ".ko" in name:
                    yield Path(folder) / name

    def candidates(self, module: str) -> list[Path]:
        """Files of a module; separate debug files first, shallower ones before deeper ones."""
        files = self._files.get(fold_module_name(module), [])
        return sorted(files, key=lambda p: (".ko.debug" not in p.name, len(p.parts), str(p)))

    def names(self) -> Iterator[str]:
        """Of every module here."""
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _strerror(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
