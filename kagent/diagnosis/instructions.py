"""capstone by way of the child: a log's author chooses the bytes of a ``Code:`` line.

What comes back is plain data in the shape of capstone's own objects, as far as the rules use
them. Registers are their names, so `Instruction.reg_name` has nothing to look up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kagent.errors import CorruptDataError
from kagent.isolation import Job, Subject, current

__all__ = ["Engine", "Instruction", "Memory", "OperandOf"]


@dataclass(frozen=True, slots=True)
class Memory:
    """``segment:[base + index * scale + disp]``."""

    base: str | None
    index: str | None
    scale: int
    disp: int
    segment: str | None


@dataclass(frozen=True, slots=True)
class OperandOf:
    """One operand."""

    type: int
    """capstone's ``CS_OP_*``."""
    reg: str | None
    imm: int | None
    mem: Memory | None
    size: int
    access: int
    """capstone's ``CS_AC_*``."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction."""

    address: int
    size: int
    mnemonic: str
    op_str: str
    operands: tuple[OperandOf, ...]
    read: tuple[str, ...] | None
    written: tuple[str, ...] | None
    """Registers, implicit ones included; None where capstone does not know them."""

    @staticmethod
    def reg_name(register: str) -> str:
        """The name itself."""
        return register

    def regs_access(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Registers read and written; raises capstone's ``CsError`` where it does not know."""
        if self.read is None or self.written is None:
            import capstone

            raise capstone.CsError(capstone.CS_ERR_DETAIL)
        return self.read, self.written


_DISASSEMBLE = Job[list[Instruction]](
    "capstone", "kagent.diagnosis.capstone_child:disassemble", list[Instruction], 10
)


class Engine:
    """``capstone.Cs`` with details. Where capstone fails on code, that has no instructions; and
    none of that architecture is tried again in the run.
    """

    def __init__(self, arch: str, modes: Sequence[str]) -> None:
        """`arch` and `modes` are capstone's names without their prefixes: ``X86`` and ``64``."""
        self._arch, self._modes = arch, tuple(modes)

    def disasm(self, data: bytes, address: int, count: int = 0) -> Iterator[Instruction]:
        """The instructions of `data`, up to the first that is none; at most `count`, if given."""
        about = Subject(f"code:{self._arch}:{self._modes}", f"{self._arch} code bytes")
        asked = (self._arch, self._modes, data.hex(), address, count)
        try:
            yield from current().call(_DISASSEMBLE, *asked, about=about)
        except CorruptDataError:
            return
