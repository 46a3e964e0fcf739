"""The rules' part of an analysis, in the three steps an analyser takes them."""

from __future__ import annotations

from typing import Any

from kagent.agents.experts import (
    crash_query,
    decode_fault,
    explain,
    functions_to_read,
    memory_facts,
    subsystem,
)
from kagent.agents.state import State
from kagent.agents.toolbox import Toolbox, open_toolbox
from kagent.boundary import expert, nothing
from kagent.decoding import symbolize_frames
from kagent.diagnosis import GraphResult, frames_of, shows_blocked_tasks, wait_facts
from kagent.errors import MismatchError
from kagent.klog.model import KernelLog, Report
from kagent.resolution import LeftOut
from kagent.settings import Settings
from kagent.symbols.model import Symbolized
from kagent.symbols.symbolizer import MAX_FRAMES

__all__ = ["conclude", "decode", "look", "primary_report", "symbolize"]

Step = tuple[dict[str, Any], dict[str, Any] | None]


def primary_report(state: State) -> Report:
    """The report under analysis."""
    return state["kernel_log"].reports[state["primary"]]


def look(state: State, settings: Settings) -> Step:
    """Symbolise every frame of the log; ask for the source of the primary report's functions."""
    report = primary_report(state)
    with open_toolbox(settings, report.context) as box:
        known = state.get("symbolized")
        if known is None:
            known, notes, left_out = symbolize(state["kernel_log"], state["primary"], box)
        else:
            notes, left_out = [], []
        facts: dict[str, Any] = {
            "symbolized": known,
            "notes": [*box.notes, *notes],
            "left_out": left_out,
            "subsystem": subsystem(report, known, box.tree) or state.get("subsystem"),
        }
        names = functions_to_read(report, known) if box.source else []
    return facts, {"functions": names} if names else None


def decode(state: State, settings: Settings) -> Step:
    """Decode the faulting instruction and the object; ask for commits that may fix it."""
    report, known = primary_report(state), state["symbolized"]
    facts: dict[str, Any] = {}
    with open_toolbox(settings, report.context) as box:
        fault = decode_fault(report, known, types=box.types, source=box.lines)
        memory = memory_facts(report, known)
        waits = _waits(state, box)
        searchable = box.index is not None
    for key, result in (("fault", fault), ("memory", memory), ("deadlock", waits)):
        if result is not None:
            facts[key] = getattr(result, key)
            facts["evidence"] = [*facts.get("evidence", []), *result.evidence]
            facts["findings"] = [*facts.get("findings", []), *result.findings]
    if waits is not None:
        facts["left_out"] = list(waits.left_out)
    if not searchable:
        return facts, None
    deadlock = state.get("deadlock") or facts.get("deadlock")
    query = crash_query(report, known, facts.get("fault"), deadlock, facts.get("memory"))
    return facts, {
        "question": query.text or query.title,
        "functions": list(query.functions),
        "files": list(query.files),
        "identifiers": list(query.identifiers),
    }


@expert("locks", otherwise=nothing)
def _waits(state: State, box: Toolbox) -> GraphResult | None:
    """Who is stuck because of the crash: tasks that wait for what its victim held.

    The deadlock analyser has answered that already; elsewhere it only counts if somebody waits.
    """
    log = state["kernel_log"]
    if state.get("deadlock") is not None or not shows_blocked_tasks(log):
        return None
    found = wait_facts(log, state["symbolized"], source=box.lines, types=box.types)
    return found if found.deadlock.cycles or found.deadlock.victims else None


def conclude(state: State, _settings: Settings) -> dict[str, Any]:
    """What the rules make of it all."""
    told = explain(
        state["kernel_log"],
        state["primary"],
        state.get("symbolized", []),
        fault=state.get("fault"),
        memory=state.get("memory"),
        deadlock=state.get("deadlock"),
    )
    return {
        "summary": told.summary,
        "explanation": told.explanation,
        "findings": list(told.findings),
        "evidence": list(told.evidence),
    }


def symbolize(
    log: KernelLog, primary: int, box: Toolbox
) -> tuple[list[Symbolized], list[str], list[LeftOut]]:
    """Source lines for every frame of the log, in one pass, the primary report's first.

    Also what could not be used, in words, and how many frames were too many.
    """
    frames = frames_of(log, primary=primary)
    try:
        found = list(symbolize_frames(box.symbolizer, frames))
    except MismatchError as error:
        note = f"debug info was refused: {error}" + (f" ({error.hint})" if error.hint else "")
        return (
            [Symbolized(frame, note="debug info is of another build") for frame in frames],
            [note],
            [],
        )
    notes = [f"debug info: {reason}" for reason in box.symbolizer.mismatches]
    return found, notes, _too_many(box.symbolizer.left_out)


def _too_many(count: int) -> list[LeftOut]:
    if not count:
        return []
    why = "only so many different frames are looked up in debug info"
    return [LeftOut(what="frames", kept=MAX_FRAMES, total=MAX_FRAMES + count, why=why)]
