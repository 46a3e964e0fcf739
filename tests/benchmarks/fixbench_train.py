"""Fit the weights of the commit search, and show what each signal is worth.

::

    python tests/benchmarks/fixbench_train.py --index natural.index --stripped stripped.index
        [--cache DIR] [--write] [--ablate]

Needs the two indexes that ``fixbench.py --setting ... --index DIR`` builds. For every separate
dev pair the candidates and their signals are gathered once, and kept in ``--cache``. Then:

1. weights: softmax over each crash's candidates with a ridge penalty, in `FOLDS` folds split by the
   fix, so that a fix never stands on both sides; recall of the held-out pairs is printed in both
   settings, and without what a benchmark may overstate (trailers, dates);
2. confidence: a logistic function of `kagent.commits.ranker.FACTS`, fitted on the held-out lists,
   each once as it is and once without its right commits; the thresholds are chosen on folds of
   their own;
3. ``--ablate``: each signal alone, and all but each, by the same folds;
4. ``--write``: fit on all pairs and write ``kagent/commits/ranking.json``.

Deterministic: no random numbers, folds by checksum.
"""

from __future__ import annotations

import argparse
import json
import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fixbench import QUERIES, SHARED, read_rows, right_hashes
from scipy.optimize import minimize

from kagent.cli.index import log_query
from kagent.commits import CommitIndex
from kagent.commits import ranker as ranker_module
from kagent.commits.candidates import gather
from kagent.commits.query import prepare
from kagent.commits.ranker import FACTS, facts
from kagent.commits.signals import DESCRIPTIONS, signals, subject_key
from kagent.klog import parse_log

OUT = Path(ranker_module.__file__).with_name("ranking.json")
FOLDS = 5
RIDGE = 0.0005
NAMES = tuple(DESCRIPTIONS)
POSTED_PAIRS = 0.2
"""Weight of a pair whose fix was posted but not accepted: it teaches what fixes look like, but that
unmerged changes are as likely as merged ones holds for these archives only."""
JUDGED = {"reference": 14.0, "blamed": 3.0, "members": 0.5, "quoted_places": 2.0}
"""Signals that the pairs are silent about: they name no bugs and have no blame or decoded fault,
and few of their fixes quote a log."""
AGAINST = frozenset(
    (
        "other_symptom",
        "revert",
        "posted",
        "broad",
        "older",
        "later",
        "stable_older",
        "stable_later",
        "undated_older",
        "culprit_late",
    )
)
"""Signals that may only speak against a commit; all others may only speak for it."""
TRAILERS = ("reported", "syzbot", "foreign_syzbot", "fix_tag", "stable")
DATES = tuple(
    n
    for n in NAMES
    if n
    in (
        "older",
        "later",
        "at_once",
        "soon",
        "in_time",
        "stable_older",
        "stable_later",
        "undated_older",
        "culprit_late",
        "culprit_fresh",
    )
)
PRECISION = 0.9
"""Asked of the hits called confident where every second list lacks its fix."""


@dataclass(slots=True)
class Pair:
    """One crash, its candidates, their signals (candidates, signals) and which are right."""

    id: str
    kind: str
    accepted: bool
    fold: int
    values: Any
    right: Any
    group: Any
    """Number of the candidate's subject."""


def gathered(index: CommitIndex, queries: Sequence[dict[str, Any]]) -> Iterator[Pair]:
    known = right_hashes()
    for row in queries:
        log = parse_log(row["crash_text"])
        terms = prepare(log_query(log, row["crash_text"]))
        vector = index._embedder.embed_query(terms.text)
        evidence = gather(index._store, terms, vector if vector.any() else None)
        if evidence is None:
            continue
        values = signals(terms, evidence)
        subjects = [subject_key(row) for row in evidence.rows]
        yield Pair(
            row["id"],
            row["pair"],
            row["accepted"],
            zlib.crc32(row["fix_id"].encode()) % FOLDS,
            np.stack([values[name] for name in NAMES], axis=1).astype(np.float32),
            np.array([found.hash in known[row["id"]] for found in evidence.rows]),
            np.unique(subjects, return_inverse=True)[1],
        )


def load(directory: Path, cache: Path | None) -> list[Pair]:
    file = cache / f"{directory.name}.pickle" if cache else None
    if file and file.exists():
        with file.open("rb") as stored:
            names, pairs = pickle.load(stored)
        if names == NAMES:
            return pairs
    queries = [row for row in read_rows(QUERIES) if row["pair"] != "quoted"]
    with CommitIndex.open(directory) as index:
        pairs = list(gathered(index, queries))
    if file:
        with file.open("wb") as stored:
            pickle.dump((NAMES, pairs), stored)
    return pairs


def weight_of(pair: Pair) -> float:
    return 1.0 if pair.accepted else POSTED_PAIRS


class Fit:
    """The likelihood of the right candidates under a softmax over all, and its gradient."""

    def __init__(self, pairs: Sequence[Pair], kept: Any) -> None:
        usable = [pair for pair in pairs if pair.right.any()]
        self.values = np.concatenate([p.values for p in usable]).astype(np.float64)
        self.right = np.concatenate([p.right for p in usable])
        self.counts = np.array([len(p.right) for p in usable])
        self.starts = np.cumsum([0, *self.counts[:-1]])
        weights = np.array([weight_of(pair) for pair in usable])
        self.weights = weights / weights.sum()
        fixed = np.array([JUDGED.get(name, 0.0) for name in NAMES])
        self.free = kept & np.array([name not in JUDGED for name in NAMES])
        self.offset = self.values @ np.where(kept, fixed, 0.0)
        self.fixed = np.where(kept, fixed, 0.0)
        self.columns = self.values[:, self.free]

    def loss(self, weights: Any) -> tuple[float, Any]:
        scores = self.columns @ weights + self.offset
        top = np.maximum.reduceat(scores, self.starts)
        shares = np.exp(scores - np.repeat(top, self.counts))
        whole = np.add.reduceat(shares, self.starts)
        good = np.add.reduceat(shares * self.right, self.starts)
        loss = -(self.weights * np.log(good / whole)).sum() + RIDGE * (weights**2).sum()
        each = np.repeat(self.weights / whole, self.counts) * shares
        each -= np.repeat(self.weights / good, self.counts) * shares * self.right
        return loss, self.columns.T @ each + 2 * RIDGE * weights

    def solve(self, near: Any = None) -> Any:
        start = np.zeros(self.columns.shape[1]) if near is None else near[self.free]
        signs = [name in AGAINST for name, free in zip(NAMES, self.free, strict=True) if free]
        bounds = [(None, 0.0) if against else (0.0, None) for against in signs]
        found = minimize(
            self.loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 300}
        )
        weights = self.fixed.copy()
        weights[self.free] = found.x
        return weights


def ranked(pair: Pair, weights: Any) -> tuple[Any, Any]:
    """Falling scores, and whether right, of the distinct subjects."""
    scores = pair.values @ weights
    order = np.argsort(-scores, kind="stable")
    first = np.unique(pair.group[order], return_index=True)[1]
    order = order[np.sort(first)]
    return scores[order], pair.right[order]


def rank_of(pair: Pair, weights: Any) -> int | None:
    found = np.flatnonzero(ranked(pair, weights)[1])
    return int(found[0]) + 1 if len(found) else None


def held_out(pairs: Sequence[Pair], kept: Any, near: Sequence[Any] | None = None) -> list[Any]:
    """Weights per fold, fitted on the other folds; `near` are weights to begin with."""
    return [
        Fit([p for p in pairs if p.fold != fold], kept).solve(near[fold] if near else None)
        for fold in range(FOLDS)
    ]


def mask(without: Sequence[str] = (), only: Sequence[str] | None = None) -> Any:
    return np.array([(only is None or name in only) and name not in without for name in NAMES])


def recalls(pairs: Sequence[Pair], folds: Sequence[Any], kind: Callable[[Pair], bool]) -> str:
    ranks = [rank_of(pair, folds[pair.fold]) for pair in pairs if kind(pair)]
    share = [sum(r is not None and r <= k for r in ranks) / len(ranks) for k in (1, 4, 10, 100)]
    mrr = sum(1 / r for r in ranks if r) / len(ranks)
    return f"{len(ranks):>6}" + "".join(f"{value:>8.3f}" for value in (*share, mrr))


KINDS: dict[str, Callable[[Pair], bool]] = {
    "separate/accepted": lambda pair: pair.accepted,
    "syzbot/accepted": lambda pair: pair.accepted and pair.kind == "syzbot",
    "report/accepted": lambda pair: pair.accepted and pair.kind == "report",
    "separate/posted": lambda pair: not pair.accepted,
}


def show(name: str, line: str) -> None:
    print(f"{name:<44}{line}", flush=True)


def cross_validate(natural: Sequence[Pair], stripped: Sequence[Pair]) -> list[Any]:
    """Print recall of held-out pairs; return the folds' weights."""
    show("held-out pairs", f"{'n':>6}{'R@1':>8}{'R@4':>8}{'R@10':>8}{'R@100':>8}{'MRR':>8}")
    folds = held_out(natural, mask())
    for name, kind in KINDS.items():
        show(f"natural {name}", recalls(natural, folds, kind))
        show(f"stripped {name}", recalls(stripped, folds, kind))
    accepted = KINDS["separate/accepted"]
    for name, lost in (("trailers", TRAILERS), ("dates", DATES), ("both", TRAILERS + DATES)):
        show(
            f"stripped without {name}, refitted",
            recalls(stripped, held_out(natural, mask(lost), folds), accepted),
        )
        blind = [np.where(mask(lost), weights, 0.0) for weights in folds]
        show(f"stripped without {name}, same weights", recalls(stripped, blind, accepted))
    return folds


_NEAR = 200


def nearest(pairs: Sequence[Pair], folds: Sequence[Any]) -> list[Pair]:
    """The pairs with only their right candidates and the `_NEAR` best others."""
    out = []
    for pair in pairs:
        scores = pair.values @ folds[pair.fold]
        kept = np.union1d(np.argsort(-scores)[:_NEAR], np.flatnonzero(pair.right))
        values, right, group = pair.values[kept], pair.right[kept], pair.group[kept]
        out.append(replace(pair, values=values, right=right, group=group))
    return out


def ablate(natural: Sequence[Pair], stripped: Sequence[Pair], folds: Sequence[Any]) -> None:
    """Each signal alone (its weight does not matter then), and all but each, refitted."""
    accepted = KINDS["separate/accepted"]
    head = f"{'n':>6}{'R@1':>8}{'R@4':>8}{'R@10':>8}{'R@100':>8}{'MRR':>8}"
    show("stripped, one signal alone", head)
    for name in NAMES:
        alone = np.where(mask(only=(name,)), -1.0 if name in AGAINST else 1.0, 0.0)
        show(f"  {name}", recalls(stripped, [alone] * FOLDS, accepted))
    near = nearest(natural, folds)
    show(f"natural, all but one, held out, {_NEAR} candidates", head)
    show("  (all)", recalls(near, held_out(near, mask()), accepted))
    for name in NAMES:
        show(f"  {name}", recalls(near, held_out(near, mask((name,)), folds), accepted))


# Confidence -------------------------------------------------------------------------------------

_TOP = 5


@dataclass(slots=True)
class Lists:
    """Facts of the first hits of many lists: (hits, facts), whether right, place, fold, weight."""

    table: Any
    right: Any
    first: Any
    fold: Any
    weight: Any


def hit_lists(pairs: Sequence[Pair], folds: Sequence[Any]) -> Lists:
    rows: list[Any] = []
    for pair in pairs:
        scores, right = ranked(pair, folds[pair.fold])
        weight = weight_of(pair)
        for these, good in ((scores, right), (scores[~right], right[~right])):
            if not len(these):
                continue
            columns = facts(these)
            table = np.stack([columns[name] for name in FACTS], axis=1)[:_TOP]
            rows += [
                (line, bool(is_right), place == 0, pair.fold, weight)
                for place, (line, is_right) in enumerate(zip(table, good[:_TOP], strict=True))
            ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Lists(*columns)


def logistic(table: Any, right: Any, weight: Any) -> Any:
    def loss(weights: Any) -> tuple[float, Any]:
        linear = table @ weights
        value = np.logaddexp(0, linear) - right * linear
        slope = weight * (1 / (1 + np.exp(-linear)) - right)
        penalty = 1e-4 * weight.sum()
        return (
            float((weight * value).sum() + penalty * (weights**2).sum()),
            table.T @ slope + 2 * penalty * weights,
        )

    return minimize(loss, np.zeros(table.shape[1]), jac=True, method="L-BFGS-B").x


def confidence(
    pairs: Sequence[Pair], folds: Sequence[Any]
) -> tuple[dict[str, float], float, float]:
    lists = hit_lists(pairs, folds)
    stated = np.zeros(len(lists.right))
    for fold in range(FOLDS):
        others = lists.fold != fold
        found = logistic(lists.table[others], lists.right[others], lists.weight[others])
        stated[~others] = 1 / (1 + np.exp(-(lists.table[~others] @ found)))
    first = lists.first.astype(bool)
    sure, right, weight = stated[first], lists.right[first], lists.weight[first]
    order = np.argsort(-sure, kind="stable")
    precision = np.cumsum(right[order] * weight[order]) / np.cumsum(weight[order])
    enough = np.flatnonzero(precision >= PRECISION)
    confident = float(sure[order][enough[-1]]) if len(enough) else 1.0
    # Where the right one is rarer than one in twenty lists.
    behind = np.cumsum((right * weight)[order][::-1]) / np.cumsum(weight[order][::-1])
    rare = np.flatnonzero(behind <= 0.05)
    doubtful = float(sure[order][::-1][rare[-1]]) if len(rare) else 0.0
    called = sure >= confident
    present = weight[called & right].sum()
    print(
        f"confident >= {confident:.3f}: {precision[enough[-1]] if len(enough) else 0:.3f} right, "
        f"coverage {present / (weight.sum() / 2):.3f} of the lists with their fix; "
        f"abstain < {doubtful:.3f}: "
        f"{(weight * (sure < doubtful)).sum() / weight.sum():.3f} of all lists"
    )
    final = logistic(lists.table, lists.right, lists.weight)
    return dict(zip(FACTS, final.tolist(), strict=True)), confident, doubtful


def write(pairs: Sequence[Pair], learnt: tuple[dict[str, float], float, float]) -> None:
    weights = Fit(pairs, mask()).solve()
    stated, confident, doubtful = learnt
    accepted = sum(pair.accepted for pair in pairs)
    data = {
        "fitted_on": f"fixbench dev pairs, {accepted} accepted and {len(pairs) - accepted} posted",
        "weights": {n: round(w, 3) for n, w in zip(NAMES, weights.tolist(), strict=True)},
        "confidence": {name: round(value, 3) for name, value in stated.items()},
        "confident": round(confident, 3),
        "doubtful": round(doubtful, 3),
    }
    OUT.write_text(f"{json.dumps(data, indent=2)}\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", type=Path, required=True, help="index of the natural corpus")
    parser.add_argument("--stripped", type=Path, required=True, help="index of the stripped one")
    parser.add_argument("--cache", type=Path, help="directory for the gathered signals")
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"write {OUT.name}")
    options = parser.parse_args()
    if not SHARED.is_dir():
        parser.exit(1, f"no {SHARED}: the benchmark data is not shipped\n")
    natural = load(options.index, options.cache)
    stripped = load(options.stripped, options.cache)
    folds = cross_validate(natural, stripped)
    learnt = confidence(natural, folds)
    if options.ablate:
        ablate(natural, stripped, folds)
    if options.write:
        write(natural, learnt)


if __name__ == "__main__":
    main()
