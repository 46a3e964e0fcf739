"""What speaks for a commit as the fix of a crash, as numbers from 0 to about 1.

Each signal is one array over the candidates; `DESCRIPTIONS` says what it measures.
`kagent.commits.search` weighs and sums them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kagent.commits.candidates import Evidence, Numbers
from kagent.commits.names import words
from kagent.commits.query import Terms
from kagent.commits.quoted import likeness, same_places
from kagent.commits.store import Row
from kagent.commits.traits import (
    FIX_TAG,
    POSTED,
    REPORTED,
    REVERT,
    STABLE,
    SYZBOT,
    symptoms,
)

__all__ = ["DESCRIPTIONS", "signals", "subject_key"]

Flags = npt.NDArray[np.int64]

DESCRIPTIONS: dict[str, str] = {
    "touched": "changes a function of the stack, the rarer and nearer the crash the more",
    "around": "changes a function of another stack of the report: who freed, who held the lock",
    "named": "its message names a function of the stack",
    "named_more": "its message names further functions of the stack",
    "called": "its changed lines mention a function of the stack",
    "members": "its changed lines mention the struct member or lock of the crash",
    "files": "changes a file of the stack, or one where its functions live",
    "file_first": "changes the file of the uppermost telling frame",
    "directory": "changes a directory of the stack",
    "module": "changes the module that the stack lies in",
    "words": "its text has the rare words of the crash (BM25)",
    "subject_words": "its subject has the rare words of the crash",
    "subject_focus": "its subject has few other words",
    "meaning": "is near in the dense vector space",
    "quoted": "quotes a stack like this one",
    "quoted_title": "quotes a report of the same title",
    "quoted_places": "quotes frames with the same offsets",
    "reference": "names the same syzbot id, CVE or report",
    "blamed": "repairs the commit that the faulting line goes back to",
    "symptom": "its text speaks of the same kind of misbehaviour",
    "other_symptom": "its subject speaks of another kind of misbehaviour only",
    "fix_tag": "has a Fixes: tag",
    "reported": "answers a person's report",
    "syzbot": "answers a report of syzbot, and the log is from syzkaller",
    "foreign_syzbot": "answers a report of syzbot, and the log is not",
    "stable": "is meant for stable kernels",
    "revert": "is a revert",
    "posted": "was posted, but is in no repository",
    "broad": "touches many files (log)",
    "older": "older than the crashed mainline release",
    "later": "later than its development cycle (log)",
    "at_once": "made within three weeks of it",
    "soon": "made within ten weeks of it",
    "in_time": "made within half a year of it",
    "stable_older": "older than the crashed release of a stable branch",
    "stable_later": "later than it (log)",
    "undated_older": "older than the log can be, whose release says nothing",
    "culprit_late": "repairs a commit that is younger than the crash",
    "culprit_fresh": "repairs a commit of the year before the crash",
    "culprit_near": "repairs a commit that changed a function of the stack",
}


def signals(terms: Terms, evidence: Evidence) -> dict[str, Numbers]:
    """One array per signal, in the order of the evidence's rows."""
    rows = evidence.rows
    flags = np.array([row.flags for row in rows], dtype=np.int64)
    out = _code(terms, evidence)
    out |= _text(terms, evidence, flags)
    out |= _quotes(terms, evidence)
    out |= _nature(terms, flags)
    out |= _timing(terms, rows)
    out |= _culprits(terms, evidence)
    return out


def _code(terms: Terms, evidence: Evidence) -> dict[str, Numbers]:
    rows, touched = evidence.rows, evidence.touched
    called = [(n in terms.identifiers) for n in evidence.called.terms]
    members = np.array(called, dtype=bool)
    strength = evidence.called.strength
    file_first = next(iter(evidence.homes), "")
    directories = _directories(evidence.homes)
    return {
        "touched": touched.best(),
        "around": evidence.around.best(),
        "called": strength[:, ~members].max(axis=1, initial=0.0),
        "members": strength[:, members].max(axis=1, initial=0.0),
        "files": evidence.files.best(),
        "file_first": np.array([file_first in row.files for row in rows], dtype=np.float64),
        "directory": np.array([_directory(row.files, directories) for row in rows]),
        "module": np.array([_module(row, terms.modules) for row in rows]),
        "broad": np.log1p(np.array([row.breadth for row in rows], dtype=np.float64)),
    }


def _directories(files: Iterable[str]) -> dict[str, float]:
    """Directories of the crash's files and their parents, the first file's first."""
    weights: dict[str, float] = {}
    for depth, path in enumerate(files):
        parts = path.split("/")[:-1]
        for up, level in enumerate(range(len(parts), 0, -1)):
            weight = 0.8**depth * 0.5**up
            directory = "/".join(parts[:level])
            weights[directory] = max(weights.get(directory, 0.0), weight)
    return weights


def _directory(files: Sequence[str], directories: dict[str, float]) -> float:
    best = 0.0
    for path in files[:32]:
        directory = path.rpartition("/")[0]
        while directory:
            if directory in directories:
                best = max(best, directories[directory])
                break
            directory = directory.rpartition("/")[0]
    return best


def _module(row: Row, modules: Sequence[str]) -> float:
    if not modules:
        return 0.0
    text = "/".join((*row.files[:16], _prefix(row.subject))).replace("-", "_")
    return max(
        (0.7**n for n, name in enumerate(modules) if f"/{name}" in text or f" {name}" in text),
        default=0.0,
    )


def _prefix(subject: str) -> str:
    """``scsi: mptsas`` of ``scsi: mptsas: fix this``."""
    return subject.rpartition(":")[0]


def _text(terms: Terms, evidence: Evidence, flags: Flags) -> dict[str, Numbers]:
    rows = evidence.rows
    best = evidence.named.best()
    rarity = evidence.rarity
    known = rarity.keys()
    whole = sum(sorted(rarity.values(), reverse=True)[:12]) or 1.0
    subjects = [_subject(row.subject) for row in rows]
    theirs = np.array([bits for _, bits, _ in subjects], dtype=np.int64)
    same = (theirs & terms.symptoms) > 0
    symptom = np.zeros(len(rows))
    for bit, value in evidence.symptoms.items():
        symptom = np.maximum(symptom, value * ((flags & bit) > 0))
    return {
        "named": best,
        "named_more": np.log1p(evidence.named.total() - best),
        "subject_words": np.array(
            [sum(rarity[word] for word in has & known) / whole for has, _, _ in subjects]
        ),
        "subject_focus": np.array([len(has & known) / max(len(has), 4) for has, _, _ in subjects]),
        "words": evidence.words,
        "meaning": evidence.meaning,
        "symptom": symptom,
        "other_symptom": ((theirs != 0) & ~same & (terms.symptoms != 0)).astype(np.float64),
    }


@lru_cache(maxsize=1 << 14)
def _subject(subject: str) -> tuple[frozenset[str], int, str]:
    """Its words, the symptoms it speaks of, and its words in order."""
    found = words(subject)
    return frozenset(found), symptoms(subject), " ".join(found)


def subject_key(row: Row) -> str:
    """The same for every copy of a change: backports, and a patch that was posted again."""
    return _subject(row.subject)[2] or row.hash


def _quotes(terms: Terms, evidence: Evidence) -> dict[str, Numbers]:
    count = len(evidence.rows)
    like, title, places = np.zeros(count), np.zeros(count), np.zeros(count)
    if evidence.quotes:
        frames = {name: terms.functions[name] for name in terms.frames}
        for position, row in enumerate(evidence.rows):
            for quote in evidence.quotes.get(row.id, ()):
                like[position] = max(like[position], likeness(quote, frames))
                places[position] = max(places[position], same_places(quote, terms.places))
                if quote.title and quote.title == terms.title:
                    title[position] = 1.0
    return {
        "quoted": like,
        "quoted_title": title,
        "quoted_places": places,
        "reference": evidence.references.astype(np.float64),
        "blamed": evidence.blamed.astype(np.float64),
    }


def _nature(terms: Terms, flags: Flags) -> dict[str, Numbers]:
    def has(bit: int) -> Numbers:
        return np.asarray((flags & bit) > 0, dtype=np.float64)

    syzbot = has(SYZBOT)
    return {
        "fix_tag": has(FIX_TAG),
        "reported": has(REPORTED) * (1 - syzbot),
        "syzbot": syzbot * terms.syzbot,
        "foreign_syzbot": syzbot * (not terms.syzbot),
        "stable": has(STABLE),
        "revert": has(REVERT),
        "posted": has(POSTED),
    }


def _timing(terms: Terms, rows: Sequence[Row]) -> dict[str, Numbers]:
    """How much older or later than the crashed release a commit is.

    A stable branch gets fixes that are older than its point releases, so it has weights of its
    own. A commit made up to ten weeks after a release, one development cycle, is not late. Where
    the release is unknown, what else dates the log only tells what came too early.
    """
    zero = np.zeros(len(rows))
    out = dict.fromkeys(
        (
            "older",
            "later",
            "at_once",
            "soon",
            "in_time",
            "stable_older",
            "stable_later",
            "undated_older",
        ),
        zero,
    )
    day = terms.not_before if terms.day is None else terms.day
    if day is None:
        return out
    days = np.array([row.day for row in rows], dtype=np.float64)
    delta = np.where(days < 0, 0.0, days - day)
    older = np.clip(-(delta + 14) / 90, 0, 4)
    later = np.log1p(np.clip(delta - 70, 0, None) / 90)
    if terms.day is None:
        out["undated_older"] = older
    elif terms.development:
        out |= {"older": older, "later": later}
        for name, last in (("at_once", 21), ("soon", 70), ("in_time", 182)):
            out[name] = ((delta > -14) & (delta < last)).astype(np.float64)
    else:
        out |= {"stable_older": older, "stable_later": later}
    return out


def _culprits(terms: Terms, evidence: Evidence) -> dict[str, Numbers]:
    """What the commit that a candidate repairs says, where the index has it."""
    count = len(evidence.rows)
    late, fresh, near = np.zeros(count), np.zeros(count), np.zeros(count)
    if not evidence.culprits:
        return {"culprit_late": late, "culprit_fresh": fresh, "culprit_near": near}
    touching = {
        row.id: value for row, value in zip(evidence.rows, evidence.touched.best(), strict=True)
    }
    day = terms.day
    for position, row in enumerate(evidence.rows):
        for id, made in (evidence.culprits[h] for h in row.fixes if h in evidence.culprits):
            near[position] = max(near[position], touching.get(id, 0.0))
            if day is not None and made >= 0:
                late[position] = max(late[position], float(made > day + 14))
                fresh[position] = max(fresh[position], float(-365 < made - day <= 14))
    return {"culprit_late": late, "culprit_fresh": fresh, "culprit_near": near}
