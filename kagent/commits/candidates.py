"""What the index holds under the terms of a query: the commits worth a closer look.

Every kind of evidence brings its strongest commits; then each commit that any brought is looked
at under all of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kagent.commits.plumbing import is_plumbing_file
from kagent.commits.query import Terms
from kagent.commits.quoted import Quote
from kagent.commits.store import Ids, PostingKind, Row, Store
from kagent.commits.traits import FIX_TAG, REPORTED

__all__ = ["Evidence", "Matches", "Numbers", "gather"]

Numbers = npt.NDArray[np.float64]

MAX_WORDS = 24
"""Words searched for, the rarest first."""
PER_SOURCE = 250
"""Candidates each kind of evidence may bring."""
_TOO_COMMON = 0.08
"""Words in more than this share of the commits are not searched for."""
_COMMON_NAME = 2000
"""Names under which more commits stand (and more than a hundredth) bring no candidates."""
_MAX_MATCHES = 10_000
"""Word occurrences BM25 may have to weigh; the most frequent words go first."""
_HOME_FRAMES = 8
_HOME_COMMITS = 12
"""Frames whose file the index is asked for, and commits it is learnt from."""
_HOME = 0.8
"""Weight of a file so found, relative to one that the log names."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Which candidates one kind of posting holds, per term of the query."""

    terms: tuple[str, ...]
    strength: Numbers
    """(candidates, terms): weight of the term times its rarity, 0..1; 0 where there is none."""

    def best(self) -> Numbers:
        """The strongest match of each candidate."""
        strongest: Numbers = self.strength.max(axis=1, initial=0.0)
        return strongest

    def total(self) -> Numbers:
        """The sum of each candidate's matches."""
        return np.asarray(self.strength.sum(axis=1))

    def of(self, position: int) -> dict[str, float]:
        """The matches of one candidate, strongest first."""
        row = self.strength[position]
        order = sorted(np.flatnonzero(row).tolist(), key=lambda i: (-row[i], self.terms[i]))
        return {self.terms[i]: float(row[i]) for i in order}


@dataclass(frozen=True, slots=True)
class Evidence:
    """The candidates and what speaks for each; arrays and matrices are in the order of `rows`."""

    rows: list[Row]
    touched: Matches
    """Functions of the query that a commit changes."""
    around: Matches
    """The same for functions of the crash's other stacks."""
    named: Matches
    """Names of the query that its message has."""
    called: Matches
    """Names of the query on its changed lines."""
    files: Matches
    quoted: Matches
    """Functions of the query in the stacks that its message quotes."""
    words: Numbers
    """Share of the rarest words' weight that its text covers, by BM25; about 0..1."""
    meaning: Numbers
    """Cosine above that of the last commit the dense search brought."""
    references: npt.NDArray[np.bool_]
    """Names the same bug or report as the log."""
    blamed: npt.NDArray[np.bool_]
    """Its ``Fixes:`` names a commit that the faulting line goes back to."""
    quotes: dict[int, tuple[Quote, ...]]
    """By commit id."""
    culprits: dict[str, tuple[int, int]]
    """(id, day) of the commits that the candidates' ``Fixes:`` name, by hash as written."""
    homes: dict[str, float]
    """Files that the functions of the crash lie in, as told by the log or by earlier commits."""
    rarity: dict[str, float]
    """Of the query's words, 0..1."""
    symptoms: dict[int, float]
    """Rarity of each symptom bit of the query, 0..1."""

    def position_of(self, id: int) -> int | None:
        """Where a commit stands among the rows, which are sorted by id."""
        at = bisect_left(self.rows, id, key=lambda row: row.id)
        return at if at < len(self.rows) and self.rows[at].id == id else None


def gather(store: Store, terms: Terms, vector: npt.NDArray[np.float32] | None) -> Evidence | None:
    """Look the terms up; None when nothing matches."""
    homes = terms.files | {
        path: weight for path, weight in _homes(store, terms).items() if path not in terms.files
    }
    names = terms.functions | terms.identifiers
    lookups = {
        "touched": _Lookup(store, "function", terms.functions),
        "around": _Lookup(store, "function", terms.related),
        "named": _Lookup(store, "mention", names),
        "called": _Lookup(store, "identifier", names),
        "files": _Lookup(store, "file", homes),
        "quoted": _Lookup(store, "quoted", terms.functions | terms.related),
    }
    words, rarity = _match_words(store, terms.words)
    near = store.nearest(vector, PER_SOURCE) if vector is not None else []
    floor = min((score for _, score in near), default=0.0)
    meaning = {id: score - floor for id, score in near}
    known = _under(store, "reference", terms.references)
    blamed = _under(store, "fixes", [hash[:12] for hash in terms.blamed])
    prior = _prior(store, terms)
    brought = [lookup.strongest(prior) for lookup in lookups.values()]
    brought.append(_neighbours(store, homes, prior))
    ids = np.unique(np.concatenate([*brought, known, blamed, _ids(words), _ids(meaning)]))
    if not len(ids):
        return None
    rows = store.rows(ids.tolist())
    return Evidence(
        rows=rows,
        **{name: lookup.over(ids) for name, lookup in lookups.items()},
        words=np.array([words.get(row.id, 0.0) for row in rows]),
        meaning=np.array([meaning.get(row.id, 0.0) for row in rows]),
        references=np.isin(ids, known),
        blamed=np.isin(ids, blamed),
        quotes=store.quotes(ids.tolist()),
        culprits=store.named(hash for row in rows for hash in row.fixes),
        homes=homes,
        rarity=rarity,
        symptoms=_rarity_of_bits(store, terms.symptoms),
    )


class _Lookup:
    """The postings of some weighed terms."""

    def __init__(self, store: Store, kind: PostingKind, terms: Mapping[str, float]) -> None:
        commits = store.manifest.commits
        scale = math.log(commits + 1) or 1.0
        self._most = max(_COMMON_NAME, commits // 100)
        self._found: list[tuple[str, Ids, float]] = []
        for term, weight in terms.items():
            ids = store.postings(kind, term)
            if len(ids):
                self._found.append((term, ids, weight * (1 - math.log(len(ids)) / scale)))

    def strongest(self, prior: Numbers) -> npt.NDArray[np.int64]:
        """Ids of the commits that match most; common names bring none."""
        rare = [(ids, strength) for _, ids, strength in self._found if len(ids) <= self._most]
        if not rare:
            return _ids(())
        everything = np.concatenate([ids for ids, _ in rare])
        weights = np.repeat([strength for _, strength in rare], [len(ids) for ids, _ in rare])
        ids, inverse = np.unique(everything, return_inverse=True)
        totals = np.bincount(inverse, weights) * prior[ids]
        return ids[np.argsort(-totals, kind="stable")[: 2 * PER_SOURCE]].astype(np.int64)

    def over(self, candidates: npt.NDArray[np.int64]) -> Matches:
        """How each of the candidates (sorted ids) matches."""
        strength = np.zeros((len(candidates), len(self._found)))
        for column, (_, ids, value) in enumerate(self._found):
            near = np.minimum(np.searchsorted(ids, candidates), len(ids) - 1)
            strength[ids[near] == candidates, column] = value
        return Matches(tuple(term for term, _, _ in self._found), strength)


def _prior(store: Store, terms: Terms) -> Numbers:
    """By commit id: how much its date and kind let expect of it, about 0..1, before any match."""
    calendar = store.calendar()
    day = terms.not_before if terms.day is None else terms.day
    expected = 0.5 + 0.5 * ((calendar[:, 1] & (FIX_TAG | REPORTED)) != 0)
    if day is not None:
        late = np.clip(calendar[:, 0] - day - 70, 0, None) / 365.0
        early = (calendar[:, 0] < day - 14) * (0.5 if terms.development else 0.2)
        expected *= (1.0 - early) / (1.0 + late)
    result: Numbers = expected
    return result


def _rarity_of_bits(store: Store, bits: int) -> dict[int, float]:
    scale = math.log(store.manifest.commits + 2)
    found = [1 << n for n in range(bits.bit_length()) if bits >> n & 1]
    return {bit: 1 - math.log(1 + store.bearing(bit)) / scale for bit in found}


def _neighbours(store: Store, homes: Mapping[str, float], prior: Numbers) -> npt.NDArray[np.int64]:
    """The most expectable commits to the crash's own directories, whatever they touch there."""
    directories = list(dict.fromkeys(path.rpartition("/")[0] for path in homes))[:2]
    ids = np.unique(
        np.concatenate([_ids(()), *(store.postings("directory", d) for d in directories)])
    )
    ids = ids.astype(np.int64)
    return ids[np.argsort(-prior[ids], kind="stable")[:PER_SOURCE]]


def _homes(store: Store, terms: Terms) -> dict[str, float]:
    """The file each of the upper frames lies in, as the latest commits to the function tell.

    Logs that nobody has symbolised name no files.
    """
    frames = terms.frames[:_HOME_FRAMES]
    recent = {name: store.postings("function", name)[-_HOME_COMMITS:].tolist() for name in frames}
    rows = {row.id: row for row in store.rows(sorted({i for ids in recent.values() for i in ids}))}
    homes: dict[str, float] = {}
    for name, ids in recent.items():
        votes: Counter[str] = Counter()
        for row in (rows[id] for id in ids):
            for path in row.files[:8]:
                if path.endswith((".c", ".rs", ".S")) and not is_plumbing_file(path):
                    votes[path] += 12 // min(row.breadth or 1, 12)
        for path, count in votes.most_common(1):
            if 2 * count >= votes.total():
                homes.setdefault(path, _HOME * terms.functions[name])
    return homes


def _match_words(
    store: Store, candidates: Iterable[str]
) -> tuple[dict[int, float], dict[str, float]]:
    """Commit -> share of the rarest words' weight that its text covers; word -> rarity, 0..1."""
    count = store.manifest.commits
    limit = max(5.0, _TOO_COMMON * count)
    counted = sorted((store.frequency(word), word) for word in candidates)
    scale = math.log(count + 1) or 1.0
    rarity = {word: 1 - math.log(max(n, 1)) / scale for n, word in counted}
    chosen = [(n, word) for n, word in counted if n <= limit][:MAX_WORDS]
    while len(chosen) > 4 and sum(n for n, _ in chosen) > _MAX_MATCHES:
        chosen.pop()
    # BM25 gives a term at most (k1 + 1) = 2.2 times its rarity; words nobody wrote weigh as well.
    most = sum(math.log(1 + (count - n + 0.5) / (n + 0.5)) for n, _ in chosen) * 2.2
    found = store.match([word for n, word in chosen if n], PER_SOURCE)
    return {id: score / most for id, score in found}, rarity


def _under(store: Store, kind: PostingKind, terms: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.unique(np.concatenate([_ids(()), *(store.postings(kind, t) for t in terms)])).astype(
        np.int64
    )


def _ids(ids: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.fromiter(ids, dtype=np.int64)
