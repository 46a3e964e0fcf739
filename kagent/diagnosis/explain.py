"""What happened and why, in plain English."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kagent.diagnosis.families import Case, choose
from kagent.diagnosis.helpers import base_name, is_scaffold
from kagent.diagnosis.stack import (
    Symbols,
    by_frame,
    frame_evidence,
    frame_points,
    log_origin,
    own_point,
    reliable,
)
from kagent.klog.model import Frame, KernelLog, Report
from kagent.resolution import (
    Deadlock,
    Evidence,
    Fault,
    Finding,
    MemoryFacts,
    SourcePoint,
    evidence,
)
from kagent.symbols.model import Symbolized

__all__ = ["Explanation", "explain"]

_TOLD_BY_THE_GRAPH = {"waiting", "lock-rule"}
"""Families whose claim the wait graph has made already, with better evidence."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A sentence, the long form in Markdown, and the rule's findings with their ledger."""

    summary: str
    explanation: str
    findings: tuple[Finding, ...] = ()
    evidence: tuple[Evidence, ...] = ()


def explain(
    log: KernelLog,
    index: int,
    symbolized: Iterable[Symbolized] = (),
    *,
    fault: Fault | None = None,
    memory: MemoryFacts | None = None,
    deadlock: Deadlock | None = None,
) -> Explanation:
    """Explain report number `index` of a log."""
    report = log.reports[index]
    symbols = by_frame(symbolized)
    case = Case(report, fault, memory, deadlock, _blamed(report, symbols))
    name, summary, reasons = choose(case)
    paragraphs = "\n\n".join([*reasons, *_context(report), *_echoes(log, index)])
    if deadlock is not None and name in _TOLD_BY_THE_GRAPH:
        return Explanation(summary, paragraphs)
    if deadlock is not None and (deadlock.cycles or deadlock.culprit or deadlock.victims):
        paragraphs = "\n\n".join(filter(None, [paragraphs, f"Tasks are stuck: {deadlock.reason}"]))
    facts = _facts(case, symbols)
    claim = Finding(
        claim=summary,
        confidence=0.9 if name != "other" else 0.5,
        evidence=[fact.id for fact in facts],
        by=f"rule:{name}",
    )
    return Explanation(summary, paragraphs, (claim,), tuple(facts))


def _blamed(report: Report, symbols: Symbols) -> tuple[Frame, SourcePoint] | None:
    """Where the title says it was; the first function that is no helper where that says nothing.

    A stack that a warning or a panic prints of itself begins with the code that reports, and the
    title's rules know that of each kind of report.
    """
    stack = _stack(report)
    named = next((f for f in reliable(stack) if base_name(f.symbol) == report.frame), None)
    if named is None or is_scaffold(named.symbol):
        return own_point(stack, symbols)
    return own_point([named], symbols) or (named, frame_points(named, symbols)[-1])


def _stack(report: Report) -> list[Frame]:
    frames = list(report.call_frames)
    return frames or [f for t in report.traces for f in t.frames][:64]


def _context(report: Report) -> list[str]:
    notes = []
    if report.panicked:
        notes.append("The kernel panicked after this report.")
    if report.corrupted:
        notes.append(f"The report is damaged: {report.corrupted_reason or 'parts are missing'}.")
    if report.repeats:
        times = "once more" if report.repeats == 1 else f"{report.repeats} more times"
        notes.append(f"The same report came {times}.")
    return notes


def _echoes(log: KernelLog, index: int) -> list[str]:
    """Other reports of the log, told apart as consequences or as separate."""
    echoes = [r.title for r in log.reports if r.caused_by == index]
    notes = []
    if echoes:
        shown = "; ".join(dict.fromkeys(echoes[:8]))
        notes.append(f"Consequences further down in the log: {shown}.")
    others = [r.title for i, r in enumerate(log.reports) if i != index and r.caused_by is None]
    if others:
        notes.append(f"Separate reports in the same log: {'; '.join(dict.fromkeys(others[:8]))}.")
    return notes


def _facts(case: Case, symbols: Symbols) -> list[Evidence]:
    header = evidence("log", case.report.header, log_origin(case.report.span))
    if case.report.oom is not None:
        killed = case.report.message.splitlines()[: len(case.report.oom.victims)]
        spans = [victim.span for victim in case.report.oom.victims]
        lines = zip(killed, spans, strict=False)
        return [header, *(evidence("log", text, log_origin(span)) for text, span in lines)]
    return [header, frame_evidence(case.own[0], symbols)] if case.own else [header]
