"""What speaks for a commit as the fix of a crash, as numbers from 0 to about 1.

Each signal is one array over the candidates. `kagent.commits.search` weighs and sums them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kagent.commits.names import named_symbols
from kagent.commits.query import Terms
from kagent.commits.store import PostingKind, Row, Store
from kagent.commits.prepare import FIX_TAG, FIX_WORDS, REPORTED

__all__ = ["Evidence", "Numbers", "gather", "signals"]

Numbers = npt.NDArray[np.float64]

MAX_WORDS = 24
"""Words searched for, the rarest first."""
_PER_SOURCE = 250
"""Candidates each kind of evidence may bring."""
_TOO_COMMON = 0.08
"""Words in more than this share of the commits are not searched for."""
_COMMON_NAME = 2000
"""Names under which more commits stand (and more than a hundredth) are not looked at."""
_MAX_MATCHES = 60_000
"""Word occurrences BM25 may have to weigh; the most frequent words go first."""


@dataclass(slots=True)
class Evidence:
    """What the index holds under the terms: by commit id."""

    touched: dict[int, dict[str, float]] = field(default_factory=dict)
    """Function of the query -> strength, per commit that changes it."""
    named: dict[int, dict[str, float]] = field(default_factory=dict)
    """The same for symbols that the message names."""
    called: dict[int, dict[str, float]] = field(default_factory=dict)
    """The same for names on changed lines."""
    files: dict[int, dict[str, float]] = field(default_factory=dict)
    words: dict[int, float] = field(default_factory=dict)
    meaning: dict[int, float] = field(default_factory=dict)

    def candidates(self) -> list[int]:
        """Every commit that anything speaks for, by id."""
        kinds = (self.touched, self.named, self.called, self.files, self.words, self.meaning)
        return sorted(set().union(*kinds))


def gather(store: Store, terms: Terms, vector: npt.NDArray[np.float32] | None) -> Evidence:
    """Look the terms up."""
    return Evidence(
        touched=_lookup(store, "function", terms.functions),
        named=_lookup(store, "mention", terms.functions | terms.identifiers),
        called=_lookup(store, "identifier", terms.functions | terms.identifiers),
        files=_lookup(store, "file", terms.files),
        words=_match_words(store, terms.words),
        meaning=dict(store.nearest(vector, _PER_SOURCE)) if vector is not None else {},
    )


def _lookup(
    store: Store, kind: PostingKind, terms: dict[str, float]
) -> dict[int, dict[str, float]]:
    """Commit -> term -> weight times rarity (0..1); the strongest commits only."""
    found: defaultdict[int, dict[str, float]] = defaultdict(dict)
    total = math.log(store.manifest.commits + 1) or 1.0
    for term, weight in terms.items():
        ids = store.postings(kind, term)
        if not 0 < len(ids) <= max(_COMMON_NAME, store.manifest.commits // 100):
            continue
        strength = weight * (1 - math.log(len(ids)) / total)
        for id in ids.tolist():
            found[id][term] = strength
    strongest = sorted(found, key=lambda id: (-sum(found[id].values()), id))[: 2 * _PER_SOURCE]
    return {id: found[id] for id in strongest}


def _match_words(store: Store, candidates: Iterable[str]) -> dict[int, float]:
    """Commit -> share of the rarest words' weight that its text covers; about 0..1."""
    count = store.manifest.commits
    limit = max(5.0, _TOO_COMMON * count)
    counted = sorted((store.frequency(word), word) for word in candidates)
    chosen = [(n, word) for n, word in counted if n <= limit][:MAX_WORDS]
    while len(chosen) > 4 and sum(n for n, _ in chosen) > _MAX_MATCHES:
        chosen.pop()
    # BM25 gives a term at most (k1 + 1) = 2.2 times its rarity; words nobody wrote weigh as well.
    most = sum(math.log(1 + (count - n + 0.5) / (n + 0.5)) for n, _ in chosen) * 2.2
    found = store.match([word for n, word in chosen if n], _PER_SOURCE)
    return {id: score / most for id, score in found}


def signals(terms: Terms, evidence: Evidence, rows: Sequence[Row]) -> dict[str, Numbers]:
    """One array per signal, in the order of `rows`."""
    out: dict[str, Numbers] = {}
    for name in ("touched", "named", "files"):
        matches = getattr(evidence, name)
        best = [max(matches.get(row.id, {}).values(), default=0.0) for row in rows]
        out[name] = np.array(best)
    out["members"] = np.array([_members(terms, evidence, row.id) for row in rows])
    out["subject"] = np.array([_subject(terms, row) for row in rows])
    out["words"] = np.array([evidence.words.get(row.id, 0.0) for row in rows])
    out["meaning"] = np.array([evidence.meaning.get(row.id, 0.0) for row in rows])
    flags = np.array([row.flags for row in rows], dtype=np.int64)
    for name, bit in (("fix_tag", FIX_TAG), ("fix_words", FIX_WORDS), ("reported", REPORTED)):
        out[name] = ((flags & bit) > 0).astype(np.float64)
    out["broad"] = np.log1p(np.array([row.breadth for row in rows], dtype=np.float64))
    out |= _timing(terms, rows)
    return out


def _members(terms: Terms, evidence: Evidence, id: int) -> float:
    called = evidence.called.get(id, {})
    return max((called[name] for name in terms.identifiers if name in called), default=0.0)


def _subject(terms: Terms, row: Row) -> float:
    names = (n for n in named_symbols(row.subject) if n in terms.functions)
    return max((terms.functions[name] for name in names), default=0.0)


def _timing(terms: Terms, rows: Sequence[Row]) -> dict[str, Numbers]:
    """How much older or later than the crashed release a commit is.

    A stable branch gets fixes that are older than its point releases, so it has weights of its
    own. A commit made up to ten weeks after a release, one development cycle, is not late.
    """
    zero = np.zeros(len(rows))
    older = later = zero
    if terms.day is not None:
        days = np.array([row.day for row in rows], dtype=np.float64)
        delta = np.where(days < 0, 0.0, days - terms.day)
        older = np.clip(-(delta + 14) / 90, 0, 4)
        later = np.log1p(np.clip(delta - 70, 0, None) / 90)
    if terms.development:
        return {"older": older, "later": later, "stable_older": zero, "stable_later": zero}
    return {"older": zero, "later": zero, "stable_older": older, "stable_later": later}
