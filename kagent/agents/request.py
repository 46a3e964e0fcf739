"""What a request may set: the context of a run that came from a client of a server.

Endpoints, keys, debug info, directories and limits are the server's own, from its start. A
request only chooses among them; nothing in it can name another place to read from or send to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kagent.confine import allowed_index, granted
from kagent.errors import RequestError
from kagent.settings import Settings
from kagent.sources import unknown

__all__ = ["Request", "settings_for"]

NO_MODEL = "none"


class Request(BaseModel):
    """The graph's context as clients see it; Studio shows these fields as a form."""

    model_config = ConfigDict(extra="forbid")

    fixes: int | None = Field(
        default=None, ge=1, le=50, description="How many candidate fixes to return."
    )
    max_task_agents: int | None = Field(
        default=None,
        ge=1,
        description="Sub-agents of a deadlock analysis, up to the server's number.",
    )
    kernel_src: str | None = Field(
        default=None,
        description="The server's kernel source or a path below it; PATH@REV if it has revisions.",
    )
    index: str | None = Field(default=None, description="One of the server's commit indexes.")
    model: str | None = Field(
        default=None, description=f"One of the server's models; {NO_MODEL}: expert rules alone."
    )


def settings_for(context: object, own: Settings) -> Settings:
    """The settings of a run.

    Args:
        context: What the run was given: `Settings` of the same process count as they are; a
            `Request` or a mapping with its fields chooses from `own`. Anything else is the context
            of a graph around this one, and says nothing here.
        own: The settings of this process.

    Raises:
        RequestError: the request asks for what it may not have.
    """
    if isinstance(context, Settings):
        return context
    if isinstance(context, Mapping):
        context = _request(context)
    if not isinstance(context, Request):
        return own
    return own.model_copy(update=_granted(context, own))


def _request(given: Mapping[str, Any]) -> Request:
    for name in given:
        if name in Settings.model_fields and name not in Request.model_fields:
            raise RequestError(
                f"a request may not set {name}",
                hint="it is the server's own setting; in the same process pass a Settings object",
            )
        if name not in Request.model_fields:
            error = unknown(str(name), Request.model_fields, "context key")
            raise RequestError(str(error), hint=error.hint)
    try:
        return Request(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise RequestError(f"context {first['loc'][0]}: {first['msg']}") from error


def _granted(request: Request, own: Settings) -> dict[str, Any]:
    update: dict[str, Any] = {}
    if request.fixes is not None:
        update["fixes"] = request.fixes
    if request.max_task_agents is not None:
        update["max_task_agents"] = min(request.max_task_agents, own.max_task_agents)
    if request.kernel_src:
        roots = [own.kernel_src] if own.kernel_src else []
        update["kernel_src"] = granted(roots, request.kernel_src)
        if update["kernel_src"] is None:
            raise RequestError(
                "kernel_src is outside of what this server may read",
                hint="start the server with KAGENT_KERNEL_SRC",
            )
    if request.index:
        found = allowed_index(own.index, request.index)
        if found is None:
            raise RequestError(
                "index is none of those this server may read",
                hint="start the server with KAGENT_INDEX",
            )
        update["index"] = (found,)
    if request.model:
        offered = {one for one in (own.model, *own.models) if one}
        if request.model != NO_MODEL and request.model not in offered:
            raise RequestError(
                "model is none of those this server may ask",
                hint="start the server with KAGENT_MODEL or KAGENT_MODELS",
            )
        update["model"] = None if request.model == NO_MODEL else request.model
    return update
