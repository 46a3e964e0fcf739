"""How an analyser works, whichever report it reads: look things up, apply the rules, then reason.

An analyser node is visited several times. Between visits its tool node runs what it asked for:

1. symbolise the frames and ask for the source of their functions,
2. decode the fault with that source and ask for the commits,
3. conclude by rules; with a model, open its conversation,
4. with a model: answer its tool calls until it is done or its calls are used up.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, SystemMessage
from langgraph.types import Command

from kagent.agents.answers import Draft
from kagent.agents.calls import bounded_message
from kagent.agents.facts import case_facts
from kagent.agents.model import ask, chat_model, facts_message, structured
from kagent.agents.prompts import load_prompt
from kagent.agents.state import State
from kagent.agents.tools import TOOLS
from kagent.boundary import attempt
from kagent.errors import ModelError
from kagent.resolution import NO_MODEL_ANSWER, Usage
from kagent.settings import Settings

__all__ = ["Analyst"]

Update = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Analyst:
    """One analyser: its prompt, its tool node, and the rules it applies."""

    prompt: str
    tools: str
    """Name of its tool node."""
    look: Callable[[State, Settings], tuple[Update, dict[str, Any] | None]]
    """First visit: facts, and the arguments of a `lookup_source` call (None: nothing to ask)."""
    decode: Callable[[State, Settings], tuple[Update, dict[str, Any] | None]]
    """Second visit: facts, and the arguments of a `search_commits` call."""
    conclude: Callable[[State, Settings], Update]
    """Third visit: findings of the rules."""

    def visit(self, state: State, settings: Settings) -> Command[Any]:
        """Do the next step; go to the tools while there is something to look up."""
        stage = state.get("stage")
        if stage == "model":
            return self._bounded(lambda: self._reason(state, settings), {})
        facts: Update = {}
        if stage is None:
            facts, question = self.look(state, settings)
            if question:
                return self._call("lookup_source", question, {**facts, "stage": "source"})
            state = _merged(state, facts)
        if stage in (None, "source"):
            more, question = self.decode(state, settings)
            facts = _appended(facts, more)
            if question:
                return self._call("search_commits", question, {**facts, "stage": "commits"})
            state = _merged(state, more)
        more = self.conclude(state, settings)
        facts = _appended(facts, more)
        if settings.model is None:
            return Command(goto="verify", update=facts)
        return self._bounded(lambda: self._open(_merged(state, more), settings, facts), facts)

    def _bounded(self, talk: Callable[[], Command[Any]], facts: Update) -> Command[Any]:
        """A conversation that fails leaves the rules' result."""
        return attempt("model", talk, lambda: Command(goto="verify", update=facts))

    def _call(self, tool: str, arguments: dict[str, Any], update: Update) -> Command[Any]:
        call = {"name": tool, "args": arguments, "id": f"rules_{uuid.uuid4().hex[:12]}"}
        message = AIMessage("", tool_calls=[call], name="rules")
        return Command(goto=self.tools, update={**update, "scratch": [message]})

    def _open(self, state: State, settings: Settings, facts: Update) -> Command[Any]:
        """Put the case before the model; its conversation starts at the system message."""
        opening: list[AnyMessage] = [
            SystemMessage(load_prompt(self.prompt)),
            facts_message(case_facts(state)),
        ]
        step = self._reason({**state, "scratch": opening}, settings)
        update = dict(step.update or {})
        update["scratch"] = [*opening, *update.get("scratch", [])]
        return Command(goto=step.goto, update=_appended(facts, {**update, "stage": "model"}))

    def _reason(self, state: State, settings: Settings) -> Command[Any]:
        """One model call, or the final answer; a failure leaves the rules' result and a note."""
        model = chat_model(settings)
        assert model is not None
        talk = _conversation(state["scratch"])
        asked = sum(isinstance(message, AIMessage) for message in talk)
        usage = Usage()
        try:
            if asked < settings.max_model_calls - 1:
                answer, usage = ask(model, talk, TOOLS)
                answer, left_out = bounded_message(answer, talk)
                if answer.tool_calls:
                    update = {"scratch": [answer], "usage": usage, "left_out": left_out}
                    return Command(goto=self.tools, update=update)
                talk = [*talk, answer]
            draft, spent = structured(model, _FINAL, talk[1:], Draft)
        except ModelError as error:
            note = f"{NO_MODEL_ANSWER}{error}" + (f" ({error.hint})" if error.hint else "")
            return Command(goto="verify", update={"notes": [note], "usage": usage})
        from kagent.agents.state import add_usage

        return Command(
            goto="verify",
            update={"draft": draft, "model": settings.model, "usage": add_usage(usage, spent)},
        )


_FINAL = (
    "Give your final answer on the case as JSON. Cite the evidence ids in every claim. "
    "Leave a list empty rather than guess."
)


def _conversation(scratch: list[AnyMessage]) -> list[AnyMessage]:
    """The model's part of the scratch pad: from the last system message on."""
    starts = [i for i, message in enumerate(scratch) if isinstance(message, SystemMessage)]
    return scratch[starts[-1] :] if starts else scratch


def _merged(state: State, facts: Update) -> State:
    """The state as the reducers will leave it, for the next step of the same visit."""
    return {**state, **_appended(dict(state), facts)}  # type: ignore[typeddict-item]


def _appended(left: Update, right: Update) -> Update:
    merged = {**left, **right}
    for key in ("evidence", "findings", "notes", "left_out"):
        if key in left and key in right:
            merged[key] = [*left[key], *right[key]]
    return merged
