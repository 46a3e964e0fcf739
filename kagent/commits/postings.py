"""Lists of commit ids as bytes: differences in LEB128, seven bits a byte, low ones first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Ids", "decode_ids", "encode_ids"]

Ids = npt.NDArray[np.uint32]
_SHORT = 24
"""Below this many ids a plain loop is faster than numpy."""


def encode_ids(ids: Sequence[int] | Ids, last: int = 0) -> bytes:
    r"""Ascending `ids`, all above `last`, which the list before them ends with.

    >>> encode_ids([1, 129, 429])
    b'\x01\x80\x01\xac\x02'
    """
    if len(ids) < _SHORT:
        return _encode_few(ids, last)
    gaps = np.diff(np.asarray(ids, dtype=np.int64), prepend=last).astype(np.uint32)
    columns = np.stack([(gaps >> shift) & 0x7F for shift in range(0, 35, 7)], axis=1)
    width = np.maximum(1, 5 - (columns[:, ::-1] != 0).argmax(axis=1))
    width[gaps == 0] = 1
    position = np.arange(5)
    columns |= np.where(position < width[:, None] - 1, 0x80, 0).astype(np.uint32)
    return bytes(columns[position < width[:, None]].astype(np.uint8))


def _encode_few(ids: Sequence[int] | Ids, last: int) -> bytes:
    out = bytearray()
    for id in ids:
        gap, last = int(id) - last, int(id)
        while gap > 0x7F:
            out.append(gap & 0x7F | 0x80)
            gap >>= 7
        out.append(gap)
    return bytes(out)


def decode_ids(data: bytes) -> Ids:
    """The ids that `encode_ids` wrote, of one or more lists that follow each other.

    Raises:
        ValueError: `data` ends within a number, or holds one of more than 32 bits.
    """
    if not data:
        return np.empty(0, dtype=np.uint32)
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if len(ends) == 0 or ends[-1] != len(raw) - 1:
        raise ValueError("a list of ids ends within a number")
    width = np.diff(ends, prepend=-1)
    if width.max() > 5:
        raise ValueError("a list of ids holds a number that is too large")
    starts = ends - width + 1
    gaps = np.zeros(len(ends), dtype=np.uint64)
    for at in range(int(width.max())):
        inside = width > at
        gaps[inside] |= (raw[starts[inside] + at] & np.uint64(0x7F)) << np.uint64(7 * at)
    return np.cumsum(gaps).astype(np.uint32)
