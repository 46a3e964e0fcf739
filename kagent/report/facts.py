"""The small facts of a resolution as label–value rows, each value one line of plain text."""

from __future__ import annotations

from collections.abc import Iterable

from kagent.report.decoded import position
from kagent.report.prose import one_line
from kagent.resolution import (
    Author,
    Deadlock,
    Fault,
    FixStatus,
    MemoryEvent,
    MemoryFacts,
    ReportView,
    Resolution,
    SourcePoint,
)

__all__ = [
    "Fact",
    "authorship",
    "context_facts",
    "deadlock_facts",
    "engine_facts",
    "fault_facts",
    "fix_status",
    "memory_facts",
    "percent",
    "place",
    "task_name",
]

Fact = tuple[str, str]
"""A label and its value."""
_WRITERS: dict[Author, str] = {
    "kernel": "as the kernel printed it",
    "debug-info": "as debug info has it",
    "source": "as the source has it",
    "commit": "as the commit's author says",
    "user": "chosen by a user of the machine: proves only that it was printed",
    "model": "as a model says",
}


def authorship(author: Author) -> str:
    """Who wrote a piece of evidence, in words."""
    return _WRITERS[author]


def percent(share: float) -> str:
    """A share as a whole percentage; a small one does not become none."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def task_name(task: str | None, pid: int | None) -> str:
    """``comm[pid]``, as far as it is known."""
    name = one_line(task or "")
    return f"{name or 'task'}[{pid}]" if pid is not None else name


def place(point: SourcePoint | None) -> str:
    """``function [module] at file:line``."""
    if point is None:
        return ""
    where = f" at {position(point.file, point.line)}" if point.file else ""
    module = f" [{point.module}]" if point.module else ""
    return one_line(f"{point.function}{module}{where}")


def _rows(rows: Iterable[tuple[str, str | None]]) -> Iterable[Fact]:
    return ((label, one_line(value)) for label, value in rows if value)


def context_facts(report: ReportView) -> Iterable[Fact]:
    """Where and as what the report was raised."""
    taint = {None: None, "": "no"}.get(report.taint, report.taint)
    kernel = " ".join(part for part in (report.kernel, report.arch) if part)
    return _rows(
        (
            ("Kernel", kernel),
            ("Task", task_name(report.task, report.pid)),
            ("CPU", None if report.cpu is None else str(report.cpu)),
            ("Tainted", taint),
            ("Hardware", report.hardware),
            ("Panicked", "yes" if report.panicked else None),
            ("Also known as", "; ".join(report.alt_titles)),
            ("Damaged", (report.corrupted_reason or "yes") if report.corrupted else None),
        )
    )


def fault_facts(fault: Fault) -> Iterable[Fact]:
    """The faulting instruction, decoded."""
    pointer = None
    if fault.pointer:
        p = fault.pointer
        pointer = f"{p.register_} = {p.value:#x}: {p.meaning}"
    member = None
    if fault.struct:
        member = f"struct {fault.struct}" + (f".{fault.member}" if fault.member else "")
        if fault.offset is not None:
            member += f", offset {fault.offset:#x}"
    outer = [point.function for point in fault.inline_chain[1:]]
    function = fault.function or fault.symbol
    if outer:
        function += f" (inlined into {', '.join(outer)})"
    return _rows(
        (
            ("Instruction at", fault.symbol + (f" [{fault.module}]" if fault.module else "")),
            ("Function", function),
            ("Line", position(fault.file, fault.line)),
            ("Blamed caller", place(fault.own_frame)),
            ("Access", _access(fault)),
            ("Instruction", fault.instruction),
            ("Bad pointer", pointer),
            ("Member", member),
            ("Expression", fault.expression),
            ("Confidence", percent(fault.confidence) if fault.confidence else None),
        )
    )


def _access(fault: Fault) -> str:
    verb = {"read": "read", "write": "write", "exec": "instruction fetch", None: "access"}
    words = verb[fault.access]
    if fault.size is not None:
        words += f" of {fault.size} byte{'s' if fault.size != 1 else ''}"
    if fault.address is not None:
        words += f" at {fault.address:#x}"
    return "" if words == "access" else words


def _event(event: MemoryEvent | None) -> str:
    if event is None:
        return ""
    task = task_name(event.task, event.pid)
    return f"{place(event)} by {task}" if task else place(event)


def memory_facts(memory: MemoryFacts) -> Iterable[Fact]:
    """What a sanitizer proved about the object."""
    what = memory.object or ""
    if memory.cache:
        what += f" (cache {memory.cache})" if what else f"cache {memory.cache}"
    return _rows(
        (
            ("Object", what),
            ("Size", None if memory.size is None else f"{memory.size} bytes"),
            ("Touched at offset", None if memory.offset is None else str(memory.offset)),
            ("Access", _event(memory.access)),
            ("Allocated", _event(memory.alloc)),
            ("Freed", _event(memory.free)),
        )
    )


def deadlock_facts(deadlock: Deadlock) -> Iterable[Fact]:
    """The verdict over the waiting tasks."""
    words = {
        "deadlock": "a deadlock",
        "possible": "a possible deadlock",
        "not-a-deadlock": "not a deadlock",
    }
    culprit = None
    if deadlock.culprit:
        culprit = (
            f"{task_name(deadlock.culprit.task, deadlock.culprit.pid)}: {deadlock.culprit.why}"
        )
    return _rows(
        (
            ("Verdict", words[deadlock.verdict]),
            ("Because", deadlock.reason),
            ("Culprit", culprit),
        )
    )


def fix_status(status: FixStatus) -> str:
    """Where a fix has landed, in words."""
    words = []
    if status.upstream_tag:
        words.append(f"upstream since {status.upstream_tag}")
    if status.in_kernel is not None:
        words.append("already in this kernel" if status.in_kernel else "not in this kernel")
    if status.branches_with:
        words.append(f"in {', '.join(status.branches_with)}")
    if status.branches_without:
        words.append(f"missing from {', '.join(status.branches_without)}")
    return one_line("; ".join(words)) or "where it has landed is unknown"


def engine_facts(res: Resolution) -> Iterable[Fact]:
    """Who analysed, and what it cost."""
    usage = res.usage
    engine, name = res.engine, res.engine.model
    who = f"expert rules and {name or 'a model'}" if engine.kind == "model" else "expert rules"
    spent = f"{usage.calls} calls, {usage.tokens_in} tokens in, {usage.tokens_out} out"
    nodes = ", ".join(f"{node} {seconds:.2f} s" for node, seconds in usage.seconds.items())
    total = sum(usage.seconds.values())
    return _rows(
        (
            ("Engine", f"kagent {engine.version}, {who}"),
            ("Asked at", engine.endpoint),
            ("Model use", spent if usage.calls else None),
            ("Time", f"{total:.2f} s ({nodes})" if nodes else None),
        )
    )
