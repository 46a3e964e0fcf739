"""The DWARF of a file that came with a log, read by drgn in the child."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from kagent.errors import CorruptDataError
from kagent.isolation import Job, Subject, current
from kagent.isolation.shape import Word
from kagent.symbols.dwarf import ElfShape
from kagent.symbols.layout import TypeQuestion
from kagent.symbols.model import Location, Member, Variable

__all__ = ["IsolatedDwarf"]

A = TypeVar("A")
_CHILD = "kagent.symbols.dwarf_child"
_SECONDS = 60
_Chain = tuple[Location, ...]
_LOAD = Job[None]("drgn", f"{_CHILD}:load", None, _SECONDS)
_CHAINS = Job[tuple[list[_Chain], str | None]](
    "drgn", f"{_CHILD}:chains", tuple[list[_Chain], str | None], _SECONDS
)
_SYMBOLS = Job[list[list[tuple[int, int]]]](
    "drgn", f"{_CHILD}:symbols", list[list[tuple[Word, Word]]], _SECONDS
)
_MEMBERS = Job[list[Member]]("drgn", f"{_CHILD}:members", list[Member], _SECONDS)
_VARIABLES = Job[list[Variable]]("drgn", f"{_CHILD}:variables", list[Variable], _SECONDS)


class IsolatedDwarf:
    """What `DrgnDwarf` answers, by way of the child that is current when it is asked.

    Raises `CorruptDataError` as that does, and `NativeCodeError` where drgn fails worse.
    """

    def __init__(self, shape: ElfShape, descriptor: int) -> None:
        """`descriptor` is the opened file, which stays the caller's."""
        self._shape = asdict(shape)
        self._subject = Subject(_identity(shape.path, descriptor), shape.name, descriptor)
        self.damage: str | None = None
        """What was found damaged while single addresses were looked up."""
        self._ask(_LOAD)

    def chains(self, addresses: Sequence[int]) -> list[_Chain]:
        """The inline chain at each address, innermost first; empty where there is no line."""
        found, damage = self._ask(_CHAINS, addresses)
        self.damage = self.damage or damage
        return _as_many(found, addresses)

    def symbols(self, names: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each name, address and size of every definition of that symbol."""
        return _as_many(self._ask(_SYMBOLS, names), names)

    def ask_type(self, name: str, file: str | None, question: TypeQuestion) -> list[Member]:
        """Members of a complete type."""
        return self._ask(_MEMBERS, name, file, asdict(question))

    def variables(self, address: int, registers: Mapping[str, int]) -> list[Variable]:
        """Variables in scope at `address`, innermost function first."""
        return self._ask(_VARIABLES, address, dict(registers))

    def _ask(self, job: Job[A], *arguments: object) -> A:
        # The shape comes every time: a new child has to load the file anew.
        key = self._subject.key
        return current().call(job, key, self._shape, *arguments, about=self._subject)


def _as_many(found: list[A], asked: Sequence[object]) -> list[A]:
    if len(found) != len(asked):
        raise CorruptDataError("drgn gave more or fewer answers than there were questions")
    return found


def _identity(path: str, descriptor: int) -> str:
    """Of a file's content; that of a packed file where this is its unpacked copy."""
    try:
        state = Path(path).stat()
    except (OSError, ValueError):
        state = os.fstat(descriptor)
    return f"{path}:{state.st_dev}:{state.st_ino}:{state.st_mtime_ns}:{state.st_size}"
