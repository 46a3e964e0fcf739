"""What a unified diff touches: files, functions, names on changed lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Patch", "read_patch"]

MAX_NAMES = 200
"""Functions, and identifiers, kept of one patch."""

_FILE = re.compile(r"^diff --git (?:\"?a/)(.{1,4096}?)\"? \"?b/(.{1,4096}?)\"?$")
_HUNK = re.compile(r"^@@ -\d{1,9}(?:,\d{1,9})? \+\d{1,9}(?:,\d{1,9})? @@ ?(.*)$")
_C_SUFFIXES = (".c", ".h", ".S", ".cc", ".cpp", ".rs")
# A definition starts in the first column, has a parameter list and does not end in a semicolon.
_DEFINITION = re.compile(r"^(?!(?:if|for|while|switch|return|else|typedef)\b)[A-Za-z_][^;={}\"]*$")
_NAME_BEFORE_PAREN = re.compile(r"\b([A-Za-z_]\w{0,79})[ \t]{0,2}\(")
_FIRST_ARGUMENT = re.compile(r"\([ \t]{0,4}([a-z_]\w{1,79})")
_SYSCALL_MACRO = re.compile(r"(?:COMPAT_)?SYSCALL_DEFINE\d")
_RUST_FUNCTION = re.compile(r"\bfn[ \t]{1,4}([A-Za-z_]\w{1,79})")
_IDENTIFIER = re.compile(
    r"(?:->|\.)[ ]?([A-Za-z_]\w{1,79})|\b([A-Za-z_]\w{2,79})(?=\()|(\w{1,40}_\w{1,40})"
)
# Annotations with arguments that may stand before the name (linux/compiler_attributes.h).
_ANNOTATIONS = frozenset(
    (
        "__acquires",
        "__aligned",
        "__alloc_size",
        "__attribute__",
        "__malloc",
        "__must_hold",
        "__no_sanitize",
        "__printf",
        "__releases",
        "__scanf",
        "__section",
    )
)
_KEYWORDS = """
    if for while switch return sizeof else case do goto typeof defined static void int unsigned
    struct const char long __attribute__
"""
_NOT_NAMES = frozenset(_KEYWORDS.split())


@dataclass(frozen=True, slots=True)
class Patch:
    """Names a diff touches, each once, in order."""

    files: tuple[str, ...]
    functions: tuple[str, ...]
    identifiers: tuple[str, ...]


def read_patch(diff: str) -> Patch:
    """Extract the names `diff` touches; linear in its length.

    A function counts as touched when a changed line lies in it. Git's hunk header names the last
    definition *before* the hunk, so a definition inside the hunk takes over from there on, and a
    closing brace in the first column ends it.
    """
    files: dict[str, None] = {}
    functions: dict[str, None] = {}
    identifiers: dict[str, None] = {}
    for path, scope, line in _changed_lines(diff):
        files[path] = None
        if scope is not None and len(functions) < MAX_NAMES:
            functions[scope] = None
        if line and len(identifiers) < MAX_NAMES:
            for groups in _IDENTIFIER.findall(line):
                name = groups[0] or groups[1] or groups[2]
                if name not in _NOT_NAMES and not name[0].isdigit():
                    identifiers[name] = None
    return Patch(tuple(files), tuple(functions), tuple(identifiers)[:MAX_NAMES])


def _changed_lines(diff: str) -> Iterator[tuple[str, str | None, str]]:
    """Yield (file, function or None, text) per changed line; (file, None, "") per file."""
    path = ""
    scope: str | None = None
    in_hunk = is_code = False
    for line in diff.split("\n"):
        mark = line[:1]
        if mark == "d" and line.startswith("diff --git "):
            match = _FILE.match(line)
            in_hunk = False
            if match:
                path = match[2]
                is_code = path.endswith(_C_SUFFIXES)
                yield path, None, ""
                if match[1] != path:
                    yield match[1], None, ""
            continue
        if mark == "@" and line.startswith("@@ "):
            match = _HUNK.match(line)
            if match:
                in_hunk = True
                scope = _defined(match[1]) if is_code else None
            continue
        if not in_hunk or not mark or not is_code:
            continue
        first = line[1:2]
        if first.isalpha() or first == "_":
            scope = _defined(line[1:]) or scope
        if mark in "+-":
            yield path, scope, line[1:501]
        if first == "}":
            scope = None


def _defined(line: str) -> str | None:
    """The function that `line` starts to define, if it does."""
    line = line[:300].rstrip().removesuffix("{").rstrip()
    rust = _RUST_FUNCTION.search(line)
    if rust:
        return rust[1]
    if "(" not in line or not _DEFINITION.match(line):
        return None
    names = (m for m in _NAME_BEFORE_PAREN.finditer(line) if m[1] not in _ANNOTATIONS)
    name = next(names, None)
    if name is None:
        return None
    if name[1].isupper() or _SYSCALL_MACRO.match(name[1]):
        argument = _FIRST_ARGUMENT.search(line, name.end() - 1)
        if argument is None:
            return None
        return f"sys_{argument[1]}" if _SYSCALL_MACRO.match(name[1]) else argument[1]
    return name[1]
