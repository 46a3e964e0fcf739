"""Functions that return with a lock held on some of their paths, and without it on others."""

from __future__ import annotations

from collections.abc import Iterator

from kagent.diagnosis.code import CFunction, walk
from kagent.diagnosis.locks.held import held_at
from kagent.diagnosis.locks.model import LockUse
from kagent.diagnosis.reader import Reader
from kagent.resolution import SourcePoint
from kagent.source.c_source import CSource

__all__ = ["leaks"]

_MAX_FUNCTIONS = 400
_MAX_LINES = 300


def leaks(reader: Reader, lock: LockUse) -> Iterator[tuple[CFunction, SourcePoint]]:
    """Where functions of the waiter's file return with `lock` held, though they release it too.

    A function that holds it at every return is a lock helper and not told.
    """
    point, name = lock.where, _last(lock.expression or lock.name)
    path = reader.source.resolve(point.file) if reader.source and point and point.file else None
    if path is None or point is None:
        return
    text = reader.file_text(path)
    for span in CSource(text).functions[:_MAX_FUNCTIONS]:
        if span.end - span.start > _MAX_LINES:
            continue
        body = "\n".join(text.split("\n")[span.start - 1 : span.end])
        if name not in body or "return" not in body:
            continue
        function = reader.function_named(span.name, path, point.module)
        if function is None:
            continue
        returns = _returns(reader, function, name)
        if any(held for _, held in returns) and not all(held for _, held in returns):
            line = next(line for line, held in returns if held)
            where = SourcePoint(function=function.name, file=path, line=line, module=point.module)
            yield function, where


def _returns(reader: Reader, function: CFunction, name: str) -> list[tuple[int, bool]]:
    """Each return with whether the lock called `name` is held there; the end counts as one."""
    found = []
    for node in walk(function.root, "return_statement"):
        line = function.line_of(node)
        held = held_at(reader, function, line)
        # What the returned expression takes itself is not held before it.
        taken = [t for t in held if _last(t.argument) == name and t.call.line != line]
        found.append((line, bool(taken)))
    return found


def _last(expression: str) -> str:
    return expression.replace("->", ".").rsplit(".", 1)[-1].strip("&() ")
