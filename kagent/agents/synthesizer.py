"""Last node: one `Resolution` out of all that was found, and the same as a chat message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.runtime import Runtime

import kagent
from kagent.agents.answers import Draft
from kagent.agents.experts import advise, missing_data, to_markdown
from kagent.agents.model import endpoint_of
from kagent.agents.node import node
from kagent.agents.state import State
from kagent.agents.toolbox import fix_statuses
from kagent.commits.model import Hit
from kagent.klog.model import Context, Frame, KernelLog, Report
from kagent.resolution import (
    Actions,
    Engine,
    Evidence,
    Finding,
    Fix,
    FixStatus,
    FrameView,
    ReportView,
    Resolution,
    SourcePoint,
    Usage,
)
from kagent.settings import Settings
from kagent.symbols.model import Symbolized

__all__ = ["number_evidence", "report_views", "synthesizer"]

_WORTH_READING = {"source", "commit"}


@node
def synthesizer(state: State, runtime: Runtime[Settings]) -> dict[str, Any]:
    """Compose the resolution; verified words of a model come first, the rules' stay below them."""
    settings, log = runtime.context, state["kernel_log"]
    draft = state.get("draft") or Draft()
    report = log.reports[state["primary"]]
    findings, ledger = number_evidence(state.get("findings", []), state.get("evidence", []))
    fixes = _fixes(state.get("hits", []), draft, settings, report.context)
    advice = advise(report, state.get("fault"), state.get("deadlock"), fixes)
    model = state.get("model") or None
    resolution = Resolution(
        engine=Engine(
            kind="model" if model else "rules",
            model=model,
            endpoint=endpoint_of(settings) if model else None,
            version=kagent.__version__,
        ),
        reports=report_views(log, state["primary"], state.get("symbolized", [])),
        reformatted=state["reformatted"],
        route=state["route"],
        subsystem=state.get("subsystem"),
        summary=draft.summary or state.get("summary") or "",
        explanation="\n\n".join(filter(None, [draft.explanation, state.get("explanation")])),
        fault=state.get("fault"),
        memory=state.get("memory"),
        deadlock=state.get("deadlock"),
        fixes=fixes,
        findings=findings,
        evidence=ledger,
        missing=missing_data(
            log,
            state["primary"],
            state.get("symbolized", []),
            vmlinux=settings.vmlinux is not None,
            modules=settings.modules is not None,
            source=settings.kernel_src is not None,
            index=bool(settings.index),
        ),
        actions=Actions(
            fix=_joined(draft.fix, advice.fix),
            verify=_joined(draft.verify, advice.verify),
            mitigate=_joined(draft.mitigate, advice.mitigate),
        ),
        unverified=state.get("unverified") or [],
        notes=state.get("notes", []),
        incomplete=bool(state.get("failures")),
        failures=state.get("failures", []),
        left_out=state.get("left_out", []),
        usage=state.get("usage") or Usage(),
    )
    message = AIMessage(to_markdown(resolution), name="kagent")
    return {"resolution": resolution, "messages": [message], "log": ""}


def number_evidence(
    findings: Iterable[Finding], ledger: Iterable[Evidence]
) -> tuple[list[Finding], list[Evidence]]:
    """Give evidence its readable numbers, E1 first cited; findings cite the new ids.

    Source and commits stay in the ledger uncited, for the reader; other facts that nothing rests
    on (the frames of idle tasks, say) are left out.
    """
    known = {item.id: item for item in ledger}
    findings = list(findings)
    cited = dict.fromkeys(e for finding in findings for e in finding.evidence if e in known)
    shown = [e for e, item in known.items() if e not in cited and item.kind in _WORTH_READING]
    order = {old: f"E{i}" for i, old in enumerate([*cited, *shown], 1)}
    return (
        [
            f.model_copy(update={"evidence": [order[e] for e in f.evidence if e in order]})
            for f in findings
        ],
        [known[old].model_copy(update={"id": new}) for old, new in order.items()],
    )


def report_views(
    log: KernelLog, primary: int, symbolized: Iterable[Symbolized]
) -> list[ReportView]:
    """Every report of the log with its frames as far as they are decoded."""
    decoded = {item.frame: item for item in symbolized}
    return [_view(report, i == primary, decoded) for i, report in enumerate(log.reports)]


def _view(report: Report, primary: bool, decoded: dict[Frame, Symbolized]) -> ReportView:
    context = report.context
    return ReportView(
        title=report.title,
        alt_titles=list(report.alt_titles),
        kind=report.kind,
        corrupted=report.corrupted,
        corrupted_reason=report.corrupted_reason,
        primary=primary,
        caused_by=report.caused_by,
        span=report.span,
        fingerprint=report.fingerprint,
        kernel=context.kernel,
        arch=context.arch,
        cpu=context.cpu,
        task=context.task,
        pid=context.pid,
        hardware=context.hardware,
        taint=context.taint,
        panicked=report.panicked,
        kernel_bug=report.kernel_bug,
        repeats=report.repeats,
        frames=[_frame(role, frame, decoded.get(frame)) for role, frame in report.all_frames()],
    )


def _frame(role: str, frame: Frame, decoded: Symbolized | None) -> FrameView:
    chain = decoded.chain if decoded else ()
    return FrameView(
        symbol=frame.symbol,
        offset=frame.offset,
        size=frame.size,
        module=frame.module,
        reliable=frame.reliable,
        trace=role,
        function=chain[0].function if chain else None,
        file=chain[0].file if chain else frame.file,
        line=chain[0].line if chain else frame.line,
        inline=[
            SourcePoint(function=c.function, file=c.file, line=c.line, module=frame.module)
            for c in chain
        ],
        note=decoded.note if decoded else None,
    )


def _fixes(hits: Iterable[Hit], draft: Draft, settings: Settings, crashed: Context) -> list[Fix]:
    """The best commits: those a model argued for first, those the kernel had already last."""
    ranked = sorted(hits, key=lambda hit: -hit.score)[: settings.fixes]
    opinions = {opinion.hash: opinion.why for opinion in draft.fixes}
    statuses = fix_statuses(settings, [hit.hash for hit in ranked], crashed)
    fixes = []
    for hit in ranked:
        status = statuses.get(hit.hash, FixStatus())
        fixes.append(
            Fix(
                hash=hit.hash,
                subject=hit.subject,
                author=hit.author,
                date=hit.date,
                score=round(hit.score, 4),
                # What was in the kernel when it crashed did not fix it.
                confidence=min(hit.confidence, 0.01) if status.in_kernel else hit.confidence,
                verdict="doubtful" if status.in_kernel else hit.verdict,
                why=[*([opinions[hit.hash]] if hit.hash in opinions else []), *hit.why],
                status=status,
            )
        )
    return sorted(fixes, key=lambda fix: (fix.status.in_kernel is True, fix.hash not in opinions))


def _joined(first: Iterable[str], then: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*first, *then]))
