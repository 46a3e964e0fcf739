"""One vmlinux or ``.ko`` with its debug info, and the process-wide cache of them."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kagent.errors import CorruptDataError, InputError, NativeCodeError
from kagent.symbols.dwarf import DrgnDwarf, ElfShape, drgn_available
from kagent.symbols.elf import ElfImage
from kagent.symbols.files import open_image_file
from kagent.symbols.layout import TypeQuestion
from kagent.symbols.model import Location, Member, Variable

if TYPE_CHECKING:
    from kagent.symbols.isolated import IsolatedDwarf
    from kagent.symbols.symtab import ElfSymbol
    from kagent.symbols.tools import ToolDwarf

__all__ = ["DebugObject", "open_object"]

_CACHED_OBJECTS = 48
_CACHED_CHAINS = 20_000


class DebugObject:
    """Symbols and, as far as this machine can read them, lines and types of one file.

    Safe to share between threads. Everything is released when the last reference goes. What the
    debug info's damage keeps from being answered is left out, and `note` says so.
    """

    def __init__(self, path: Path, trusted: bool = False) -> None:
        """drgn reads a `trusted` file in this process, any other in the child."""
        self.path = path
        self.lock = threading.RLock()
        stream = open_image_file(path)
        try:
            self.image = ElfImage(stream, path)
        except BaseException:
            stream.close()
            raise
        weakref.finalize(self, _release, self.image, stream)
        self._dwarf: DrgnDwarf | IsolatedDwarf | None = None
        self._tool: ToolDwarf | None = None
        self.failed = False
        """Whether native code failed on it: another run may try again."""
        self.note: str | None = None
        """Why there are no lines, when there are none."""
        self._chains: dict[int, tuple[Location, ...]] = {}
        if not self.image.has_dwarf:
            self.note = f"{path.name} has no debug info"
        elif not drgn_available():
            self._use_tools(stream)
        elif trusted:
            self._dwarf = DrgnDwarf(ElfShape.of(self.image), stream.fileno())
        else:
            self._isolate(stream)

    def _isolate(self, stream: BinaryIO) -> None:
        from kagent.symbols.isolated import IsolatedDwarf

        try:
            self._dwarf = IsolatedDwarf(ElfShape.of(self.image), stream.fileno())
        except NativeCodeError as error:
            self.note, self.failed = str(error), True

    def _use_tools(self, stream: BinaryIO) -> None:
        from kagent.symbols.tools import ToolDwarf, line_tool

        if tool := line_tool(self.image):
            self._tool = ToolDwarf(self.image, stream, tool)
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
        with self.lock, self._damage_noted():
            dwarf, unknown = self._dwarf, self.image.unknown(symbols)
            if len(unknown) > 1 and dwarf is not None:
                self.image.learn(dict(zip(unknown, dwarf.symbols(unknown), strict=True)))

    def chains(self, addresses: Sequence[int]) -> list[tuple[Location, ...]]:
        """Inline chains at addresses of this image's own layout."""
        with self.lock:
            unknown = sorted({a for a in addresses if a not in self._chains})
            lines = self._dwarf or self._tool
            if unknown and lines is not None:
                if len(self._chains) > _CACHED_CHAINS:
                    self._chains.clear()
                    unknown = sorted(set(addresses))
                with self._damage_noted():
                    self._chains.update(zip(unknown, lines.chains(unknown), strict=True))
                    self.note = self.note or lines.damage
            return [self._chains.get(address, ()) for address in addresses]

    def ask_type(self, name: str, file: str | None, question: TypeQuestion) -> list[Member]:
        """Members of a type; none where there is no such type or drgn is not available."""
        with self.lock, self._damage_noted():
            if self._dwarf is not None:
                return self._dwarf.ask_type(name, file, question)
        return []

    def variables(self, address: int, registers: Mapping[str, int]) -> list[Variable]:
        """Variables in scope at an address; none where drgn is not available."""
        with self.lock, self._damage_noted():
            if self._dwarf is not None:
                return self._dwarf.variables(address, registers)
        return []

    @contextmanager
    def _damage_noted(self) -> Iterator[None]:
        try:
            yield
        except NativeCodeError as error:
            self.note, self.failed = self.note or str(error), True
        except CorruptDataError as error:
            from kagent.isolation import tell

            self.note = self.note or str(error)
            tell("drgn", error)


def _release(image: ElfImage, stream: BinaryIO) -> None:
    image.close()
    stream.close()


_cache: OrderedDict[tuple[str, int, int, bool], DebugObject] = OrderedDict()
_cache_lock = threading.Lock()


def open_object(path: Path, trusted: bool = False) -> DebugObject:
    """Open a vmlinux or ``.ko``, or take it from the cache if the file has not changed.

    `trusted` says that nobody but root can have written it (`DebugFiles.trusts`).

    Raises `InputError`, `CorruptDataError` or `MissingDataError`.
    """
    try:
        resolved = path.resolve()
        state = resolved.stat()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    key = (str(resolved), state.st_mtime_ns, state.st_size, trusted)
    with _cache_lock:
        found = _cache.get(key)
        if found is not None:
            _cache.move_to_end(key)
            if not found.failed:
                return found
    opened = DebugObject(path, trusted)
    with _cache_lock:
        _cache[key] = opened
        while len(_cache) > _CACHED_OBJECTS:
            _cache.popitem(last=False)
    return opened
