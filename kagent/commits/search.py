"""Ranking commits for a crash or a question; `kagent.commits.ranker` weighs the signals.

Caps hold whatever was learnt: `MOST` for all confidences; and a hit without structure (it neither
touches nor names a function of the query, nor touches a file of it, nor names the same report)
never exceeds `NO_STRUCTURE`, nor the share of the query's words (rare ones weigh more) that its
text covers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kagent.commits.candidates import Evidence, Numbers, gather
from kagent.commits.embeddings import Embedder
from kagent.commits.model import Commit, CrashQuery, Hit, Verdict
from kagent.commits.query import prepare
from kagent.commits.ranker import load_ranker
from kagent.commits.reasons import reasons
from kagent.commits.signals import signals, subject_key
from kagent.commits.store import Row, Store

__all__ = ["MOST", "NO_STRUCTURE", "search"]

NO_STRUCTURE = 0.3
MOST = 0.97
"""Names and words alone prove no fix."""


def search(store: Store, embedder: Embedder, query: CrashQuery, k: int) -> list[Hit]:
    """The `k` best commits, best first; of commits with one subject (backports) the best."""
    terms = prepare(query)
    if k < 1 or terms.empty:
        return []
    vector = embedder.embed_query(terms.text)
    evidence = gather(store, terms, vector if vector.any() else None)
    if evidence is None:
        return []
    ranker = load_ranker()
    scores = ranker.scores(signals(terms, evidence))
    groups = _distinct(evidence.rows, scores)
    chosen = groups[:k]
    likely = ranker.confidences(scores[[best for best, _ in groups]])
    commits = store.commits([evidence.rows[best].id for best, _ in chosen])
    hits = []
    for (best, twins), commit, share in zip(chosen, commits, likely[:k].tolist(), strict=True):
        why = [*reasons(terms, evidence, best, f"{commit.subject}\n{commit.message}")]
        why += (f"also as {evidence.rows[twin].hash[:12]}" for twin in twins[:3])
        confidence = _capped(evidence, best, share)
        hits.append(_hit(commit, float(scores[best]), confidence, ranker.verdict(confidence), why))
    return hits


def _hit(
    commit: Commit, score: float, confidence: float, verdict: Verdict, why: Sequence[str]
) -> Hit:
    return Hit(
        hash=commit.hash,
        subject=commit.subject,
        author=commit.author,
        date=commit.date,
        score=round(score, 6),
        confidence=round(confidence, 3),
        verdict=verdict,
        why=tuple(why),
        message=commit.message,
        diff=commit.diff,
        files=commit.files,
        fixes=commit.fixes,
    )


def _distinct(rows: Sequence[Row], scores: Numbers) -> list[tuple[int, list[int]]]:
    """Best first (equal scores: first indexed first), each with the others of its subject."""
    groups: dict[str, tuple[int, list[int]]] = {}
    for position in np.argsort(-scores, kind="stable").tolist():
        subject = subject_key(rows[position])
        if subject in groups:
            groups[subject][1].append(position)
        else:
            groups[subject] = (position, [])
    return list(groups.values())


def _capped(evidence: Evidence, position: int, likely: float) -> float:
    structure = (evidence.touched, evidence.named, evidence.files, evidence.quoted)
    if any(matches.strength[position].any() for matches in structure):
        return min(likely, MOST)
    if evidence.references[position] or evidence.blamed[position]:
        return min(likely, MOST)
    return min(likely, NO_STRUCTURE, float(evidence.words[position]))
