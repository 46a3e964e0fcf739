"""The tool calls of a model, bounded: few at once, short arguments, and none for nothing.

How many there may be in all is `answering.MAX_CALLS`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolMessage
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from kagent.resolution import LeftOut
from kagent.text import clip

__all__ = ["AT_ONCE", "MAX_ARGUMENTS", "answered", "bounded_message"]

AT_ONCE = 8
"""Tool calls of one message that are run; the rest are dropped."""
MAX_ARGUMENTS = 8_000
"""Characters of a call's arguments, as JSON."""
_MAX_WORDS = 24_000


def bounded_message(
    message: AIMessage, talk: Iterable[AnyMessage]
) -> tuple[AIMessage, list[LeftOut]]:
    """A model's message with no more words and calls than are acted on, and what was dropped.

    Calls are counted and answered by their ids: one that `talk` has already is replaced.
    """
    taken = {call["id"] for call in _calls(talk)}
    calls = []
    for call in message.tool_calls[:AT_ONCE]:
        if call["id"] in taken or not call["id"]:
            call = {**call, "id": f"call_{uuid.uuid4().hex[:12]}"}
        taken.add(call["id"])
        calls.append(call)
    words = message.content if isinstance(message.content, str) else message.text
    short = AIMessage(
        clip(words, _MAX_WORDS)[0],
        id=message.id,
        tool_calls=calls,
        usage_metadata=message.usage_metadata,
    )
    total = len(message.tool_calls)
    if total <= AT_ONCE:
        return short, []
    why = f"a model may make {AT_ONCE} at once"
    return short, [LeftOut(what="tool calls of the model", kept=AT_ONCE, total=total, why=why)]


def answered(request: ToolCallRequest) -> Command[Any] | None:
    """The answer to a call that need not be run; None for all others."""
    call = request.tool_call
    text = _ready(call, request.state.get("scratch", []))
    if text is None:
        return None
    return Command(update={"scratch": [ToolMessage(text, tool_call_id=call["id"])]})


def _ready(call: Any, scratch: list[AnyMessage]) -> str | None:
    wanted = _key(call)
    if len(wanted) > MAX_ARGUMENTS:
        return f"Arguments of more than {MAX_ARGUMENTS} characters: ask for less."
    starts = [at for at, message in enumerate(scratch) if isinstance(message, SystemMessage)]
    if not starts:
        return None  # the rules ask; each of their questions is one
    talk = scratch[starts[-1] :]
    first = next((c["id"] for c in _calls(talk) if _key(c) == wanted), call["id"])
    if first == call["id"]:
        return None
    said = (m.text for m in talk if isinstance(m, ToolMessage) and m.tool_call_id == first)
    return next(said, "The same question as another one of this message: see its answer.")


def _calls(talk: Iterable[AnyMessage]) -> Iterable[Any]:
    return (
        call for message in talk if isinstance(message, AIMessage) for call in message.tool_calls
    )


def _key(call: Any) -> str:
    return json.dumps([call["name"], call["args"]], sort_keys=True, default=str)
