"""What the ELF container says: symbols, sections, build-id, release. No DWARF here.

Symbol extents follow kallsyms, because that is what a trace prints: the distance to the next
symbol (kernel/kallsyms.c, ``get_symbol_pos``; kernel/module/kallsyms.c, ``find_kallsyms_symbol``).
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from kagent.errors import CorruptDataError, InputError

__all__ = ["ElfImage", "ElfSection", "ElfSymbol"]

_SHF_WRITE, _SHF_ALLOC, _SHF_EXEC, _SHF_RO_AFTER_INIT = 0x1, 0x2, 0x4, 0x00200000
_SHN_UNDEF = 0
_STT_FUNC = 2
_NAMED_KINDS = (0, 1, _STT_FUNC, 10)  # NOTYPE, OBJECT, FUNC, GNU_IFUNC
_EM_ARM = 40
_PAGE = 0x1000
_MAX_SECTIONS = 65_536
_MAX_SECTION_BYTES = 512 * 1024 * 1024
_CACHED_NAMES = 50_000
_MODULE_BASE = 0x1000_0000
_RELEASE = re.compile(rb"Linux version ([\x21-\x7e]{1,128}) ")
# Names that scripts/mksysmap keeps out of kallsyms.
_HIDDEN = re.compile(rb"\$|\.L|L0|__crc_|__kstrtab_|__kcfi_typeid_|__pi_\.L|__AArch64ADRPThunk_")
# What pyelftools raises on damaged files, by experiment with random damage.
_DAMAGE = (
    ELFError,
    ConstructError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
)

Kind = Literal["vmlinux", "module"]


@dataclass(frozen=True, slots=True)
class ElfSection:
    """A section and the address it is given here (its own, or the module layout's)."""

    index: int
    name: str
    address: int
    offset: int
    size: int
    flags: int
    align: int
    in_file: bool
    """False for ``SHT_NOBITS``: ``.bss``, and the code of ``.ko.debug`` files."""

    @property
    def allocated(self) -> bool:
        return bool(self.flags & _SHF_ALLOC)

    @property
    def executable(self) -> bool:
        return bool(self.flags & _SHF_EXEC)


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


class ElfImage:
    """An opened vmlinux or kernel module.

    Raises `InputError` when the file is not an ELF vmlinux or module at all, `CorruptDataError`
    when it is one but damaged.
    """

    def __init__(self, stream: BinaryIO, name: Path) -> None:
        self.path = name
        self._stream = stream
        try:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise InputError(f"{name} is empty") from None
        try:
            self._refuse_other_formats()
            self._read_headers()
        except _DAMAGE as error:
            self._map.close()
            raise CorruptDataError(
                f"{name} is a damaged ELF file ({_reason(error)})",
                hint="copy or download it again; it may be truncated",
            ) from error
        except InputError:
            self._map.close()
            raise

    def close(self) -> None:
        """Release the mapping; symbols already looked up stay valid."""
        self._map.close()

    def _refuse_other_formats(self) -> None:
        if self._map[:4] == b"\x7fELF":
            return
        if self._map[0x202:0x206] == b"HdrS" or self._map[:2] == b"MZ":
            raise InputError(
                f"{self.path} is a bootable kernel image without debug info, not vmlinux",
                hint="use the vmlinux of the distribution's kernel debug package "
                "(linux-image-*-dbg, kernel-debuginfo) or of the build directory",
            )
        raise InputError(
            f"{self.path} is not an ELF file",
            hint="--vmlinux takes the uncompressed vmlinux with debug info, or it as .xz/.zst/.gz",
        )

    def _read_headers(self) -> None:
        elf = ELFFile(self._stream)
        header = elf.header
        if header["e_type"] == "ET_CORE":
            raise InputError(
                f"{self.path} is a core dump, not a vmlinux or module",
                hint="give the vmlinux of the crashed kernel and its log, not the dump",
            )
        if header["e_type"] not in ("ET_EXEC", "ET_DYN", "ET_REL"):
            raise InputError(f"{self.path} is an ELF file of an unknown type")
        self.kind: Kind = "module" if header["e_type"] == "ET_REL" else "vmlinux"
        self.machine = str(header["e_machine"])
        self.bits: int = elf.elfclass
        self.little_endian: bool = elf.little_endian
        count = elf.num_sections()
        if not 0 < count <= _MAX_SECTIONS:
            raise ELFError("no section headers" if not count else "too many sections")
        end = len(self._map)
        sections: list[ElfSection] = []
        for index in range(count):
            section = elf.get_section(index)
            head = section.header
            in_file = head["sh_type"] not in ("SHT_NOBITS", "SHT_NULL")
            if in_file and head["sh_offset"] + head["sh_size"] > end:
                raise ELFError("a section lies beyond the end of the file")
            sections.append(
                ElfSection(
                    index=index,
                    name=str(section.name),
                    address=head["sh_addr"],
                    offset=head["sh_offset"],
                    size=head["sh_size"],
                    flags=head["sh_flags"],
                    align=max(1, head["sh_addralign"]),
                    in_file=in_file,
                )
            )
        if self.kind == "module":
            sections = _lay_out(sections)
        self.sections = tuple(sections)
        self._link = {i: elf.get_section(i).header["sh_link"] for i in range(count)}
        self.address_range = self._address_range()
        self.build_id = self._read_build_id()

    def _address_range(self) -> tuple[int, int]:
        """Lowest and highest address of the loaded sections, per-CPU template excluded."""
        loaded = [s for s in self.sections if s.allocated and s.size and s.address >= _PAGE]
        loaded = [s for s in loaded if "percpu" not in s.name] or loaded
        if not loaded:
            raise ELFError("no section is loaded into memory")
        return min(s.address for s in loaded), max(s.address + s.size for s in loaded)

    def section(self, name: str) -> ElfSection | None:
        """The first section of that name."""
        return next((s for s in self.sections if s.name == name), None)

    def data(self, section: ElfSection) -> bytes:
        """A section's bytes; empty when the file does not hold them."""
        if not section.in_file or section.size > _MAX_SECTION_BYTES:
            return b""
        return self._map[section.offset : section.offset + section.size]

    def read(self, address: int, size: int) -> bytes:
        """Bytes at an address, as far as the file holds them."""
        for section in self.sections:
            begin = address - section.address
            if section.allocated and section.in_file and 0 <= begin < section.size:
                start = section.offset + begin
                return self._map[start : start + min(size, section.size - begin)]
        return b""

    @property
    def has_dwarf(self) -> bool:
        """Whether there is DWARF to look lines up in."""
        names = (".debug_info", ".zdebug_info")
        return any(s.name in names and s.in_file and s.size for s in self.sections)

    @cached_property
    def release(self) -> str | None:
        """Kernel release: of the banner in vmlinux, of ``vermagic=`` in a module."""
        if self.kind == "module":
            words = self.modinfo.get("vermagic", "").split()
            return words[0] if words else None
        for symbol in self.find("linux_banner"):
            if found := _RELEASE.match(self.read(symbol.address, 256)):
                return found[1].decode("ascii")
        if (rodata := self.section(".rodata")) and (found := _RELEASE.search(self.data(rodata))):
            return found[1].decode("ascii")
        return None

    @cached_property
    def modinfo(self) -> dict[str, str]:
        """The first value of each ``.modinfo`` key."""
        section = self.section(".modinfo")
        pairs: dict[str, str] = {}
        for item in (self.data(section) if section else b"").split(b"\0"):
            key, equals, value = item.decode("utf-8", "replace").partition("=")
            if equals:
                pairs.setdefault(key, value)
        return pairs

    def _read_build_id(self) -> str | None:
        order = "<" if self.little_endian else ">"
        for name in (".note.gnu.build-id", ".notes", ".note"):
            section = self.section(name)
            data = self.data(section)[:65_536] if section else b""
            at = 0
            while at + 12 <= len(data):
                name_size, size, kind = struct.unpack_from(order + "III", data, at)
                owner = data[at + 12 : at + 12 + name_size]
                at += 12 + (name_size + 3 & ~3)
                if kind == 3 and owner == b"GNU\0":
                    return data[at : at + size].hex()
                at += size + 3 & ~3
        return None

    @cached_property
    def _table(self) -> _SymbolTable:
        return _SymbolTable(self)

    def find(self, name: str) -> tuple[ElfSymbol, ...]:
        """Every definition of `name`, by address; empty when there is none."""
        return self._table.find(name)

    def linked(self, section: ElfSection) -> ElfSection | None:
        """The section that ``sh_link`` of another names."""
        index = self._link.get(section.index, 0)
        return self.sections[index] if 0 < index < len(self.sections) else None


class _SymbolTable:
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


def _lay_out(sections: list[ElfSection]) -> list[ElfSection]:
    """Give a module's sections the order in memory that the kernel gives them.

    kernel/module/main.c, ``layout_sections``: code, read-only, read-only after init, writable;
    each group page-aligned; sections called ``.init*`` go to a region of their own.
    """
    groups = (
        (_SHF_EXEC | _SHF_ALLOC, 0),
        (_SHF_ALLOC, _SHF_WRITE | _SHF_RO_AFTER_INIT),
        (_SHF_RO_AFTER_INIT | _SHF_ALLOC, 0),
        (_SHF_WRITE | _SHF_ALLOC, 0),
    )
    placed: dict[int, int] = {}
    at = _MODULE_BASE
    for init in (False, True):
        for want, avoid in groups:
            at = _align(at, _PAGE)
            for section in sections:
                flags = section.flags
                if section.index in placed or section.name.startswith(".init") is not init:
                    continue
                if flags & want != want or flags & avoid:
                    continue
                at = _align(at, min(section.align, 1 << 20))
                placed[section.index] = at
                at += section.size
    return [
        ElfSection(
            s.index,
            s.name,
            placed.get(s.index, s.address),
            s.offset,
            s.size,
            s.flags,
            s.align,
            s.in_file,
        )
        for s in sections
    ]


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


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment


def _reason(error: BaseException) -> str:
    text = str(error).splitlines()
    return (text[0] if text and text[0] else type(error).__name__)[:80]
