"""What every node shares: its run time is measured, it always has settings, and it cannot end the
run: a node that fails as a whole costs what it would have found.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.runtime import Runtime
from langgraph.types import Command, Overwrite

import kagent
from kagent.agents.calls import answered
from kagent.boundary import attempt, collecting, record, unexpected
from kagent.errors import InputError
from kagent.resolution import Engine, Failure, Fix, ReportView, Resolution, Usage
from kagent.settings import Settings

__all__ = ["abounded_tool", "bounded_tool", "node"]

_SIGNATURE = inspect.Signature(
    [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("state", "runtime")]
)
Node = TypeVar("Node", bound=Callable[..., Any])


def node(function: Node) -> Node:
    """Add the seconds a node took to the state's usage; default the context to `Settings()`."""

    @functools.wraps(function)
    def timed(state: Any, runtime: Runtime[Settings]) -> Any:
        started = time.perf_counter()
        if cast(Settings | None, runtime.context) is None:
            runtime = replace(runtime, context=Settings())
        update = _bounded(function, state, runtime)
        spent = Usage(seconds={function.__name__: round(time.perf_counter() - started, 4)})
        if isinstance(update, Command):
            changes = dict(update.update or {})
            return replace(update, update=_with_usage(changes, spent))
        return _with_usage(dict(update), spent)

    # LangGraph hands the runtime over by this name, whatever the node calls it.
    timed.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
    return cast(Node, timed)


def _with_usage(update: dict[str, Any], spent: Usage) -> dict[str, Any]:
    from kagent.agents.state import add_usage

    used = update.get("usage")
    if isinstance(used, Overwrite):  # a new case starts from nothing
        return {**update, "usage": Overwrite(add_usage(used.value, spent))}
    return {**update, "usage": add_usage(used, spent)}


# The outer boundary ------------------------------------------------------------------------------

_ONWARD: dict[str, tuple[str | None, dict[str, Any]]] = {
    "reformat": ("synthesizer", {}),
    "classify": ("general_analyzer", {"route": "general", "route_reason": "not known"}),
    "general_analyzer": ("verify", {}),
    # Not to the wait-for graph: one of no tasks would say that nobody waits.
    "split_tasks": ("deadlock_synthesis", {}),
    "deadlock_synthesis": ("verify", {}),
    # What was not checked is not said.
    "verify": (None, {"draft": None, "model": ""}),
}
"""Where the case goes on when a node failed as a whole; the other nodes have one way out."""


def _bounded(function: Callable[..., Any], state: Any, runtime: Runtime[Settings]) -> Any:
    """The node's update; what failed in it is filed with the rest."""
    name = function.__name__
    # A log that is too large is refused before anything is read.
    passing = (GraphBubbleUp, InputError) if name == "reformat" else (GraphBubbleUp,)
    with collecting() as failures:
        update = attempt(
            f"{name} node",
            lambda: function(state, runtime),
            lambda: _fallback(name, state),
            passing=passing,
        )
    if name != "reformat":  # a case of its own
        failures = _unknown(failures, state)
    if not failures:
        return update
    if isinstance(update, Command):
        changes = _with_failures(dict(update.update or {}), failures)
        # Reports that could not be read are not the same as none.
        nothing_read = name == "reformat" and update.goto == "__end__"
        return replace(update, update=changes, goto="synthesizer" if nothing_read else update.goto)
    return _with_failures(dict(update), failures)


def _fallback(name: str, state: Any) -> Any:
    if name == "synthesizer":
        return {"resolution": _bare(state), "log": ""}
    goto, update = _ONWARD.get(name, (None, {}))
    if name != "reformat" and state.get("symbolized") is None:
        update = {**update, "symbolized": []}
    return update if goto is None else Command(goto=goto, update=update)


def _bare(state: Any) -> Resolution:
    """What was found, without anything that is made of it."""
    log, model = state.get("kernel_log"), state.get("model") or None
    found: dict[str, Any] = {
        key: value for key in _AS_FOUND if (value := state.get(key)) is not None
    }
    return Resolution(
        engine=Engine(kind="model" if model else "rules", model=model, version=kagent.__version__),
        reports=[
            ReportView(title=one.title, kind=one.kind, span=one.span, primary=at == log.primary)
            for at, one in enumerate(log.reports if log else ())
        ],
        fixes=[
            Fix(
                hash=hit.hash,
                subject=hit.subject,
                author=hit.author,
                date=hit.date,
                score=hit.score,
                confidence=hit.confidence,
                verdict=hit.verdict,
                why=list(hit.why),
            )
            for hit in state.get("hits") or ()
        ],
        **found,
    )


_AS_FOUND = (
    "reformatted",
    "route",
    "subsystem",
    "summary",
    "explanation",
    "fault",
    "memory",
    "deadlock",
    "findings",
    "evidence",
    "notes",
    "unverified",
    "failures",
    "left_out",
    "usage",
)


def _unknown(failures: list[Failure], state: Any) -> list[Failure]:
    """Those that no earlier node told: each opens the same files again."""
    told = {(one.part, one.error) for one in state.get("failures") or ()}
    return [one for one in failures if (one.part, one.error) not in told]


def _with_failures(update: dict[str, Any], failures: list[Failure]) -> dict[str, Any]:
    resolution = update.get("resolution")
    if isinstance(resolution, Resolution):
        known = [*resolution.failures, *failures]
        changes = {"failures": known, "incomplete": True}
        update = {**update, "resolution": resolution.model_copy(update=changes)}
    before = update.get("failures")
    if isinstance(before, Overwrite):
        return {**update, "failures": Overwrite([*before.value, *failures])}
    return {**update, "failures": [*(before or []), *failures]}


# Tools: they are no nodes of their own, and run in threads.


def bounded_tool(request: ToolCallRequest, execute: Callable[[ToolCallRequest], Any]) -> Any:
    """Run a tool; one that fails says so to whoever called it."""
    with collecting() as failures:
        answer = attempt(
            request.tool_call["name"],
            lambda: answered(request) or execute(request),
            lambda: _refusal(request),
            passing=(GraphBubbleUp,),
        )
    return _filed(answer, failures, request)


async def abounded_tool(
    request: ToolCallRequest, execute: Callable[[ToolCallRequest], Awaitable[Any]]
) -> Any:
    """`bounded_tool` for a graph that runs asynchronously."""
    with collecting() as failures:
        try:
            answer = answered(request) or await execute(request)
        except GraphBubbleUp:
            raise
        except BaseException as error:
            if not unexpected(error):
                raise
            record(request.tool_call["name"], error)
            answer = _refusal(request)
    return _filed(answer, failures, request)


def _refusal(request: ToolCallRequest) -> Any:
    from langchain_core.messages import ToolMessage

    call = request.tool_call
    message = ToolMessage(f"{call['name']} failed.", tool_call_id=call["id"], status="error")
    return Command(update={"scratch": [message]})


def _filed(answer: Any, failures: list[Failure], request: ToolCallRequest) -> Any:
    failures = _unknown(failures, request.state)
    if not failures or not isinstance(answer, Command):
        return answer
    return replace(answer, update=_with_failures(dict(answer.update or {}), failures))
