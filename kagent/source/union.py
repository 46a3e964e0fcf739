"""Several trees searched as one: the kernel's, and the sources that lie beside modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kagent.errors import InputError
from kagent.source.model import Excerpt, FunctionSource

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree

__all__ = ["SourceUnion"]


class SourceUnion:
    """Answers from the first of its trees that knows."""

    def __init__(self, trees: Sequence[SourceTree]) -> None:
        self._trees = tuple(trees)

    def lookup(
        self, names: Sequence[str], files: Mapping[str, str] | None = None
    ) -> dict[str, list[FunctionSource]]:
        """Definitions of all `names`; what an earlier tree has is not sought in later ones.

        `files` says which file debug info names for a function. Such a function is looked for in
        the tree that has the file, and nowhere if none has: a namesake would be another function.
        """
        known = {name: file for name, file in (files or {}).items() if name in names}
        missing = [name for name in names if name not in known]
        found: dict[str, list[FunctionSource]] = {}
        for tree in self._trees:
            here = {name: file for name, file in known.items() if tree.resolve(file) is not None}
            known = {name: file for name, file in known.items() if name not in here}
            if here or missing:
                found |= tree.lookup([*here, *missing], here)
            missing = [name for name in missing if not found.get(name)]
        return found

    def resolve(self, path: str) -> str | None:
        """The path, relative to the tree that has it, of a file as DWARF names it."""
        for tree in self._trees:
            if (known := tree.resolve(path)) is not None:
                return known
        return None

    def exists(self, path: str) -> bool:
        """Whether any tree has that file."""
        return any(tree.exists(path) for tree in self._trees)

    def read_lines(self, path: str, start: int, end: int) -> Excerpt:
        """Lines of a file of the first tree that has it.

        Raises:
            InputError: the path leaves the tree, or no tree has it.
        """
        return self._owner(path).read_lines(path, start, end)

    def enclosing_function(self, path: str, line: int) -> FunctionSource | None:
        """The function definition around a line."""
        return self._owner(path).enclosing_function(path, line)

    def functions_in(self, path: str) -> list[FunctionSource]:
        """Every function definition of a file."""
        return self._owner(path).functions_in(path)

    def _owner(self, path: str) -> SourceTree:
        if not self._trees:
            raise InputError(f"{path}: no source tree was given")
        return next((tree for tree in self._trees if tree.exists(path)), self._trees[0])
