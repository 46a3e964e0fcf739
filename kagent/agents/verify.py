"""Nothing a model says survives unless the evidence says it too.

Every claim, and every paragraph of its explanation, is searched for things that can be checked:
evidence ids, commit hashes and other hex numbers, ``file.c:123``, names and quotes in backticks.
Each must be written in the ledger by somebody whose words can prove it (`provenance`). Commands and
addresses are never a model's to give, whatever the ledger says: its actions are choices among the
templates of `kagent.diagnosis.actions`. What cannot stand goes to ``unverified``, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from langgraph.runtime import Runtime

from kagent.agents.answers import Claim, Draft
from kagent.agents.node import node
from kagent.agents.provenance import Chosen, Matter, said, strip_comments
from kagent.agents.state import State
from kagent.agents.toolbox import fix_statuses
from kagent.diagnosis.actions import Known, Part, SlotError, choose
from kagent.diagnosis.advice import blamed_modules
from kagent.diagnosis.commandlike import command_like, path_like
from kagent.klog.authorship import user_chosen
from kagent.resolution import Evidence, Finding
from kagent.settings import Settings

__all__ = ["Checker", "check_claims", "check_draft", "verify"]

_EVIDENCE_ID = re.compile(r"\be[0-9a-f]{10}\b")
_HEX = re.compile(r"\b(?:0x[0-9a-f]{1,16}|(?=[0-9a-f]*[0-9])[0-9a-f]{7,40})\b", re.IGNORECASE)
_FILE_LINE = re.compile(r"\b([\w./-]{1,200}\.(?:c|h|S|rs)):(\d{1,6})\b")
_QUOTED = re.compile(r"`([^`\n]{1,400})`")
_FENCED = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
_ORIGIN = re.compile(r"^(?P<path>.+?):(?P<start>\d+)(?:-(?P<end>\d+))?(?:@.*)?$")
_NAMED = re.compile(r"\b(?:0x[0-9a-fA-F]+|[A-Za-z]\w*_\w+)\b")
"""What a sentence names without doubt: numbers, and words that are no English."""
_BLANKS = re.compile(r"\s+")
_BETWEEN = " \0 "
"""Between two pieces of evidence: no quotation goes over it."""
_PLACED = frozenset({"debug-info", "source"})


class Checker:
    """Knows the ledger and who wrote what of it; says what in a text does not rest on it."""

    def __init__(
        self,
        ledger: Iterable[Evidence],
        lines: Iterable[tuple[str, int]] = (),
        chosen: Iterable[str] = (),
    ) -> None:
        """`lines`: (file, line) pairs that debug info proved; `chosen`: names in the log that
        somebody chose, which prove no number, hash or place where the kernel repeats them.
        """
        self._items = {item.id: item for item in ledger}
        self._chosen = Chosen(chosen)
        self._lines = set(lines)
        items = list(self._items.values())
        self._quotes, self._code = self._squeezed(items, "quote"), self._squeezed(items, "code")
        numbers, hashes = self._words(items, "number"), self._words(items, "hash")
        self._numbers = {number.lower() for number in _HEX.findall(numbers)}
        self._hashes = {number.lower() for number in _HEX.findall(hashes)}
        places = self._words(items, "place")
        self._lines |= {(path, int(line)) for path, line in _FILE_LINE.findall(places)}
        self._files = {file for file, _ in self._lines}
        self._ranges = [
            (match["path"], int(match["start"]), int(match["end"] or match["start"]))
            for item in items
            if item.author in _PLACED and (match := _ORIGIN.match(item.origin))
        ]
        self._files |= {path for path, *_ in self._ranges}

    def problems(self, text: str, cited: Sequence[str] = ()) -> list[str]:
        """Why `text` cannot stand: one line a problem; empty when it can."""
        ids = [*cited, *_EVIDENCE_ID.findall(text)]
        found = [f"cites {e}, which is not in the evidence" for e in ids if e not in self._items]
        text = _EVIDENCE_ID.sub(" ", text)
        found += self._unsafe(text)
        for path, line in _FILE_LINE.findall(text):
            if not self._knows_line(path, int(line)):
                found.append(f"{path}:{line} is not in the evidence")
        text = _FILE_LINE.sub(" ", text)
        for path in path_like(text):
            if not any(_same_file(path, known) for known in self._files):
                found.append(f"the file {path[:80]} is not in the evidence")
        for quote in _FENCED.findall(text):
            found += [
                f"quotes code that is not in the evidence: {row.strip()[:80]}"
                for row in quote.splitlines()
                if len(row.strip()) > 3 and not self._is_code(row)
            ]
        text = _FENCED.sub(" ", text)
        for quote in _QUOTED.findall(text):
            if _squeeze(quote.removesuffix("()")) not in self._quotes:
                found.append(f"`{quote}` is not in the evidence")
        for number in _HEX.findall(_QUOTED.sub(self._unquoted, text)):
            if not self._knows_number(number.lower()):
                found.append(f"{number} is not in the evidence")
        return list(dict.fromkeys(found))

    def carried(self, text: str, cited: Sequence[str]) -> list[str]:
        """Why the evidence that a claim cites cannot carry it, as `problems`."""
        items = [self._items[e] for e in cited if e in self._items]
        if not cited:
            return ["cites no evidence"]
        if items and not any(said(item, "claim", self._chosen) for item in items):
            return ["rests only on words that somebody chose"]
        named = {_plain(name) for name in _NAMED.findall(_EVIDENCE_ID.sub(" ", text))}
        ground = {_plain(name) for name in _NAMED.findall(self._words(items, "quote"))}
        if items and named and not named & ground:
            return ["names nothing that is in the evidence it cites"]
        return []

    def _words(self, items: Iterable[Evidence], matter: Matter) -> str:
        return _BETWEEN.join(said(item, matter, self._chosen) for item in items)

    def _squeezed(self, items: Iterable[Evidence], matter: Matter) -> str:
        return _squeeze(self._words(items, matter))

    def _unsafe(self, text: str) -> list[str]:
        """Commands and addresses; in quotations that are code, operators are C's."""
        code = [q for q in _FENCED.findall(text) if all(map(self._is_code, q.splitlines()))]
        code += [q for q in _QUOTED.findall(text) if _squeeze(q) in self._code]
        for quote in code:
            text = text.replace(quote, " ")
        found = command_like(text)
        for quote in code:
            found += command_like(quote, code=True)
        return found

    def _is_code(self, row: str) -> bool:
        bare = _squeeze(strip_comments(row))
        return bare in self._code if bare else not row.strip()

    def _unquoted(self, quote: re.Match[str]) -> str:
        """What stands in backticks counts where it is a number of its own."""
        return quote[1] if _HEX.fullmatch(quote[1]) else " "

    def _knows_number(self, number: str) -> bool:
        """Exactly, by value, or as the abbreviation of a hash; part of a number is another one."""
        if number in self._numbers or number in self._hashes:
            return True
        if number.startswith("0x"):
            return any(int(known, 16) == int(number, 16) for known in self._numbers)
        hashes = self._hashes | {known for known in self._numbers if len(known) == 40}
        return any(known.startswith(number) for known in hashes if len(known) >= len(number))

    def _knows_line(self, path: str, line: int) -> bool:
        return any(
            _same_file(path, file) and number == line for file, number in self._lines
        ) or any(
            _same_file(path, file) and start <= line <= end for file, start, end in self._ranges
        )


@node
def verify(state: State, runtime: Runtime[Settings]) -> dict[str, Any]:
    """Split a model's draft into what the evidence carries and what it does not."""
    draft, model = state.get("draft"), state.get("model")
    if draft is None or not model:
        return {}
    checker = Checker(
        state["evidence"],
        ((link.file, link.line) for item in state.get("symbolized", []) for link in item.chain),
        user_chosen(state["kernel_log"]),
    )
    known = _known(state, runtime.context, draft)
    kept, findings, rejected = check_draft(draft, checker, known, f"model:{model}")
    return {"draft": kept, "findings": findings, "unverified": rejected}


def _known(state: State, settings: Settings, draft: Draft) -> Known:
    """What a model may fill into an action; where fixes have landed only if it asks for that."""
    hits = state.get("hits", [])
    report = state["kernel_log"].reports[state["primary"]]
    tags: set[str] = set()
    if any(choice.action == "upgrade" for choice in draft.actions):
        landed = fix_statuses(settings, [hit.hash for hit in hits], report.context)
        tags = {status.upstream_tag for status in landed.values() if status.upstream_tag}
    return Known({hit.hash: hit.subject for hit in hits}, blamed_modules(report), tags)


def check_claims(
    claims: Iterable[Claim], checker: Checker, by: str
) -> tuple[list[Finding], list[str]]:
    """The claims that stand, as findings of `by`; the others with the reason."""
    findings, rejected = [], []
    for claim in claims:
        text = claim.claim.strip()
        problems = checker.problems(text, claim.evidence)
        problems += checker.carried(text, claim.evidence)
        if problems:
            rejected.append(f"{text[:300]} ({'; '.join(problems[:3])})")
        else:
            cited, sure = claim.evidence, claim.confidence
            findings.append(Finding(claim=text, confidence=sure, evidence=cited, by=by))
    return findings, rejected


def check_draft(
    draft: Draft, checker: Checker, found: Known, by: str
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
        known = [
            h
            for h in found.commits
            if len(opinion.hash) >= 7 and h.startswith(opinion.hash.lower())
        ]
        if not known:
            rejected.append(f"commit {opinion.hash[:40]} (was not among the commits found)")
        elif keep(opinion.why):
            opinions.append(opinion.model_copy(update={"hash": known[0]}))
    chosen: dict[Part, list[str]] = {"fix": [], "verify": [], "mitigate": []}
    for choice in draft.actions:
        try:
            part, text = choose(choice.action, choice.value, found)
        except SlotError as error:
            rejected.append(f"action {choice.action} {choice.value[:80]} ({error})")
        else:
            chosen[part].append(text)
    kept = Draft(
        summary=draft.summary if keep(draft.summary) else "",
        explanation="\n\n".join(p for p in _paragraphs(draft.explanation) if keep(p)),
        fixes=opinions,
        fix=[*chosen["fix"], *(text for text in draft.fix if keep(text))],
        verify=[*chosen["verify"], *(text for text in draft.verify if keep(text))],
        mitigate=[*chosen["mitigate"], *(text for text in draft.mitigate if keep(text))],
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


def _plain(name: str) -> str:
    """A number by its value; a name as it is."""
    return f"{int(name, 16):#x}" if name.startswith("0x") else name


def _same_file(path: str, known: str) -> bool:
    return known == path or known.endswith("/" + path) or path.endswith("/" + known)


def _squeeze(text: str) -> str:
    return _BLANKS.sub("", text).lower()
