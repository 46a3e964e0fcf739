"""What rules ask of source and debug info, and a cache in front of it.

Rules work with either, both or none: a `Reader` answers None for what it cannot see.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from kagent.diagnosis.code import CFunction, parse_function, variable_type
from kagent.klog.frame_model import Frame
from kagent.resolution import Evidence, SourcePoint, evidence
from kagent.source.c_source import CSource
from kagent.source.model import Excerpt, FunctionSource
from kagent.symbols.model import Member, Variable

__all__ = ["LineSource", "Reader", "TypeSource", "struct_name"]

_STRUCT = re.compile(r"\b(?:struct|union)\s+(\w+)")
_MAX_FILE_LINES = 60_000


class TypeSource(Protocol):
    """Debug info: how types are laid out."""

    def member_at(self, type_name: str, offset: int, *, module: str | None = None) -> Member | None:
        """The innermost member that covers byte `offset`."""

    def member_offset(
        self, type_name: str, path: str, *, module: str | None = None
    ) -> Member | None:
        """The member that a dotted path names."""

    def variables(
        self, frame: Frame, registers: Mapping[str, int] | None = None
    ) -> Sequence[Variable]:
        """Parameters and locals of the functions at a frame."""

    def code_at(self, frame: Frame) -> tuple[bytes, int] | None:
        """Code around a frame as it was built, and the frame's offset in it."""


class LineSource(Protocol):
    """Source text at the crash's own version."""

    def resolve(self, path: str) -> str | None:
        """The tree's own path for a file as DWARF names it."""

    def read_lines(self, path: str, start: int, end: int) -> Excerpt:
        """Lines `start` to `end` of a file."""

    def enclosing_function(self, path: str, line: int) -> FunctionSource | None:
        """The function definition around a line."""


class Reader:
    """Source and types of one analysis. Not thread-safe; make one for each worker."""

    def __init__(self, source: LineSource | None = None, types: TypeSource | None = None) -> None:
        self.source = source
        self.types = types
        self._functions: dict[tuple[str, int], CFunction | None] = {}
        self._origins: dict[int, FunctionSource] = {}
        self._files: dict[str, str] = {}
        self._named: dict[tuple[str, str], CFunction | None] = {}
        self._listed: dict[str, dict[str, int]] = {}
        self._members: dict[tuple[str, str, str | None], Member | None] = {}

    def function_at(self, point: SourcePoint | None) -> CFunction | None:
        """The parsed function around a source point."""
        if self.source is None or point is None or not point.file or not point.line:
            return None
        if not point.file.endswith((".c", ".h")):
            return None  # assembler and generated code
        key = (point.file, point.line)
        if key not in self._functions:
            path = self.source.resolve(point.file)
            found = self.source.enclosing_function(path, point.line) if path else None
            self._functions[key] = self._parse(found, point.module) if found else None
        return self._functions[key]

    def function_named(self, name: str, near: str, module: str | None = None) -> CFunction | None:
        """The definition of `name` in the file `near`."""
        if self.source is None or not re.fullmatch(r"\w{1,200}", name):
            return None
        key = (name, near)
        if key not in self._named:
            start = self._starts(near).get(name)
            found = self.source.enclosing_function(near, start) if start else None
            self._named[key] = self._parse(found, module) if found else None
        return self._named[key]

    def _starts(self, path: str) -> dict[str, int]:
        """First line of every function of a file."""
        if path not in self._listed:
            self._listed[path] = _function_starts(self.file_text(path))
        return self._listed[path]

    def file_text(self, path: str) -> str:
        """A whole file, by the tree's own path."""
        if self.source is None or not path:
            return ""
        if path not in self._files:
            excerpt = self.source.read_lines(path, 1, _MAX_FILE_LINES)
            parts = [excerpt.text]
            while excerpt.truncated:
                excerpt = self.source.read_lines(path, excerpt.end + 1, _MAX_FILE_LINES)
                parts.append(excerpt.text)
            self._files[path] = "\n".join(parts)
        return self._files[path]

    def line_evidence(self, function: CFunction, line: int) -> Evidence:
        """One source line as a fact."""
        origin = self._origins.get(id(function))
        revision = f"@{origin.revision}" if origin and origin.revision else ""
        return evidence("source", function.line(line), f"{function.path}:{line}{revision}")

    def type_of(self, function: CFunction, name: str) -> str | None:
        """The declared type of a variable as `function` sees it: local, parameter or global."""
        if name in function.variables:
            return function.variables[name]
        if not re.fullmatch(r"[A-Za-z_]\w{0,200}", name) or not function.path:
            return None
        return variable_type(self.file_text(function.path), name)

    def is_global(self, function: CFunction, name: str) -> bool:
        """Whether `name` is a file-scope variable there, and so one single object."""
        return name not in function.variables and self.type_of(function, name) is not None

    def member(self, struct: str, names: Sequence[str], module: str | None) -> Member | None:
        """The member ``hdr.len`` of `struct`, with its offset from the start of `struct`."""
        key = (struct, ".".join(names), module)
        if key not in self._members:
            self._members[key] = (
                self.types.member_offset(struct, key[1], module=module) if self.types else None
            )
        return self._members[key]

    def _parse(self, found: FunctionSource, module: str | None) -> CFunction:
        parsed = parse_function(
            found.text, name=found.name, path=found.path, start=found.start, module=module
        )
        self._origins[id(parsed)] = found
        return parsed


@functools.lru_cache(maxsize=16)
def _function_starts(text: str) -> dict[str, int]:
    return {span.name: span.start for span in CSource(text).functions}


def struct_name(type_name: str | None) -> str | None:
    """``const struct fan_curve *`` → ``struct fan_curve``; typedef names as they are."""
    if not type_name:
        return None
    if found := _STRUCT.search(type_name):
        return f"{'union' if 'union' in found[0] else 'struct'} {found[1]}"
    bare = re.sub(r"\b(?:const|volatile)\b|[*\[\]\d]", " ", type_name).split()
    return bare[0] if len(bare) == 1 else None
