"""How often a search finds the commit that fixed a crash, and what the index costs.

::

    python tests/benchmarks/fixbench.py [--pairs separate|all] [--limit N] [--index DIR]

Reads ``fixbench/corpus.jsonl.gz`` and ``fixbench/queries-dev.jsonl.gz`` from the lab data beside
the checkout. ``--limit N`` takes the N newest changes that the corpus lists first and only the
queries whose fix is among them. ``--index DIR`` keeps the index, or uses one that is there.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kagent.cli.index import log_query
from kagent.commits import CommitIndex
from kagent.klog import parse_log

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "fixbench"
DEPTH = 100


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def build(out: Path, corpus: Path, limit: int | None) -> None:
    source = corpus
    with tempfile.TemporaryDirectory() as scratch:
        if limit is not None:
            source = Path(scratch) / "corpus.jsonl.gz"
            with gzip.open(corpus, "rb") as lines, gzip.open(source, "wb", 1) as head:
                head.writelines(itertools.islice(lines, limit))
        start = time.perf_counter()
        CommitIndex.build(source, out).close()
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"build {seconds:.1f} s, peak memory {peak:.0f} MiB")


def evaluate(index: CommitIndex, queries: Sequence[dict[str, Any]], ids: dict[str, str]) -> None:
    ranks: defaultdict[str, list[int | None]] = defaultdict(list)
    seconds: list[float] = []
    calibration: list[tuple[float, bool]] = []
    unparsed = 0
    for row in queries:
        log = parse_log(row["crash_text"])
        unparsed += log.primary is None
        query = log_query(log, row["crash_text"])
        start = time.perf_counter()
        hits = index.search_crash(query, DEPTH)
        seconds.append(time.perf_counter() - start)
        right = {ids[i] for i in (*row["relevant"], row["fix_id"]) if i in ids}
        rank = next((n for n, hit in enumerate(hits, 1) if hit.hash in right), None)
        state = "accepted" if row["accepted"] else "posted"
        family = "quoted" if row["pair"] == "quoted" else "separate"
        for group in dict.fromkeys((f"{family}/{state}", f"{row['pair']}/{state}")):
            ranks[group].append(rank)
        if hits:
            calibration.append((hits[0].confidence, rank == 1))
    print_recall(ranks)
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    print(f"search p50 {p50:.0f} ms, p99 {p99:.0f} ms; {unparsed} logs without a report")
    print_calibration(calibration)


def print_recall(ranks: dict[str, list[int | None]]) -> None:
    print(f"{'pairs':<20}{'n':>6}{'R@1':>8}{'R@4':>8}{'R@10':>8}{'R@100':>8}{'MRR':>8}")
    for group, found in sorted(ranks.items()):
        recalls = (sum(r is not None and r <= k for r in found) for k in (1, 4, 10, DEPTH))
        shares = "".join(f"{hit / len(found):>8.3f}" for hit in recalls)
        mrr = sum(1 / r for r in found if r) / len(found)
        print(f"{group:<20}{len(found):>6}{shares}{mrr:>8.3f}")


def print_calibration(pairs: Sequence[tuple[float, bool]]) -> None:
    """Of the first hits stated with such a confidence, how many were right."""
    for low, high in itertools.pairwise((0.0, 0.2, 0.4, 0.6, 0.8, 1.01)):
        inside = [right for stated, right in pairs if low <= stated < high]
        if inside:
            share = sum(inside) / len(inside)
            print(
                f"confidence {low:.1f}-{min(high, 1):.1f}: {len(inside):>5} hits, {share:.2f} right"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", choices=("separate", "all"), default="separate")
    parser.add_argument("--limit", type=int, help="index only the first N changes")
    parser.add_argument("--index", type=Path, help="keep the index there, or use that one")
    options = parser.parse_args()
    if not SHARED.is_dir():
        parser.exit(1, f"no {SHARED}: the benchmark data is not shipped\n")
    corpus = SHARED / "corpus.jsonl.gz"
    with tempfile.TemporaryDirectory() as scratch:
        out = options.index or Path(scratch) / "index"
        if not out.exists():
            build(out, corpus, options.limit)
        with CommitIndex.open(out) as index:
            known = index.stats()
            each = sum(known["bytes"].values()) / known["commits"]
            print(f"{known['commits']} commits, {each:.0f} bytes each on disk")
            ids = {row["id"]: row["hash"] or row["id"] for row in rows(corpus)}
            ids = {id: hash for id, hash in ids.items() if index.get(hash) is not None}
            queries = [
                row
                for row in rows(SHARED / "queries-dev.jsonl.gz")
                if row["fix_id"] in ids and (options.pairs == "all" or row["pair"] != "quoted")
            ]
            evaluate(index, queries, ids)


if __name__ == "__main__":
    main()
