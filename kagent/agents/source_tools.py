"""The source tools for an analyser's model: the same as on the command line and over MCP.

What they find goes into the ledger of evidence, so that claims can cite it and be checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.tools import BaseTool, tool
from langgraph.types import Command

from kagent.agents.answering import MAX_CALLS, Runtime, answer, crashed, over_limit
from kagent.agents.toolbox import open_toolbox
from kagent.errors import KagentError
from kagent.resolution import Author, Evidence, evidence
from kagent.source.answers import (
    Answer,
    BlameAnswer,
    CallPathAnswer,
    CallSitesAnswer,
    FunctionsAnswer,
    LayoutAnswer,
    LinesAnswer,
    SubsystemAnswer,
    TypesAnswer,
)
from kagent.source.tools import SourceTools
from kagent.source.wording import as_text
from kagent.text import clip, strip_control

__all__ = ["SOURCE_TOOLS", "answer_evidence", "reply"]

_PAGE = 20
_MAX_CONTENT = 4_000


def reply(runtime: Runtime, ask: Callable[[SourceTools], Answer]) -> Command[Any]:
    """Answer with what `ask` finds, as text with line numbers and the ids of its evidence."""
    started = time.perf_counter()
    if over_limit(runtime):
        return answer(runtime, started, f"No more than {MAX_CALLS} tool calls: answer now.")
    with open_toolbox(runtime.context, crashed(runtime)) as box:
        if not box.tools.trees:
            return answer(runtime, started, "No kernel source was given for this run.")
        try:
            found = ask(box.tools)
        except KagentError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return answer(runtime, started, f"Cannot answer: {error}{hint}")
    items = list(answer_evidence(found))
    ids = "\n".join(f"[{item.id}] {item.origin}" for item in items)
    return answer(runtime, started, f"{as_text(found)}\nEvidence:\n{ids}", evidence=items)


def answer_evidence(found: Answer) -> Iterator[Evidence]:
    """An item for each place that an answer names, with the lines that stand there."""
    match found:
        case FunctionsAnswer(functions=pieces) | TypesAnswer(types=pieces):
            yield from (_source(piece.text, piece.origin) for piece in pieces)
        case LinesAnswer():
            yield _source(found.text, found.origin)
        case CallSitesAnswer(sites=sites) | CallPathAnswer(steps=sites):
            at = f"@{found.revision}" if found.revision else ""
            yield from (_source(site.text, f"{site.path}:{site.line}{at}") for site in sites)
        case LayoutAnswer():
            author: Author = "source" if found.origin == "source" else "debug-info"
            origin = f"{found.type} ({found.origin})"
            yield evidence("struct-member", _words(found), origin, author=author)
        case BlameAnswer():
            # It names a commit in the words of its author.
            yield evidence("commit", _words(found), f"commit {found.commit}")
        case SubsystemAnswer():
            yield _source(_words(found), "MAINTAINERS")
        case _:
            raise TypeError(f"no evidence in {type(found).__name__}")


def _source(content: str, origin: str) -> Evidence:
    return evidence("source", clip(strip_control(content), _MAX_CONTENT)[0], origin)


def _words(found: Answer) -> str:
    return clip(strip_control(as_text(found.model_copy(update={"notes": []}))), _MAX_CONTENT)[0]


@tool
def find_type(name: str, runtime: Runtime, offset: int = 0) -> Command[Any]:
    """Return the definition of a struct, union, enum or typedef.

    Args:
        name: struct file, union x, enum y, atomic_t, or a bare tag.
        runtime: Injected.
        offset: Definition to begin with, where there are more than one page.
    """
    return reply(runtime, lambda tools: tools.find_type(name, offset=offset, limit=3))


@tool
def struct_layout(name: str, runtime: Runtime, offset: int = 0) -> Command[Any]:
    """Return the members of a type: byte offsets and sizes where debug info is at hand.

    Args:
        name: struct file, union x, or a bare tag.
        runtime: Injected.
        offset: Member to begin with.
    """
    return reply(runtime, lambda tools: tools.struct_layout(name, offset=offset))


@tool
def find_callers(
    name: str, runtime: Runtime, under: str | None = None, offset: int = 0
) -> Command[Any]:
    """Return the places that call a function, then those that take its address.

    Args:
        name: Function name.
        runtime: Injected.
        under: Only below this folder, such as fs/ext4.
        offset: Place to begin with.
    """
    return reply(
        runtime, lambda tools: tools.find_callers(name, under=under, offset=offset, limit=_PAGE)
    )


@tool
def find_callees(name: str, runtime: Runtime, offset: int = 0) -> Command[Any]:
    """Return the calls in the body of a function, in source order.

    Args:
        name: Function name.
        runtime: Injected.
        offset: Call to begin with.
    """
    return reply(runtime, lambda tools: tools.find_callees(name, offset=offset, limit=_PAGE))


@tool
def call_path(start: str, end: str, runtime: Runtime) -> Command[Any]:
    """Explain how one frame of a trace reaches the frame above it.

    Through calls, inlined functions, macros and function pointers.

    Args:
        start: The caller's function: the lower frame.
        end: The called function: the frame printed above it.
        runtime: Injected.
    """
    files = {
        link.function: link.file
        for item in runtime.state.get("symbolized", [])
        for link in item.chain
        if link.file
    }
    return reply(runtime, lambda tools: tools.call_path(start, end, files=files))


@tool
def blame(path: str, line: int, runtime: Runtime) -> Command[Any]:
    """Return the commit that last changed a line of the kernel source tree.

    Args:
        path: File relative to the root of the tree, such as mm/rmap.c.
        line: Line number, counted from 1.
        runtime: Injected.
    """
    return reply(runtime, lambda tools: tools.blame(path, line))


@tool
def subsystem_of(path: str, runtime: Runtime) -> Command[Any]:
    """Return the subsystem, maintainers and mailing lists of a file.

    Args:
        path: File relative to the root of the tree, such as mm/rmap.c.
        runtime: Injected.
    """
    return reply(runtime, lambda tools: tools.subsystem_of(path))


SOURCE_TOOLS: list[BaseTool] = [
    find_type,
    struct_layout,
    find_callers,
    find_callees,
    call_path,
    blame,
    subsystem_of,
]
