"""In words, why a commit is among the hits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from kagent.commits.candidates import Evidence
from kagent.commits.names import words
from kagent.commits.query import Terms
from kagent.commits.quoted import likeness, same_places
from kagent.commits.store import Row
from kagent.commits.traits import FIX_TAG, OUTSIDE, REPORTED, SYZBOT, symptom_names

__all__ = ["reasons"]

_ALIKE = 0.3
"""Likeness of stacks that is worth a word."""


def reasons(terms: Terms, evidence: Evidence, position: int, text: str) -> Iterator[str]:
    """What speaks for the candidate at `position`, the strongest kind of evidence first.

    `text` is its subject and message.
    """
    row = evidence.rows[position]
    yield from _identity(terms, evidence, position, text)
    yield from _quoted(terms, evidence, row)
    yield from _code(terms, evidence, position)
    yield from _words(terms, evidence, position, text)
    yield from _nature(terms, evidence, row)


def _identity(terms: Terms, evidence: Evidence, position: int, text: str) -> Iterator[str]:
    if evidence.references[position]:
        named = [name for name in terms.references if name.partition(":")[2] in text]
        yield f"names {', '.join(_bug(name) for name in named[:2]) or 'the same report'}"
    if evidence.blamed[position]:
        yield "repairs the commit that last changed the faulting line"


def _bug(reference: str) -> str:
    kind, _, name = reference.partition(":")
    return {"syzbot": f"syzbot's bug {name}", "cve": f"CVE-{name}"}.get(kind, f"the report {name}")


def _quoted(terms: Terms, evidence: Evidence, row: Row) -> Iterator[str]:
    frames = {name: terms.functions[name] for name in terms.frames}
    quotes = evidence.quotes.get(row.id, ())
    best = max(quotes, key=lambda quote: likeness(quote, frames), default=None)
    if best is None:
        return
    if best.title and best.title == terms.title:
        yield f"quotes a report of this title: {best.title}"
    shared = [name for name in best.symbols if name in frames]
    if shared and likeness(best, frames) >= _ALIKE:
        exact = ", some at the same offsets" if same_places(best, terms.places) else ""
        yield (
            f"quotes a stack that shares {len(shared)} functions with this one{exact}: "
            f"{', '.join(shared[:3])}"
        )


def _code(terms: Terms, evidence: Evidence, position: int) -> Iterator[str]:
    row = evidence.rows[position]
    touched = evidence.touched.of(position)
    for name in list(touched)[:3]:
        yield f"touches {name}{_place(terms, name)}"
    for name in list(evidence.around.of(position))[:1]:
        yield f"touches {name}, of another stack of the report"
    for path in list(evidence.files.of(position))[:1]:
        if path not in terms.files:
            place = "where functions of the trace live"
        elif path == next(iter(terms.files)):
            place = "where it crashed"
        else:
            place = "a file of the trace"
        yield f"changes {path}, {place}"
    named = [name for name in evidence.named.of(position) if name not in touched]
    if named:
        yield f"message names {', '.join(named[:3])}"
    called = [name for name in evidence.called.of(position) if name not in touched]
    if called:
        yield f"changed lines mention {', '.join(called[:3])}"
    for hash in row.fixes:
        at = evidence.position_of(evidence.culprits[hash][0]) if hash in evidence.culprits else None
        changed = [] if at is None else list(evidence.touched.of(at))
        if changed:
            yield f"repairs {hash[:12]}, which changed {changed[0]}"
            break


def _place(terms: Terms, name: str) -> str:
    if name not in terms.frames:
        return ", which the question names"
    depth = terms.frames.index(name)
    return ", where it crashed" if depth == 0 else f", frame {depth + 1} of the trace"


def _words(terms: Terms, evidence: Evidence, position: int, text: str) -> Iterator[str]:
    if evidence.words[position] > 0:
        present = set(words(text))
        shared = [w for w in terms.words if w in present and "_" not in w][:5]
        if shared:
            yield f"text shares the words {', '.join(shared)}"
    same = symptom_names(evidence.rows[position].flags & terms.symptoms)
    if same:
        yield f"speaks of the same misbehaviour: {', '.join(same[:2])}"


def _nature(terms: Terms, evidence: Evidence, row: Row) -> Iterator[str]:
    if row.flags & FIX_TAG:
        yield "Fixes: tag"
    if row.flags & SYZBOT:
        yield "answers a report of syzbot" + (", where the log is from" if terms.syzbot else "")
    elif row.flags & REPORTED:
        yield "answers a report (Reported-by or Closes tag)"
    if row.flags & OUTSIDE:
        yield "speaks against it: touches no kernel code"
    if terms.day is not None and 0 <= row.day < terms.day - 14 and terms.development:
        yield f"speaks against it: older than {terms.release}"
    if terms.day is None and terms.not_before is not None and 0 <= row.day < terms.not_before - 14:
        earliest = date(1970, 1, 1) + timedelta(days=terms.not_before)
        yield f"speaks against it: older than the log, which is of {earliest} or later"
    day = terms.day
    made = [evidence.culprits[hash][1] for hash in row.fixes if hash in evidence.culprits]
    if day is not None and any(value > day + 14 for value in made):
        yield f"speaks against it: what it repairs is younger than {terms.release}"
