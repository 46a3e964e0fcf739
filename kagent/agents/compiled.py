"""Our graph as LangGraph runs it, with what must hold whoever runs it.

A compiled graph is handed to servers and other programs, which copy it, lend it a checkpointer
and run it in ways of their own. Whatever they do, a run has settings that its caller was allowed
to choose, nothing of it is traced unless our settings say so, and its own types survive a
checkpoint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import get_runtime

from kagent.agents.request import Request, settings_for
from kagent.agents.state import InputState, OutputState, State
from kagent.agents.tracing import silent, untraced
from kagent.settings import Settings

__all__ = ["Graph"]


class Graph(CompiledStateGraph[State, Request, InputState, OutputState]):
    """A compiled graph bound to the settings of its process; None reads them at every run."""

    def __init__(self, *, own: Settings | None = None, **parts: Any) -> None:
        super().__init__(**parts)
        self.own = own
        # LangGraph forgets these types when a graph is copied, and a strict serializer then gives
        # them back as dicts.
        self._serde_allowlist = parts.get("_serde_allowlist")

    @classmethod
    def of(cls, compiled: CompiledStateGraph[Any, Any, Any, Any], own: Settings | None) -> Self:
        """The same graph, made ours."""
        return cls(**vars(compiled), own=own)

    def stream(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        context: object = None,
        **options: Any,
    ) -> Iterator[Any]:
        """`Pregel.stream`, with the settings that `context` may choose.

        Raises:
            InputError: it asks for what it may not have.
        """
        settings = self._settings(context)
        with self._quiet(settings):
            steps: Any = super().stream
            parts = steps(input, _untraced(config, settings), context=settings, **options)
        try:
            while True:
                # Between two parts the caller's own code runs, in the same context variables.
                with self._quiet(settings):
                    try:
                        part = next(parts)
                    except StopIteration:
                        return
                yield part
        finally:
            with self._quiet(settings):
                parts.close()

    async def astream(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        context: object = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """`stream` for asynchronous callers."""
        settings = self._settings(context)
        with self._quiet(settings):
            steps: Any = super().astream
            parts = steps(input, _untraced(config, settings), context=settings, **options)
        try:
            while True:
                with self._quiet(settings):
                    try:
                        part = await anext(parts)
                    except StopAsyncIteration:
                        return
                yield part
        finally:
            with self._quiet(settings):
                await parts.aclose()

    def bulk_update_state(self, config: RunnableConfig, *given: Any, **options: Any) -> Any:
        """`Pregel.bulk_update_state`: its writers run as traced steps, too."""
        settings = self._settings(None)
        with self._quiet(settings):
            return super().bulk_update_state(_untraced(config, settings), *given, **options)

    async def abulk_update_state(self, config: RunnableConfig, *given: Any, **options: Any) -> Any:
        """`bulk_update_state` for asynchronous callers."""
        settings = self._settings(None)
        with self._quiet(settings):
            return await super().abulk_update_state(_untraced(config, settings), *given, **options)

    def _settings(self, context: object) -> Settings:
        own = self.own if self.own is not None else Settings()
        return settings_for(_around() if context is None else context, own)

    def _quiet(self, settings: Settings) -> AbstractContextManager[None]:
        return nullcontext() if settings.tracing else silent()


def _untraced(config: RunnableConfig | None, settings: Settings) -> Any:
    return config if settings.tracing else untraced(config)


def _around() -> Settings | Request | None:
    """Our settings in the context of a graph that runs this one; its other contexts are its own."""
    try:
        runtime: Any = get_runtime()
    except (KeyError, RuntimeError):
        return None
    # A chain of runnables gives its steps a configuration, and no runtime in it.
    context = getattr(runtime, "context", None)
    return context if isinstance(context, Settings | Request) else None
