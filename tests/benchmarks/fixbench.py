"""How often a search finds the commit that fixed a crash, how sure it is, and what it costs.

::

    python tests/benchmarks/fixbench.py [--setting natural|stripped] [--pairs separate|all]
        [--queries FILE] [--index DIR] [--ranked FILE] [--limit N]

Reads ``fixbench/corpus.jsonl.gz`` and ``fixbench/queries-dev.jsonl.gz`` from the lab data beside
the checkout; ``--queries`` names other pairs. *stripped* takes the crash logs out of the messages
of the fixes, where they quote one. ``--ranked`` writes what ``score.py`` reads. ``--limit N`` takes
the N first changes of the corpus and only the queries whose fix is among them. ``--index DIR``
keeps the index, or uses one that is there (of the same setting).
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
from typing import Any, TextIO

import numpy as np

from kagent.cli.index import log_query
from kagent.commits import CommitIndex
from kagent.commits.ranker import load_ranker
from kagent.klog import parse_log

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "fixbench"
CORPUS = SHARED / "corpus.jsonl.gz"
QUERIES = SHARED / "queries-dev.jsonl.gz"
SETTINGS = ("natural", "stripped")
DEPTH = 100


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def commit_ids() -> dict[str, str]:
    """What the index calls each change of the corpus: its hash, or its id where it has none."""
    return {row["id"]: row["hash"] or row["id"] for row in read_rows(CORPUS)}


def right_hashes(queries: Path = QUERIES) -> dict[str, set[str]]:
    """By query id: every right commit, as the index names it."""
    ids = commit_ids()
    return {
        row["id"]: {ids[id] for id in (*row["relevant"], row["fix_id"]) if id in ids}
        for row in read_rows(queries)
    }


def write_corpus(out: Path, setting: str, limit: int | None = None) -> None:
    """The corpus in one of the `SETTINGS`, or its first `limit` changes."""
    with gzip.open(out, "wt", 1, encoding="utf-8") as file:
        for row in itertools.islice(read_rows(CORPUS), limit):
            if setting == "stripped" and "message_without_log" in row:
                row["message"] = row["message_without_log"]
            file.write(f"{json.dumps(row)}\n")


def build(out: Path, setting: str, limit: int | None) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = CORPUS
        if limit is not None or setting != "natural":
            source = Path(scratch) / "corpus.jsonl.gz"
            write_corpus(source, setting, limit)
        start, cpu = time.perf_counter(), time.process_time()
        CommitIndex.build(source, out).close()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"build {seconds:.1f} s (CPU {cpu:.1f} s), peak memory {peak:.0f} MiB")


def groups_of(row: dict[str, Any]) -> list[str]:
    """Pair kind and state, as score.py groups them."""
    state = "accepted" if row["accepted"] else "posted"
    family = "quoted" if row["pair"] == "quoted" else "separate"
    return list(dict.fromkeys((f"{family}/{state}", f"{row['pair']}/{state}")))


def evaluate(
    index: CommitIndex,
    queries: Sequence[dict[str, Any]],
    right: dict[str, set[str]],
    ranked: TextIO | None,
) -> None:
    names = {hash: id for id, hash in commit_ids().items()}
    ranks: defaultdict[str, list[int | None]] = defaultdict(list)
    sure: defaultdict[str, list[tuple[float, bool, float | None]]] = defaultdict(list)
    seconds: list[tuple[float, float]] = []
    ranker = load_ranker()
    unparsed = 0
    for row in queries:
        log = parse_log(row["crash_text"])
        unparsed += log.primary is None
        query = log_query(log, row["crash_text"])
        start, cpu = time.perf_counter(), time.process_time()
        hits = index.search_crash(query, DEPTH)
        seconds.append((time.perf_counter() - start, time.process_time() - cpu))
        wanted = right[row["id"]]
        rank = next((n for n, hit in enumerate(hits, 1) if hit.hash in wanted), None)
        # How sure the first hit would be in the same list without its right commits.
        left = [hit.score for hit in hits if hit.hash not in wanted]
        gone = float(ranker.confidences(np.array(left))[0]) if left else None
        for group in groups_of(row):
            ranks[group].append(rank)
            if hits:
                sure[group].append((hits[0].confidence, rank == 1, gone))
        if ranked is not None:
            line = {"id": row["id"], "ranked": [names[hit.hash] for hit in hits]}
            line["abstained"] = not hits or hits[0].confidence < ranker.doubtful
            ranked.write(f"{json.dumps(line)}\n")
    print_recall(ranks)
    for name, values in zip(("wall", "CPU"), np.array(seconds).T * 1000, strict=True):
        p50, p99 = np.percentile(values, [50, 99])
        print(f"search, {name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(f"{unparsed} logs without a report")
    print_sureness(sure)
    print_calibration([pair for group in ("separate/accepted",) for pair in sure[group]])


def print_recall(ranks: dict[str, list[int | None]]) -> None:
    print(f"{'pairs':<20}{'n':>6}{'R@1':>8}{'R@4':>8}{'R@10':>8}{'R@100':>8}{'MRR':>8}")
    for group, found in sorted(ranks.items()):
        recalls = (sum(r is not None and r <= k for r in found) for k in (1, 4, 10, DEPTH))
        shares = "".join(f"{hit / len(found):>8.3f}" for hit in recalls)
        mrr = sum(1 / r for r in found if r) / len(found)
        print(f"{group:<20}{len(found):>6}{shares}{mrr:>8.3f}")


def print_sureness(sure: dict[str, list[tuple[float, bool, float | None]]]) -> None:
    """How often the first hit is called confident, and right then; and with its fix taken away.

    Without the fix, every confident first hit is wrong. "mixed" is the precision where every crash
    is searched twice, once with its fix and once without.
    """
    ranker = load_ranker()
    print(f"first hit called confident (>= {ranker.confident}), abstained (< {ranker.doubtful})")
    head = ("n", "confident", "precision", "fix gone", "mixed", "abstain", "right then", "gone")
    print(f"{'pairs':<20}" + "".join(f"{name:>12}" for name in head))
    for group, rows in sorted(sure.items()):
        called = [right for stated, right, _ in rows if stated >= ranker.confident]
        false = sum(left is not None and left >= ranker.confident for _, _, left in rows)
        quiet = [right for stated, right, _ in rows if stated < ranker.doubtful]
        gone = sum(left is None or left < ranker.doubtful for _, _, left in rows)
        cells = (
            str(len(rows)),
            f"{len(called) / len(rows):.3f}",
            f"{sum(called) / len(called):.3f}" if called else "-",
            f"{false / len(rows):.3f}",
            f"{sum(called) / (len(called) + false):.3f}" if called else "-",
            f"{len(quiet) / len(rows):.3f}",
            f"{sum(quiet) / len(quiet):.3f}" if quiet else "-",
            f"{gone / len(rows):.3f}",
        )
        print(f"{group:<20}" + "".join(f"{cell:>12}" for cell in cells))


def print_calibration(rows: Sequence[tuple[float, bool, float | None]]) -> None:
    """Of the first hits stated with such a confidence, how many were right."""
    for low, high in itertools.pairwise((0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.01)):
        inside = [right for stated, right, _ in rows if low <= stated < high]
        if inside:
            share = sum(inside) / len(inside)
            print(
                f"confidence {low:.1f}-{min(high, 1):.1f}: {len(inside):>5} hits, {share:.2f} right"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="natural")
    parser.add_argument("--pairs", choices=("separate", "all"), default="separate")
    parser.add_argument("--queries", type=Path, default=QUERIES, help="pairs to ask")
    parser.add_argument("--limit", type=int, help="index only the first N changes")
    parser.add_argument("--index", type=Path, help="keep the index there, or use that one")
    parser.add_argument("--ranked", type=Path, help="write the ranked ids there, for score.py")
    options = parser.parse_args()
    if not SHARED.is_dir():
        parser.exit(1, f"no {SHARED}: the benchmark data is not shipped\n")
    with tempfile.TemporaryDirectory() as scratch:
        out = options.index or Path(scratch) / "index"
        if not out.exists():
            build(out, options.setting, options.limit)
        with CommitIndex.open(out) as index:
            known = index.stats()
            each = sum(known["bytes"].values()) / known["commits"]
            print(f"{known['commits']} commits, {each:.0f} bytes each on disk; {options.setting}")
            right = right_hashes(options.queries)
            queries = [
                row
                for row in read_rows(options.queries)
                if any(index.get(hash) for hash in right[row["id"]])
                and (options.pairs == "all" or row["pair"] != "quoted")
            ]
            if options.ranked is None:
                evaluate(index, queries, right, None)
            else:
                with options.ranked.open("w", encoding="utf-8") as ranked:
                    evaluate(index, queries, right, ranked)


if __name__ == "__main__":
    main()
