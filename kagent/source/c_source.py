"""C source as what can be asked of it. It is parsed in the child: whoever wrote a module, or a
tree that came with a log, wrote the text that tree-sitter reads.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TypeVar

from kagent.errors import CorruptDataError, NativeCodeError
from kagent.isolation import Job, Subject, current
from kagent.source.c_syntax import (
    MAX_SOURCE_BYTES,
    Call,
    Declaration,
    FieldAccess,
    FunctionSpan,
)
from kagent.source.c_tree import Columns, Node, empty_tree, tree_of

__all__ = ["CSource"]

A = TypeVar("A")
_CHILD = "kagent.source.c_child"
_FUNCTIONS = Job[list[FunctionSpan]]("tree-sitter", f"{_CHILD}:functions", list[FunctionSpan])
_ACCESSES = Job[list[FieldAccess]]("tree-sitter", f"{_CHILD}:field_accesses", list[FieldAccess])
_CALLS = Job[list[Call]]("tree-sitter", f"{_CHILD}:calls", list[Call])
_EVERY_CALL = Job[list[Call]]("tree-sitter", f"{_CHILD}:every_call", list[Call])
_DECLARED = Job[list[Declaration]]("tree-sitter", f"{_CHILD}:declarations", list[Declaration])
_TREE = Job[Columns]("tree-sitter", f"{_CHILD}:tree", Columns)


class CSource:
    """A C file. Lines are 1-based throughout; texts are clipped to 400 characters.

    Where tree-sitter fails on it, it has no functions, calls or anything else.
    """

    def __init__(self, text: str, name: str = "a C source") -> None:
        """`name` is what errors call it."""
        raw = text.encode("utf-8", "replace")[:MAX_SOURCE_BYTES]
        clean = raw.decode("utf-8", "replace")
        self._about = Subject(f"C:{hashlib.blake2s(raw).hexdigest()}", name, text=clean)

    @cached_property
    def functions(self) -> tuple[FunctionSpan, ...]:
        """All function definitions, in source order."""
        return tuple(self._ask(_FUNCTIONS))

    def function_at(self, line: int) -> FunctionSpan | None:
        """The function whose definition covers a line."""
        return next((f for f in self.functions if f.start <= line <= f.end), None)

    def field_accesses(self, line: int) -> list[FieldAccess]:
        """Member accesses whose member name stands on `line`, in source order."""
        return self._ask(_ACCESSES, line)

    def calls(self, line: int) -> list[Call]:
        """Calls that begin on `line`, in source order; if none does, those that span it."""
        return self._ask(_CALLS, line)

    @cached_property
    def every_call(self) -> tuple[Call, ...]:
        """All calls, by the line they begin on, then in source order."""
        return tuple(self._ask(_EVERY_CALL))

    def declarations(self, line: int) -> list[Declaration]:
        """Parameters, then locals, of the function that covers `line`.

        Locals of every block are listed; an inner one that shadows comes later.
        """
        return self._ask(_DECLARED, line)

    def _ask(self, job: Job[list[A]], *arguments: int) -> list[A]:
        try:
            return current().call(job, self._about.key, *arguments, about=self._about)
        except NativeCodeError:
            return []

    @property
    def tree(self) -> Node:
        """The syntax tree of the text as it stands."""
        data = self._about.text.encode()
        try:
            columns = current().call(_TREE, self._about.key, about=self._about)
            return tree_of(data, columns)
        except CorruptDataError:
            return empty_tree(data)
