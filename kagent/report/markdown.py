"""The Error Resolution Summary as Markdown that GitHub, GitLab and Bugzilla show alike.

Text is escaped for where it stands: prose by backslashes, values from the log and words that a
forge would act on in code spans, and listings in fences longer than any run of backticks they
contain (CommonMark 0.31, 2.4, 4.5, 6.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from kagent.report.decoded import Code, Stack
from kagent.report.facts import Fact, authorship
from kagent.report.inert import pieces
from kagent.report.prose import Block, Span
from kagent.report.summary import FixEntry, Summary, WaitRow, summarise
from kagent.resolution import Evidence, Resolution

__all__ = ["to_markdown"]

_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])|!$")
_BLOCK_START = re.compile(r"^(?:[#+=-]|(\d{1,9})(?=[.)]))")
_TICKS = re.compile(r"`+")
_QUICK_ACTION = re.compile(r"^/", re.MULTILINE)
_FENCE_TICKS = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


def to_markdown(res: Resolution) -> str:
    """Render `res`; evidence references link to the ledger at the end."""
    summary = summarise(res)
    known = {item.id for item in summary.evidence}
    return "\n".join(_Writer(known).document(summary)).rstrip("\n") + "\n"


def _escape(text: str) -> str:
    """Prose: what has a meaning in Markdown by backslashes, what a forge acts on as code."""
    return _joined((active, piece) for active, piece in pieces(text))


def _joined(parts: Iterable[tuple[bool, str]]) -> str:
    """Prose and code, one after the other; code beside code is one span."""
    out: list[str] = []
    for is_code, run in groupby(parts, key=itemgetter(0)):
        text = "".join(piece for _, piece in run)
        out.append(_code(text) if is_code else _escape_prose(text, first=not out))
    return "".join(out)


def _parts(span: Span) -> Iterable[tuple[bool, str]]:
    return [(True, span.text)] if span.style == "code" else pieces(span.text)


def _escape_prose(text: str, *, first: bool) -> str:
    text = _SPECIAL.sub(lambda m: "\\" + m[0], text)
    if not first:
        return text
    return _BLOCK_START.sub(lambda m: f"{m[1]}\\" if m[1] else "\\" + m[0], text)


def _strong(text: str) -> str:
    return f"**{_escape(text)}**" if text.strip() else ""


def _code(text: str) -> str:
    """A code span; blanks pad a text that starts or ends with a backtick."""
    if not text:
        return ""
    ticks = "`" * (max(map(len, _TICKS.findall(text)), default=0) + 1)
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _fence(text: str, language: str = "") -> list[str]:
    """A listing; as much indentation as the fence has is no part of it (CommonMark 4.5).

    GitLab looks for quick actions (``/close``) at the start of raw lines, and knows only the
    plainest fences: no line of a listing may start with one.
    """
    longest = max(map(len, _FENCE_TICKS.findall(text)), default=0)
    ticks = "`" * max(3, longest + 1)
    indent = " " if _QUICK_ACTION.search(text) else ""
    rows = [f"{ticks}{language}", *text.split("\n"), ticks]
    return [*(indent + row for row in rows), ""]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]


def _cell(text: str) -> str:
    r"""A code span in a table: GFM reads ``\|`` there, and only there, as a bar."""
    return _code(text).replace("|", "\\|")


class _Writer:
    """Writes the parts in order; `known` are the evidence ids that the ledger holds."""

    def __init__(self, known: set[str]) -> None:
        self._known = known

    def document(self, summary: Summary) -> Iterator[str]:
        yield f"# {_escape(summary.title)}"
        yield ""
        yield from self._shortcomings(summary)
        yield _escape(summary.subtitle)
        yield ""
        if summary.lead:
            yield self._spans(summary.lead)
            yield ""
        yield from self._facts(summary.facts)
        parts: list[tuple[str, Callable[[Summary], Iterator[str]]]] = [
            ("1. Issue identification and reformatted trace", self._identification),
            ("2. Decoded stack and faulting code", self._decoded),
            ("3. Fixes found", self._fixes),
            ("4. Bug comprehension", self._comprehension),
            ("5. Solution", self._solution),
            ("What is missing", self._missing),
            ("Evidence", self._ledger),
            ("Engine", self._colophon),
        ]
        for title, part in parts:
            yield f"## {title}"
            yield ""
            yield from part(summary)

    def _shortcomings(self, summary: Summary) -> Iterator[str]:
        """What the reader must know before anything else: this is not all there is."""
        if summary.incomplete:
            yield f"**{_escape(summary.incomplete)}**"
            yield ""
            yield from self._list(
                f"{_code(failure.part)}: {_code(failure.error)}" for failure in summary.failures
            )
        if summary.left_out:
            yield from ("**Left out**", "")
            yield from self._list(map(_escape, summary.left_out))

    def _identification(self, summary: Summary) -> Iterator[str]:
        yield summary.found
        yield ""
        if summary.reports:
            rows = (
                (
                    f"**{r.number}**" if r.primary else str(r.number),
                    _cell(r.title),
                    _cell(r.kind),
                    _escape(r.notes),
                )
                for r in summary.reports
            )
            yield from _table(("#", "Report", "Kind", "Notes"), rows)
        if summary.reformatted:
            yield from _fence(summary.reformatted, "text")

    def _decoded(self, summary: Summary) -> Iterator[str]:
        yield from self._facts(summary.fault)
        if summary.code:
            yield from self._source(summary.code)
        for stack in summary.stacks:
            yield from self._stack(stack)
        if summary.memory:
            yield from ("### Memory", "")
            yield from self._facts(summary.memory)
        if summary.verdict:
            yield from ("### Locks", "")
            yield from self._facts(summary.verdict)
            if summary.mermaid:
                yield from _fence(summary.mermaid, "mermaid")
            for number, cycle in enumerate(summary.cycles, 1):
                yield from self._waits(f"Cycle {number}", cycle)
                yield from _fence("\n".join(summary.columns[number - 1]), "text")
            yield from self._waits(summary.victims_title, summary.victims)

    def _source(self, code: Code) -> Iterator[str]:
        yield f"Source: {_code(code.origin)}"
        yield ""
        rows = code.numbered()
        width = len(str(rows[-1][0]))
        text = "\n".join(f"{'>' if mark else ' '}{n:>{width}}  {row}" for n, row, mark in rows)
        yield from _fence(text, "c")

    def _stack(self, stack: Stack) -> Iterator[str]:
        yield _strong(stack.title)
        yield ""
        marks = {"fault": "→ ", "own": "⇢ ", "": "  "}
        texts = [
            f"{marks[line.mark]}{'  ' * line.inlined}{line.text}{' (inlined)' * line.inlined}"
            for line in stack.lines
        ]
        width = max(map(len, texts), default=0)
        rows = [
            f"{text:<{width}}  {line.where}{f'  ({line.note})' if line.note else ''}".rstrip()
            for text, line in zip(texts, stack.lines, strict=True)
        ]
        rows += [f"  … {words}" for words in stack.remarks]
        yield from _fence("\n".join(rows), "text")

    def _waits(self, title: str, rows: Sequence[WaitRow]) -> Iterator[str]:
        if not rows:
            return
        yield f"**{title}**"
        yield ""
        cells = ([_cell(c) for c in (r.task, r.holds, r.waits_for, r.where)] for r in rows)
        yield from _table(("Task", "Holds", "Waits for", "Where"), cells)

    def _fixes(self, summary: Summary) -> Iterator[str]:
        if summary.fixes_note:
            yield from (summary.fixes_note, "")
        for number, fix in enumerate(summary.fixes, 1):
            yield from self._fix(number, fix)

    def _fix(self, number: int, fix: FixEntry) -> Iterator[str]:
        yield f"{number}. {_strong(fix.subject) or _code(fix.hash)}"
        yield ""
        yield f"   - Commit: {_code(fix.hash)} by {_code(fix.by)}"
        yield f"   - Confidence: {fix.confidence}"
        yield f"   - Status: {_escape(fix.status)}"
        yield from (f"   - Why: {self._spans(why)}" for why in fix.why)
        yield ""

    def _comprehension(self, summary: Summary) -> Iterator[str]:
        for block in summary.explanation:
            yield from self._block(block)
        if not summary.explanation and not summary.findings:
            yield from ("Nothing could be concluded from the evidence at hand.", "")
        yield from self._list(f"{self._spans(c)} ({_escape(by)})" for c, by in summary.findings)
        if summary.unverified:
            yield from ("**Rejected by verification**", "")
            yield from self._list(map(self._spans, summary.unverified))

    def _solution(self, summary: Summary) -> Iterator[str]:
        if not summary.actions:
            yield from ("No action can be recommended from the evidence at hand.", "")
        for heading, steps in summary.actions:
            yield from (f"**{heading}**", "")
            yield from self._list(map(self._spans, steps))

    def _missing(self, summary: Summary) -> Iterator[str]:
        if not summary.missing:
            yield from ("Nothing that was looked for is missing.", "")
        yield from self._list(
            f"{self._spans(what)}: {self._spans(how)}" if how else self._spans(what)
            for what, how in summary.missing
        )

    def _ledger(self, summary: Summary) -> Iterator[str]:
        if not summary.evidence:
            yield from ("The ledger is empty.", "")
        for item in summary.evidence:
            yield from self._evidence(item)

    def _evidence(self, item: Evidence) -> Iterator[str]:
        yield f"### {_escape(item.id)}"
        yield ""
        origin = _code(" ".join(item.origin.split()))
        yield f"{item.kind}, from {origin}{authorship(item)}"
        yield ""
        yield from _fence(item.content)

    def _colophon(self, summary: Summary) -> Iterator[str]:
        yield from self._facts(summary.engine)
        yield from self._list(map(self._spans, summary.notes))
        for failure in summary.failures:
            if failure.trace:
                yield f"Where {_code(failure.part)} failed, for a bug report:"
                yield ""
                yield from _fence("\n".join(failure.trace), "text")

    def _facts(self, facts: Sequence[Fact]) -> Iterator[str]:
        return self._list(f"{label}: {_code(value)}" for label, value in facts)

    def _list(self, items: Iterable[str]) -> Iterator[str]:
        lines = [f"- {item}" for item in items]
        return iter([*lines, ""] if lines else [])

    def _spans(self, spans: Sequence[Span]) -> str:
        out = []
        for is_plain, run in groupby(spans, key=lambda span: span.style in ("text", "code")):
            if is_plain:
                out.append(_joined(part for span in run for part in _parts(span)))
            else:
                out += map(self._styled, run)
        return "".join(out).strip()

    def _styled(self, span: Span) -> str:
        if span.style == "ref":
            name = f"\\[{span.text}\\]"
            return f"[{name}](#{span.text.lower()})" if span.text in self._known else name
        if not span.text.strip():
            return span.text
        return _strong(span.text) if span.style == "strong" else f"*{_escape(span.text)}*"

    def _block(self, block: Block) -> Iterator[str]:
        match block.kind:
            case "code":
                yield from _fence(block.code)
            case "heading":
                yield from (f"### {self._spans(block.spans)}", "")
            case "paragraph":
                yield from (self._spans(block.spans), "")
            case "item":
                indent = "   " * block.depth
                yield f"{indent}{block.marker or ' '} {self._spans(block.spans)}"
                yield ""
