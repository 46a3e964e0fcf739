"""What debug info says about an address or a type."""

from __future__ import annotations

from dataclasses import dataclass

from kagent.klog.model import Frame

__all__ = ["Location", "Member", "Symbolized"]


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
