"""Build-ids in ELF notes."""

from __future__ import annotations

import struct

__all__ = ["build_id_in"]

_GNU_BUILD_ID = 3
_MAX_BYTES = 65_536


def build_id_in(notes: bytes, *, little_endian: bool = True) -> str | None:
    """The build-id, in hexadecimal, of a note section or segment (elf(5), ``Elf64_Nhdr``)."""
    notes = notes[:_MAX_BYTES]
    order = "<" if little_endian else ">"
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from(order + "III", notes, at)
        owner = notes[at + 12 : at + 12 + name_size]
        at += 12 + (name_size + 3 & ~3)
        if kind == _GNU_BUILD_ID and owner == b"GNU\0":
            return notes[at : at + size].hex()
        at += size + 3 & ~3
    return None
