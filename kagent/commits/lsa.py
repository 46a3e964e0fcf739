"""An embedding learnt from the corpus itself: latent semantic analysis beside a random sketch.

TF-IDF over words and names, seen in two ways. The strongest directions of the term space, by
randomised subspace iteration (Halko, Martinsson, Tropp 2011, algorithm 4.4), bring texts of one
subject together, but lose the rare names that tell bugs apart. A projection on random signs keeps
all cosines nearly (Johnson, Lindenstrauss 1984; signs: Achlioptas 2003), rare names included.
Offline, deterministic, needs nothing but numpy and scipy, and knows the kernel's own vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from kagent.commits.names import words
from kagent.errors import IndexCorruptError

__all__ = ["MAX_TERMS", "Lsa", "principal_directions"]

DIMENSION = 64
"""Of the semantic part, at most."""
SKETCH = 192
"""Of the random part."""
_SEMANTIC = 0.5
"""Length of the semantic part, relative to the random one."""
DIRECTIONS_FROM = 6000
"""Texts, at least, that the directions are taken from; terms and frequencies are taken from all.

More change nothing: 295 crashes find their fix as often with directions from 6,500 of 32,600.
"""
MAX_TERMS = 60_000
_MAX_SHARE = 0.25
"""Terms in more than this share of the texts tell nothing apart."""
_OVERSAMPLE = 16
_ROUNDS = 2
_SEED = 20251101

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lsa:
    """Terms and what they are worth."""

    terms: dict[str, int]
    idf: Vectors
    """Inverse document frequencies (t,)."""
    projection: Vectors
    """On the semantic directions (t, d)."""
    signs: Vectors
    """Of the sketch, -1 and 1 (t, `SKETCH`)."""

    @property
    def dimension(self) -> int:
        return int(self.projection.shape[1] + self.signs.shape[1])

    @classmethod
    def learn(cls, texts: Iterable[str], dimension: int = DIMENSION) -> Lsa:
        """Learn from at least one text; the semantic part shrinks to what the texts span."""
        return cls.learn_bags([Counter(words(text)) for text in texts], dimension)

    @classmethod
    def learn_bags(cls, bags: Sequence[Mapping[str, int]], dimension: int = DIMENSION) -> Lsa:
        """The same from the words of each text and how often they are in it."""
        terms, idf = _vocabulary(bags)
        step = max(1, len(bags) // DIRECTIONS_FROM)
        matrix = _tfidf(bags[::step], terms, idf)
        directions, strength = principal_directions(matrix, min(dimension, min(matrix.shape)))
        # Plain LSA lets the few directions that every subsystem shares outweigh those that tell
        # bugs apart.
        projection = directions / np.sqrt(np.maximum(strength, 1e-6))
        # As `save` keeps it, so that an index answers alike before and after it was closed.
        return cls(terms, idf, projection.astype(np.float16).astype(np.float32), _signs(len(terms)))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, one row a text; a text without a known term gives zeros."""
        bags = [Counter(words(text)) for text in texts]
        matrix = _tfidf(bags, self.terms, self.idf)
        semantic = _unit(np.asarray(matrix @ self.projection, dtype=np.float32))
        sketch = _unit(np.asarray(matrix @ self.signs, dtype=np.float32))
        return _unit(np.hstack((_SEMANTIC * semantic, sketch)))

    def save(self, path: Path) -> None:
        """Write plain arrays; terms as newline-joined UTF-8 bytes."""
        joined = "\n".join(self.terms).encode()
        with path.open("wb") as file:
            np.savez(
                file,
                terms=np.frombuffer(joined, dtype=np.uint8),
                idf=self.idf,
                projection=self.projection.astype(np.float16),
                signs=np.packbits(self.signs > 0, axis=1),
            )

    @classmethod
    def load(cls, file: IO[bytes]) -> Lsa:
        """Read what `save` wrote.

        Raises:
            IndexCorruptError: the arrays are missing or do not fit each other.
        """
        try:
            with np.load(file, allow_pickle=False) as arrays:
                names = arrays["terms"].tobytes().decode().split("\n")
                idf = arrays["idf"].astype(np.float32)
                projection = arrays["projection"].astype(np.float32)
                signs = np.unpackbits(arrays["signs"], axis=1).astype(np.float32) * 2 - 1
        except (OSError, ValueError, TypeError, KeyError, EOFError, UnicodeDecodeError) as error:
            raise IndexCorruptError(f"cannot read the embedding: {error}") from error
        if idf.shape != (len(names),) or not projection.shape[:1] == signs.shape[:1] == idf.shape:
            raise IndexCorruptError("the arrays of the embedding do not fit each other")
        return cls({name: i for i, name in enumerate(names)}, idf, projection, signs)


def _signs(count: int) -> Vectors:
    bits = np.random.default_rng(_SEED).integers(0, 2, (count, SKETCH), dtype=np.int8)
    return bits.astype(np.float32) * 2 - 1


def _unit(rows: Vectors) -> Vectors:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, norms, out=rows, where=norms > 1e-9)
    return rows


def _vocabulary(bags: Sequence[Mapping[str, int]]) -> tuple[dict[str, int], Vectors]:
    frequency: Counter[str] = Counter()
    for bag in bags:
        frequency.update(bag.keys())
    count = len(bags)
    least = 1 if count < 200 else 2
    most = max(_MAX_SHARE * count, 2)
    kept = [t for t, n in frequency.items() if least <= n <= most] or list(frequency) or [""]
    kept.sort(key=lambda term: (-frequency[term], term))
    del kept[MAX_TERMS:]
    idf = np.array([np.log((1 + count) / (1 + frequency[t])) + 1 for t in kept], dtype=np.float32)
    return {term: i for i, term in enumerate(kept)}, idf


def _tfidf(bags: Sequence[Mapping[str, int]], terms: dict[str, int], idf: Vectors) -> Any:
    """Sparse (texts, terms): (1 + log tf) * idf, rows of unit length."""
    columns: list[int] = []
    counts: list[int] = []
    starts = [0]
    for bag in bags:
        for term, count in bag.items():
            column = terms.get(term)
            if column is not None:
                columns.append(column)
                counts.append(count)
        starts.append(len(columns))
    index = np.array(columns, dtype=np.int32)
    values = (1 + np.log(np.array(counts, dtype=np.float32))) * idf[index]
    matrix = sparse.csr_matrix((values, index, starts), shape=(len(bags), len(terms)))
    norms = np.sqrt(matrix.multiply(matrix).sum(axis=1)).A1
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return sparse.diags(scale.astype(np.float32)) @ matrix


def principal_directions(matrix: Any, dimension: int) -> tuple[Vectors, Vectors]:
    """The right singular vectors (terms, dimension), strongest first, and their values."""
    width = min(dimension + _OVERSAMPLE, *matrix.shape)
    basis = np.random.default_rng(_SEED).standard_normal((matrix.shape[1], width), np.float32)
    for _ in range(_ROUNDS):
        basis = _orthonormal(matrix.T @ _orthonormal(matrix @ basis))
    small = matrix @ basis
    values, rotation = np.linalg.eigh(small.T @ small)
    order = np.argsort(values)[::-1][:dimension]
    strength = np.sqrt(np.maximum(values[order], 0))
    useful = strength > max(strength[0], 1e-12) * 1e-4
    useful[0] = True
    order, strength = order[useful], strength[useful]
    vectors = basis @ rotation[:, order]
    vectors *= np.where(vectors[np.abs(vectors).argmax(axis=0), range(len(order))] < 0, -1, 1)
    return vectors.astype(np.float32), strength.astype(np.float32)


def _orthonormal(block: Vectors) -> Vectors:
    """An orthonormal basis of the columns, by way of their Gram matrix.

    On tall blocks several times faster than a QR decomposition, and exact enough for directions.
    """
    wide = block.astype(np.float64)
    values, rotation = np.linalg.eigh(wide.T @ wide)
    values = np.maximum(values, 1e-30)
    kept = values >= values[-1] * 1e-10
    return np.asarray(wide @ (rotation[:, kept] / np.sqrt(values[kept])), dtype=np.float32)
