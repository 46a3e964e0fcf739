"""The learnt part of ranking: a weight per signal, and how scores become probabilities.

score = sum of weight * signal. The weights were fitted on public crash reports and the commits
that fixed them (softmax over each crash's candidates, ridge penalty); ``ranking.json`` holds them
by name, with what they were fitted on. Confidence is a logistic function of a few facts of the
ranked list, fitted on the same reports, with the right commits taken out of every second list;
weights and confidence were fitted on different parts of the reports.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from kagent.commits.candidates import Numbers
from kagent.commits.model import Verdict
from kagent.commits.signals import DESCRIPTIONS

__all__ = ["FACTS", "Ranker", "facts", "load_ranker"]

FACTS: dict[str, str] = {
    "constant": "1",
    "score": "its score",
    "odds": "log odds of its share of the softmax over all candidates",
}


_LEAST = 1e-5


@dataclass(frozen=True, slots=True)
class Ranker:
    """Weights by signal, and by fact for the confidence."""

    weights: dict[str, float]
    confidence: dict[str, float]
    confident: float
    """Hits of at least this confidence were right nine times in ten."""
    doubtful: float
    """Where the first hit has less, mostly no commit of the list was right."""

    def scores(self, values: dict[str, Numbers]) -> Numbers:
        """One score per candidate."""
        total = np.zeros(len(next(iter(values.values()))))
        for name, weight in self.weights.items():
            total += weight * values[name]
        return total

    def confidences(self, scores: Numbers) -> Numbers:
        """How likely each is the fix; `scores` fall, one per distinct change."""
        table = facts(scores)
        linear = sum(weight * table[name] for name, weight in self.confidence.items())
        likely = 1 / (1 + np.exp(-np.clip(linear, -30, 30)))
        # Of the changes of one list hardly two are the fix.
        result: Numbers = likely / max(1.0, float(likely.sum()))
        return np.minimum.accumulate(result)

    def verdict(self, confidence: float) -> Verdict:
        """What a hit of that confidence is."""
        if confidence >= self.confident:
            return "confident"
        return "doubtful" if confidence < self.doubtful else "possible"


def facts(scores: Numbers) -> dict[str, Numbers]:
    """What confidence depends on, for each of the falling `scores`."""
    top = float(scores[0])
    shares = np.exp(scores - top)
    shares /= shares.sum()
    return {
        "constant": np.ones(len(scores)),
        "score": scores.copy(),
        "odds": np.log(np.clip(shares, _LEAST, None) / np.clip(1 - shares, _LEAST, None)),
    }


@lru_cache(maxsize=1)
def load_ranker() -> Ranker:
    """The weights that ship with the package."""
    data = json.loads(resources.files("kagent.commits").joinpath("ranking.json").read_text("utf-8"))
    unknown = set(data["weights"]) - set(DESCRIPTIONS)
    if unknown or set(data["confidence"]) - set(FACTS):
        raise ValueError(f"ranking.json weighs unknown signals: {sorted(unknown)}")
    return Ranker(data["weights"], data["confidence"], data["confident"], data["doubtful"])
