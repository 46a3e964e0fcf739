"""What the ELF container says: sections, build-id, release, module layout. No DWARF here."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

from kagent.errors import CorruptDataError, InputError
from kagent.symbols.notes import build_id_in

if TYPE_CHECKING:
    from kagent.symbols.symtab import ElfSymbol, SymbolTable

__all__ = ["ElfImage", "ElfSection"]

_SHF_WRITE, _SHF_ALLOC, _SHF_EXEC, _SHF_RO_AFTER_INIT = 0x1, 0x2, 0x4, 0x00200000
_PAGE = 0x1000
_MAX_SECTIONS = 65_536
_MAX_SECTION_BYTES = 512 * 1024 * 1024
_MODULE_BASE = 0x1000_0000
_BANNER = b"Linux version "
_RELEASE = re.compile(rb"Linux version ([\x21-\x7e]{1,128}) ")
_IDENT, _XINDEX = 16, 0xFFFF
_ADDRESSES = 1 << 64
_BITS = {1: 32, 2: 64}
_ORDERS = {1: "<", 2: ">"}
_ET_REL, _ET_EXEC, _ET_DYN, _ET_CORE = 1, 2, 3, 4
_SHT_NULL, _SHT_NOBITS = 0, 8
# include/uapi/linux/elf-em.h: the machines that Linux runs on, or did.
_MACHINES = {
    2: "EM_SPARC",
    3: "EM_386",
    4: "EM_68K",
    8: "EM_MIPS",
    15: "EM_PARISC",
    18: "EM_SPARC32PLUS",
    20: "EM_PPC",
    21: "EM_PPC64",
    22: "EM_S390",
    40: "EM_ARM",
    42: "EM_SH",
    43: "EM_SPARCV9",
    50: "EM_IA_64",
    62: "EM_X86_64",
    92: "EM_OPENRISC",
    93: "EM_ARCOMPACT",
    94: "EM_XTENSA",
    113: "EM_ALTERA_NIOS2",
    164: "EM_HEXAGON",
    183: "EM_AARCH64",
    189: "EM_MICROBLAZE",
    195: "EM_ARCV2",
    243: "EM_RISCV",
    252: "EM_CSKY",
    258: "EM_LOONGARCH",
    0x9026: "EM_ALPHA",
}

Kind = Literal["vmlinux", "module"]


class _DamageError(Exception):
    """What is wrong with the file, for the words of `CorruptDataError`."""


class _SectionHeader(NamedTuple):
    """``Elf32_Shdr`` or ``Elf64_Shdr``."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int

    @property
    def in_file(self) -> bool:
        return self.type not in (_SHT_NULL, _SHT_NOBITS)


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
        except OSError as error:
            raise InputError(f"cannot read {name}: {error.strerror}") from None
        try:
            self._refuse_other_formats()
            self._read_headers()
        except _DamageError as error:
            self._map.close()
            raise CorruptDataError(
                f"{name} is a damaged ELF file ({error})",
                hint="copy or download it again; it may be truncated",
            ) from None
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
        elf = _Headers(self._map)
        if elf.type == _ET_CORE:
            raise InputError(
                f"{self.path} is a core dump, not a vmlinux or module",
                hint="give the vmlinux of the crashed kernel and its log, not the dump",
            )
        if elf.type not in (_ET_REL, _ET_EXEC, _ET_DYN):
            raise InputError(f"{self.path} is an ELF file of an unknown type")
        self.kind: Kind = "module" if elf.type == _ET_REL else "vmlinux"
        self.machine = _MACHINES.get(elf.machine) or _foreign_machine(elf.machine)
        self.bits = elf.bits
        self.little_endian = elf.little_endian
        heads = [elf.section(index) for index in range(elf.count)]
        if any(head.in_file and head.offset + head.size > len(self._map) for head in heads):
            raise _DamageError("a section lies beyond the end of the file")
        sections = [
            ElfSection(
                index=index,
                name=elf.name(head),
                address=head.address,
                offset=head.offset,
                size=head.size,
                flags=head.flags,
                align=max(1, head.align),
                in_file=head.in_file,
            )
            for index, head in enumerate(heads)
        ]
        self.sections = tuple(_lay_out(sections) if self.kind == "module" else sections)
        if any(s.allocated and s.address + s.size > _ADDRESSES for s in self.sections):
            raise _DamageError("a section lies beyond the end of memory")
        self._link = [head.link for head in heads]
        self.address_range = self._address_range()
        self.build_id = self._read_build_id()

    def _address_range(self) -> tuple[int, int]:
        """Lowest and highest address of the loaded sections, per-CPU template excluded."""
        loaded = [s for s in self.sections if s.allocated and s.size and s.address >= _PAGE]
        loaded = [s for s in loaded if "percpu" not in s.name] or loaded
        if not loaded:
            raise _DamageError("no section is loaded into memory")
        return min(s.address for s in loaded), max(s.address + s.size for s in loaded)

    def section(self, name: str) -> ElfSection | None:
        """The first section of that name."""
        return next((s for s in self.sections if s.name == name), None)

    def data(self, section: ElfSection) -> bytes:
        """A section's bytes; empty when the file does not hold them."""
        if not section.in_file or section.size > _MAX_SECTION_BYTES:
            return b""
        return self._map[section.offset : section.offset + section.size]

    def string(self, section: ElfSection, offset: int) -> bytes:
        """The zero-terminated string at an offset of a section, 512 bytes at most."""
        end = section.offset + section.size if section.in_file else 0
        start = min(section.offset + offset, end)
        stop = self._map.find(b"\0", start, min(end, start + 512))
        return self._map[start : stop if stop >= 0 else start]

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
        # The banner is a constant (init/version.c): no need to read the symbol table for it.
        if (rodata := self.section(".rodata")) and (found := self._banner_in(rodata)):
            return found
        for symbol in self.find("linux_banner"):
            if named := _RELEASE.match(self.read(symbol.address, 256)):
                return named[1].decode("ascii")
        return None

    def _banner_in(self, section: ElfSection) -> str | None:
        end = section.offset + section.size if section.in_file else 0
        at = self._map.find(_BANNER, section.offset, end)
        while at >= 0:
            if found := _RELEASE.match(self._map, at):
                return found[1].decode("ascii")
            at = self._map.find(_BANNER, at + 1, end)
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
        for name in (".note.gnu.build-id", ".notes", ".note"):
            section = self.section(name)
            notes = self.data(section) if section else b""
            if found := build_id_in(notes, little_endian=self.little_endian):
                return found
        return None

    @cached_property
    def _table(self) -> SymbolTable:
        from kagent.symbols.symtab import SymbolTable

        return SymbolTable(self)

    def find(self, name: str) -> tuple[ElfSymbol, ...]:
        """Every definition of `name`, by address; empty when there is none."""
        return self._table.find(name)

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that were not searched for yet, each once."""
        return [name for name in dict.fromkeys(names) if not self._table.knows(name)]

    def learn(self, placed: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """Take (address, size) of symbols that somebody else has found by name."""
        self._table.learn(placed)

    def linked(self, section: ElfSection) -> ElfSection | None:
        """The section that ``sh_link`` of another names."""
        index = self._link[section.index]
        return self.sections[index] if 0 < index < len(self.sections) else None


class _Headers:
    """The file's header and those of its sections (gABI, chapter 4).

    Libraries for it take seconds for as many sections as a file may have.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        if len(data) < _IDENT or data[4] not in _BITS or data[5] not in _ORDERS:
            raise _DamageError("its header is not one")
        self.bits, order = _BITS[data[4]], _ORDERS[data[5]]
        self.little_endian = order == "<"
        self._row = struct.Struct(order + ("IIQQQQIIQQ" if self.bits == 64 else "10I"))
        header = struct.Struct(order + ("HHIQQQIHHHHHH" if self.bits == 64 else "HHIIIIIHHHHHH"))
        if len(data) < _IDENT + header.size:
            raise _DamageError("its header is cut off")
        fields = header.unpack_from(data, _IDENT)
        self.type, self.machine = fields[0], fields[1]
        self._at, self._width, count, names = fields[5], fields[10], fields[11], fields[12]
        if not self._at:
            raise _DamageError("no section headers")
        # A count or index that does not fit stands in the first section's header.
        self.count = count or self.section(0).size
        if not 0 < self.count <= _MAX_SECTIONS:
            raise _DamageError("too many sections" if self.count else "no section headers")
        self._names = self.section(self.section(0).link if names == _XINDEX else names)

    def section(self, index: int) -> _SectionHeader:
        """A section's header.

        Raises:
            _DamageError: it does not lie in the file.
        """
        at = self._at + index * self._width
        if at + self._row.size > len(self._data):
            raise _DamageError("the section headers lie beyond the end of the file")
        return _SectionHeader(*self._row.unpack_from(self._data, at))

    def name(self, head: _SectionHeader) -> str:
        """The name of a section, 255 bytes at most."""
        start = self._names.offset + head.name
        if start >= len(self._data):  # also where it is no offset any more
            return ""
        end = self._data.find(b"\0", start, start + 256)
        return self._data[start : end if end >= 0 else start].decode("utf-8", "replace")


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


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment


def _foreign_machine(number: int) -> str:
    """The name of a machine that Linux does not run on, for messages; its number if it has none.

    From pyelftools, whose import costs more than a small file takes to read.
    """
    from elftools.elf.enums import ENUM_E_MACHINE

    return next((name for name, value in ENUM_E_MACHINE.items() if value == number), str(number))
