"""What the child does for `IsolatedDwarf`: the same questions, to a file given by its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagent.symbols.dwarf import DrgnDwarf, ElfShape
from kagent.symbols.layout import TypeQuestion
from kagent.symbols.model import Location, Member, Variable

if TYPE_CHECKING:
    from kagent.isolation.child import Session

__all__ = ["chains", "load", "members", "symbols", "variables"]


def load(session: Session, key: str, shape: dict[str, Any]) -> None:
    """Have drgn open the file."""
    _dwarf(session, key, shape)


def chains(
    session: Session, key: str, shape: dict[str, Any], addresses: list[int]
) -> tuple[list[tuple[Location, ...]], str | None]:
    """Inline chains, and what was found damaged."""
    dwarf = _dwarf(session, key, shape)
    return dwarf.chains(addresses), dwarf.damage


def symbols(
    session: Session, key: str, shape: dict[str, Any], names: list[str]
) -> list[list[tuple[int, int]]]:
    """Address and size of symbols."""
    return _dwarf(session, key, shape).symbols(names)


def members(
    session: Session,
    key: str,
    shape: dict[str, Any],
    name: str,
    file: str | None,
    question: dict[str, Any],
) -> list[Member]:
    """Members of a type."""
    return _dwarf(session, key, shape).ask_type(name, file, TypeQuestion(**question))


def variables(
    session: Session, key: str, shape: dict[str, Any], address: int, registers: dict[str, int]
) -> list[Variable]:
    """Variables in scope at an address."""
    return _dwarf(session, key, shape).variables(address, registers)


def _dwarf(session: Session, key: str, shape: dict[str, Any]) -> DrgnDwarf:
    sections = tuple((name, address) for name, address in shape["sections"])
    descriptor = session.given[key]
    assert isinstance(descriptor, int)
    made: DrgnDwarf = session.once(
        key, lambda: DrgnDwarf(ElfShape(**{**shape, "sections": sections}), descriptor)
    )
    return made
