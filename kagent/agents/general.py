"""The general call trace analyser."""

from __future__ import annotations

from typing import Any, Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from kagent.agents.analyst import Analyst
from kagent.agents.case import conclude, decode, look
from kagent.agents.node import node
from kagent.agents.state import State
from kagent.settings import Settings

__all__ = ["general_analyzer"]

_ANALYST = Analyst("general_analyzer", "tools", look, decode, conclude)


@node
def general_analyzer(
    state: State, runtime: Runtime[Settings]
) -> Command[Literal["tools", "verify"]]:
    """Decode the crash from its trapping instruction outwards."""
    step: Command[Any] = _ANALYST.visit(state, runtime.context)
    return step
