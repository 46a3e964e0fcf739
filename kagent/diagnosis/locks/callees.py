"""The definition of a function or macro that a line calls, in its file or a header beside it."""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Iterator

from kagent.diagnosis.code import CFunction, parse_function
from kagent.diagnosis.reader import Reader
from kagent.errors import InputError, MissingDataError

__all__ = ["definition"]

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([\w./-]{1,200})"', re.MULTILINE)
_MAX_HEADERS = 16
_MAX_MACRO = 2000


def definition(reader: Reader, name: str, function: CFunction) -> CFunction | None:
    """What `function` calls by `name`; None for what is defined elsewhere."""
    if not function.path or not re.fullmatch(r"[A-Za-z_]\w{0,200}", name):
        return None
    for path in _places(reader, function.path):
        text = _text(reader, path)
        if name not in text:
            continue
        found = reader.function_named(name, path, function.module) or _macro(text, name, path)
        if found is not None:
            return found
    return None


def _places(reader: Reader, path: str) -> Iterator[str]:
    """The file, then the headers it includes from beside it."""
    yield path
    folder = posixpath.dirname(path)
    for name in _headers(reader.file_text(path)):
        known = posixpath.normpath(posixpath.join(folder, name))
        if reader.source is not None and reader.source.resolve(known) == known:
            yield known


def _text(reader: Reader, path: str) -> str:
    """A file's text; nothing is defined in one that is empty or cannot be read."""
    try:
        return reader.file_text(path)
    except (InputError, MissingDataError):
        return ""


@functools.lru_cache(maxsize=64)
def _headers(text: str) -> tuple[str, ...]:
    return tuple(match[1] for match in _INCLUDE.finditer(text))[:_MAX_HEADERS]


@functools.lru_cache(maxsize=512)
def _macro(text: str, name: str, path: str) -> CFunction | None:
    """A function-like macro, as the function it could have been."""
    head = rf"^[ \t]*#[ \t]*define[ \t]+{re.escape(name)}\(([^)\n]{{0,200}})\)[ \t]*"
    match = re.search(rf"{head}((?:[^\n\\]|\\\n|\\.)*)", text, re.MULTILINE)
    if match is None:
        return None
    names = [part.strip() for part in match[1].split(",")]
    if not all(part.isidentifier() for part in names if part):
        return None
    body = match[2][:_MAX_MACRO].replace("\\\n", "\n").rstrip("; \t\n")
    parameters = ", ".join(f"unsigned long {part}" for part in names if part)
    line = text.count("\n", 0, match.start()) + 1
    code = f"static void {name}({parameters}) {{ {body}; }}"
    return parse_function(code, name=name, path=path, start=line)
