"""Which struct member an instruction touched, by types alone: no source line has to name it.

Debug info says which variables lie in which registers, and of what type they are. From them the
faulting pointer is followed through the loads that stand before the trap in the ``Code:`` line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kagent.diagnosis.machine import Machine
from kagent.diagnosis.members import MemberHit
from kagent.diagnosis.reader import Reader, struct_name
from kagent.diagnosis.x86 import Step, provenance
from kagent.symbols.model import Member, Variable

__all__ = ["typed_member"]

_REACH = 1 << 16
"""Bytes from the start of an object up to which an address may be meant as one of its members."""


@dataclass(frozen=True, slots=True)
class _Pointer:
    """An address inside a struct, with the C expression of the struct's address."""

    struct: str | None
    """None for what is no struct: a buffer, a string, a function."""
    offset: int
    words: str
    via: Member | None = None
    """The member it was read from."""


def typed_member(
    reader: Reader,
    machine: Machine,
    variables: Sequence[Variable],
    registers: dict[str, int],
    *,
    line: int,
    module: str | None,
) -> MemberHit | None:
    """The member at the faulting address, or the one that held a bad pointer to no struct.

    None unless all that speaks for any member speaks for the same.
    """
    if reader.types is None:
        return None
    typed = [(v, s) for v in variables if v.value is not None and (s := _pointee(v.type_name))]
    followed = [
        hit
        for register, intact, steps in _ways(machine)
        if intact and register in registers
        for variable, struct in typed
        if (start := _enter(variable, struct, registers[register])) is not None
        if (end := _follow(reader, start, steps, module)) is not None
        if (hit := _hit(reader, end, machine, line, module)) is not None
    ]
    if followed:
        return _agreed(followed)
    at = machine.effective
    if at is None:
        return None
    direct = [
        hit
        for variable, struct in typed
        if (start := _enter(variable, struct, at)) is not None
        if (hit := _member_hit(reader, start, 0, machine, line, module)) is not None
    ]
    return _agreed(direct)


def _pointee(type_name: str) -> str | None:
    return struct_name(type_name) if type_name.count("*") == 1 else None


def _ways(machine: Machine) -> Iterator[tuple[str, bool, tuple[Step, ...]]]:
    """How the pointer came about, without the case that it is a variable as it stands."""
    if machine.register is None or machine.instruction is None:
        return
    for register, intact, steps in provenance(machine.instruction.before, machine.register):
        if any(step.load for step in steps):
            yield register, intact, steps


def _enter(variable: Variable, struct: str, address: int) -> _Pointer | None:
    offset = address - (variable.value or 0)
    return _Pointer(struct, offset, variable.name) if 0 <= offset < _REACH else None


def _follow(
    reader: Reader, start: _Pointer, steps: Sequence[Step], module: str | None
) -> _Pointer | None:
    assert reader.types is not None
    at = start
    for step in steps:
        struct, offset = at.struct, at.offset + step.disp
        if struct is None:
            return None
        if not step.load:
            at = replace(at, offset=offset)
            continue
        member = reader.types.member_at(struct, offset, module=module)
        if member is None or member.offset != offset or "*" not in member.type_name:
            return None
        words = f"{at.words}->{member.member}"
        at = _Pointer(_compound(reader, member.type_name, module), 0, words, member)
    return at


def _compound(reader: Reader, type_name: str, module: str | None) -> str | None:
    """The struct or union that a pointer type points to; None for ``u8 *``."""
    struct = _pointee(type_name)
    if struct is None or struct.startswith(("struct ", "union ")):
        return struct
    assert reader.types is not None
    return struct if reader.types.member_at(struct, 0, module=module) else None


def _hit(
    reader: Reader, end: _Pointer, machine: Machine, line: int, module: str | None
) -> MemberHit | None:
    if end.struct is not None:
        return _member_hit(reader, end, machine.displacement or 0, machine, line, module)
    if end.via is None or "(" in end.via.type_name:
        return None
    facts = ("the bad pointer was loaded from it", "debug info knows the pointer's type")
    return _made(end.via, end.words, line, facts)


def _member_hit(
    reader: Reader,
    pointer: _Pointer,
    displacement: int,
    machine: Machine,
    line: int,
    module: str | None,
) -> MemberHit | None:
    assert pointer.struct is not None
    assert reader.types is not None
    offset = pointer.offset + displacement
    member = reader.types.member_at(pointer.struct, offset, module=module)
    if member is None or (machine.size or 0) > member.size > 0 or machine.indexed:
        return None
    if member.bits:
        return None  # which of those that share the byte, only the source line tells
    facts = [f"debug info knows {pointer.words} as struct {member.struct}"]
    if pointer.via is not None:
        facts.append(f"the pointer was loaded from {pointer.via.struct}.{pointer.via.member}")
    return _made(member, f"{pointer.words}->{member.member}", line, tuple(facts))


def _made(member: Member, words: str, line: int, facts: tuple[str, ...]) -> MemberHit:
    return MemberHit(
        struct=member.struct,
        member=member.member,
        expression=words,
        line=line,
        offset=member.offset,
        size=member.size,
        facts=facts,
        weight=2,
    )


def _agreed(hits: Sequence[MemberHit]) -> MemberHit | None:
    if len({(hit.struct, hit.member, hit.expression) for hit in hits}) != 1:
        return None
    return hits[0]
