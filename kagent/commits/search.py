"""Ranking commits: a small linear model over signals one can read, and the words for why.

score = sum of weight * signal. The weights were fitted (softmax over each crash's candidates) on
public crash reports and the commits that fixed them; but ``members``, of which a raw log says
nothing, was judged, and ``reported``, which those reports overstate, was lowered.

Confidence of a hit = exp(score) / (exp(`NONE`) + sum of exp(score) over all candidates): the same
softmax with one more choice, *the fix is not here*. `NONE` was fitted on the same reports with
the true fix taken out of every second one. So it is low when nothing scores well, and shared out
when several do. Caps hold whatever the score: `MOST` for all; and a hit without structure (it
neither touches nor names a function of the query, nor touches a file of it) never exceeds
`NO_STRUCTURE`, nor the share of the query's words (rare ones weigh more) that its text covers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from kagent.commits.embeddings import Embedder
from kagent.commits.model import Commit, CrashQuery, Hit
from kagent.commits.names import words
from kagent.commits.query import Terms, prepare
from kagent.commits.signals import Evidence, Numbers, gather, signals
from kagent.commits.store import Row, Store
from kagent.commits.prepare import FIX_TAG, REPORTED

__all__ = ["NONE", "NO_STRUCTURE", "WEIGHTS", "search"]

NONE = 8.4
NO_STRUCTURE = 0.3
MOST = 0.95
"""Names and words alone prove no fix."""

WEIGHTS: dict[str, float] = {
    "touched": 1.7,
    "named": 1.45,
    "files": 2.6,
    "members": 1.0,
    "subject": 0.45,
    "words": 16.5,
    "meaning": 1.0,
    "fix_tag": 0.3,
    "fix_words": 0.1,
    "reported": 2.5,
    "broad": -0.65,
    "older": -1.0,
    "later": -1.25,
    "stable_older": -1.0,
    "stable_later": -1.2,
}


def search(store: Store, embedder: Embedder, query: CrashQuery, k: int) -> list[Hit]:
    """The `k` best commits, best first; of commits with one subject (backports) the best."""
    terms = prepare(query)
    if k < 1 or terms.empty:
        return []
    vector = embedder.embed_query(terms.text)
    evidence = gather(store, terms, vector if vector.any() else None)
    rows = store.rows(evidence.candidates())
    if not rows:
        return []
    scores = _score(signals(terms, evidence, rows))
    groups = _distinct(rows, scores)
    chosen = groups[:k]
    likely = _likelihoods(scores[[best for best, _ in groups]])
    commits = store.commits([rows[best].id for best, _ in chosen])
    hits = []
    for (best, twins), commit, share in zip(chosen, commits, likely[:k], strict=True):
        row = rows[best]
        why = [*_reasons(terms, evidence, row, f"{commit.subject}\n{commit.message}")]
        why += (f"also as {rows[twin].hash[:12]}" for twin in twins[:3])
        confidence = _confidence(evidence, row.id, float(share))
        hits.append(_hit(commit, float(scores[best]), confidence, why))
    return hits


def _hit(commit: Commit, score: float, confidence: float, why: Sequence[str]) -> Hit:
    return Hit(
        hash=commit.hash,
        subject=commit.subject,
        author=commit.author,
        date=commit.date,
        score=round(score, 6),
        confidence=round(confidence, 3),
        why=tuple(why),
        message=commit.message,
        diff=commit.diff,
        files=commit.files,
        fixes=commit.fixes,
    )


def _score(values: dict[str, Numbers]) -> Numbers:
    total = np.zeros(len(next(iter(values.values()))))
    for name, weight in WEIGHTS.items():
        total += weight * values[name]
    return total


def _distinct(rows: Sequence[Row], scores: Numbers) -> list[tuple[int, list[int]]]:
    """Best first (equal scores: first indexed first), each with the others of its subject."""
    groups: dict[str, tuple[int, list[int]]] = {}
    for position in np.argsort(-scores, kind="stable").tolist():
        subject = " ".join(words(rows[position].subject)) or rows[position].hash
        if subject in groups:
            groups[subject][1].append(position)
        else:
            groups[subject] = (position, [])
    return list(groups.values())


def _likelihoods(scores: Numbers) -> Numbers:
    """Softmax, with the choice that none of them is the fix; `scores` fall."""
    top = max(NONE, float(scores[0]))
    shares = np.exp(scores - top)
    likely: Numbers = shares / (shares.sum() + math.exp(NONE - top))
    return likely


def _confidence(evidence: Evidence, id: int, likely: float) -> float:
    if id in evidence.touched or id in evidence.named or id in evidence.files:
        return min(likely, MOST)
    return min(likely, NO_STRUCTURE, evidence.words.get(id, 0.0))


def _reasons(terms: Terms, evidence: Evidence, row: Row, text: str) -> Iterator[str]:
    touched = _strongest(evidence.touched.get(row.id, {}))
    for name in touched[:3]:
        yield f"touches {name}{_place(terms, name)}"
    for path in _strongest(evidence.files.get(row.id, {}))[:1]:
        place = "where it crashed" if path == next(iter(terms.files)) else "a file of the trace"
        yield f"changes {path}, {place}"
    named = [n for n in _strongest(evidence.named.get(row.id, {})) if n not in touched]
    if named:
        yield f"message names {', '.join(named[:3])}"
    called = [n for n in _strongest(evidence.called.get(row.id, {})) if n not in touched]
    if called:
        yield f"changed lines mention {', '.join(called[:3])}"
    if row.id in evidence.words:
        present = set(words(text))
        shared = [w for w in terms.words if w in present and "_" not in w][:5]
        if shared:
            yield f"text shares the words {', '.join(shared)}"
    if row.flags & FIX_TAG:
        yield "Fixes: tag"
    if row.flags & REPORTED:
        yield "answers a report (Reported-by or Closes tag)"
    if terms.day is not None and row.day >= 0 and row.day < terms.day - 14 and terms.development:
        yield f"speaks against it: older than {terms.release}"


def _strongest(matches: dict[str, float]) -> list[str]:
    return sorted(matches, key=lambda name: (-matches[name], name))


def _place(terms: Terms, name: str) -> str:
    if name not in terms.frames:
        return ", which the question names"
    depth = terms.frames.index(name)
    return ", where it crashed" if depth == 0 else f", frame {depth + 1} of the trace"
