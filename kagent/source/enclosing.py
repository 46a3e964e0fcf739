"""The function around a line, told by the kernel's coding style alone: no parser, so it is fast.

Documentation/process/coding-style.rst puts a function's braces, and only those, into the first
column. Where that does not decide, nothing is said and a parser has to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kagent.source.annotations import without_annotations

__all__ = ["Enclosing", "enclosing"]

_MAX_HEADER = 24
_MAX_BODY = 4000
_ENDS_HEADER = re.compile(r"\s*$|.*(?:[;}\\{]|\*/)\s*$|#|//|/\*| \*")
_MACRO = re.compile(r"(?:(?:static|noinline|inline)\s+)*([A-Z_][A-Z0-9_]{2,})\s*\(\s*(\w+)")
_NAME = re.compile(r"([A-Za-z_]\w*)\s{0,8}\(")
_NOT_A_NAME = frozenset(
    ("void", "int", "long", "char", "bool", "unsigned", "if", "while", "return")
)


@dataclass(frozen=True, slots=True)
class Enclosing:
    """A function definition as its header spells it; `name` is empty outside of any."""

    name: str = ""
    head: str = ""
    macro: str | None = None
    """The macro that defines it: ``SYSCALL_DEFINE3``."""


def enclosing(lines: Sequence[str], line: int) -> Enclosing | None:
    """What is around a line (1-based) of a file; None when the style does not tell."""
    for at in range(line - 2, max(-1, line - 2 - _MAX_BODY), -1):
        row = lines[at]
        first = row[:1]
        if first == "{" and row.rstrip() == "{":
            return _named(_header(lines, at))
        if first == "}":
            return Enclosing()
        if first.isalpha() or first == "_":
            if not row.rstrip().endswith("{"):
                continue  # a label, or a header whose brace was not passed: the line is outside
            if "=" in row or re.match(r"(?:static |typedef )*(?:struct|union|enum)\b[^(]*$", row):
                return Enclosing()
            return _named(row)
    return Enclosing() if line - 2 < _MAX_BODY else None


def _header(lines: Sequence[str], brace: int) -> str:
    """The lines that end before a brace: one with the name, and a type on lines of its own."""
    start, named = brace, False
    while start > max(0, brace - _MAX_HEADER):
        row = lines[start - 1]
        if _ENDS_HEADER.match(row) or (named and (row[:1].isspace() or "(" in row)):
            break
        named = named or ("(" in row and not row[:1].isspace())
        start -= 1
    return "\n".join(lines[start:brace])


def _named(head: str) -> Enclosing | None:
    bare = without_annotations(head.encode("utf-8", "replace")).decode("utf-8", "replace")
    if made := _MACRO.match(bare.lstrip()):
        return Enclosing(made[2], head, made[1])
    found = _NAME.search(bare)
    if found is None or found[1] in _NOT_A_NAME:
        return None
    return Enclosing(found[1], head)
