"""Symbols by name, with the extents that a trace prints.

Extents follow kallsyms: the distance to the next symbol (kernel/kallsyms.c, ``get_symbol_pos``;
kernel/module/kallsyms.c, ``find_kallsyms_symbol``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from kagent.symbols.elf import ElfImage

__all__ = ["ElfSymbol", "SymbolTable"]

_SHN_UNDEF = 0
_STT_FUNC = 2
_NAMED_KINDS = (0, 1, _STT_FUNC, 10)  # NOTYPE, OBJECT, FUNC, GNU_IFUNC
_CACHED_NAMES = 50_000
# Names that scripts/mksysmap keeps out of kallsyms.
_HIDDEN = re.compile(rb"\$|\.L|L0|__crc_|__kstrtab_|__kcfi_typeid_|__pi_\.L|__AArch64ADRPThunk_")


@dataclass(frozen=True, slots=True)
class ElfSymbol:
    """A defined symbol. `extent` is the distance to the next one; None when nothing follows."""

    name: str
    address: int
    size: int
    extent: int | None
    section: int

    def has_size(self, printed: int) -> bool:
        """Whether a trace that prints ``/printed`` can mean this symbol.

        The last symbol of a section reaches to the end of the memory the loader allotted,
        which the file does not tell: any size that holds the function is possible.
        """
        if self.extent is None:
            return printed >= self.size
        return printed in (self.extent, self.size)


class SymbolTable:
    """``.symtab`` in a form that answers "where is NAME" and "what follows ADDRESS".

    Columns, not objects: a distribution's vmlinux has 130,000 symbols and a trace asks for 20.
    """

    def __init__(self, image: ElfImage) -> None:
        table = image.section(".symtab")
        strings = image.linked(table) if table else None
        self._strings = image.data(strings) if strings else b""
        rows = _rows(image, image.data(table) if table else b"")
        rows = rows[np.isin(rows["info"] & 0xF, _NAMED_KINDS) & (rows["name"] != 0)]
        loaded = [s.index for s in image.sections if s.allocated and s.index != _SHN_UNDEF]
        rows = rows[np.isin(rows["section"], loaded)]
        starts = rows["value"].astype(np.uint64)
        if image.machine == "EM_ARM":  # the lowest bit of a function says Thumb
            starts &= ~((rows["info"] & 0xF) == _STT_FUNC).astype(np.uint64)
        if image.kind == "module":
            base = np.array([s.address for s in image.sections], dtype=np.uint64)
            starts = starts + base[rows["section"]]
        order = np.argsort(starts, kind="stable")
        self._starts = starts[order]
        self._names = rows["name"][order]
        self._sizes = rows["size"][order]
        self._sections = rows["section"][order]
        self._by_name = np.argsort(self._names, kind="stable")
        self._sorted_names = self._names[self._by_name]
        self._group_end = _group_ends(image)
        self._found: dict[str, tuple[ElfSymbol, ...]] = {}

    def _text(self, offset: int) -> bytes:
        end = self._strings.find(b"\0", offset)
        return self._strings[offset : min(end, offset + 512)] if end >= 0 else b""

    def _next(self, address: int, section: int) -> int | None:
        at = int(np.searchsorted(self._starts, np.uint64(address), side="right"))
        end = self._group_end.get(section)
        while at < len(self._starts):
            following = int(self._starts[at])
            if end is not None and following >= end:
                return None
            if not _HIDDEN.match(self._text(int(self._names[at]))):
                return following
            at += 1
        return None

    def find(self, name: str) -> tuple[ElfSymbol, ...]:
        if name not in self._found:
            if len(self._found) > _CACHED_NAMES:
                self._found.clear()
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> tuple[ElfSymbol, ...]:
        wanted = name.encode("utf-8", "replace") + b"\0"
        offsets: list[int] = []
        at = self._strings.find(wanted) if len(wanted) > 1 else -1
        while at >= 0:  # the linker shares tails: "write" may sit inside "ksys_write"
            offsets.append(at)
            at = self._strings.find(wanted, at + 1)
        keys = np.array(offsets, dtype=self._sorted_names.dtype)
        first = np.searchsorted(self._sorted_names, keys, side="left")
        last = np.searchsorted(self._sorted_names, keys, side="right")
        found = {
            (int(self._starts[i]), int(self._sizes[i]), int(self._sections[i]))
            for low, high in zip(first, last, strict=True)
            for i in self._by_name[low:high]
        }
        result = []
        for address, size, section in sorted(found):
            following = self._next(address, section)
            extent = following - address if following is not None else None
            result.append(ElfSymbol(name, address, size, extent, section))
        return tuple(result)


def _rows(image: ElfImage, data: bytes) -> npt.NDArray[np.void]:
    """The table as an array with the fields of ``Elf64_Sym`` or ``Elf32_Sym``."""
    order = "<" if image.little_endian else ">"
    name, info, other, section = ("name", "u4"), ("info", "u1"), ("other", "u1"), ("section", "u2")
    if image.bits == 64:
        fields = [name, info, other, section, ("value", "u8"), ("size", "u8")]
    else:
        fields = [name, ("value", "u4"), ("size", "u4"), info, other, section]
    layout = np.dtype([(field, order + kind) for field, kind in fields])
    return np.frombuffer(data[: len(data) - len(data) % layout.itemsize], layout)


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
