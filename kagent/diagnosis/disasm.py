"""The ``Code:`` line of a report → the faulting instruction and its memory operand.

Every architecture is a row of a table: how its kernel prints code (``show_opcodes``,
``dump_instr``, ``dump_kernel_instr``), and how capstone calls it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kagent.diagnosis.instructions import Engine

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Code", "Decoded", "Operand", "decode", "disassemble", "engine", "parse_code"]

_TOKEN = re.compile(r"([<(\[]?)([0-9a-fA-F]{2,16})[>)\]]?")
_MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class _Arch:
    capstone: str
    modes: tuple[str, ...]
    big_endian: bool = False
    stores: tuple[str, ...] = ()
    """Mnemonic prefixes that write memory, where capstone does not say."""
    zero: tuple[str, ...] = ()
    """Registers that always read as zero."""


_ARCHES = {
    "x86_64": _Arch("X86", ("64",)),
    "i386": _Arch("X86", ("32",)),
    "arm64": _Arch("ARM64", ("ARM",), stores=("st", "swp", "cas", "ldadd"), zero=("xzr", "wzr")),
    "arm": _Arch("ARM", ("ARM",), stores=("st",)),
    "riscv64": _Arch(
        "RISCV", ("RISCV64", "RISCVC"), stores=("s", "c.s", "fs", "amo"), zero=("zero",)
    ),
    "ppc64le": _Arch("PPC", ("64",), stores=("st",)),
    "ppc64": _Arch("PPC", ("64",), big_endian=True, stores=("st",)),
    "s390x": _Arch("SYSZ", (), big_endian=True, stores=("st", "mv", "xc")),
    "mips64": _Arch("MIPS", ("MIPS64",), big_endian=True, stores=("s",), zero=("zero",)),
}
_SHIFT_ONLY = ("lea", "nop", "prefetch")
_INDIRECT = ("call", "jmp", "blr", "br", "jalr", "jr", "c.jalr", "c.jr")
_STACK_READ = ("pop", "ret", "leave", "iret")


@dataclass(frozen=True, slots=True)
class Code:
    """Bytes around the trap, in memory order."""

    data: bytes
    trap: int
    """Offset of the trapping instruction in `data`."""
    arch: str


@dataclass(frozen=True, slots=True)
class Operand:
    """``segment:[base + index * scale + disp]``; register names as the kernel prints them."""

    base: str | None
    index: str | None
    scale: int
    disp: int
    size: int | None
    access: Literal["read", "write"] | None
    segment: str | None = None

    def address(self, registers: Mapping[str, int], next_pc: int | None = None) -> int | None:
        """Compute the effective address; None when a register is unknown."""
        if self.segment in ("gs", "fs"):
            return None
        total = self.disp
        for name, factor in ((self.base, 1), (self.index, self.scale)):
            if name is None:
                continue
            value = next_pc if name in ("rip", "pc") else registers.get(name)
            if value is None:
                return None
            total += value * factor
        return total & (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """The faulting instruction."""

    text: str
    mnemonic: str
    size: int
    operands: tuple[Operand, ...] = ()
    target: str | None = None
    """The register an indirect call or jump goes through."""
    before: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    """Capstone instructions that precede it, in order, as far as they can be told apart."""


def parse_code(code: str, arch: str) -> Code | None:
    """Read the text of a ``Code:`` line; None if it holds no marked instruction."""
    if arch not in _ARCHES:
        return None
    big = _ARCHES[arch].big_endian
    data = bytearray()
    trap: int | None = None
    for n, match in enumerate(_TOKEN.finditer(code)):
        if n >= _MAX_TOKENS:
            break
        mark, digits = match.groups()
        if len(digits) % 2:
            continue
        if mark and trap is None:
            trap = len(data)
        raw = bytes.fromhex(digits)
        data += raw if big or len(raw) == 1 else raw[::-1]
    return None if trap is None else Code(bytes(data), trap, arch)


def engine(arch: str) -> Engine:
    """A disassembler with details switched on, in the child."""
    row = _ARCHES[arch]
    order = "BIG_ENDIAN" if row.big_endian else "LITTLE_ENDIAN"
    return Engine(row.capstone, (*row.modes, order))


def decode(code: str | Code | None, arch: str | None) -> Decoded | None:
    """The instruction at the marked byte of a ``Code:`` line, or at the trap of `Code`."""
    parsed = parse_code(code, arch) if isinstance(code, str) and arch else code
    if not isinstance(parsed, Code) or parsed.arch not in _ARCHES:
        return None
    md = engine(parsed.arch)
    insn = next(md.disasm(parsed.data[parsed.trap :], parsed.trap, 1), None)
    if insn is None:
        return None
    return Decoded(
        text=f"{insn.mnemonic} {insn.op_str}".strip(),
        mnemonic=insn.mnemonic,
        size=insn.size,
        operands=_operands(insn, parsed.arch),
        target=_branch_register(insn),
        before=_preceding(md, parsed),
    )


def disassemble(code: str, arch: str) -> list[tuple[int, str, bool]]:
    """All of a ``Code:`` line: (offset from the trap, instruction, is the trapping one)."""
    parsed = parse_code(code, arch)
    if parsed is None:
        return []
    md = engine(parsed.arch)
    listing = [*_preceding(md, parsed), *md.disasm(parsed.data[parsed.trap :], parsed.trap)]
    return [
        (
            insn.address - parsed.trap,
            f"{insn.mnemonic} {insn.op_str}".strip(),
            insn.address == parsed.trap,
        )
        for insn in listing
    ]


def _preceding(md: Any, code: Code) -> tuple[Any, ...]:
    """Instructions before the trap.

    Where the first byte printed falls inside an instruction, decoding starts wrong but soon falls
    into step; so every start that ends exactly at the trap votes for the boundaries it met.
    """
    votes: dict[int, int] = {}
    found: dict[int, Any] = {}
    for start in range(max(0, code.trap - 64), code.trap):
        run = list(md.disasm(code.data[start : code.trap], start))
        if run and run[-1].address + run[-1].size == code.trap:
            for insn in run:
                votes[insn.address] = votes.get(insn.address, 0) + 1
                found[insn.address] = insn
    chain: list[Any] = []
    end = code.trap
    while ends := [a for a, insn in found.items() if a + insn.size == end]:
        end = max(ends, key=lambda address: votes[address])
        chain.append(found[end])
    return tuple(reversed(chain))


def _branch_register(insn: Any) -> str | None:
    import capstone

    if insn.mnemonic not in _INDIRECT or not insn.operands:
        return None
    first = insn.operands[0]
    return str(insn.reg_name(first.reg)) if first.type == capstone.CS_OP_REG else None


def _operands(insn: Any, arch: str) -> tuple[Operand, ...]:
    if arch in ("x86_64", "i386"):
        return _x86_operands(insn, arch)
    import capstone

    row = _ARCHES[arch]
    found = []
    for op in insn.operands:
        if op.type != capstone.CS_OP_MEM:
            continue
        mem = op.mem
        base = insn.reg_name(mem.base) if mem.base else None
        index = getattr(mem, "index", 0)
        write = insn.mnemonic.startswith(row.stores)
        found.append(
            Operand(
                base=None if base in row.zero else base,
                index=insn.reg_name(index) if index else None,
                scale=1,
                disp=mem.disp,
                size=_risc_size(insn),
                access="write" if write else "read",
            )
        )
    return tuple(found)


def _risc_size(insn: Any) -> int | None:
    """Access size from the mnemonic's last letter (``ldrb``, ``lhu``, ``stw``) or the register."""
    name = insn.mnemonic.rstrip("u").split(".")[-1]
    if insn.mnemonic.startswith(("ld", "st")) and insn.op_str[:1] in ("w", "x"):  # arm64
        wide = 4 if insn.op_str[0] == "w" else 8
        return {"b": 1, "h": 2}.get(name[-1], wide)
    return {"b": 1, "h": 2, "w": 4, "d": 8}.get(name[-1])


def _x86_operands(insn: Any, arch: str) -> tuple[Operand, ...]:
    from capstone import CS_AC_WRITE
    from capstone.x86 import X86_OP_MEM

    if insn.mnemonic.startswith(_SHIFT_ONLY):
        return ()
    found = []
    for op in insn.operands:
        if op.type != X86_OP_MEM:
            continue
        mem = op.mem
        found.append(
            Operand(
                base=insn.reg_name(mem.base) if mem.base else None,
                index=insn.reg_name(mem.index) if mem.index else None,
                scale=mem.scale,
                disp=mem.disp,
                size=op.size or None,
                access="write" if op.access & CS_AC_WRITE else "read",
                segment=insn.reg_name(mem.segment) if mem.segment else None,
            )
        )
    word = 8 if arch == "x86_64" else 4
    stack = "rsp" if arch == "x86_64" else "esp"
    if insn.mnemonic.startswith(("push", "call")):
        found.append(Operand(stack, None, 1, -word, word, "write"))
    elif insn.mnemonic.startswith(_STACK_READ):
        found.append(Operand(stack, None, 1, 0, word, "read"))
    return tuple(found)
