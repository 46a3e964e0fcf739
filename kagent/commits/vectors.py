"""The vectors of an index: all compared up to `EXACT_BELOW`, above that those of the nearest lists.

Halves of floats for the exact scan; one byte a dimension in inverted lists (FAISS's
``IVF,SQ8``), which are mapped into memory rather than read. How many lists are looked into is
chosen by measuring what is lost.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from kagent.commits.manifest import VectorFacts
from kagent.errors import MissingDataError

__all__ = [
    "EXACT_BELOW",
    "VectorFile",
    "extend",
    "load_faiss",
    "make_vectors",
    "open_vectors",
    "search_vectors",
]

EXACT_BELOW = 200_000
"""Vectors; below, comparing with every one takes some 20 ms."""
_FAISS_BYTES = 448 << 20
_FAISS_BYTES_A_CORE = 48 << 20
"""Address space that loading it takes: its libraries, then stack and buffer of each thread."""
_RECALL = 0.95
"""Of the ten nearest, to be reached by looking into enough lists."""
_QUERIES = 400
_TRAIN_PER_LIST = 48
_BLOCK = 16_384
_SEED = 20251101

Vectors = npt.NDArray[np.float32]


class VectorFile:
    """Rows of float16 that are appended to, read back in blocks, and survive the writer."""

    def __init__(self, path: Path, dimension: int) -> None:
        self._path = path
        self.dimension = dimension

    def keep(self, rows: int) -> None:
        """Drop what was written after the first `rows`."""
        with self._path.open("ab") as file:
            file.truncate(rows * self.dimension * 2)

    def append(self, rows: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(rows)

    def sync(self) -> None:
        """Wait until what was appended is on the disk."""
        with self._path.open("ab") as file:
            os.fsync(file.fileno())

    def mapped(self) -> npt.NDArray[np.float16]:
        """All rows, (n, d), without reading them."""
        if self._path.stat().st_size == 0:
            return np.empty((0, self.dimension), dtype=np.float16)
        flat = np.memmap(self._path, dtype=np.float16, mode="r")
        return flat.reshape(-1, self.dimension)

    def blocks(self) -> Iterator[Vectors]:
        rows = self.mapped()
        for start in range(0, len(rows), _BLOCK):
            yield rows[start : start + _BLOCK].astype(np.float32)


def load_faiss() -> Any:
    """FAISS; its OpenBLAS ends the process where a limit (``ulimit -v``) leaves too little memory.

    Raises:
        MissingDataError: such a limit is set.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and sys.platform == "linux" and "faiss" not in sys.modules:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        left = limit - pages * resource.getpagesize()
        if left < _FAISS_BYTES + _FAISS_BYTES_A_CORE * (os.cpu_count() or 1):
            raise MissingDataError(
                f"{max(left, 0) >> 20} MiB of address space are too few for FAISS",
                hint="raise or lift the limit: ulimit -v unlimited",
            )
    import faiss

    return faiss


def make_vectors(rows: VectorFile) -> tuple[Any, VectorFacts]:
    """A FAISS index over `rows`, and how to search it."""
    faiss = load_faiss()

    count = len(rows.mapped())
    if count < EXACT_BELOW:
        index: Any = faiss.IndexScalarQuantizer(
            rows.dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        for block in rows.blocks():
            index.add(block)
        return index, VectorFacts(kind="exact", storage="fp16")
    lists = 1 << round(float(np.log2(count)) / 2)
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(rows.dimension),
        rows.dimension,
        lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    random = np.random.default_rng(_SEED)
    sample = random.choice(count, min(count, lists * _TRAIN_PER_LIST), replace=False)
    index.cp.niter, index.cp.seed, index.cp.min_points_per_centroid = 8, _SEED, 1
    index.train(rows.mapped()[np.sort(sample)].astype(np.float32))
    for block in rows.blocks():
        index.add(block)
    return index, _measure(index, rows)


def _measure(index: Any, rows: VectorFile) -> VectorFacts:
    """The least number of lists that finds enough, by queries of stored vectors."""
    count = len(rows.mapped())
    dice = np.random.default_rng(_SEED + 1)
    chosen = np.sort(dice.choice(count, min(_QUERIES, count), replace=False))
    queries = rows.mapped()[chosen].astype(np.float32)
    true = _nearest(rows, queries, 250)
    probes, recall = 1, (0.0, 0.0)
    while probes < index.nlist and recall[0] < _RECALL:
        probes = min(2 * probes, index.nlist) if recall[0] else 8
        index.nprobe = probes
        _, found = index.search(queries, 250)
        recall = (_overlap(true[:, :10], found[:, :10]), _overlap(true, found))
    return VectorFacts(
        kind="ivf",
        storage="int8",
        lists=index.nlist,
        probes=probes,
        recall_at_10=round(recall[0], 4),
        recall_at_250=round(recall[1], 4),
        measured_on=count,
    )


def _nearest(rows: VectorFile, queries: Vectors, k: int) -> npt.NDArray[np.int64]:
    """The numbers of the `k` rows nearest to each query, (q, k), by comparing with all."""
    best = np.empty((len(queries), 0), dtype=np.float32)
    ids = np.empty((len(queries), 0), dtype=np.int64)
    start = 0
    for block in rows.blocks():
        scores = queries @ block.T
        here = np.broadcast_to(np.arange(start, start + len(block)), scores.shape)
        best, ids = np.hstack((best, scores)), np.hstack((ids, here))
        if best.shape[1] > k:
            order = np.argpartition(-best, k - 1, axis=1)[:, :k]
            best, ids = np.take_along_axis(best, order, 1), np.take_along_axis(ids, order, 1)
        start += len(block)
    order = np.argsort(-best, axis=1)
    return np.take_along_axis(ids, order, 1)


def _overlap(true: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> float:
    shared = [len(np.intersect1d(t, f)) for t, f in zip(true, found, strict=True)]
    return float(np.sum(shared)) / true.size


def extend(
    base: Any, facts: VectorFacts, rows: VectorFile, scratch: VectorFile
) -> tuple[Any, VectorFacts]:
    """`base`, an index in memory, with `rows` added; built anew once it has outgrown its kind."""
    new = len(rows.mapped())
    if facts.kind == "exact" and base.ntotal + new >= EXACT_BELOW:
        scratch.keep(0)
        for start in range(0, base.ntotal, _BLOCK):
            old = base.reconstruct_n(start, min(_BLOCK, base.ntotal - start))
            scratch.append(old.astype("<f2").tobytes())
        for block in rows.blocks():
            scratch.append(block.astype("<f2").tobytes())
        return make_vectors(scratch)
    for block in rows.blocks():
        base.add(block)
    return base, facts


def open_vectors(file: IO[bytes], path: Path, *, mapped: bool) -> Any:
    """The FAISS index in an opened file, mapped into memory or read.

    Raises:
        RuntimeError: it is not what FAISS writes.
    """
    faiss = load_faiss()

    # By its descriptor, so that it is the opened file even after another took its name.
    name = f"/proc/self/fd/{file.fileno()}" if sys.platform == "linux" else str(path)
    return faiss.read_index(name, faiss.IO_FLAG_MMAP_IFC if mapped else 0)


def search_vectors(
    index: Any, facts: VectorFacts, vector: Vectors, k: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Inner products and numbers of the `k` nearest rows, best first."""
    faiss = load_faiss()

    k = min(k, index.ntotal)
    if k == 0:
        return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
    parameters: Any = faiss.SearchParametersIVF
    params = parameters(nprobe=facts.probes) if facts.kind == "ivf" else None
    scores, rows = index.search(vector.reshape(1, -1), k, params=params)
    return scores[0], rows[0]
