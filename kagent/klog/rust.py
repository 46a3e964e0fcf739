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
_LAST_CHARACTER = 0x10FFFF
_LENGTH = re.compile(r"0|[1-9]\d{0,3}")
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
        self.bound = 0
        """Lifetimes that the binders around name."""

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
        result = self.type() if what == "type" else self.path(value=what == "path")
        self.at = here
        return result

    def path(self, *, value: bool = True) -> str:
        """A path; that of a `value` has ``::`` before its generic arguments."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _UnreadableError
        result = self._path(self.take(), value)
        self.depth -= 1
        if len(result) > _MAX_NAME:
            raise _UnreadableError
        return result

    def _path(self, tag: str, value: bool) -> str:
        if tag == "C":
            self.disambiguator()
            return self.identifier()
        if tag == "N":
            space = self.take()
            prefix = self.path(value=value)
            number = self.disambiguator()
            name = self.identifier()
            if space.isupper():
                kind = {"C": "closure", "S": "shim"}.get(space, space)
                return f"{prefix}::{{{kind}{':' if name else ''}{name}#{number}}}"
            return f"{prefix}::{name}" if name else prefix
        if tag in "MX":
            self.disambiguator()
            self.path(value=False)  # of the impl block: not part of the name
            kind = self.type()
            return f"<{kind} as {self.path(value=False)}>" if tag == "X" else f"<{kind}>"
        if tag == "Y":
            return f"<{self.type()} as {self.path(value=False)}>"
        if tag == "I":
            head = self.path(value=value) + "::" * value
            return f"{head}<{', '.join(self._list(self.generic))}>"
        if tag == "B":
            return self.back("path" if value else "type path")
        raise _UnreadableError

    def _list(self, item: Callable[[], str]) -> list[str]:
        items: list[str] = []
        while not self.accept("E"):
            items.append(item())
        return items

    def generic(self) -> str:
        if self.accept("L"):
            return self.lifetime()
        if self.accept("K"):
            return self.constant()
        return self.type()

    def constant(self) -> str:
        if self.accept("B"):
            self.base62()
            return "_"
        if self.accept("p"):
            return "_"
        kind = self.take()
        sign = "-" if self.accept("n") else ""
        digits = ""
        while (char := self.take()) != "_":
            digits += char
        if not re.fullmatch(r"[0-9a-f]{0,32}", digits):
            raise _UnreadableError
        value = int(digits or "0", 16)
        if kind == "b" and value < 2:
            return ("false", "true")[value]
        if kind == "c" and value <= _LAST_CHARACTER:
            return repr(chr(value))
        return f"{sign}{value}"

    def lifetime(self) -> str:
        index = self.base62()
        if index > self.bound:
            raise _UnreadableError
        return f"'{chr(ord('a') + (self.bound - index) % 26)}" if index else "'_"

    def binder(self) -> str:
        """``for<'a, 'b> `` of what follows; the caller takes its lifetimes back."""
        if not self.accept("G"):
            return ""
        count = self.base62() + 1
        if count > _MAX_DEPTH:
            raise _UnreadableError
        first = self.bound
        self.bound += count
        names = (f"'{chr(ord('a') + at % 26)}" for at in range(first, self.bound))
        return f"for<{', '.join(names)}> "

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
            lifetime = self.lifetime() if self.accept("L") else "'_"
            named = "" if lifetime == "'_" else lifetime + " "
            return f"&{named}{'' if tag == 'R' else 'mut '}{self.type()}"
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
            items = self._list(self.type)
            return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
        if tag in "FD":
            self.at += 1
            bound = self.bound
            named = self.binder()
            text = self._function() if tag == "F" else self._object()
            self.bound = bound
            if tag == "D":
                if not self.accept("L"):
                    raise _UnreadableError
                lifetime = self.lifetime()
                text += "" if lifetime == "'_" else f" + {lifetime}"
            return named + text if tag == "F" else f"dyn {named}{text}"
        if tag == "B":
            self.at += 1
            return self.back("type")
        return self.path(value=False)

    def _function(self) -> str:
        """A function pointer's type."""
        text = "unsafe " if self.accept("U") else ""
        if self.accept("K"):
            abi = "C" if self.accept("C") else self.identifier().replace("_", "-")
            text += f'extern "{abi}" '
        text += f"fn({', '.join(self._list(self.type))})"
        result = self.type()
        return text if result == "()" else f"{text} -> {result}"

    def _object(self) -> str:
        """The traits of a trait object."""
        return " + ".join(self._list(self._trait))

    def _trait(self) -> str:
        path = self.path(value=False)
        bindings: list[str] = []
        while self.accept("p"):
            bindings.append(f"{self.identifier()} = {self.type()}")
        return f"{path}<{', '.join(bindings)}>" if bindings else path


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
