"""Second node: which analyser, and whose code it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from kagent.agents.node import node
from kagent.agents.state import Route, State
from kagent.diagnosis import classify as classify_report
from kagent.resolution import LeftOut, Subsystem
from kagent.settings import Settings

__all__ = ["classify", "force"]

Destination = Command[Literal["general_analyzer", "split_tasks"]]


@node
def classify(state: State, _runtime: Runtime[Settings]) -> Destination:
    """Route the primary report by what the kernel says it is."""
    return _send(state, None)


def force(route: Route) -> Callable[[State, Runtime[Settings]], Destination]:
    """A classify node that always takes `route` (the single-analyser graphs)."""

    @node
    def classify(state: State, _runtime: Runtime[Settings]) -> Destination:
        return _send(state, route)

    return classify


def _send(state: State, forced: Route | None) -> Destination:
    verdict = classify_report(state["kernel_log"], state["primary"])
    route: Route = forced or verdict.route
    update: dict[str, Any] = {
        "route": route,
        "route_reason": verdict.reason,
        "left_out": [LeftOut(**asdict(item)) for item in state["kernel_log"].left_out],
    }
    if verdict.subsystem:
        update["subsystem"] = Subsystem(name=verdict.subsystem)
    return Command(goto="split_tasks" if route == "deadlock" else "general_analyzer", update=update)
