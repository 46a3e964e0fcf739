"""Printed registers as an ELF core, so that drgn evaluates variables against them.

A core with one thread and no memory is all that is needed: DWARF says "``ch`` is in RBP here",
drgn reads RBP from ``NT_PRSTATUS``. Layouts: ``struct elf_prstatus`` and ``struct user_regs``
of each architecture's uapi headers.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Mapping
from typing import BinaryIO, cast

__all__ = ["registers_as_core"]


def _names(text: str) -> list[str]:
    return text.split()


_X86 = _names(
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
    "fs_base gs_base ds es fs gs"
)
_ARM64 = [*(f"x{i}" for i in range(31)), "sp", "pc", "pstate"]
_RISCV = _names(
    "epc ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 "
    "s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
)
# ELF machine → number in the header, register order, name of the program counter
_LAYOUTS: dict[str, tuple[int, list[str], str]] = {
    "EM_X86_64": (62, _X86, "rip"),
    "EM_AARCH64": (183, _ARM64, "pc"),
    "EM_RISCV": (243, _RISCV, "epc"),
}
_OPTIONAL = frozenset(_names("orig_rax cs eflags ss fs_base gs_base ds es fs gs pstate"))
_ALIASES = {"lr": "x30", "r08": "r8", "r09": "r9"}
_MASK = (1 << 64) - 1


def registers_as_core(machine: str, pc: int, registers: Mapping[str, int]) -> BinaryIO | None:
    """An unnamed core file of one thread stopped at `pc`, or None when that cannot help.

    `registers` has lower-case names as the kernel prints them (``rax``, ``x0``, ``a0``).
    """
    layout = _LAYOUTS.get(machine)
    if layout is None or not registers:
        return None
    number, order, counter = layout
    values = {_ALIASES.get(name, name): value & _MASK for name, value in registers.items()}
    values[counter] = pc
    if not all(name in values for name in order if name not in _OPTIONAL):
        return None  # a register that was not printed must not read as zero
    file = cast(BinaryIO, tempfile.TemporaryFile(prefix="kagent-"))  # noqa: SIM115
    file.write(_core(number, [values.get(name, 0) for name in order]))
    file.flush()
    return file


def _core(machine: int, registers: list[int]) -> bytes:
    status = struct.pack("<32xI76x", 1)  # pr_pid = 1; signals and times are zero
    status += struct.pack(f"<{len(registers)}Q", *registers) + struct.pack("<ixxxx", 0)
    note = struct.pack("<III8s", 5, len(status), 1, b"CORE") + status
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 4, machine, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    program_header = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(note), len(note), 4)
    return ident + header + program_header + note
