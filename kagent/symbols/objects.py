"""One vmlinux or ``.ko`` with its debug info, and the process-wide cache of them."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from kagent.errors import InputError
from kagent.symbols.dwarf import DrgnDwarf, drgn_available
from kagent.symbols.elf import ElfImage
from kagent.symbols.files import open_image_file
from kagent.symbols.model import Location, Variable

if TYPE_CHECKING:
    import drgn

    from kagent.symbols.symtab import ElfSymbol
    from kagent.symbols.tools import ToolDwarf

__all__ = ["DebugObject", "open_object"]

_CACHED_OBJECTS = 48
_CACHED_CHAINS = 20_000
_Answer = TypeVar("_Answer")


class DebugObject:
    """Symbols and, as far as this machine can read them, lines and types of one file.

    Safe to share between threads. Everything is released when the last reference goes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        stream = open_image_file(path)
        try:
            self.image = ElfImage(stream, path)
        except BaseException:
            stream.close()
            raise
        weakref.finalize(self, _release, self.image, stream)
        self._lines: DrgnDwarf | ToolDwarf | None = None
        self.note: str | None = None
        """Why there are no lines, when there are none."""
        if not self.image.has_dwarf:
            self.note = f"{path.name} has no debug info"
        elif drgn_available():
            self._lines = DrgnDwarf(self.image, stream)
        else:
            self._use_tools(stream)
        self._chains: dict[int, tuple[Location, ...]] = {}

    def _use_tools(self, stream: BinaryIO) -> None:
        from kagent.symbols.tools import ToolDwarf, line_tool

        if tool := line_tool(self.image):
            self._lines = ToolDwarf(self.image, stream, tool)
        else:
            self.note = "neither drgn nor llvm-symbolizer or addr2line is installed"

    @property
    def name(self) -> str:
        """File name, for messages."""
        return self.path.name

    def find(self, symbol: str) -> tuple[ElfSymbol, ...]:
        """All definitions of a symbol."""
        with self.lock:
            return self.image.find(symbol)

    def prepare(self, symbols: Iterable[str]) -> None:
        """Look several symbols up at once, which `find` then knows.

        drgn takes half a millisecond for a name, the first search of a vmlinux's table fifty.
        """
        with self.lock:
            lines, unknown = self._lines, self.image.unknown(symbols)
            if len(unknown) > 1 and isinstance(lines, DrgnDwarf):
                self.image.learn({name: lines.symbols(name) for name in unknown})

    def chains(self, addresses: Sequence[int]) -> list[tuple[Location, ...]]:
        """Inline chains at addresses of this image's own layout."""
        with self.lock:
            unknown = sorted({a for a in addresses if a not in self._chains})
            if unknown and self._lines is not None:
                if len(self._chains) > _CACHED_CHAINS:
                    self._chains.clear()
                    unknown = sorted(set(addresses))
                self._chains.update(zip(unknown, self._lines.chains(unknown), strict=True))
            return [self._chains.get(address, ()) for address in addresses]

    def ask_type(
        self, name: str, file: str | None, ask: Callable[[drgn.Type], _Answer | None]
    ) -> _Answer | None:
        """What `ask` says of a type; None where there is none or drgn is not available."""
        with self.lock:
            lines = self._lines
            return lines.ask_type(name, file, ask) if isinstance(lines, DrgnDwarf) else None

    def variables(self, address: int, registers: Mapping[str, int]) -> list[Variable]:
        """Variables in scope at an address; none where drgn is not available."""
        with self.lock:
            lines = self._lines
            return lines.variables(address, registers) if isinstance(lines, DrgnDwarf) else []


def _release(image: ElfImage, stream: BinaryIO) -> None:
    image.close()
    stream.close()


_cache: OrderedDict[tuple[str, int, int], DebugObject] = OrderedDict()
_cache_lock = threading.Lock()


def open_object(path: Path) -> DebugObject:
    """Open a vmlinux or ``.ko``, or take it from the cache if the file has not changed.

    Raises `InputError`, `CorruptDataError` or `MissingDataError`.
    """
    try:
        resolved = path.resolve()
        state = resolved.stat()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    key = (str(resolved), state.st_mtime_ns, state.st_size)
    with _cache_lock:
        found = _cache.get(key)
        if found is not None:
            _cache.move_to_end(key)
            return found
    opened = DebugObject(path)
    with _cache_lock:
        _cache[key] = opened
        while len(_cache) > _CACHED_OBJECTS:
            _cache.popitem(last=False)
    return opened
