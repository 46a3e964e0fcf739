"""Damage to ELF files: blind, and by what their headers, tables and debug sections mean.

Every operation takes the file as a `bytearray`, changes it in place with the dice it is given, and
says in a few words what it did.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Anatomy", "damage"]

_MACHINES = (0, 2, 3, 4, 8, 15, 18, 20, 21, 22, 40, 42, 43, 50, 62, 92, 93, 94, 183, 189, 195, 243)
_MACHINES += (247, 252, 258, 0x9026, 0xFFFF)
_TYPES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 14, 15, 16, 17, 18, 0x6FFFFFF5, 0x70000001, 0xFFFFFFFF)
_FLAGS = (0x1, 0x2, 0x4, 0x10, 0x20, 0x40, 0x80, 0x200, 0x400, 0x800, 0x00200000, 0x80000000)
_COMPRESSED = 0x800
_SYMTAB, _STRTAB, _RELA, _NOTE, _REL = 2, 3, 4, 7, 9
_GROWN_SYMBOLS = 60_000
_GROWN_SECTIONS = 65_000
# Fields by their place in the 32-bit and in the 64-bit structure: (offset, bytes).
_EHDR = {
    "e_type": ((16, 2), (16, 2)),
    "e_machine": ((18, 2), (18, 2)),
    "e_version": ((20, 4), (20, 4)),
    "e_phoff": ((28, 4), (32, 8)),
    "e_shoff": ((32, 4), (40, 8)),
    "e_flags": ((36, 4), (48, 4)),
    "e_phentsize": ((42, 2), (54, 2)),
    "e_phnum": ((44, 2), (56, 2)),
    "e_shentsize": ((46, 2), (58, 2)),
    "e_shnum": ((48, 2), (60, 2)),
    "e_shstrndx": ((50, 2), (62, 2)),
}
_SHDR = {
    "sh_name": ((0, 4), (0, 4)),
    "sh_type": ((4, 4), (4, 4)),
    "sh_flags": ((8, 4), (8, 8)),
    "sh_addr": ((12, 4), (16, 8)),
    "sh_offset": ((16, 4), (24, 8)),
    "sh_size": ((20, 4), (32, 8)),
    "sh_link": ((24, 4), (40, 4)),
    "sh_info": ((28, 4), (44, 4)),
    "sh_addralign": ((32, 4), (48, 8)),
    "sh_entsize": ((36, 4), (56, 8)),
}
_SYM = {
    "st_name": ((0, 4), (0, 4)),
    "st_value": ((4, 4), (8, 8)),
    "st_size": ((8, 4), (16, 8)),
    "st_info": ((12, 1), (4, 1)),
    "st_other": ((13, 1), (5, 1)),
    "st_shndx": ((14, 2), (6, 2)),
}
_RELOC = {"r_offset": ((0, 4), (0, 8)), "r_info": ((4, 4), (8, 8)), "r_addend": ((8, 4), (16, 8))}
_CHDR = {
    "ch_type": ((0, 4), (0, 4)),
    "ch_size": ((4, 4), (8, 8)),
    "ch_addralign": ((8, 4), (16, 8)),
}
Fields = dict[str, tuple[tuple[int, int], tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Section:
    """A section of an undamaged file, and where its header stands."""

    name: str
    header: int
    kind: int
    flags: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Anatomy:
    """An undamaged ELF file, taken apart."""

    name: str
    content: bytes
    wide: bool
    order: str
    sections: tuple[Section, ...]

    @classmethod
    def of(cls, name: str, content: bytes) -> Anatomy:
        wide, order = content[4] == 2, "<" if content[5] == 1 else ">"
        self = cls(name, content, wide, order, ())
        at, count, names = (self.field(content, 0, _EHDR[n]) for n in _EHDR_TABLE)
        width = 64 if wide else 40
        heads = [at + index * width for index in range(count)]
        strings = self.field(content, heads[names], _SHDR["sh_offset"])
        return cls(name, content, wide, order, tuple(self._section(h, strings) for h in heads))

    def _section(self, header: int, strings: int) -> Section:
        get = {name: self.field(self.content, header, place) for name, place in _SHDR.items()}
        start = strings + get["sh_name"]
        name = self.content[start : self.content.find(b"\0", start)].decode()
        size = get["sh_size"] if get["sh_type"] not in (0, 8) else 0
        return Section(name, header, get["sh_type"], get["sh_flags"], get["sh_offset"], size)

    def field(
        self, data: bytes | bytearray, at: int, place: tuple[tuple[int, int], tuple[int, int]]
    ) -> int:
        offset, width = place[self.wide]
        raw = data[at + offset : at + offset + width]
        return int.from_bytes(raw, "little" if self.order == "<" else "big")

    def put(
        self,
        data: bytearray,
        at: int,
        place: tuple[tuple[int, int], tuple[int, int]],
        value: int,
    ) -> None:
        """Write a field, as much of it as lies in the file."""
        offset, width = place[self.wide]
        at += offset
        raw = (value % (1 << 8 * width)).to_bytes(width, "little" if self.order == "<" else "big")
        data[at : at + width] = raw[: max(0, len(data) - at)]

    def of_kind(self, *kinds: int) -> list[Section]:
        return [s for s in self.sections if s.kind in kinds and s.size]

    def named(self, *words: str) -> list[Section]:
        return [s for s in self.sections if s.size and any(word in s.name for word in words)]


_EHDR_TABLE = ("e_shoff", "e_shnum", "e_shstrndx")
Operation = Callable[[bytearray, Anatomy, random.Random], str]


def damage(data: bytearray, seed: Anatomy, others: list[Anatomy], dice: random.Random) -> list[str]:
    """Do a few things to a file, and say what."""
    if dice.random() < 0.004:
        return [dice.choice(_HEAVY)(data, seed, dice)]
    told = []
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 5))):
        if not data:
            break
        if dice.random() < 0.04:
            told.append(_splice(data, dice.choice(others), dice))
        else:
            told.append(dice.choice(_OPERATIONS)(data, seed, dice))
    return told


def _number(dice: random.Random, data: bytearray, seed: Anatomy) -> int:
    """A number that has broken readers before."""
    section = dice.choice(seed.sections)
    near = dice.choice((0, len(data), section.offset, section.size, section.offset + section.size))
    match dice.randrange(5):
        case 0:
            return dice.randrange(256)
        case 1:
            return (1 << dice.choice((7, 8, 15, 16, 31, 32, 47, 63, 64))) - dice.randrange(3)
        case 2:
            return near + dice.randrange(-2, 3)
        case 3:
            return dice.getrandbits(dice.choice((8, 16, 32, 64)))
        case _:
            return -dice.randrange(1, 64)


# ── blind ────────────────────────────────────────────────────────────────────────────────────


def _flip(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    count = dice.choice((1, 1, 4, 16, 64))
    for _ in range(count):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return f"{count} bits flipped"


def _scribble(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    at, size = dice.randrange(len(data)), dice.choice((1, 2, 4, 8, 64, 512))
    fill = dice.choice((bytes(size), b"\xff" * size, dice.randbytes(size), b"A" * size))
    data[at : at + size] = fill[: len(data) - at]
    return f"{size} bytes overwritten at {at:#x}"


def _cut(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    at = dice.randrange(len(data))
    if dice.random() < 0.3 and seed.sections:
        section = dice.choice(seed.sections)
        at = min(len(data) - 1, section.offset + dice.choice((0, section.size // 2)))
    del data[at:]
    return f"cut off at {at:#x}"


def _lose(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    at, size = dice.randrange(len(data)), dice.choice((1, 3, 8, 100, 4096))
    if dice.random() < 0.5:
        del data[at : at + size]
        return f"{size} bytes lost at {at:#x}"
    data[at:at] = data[at : at + size]
    return f"{size} bytes twice at {at:#x}"


def _splice(data: bytearray, other: Anatomy, dice: random.Random) -> str:
    section = dice.choice(other.sections)
    part = other.content[section.offset : section.offset + min(section.size, 4096)]
    at = dice.randrange(len(data))
    data[at : at + len(part)] = part
    return f"{section.name} of {other.name} at {at:#x}"


# ── headers and tables ───────────────────────────────────────────────────────────────────────


def _header(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    name = dice.choice((*_EHDR, "e_machine", "e_machine", "class", "data"))
    if name in ("class", "data"):
        at = 4 if name == "class" else 5
        value = dice.choice((1, 2, 1, 2, 0, 3, 255))
        data[at : at + 1] = bytes([value])
        return f"{name} = {value}"
    value = dice.choice(_MACHINES) if name == "e_machine" else _number(dice, data, seed)
    seed.put(data, 0, _EHDR[name], value)
    return f"{name} = {value:#x}"


def _section_header(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    section = dice.choice(seed.sections)
    name = dice.choice(tuple(_SHDR))
    value = _number(dice, data, seed)
    if name == "sh_type":
        value = dice.choice(_TYPES)
    elif name == "sh_flags":
        value = section.flags ^ dice.choice(_FLAGS)
    elif name in ("sh_link", "sh_info") and dice.random() < 0.7:
        value = dice.randrange(len(seed.sections) + 2)
    elif name == "sh_name" and dice.random() < 0.7:
        other = dice.choice(seed.sections)
        value = seed.field(seed.content, other.header, _SHDR["sh_name"])
    seed.put(data, section.header, _SHDR[name], value)
    return f"{section.name or '[0]'}: {name} = {value:#x}"


def _section_swap(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    width = 64 if seed.wide else 40
    one, two = dice.choice(seed.sections), dice.choice(seed.sections)
    first = bytes(data[one.header : one.header + width])
    second = bytes(data[two.header : two.header + width])
    data[one.header : one.header + width] = second
    if dice.random() < 0.5:
        data[two.header : two.header + width] = first
    return f"header of {two.name!r} for {one.name!r}"


def _entry(
    data: bytearray, seed: Anatomy, dice: random.Random, table: Section, fields: Fields, width: int
) -> str:
    count = max(1, table.size // width)
    name = dice.choice(tuple(fields))
    value = _number(dice, data, seed)
    if dice.random() < 0.2:  # the whole column
        step = dice.choice((0, 0, 1, value))
        for row in range(min(count, 5000)):
            seed.put(data, table.offset + row * width, fields[name], value + row * step)
        return f"{table.name}: every {name} = {value:#x} + n * {step:#x}"
    row = dice.randrange(count)
    seed.put(data, table.offset + row * width, fields[name], value)
    return f"{table.name}[{row}]: {name} = {value:#x}"


def _symbol(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    tables = seed.of_kind(_SYMTAB)
    if not tables:
        return _flip(data, seed, dice)
    return _entry(data, seed, dice, dice.choice(tables), _SYM, 24 if seed.wide else 16)


def _relocation(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    tables = seed.of_kind(_RELA, _REL)
    if not tables:
        return _section_header(data, seed, dice)
    table = dice.choice(tables)
    addend = 1 if table.kind == _RELA else 0
    fields = _RELOC if addend else {n: _RELOC[n] for n in ("r_offset", "r_info")}
    return _entry(data, seed, dice, table, fields, (2 + addend) * (8 if seed.wide else 4))


def _strings(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    tables = seed.of_kind(_STRTAB) + seed.named(".debug_str", ".modinfo")
    table = dice.choice(tables or list(seed.sections))
    start, end = table.offset, table.offset + table.size
    fill = dice.choice(
        (b"\0", b"\xff", b"A", b"a\0", b"\n", b"\x1b]0;x\x07\0", "\u202e\u00e9\0".encode())
    )
    if dice.random() < 0.5:
        at = start + dice.randrange(table.size + 1)
        data[at : at + len(fill)] = fill
        return f"{table.name}: {fill!r} at {at - start:#x}"
    if dice.random() < 0.5:
        data[start:end] = bytes(data[start:end]).replace(b"\0", fill[:1])
        return f"{table.name}: no string ends"
    data[start:end] = (fill * table.size)[: table.size]
    return f"{table.name}: all {fill!r}"


def _note(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    notes = seed.of_kind(_NOTE) or list(seed.sections)
    note, word = dice.choice(notes), dice.randrange(5)
    value = _number(dice, data, seed) % (1 << 32)
    at = note.offset + 4 * word
    data[at : at + 4] = struct.pack(seed.order + "I", value)
    return f"{note.name}: word {word} = {value:#x}"


# ── debug info ───────────────────────────────────────────────────────────────────────────────


def _dwarf(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    sections = [s for s in seed.named("debug_") if s.kind not in (_RELA, _REL)]
    if not sections:
        return _section_header(data, seed, dice)
    section = dice.choice(sections)
    if "abbrev" in section.name and dice.random() < 0.7:
        return _abbreviation(data, section, dice)
    match dice.randrange(4):
        case 0:  # the length, version and offsets that a unit begins with
            at = section.offset + dice.choice((0, 0, 4, 5, 6, 7, 8, 10, 11, 12, 14, 15))
            width = dice.choice((1, 2, 4, 8))
        case 1:
            at, width = section.offset + dice.randrange(section.size), 1
        case 2:
            at, width = section.offset + dice.randrange(section.size) // 4 * 4, 4
        case _:  # a number that does not end, or is the largest
            at = section.offset + dice.randrange(section.size)
            leb = dice.choice((b"\x80" * 40, b"\xff" * 9 + b"\x01", b"\xff" * 12 + b"\x7f"))
            data[at : at + len(leb)] = leb
            return f"{section.name}: LEB128 at {at - section.offset:#x}"
    value = _number(dice, data, seed) % (1 << 8 * width)
    data[at : at + width] = value.to_bytes(width, "little" if seed.order == "<" else "big")
    return f"{section.name}: {width} bytes at {at - section.offset:#x} = {value:#x}"


def _abbreviation(data: bytearray, section: Section, dice: random.Random) -> str:
    at = section.offset + dice.randrange(section.size)
    form = dice.choice((*range(1, 0x2D), 0x1F01, 0x1F02, 0x1F20, 0x1F21, 0x7F, 0))
    encoded = bytes([form & 0x7F | 0x80, form >> 7]) if form > 0x7F else bytes([form])
    data[at : at + len(encoded)] = encoded
    return f"{section.name}: form or tag {form:#x} at {at - section.offset:#x}"


def _compression(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    packed = [s for s in seed.sections if s.flags & _COMPRESSED or s.name.startswith(".zdebug")]
    if packed:
        section = dice.choice(packed)
        if section.flags & _COMPRESSED:
            name = dice.choice(tuple(_CHDR))
            value = _number(dice, data, seed)
            seed.put(data, section.offset, _CHDR[name], value)
            return f"{section.name}: {name} = {value:#x}"
        at = section.offset + dice.randrange(12)
        data[at : at + 1] = bytes([dice.randrange(256)])
        return f"{section.name}: packed header"
    section = dice.choice(seed.named("debug_") or list(seed.sections))
    seed.put(data, section.header, _SHDR["sh_flags"], section.flags | _COMPRESSED)
    return f"{section.name}: said to be compressed"


# ── heavy: what is slow if it is not linear ──────────────────────────────────────────────────


def _many_symbols(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    """A symbol table of tens of thousands: one name, hidden names, one address, or a ramp."""
    tables = seed.of_kind(_SYMTAB)
    if not tables:
        return _flip(data, seed, dice)
    width = 24 if seed.wide else 16
    table = tables[0]
    index = seed.sections.index(table)
    named = dice.choice(("one name", "hidden", "one and hidden", "tails", "empty"))
    strings = {
        "one name": b"\0fan_apply\0",
        "hidden": b"\0$x\0",
        "one and hidden": b"\0fan_apply\0$x\0",
        "tails": b"\0" + b"fan_apply\0" * 3000,
        "empty": bytes(3000),
    }[named]
    step = dice.choice((0, 0, 1, 16))
    rows = bytearray(width * _GROWN_SYMBOLS)
    code = next((i for i, s in enumerate(seed.sections) if s.flags & 4), 1)
    for row in range(_GROWN_SYMBOLS):
        at = row * width
        tails = row % 3000 * 10 + 1
        name = tails if named == "tails" else 11 if named == "one and hidden" and row % 2 else 1
        seed.put(rows, at, _SYM["st_name"], name)
        seed.put(rows, at, _SYM["st_value"], row * step)
        seed.put(rows, at, _SYM["st_info"], 0x12)
        seed.put(rows, at, _SYM["st_shndx"], code)
    for which, content in ((index, bytes(rows)), (None, strings)):
        section = seed.sections[which] if which is not None else None
        if section is None:
            link = seed.field(seed.content, table.header, _SHDR["sh_link"])
            section = seed.sections[link]
        seed.put(data, section.header, _SHDR["sh_offset"], len(data))
        seed.put(data, section.header, _SHDR["sh_size"], len(content))
        data += content
    return f"{_GROWN_SYMBOLS} symbols, {named}, {step} apart"


def _many_sections(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    """A section table as long as it can be: copies of one header, or of all in turn."""
    width = 64 if seed.wide else 40
    chosen = [dice.choice(seed.sections)] if dice.random() < 0.5 else list(seed.sections)
    heads = [seed.content[s.header : s.header + width] for s in (*seed.sections, *chosen)]
    at = len(data)
    data += b"".join(heads[: len(seed.sections)])
    more = b"".join(heads[len(seed.sections) :])
    data += (more * (_GROWN_SECTIONS // len(chosen) + 1))[: _GROWN_SECTIONS * width]
    seed.put(data, 0, _EHDR["e_shoff"], at)
    seed.put(data, 0, _EHDR["e_shnum"], min(0xFEFF, len(seed.sections) + _GROWN_SECTIONS))
    return f"{_GROWN_SECTIONS} more sections like {chosen[0].name!r}"


def _many_words(data: bytearray, seed: Anatomy, dice: random.Random) -> str:
    """A megabyte of what is searched for, but does not match."""
    name = dice.choice((".modinfo", ".rodata", ".note.gnu.build-id", ".strtab"))
    sections = seed.named(name) or list(seed.sections)
    word = dice.choice((b"Linux version ", b"vermagic=", b"a=b\0", b"\0" * 12, b"\4\0\0\0" * 3))
    section = dice.choice(sections)
    content = (word * (1_000_000 // len(word) + 1))[:1_000_000]
    seed.put(data, section.header, _SHDR["sh_offset"], len(data))
    seed.put(data, section.header, _SHDR["sh_size"], len(content))
    data += content
    return f"{section.name}: a megabyte of {word!r}"


_HEAVY: tuple[Operation, ...] = (_many_symbols, _many_sections, _many_words)
_OPERATIONS: tuple[Operation, ...] = (
    *(_flip, _scribble, _cut, _lose),
    *(_header, _section_header, _section_header, _section_header, _section_swap),
    *(_symbol, _symbol, _relocation, _relocation, _strings, _note),
    *(_dwarf, _dwarf, _dwarf, _dwarf, _compression),
)
