"""Long answers in pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from kagent.errors import InputError

__all__ = ["MAX_PAGE", "Page", "page_of"]

MAX_PAGE = 200
"""Items of one page."""
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Part of a list of answers."""

    items: tuple[Item, ...]
    offset: int
    """Of the first item in the whole list."""
    total: int
    """How many there are, as far as the search went."""
    truncated: bool = False
    """Whether the search itself met a bound, so that the list may lack some."""

    @property
    def next_offset(self) -> int | None:
        """Where the next page begins; None on the last one."""
        end = self.offset + len(self.items)
        return end if end < self.total else None


def page_of(items: Sequence[Item], offset: int, limit: int, *, truncated: bool) -> Page[Item]:
    """The page that begins at `offset`. `InputError` for numbers that make no page."""
    if offset < 0 or not 1 <= limit <= MAX_PAGE:
        raise InputError(f"a page has 1 to {MAX_PAGE} items and begins at 0 or later")
    return Page(tuple(items[offset : offset + limit]), offset, len(items), truncated)
