"""The tools of the analyser agents. Rules and models call the very same ones.

Each returns a `Command` that files what was found in the graph's state (source, commits,
evidence) and answers the caller with a bounded text. All are read-only and confined.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from langchain_core.tools import BaseTool, tool
from langgraph.types import Command

from kagent.agents.answering import MAX_CALLS, Runtime, answer, crashed, over_limit
from kagent.agents.blaming import blamed_commits
from kagent.agents.experts import crash_query
from kagent.agents.source_tools import SOURCE_TOOLS
from kagent.agents.toolbox import open_toolbox
from kagent.commits.model import Hit
from kagent.diagnosis import in_tree
from kagent.errors import KagentError
from kagent.resolution import Evidence, evidence
from kagent.source.model import Excerpt
from kagent.text import clip

__all__ = ["TOOLS", "commit_evidence", "source_evidence"]

_MAX_NAMES = 40
_MAX_EXCERPT = 6_000
_MAX_MESSAGE = 2_000
_MAX_QUERY = 16_000
_NO_MORE = f"No more than {MAX_CALLS} tool calls: answer now."


@tool
def lookup_source(functions: list[str], runtime: Runtime) -> Command[Any]:
    """Fetch the definitions of kernel functions at the crash's own version.

    Args:
        functions: Function names as they stand in the call trace, at most 40.
        runtime: Injected.
    """
    started = time.perf_counter()
    if over_limit(runtime):
        return answer(runtime, started, _NO_MORE)
    with open_toolbox(runtime.context, crashed(runtime)) as box:
        if box.source is None:
            return answer(runtime, started, "No kernel source was given for this run.")
        files = {
            link.function: link.file
            for item in runtime.state.get("symbolized", [])
            for link in item.chain
            if link.file
        }
        found = box.source.lookup(functions[:_MAX_NAMES], files)
    sources = [best[0] for best in found.values() if best]
    items = [source_evidence(source) for source in sources]
    missing = [name for name in functions[:_MAX_NAMES] if not found.get(name)]
    text = _numbered(sources, items)
    if missing:
        text += f"\n\nNot found: {', '.join(missing)}"
    return answer(runtime, started, text, functions=sources, evidence=items)


@tool
def read_source(path: str, start: int, end: int, runtime: Runtime) -> Command[Any]:
    """Read lines of a file of the kernel source tree.

    Args:
        path: File relative to the root of the tree, such as mm/rmap.c.
        start: First line, counted from 1.
        end: Last line, included.
        runtime: Injected.
    """
    started = time.perf_counter()
    if over_limit(runtime):
        return answer(runtime, started, _NO_MORE)
    with open_toolbox(runtime.context, crashed(runtime)) as box:
        if box.source is None:
            return answer(runtime, started, "No kernel source was given for this run.")
        try:
            excerpt = box.source.read_lines(path, start, end)
        except KagentError as error:
            return answer(runtime, started, f"Cannot read {path}: {error}")
    item = source_evidence(excerpt)
    return answer(runtime, started, _numbered([excerpt], [item]), evidence=[item])


@tool
def search_commits(
    question: str,
    runtime: Runtime,
    functions: list[str] | None = None,
    files: list[str] | None = None,
    identifiers: list[str] | None = None,
) -> Command[Any]:
    """Find commits that may fix the crash in the index of the git history.

    Args:
        question: What goes wrong, in a sentence, with the words a fix would use.
        runtime: Injected.
        functions: Functions of the call trace, innermost first.
        files: Source files involved.
        identifiers: Struct, member or lock names involved.
    """
    started = time.perf_counter()
    if over_limit(runtime):
        return answer(runtime, started, _NO_MORE)
    settings, state = runtime.context, runtime.state
    with open_toolbox(settings, crashed(runtime)) as box:
        if box.index is None:
            return answer(runtime, started, "No commit index was given for this run.")
        log, primary = state["kernel_log"], state["primary"]
        report = log.reports[primary]
        # The log's own words find more than any question about them, and date the kernel.
        words = clip(state["log"], _MAX_QUERY)[0] if in_tree(report) else ""
        facts = crash_query(
            report,
            state.get("symbolized", ()),
            state.get("fault"),
            state.get("deadlock"),
            state.get("memory"),
            blamed_commits(box, state.get("fault")),
        )
        query = replace(
            facts,
            text=question,
            log=words,
            functions=_joined(functions, facts.functions),
            files=_joined(files, facts.files),
            identifiers=_joined(identifiers, facts.identifiers),
        )
        hits = box.index.search_crash(query, k=settings.fixes)
    items = [commit_evidence(hit) for hit in hits]
    rows = [
        f"[{item.id}] {item.content}\nWhy it is here: {'; '.join(hit.why) or 'similar words'}"
        for item, hit in zip(items, hits, strict=True)
    ]
    if hits and hits[0].verdict == "doubtful":
        rows.insert(0, "No commit of the index looks like the fix. The nearest:")
    return answer(
        runtime, started, "\n\n".join(rows) or "Nothing found.", hits=hits, evidence=items
    )


def _joined(asked: list[str] | None, known: Iterable[str]) -> tuple[str, ...]:
    """What the caller names stands before what the report gives."""
    return tuple(dict.fromkeys((*(asked or ()), *known)))


TOOLS: list[BaseTool] = [lookup_source, read_source, *SOURCE_TOOLS, search_commits]


def source_evidence(excerpt: Excerpt) -> Evidence:
    """Evidence that quotes an excerpt."""
    return evidence("source", clip(excerpt.text, _MAX_EXCERPT)[0], excerpt.origin)


def commit_evidence(hit: Hit) -> Evidence:
    """Evidence that quotes a commit's subject and message."""
    message = clip(hit.message, _MAX_MESSAGE)[0]
    return evidence(
        "commit", f"{hit.hash} {hit.subject}\n\n{message}".strip(), f"commit {hit.hash}"
    )


def _numbered(excerpts: list[Any], items: list[Evidence]) -> str:
    rows = [
        f"[{item.id}] {excerpt.origin}{' (truncated)' if excerpt.truncated else ''}\n"
        f"{clip(excerpt.numbered(), _MAX_EXCERPT)[0]}"
        for excerpt, item in zip(excerpts, items, strict=True)
    ]
    return "\n\n".join(rows) or "Nothing found."
