"""Symbols by name, with the extents that a trace prints.

Extents follow kallsyms: the distance to the next symbol (kernel/kallsyms.c, ``get_symbol_pos``;
kernel/module/kallsyms.c, ``find_kallsyms_symbol``).
"""

from __future__ import annotations

import re
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kagent.errors import CorruptDataError

if TYPE_CHECKING:
    from kagent.symbols.elf import ElfImage

__all__ = ["ElfSymbol", "SymbolTable"]

_SHN_UNDEF = 0
_STT_FUNC = 2
_NAMED_KINDS = (0, 1, _STT_FUNC, 10)  # NOTYPE, OBJECT, FUNC, GNU_IFUNC
_CACHED_NAMES = 50_000
_MAX_SYMBOLS = 4_000_000
"""A distribution's vmlinux has 130,000, one of every driver built in half a million."""
_FEW = 6
"""Offsets of a name up to which scanning the column for each is faster than one pass for all."""
_BLOCK = 16
"""Address bits of a block of memory, 64 KiB, in which symbols are looked for."""
_REACH = 0x2000
"""How far behind a symbol the next one is looked for at least; `find` looks further."""
# Names that scripts/mksysmap keeps out of kallsyms.
_HIDDEN = re.compile(rb"\$|\.L|L0|__crc_|__kstrtab_|__kcfi_typeid_|__pi_\.L|__AArch64ADRPThunk_")


@dataclass(frozen=True, slots=True)
class ElfSymbol:
    """A defined symbol. `extent` is the distance to the next one; None when nothing follows."""

    name: str
    address: int
    size: int
    extent: int | None

    def has_size(self, printed: int) -> bool:
        """Whether a trace that prints ``/printed`` can mean this symbol.

        The last symbol of a section reaches to the end of the memory the loader allotted,
        which the file does not tell: any size that holds the function is possible.
        """
        if self.extent is None:
            return printed >= self.size
        return printed in (self.extent, self.size)


class _Columns:
    """``.symtab``, by column; each is as long as the table, and unpacked when first used."""

    def __init__(self, image: ElfImage, data: bytes) -> None:
        self._wide = image.bits == 64
        order = "<" if image.little_endian else ">"
        self._row = struct.Struct(order + ("IBBHQQ" if self._wide else "IIIBBH"))
        self._data = data[: len(data) - len(data) % self._row.size]
        self._native = self._wide and image.little_endian and sys.byteorder == "little"

    @cached_property
    def names(self) -> Sequence[int]:
        """Offsets into the string table."""
        return self._column("I", 0, 0)

    @cached_property
    def name_list(self) -> list[int]:
        """The same for searches, which lists do fastest."""
        return list(self.names)

    @cached_property
    def infos(self) -> Sequence[int]:
        return self._data[4::24] if self._native else self._column("B", 1, 3)

    @cached_property
    def sections(self) -> Sequence[int]:
        return self._column("H", 3, 5)

    @cached_property
    def values(self) -> Sequence[int]:
        return self._column("Q", 4, 1)

    @cached_property
    def sizes(self) -> Sequence[int]:
        return self._column("Q", 5, 2)

    @cached_property
    def blocks(self) -> bytes:
        """Bits 16 to 31 of every value, 2 bytes each."""
        if not self._native:
            return array("H", map(_block, self.values)).tobytes()
        return memoryview(self._data).cast("H")[5::12].tobytes()

    def _column(self, kind: str, wide: int, narrow: int) -> Sequence[int]:
        """A field by its place in ``Elf64_Sym`` and in ``Elf32_Sym``."""
        if not self._native:
            at = wide if self._wide else narrow
            return [row[at] for row in self._row.iter_unpack(self._data)]
        width = struct.calcsize(kind)
        first = {0: 0, 3: 6, 4: 8, 5: 16}[wide] // width
        return memoryview(self._data).cast(kind)[first :: 24 // width]  # type: ignore[call-overload,no-any-return]


def _block(address: int) -> int:
    return address >> _BLOCK & 0xFFFF


class SymbolTable:
    """``.symtab`` in a form that answers "where is NAME" and "what follows ADDRESS".

    Columns, not objects: a distribution's vmlinux has 130,000 symbols and a trace asks for 20.
    """

    def __init__(self, image: ElfImage) -> None:
        table = image.section(".symtab")
        self._image = image
        self._string_section = image.linked(table) if table else None
        width = 24 if image.bits == 64 else 16
        if table and table.in_file and table.size > _MAX_SYMBOLS * width:
            raise CorruptDataError(
                f"{image.path} has {table.size // width} symbols, more than any kernel",
                hint="give the vmlinux or .ko as the kernel's build made it",
            )
        self._columns = _Columns(image, image.data(table) if table else b"")
        self._thumb = image.machine == "EM_ARM"
        self._base = [s.address if image.kind == "module" else 0 for s in image.sections]
        self._loaded = {s.index for s in image.sections if s.allocated and s.index != _SHN_UNDEF}
        self._group_end = _group_ends(image)
        self._found: dict[str, tuple[ElfSymbol, ...]] = {}

    def knows(self, name: str) -> bool:
        """Whether `find` has its answer ready."""
        return name in self._found

    def find(self, name: str) -> tuple[ElfSymbol, ...]:
        """Every definition, by address."""
        if name not in self._found:
            if len(self._found) > _CACHED_NAMES:
                self._found.clear()
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> tuple[ElfSymbol, ...]:
        columns = self._columns
        found = {
            (self._start(row), columns.sizes[row], columns.sections[row])
            for row in self._rows(name)
            if self._defined(row)
        }
        result = []
        for address, size, section in sorted(found):
            following = self._next(address, section)
            extent = following - address if following is not None else None
            result.append(ElfSymbol(name, address, size, extent))
        return tuple(result)

    def _rows(self, name: str) -> list[int]:
        """Rows whose name is, or ends at the same byte as, `name`."""
        offsets = self._offsets(name)
        names = self._columns.name_list
        if len(offsets) > _FEW:
            wanted = set(offsets)
            return [row for row, offset in enumerate(names) if offset in wanted]
        return [row for offset in offsets for row in _positions(names, offset)]

    def _offsets(self, name: str) -> list[int]:
        wanted = name.encode("utf-8", "replace") + b"\0"
        offsets: list[int] = []
        at = self._strings.find(wanted) if len(wanted) > 1 else -1
        while at >= 0:  # the linker shares tails: "write" may sit inside "ksys_write"
            offsets.append(at)
            at = self._strings.find(wanted, at + 1)
        return offsets

    def _defined(self, row: int) -> bool:
        columns = self._columns
        return (
            columns.names[row] != 0
            and columns.infos[row] & 0xF in _NAMED_KINDS
            and columns.sections[row] in self._loaded
        )

    def _start(self, row: int) -> int:
        columns = self._columns
        value = columns.values[row]
        if self._thumb and columns.infos[row] & 0xF == _STT_FUNC:
            value &= ~1  # the lowest bit of a function says Thumb
        return value + self._base[columns.sections[row]]

    @cached_property
    def _order(self) -> tuple[list[int], list[int]]:
        """Addresses of the defined symbols, ascending, and the row of each."""
        columns, loaded = self._columns, self._loaded
        kinds = [info & 0xF in _NAMED_KINDS for info in range(256)]
        facts = zip(columns.name_list, columns.infos, columns.sections, strict=True)
        rows = [
            row
            for row, (name, info, section) in enumerate(facts)
            if name and section in loaded and kinds[info]
        ]
        if self._thumb or any(self._base):
            starts = [self._start(row) for row in rows]
        else:
            starts = [columns.values[row] for row in rows]
        order = sorted(range(len(rows)), key=starts.__getitem__)
        return [starts[at] for at in order], [rows[at] for at in order]

    def _next(self, address: int, section: int) -> int | None:
        """Where the next symbol that kallsyms has begins; None at the end of a module's code."""
        starts = self._order[0]
        at = self._visible.at_or_after(bisect_right(starts, address))
        end = self._group_end.get(section)
        if at == len(starts) or (end is not None and starts[at] >= end):
            return None
        return starts[at]

    @cached_property
    def _visible(self) -> _Visible:
        return _Visible(self._order[1], lambda row: not self._hidden(row))

    def learn(self, placed: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """Take (address, size) of symbols from somebody who finds them faster by name.

        What follows each of them is found in one pass, without sorting the table.
        """
        if self._thumb or any(self._base):
            return
        wanted = sorted({address for places in placed.values() for address, _ in places})
        following = dict(zip(wanted, self._following(wanted), strict=True))
        for name, places in placed.items():
            found = [
                ElfSymbol(name, address, size, extent)
                for address, size in sorted(set(places))
                if (extent := following[address] - address) > 0
            ]
            if found and len(found) == len(set(places)):
                self._found[name] = tuple(found)

    def _following(self, wanted: Sequence[int]) -> list[int]:
        """For each address that of the next symbol in kallsyms; 0 where that lies far off."""
        # Functions are short: what follows one mostly lies in its own block of memory.
        blocks = {_block(address + reach) for address in wanted for reach in (0, _REACH)}
        packed, values = self._columns.blocks, self._columns.values
        packs = [struct.pack("=H", block) for block in blocks]
        near = sorted([(values[row], row) for pack in packs for row in _places(packed, pack)])
        starts = [value for value, _ in near]
        visible = _Visible(
            [row for _, row in near], lambda r: self._defined(r) and not self._hidden(r)
        )
        found = []
        for address in wanted:
            at = visible.at_or_after(bisect_right(starts, address))
            end = (((address + _REACH) >> _BLOCK) + 1) << _BLOCK
            found.append(starts[at] if at < len(starts) and starts[at] < end else 0)
        return found

    def _hidden(self, row: int) -> bool:
        return _HIDDEN.match(self._text(self._columns.names[row])) is not None

    @cached_property
    def _strings(self) -> bytes:
        section = self._string_section
        return self._image.data(section) if section else b""

    def _text(self, offset: int) -> bytes:
        section = self._string_section
        return self._image.string(section, offset) if section else b""


class _Visible:
    """Rows in an order, of which some are passed over; each of those is passed over once."""

    def __init__(self, rows: Sequence[int], visible: Callable[[int], bool]) -> None:
        self._rows, self._visible = rows, visible
        self._beyond: dict[int, int] = {}

    def at_or_after(self, at: int) -> int:
        """The place of the first visible row from `at` on; the number of rows if none is."""
        passed = []
        while at < len(self._rows):
            if (further := self._beyond.get(at)) is not None:
                at = further
                break
            if self._visible(self._rows[at]):
                break
            passed.append(at)
            at += 1
        self._beyond.update(dict.fromkeys(passed, at))
        return at


def _places(packed: bytes, wanted: bytes) -> Iterator[int]:
    """Every row of a packed column that holds a value; `find` scans in C."""
    width = len(wanted)
    at = packed.find(wanted)
    while at >= 0:
        if at % width == 0:
            yield at // width
        at = packed.find(wanted, at + 1)


def _positions(column: list[int], wanted: int) -> Iterator[int]:
    """The same in a list; `index` scans in C."""
    at = -1
    while True:
        try:
            at = column.index(wanted, at + 1)
        except ValueError:
            return
        yield at


def _group_ends(image: ElfImage) -> dict[int, int]:
    """For each code section of a module, where its memory region ends."""
    if image.kind != "module":
        return {}
    ends: dict[bool, int] = {}
    code = [s for s in image.sections if s.executable and s.allocated]
    for section in code:
        init = section.name.startswith(".init")
        ends[init] = max(ends.get(init, 0), section.address + section.size)
    return {s.index: ends[s.name.startswith(".init")] for s in code}
