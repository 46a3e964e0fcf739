"""What was not read or kept, counted: nothing is cut silently."""

from __future__ import annotations

from collections.abc import Iterable

from kagent.klog.model import LeftOut

__all__ = ["Tally"]


class Tally:
    """Adds up, over a whole log, what each limit left out."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, what: str, kept: int, total: int, why: str) -> None:
        """`kept` of `total`; nothing where all were kept."""
        if kept < total:
            before = self._found.get((what, why), (0, 0))
            self._found[what, why] = before[0] + kept, before[1] + total

    def extend(self, items: Iterable[LeftOut]) -> None:
        """What one report left out."""
        for item in items:
            self.add(item.what, item.kept, item.total or item.kept, item.why)

    def items(self) -> tuple[LeftOut, ...]:
        """One item for each limit that was met, in the order of meeting them."""
        return tuple(
            LeftOut(what, kept, total, why) for (what, why), (kept, total) in self._found.items()
        )
