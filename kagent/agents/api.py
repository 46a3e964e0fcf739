"""The graph as a function: text in, `Resolution` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from kagent.agents.graph import build_graph
from kagent.agents.state import InputState
from kagent.agents.toolbox import check_settings
from kagent.errors import InputError, NoReportError
from kagent.klog.absence import hint_without_report
from kagent.resolution import Resolution
from kagent.settings import Settings

__all__ = ["Progress", "aanalyze", "analyze", "build_graph"]

Progress = Callable[[str, str], None]
"""Called when a node starts, with its name and what it does."""

_DOES = {
    "reformat": "reading the log",
    "classify": "routing the first cause",
    "general_analyzer": "decoding frames and the faulting instruction",
    "tools": "looking up source and commits",
    "split_tasks": "collecting the tasks' stacks",
    "task_analyzer": "reading one task's locks",
    "wait_graph": "who waits for whom",
    "deadlock_synthesis": "explaining the wait",
    "deadlock_tools": "looking up source and commits",
    "verify": "checking every claim against the evidence",
    "synthesizer": "writing the resolution",
}

_STREAM: list[Literal["tasks", "values"]] = ["tasks", "values"]


def analyze(
    log: str | bytes | Path, *, settings: Settings | None = None, progress: Progress | None = None
) -> Resolution:
    """Analyse the kernel reports in a text, its bytes, or the file a `Path` names.

    Raises:
        NoReportError: the text holds no kernel report.
        InputError: a path of the settings cannot be right, or the log is too large.
        KagentError: something that was asked for is missing or damaged.
    """
    settings = _checked(settings)
    last: Mapping[str, Any] = {}
    given = _input(log)
    parts = build_graph().stream(given, context=settings, stream_mode=_STREAM)
    for mode, part in parts:
        last = _follow(str(mode), part, last, progress)
    return _resolution(last, given)


async def aanalyze(
    log: str | bytes | Path, *, settings: Settings | None = None, progress: Progress | None = None
) -> Resolution:
    """`analyze` for asynchronous callers; the nodes run in worker threads."""
    settings = _checked(settings)
    last: Mapping[str, Any] = {}
    given = _input(log)
    parts = build_graph().astream(given, context=settings, stream_mode=_STREAM)
    async for mode, part in parts:
        last = _follow(str(mode), part, last, progress)
    return _resolution(last, given)


def _checked(settings: object) -> Settings:
    if settings is None:
        settings = Settings()
    if not isinstance(settings, Settings):
        kind = type(settings).__name__
        raise InputError(f"settings are a Settings object, not {kind}", hint="Settings(model=...)")
    check_settings(settings)
    return settings


def _input(log: object) -> InputState:
    if isinstance(log, Path):
        path = log
        try:
            log = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
    if isinstance(log, bytes):
        log = log.decode("utf-8", "replace")
    if not isinstance(log, str):
        raise InputError(f"a log is a str, bytes or a Path, not {type(log).__name__}")
    return {"log": log, "messages": []}


def _follow(
    mode: str, part: Any, last: Mapping[str, Any], progress: Progress | None
) -> Mapping[str, Any]:
    """Report a task's start; keep the newest state."""
    if mode == "values":
        return dict(part)
    if progress is not None and "input" in part:
        progress(part["name"], _DOES.get(part["name"], ""))
    return last


def _resolution(state: Mapping[str, Any], given: InputState) -> Resolution:
    found = state.get("resolution")
    if found is None:
        raise NoReportError(
            "no kernel report was found in the input",
            hint="; ".join([hint_without_report(given["log"]), *(state.get("notes") or [])]),
        )
    assert isinstance(found, Resolution)
    return found
