"""What the ELF container says: sections, build-id, release, module layout. No DWARF here."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.construct import ConstructError
from elftools.elf.structs import ELFStructs

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
        elf = _Headers(self._map, self._stream)
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
        self.bits = elf.bits
        self.little_endian = elf.little_endian
        count = elf.count
        if not 0 < count <= _MAX_SECTIONS:
            raise ELFError("no section headers" if not count else "too many sections")
        end = len(self._map)
        sections: list[ElfSection] = []
        for index in range(count):
            head = elf.section(index)
            in_file = head["sh_type"] not in ("SHT_NOBITS", "SHT_NULL")
            if in_file and head["sh_offset"] + head["sh_size"] > end:
                raise ELFError("a section lies beyond the end of the file")
            sections.append(
                ElfSection(
                    index=index,
                    name=elf.name(head),
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
        self._link = {i: elf.section(i)["sh_link"] for i in range(count)}
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
        index = self._link.get(section.index, 0)
        return self.sections[index] if 0 < index < len(self.sections) else None


class _Headers:
    """The file's header and those of its sections, by pyelftools' definitions of them.

    Its own reader of whole files would do, but comes with all of its DWARF parser, which costs a
    short command a tenth of its time.
    """

    def __init__(self, data: mmap.mmap, stream: BinaryIO) -> None:
        self._data, self._stream = data, stream
        self.bits = {1: 32, 2: 64}[data[4]]
        self.little_endian = {1: True, 2: False}[data[5]]
        self._structs = ELFStructs(little_endian=self.little_endian, elfclass=self.bits)
        self._structs.create_basic_structs()
        self.header = struct_parse(self._structs.Elf_Ehdr, stream, stream_pos=0)
        ident = self.header["e_ident"]
        self._structs.create_advanced_structs(
            self.header["e_type"], self.header["e_machine"], ident["EI_OSABI"]
        )
        self._known: dict[int, Any] = {}
        # A count or index that does not fit stands in the first section's header (gABI, ch. 4).
        has_table = self.header["e_shoff"] != 0
        self.count = self.header["e_shnum"] or (self.section(0)["sh_size"] if has_table else 0)
        names = self.header["e_shstrndx"]
        names = self.section(0)["sh_link"] if names == "SHN_XINDEX" or names == 0xFFFF else names
        self._names = self.section(names)["sh_offset"] if has_table and self.count else 0

    def section(self, index: int) -> Any:
        """A section's header, its fields by their names in the specification."""
        if index not in self._known:
            at = self.header["e_shoff"] + index * self.header["e_shentsize"]
            self._known[index] = struct_parse(self._structs.Elf_Shdr, self._stream, stream_pos=at)
        return self._known[index]

    def name(self, head: Any) -> str:
        """The name of a section, 255 bytes at most."""
        start = self._names + head["sh_name"]
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


def _reason(error: BaseException) -> str:
    text = str(error).splitlines()
    return (text[0] if text and text[0] else type(error).__name__)[:80]
