"""Kernel logs to start from: those of the tests and the demo, and the lab's where they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["seed_logs"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
_SHARED = ROOT.parent / "shared"
_MAX_BYTES = 150_000


def seed_logs() -> Iterator[Path]:
    """The files, in an order that is the same wherever the same ones are."""
    yield from sorted((HERE / "seeds").glob("*.log"))
    yield from sorted((ROOT / "tests" / "data").rglob("*.log"))
    yield from sorted((ROOT / "kagent" / "demo" / "data").rglob("*.log"))
    for place, pattern in (
        (_SHARED / "field", "*.txt"),
        (_SHARED / "logs" / "crashlab-dev" / "logs", "*.log"),
        (_SHARED / "logs" / "syzkaller-dev" / "report", "*"),
    ):
        for path in sorted(place.glob(pattern)):
            if path.is_file() and path.stat().st_size < _MAX_BYTES:
                yield path
