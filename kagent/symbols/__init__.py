"""Debug info: ELF symbols, source lines with inline chains, struct layouts, variables."""

from __future__ import annotations

from kagent.symbols.locate import DebugFiles
from kagent.symbols.model import Location, Member, Symbolized, Variable
from kagent.symbols.symbolizer import NO_VMLINUX, Symbolizer

__all__ = [
    "NO_VMLINUX",
    "DebugFiles",
    "Location",
    "Member",
    "Symbolized",
    "Symbolizer",
    "Variable",
]
