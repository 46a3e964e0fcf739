"""Names of Rust functions (and of the rare C++ ones), without what the linker needs.

The v0 mangling is read as far as the kernel's Rust code uses it (Rust reference, "v0 Symbol
Format"); of the legacy ``_ZN`` manglings only the nested name is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["demangle"]

_MAX_DEPTH = 64
_MAX_NAME = 1024
_LENGTH = re.compile(r"\d{1,4}")
_BASIC = {
    "a": "i8",
    "b": "bool",
    "c": "char",
    "d": "f64",
    "e": "str",
    "f": "f32",
    "h": "u8",
    "i": "isize",
    "j": "usize",
    "l": "i32",
    "m": "u32",
    "n": "i128",
    "o": "u128",
    "p": "_",
    "s": "i16",
    "t": "u16",
    "u": "()",
    "v": "...",
    "x": "i64",
    "y": "u64",
    "z": "!",
}


class _UnreadableError(ValueError):
    """Not a name of the v0 mangling, or one that nests too deeply."""


class _Reader:
    """A recursive descent over one mangled name; `at` counts from behind ``_R``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.steps = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        self.steps += 1
        char = self.peek()
        if not char or self.steps > 4 * _MAX_NAME:
            raise _UnreadableError
        self.at += 1
        return char

    def accept(self, char: str) -> bool:
        if self.peek() == char:
            self.at += 1
            return True
        return False

    def base62(self) -> int:
        if self.accept("_"):
            return 0
        value = 0
        while (char := self.take()) != "_":
            digit = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".find(char)
            if digit < 0:
                raise _UnreadableError
            value = value * 62 + digit
        return value + 1

    def disambiguator(self) -> int:
        return self.base62() + 1 if self.accept("s") else 0

    def identifier(self) -> str:
        self.accept("u")
        match = _LENGTH.match(self.text, self.at)
        if match is None:
            raise _UnreadableError
        self.at = match.end()
        self.accept("_")
        length = int(match[0])
        name = self.text[self.at : self.at + length]
        if len(name) < length:
            raise _UnreadableError
        self.at += length
        return name

    def back(self, what: str) -> str:
        """A back reference: read again what stands earlier in the name."""
        target, here = self.base62(), self.at
        if target >= here:
            raise _UnreadableError
        self.at = target
        result = self.path() if what == "path" else self.type()
        self.at = here
        return result

    def path(self) -> str:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _UnreadableError
        result = self._path(self.take())
        self.depth -= 1
        if len(result) > _MAX_NAME:
            raise _UnreadableError
        return result

    def _path(self, tag: str) -> str:
        if tag == "C":
            self.disambiguator()
            return self.identifier()
        if tag == "N":
            space = self.take()
            prefix = self.path()
            number = self.disambiguator()
            name = self.identifier()
            if space.isupper():
                kind = {"C": "closure", "S": "shim"}.get(space, space)
                return f"{prefix}::{{{kind}{':' if name else ''}{name}#{number}}}"
            return f"{prefix}::{name}" if name else prefix
        if tag in "MX":
            self.disambiguator()
            self.path()  # of the impl block: not part of the name
            kind = self.type()
            return f"<{kind} as {self.path()}>" if tag == "X" else f"<{kind}>"
        if tag == "Y":
            return f"<{self.type()} as {self.path()}>"
        if tag == "I":
            return f"{self.path()}::<{', '.join(self._list(self.generic))}>"
        if tag == "B":
            return self.back("path")
        raise _UnreadableError

    def _list(self, item: Callable[[], str]) -> list[str]:
        items: list[str] = []
        while not self.accept("E"):
            items.append(item())
        return items

    def generic(self) -> str:
        if self.accept("L"):
            self.base62()
            return "'_"
        if self.accept("K"):
            return self.constant()
        return self.type()

    def constant(self) -> str:
        if self.accept("B"):
            self.base62()
            return "_"
        if self.accept("p"):
            return "_"
        self.take()
        sign = "-" if self.accept("n") else ""
        digits = ""
        while (char := self.take()) != "_":
            digits += char
        return sign + (str(int(digits or "0", 16)) if re.fullmatch(r"[0-9a-f]*", digits) else "_")

    def type(self) -> str:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _UnreadableError
        result = self._type()
        self.depth -= 1
        return result

    def _type(self) -> str:
        tag = self.peek()
        if tag in _BASIC:
            self.at += 1
            return _BASIC[tag]
        if tag in "RQ":
            self.at += 1
            if self.accept("L"):
                self.base62()
            return ("&" if tag == "R" else "&mut ") + self.type()
        if tag in "PO":
            self.at += 1
            return ("*const " if tag == "P" else "*mut ") + self.type()
        if tag == "S":
            self.at += 1
            return f"[{self.type()}]"
        if tag == "A":
            self.at += 1
            return f"[{self.type()}; {self.constant()}]"
        if tag == "T":
            self.at += 1
            return f"({', '.join(self._list(self.type))})"
        if tag == "B":
            self.at += 1
            return self.back("type")
        return self.path()


def demangle(name: str) -> str:
    """Return the path a Rust symbol stands for; other names unchanged."""
    if name.startswith("_R") and len(name) <= _MAX_NAME:
        try:
            return _Reader(name[2:]).path()
        except _UnreadableError:
            return name
    if name.startswith("_Z"):
        return _legacy(name)
    return name


def _legacy(name: str) -> str:
    nested = name.startswith("_ZN")
    at = 3 if nested else 2
    parts: list[str] = []
    while match := _LENGTH.match(name, at):
        at = match.end() + int(match[0])
        parts.append(name[match.end() : at])
        if not nested:
            break
    if parts and re.fullmatch(r"h[0-9a-f]{16}", parts[-1]):
        parts.pop()  # the crate's hash
    return "::".join(parts) or name
