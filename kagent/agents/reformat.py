"""First node: find the log, parse it, and bring its call traces into canonical form."""

from __future__ import annotations

import re
from functools import partial
from typing import Literal

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.runtime import Runtime
from langgraph.types import Command, Overwrite

from kagent.agents.answers import Restored
from kagent.agents.experts import canonical
from kagent.agents.model import chat_model, facts_message, structured
from kagent.agents.node import node
from kagent.agents.prompts import load_prompt
from kagent.agents.state import State
from kagent.boundary import record
from kagent.errors import InputError, ModelError
from kagent.klog import KernelLog, parse_log
from kagent.resolution import Usage
from kagent.settings import Settings

__all__ = ["NO_REPORT", "reformat"]

NO_REPORT = (
    "No kernel report was found in this text. Paste the log from its first BUG:, WARNING:, INFO: "
    "or Oops line to the end of the call trace, as the console printed it."
)
_MAX_DAMAGED = 40_000  # characters a model is asked to repair
_STAMP = re.compile(r"^\[\s{0,8}\d{1,9}\.\d{1,9}\]\[\s{0,8}[TC]\d{1,9}\]", re.MULTILINE)
_NOISE = re.compile(r"[^0-9a-z_+./]")


@node
def reformat(state: State, runtime: Runtime[Settings]) -> Command[Literal["classify", "__end__"]]:
    """Start a new case; end at once when the text holds no kernel report.

    Raises:
        InputError: the log is larger than ``max_log_bytes``.
    """
    settings = runtime.context
    text = _newest_log(state)
    if len(text) > settings.max_log_bytes:
        raise InputError(
            f"the log has {len(text):,} characters; at most {settings.max_log_bytes:,} are read",
            hint="cut it around the report, or raise KAGENT_MAX_LOG_BYTES",
        )
    log, usage = parse_log(text, failed=partial(record, "parse")), Usage()
    notes: list[str] = []
    if not log.reports and settings.model and text.strip():
        text, log, notes, usage = _restore(text, settings)
    if log.primary is None:
        return Command(
            goto="__end__", update={"messages": [AIMessage(NO_REPORT)], "log": "", "usage": usage}
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


def _restore(text: str, settings: Settings) -> tuple[str, KernelLog, list[str], Usage]:
    """Let the model repair a text in which the parser sees nothing; keep only what was there."""
    model = chat_model(settings)
    unread = parse_log("")
    if model is None:
        return text, unread, [], Usage()
    damaged = text[:_MAX_DAMAGED]
    try:
        restored, usage = structured(
            model, load_prompt("reformat"), [facts_message({"text": damaged})], Restored
        )
    except ModelError as error:
        return text, unread, [f"the model could not restore the text: {error}"], Usage(calls=1)
    log = parse_log(restored.report)
    original = _plain(damaged)
    invented = sorted(fact for fact in _facts(restored.report, log) if fact not in original)
    if invented:
        note = f"the model's restored text was refused: it adds {', '.join(invented[:3])}"
        return text, unread, [note], usage
    note = f"the text was damaged; {settings.model} restored it before it was read"
    return restored.report, log, [note], usage


def _plain(text: str) -> str:
    return _NOISE.sub("", text.lower())


def _facts(text: str, log: KernelLog) -> set[str]:
    """What a restored text states and a reader would rely on, in `_plain` form.

    Every word with a digit in it (addresses, registers, offsets, versions), and every symbol;
    only letters of the kernel's own phrases may be repaired. That a short number stands in the
    right place is not checked; the note says that the text was restored.
    """
    words = _STAMP.sub(" ", text).split()
    facts = {_plain(word) for word in words if any(c.isdigit() for c in word)}
    facts |= {_plain(frame.symbol) for report in log.reports for _, frame in report.all_frames()}
    return facts - {""}
