"""What debug info says about an address or a type."""

from __future__ import annotations

from dataclasses import dataclass

from kagent.klog.frame_model import Frame

__all__ = ["UNNAMED", "Location", "Member", "Symbolized", "Variable"]

UNNAMED = "?"
"""The function of a location that debug info does not name."""


@dataclass(frozen=True, slots=True)
class Location:
    """One link of an inline chain."""

    function: str
    file: str
    """As DWARF names it, made relative to the kernel tree where that is possible."""
    line: int
    column: int = 0

    def __str__(self) -> str:
        return f"{self.function} at {self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Symbolized:
    """A frame with its source lines."""

    frame: Frame
    chain: tuple[Location, ...] = ()
    """Innermost inlined function first, the function that owns the code last."""
    note: str | None = None
    """Why nothing, or nothing certain, could be said."""
    approximate: bool = False
    """True when the debug info is of another build and the user asked to use it all the same."""


@dataclass(frozen=True, slots=True)
class Member:
    """What lies at an offset inside a type."""

    struct: str
    """Tag name without the keyword: ``fan_curve``."""
    member: str
    """Dotted path for nested and anonymous members: ``hdr.len``, ``slots[3]``."""
    offset: int
    """Of the member from the start of `struct`, in bytes."""
    size: int
    type_name: str
    bits: int | None = None
    """Of a bit-field, its width; others may share its bytes."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A parameter or local variable in scope at a frame."""

    name: str
    type_name: str
    """As C spells it: ``const struct fan_curve *``."""
    function: str
    """The function that declares it; an inlined one has its own."""
    depth: int = 0
    """Link of the inline chain it belongs to: 0 is the innermost function."""
    value: int | None = None
    """What it held, computed from the printed registers; None when they do not tell."""
    address: int | None = None
    """Where it lies in memory, when DWARF puts it there rather than in a register."""
