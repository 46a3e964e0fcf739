"""What every node shares: its run time is measured, and it always has settings."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from langgraph.runtime import Runtime
from langgraph.types import Command, Overwrite

from kagent.resolution import Usage
from kagent.settings import Settings

__all__ = ["node"]

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
        update = function(state, runtime)
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
