"""Nothing a model says survives unless the evidence says it too.

Every claim, and every paragraph of its explanation, is searched for things that can be checked:
evidence ids, commit hashes and other hex numbers, ``file.c:123``, names and quotes in backticks.
Each must occur in the ledger; what cannot be found there goes to ``unverified``, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from langgraph.runtime import Runtime

from kagent.agents.answers import Claim, Draft
from kagent.agents.node import node
from kagent.agents.state import State
from kagent.resolution import Evidence, Finding
from kagent.settings import Settings

__all__ = ["Checker", "check_claims", "check_draft", "verify"]

_EVIDENCE_ID = re.compile(r"\be[0-9a-f]{10}\b")
_HEX = re.compile(r"\b(?:0x[0-9a-f]{1,16}|(?=[0-9a-f]*[0-9])[0-9a-f]{7,40})\b", re.IGNORECASE)
_FILE_LINE = re.compile(r"\b([\w./-]{1,200}\.(?:c|h|S|rs)):(\d{1,6})\b")
_QUOTED = re.compile(r"`([^`\n]{1,400})`")
_FENCED = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
_ORIGIN = re.compile(r"^(?P<path>.+?):(?P<start>\d+)(?:-(?P<end>\d+))?(?:@.*)?$")
_BLANKS = re.compile(r"\s+")


class Checker:
    """Knows the ledger; says what in a text is not in it."""

    def __init__(self, ledger: Iterable[Evidence], lines: Iterable[tuple[str, int]] = ()) -> None:
        """`lines` are (file, line) pairs that debug info proved."""
        items = list(ledger)
        self._ids = {item.id for item in items}
        said = " ".join(f"{item.content} {item.origin}" for item in items)
        self._text = _squeeze(said)
        self._numbers = {number.lower() for number in _HEX.findall(said)}
        self._hashes = {item.origin.removeprefix("commit ") for item in items}
        self._lines = set(lines)
        self._ranges = [
            (match["path"], int(match["start"]), int(match["end"] or match["start"]))
            for item in items
            if (match := _ORIGIN.match(item.origin))
        ]

    def problems(self, text: str, cited: Sequence[str] = ()) -> list[str]:
        """Why `text` cannot stand: one line a problem; empty when it can."""
        found = [f"cites {e}, which is not in the evidence" for e in cited if e not in self._ids]
        found += [
            f"cites {e}, which is not in the evidence"
            for e in _EVIDENCE_ID.findall(text)
            if e not in self._ids
        ]
        text = _EVIDENCE_ID.sub(" ", text)
        for path, line in _FILE_LINE.findall(text):
            if not self._knows_line(path, int(line)):
                found.append(f"{path}:{line} is not in the evidence")
        text = _FILE_LINE.sub(" ", text)
        for quote in _FENCED.findall(text):
            found += [
                f"quotes code that is not in the evidence: {row.strip()[:80]}"
                for row in quote.splitlines()
                if len(row.strip()) > 3 and _squeeze(row) not in self._text
            ]
        text = _FENCED.sub(" ", text)
        for quote in _QUOTED.findall(text):
            if _squeeze(quote.removesuffix("()")) not in self._text:
                found.append(f"`{quote}` is not in the evidence")
        for number in _HEX.findall(_QUOTED.sub(" ", text)):
            if not self._knows_number(number.lower()):
                found.append(f"{number} is not in the evidence")
        return list(dict.fromkeys(found))

    def _knows_number(self, number: str) -> bool:
        """Exactly, by value, or as the abbreviation of a hash; part of a number is another one."""
        if number in self._numbers:
            return True
        if number.startswith("0x"):
            return any(int(known, 16) == int(number, 16) for known in self._numbers)
        hashes = self._hashes | {known for known in self._numbers if len(known) == 40}
        return any(known.startswith(number) for known in hashes)

    def _knows_line(self, path: str, line: int) -> bool:
        def same(known: str) -> bool:
            return known == path or known.endswith("/" + path) or path.endswith("/" + known)

        return any(same(file) and number == line for file, number in self._lines) or any(
            same(file) and start <= line <= end for file, start, end in self._ranges
        )


@node
def verify(state: State, _runtime: Runtime[Settings]) -> dict[str, Any]:
    """Split a model's draft into what the evidence carries and what it does not."""
    draft, model = state.get("draft"), state.get("model")
    if draft is None or not model:
        return {}
    checker = Checker(
        state["evidence"],
        ((link.file, link.line) for item in state.get("symbolized", []) for link in item.chain),
    )
    known = {hit.hash for hit in state.get("hits", [])}
    kept, findings, rejected = check_draft(draft, checker, known, f"model:{model}")
    return {"draft": kept, "findings": findings, "unverified": rejected}


def check_claims(
    claims: Iterable[Claim], checker: Checker, by: str
) -> tuple[list[Finding], list[str]]:
    """The claims that stand, as findings of `by`; the others with the reason."""
    findings, rejected = [], []
    for claim in claims:
        text = claim.claim.strip()
        problems = checker.problems(text, claim.evidence)
        if not claim.evidence:
            problems.insert(0, "cites no evidence")
        if problems:
            rejected.append(f"{text[:300]} ({'; '.join(problems[:3])})")
        else:
            cited, sure = claim.evidence, claim.confidence
            findings.append(Finding(claim=text, confidence=sure, evidence=cited, by=by))
    return findings, rejected


def check_draft(
    draft: Draft, checker: Checker, hashes: set[str], by: str
) -> tuple[Draft, list[Finding], list[str]]:
    """The draft without what cannot be verified; its claims as findings; what was rejected."""
    rejected: list[str] = []

    def keep(text: str) -> bool:
        problems = checker.problems(text)
        if problems:
            rejected.append(f"{text.strip()[:300]} ({'; '.join(problems[:3])})")
        return not problems

    findings, refused = check_claims(draft.claims, checker, by)
    rejected += refused
    opinions = []
    for opinion in draft.fixes:
        known = [h for h in hashes if len(opinion.hash) >= 7 and h.startswith(opinion.hash.lower())]
        if not known:
            rejected.append(f"commit {opinion.hash[:40]} (was not among the commits found)")
        elif keep(opinion.why):
            opinions.append(opinion.model_copy(update={"hash": known[0]}))
    kept = Draft(
        summary=draft.summary if keep(draft.summary) else "",
        explanation="\n\n".join(p for p in _paragraphs(draft.explanation) if keep(p)),
        fixes=opinions,
        fix=[text for text in draft.fix if keep(text)],
        verify=[text for text in draft.verify if keep(text)],
        mitigate=[text for text in draft.mitigate if keep(text)],
    )
    return kept, findings, rejected


def _paragraphs(text: str) -> list[str]:
    """Split at blank lines, but never inside a fenced block."""
    parts: list[str] = []
    fenced = False
    for block in re.split(r"\n[ \t]*\n", text):
        if fenced and parts:
            parts[-1] += "\n\n" + block
        elif block.strip():
            parts.append(block)
        if block.count("```") % 2:
            fenced = not fenced
    return parts


def _squeeze(text: str) -> str:
    return _BLANKS.sub("", text).lower()
