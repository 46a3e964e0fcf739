"""Sums of the rows of an index: CRC-32, which finds every flipped bit and burst up to 32 of them.

They are against damage, not malice. Writers and readers ask SQLite for `row_sum`, so that a row is
checked in the query that reads it.
"""

from __future__ import annotations

import sqlite3
import zlib

__all__ = ["add_row_sum", "row_sum"]


def row_sum(*values: str | bytes | int | None) -> int:
    """The sum of a row's values, each with its length, so that none may move to its neighbour.

    >>> row_sum("ab", "c") == row_sum("a", "bc")
    False
    """
    total = 0
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
        total = zlib.crc32(b"%d" % len(data), zlib.crc32(data, total))
    return total


def add_row_sum(database: sqlite3.Connection) -> None:
    """Make ``row_sum(...)`` known to the SQL of a connection."""
    database.create_function("row_sum", -1, row_sum, deterministic=True)
