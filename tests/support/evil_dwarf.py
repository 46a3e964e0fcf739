"""A module whose debug info was written by hand, to hurt who reads it."""

from __future__ import annotations

import struct
from pathlib import Path

from support.kernel_elf import need, run

# Abbreviations (DWARF 4, section 7.5.3): code, tag, children?, then pairs of attribute and form.
_UNIT, _POINTER, _STRUCT, _MEMBER, _BASE, _TYPEDEF, _ARRAY = range(1, 8)
_ABBREVIATIONS = bytes.fromhex(
    "0111010308130b0000"  # compile unit: name, language
    "020f0049130b0b0000"  # pointer: type, size
    "03130103080b0b0000"  # struct: name, size
    "040d0003084913380b0000"  # member: name, type, offset
    "05240003080b0b3e0b0000"  # base type: name, size, encoding
    "061600030849130000"  # typedef: name, type
    "07010049130000"  # array: type
    "00"
)
_HEADER = 11
_SOURCE = """\
.section .debug_info,"",@progbits
.incbin "info"
.section .debug_abbrev,"",@progbits
.incbin "abbrev"
.text
.globl evil
.type evil,@function
evil: nop
nop
ret
.size evil,.-evil
"""


def build_evil_module(folder: Path, kind: str, depth: int = 1) -> Path:
    """``evil.ko`` with a ``struct evil``, of whose member `p` the type is `kind`: a chain of
    ``pointer`` or ``array`` of that depth, or a ``pointer``, ``array``, ``typedef`` or ``struct``
    that is its own.
    """
    need("gcc")
    body = bytes([_UNIT]) + b"x.c\0\x1d"
    kept = _HEADER + len(body)
    body += bytes([_BASE]) + b"int\0\4\5"
    word, _, own = kind.partition("-")
    if word in ("pointer", "array"):
        code, tail = (_POINTER, b"\x08") if word == "pointer" else (_ARRAY, b"")
        for _ in range(depth):
            here = _HEADER + len(body)
            body += bytes([code]) + struct.pack("<I", here if own else kept) + tail
            kept = here
    elif word == "typedef":
        kept = _HEADER + len(body)
        body += bytes([_TYPEDEF]) + b"t\0" + struct.pack("<I", kept)
    else:
        kept = _HEADER + len(body)
    body += bytes([_STRUCT]) + b"evil\0\x08" + bytes([_MEMBER]) + b"p\0"
    body += struct.pack("<I", kept) + b"\0\0\0"
    info = struct.pack("<IHIB", len(body) + 7, 4, 0, 8) + body
    (folder / "info").write_bytes(info)
    (folder / "abbrev").write_bytes(_ABBREVIATIONS)
    (folder / "evil.s").write_text(_SOURCE)
    run("gcc", "-c", "evil.s", "-o", "evil.ko", cwd=folder)
    return folder / "evil.ko"
