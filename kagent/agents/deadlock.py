"""The deadlock analyser: one sub-agent per task, a wait-for graph, and what it means."""

from __future__ import annotations

from typing import Any, Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from kagent.agents.analyst import Analyst
from kagent.agents.answers import TaskNotes
from kagent.agents.case import conclude, decode, look, primary_report, symbolize
from kagent.agents.facts import decoded_frames, ledger_facts
from kagent.agents.model import chat_model, facts_message, structured
from kagent.agents.node import node
from kagent.agents.prompts import load_prompt
from kagent.agents.state import State, TaskInput
from kagent.agents.toolbox import open_toolbox
from kagent.agents.verify import Checker, check_claims
from kagent.boundary import attempt
from kagent.diagnosis import TaskLocks, analyse_stack, build_wait_graph, fold_tasks, tasks_of
from kagent.errors import ModelError
from kagent.resolution import LeftOut
from kagent.settings import Settings

__all__ = ["deadlock_synthesis", "split_tasks", "task_analyzer", "wait_graph"]

_ANALYST = Analyst("deadlock_synthesis", "deadlock_tools", look, decode, conclude)


@node
def split_tasks(
    state: State, runtime: Runtime[Settings]
) -> Command[Literal["task_analyzer", "wait_graph"]]:
    """Symbolise once for all, then one sub-agent per group of tasks with the same stack."""
    settings, log = runtime.context, state["kernel_log"]
    with open_toolbox(settings, primary_report(state).context) as box:
        known, notes, left_out = symbolize(log, state["primary"], box)
    groups = fold_tasks(tasks_of(log), settings.max_task_agents)
    tasks = sum(len(group.tasks) for group in groups)
    stacks = sum(len(group.stacks) for group in groups)
    if tasks > len(groups):
        notes.append(
            f"{tasks} tasks with {stacks} distinct stacks, read by {len(groups)} sub-agents"
        )
    update = {"symbolized": known, "notes": notes, "left_out": left_out}
    if not groups:
        return Command(goto="wait_graph", update=update)
    shared = {key: state[key] for key in ("kernel_log", "primary")}
    sends = [
        Send("task_analyzer", {**shared, "symbolized": known, "group": group}) for group in groups
    ]
    return Command(goto=sends, update=update)


@node
def task_analyzer(state: TaskInput, runtime: Runtime[Settings]) -> dict[str, Any]:
    """What each task of a group waits for and holds; with a model, what else its stack tells."""
    settings, group = runtime.context, state["group"]
    locks: list[TaskLocks] = []
    symbols = {item.frame: item for item in state["symbolized"]}
    with open_toolbox(settings, primary_report(state).context) as box:
        for stack in group.stacks:
            locks += analyse_stack(stack, symbols, source=box.lines, types=box.types)
    update: dict[str, Any] = {
        "task_locks": locks,
        "evidence": [item for entry in locks for item in entry.evidence],
    }
    if settings.model:
        update |= attempt("model", lambda: _ask(state, settings, locks), dict)
    return update


def _ask(state: TaskInput, settings: Settings, locks: list[TaskLocks]) -> dict[str, Any]:
    """One model call about this group's own stacks; only what its evidence carries is kept."""
    model = chat_model(settings)
    assert model is not None
    ledger = [item for entry in locks for item in entry.evidence]
    tasks, stacks = state["group"].tasks, state["group"].stacks
    facts = {
        "tasks": [f"{task.comm}/{task.pid}" for task in tasks[:_TASKS_ASKED]],
        "stacks": [
            decoded_frames(([task.pc] if task.pc else []) + list(task.frames), state["symbolized"])
            for task in (stack[0] for stack in stacks[:_STACKS_ASKED])
        ],
        "evidence": ledger_facts(ledger),
    }
    try:
        notes, usage = structured(
            model, load_prompt("task_analyzer"), [facts_message(facts)], TaskNotes
        )
    except ModelError as error:
        return {"notes": [f"a task's sub-agent had no model: {error}"]}
    shown = [("tasks", len(tasks), _TASKS_ASKED), ("stacks", len(stacks), _STACKS_ASKED)]
    left_out = [
        LeftOut(what=f"{what} put before the model", kept=most, total=total, why=_ASKED)
        for what, total, most in shown
        if total > most
    ]
    lines = [(link.file, link.line) for item in state["symbolized"] for link in item.chain]
    findings, rejected = check_claims(
        notes.claims, Checker(ledger, lines), f"model:{settings.model}"
    )
    return {
        "findings": findings,
        "unverified": rejected,
        "usage": usage,
        "model": settings.model,
        "left_out": left_out,
    }


_TASKS_ASKED, _STACKS_ASKED = 50, 8
_ASKED = "a sub-agent asks about so many at once; the rules read all of them"


@node
def wait_graph(state: State, runtime: Runtime[Settings]) -> dict[str, Any]:
    """Join the tasks' locks into a graph; its verdict is the rules' and stands."""
    with open_toolbox(runtime.context, primary_report(state).context) as box:
        result = build_wait_graph(
            state.get("task_locks", []),
            state["kernel_log"],
            state.get("symbolized", []),
            source=box.lines,
            types=box.types,
        )
    # Of tasks that could not be read, nobody knows that they do not wait.
    unread = any(one.part.startswith("task_analyzer") for one in state.get("failures", []))
    denied = result.deadlock.verdict == "not-a-deadlock"
    return {
        "deadlock": None if unread and denied else result.deadlock,
        "evidence": list(result.evidence),
        "findings": list(result.findings),
        "left_out": list(result.left_out),
    }


@node
def deadlock_synthesis(
    state: State, runtime: Runtime[Settings]
) -> Command[Literal["deadlock_tools", "verify"]]:
    """Explain the graph, with source and commits at hand."""
    step: Command[Any] = _ANALYST.visit(state, runtime.context)
    return step
