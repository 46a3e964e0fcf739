"""Kernel modules of other machines, assembled by LLVM, with debug info and relocations in it."""

from __future__ import annotations

from pathlib import Path

from support.kernel_elf import RELEASE, need, run

__all__ = ["LINES", "TRIPLES", "WIDE", "build_foreign_module"]

TRIPLES = (
    *("x86_64", "i386", "aarch64", "aarch64_be", "arm", "armeb", "mips", "mipsel", "mips64"),
    *("mips64el", "powerpc", "powerpcle", "powerpc64", "powerpc64le", "riscv32", "riscv64"),
    *("s390x", "sparc", "sparcv9", "m68k", "hexagon"),
)
WIDE = ("64", "s390x", "sparcv9")
"""What the names of 64-bit machines have in them."""
LINES = {"fan_apply": {0: 10, 4: 10, 8: 11, 12: 11}, "fan_write": {0: 20, 4: 20, 8: 21, 12: 21}}
"""The line of ``drivers/hwmon/fan.c`` at each offset of the module's functions."""

# Sections other than .text, and a line program whose address comes from a relocation.
_SOURCE = """\
	.file	1 "drivers/hwmon/fan.c"
	.section .modinfo,"a",%progbits
	.asciz "vermagic={release} SMP mod_unload "
	.asciz "license=GPL"
	.section .init.text,"ax",%progbits
	.globl fan_init
	.type fan_init,%function
fan_init:
	.4byte 0, 0
	.size fan_init, .-fan_init
	.text
	.4byte 0, 0
{functions}
	.data
	.globl fan_state
	.type fan_state,%object
fan_state:
	{pointer} fan_apply
	.size fan_state, .-fan_state
	.section .note.gnu.build-id,"a",%note
	.4byte 4, 20, 3
	.asciz "GNU"
	.4byte 0x01020304, 0x05060708, 0x090a0b0c, 0x0d0e0f10, 0x11121314
	.section .debug_abbrev,"",%progbits
	.byte 1, 0x11, 0, 0x03, 0x08, 0x10, 0x17, 0x11, 0x01, 0x12, 0x06, 0, 0, 0
	.section .debug_info,"",%progbits
	.4byte .Lend - .Lstart
.Lstart:
	.2byte 4
	.4byte .debug_abbrev
	.byte {width}
	.byte 1
	.asciz "drivers/hwmon/fan.c"
	.4byte .Lline
	{pointer} .text
	.4byte 40
.Lend:
	.section .debug_line,"",%progbits
.Lline:
"""
_FUNCTION = """\
	.globl {name}
	.type {name},%function
{name}:
	.loc 1 {first} 0
	.4byte 0, 0
	.loc 1 {second} 0
	.4byte 0, 0
	.size {name}, .-{name}
"""


def build_foreign_module(path: Path, triple: str) -> Path:
    """A module for `triple`, with the functions of `LINES`, relocated debug info and a build-id.

    Its code is zeros: only the container and the debug info matter.
    """
    need("llvm-mc")
    wide = any(word in triple for word in WIDE)
    functions = "".join(
        _FUNCTION.format(name=name, first=lines[0], second=lines[8])
        for name, lines in LINES.items()
    )
    source = path.with_suffix(".s")
    pointer = ".8byte" if wide else ".4byte"
    text = _SOURCE.format(
        release=RELEASE, functions=functions, pointer=pointer, width=8 if wide else 4
    )
    source.write_text(text)
    run("llvm-mc", f"-triple={triple}-linux-gnu", "-filetype=obj", "-o", path, source)
    source.unlink()
    return path
