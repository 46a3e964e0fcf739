"""The ``Code:`` line of a report → the faulting instruction and its memory operand.

Every architecture is a row of a table: how its kernel prints code (``show_opcodes``,
``dump_instr``, ``dump_kernel_instr``, ``show_instructions``, ``show_code``), and how capstone calls
it. One that capstone does not have, or knows less of, is decoded less far.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from kagent.diagnosis.instructions import Engine, Instruction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "ARCHITECTURES",
    "Code",
    "Decoded",
    "Operand",
    "decode",
    "disassemble",
    "engine",
    "parse_code",
    "written",
]

# A byte, a halfword or a word; powerpc prints XXXXXXXX for one that it cannot read.
_TOKEN = re.compile(r"([<(\[]?)\b([0-9a-fA-F]{2,16}|X{8})\b[>)\]]?")
_MAX_TOKENS = 256
_HALFWORD = 4
_REG, _IMM = 1, 2  # CS_OP_*


@dataclass(frozen=True, slots=True)
class _Arch:
    capstone: str
    modes: tuple[str, ...]
    big_endian: bool = False
    halfwords: tuple[str, ...] = ()
    """Modes instead of `modes` where the kernel prints halfwords: Thumb, microMIPS."""
    stores: tuple[str, ...] = ()
    """Mnemonic prefixes that write memory, where capstone does not say."""
    quiet: re.Pattern[str] | None = None
    """Mnemonics with the operand of a load that only compute with it, or never trap."""
    zero: tuple[str, ...] = ()
    """Registers that always read as zero."""
    sizes: tuple[tuple[re.Pattern[str], int], ...] = ()
    """Bytes by mnemonic."""
    indexed: re.Pattern[str] | None = None
    """Mnemonics whose last two registers are the base and the index."""
    registers: tuple[str, ...] = ()
    """Capstone's names of r0, r1, ... where the kernel prints numbers."""
    delay_slot: bool = False


def _sizes(**patterns: str) -> tuple[tuple[re.Pattern[str], int], ...]:
    widths = {"byte": 1, "half": 2, "word": 4, "double": 8}
    return tuple((re.compile(pattern), widths[name]) for name, pattern in patterns.items())


_PPC_SIZES = _sizes(
    byte=r"(?:l|st)b", half=r"(?:l|st)h", word=r"(?:l|st)w(?:z|a|u|x|b|c|$)", double=r"(?:l|st)d"
)
_PPC = _Arch(
    "PPC",
    ("64",),
    big_endian=True,
    stores=("st", "dcbz"),
    quiet=re.compile(r"dcb[tsf]|icb"),
    sizes=_PPC_SIZES,
    indexed=re.compile(r"(?:l|st)\w+x\.?$|dcbz"),
)
_MIPS_REGISTERS = (
    *("zero", "at", "v0", "v1", "a0", "a1", "a2", "a3"),
    *(f"t{n}" for n in range(8)),
    *(f"s{n}" for n in range(8)),
    *("t8", "t9", "k0", "k1", "gp", "sp", "fp", "ra"),
)
_MIPS = _Arch(
    "MIPS",
    ("MIPS64",),
    big_endian=True,
    halfwords=("MIPS32", "MICRO"),
    stores=("s",),
    quiet=re.compile(r"pref|cache|synci"),
    zero=("r0",),
    sizes=_sizes(
        byte=r"[ls]bu?(?:16)?$",
        half=r"[ls]hu?(?:16)?$",
        word=r"(?:[ls]wu?(?:16|sp)?|ll|sc)$",
        double=r"(?:[ls]d|lld|scd)$",
    ),
    registers=_MIPS_REGISTERS,
    delay_slot=True,
)
_S390 = _Arch(
    "SYSZ",
    (),
    big_endian=True,
    stores=(
        "st",
        "mv",
        "xc",
        "xi",
        "oc",
        "oi",
        "nc",
        "ni",
        "cs",
        "cds",
        "laa",
        "lan",
        "lao",
        "lax",
    ),
    quiet=re.compile(r"la(?:y|rl)?$|pfd|b|cl?[gh]?r?j"),
    sizes=_sizes(
        byte=r"(?:ll?g?c|ic|stc|mvi|cli|tm|[nox]i|lg?b)y?$",
        half=r"(?:ll?g?h|sth|ch)y?$",
        word=r"(?:l|st|c|a|s|n|o|x|lt|cs|llgf|lgf)y?$|la[anox]$",
        double=r"(?:lg|stg|cg|ag|sg|ng|og|xg|ltg|csg)$|la[anox]g$",
    ),
    registers=tuple(map(str, range(16))),
)
_SPARC = _Arch(
    "SPARC",
    ("V9",),
    big_endian=True,
    stores=("st", "swap", "cas", "ldstub"),
    quiet=re.compile(r"jmp|call|ret|flush|prefetch"),
    zero=("g0",),
    sizes=_sizes(
        byte=r"(?:ld[us]|st|ldstu)b$",
        half=r"(?:ld[us]|st)h$",
        word=r"(?:ld[us]?w?|stw?|swap|cas)$",
        double=r"(?:ld|st|cas)x$|(?:ld|st)d$",
    ),
    delay_slot=True,
)
_ARM = _Arch("ARM", ("ARM",), halfwords=("THUMB",), stores=("st",))
_RISCV = _Arch("RISCV", ("RISCV64", "RISCVC"), stores=("s", "c.s", "fs", "amo"), zero=("zero",))
_ARCHES = {
    "x86_64": _Arch("X86", ("64",)),
    "i386": _Arch("X86", ("32",)),
    "arm64": _Arch("ARM64", ("ARM",), stores=("st", "swp", "cas", "ldadd"), zero=("xzr", "wzr")),
    "arm": _ARM,
    "armeb": replace(_ARM, big_endian=True),
    "riscv64": _RISCV,
    "riscv32": replace(_RISCV, modes=("RISCV32", "RISCVC")),
    "ppc64le": replace(_PPC, big_endian=False),
    "ppc64": _PPC,
    "ppc": replace(_PPC, modes=("32",)),
    "s390x": _S390,
    "mips64": _MIPS,
    "mips64el": replace(_MIPS, big_endian=False),
    "mips": replace(_MIPS, modes=("MIPS32",)),
    "mipsel": replace(_MIPS, modes=("MIPS32",), big_endian=False),
    "sparc64": _SPARC,
    "sparc": replace(_SPARC, modes=()),
}
"""Kernels print code as numbers, whatever the byte order; only code of a file depends on it."""
ARCHITECTURES = frozenset(_ARCHES)
"""Names of the architectures whose code can be read."""
_SHIFT_ONLY = ("lea", "nop", "prefetch")
_INDIRECT = ("call", "jmp", "blr", "br", "jalr", "jr", "c.jalr", "c.jr", "basr", "bctr", "bctrl")
_STACK_READ = ("pop", "ret", "leave", "iret")
_COMPRESSED = re.compile(r"c\.f?[ls][bhwdq]u?(?:sp)?$")
"""RISC-V loads and stores that capstone shows as register, number, register."""


@dataclass(frozen=True, slots=True)
class Code:
    """Bytes around the trap, in memory order."""

    data: bytes
    trap: int
    """Offset of the trapping instruction in `data`."""
    arch: str
    halfwords: bool = False
    """Printed as halfwords: of the architecture's second instruction set, if it has one."""


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
    halfwords = False
    for n, match in enumerate(_TOKEN.finditer(code)):
        if n >= _MAX_TOKENS:
            break
        mark, digits = match.groups()
        if digits[0] == "X":  # what stands beyond the gap does not join
            if trap is not None:
                break
            data.clear()
            continue
        if len(digits) % 2:
            continue
        if mark and trap is None:
            trap, halfwords = len(data), len(digits) == _HALFWORD
        raw = bytes.fromhex(digits)
        data += raw if big or len(raw) == 1 else raw[::-1]
    return None if trap is None else Code(bytes(data), trap, arch, halfwords)


def engine(arch: str, *, halfwords: bool = False) -> Engine:
    """A disassembler with details switched on, in the child."""
    row = _ARCHES[arch]
    modes = (halfwords and row.halfwords) or row.modes
    return Engine(row.capstone, (*modes, "BIG_ENDIAN" if row.big_endian else "LITTLE_ENDIAN"))


def written(insn: Instruction) -> frozenset[str] | None:
    """Names of the registers that an instruction writes.

    None where capstone does not know: it does for x86 and arm, but not for powerpc, mips, ...
    """
    return None if insn.written is None else frozenset(insn.written)


def decode(code: str | Code | None, arch: str | None, *, delayed: bool = False) -> Decoded | None:
    """The instruction at the marked byte of a ``Code:`` line, or at the trap of `Code`.

    `delayed` says that it trapped in the delay slot of the marked branch, where there are any.
    """
    parsed = parse_code(code, arch) if isinstance(code, str) and arch else code
    if not isinstance(parsed, Code) or parsed.arch not in _ARCHES:
        return None
    md = engine(parsed.arch, halfwords=parsed.halfwords)
    marked = list(md.disasm(parsed.data[parsed.trap :], parsed.trap, 2))
    slot = delayed and _ARCHES[parsed.arch].delay_slot
    if len(marked) <= slot:
        return None
    insn = marked[slot]
    return Decoded(
        text=f"{insn.mnemonic} {insn.op_str}".strip(),
        mnemonic=insn.mnemonic,
        size=insn.size,
        operands=_operands(insn, parsed.arch),
        target=_branch_register(insn, parsed.arch),
        before=(*_preceding(md, parsed), *marked[:slot]),
    )


def disassemble(code: str, arch: str) -> list[tuple[int, str, bool]]:
    """All of a ``Code:`` line: (offset from the trap, instruction, is the trapping one)."""
    parsed = parse_code(code, arch)
    if parsed is None:
        return []
    md = engine(parsed.arch, halfwords=parsed.halfwords)
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


def _branch_register(insn: Instruction, arch: str) -> str | None:
    if insn.mnemonic not in _INDIRECT:
        return None
    if arch.startswith("ppc"):
        return "ctr" if insn.mnemonic.startswith("bctr") else None
    registers = [op.reg for op in insn.operands if op.type == _REG]
    if not registers or (arch in _X86 and insn.operands[0].type != _REG):
        return None
    # The other register of `jalr ra, t1` and `basr %r14, %r1` is where the return address goes.
    return _name(registers[-1], arch)


_X86 = ("x86_64", "i386")


def _name(register: str | None, arch: str) -> str | None:
    """A register of capstone's as the kernel's dump names it."""
    numbered = _ARCHES[arch].registers
    return f"r{numbered.index(register)}" if register in numbered else register


def _operands(insn: Instruction, arch: str) -> tuple[Operand, ...]:
    if arch in _X86:
        return _x86_operands(insn, arch)
    row = _ARCHES[arch]
    if row.quiet is not None and row.quiet.match(insn.mnemonic):
        return ()
    parts = list(_memory_parts(insn, row))
    access: list[Literal["read", "write"]] = ["read"] * len(parts)
    if parts and insn.mnemonic.startswith(row.stores):
        access[0] = "write"  # of two, s390's target comes first
    return tuple(
        Operand(
            base=_nonzero(_name(base, arch), row),
            index=_nonzero(_name(index, arch), row),
            scale=1,
            disp=disp,
            size=_risc_size(insn, row),
            access=kind,
        )
        for (base, index, disp), kind in zip(parts, access, strict=True)
    )


def _nonzero(name: str | None, row: _Arch) -> str | None:
    return None if name in row.zero else name


def _memory_parts(insn: Instruction, row: _Arch) -> Iterator[tuple[str | None, str | None, int]]:
    """(base, index, displacement) of each memory operand, by capstone's names.

    For some instructions capstone lists the parts of the operand one by one.
    """
    operands = insn.operands
    memory = [op.mem for op in operands if op.mem is not None]
    yield from ((mem.base, mem.index, mem.disp) for mem in memory)
    if memory or len(operands) < 2:
        return
    kinds = [op.type for op in operands]
    if row.indexed is not None and row.indexed.match(insn.mnemonic) and set(kinds) == {_REG}:
        yield operands[-2].reg, operands[-1].reg, 0
    elif _COMPRESSED.match(insn.mnemonic) and kinds[-2:] == [_IMM, _REG]:
        yield operands[-1].reg, None, operands[-2].imm or 0


def _risc_size(insn: Instruction, row: _Arch) -> int | None:
    """Access size from the mnemonic (``ldrb``, ``lhu``, ``stw``) or, on arm64, the register."""
    if row.sizes:
        return next((size for pattern, size in row.sizes if pattern.match(insn.mnemonic)), None)
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
