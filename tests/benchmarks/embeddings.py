"""Embeddings learnt from the corpus, compared by dense search alone.

::

    python tests/benchmarks/embeddings.py [--limit N] [--queries FILE]

For each way to make words and to weigh them, and each number of dimensions: how often the right
commit is among the first 1, 4, 10 and 100 of all by cosine, over the separate pairs whose fix was
accepted. The query is what `kagent index search --log` embeds: title, headlines and upper frames.
*sketch* is a projection on random signs, *+ LSA* with semantic directions beside it: what the
package does.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from fixbench import QUERIES, SHARED, read_rows, right_hashes
from scipy import sparse

from kagent.cli.index import log_query
from kagent.commits import names
from kagent.commits.chunks import chunk_commit
from kagent.commits.corpus import parse_line, read_lines
from kagent.commits.embeddings import LEARN_FROM
from kagent.commits.lsa import MAX_TERMS, principal_directions
from kagent.commits.query import prepare
from kagent.klog import parse_log

CHUNK = 6000


def parts(text: str) -> list[str]:
    """Only the parts of names."""
    return [word for word in names.words(text) if "_" not in word]


def both(text: str) -> list[str]:
    """Names and their parts, as the package has it."""
    return names.words(text)


SPLITS: dict[str, Callable[[str], list[str]]] = {"both": both, "parts": parts}
WEIGHTINGS = ("log", "binary", "bm25")
DIMENSIONS = (96, 192, 384)
POWERS = (0.0, 0.5, 1.0)
"""Of the singular values that directions are divided by."""


class Corpus:
    """Counts of the texts' terms under one way to make words."""

    def __init__(self, texts: Iterable[str], split: Callable[[str], list[str]]) -> None:
        self.split = split
        bags = [Counter(split(text)) for text in texts]
        frequency: Counter[str] = Counter()
        for bag in bags:
            frequency.update(bag.keys())
        most = 0.25 * len(bags)
        kept = [t for t, n in frequency.items() if 2 <= n <= most]
        kept.sort(key=lambda term: (-frequency[term], term))
        self.terms = {term: i for i, term in enumerate(kept[:MAX_TERMS])}
        counts = np.array([frequency[t] for t in self.terms])
        self.idf = (np.log((1 + len(bags)) / (1 + counts)) + 1).astype(np.float32)
        self.counts = self.count(bags)
        self.mean = float(self.counts.sum(axis=1).mean())

    def count(self, bags: Iterable[Counter[str]]) -> Any:
        columns: list[int] = []
        values: list[int] = []
        starts = [0]
        for bag in bags:
            found = [(self.terms[t], n) for t, n in bag.items() if t in self.terms]
            columns += [c for c, _ in found]
            values += [n for _, n in found]
            starts.append(len(columns))
        shape = (len(starts) - 1, len(self.terms))
        return sparse.csr_matrix((np.array(values, np.float32), columns, starts), shape=shape)

    def weigh(self, counts: Any, weighting: str) -> Any:
        """Unit rows."""
        matrix = counts.copy()
        if weighting == "log":
            matrix.data = 1 + np.log(matrix.data)
        elif weighting == "binary":
            matrix.data = np.ones_like(matrix.data)
        else:
            lengths = np.asarray(counts.sum(axis=1)).ravel()
            norm = 1.2 * (0.25 + 0.75 * lengths / self.mean)
            matrix.data = (
                2.2 * matrix.data / (matrix.data + np.repeat(norm, np.diff(matrix.indptr)))
            )
        matrix = matrix @ sparse.diags(self.idf)
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        return (sparse.diags(1 / np.maximum(norms, 1e-9)) @ matrix).tocsr()


def recall(scores: Callable[[int], Any], right: list[np.ndarray]) -> list[float]:
    ranks = []
    for row, rows in enumerate(right):
        values = scores(row)
        ranks.append(1 + int((values > values[rows].max()).sum()))
    return [sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 4, 10, 100)]


def show(name: str, found: list[float], start: float) -> None:
    cells = "".join(f"{value:>8.3f}" for value in found)
    print(f"{name:<44}{cells}{time.process_time() - start:>8.1f} s", flush=True)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="only the first N changes")
    parser.add_argument("--queries", type=Path, default=QUERIES)
    options = parser.parse_args()
    if not SHARED.is_dir():
        parser.exit(1, f"no {SHARED}: the benchmark data is not shipped\n")
    hashes, texts = [], []
    changes = filter(None, map(parse_line, read_lines(SHARED / "corpus.jsonl.gz")))
    for commit in itertools.islice(changes, options.limit):
        hashes.append(commit.hash)
        texts.append(next(chunk_commit(commit, CHUNK)))
    position = {hash: row for row, hash in enumerate(hashes)}
    questions, right = [], []
    known = right_hashes(options.queries)
    for row in read_rows(options.queries):
        rows = [position[hash] for hash in known[row["id"]] if hash in position]
        if row["pair"] != "quoted" and row["accepted"] and rows:
            log = parse_log(row["crash_text"])
            questions.append(prepare(log_query(log, row["crash_text"])).text)
            right.append(np.array(rows))
    print(f"{len(texts)} changes, {len(questions)} crashes")
    print(f"{'':<44}{'R@1':>8}{'R@4':>8}{'R@10':>8}{'R@100':>8}{'CPU':>8}")
    for split_name, split in SPLITS.items():
        corpus = Corpus(texts, split)
        asked = corpus.count(Counter(split(text)) for text in questions)
        for weighting in WEIGHTINGS:
            start = time.process_time()
            rows = corpus.weigh(corpus.counts, weighting)
            queries = corpus.weigh(asked, weighting)
            found = recall(lambda i: (rows @ queries[i].T).toarray().ravel(), right)  # noqa: B023
            show(f"TF-IDF, words {split_name}, {weighting}", found, start)
            step = max(1, len(texts) // LEARN_FROM)
            start = time.process_time()
            directions, strength = principal_directions(rows[::step], DIMENSIONS[-1])
            dense = np.asarray(rows @ directions)
            target = np.asarray(queries @ directions)
            for dimension, power in itertools.product(DIMENSIONS, POWERS):
                scale = np.maximum(strength[:dimension], 1e-6) ** -power
                left = unit(dense[:, :dimension] * scale)
                asking = unit(target[:, :dimension] * scale)
                found = recall(lambda i: left @ asking[i], right)  # noqa: B023
                name = f"LSA {dimension}, words {split_name}, {weighting}"
                show(f"{name}, / strength^{power}", found, start)
            for size, semantic in ((128, 0), (192, 0), (256, 0), (384, 0), (192, 64), (256, 64)):
                start = time.process_time()
                signs = np.random.default_rng(1).integers(0, 2, (rows.shape[1], size)) * 2.0 - 1
                left, asking = unit(np.asarray(rows @ signs)), unit(np.asarray(queries @ signs))
                if semantic:
                    scale = np.maximum(strength[:semantic], 1e-6) ** -0.5
                    left = np.hstack((left, 0.5 * unit(dense[:, :semantic] * scale)))
                    asking = np.hstack((asking, 0.5 * unit(target[:, :semantic] * scale)))
                found = recall(lambda i: left @ asking[i], right)  # noqa: B023
                beside = f" + LSA {semantic}" if semantic else ""
                show(f"sketch {size}{beside}, words {split_name}, {weighting}", found, start)


if __name__ == "__main__":
    main()
