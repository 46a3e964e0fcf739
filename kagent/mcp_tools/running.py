"""Running a tool for an MCP client: off the event loop, with errors of one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from kagent.boundary import describe, logger, one_line
from kagent.errors import KagentError

__all__ = ["one_line", "run"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


async def run(function: Callable[_P, _R], *arguments: _P.args, **named: _P.kwargs) -> _R:
    """Call in a worker thread; what kagent raises on purpose becomes the tool's error text."""
    from anyio import to_thread
    from mcp.server.fastmcp.exceptions import ToolError

    try:
        return await to_thread.run_sync(partial(function, *arguments, **named))
    except KagentError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ToolError(one_line(f"{error}{hint}")) from error
    except Exception as error:
        failure = describe(function.__name__, error)
        logger.error("%s failed: %s", failure.part, failure.error, exc_info=error)
        where = f" at {failure.trace[-1]}" if failure.trace else ""
        raise ToolError(f"{failure.part} failed{where}: {failure.error}") from error
