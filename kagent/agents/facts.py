"""The case as a JSON-able document: what a model gets to see, bounded and fenced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kagent.agents.state import State
from kagent.diagnosis.actions import TEMPLATES
from kagent.klog.frame_model import Frame
from kagent.resolution import Evidence
from kagent.symbols.model import Symbolized
from kagent.text import clip, strip_control

__all__ = ["action_facts", "case_facts", "decoded_frames", "ledger_facts"]

_MAX_TRACE = 8_000
_MAX_EVIDENCE = 60_000
_MAX_ITEM = 4_000
_MAX_FRAMES = 60


def case_facts(state: State) -> dict[str, Any]:
    """Reports, decoded stack, fault, locks, rule findings and the ledger of one case."""
    log, primary = state["kernel_log"], state["primary"]
    report = log.reports[primary]
    fault, memory, deadlock = state.get("fault"), state.get("memory"), state.get("deadlock")
    return {
        "reports": [
            {"title": r.title, "kind": r.kind, "primary": i == primary, "caused_by": r.caused_by}
            for i, r in enumerate(log.reports[:20])
        ],
        "kernel": report.context.kernel,
        "task": report.context.task,
        "call_trace": strip_control(clip(state["reformatted"], _MAX_TRACE)[0]),
        "decoded_stack": decoded_frames(report.call_frames, state.get("symbolized", [])),
        "fault": fault.model_dump(exclude_none=True) if fault else None,
        "memory": memory.model_dump(exclude_none=True) if memory else None,
        "deadlock": deadlock.model_dump(exclude_none=True) if deadlock else None,
        "findings": [f.model_dump() for f in state.get("findings", [])],
        "evidence": ledger_facts(state.get("evidence", [])),
        "actions": action_facts(),
    }


def action_facts() -> list[dict[str, str]]:
    """The actions that a model may choose, and what to fill in."""
    return [
        {"action": name, "does": template.text, "value": template.slot or "none"}
        for name, template in TEMPLATES.items()
        if template.offered
    ]


def decoded_frames(frames: Iterable[Frame], symbolized: Iterable[Symbolized]) -> list[str]:
    """One line a frame: ``symbol+0x1/0x2 = inner at f.c:3 < outer at f.c:9``."""
    chains = {item.frame: item.chain for item in symbolized}
    rows = []
    for frame in list(frames)[:_MAX_FRAMES]:
        where = " < ".join(str(link) for link in chains.get(frame, ()))
        rows.append(f"{'' if frame.reliable else '? '}{frame}{' = ' + where if where else ''}")
    return rows


def ledger_facts(ledger: Iterable[Evidence]) -> list[dict[str, Any]]:
    """Evidence until the budget is spent; what is cut says so."""
    rows, left = [], _MAX_EVIDENCE
    for item in ledger:
        content, cut = clip(strip_control(item.content), min(_MAX_ITEM, max(left, 0)))
        if not content:
            break
        left -= len(content)
        row = {
            "id": item.id,
            "kind": item.kind,
            "author": item.author,
            "origin": item.origin,
            "content": content,
        }
        rows.append({**row, "truncated": True} if cut else row)
    return rows
