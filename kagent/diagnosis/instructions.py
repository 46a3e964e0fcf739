"""Machine code as instructions, plain data. capstone makes them, in the child: a log's author
chooses the bytes of a ``Code:`` line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kagent.errors import CorruptDataError
from kagent.isolation import Job, Subject, current

__all__ = ["Instruction", "Memory", "OperandOf", "disassembled"]


@dataclass(frozen=True, slots=True)
class Memory:
    """``segment:[base + index * scale + disp]``, registers as capstone calls them."""

    base: str | None
    index: str | None
    scale: int
    disp: int
    segment: str | None


@dataclass(frozen=True, slots=True)
class OperandOf:
    """One operand."""

    kind: Literal["register", "immediate", "memory", "other"]
    register: str | None = None
    immediate: int | None = None
    memory: Memory | None = None
    size: int = 0
    written: bool = False


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction."""

    address: int
    size: int
    mnemonic: str
    op_str: str
    operands: tuple[OperandOf, ...]
    written: tuple[str, ...]
    """Registers it writes, implicit ones included; empty where capstone does not say."""


_RUNS = Job[list[tuple[Instruction, ...]]](
    "capstone", "kagent.diagnosis.capstone_child:runs", list[tuple[Instruction, ...]], 10
)


def disassembled(
    arch: str, modes: Sequence[str], data: bytes, runs: Sequence[tuple[int, int]]
) -> list[tuple[Instruction, ...]]:
    """The instructions of each ``[start, end)`` of `data`; addresses are offsets into it.

    `arch` and `modes` are capstone's names without their prefixes: ``X86`` and ``64``.
    Raises `CorruptDataError` where capstone fails.
    """
    key = hashlib.blake2s(data).hexdigest()
    about = Subject(f"{arch}:{key}", "code bytes", text=data.hex())
    found = current().call(_RUNS, about.key, arch, list(modes), list(runs), about=about)
    if len(found) != len(runs):
        raise CorruptDataError("capstone gave more or fewer answers than there were questions")
    return found
