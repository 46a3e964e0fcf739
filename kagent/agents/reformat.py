"""First node: find the log, parse it, and bring its call traces into canonical form."""

from __future__ import annotations

from functools import partial
from typing import Literal

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.runtime import Runtime
from langgraph.types import Command, Overwrite

from kagent.agents.experts import canonical
from kagent.agents.node import node
from kagent.agents.restore import restore
from kagent.agents.state import State
from kagent.boundary import record
from kagent.errors import RequestError
from kagent.klog import parse_log
from kagent.resolution import Usage
from kagent.settings import Settings

__all__ = ["NO_REPORT", "reformat"]

NO_REPORT = (
    "No kernel report was found in this text. Paste the log from its first BUG:, WARNING:, INFO: "
    "or Oops line to the end of the call trace, as the console printed it."
)


@node
def reformat(state: State, runtime: Runtime[Settings]) -> Command[Literal["classify", "__end__"]]:
    """Start a new case; end at once when the text holds no kernel report.

    Raises:
        RequestError: the log is larger than ``max_log_bytes``.
    """
    settings = runtime.context
    text = _newest_log(state)
    if len(text) > settings.max_log_bytes:
        raise RequestError(
            f"the log has {len(text):,} characters; at most {settings.max_log_bytes:,} are read",
            hint="cut it around the report, or raise KAGENT_MAX_LOG_BYTES",
        )
    log, usage = parse_log(text, failed=partial(record, "parse")), Usage()
    notes = [settings.key_withheld] if settings.model and settings.key_withheld else []
    if not log.reports and settings.model and text.strip():
        text, log, more, usage = restore(text, settings)
        notes += more
    if log.primary is None:
        told = "\n\n".join([NO_REPORT, *notes])
        return Command(
            goto="__end__",
            update={
                "messages": [AIMessage(told)],
                "log": "",
                "notes": Overwrite(notes),
                "usage": usage,
                # That of an earlier message of the thread is no answer to this one.
                **({"resolution": None} if state.get("resolution") else {}),
            },
        )
    start, end = log.reports[log.primary].span
    excerpt = text.encode("utf-8", "replace")[start:end].decode("utf-8", "replace")
    # A thread may have analysed another log before: nothing of it may leak into this case.
    return Command(
        goto="classify",
        update={
            "log": text,
            "kernel_log": log,
            "primary": log.primary,
            "reformatted": canonical(excerpt),
            "notes": Overwrite(notes),
            "usage": Overwrite(usage),
            "model": "",
            **{key: Overwrite([]) for key in _COLLECTED},
            **dict.fromkeys(_DERIVED),
        },
    )


_COLLECTED = (
    "functions",
    "hits",
    "task_locks",
    "evidence",
    "findings",
    "unverified",
    "failures",
    "left_out",
    "scratch",
)
_DERIVED = (
    "symbolized",
    "subsystem",
    "fault",
    "memory",
    "deadlock",
    "draft",
    "stage",
    "resolution",
)


def _newest_log(state: State) -> str:
    """The chat's last human message if there is one to answer, else the ``log`` key."""
    messages = state.get("messages") or []
    spoken = str(messages[-1].text) if messages and isinstance(messages[-1], HumanMessage) else ""
    given = state.get("log") or ""
    if spoken and given and not parse_log(spoken).reports:
        return given
    return spoken or given
