"""Blanks that are none: what mail and web clients put where the console printed a blank.

A page that shows a log with ``&nbsp;``, a mail in ``format=flowed`` or a chat turns U+0020 into
another member of Unicode's class Zs, most often U+00A0, and may sprinkle in characters without a
width. Kernel lines are read as if the blanks were plain and the others absent; spans keep counting
the bytes that are really there.
"""

from __future__ import annotations

import re
from bisect import bisect_left

__all__ = ["Plain", "plain"]

# Zs: U+00A0, U+1680, U+2000 to U+200A, U+202F, U+205F, U+3000. Without a width: U+00AD, U+200B to
# U+200D, U+2060, U+FEFF. Last, U+00A0 of a text in Latin-1: no byte above 0x7f stands before it,
# so it is no part of UTF-8.
_ODD = re.compile(
    rb"[\xc2\xe1\xe2\xe3\xef\xa0](?:(?<=\xc2)[\xa0\xad]|(?<=\xe1)\x9a\x80"
    rb"|(?<=\xe2)(?:\x80[\x80-\x8d\xaf]|\x81[\x9f\xa0])|(?<=\xe3)\x80\x80|(?<=\xef)\xbb\xbf"
    rb"|(?<=\xa0)(?<![\x80-\xff]\xa0)\xa0*)"
)
_NO_WIDTH = frozenset(one.encode() for one in "\u00ad\u200b\u200c\u200d\u2060\ufeff")


class Plain:
    """A stretch of bytes with plain blanks, which knows where each byte came from."""

    __slots__ = ("_at", "_shift", "data")

    def __init__(self, data: bytes, at: list[int], shift: list[int]) -> None:
        self.data = data
        self._at, self._shift = at, shift

    def origin(self, at: int) -> int:
        """Where byte `at` of `data` stands in the original."""
        last = bisect_left(self._at, at)
        return at + (self._shift[last - 1] if last else 0)


def plain(raw: bytes) -> Plain | None:
    """`raw` with plain blanks; None where there is nothing to do. Line ends stay where they are."""
    if raw.isascii():
        return None
    pieces: list[bytes] = []
    ends: list[int] = []
    shifts: list[int] = []
    done = size = 0
    for match in _ODD.finditer(raw):
        blank = _spelled(match[0])
        pieces += (raw[done : match.start()], blank)
        size += match.start() - done + len(blank)
        done = match.end()
        ends.append(size - 1)  # the byte behind is the first that is shifted
        shifts.append(done - size)
    if not pieces:
        return None
    pieces.append(raw[done:])
    return Plain(b"".join(pieces), ends, shifts)


def _spelled(odd: bytes) -> bytes:
    if odd in _NO_WIDTH:
        return b""
    return b" " * (len(odd) if odd[:1] == b"\xa0" else 1)
