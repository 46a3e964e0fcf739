"""Lists of commit ids as bytes: differences in LEB128, seven bits a byte, low ones first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Ids", "decode_ids", "encode_lists"]

Ids = npt.NDArray[np.uint32]


def encode_lists(ids: Ids, lengths: Sequence[int], lasts: Sequence[int] = ()) -> list[bytes]:
    r"""Encode many ascending lists; `ids` holds one after another, of `lengths` above 0.

    `lasts` has for each the id that what it is to be appended to ends with; 0 for a new one.

    >>> encode_lists(np.array([1, 129, 429, 7], dtype=np.uint32), [3, 1])
    [b'\x01\x80\x01\xac\x02', b'\x07']
    """
    if len(ids) == 0:
        return []
    ends = np.cumsum(lengths)
    starts = ends - lengths
    gaps = ids.astype(np.int64)
    gaps[1:] -= ids[:-1]
    gaps[starts] = ids[starts] - np.asarray(lasts or [0] * len(starts), dtype=np.int64)
    width = np.ones(len(gaps), dtype=np.int64)
    for shift in range(7, 35, 7):
        width += gaps >> shift > 0
    after = np.cumsum(width)
    out = np.empty(after[-1], dtype=np.uint8)
    for at in range(int(width.max())):
        inside = width > at
        more = width[inside] > at + 1
        out[after[inside] - width[inside] + at] = (gaps[inside] >> 7 * at) & 0x7F | more << 7
    data = out.tobytes()
    cuts = [0, *after[ends - 1].tolist()]
    return [data[start:end] for start, end in itertools.pairwise(cuts)]


def decode_ids(data: bytes) -> Ids:
    """The ids that `encode_lists` wrote, of one or more lists that follow each other.

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
