"""No trace of a run leaves the process unless our own setting says so.

LangChain sends what its runs read and write to LangSmith as soon as a variable in the environment
says so, or a tracer comes with the run around them. Logs are not for that. Neither the
environment nor any global is touched: the program around us stays traced as it was.

What decides about tracing are context variables and the callbacks of a run's config, so both are
set for as long as code of ours works, and put back before control returns to the caller. Tasks
and threads that are started meanwhile inherit them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.callbacks.base import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers.context import tracing_v2_callback_var
from langchain_core.tracers.langchain import LangChainTracer
from langsmith.run_helpers import tracing_context

__all__ = ["silent", "untraced"]


class _Mute(LangChainTracer):
    """Stands where a tracer would be added, hears of nothing and sends nothing.

    Without a tracer, LangChain refuses to work beside its oldest variable, LANGCHAIN_TRACING.
    """

    ignore_agent = ignore_chain = ignore_chat_model = ignore_custom_event = True
    ignore_llm = ignore_retriever = ignore_retry = True

    def __init__(self) -> None:
        BaseCallbackHandler.__init__(self)
        self.run_map: dict[str, Any] = {}
        self.order_map: dict[UUID, Any] = {}

    def copy_with_metadata_defaults(self, **_: Any) -> LangChainTracer:
        return self


_MUTE = _Mute()


@contextmanager
def silent() -> Iterator[None]:
    """No tracing of what runs, or is started, inside the block."""
    config = var_child_runnable_config.get()
    ambient = var_child_runnable_config.set(untraced(config)) if config else None
    token = tracing_v2_callback_var.set(_MUTE)
    try:
        with tracing_context(enabled=False, parent=False):
            yield
    finally:
        tracing_v2_callback_var.reset(token)
        if ambient is not None:
            var_child_runnable_config.reset(ambient)


def untraced(config: RunnableConfig | None) -> RunnableConfig | None:
    """A config without the tracers that the run around us brought; its other callbacks stay."""
    callbacks = (config or {}).get("callbacks")
    if config is None or not callbacks:
        return config
    if isinstance(callbacks, BaseCallbackManager):
        kept = callbacks.copy()
        kept.handlers = _without_tracers(kept.handlers)
        kept.inheritable_handlers = _without_tracers(kept.inheritable_handlers)
        return {**config, "callbacks": kept}
    return {**config, "callbacks": _without_tracers(callbacks)}


def _without_tracers(handlers: list[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
    return [one for one in handlers if not isinstance(one, LangChainTracer)]
