"""The Error Resolution Summary as plain values in reading order, shared by every view.

`summarise` makes the whole resolution fit to be seen once (`kagent.text`); after that each view
only has to escape for its own syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kagent.report.decoded import Code, Stack, fault_code, stacks
from kagent.report.facts import (
    Fact,
    context_facts,
    deadlock_facts,
    engine_facts,
    fault_facts,
    fix_status,
    memory_facts,
    percent,
    place,
    task_name,
)
from kagent.report.picture import Picture, draw
from kagent.report.prose import Block, Span, inline, one_line, parse_markdown
from kagent.report.waits import interleaving, mermaid, wait_tree
from kagent.resolution import (
    NO_INDEX,
    CycleMember,
    Deadlock,
    Evidence,
    Fix,
    LeftOut,
    ReportView,
    Resolution,
    Victim,
)
from kagent.text import strip_values

__all__ = ["FailureEntry", "FixEntry", "ReportRow", "Summary", "WaitRow", "summarise"]


_ROWS = 100
"""Rows of the table of reports: more than anybody reads, fewer than hide the rest."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One report of the log."""

    number: int
    title: str
    kind: str
    primary: bool
    notes: str


@dataclass(frozen=True, slots=True)
class WaitRow:
    """A task that waits."""

    task: str
    holds: str
    waits_for: str
    where: str


@dataclass(frozen=True, slots=True)
class FixEntry:
    """A candidate fix."""

    hash: str
    subject: str
    by: str
    confidence: str
    status: str
    why: tuple[tuple[Span, ...], ...]


@dataclass(frozen=True, slots=True)
class FailureEntry:
    """A part that failed."""

    part: str
    error: str
    trace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """All five parts, the ledger and the colophon."""

    title: str
    subtitle: str
    # 0: what is to be known first
    incomplete: str
    """That something failed, in words; empty where nothing did."""
    failures: tuple[FailureEntry, ...]
    left_out: tuple[str, ...]
    """What was too much, how much of it was kept, and why."""
    facts: tuple[Fact, ...]
    lead: tuple[Span, ...]
    # 1: identification
    found: str
    reports: tuple[ReportRow, ...]
    reformatted: str
    # 2: decoded stack and faulting code
    fault: tuple[Fact, ...]
    code: Code | None
    stacks: tuple[Stack, ...]
    memory: tuple[Fact, ...]
    verdict: tuple[Fact, ...]
    cycles: tuple[tuple[WaitRow, ...], ...]
    victims: tuple[WaitRow, ...]
    victims_title: str
    columns: tuple[tuple[str, ...], ...]
    """How each cycle comes about, line by line."""
    tree: tuple[str, ...]
    mermaid: str
    picture: Picture | None
    # 3: fixes
    fixes: tuple[FixEntry, ...]
    fixes_note: str
    """What to think of them as a whole; empty where nothing needs saying."""
    # 4: comprehension
    explanation: tuple[Block, ...]
    findings: tuple[tuple[tuple[Span, ...], str], ...]
    """(claim with its references, who says so and how sure)."""
    # 5: what to do
    actions: tuple[tuple[str, tuple[tuple[Span, ...], ...]], ...]
    """(heading, steps)."""
    missing: tuple[tuple[tuple[Span, ...], tuple[Span, ...]], ...]
    """(what, how to get it)."""
    evidence: tuple[Evidence, ...]
    cited: frozenset[str]
    """Ids of the ledger that the text above refers to."""
    unverified: tuple[tuple[Span, ...], ...]
    notes: tuple[tuple[Span, ...], ...]
    engine: tuple[Fact, ...]


def summarise(res: Resolution) -> Summary:
    """Arrange `res` for reading; its text holds no control character but tab and newline."""
    res = Resolution.model_validate(strip_values(res.model_dump()))
    primary = res.primary
    lead, explanation = inline(res.summary), parse_markdown(res.explanation)
    findings = tuple(
        (inline(_cited(f.claim, f.evidence)), f"{percent(f.confidence)}, {one_line(f.by)}")
        for f in res.findings
    )
    prose = (lead, *(block.spans for block in explanation), *(claim for claim, _ in findings))
    return Summary(
        title=one_line(primary.title) if primary else "No kernel report",
        subtitle=_subtitle(res),
        incomplete=_incomplete(res),
        failures=tuple(
            FailureEntry(one_line(f.part), one_line(f.error), tuple(map(one_line, f.trace)))
            for f in res.failures
        ),
        left_out=tuple(map(_left_out, res.left_out)),
        facts=tuple(context_facts(primary)) if primary else (),
        lead=lead,
        found=_found(res.reports),
        reports=_report_rows(res.reports),
        reformatted=res.reformatted.strip("\n"),
        fault=tuple(fault_facts(res.fault)) if res.fault else (),
        code=fault_code(res),
        stacks=tuple(stacks(primary.frames, res.fault)) if primary else (),
        memory=tuple(memory_facts(res.memory)) if res.memory else (),
        verdict=tuple(deadlock_facts(res.deadlock)) if res.deadlock else (),
        cycles=tuple(tuple(map(_wait_row, c)) for c in res.deadlock.cycles) if res.deadlock else (),
        victims=tuple(map(_wait_row, res.deadlock.victims)) if res.deadlock else (),
        victims_title="Only queued behind it" if _heads(res.deadlock) else "Waiting",
        columns=tuple(tuple(interleaving(c)) for c in res.deadlock.cycles) if res.deadlock else (),
        tree=tuple(wait_tree(res.deadlock)) if res.deadlock else (),
        mermaid=mermaid(res.deadlock) if res.deadlock else "",
        picture=draw(res.deadlock) if res.deadlock else None,
        fixes=tuple(map(_fix_entry, res.fixes)),
        fixes_note=_fixes_note(res),
        explanation=explanation,
        findings=findings,
        actions=tuple(
            (heading, tuple(map(inline, steps)))
            for heading, steps in (
                ("Patch or upgrade", res.actions.fix),
                ("Verify", res.actions.verify),
                ("If you cannot patch", res.actions.mitigate),
            )
            if steps
        ),
        missing=tuple((inline(m.what), inline(m.how)) for m in res.missing),
        evidence=tuple(res.evidence),
        cited=frozenset(s.text for spans in prose for s in spans if s.style == "ref"),
        unverified=tuple(map(inline, res.unverified)),
        notes=tuple(map(inline, res.notes)),
        engine=tuple(engine_facts(res)),
    )


def _incomplete(res: Resolution) -> str:
    failed = len(res.failures)
    if not failed:
        return "Incomplete: not all that was asked for was done; the notes say what." * (
            res.incomplete
        )
    parts = "1 part" if failed == 1 else f"{failed} parts"
    return f"Incomplete: {parts} of the analysis failed; what the others found stands."


def _left_out(left: LeftOut) -> str:
    total = "an unknown number" if left.total is None else str(left.total)
    return one_line(f"{left.what}: {left.kept} of {total} kept ({left.why})")


def _cited(claim: str, ids: Iterable[str]) -> str:
    absent = [one for one in ids if not re.search(rf"\b{re.escape(one)}\b", claim)]
    return f"{claim} [{', '.join(absent)}]" if absent else claim


def _subtitle(res: Resolution) -> str:
    primary = res.primary
    parts = [primary.kind if primary else "", f"{res.route} analysis"]
    if res.subsystem:
        parts.append(res.subsystem.name)
    return " · ".join(one_line(part) for part in parts if part)


def _found(reports: list[ReportView]) -> str:
    if not reports:
        return "No kernel report was found in the log."
    if len(reports) == 1:
        return "Found 1 kernel report in the log."
    first = next((i for i, r in enumerate(reports, 1) if r.primary), None)
    text = f"Found {len(reports)} kernel reports in the log"
    text += f"; number {first} is the primary one." if first else "."
    if len(reports) > _ROWS:
        text += f" The first {_ROWS} are listed here, all of them in JSON."
    return text


def _report_rows(reports: list[ReportView]) -> tuple[ReportRow, ...]:
    """The table of reports; of a flood its beginning, and the primary one wherever it stands."""
    return tuple(
        _report_row(number, report)
        for number, report in enumerate(reports, 1)
        if number <= _ROWS or report.primary
    )


def _report_row(number: int, report: ReportView) -> ReportRow:
    notes = [f"bytes {report.span[0]}–{report.span[1]}"]
    if report.caused_by is not None:
        notes.append(f"consequence of {report.caused_by + 1}")
    if report.repeats:
        notes.append(f"repeated {report.repeats}×")
    if report.corrupted:
        notes.append("damaged")
    if not report.kernel_bug:
        notes.append("not a kernel bug")
    return ReportRow(
        number, one_line(report.title), one_line(report.kind), report.primary, ", ".join(notes)
    )


def _heads(deadlock: Deadlock | None) -> bool:
    """Whether there is something that victims queue behind."""
    return bool(deadlock and (deadlock.cycles or deadlock.culprit))


def _wait_row(waiter: CycleMember | Victim) -> WaitRow:
    holds, kind, mark = "", "", ""
    if isinstance(waiter, CycleMember):
        owes = [f"owes {waiter.owes}"] if waiter.owes else []
        holds = one_line(", ".join([*waiter.holds, *owes]))
        kind = f" ({waiter.lock_type})" if waiter.lock_type else ""
        mark = " (inferred)" if waiter.inferred else ""
    waits = one_line(waiter.waits_for + kind) if waiter.waits_for else ""
    return WaitRow(task_name(waiter.task, waiter.pid), holds, waits + mark, place(waiter.where))


def _fixes_note(res: Resolution) -> str:
    if not res.fixes:
        searched = all(item.what != NO_INDEX for item in res.missing)
        return "No candidate fix was found." if searched else "No commit index was given to search."
    verdicts = [fix.verdict for fix in res.fixes]
    if all(verdict == "doubtful" for verdict in verdicts):
        return "No commit here looks like the fix. The nearest:"
    return ""


def _fix_entry(fix: Fix) -> FixEntry:
    return FixEntry(
        hash=one_line(fix.hash),
        subject=one_line(fix.subject),
        by=one_line(f"{fix.author}, {fix.date[:10]}"),
        confidence=percent(fix.confidence),
        status=fix_status(fix.status),
        why=tuple(map(inline, fix.why)),
    )
