"""What a sanitizer proved about an object: who allocated it, freed it, and touched it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kagent.diagnosis.stack import Symbols, by_frame, frame_evidence, log_origin, own_point
from kagent.klog.model import Report, Trace
from kagent.resolution import Evidence, Finding, MemoryEvent, MemoryFacts, evidence
from kagent.symbols.model import Symbolized

__all__ = ["MemoryResult", "memory_facts", "slub_finding"]

_SLUB = re.compile(r"BUG \S{1,64} \(.{0,80}\): (Object already free|Invalid object pointer)?")


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """Facts about the object with the ledger they rest on."""

    memory: MemoryFacts
    evidence: tuple[Evidence, ...] = ()
    findings: tuple[Finding, ...] = ()


def memory_facts(report: Report, symbolized: Iterable[Symbolized] = ()) -> MemoryResult | None:
    """Read a sanitizer report; None for reports that describe no object."""
    symbols = by_frame(symbolized)
    alloc, freed = report.trace("alloc"), report.trace("free")
    if report.memory is None and alloc is None and freed is None:
        return None
    ledger: list[Evidence] = []
    memory = report.memory
    if memory and memory.description:
        ledger.append(evidence("memory", memory.description, log_origin(report.span)))
    facts = MemoryFacts(
        object=memory.description or None if memory else None,
        cache=memory.cache if memory else None,
        size=memory.size if memory else None,
        offset=memory.offset if memory else None,
        access=_access(report, symbols, ledger),
        alloc=_event(report, alloc, symbols, ledger),
        free=_event(report, freed, symbols, ledger),
    )
    return MemoryResult(facts, tuple(ledger), tuple(_findings(report, facts, ledger)))


def slub_finding(report: Report) -> Literal["bad free", "damage", None]:
    """What slub's own checks found: a bad ``kfree()`` at once, or damage done some time before.

    mm/slub.c: free_consistency_checks() reports on the stack of the one who frees; poison and
    red zones are looked at by whoever allocates or frees next.
    """
    found = _SLUB.match(report.header)
    if found is None:
        return None
    return "bad free" if found[1] else "damage"


def _access(report: Report, symbols: Symbols, ledger: list[Evidence]) -> MemoryEvent | None:
    if slub_finding(report) == "damage" or report.kind == "KFENCE-MEMORY-CORRUPTION":
        return None  # found by a check; who wrote there did so before
    trace = report.trace("call")
    found = own_point(report.call_frames, symbols) if trace or report.pc else None
    if found is None:
        return None
    frame, point = found
    ledger.append(frame_evidence(frame, symbols))
    access = report.access
    task = (access.task if access else None) or report.context.task
    pid = access.pid if access and access.pid is not None else report.context.pid
    return MemoryEvent(**point.model_dump(), task=task, pid=pid)


def _event(
    report: Report, trace: Trace | None, symbols: Symbols, ledger: list[Evidence]
) -> MemoryEvent | None:
    if trace is None:
        return None
    found = own_point(trace.frames, symbols)
    if found is None:
        return None
    frame, point = found
    ledger.append(frame_evidence(frame, symbols))
    task, own = trace.task, report.context
    if task is None and trace.pid is not None and trace.pid == own.pid:
        task = own.task
    return MemoryEvent(**point.model_dump(), task=task, pid=trace.pid)


def _findings(report: Report, facts: MemoryFacts, ledger: list[Evidence]) -> Iterable[Finding]:
    ids = [fact.id for fact in ledger]
    size = f"{facts.size}-byte object" if facts.size else "object"
    cache = f" of cache {facts.cache}" if facts.cache else ""
    parts = []
    if facts.alloc:
        parts.append(f"allocated in {_where(facts.alloc)}")
    if facts.free:
        parts.append(f"freed in {_where(facts.free)}")
    if facts.access:
        kind = report.access.kind if report.access and report.access.kind else "touch"
        verb = {"read": "read", "write": "written", "free": "freed"}.get(kind, "touched")
        parts.append(f"then {verb} in {_where(facts.access)}" if parts else f"{verb} in "
                     f"{_where(facts.access)}")  # fmt: skip
    if parts:
        claim = f"The {size}{cache} was {', '.join(parts)}."
        yield Finding(claim=claim, confidence=0.95, evidence=ids, by="rule:memory")


def _where(event: MemoryEvent) -> str:
    place = f"{event.function}()" + (f" at {event.file}:{event.line}" if event.line else "")
    return f"{place} by {event.task}/{event.pid}" if event.task else place
