"""Pieces of source text, always with where they came from and whether anything was cut."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Excerpt", "FunctionSource", "numbered", "rows"]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines ``[start, end]`` (1-based, inclusive) of a file."""

    path: str
    """Relative to the tree's root."""
    start: int
    end: int
    text: str
    revision: str | None = None
    """Commit or tag it was read from; None for a plain tree."""
    truncated: bool = False

    @property
    def origin(self) -> str:
        """``path:start-end@revision``."""
        where = f"{self.path}:{self.start}-{self.end}"
        return f"{where}@{self.revision}" if self.revision else where

    def numbered(self, mark: int | None = None) -> str:
        """The text with line numbers; ``>`` before the line `mark`."""
        return numbered(self.text, self.start, mark)


@dataclass(frozen=True, slots=True)
class FunctionSource(Excerpt):
    """A whole function definition."""

    name: str = ""


def rows(text: str) -> list[str]:
    """The lines of a source text as compilers count them: a form feed, say, ends none."""
    return text.removesuffix("\n").split("\n") if text else []


def numbered(text: str, start: int, mark: int | None = None) -> str:
    """The text with line numbers that begin at `start`; ``>`` before the line `mark`."""
    lines = rows(text)
    width = len(str(start + len(lines)))
    return "\n".join(
        f"{'>' if start + i == mark else ' '}{start + i:>{width}}  {row}".rstrip()
        for i, row in enumerate(lines)
    )
