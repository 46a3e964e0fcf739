"""The source of every function in a call trace: what the talk's MCP tool does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from kagent.mcp_tools.roots import Roots
from kagent.source.answers import SourceText
from kagent.source.tools import MAX_TEXT
from kagent.text import clip, strip_control

if TYPE_CHECKING:
    from kagent.klog.model import Frame, KernelLog, Report
    from kagent.source import SourceTree

__all__ = ["CallstackAnalysis", "StackEntry", "analyze_callstack", "bounded"]

_MAX_TRACE = 40_000
_MAX_FRAMES = 400
_MAX_FUNCTIONS = 40
_MAX_ALL_SOURCES = 120_000


class StackEntry(BaseModel):
    """A frame of a trace."""

    trace: str
    symbol: str
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    reliable: bool = True


class CallstackAnalysis(BaseModel):
    """What analyze_kernel_stack returns."""

    reports: list[str] = Field(description="Titles of the kernel reports in the message.")
    primary: str | None = Field(None, description="Title of the report to look at first.")
    faulting_function: str | None = None
    reformatted: str = Field(description="The message with its call traces in canonical form.")
    frames: list[StackEntry]
    functions: list[SourceText] = Field(description="Source of the functions in the traces.")
    not_found: list[str] = Field(description="Functions without a definition in the tree.")
    notes: list[str] = []
    truncated: bool = Field(False, description="Something was left out to keep the answer short.")


def analyze_callstack(roots: Roots, message: str, kernel_src: str | None) -> CallstackAnalysis:
    """Normalise the traces of `message` and fetch the source of their functions.

    Raises:
        KagentError: the tree that is asked for is not allowed or cannot be read.
    """
    from kagent.klog import parse_log, reformat

    log = parse_log(message)
    primary = log.reports[log.primary] if log.primary is not None else None
    frames = list(_frames(log, message))
    names = list(dict.fromkeys(frame.symbol for _, frame in frames if frame.reliable))
    notes = [] if primary else ["no kernel report was recognised; frames were read line by line"]
    sources: list[SourceText] = []
    cut = False
    if kernel_src is None and not roots.has_source:
        notes.append("this server has no kernel source: start it with --kernel-src PATH")
    else:
        tree = roots.source(
            kernel_src,
            primary.context.kernel if primary else None,
            build=primary.context.build if primary else None,
        )
        notes.append(f"source: {tree.note}")
        sources, cut = _definitions(tree, names[:_MAX_FUNCTIONS])
    known = {source.name for source in sources}
    trace, clipped = clip(strip_control(reformat(message)), _MAX_TRACE)
    return CallstackAnalysis(
        reports=[report.title for report in log.reports],
        primary=primary.title if primary else None,
        faulting_function=_faulting(primary, frames),
        reformatted=trace,
        frames=[_entry(role, frame) for role, frame in frames[:_MAX_FRAMES]],
        functions=sources,
        not_found=[name for name in names if name not in known],
        notes=notes,
        truncated=cut or clipped or len(frames) > _MAX_FRAMES or len(names) > _MAX_FUNCTIONS,
    )


def _definitions(tree: SourceTree, names: list[str]) -> tuple[list[SourceText], bool]:
    """The best definition of each name, and whether anything was cut."""
    found = tree.lookup(names)
    best = [
        SourceText.of(found[name][0], name, max_text=MAX_TEXT) for name in names if found.get(name)
    ]
    kept, cut = bounded(best)
    return kept, cut or tree.truncated


def _frames(log: KernelLog, message: str) -> Iterable[tuple[str, Frame]]:
    """The frames of all reports, the primary one's first; bare stack lines where none is."""
    if log.primary is not None:
        order = [log.primary, *(i for i in range(len(log.reports)) if i != log.primary)]
        for index in order:
            yield from log.reports[index].all_frames()
        return
    from kagent.klog.frames import parse_frame, parse_pc
    from kagent.klog.lines import split_lines

    for line in split_lines(message.encode("utf-8", "replace")):
        if pc := parse_pc(line):
            yield "call", pc
        for frame in parse_frame(line):
            yield "call", frame


def _faulting(report: Report | None, frames: list[tuple[str, Frame]]) -> str | None:
    if report and (report.pc or report.frame):
        return report.pc.symbol if report.pc else report.frame
    return next((frame.symbol for _, frame in frames if frame.reliable), None)


def _entry(role: str, frame: Frame) -> StackEntry:
    return StackEntry(
        trace=role,
        symbol=frame.symbol,
        offset=frame.offset,
        size=frame.size,
        module=frame.module,
        reliable=frame.reliable,
    )


def bounded(sources: list[SourceText]) -> tuple[list[SourceText], bool]:
    """As many as fit into one answer, and whether any text was cut or left out."""
    kept: list[SourceText] = []
    size = 0
    for source in sources:
        size += len(source.text)
        if size > _MAX_ALL_SOURCES:
            return kept, True
        kept.append(source)
    return kept, any(source.truncated for source in kept)
