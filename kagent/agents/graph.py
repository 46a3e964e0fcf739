"""The wiring of the state machine, readable at a glance.

::

    START → reformat → classify ─┬→ general_analyzer ⇄ tools ────────────────────┐
                                 └→ split_tasks ─Send→ task_analyzer × n         │
                                      → wait_graph → deadlock_synthesis ⇄ tools ─┤
                                               END ← synthesizer ← verify ←──────┘
"""

from __future__ import annotations

from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Checkpointer

from kagent.agents.classify import classify, force
from kagent.agents.compiled import Graph
from kagent.agents.deadlock import deadlock_synthesis, split_tasks, task_analyzer, wait_graph
from kagent.agents.general import general_analyzer
from kagent.agents.node import abounded_tool, bounded_tool
from kagent.agents.reformat import reformat
from kagent.agents.request import Request
from kagent.agents.state import InputState, OutputState, Route, State
from kagent.agents.synthesizer import synthesizer
from kagent.agents.tools import TOOLS
from kagent.agents.verify import verify
from kagent.settings import Settings

__all__ = ["build_graph"]

_MAX_STEPS = 250
_MAX_CONCURRENCY = 32


def build_graph(
    *,
    route: Route | None = None,
    checkpointer: Checkpointer = None,
    settings: Settings | None = None,
) -> Graph:
    """Compile the graph.

    Args:
        route: ``"general"`` or ``"deadlock"`` sends every report to that analyser; None classifies.
        checkpointer: A LangGraph checkpointer for threads that outlive a call; None keeps nothing.
        settings: What runs may use that bring no `Settings` of their own, and what the fields of
            `Request` choose from; None reads the environment at every run.
    """
    graph = StateGraph(
        State, context_schema=Request, input_schema=InputState, output_schema=OutputState
    )
    nodes: dict[str, Any] = {
        "reformat": reformat,
        "classify": force(route) if route else classify,
        "general_analyzer": general_analyzer,
        "tools": _tool_node("tools"),
        "split_tasks": split_tasks,
        "task_analyzer": task_analyzer,
        "wait_graph": wait_graph,
        "deadlock_synthesis": deadlock_synthesis,
        "deadlock_tools": _tool_node("deadlock_tools"),
        "verify": verify,
        "synthesizer": synthesizer,
    }
    for name, action in nodes.items():
        graph.add_node(name, action, defer=name == "wait_graph")

    graph.add_edge(START, "reformat")  # → classify, or END when there is no report
    # classify → general_analyzer | split_tasks, by Command
    graph.add_edge("tools", "general_analyzer")  # general_analyzer → tools | verify, by Command
    # split_tasks → task_analyzer × n | wait_graph, by Send
    graph.add_edge("task_analyzer", "wait_graph")
    graph.add_edge("wait_graph", "deadlock_synthesis")
    graph.add_edge("deadlock_tools", "deadlock_synthesis")  # and → deadlock_tools | verify
    graph.add_edge("verify", "synthesizer")
    graph.add_edge("synthesizer", END)
    compiled = Graph.of(
        graph.compile(checkpointer=checkpointer, name=f"kagent-{route or 'triage'}"), settings
    )
    # An analyser and its tools take two steps a model call; LangGraph's own limit is 25 in all.
    # Sub-agents mostly wait for their model: the default, four threads more than cores, is few.
    return compiled.with_config(recursion_limit=_MAX_STEPS, max_concurrency=_MAX_CONCURRENCY)


def _tool_node(name: str) -> ToolNode:
    return ToolNode(
        TOOLS,
        name=name,
        messages_key="scratch",
        wrap_tool_call=bounded_tool,
        awrap_tool_call=abounded_tool,
    )
