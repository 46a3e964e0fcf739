"""Looking back from the faulting x86 instruction: where did its registers come from?

Only straight-line facts are used, and callers check every step against the register dump.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kagent.diagnosis.disasm import written

__all__ = ["Origin", "Step", "full_register", "origin", "provenance", "shadow_source",
           "untouched"]  # fmt: skip

_KASAN_SCALE = 3
_REG, _IMM, _MEM = 1, 2, 3  # capstone's X86_OP_*
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Origin:
    """How a register got its value: ``base + index * scale + disp``, or the memory there."""

    kind: Literal["address", "load"]
    base: str
    disp: int
    index: str | None = None
    scale: int = 1
    moved: bool = False
    """True when `disp` was added to `base` itself, so that its dumped value includes it."""

    def pointer(self, registers: Mapping[str, int], value: int) -> int | None:
        """The base pointer, if the dumped registers add up to `value`; None if they do not."""
        base = registers.get(self.base)
        index = registers.get(self.index) if self.index else 0
        if base is None or index is None:
            return None
        if self.moved:
            base -= self.disp
        if (base + index * self.scale + self.disp) & _MASK != value & _MASK:
            return None
        return base & _MASK


def full_register(name: str) -> str:
    """The 64-bit register that `name` is part of: ``r8d`` → ``r8``, ``eax`` → ``rax``."""
    if name[:1] == "r" and name[1:2].isdigit():
        return name.rstrip("dwb")
    stem = name.removeprefix("r").removeprefix("e")
    if stem in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip"):
        return f"r{stem}"
    if stem in ("sil", "dil", "bpl", "spl"):
        return f"r{stem[:2]}"
    if len(stem) == 2 and stem[0] in "abcd" and stem[1] in "lh":
        return f"r{stem[0]}x"
    return name


def origin(insns: Sequence[Any], register: str) -> Origin | None:
    """What `register` holds after `insns`, through register copies, if still recomputable.

    The registers it was computed from must not have changed since, so that their dumped values
    are the ones used.
    """
    at = _last_write(insns, register)
    if at is None or len(insns[at].operands) != 2:
        return None
    insn, source = insns[at], insns[at].operands[1]
    if insn.mnemonic in ("add", "sub") and source.type == _IMM:
        disp = source.imm if insn.mnemonic == "add" else -source.imm
        alias = _alias(insns, at, register)
        return Origin("address", alias or register, disp, moved=alias is None)
    if insn.mnemonic not in ("mov", "lea"):
        return None
    if source.type == _REG:
        return origin(insns[:at], full_register(insn.reg_name(source.reg)))
    if source.type != _MEM or not source.mem.base:
        return None
    base = full_register(insn.reg_name(source.mem.base))
    index = full_register(insn.reg_name(source.mem.index)) if source.mem.index else None
    if insn.mnemonic == "mov":
        return None if base == "rip" else Origin("load", base, source.mem.disp, index)
    later = insns[at + 1 :]
    if base == "rip" or any(_last_write(later, r) is not None for r in (base, index) if r):
        return None
    if register in (base, index):
        return None
    return Origin("address", base, source.mem.disp, index, source.mem.scale)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a pointer's making: `disp` was added, and with `load` the memory there read."""

    disp: int
    load: bool = False


_MAX_STEPS = 6


def provenance(insns: Sequence[Any], register: str) -> Iterator[tuple[str, bool, tuple[Step, ...]]]:
    """From which registers `register` was made, by which steps: nearest first.

    Each comes with whether its dumped value is the one that was used. Yields `register` itself,
    with no steps, first. Of an architecture whose writes capstone does not know, that is all.
    """
    steps: tuple[Step, ...] = ()
    end = len(insns)
    if insns and written(insns[-1]) is None:
        yield register, True, steps
        return
    for _ in range(_MAX_STEPS):
        yield register, _last_write(insns[end:], register) is None, steps
        at = _last_write(insns[:end], register)
        if at is None or len(insns[at].operands) != 2:
            return
        insn, source = insns[at], insns[at].operands[1]
        if insn.mnemonic in ("add", "sub") and source.type == _IMM:
            disp = source.imm if insn.mnemonic == "add" else -source.imm
            steps = (Step(disp), *steps)
        elif insn.mnemonic == "mov" and source.type == _REG:
            register = full_register(insn.reg_name(source.reg))
        elif insn.mnemonic in ("mov", "lea") and source.type == _MEM:
            if not source.mem.base or source.mem.index:
                return
            register = full_register(insn.reg_name(source.mem.base))
            steps = (Step(source.mem.disp, load=insn.mnemonic == "mov"), *steps)
        else:
            return
        end = at


def shadow_source(insns: Sequence[Any], register: str) -> str | None:
    """The register that holds the address whose KASAN shadow index is in `register`.

    Compilers emit ``mov idx, addr; shr idx, 3`` before the shadow load (inline instrumentation).
    """
    at = _last_write(insns, register)
    if at is None or insns[at].mnemonic != "shr" or len(insns[at].operands) != 2:
        return None
    if insns[at].operands[1].imm != _KASAN_SCALE:
        return None
    copy = _last_write(insns[:at], register)
    if copy is None or insns[copy].mnemonic != "mov" or insns[copy].operands[1].type != _REG:
        return None
    source = full_register(insns[copy].reg_name(insns[copy].operands[1].reg))
    return source if _last_write(insns[copy + 1 :], source) is None else None


def untouched(insns: Sequence[Any], register: str, offset: int | None) -> bool:
    """Whether `register` still holds what it did `offset` bytes before the end of `insns`.

    False where that many bytes are not at hand.
    """
    if offset is None or not insns:
        return False
    start = insns[-1].address + insns[-1].size - offset
    since = [insn for insn in insns if insn.address >= start]
    return sum(insn.size for insn in since) == offset and _last_write(since, register) is None


def _alias(insns: Sequence[Any], at: int, register: str) -> str | None:
    """Another register that still holds what `register` held before instruction `at`."""
    for n in range(at - 1, -1, -1):
        insn = insns[n]
        if insn.mnemonic == "mov" and all(op.type == _REG for op in insn.operands):
            target, source = (full_register(insn.reg_name(op.reg)) for op in insn.operands)
            if source == register and _last_write(insns[n + 1 :], target) is None:
                return target
        if _last_write(insns[n : n + 1], register) is not None:
            return None
    return None


def _last_write(insns: Sequence[Any], register: str) -> int | None:
    """The last instruction that writes `register`, or may do so for all that is known."""
    for at in range(len(insns) - 1, -1, -1):
        insn = insns[at]
        if insn.mnemonic == "call":
            if register in _CALL_CLOBBERED:
                return at
            continue
        names = written(insn)
        if names is None or register in map(full_register, names):
            return at
    return None


_CALL_CLOBBERED = frozenset(("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"))
