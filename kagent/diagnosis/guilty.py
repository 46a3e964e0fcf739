"""Which functions of a crash matter, and what to ask a commit search about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kagent.commits.model import CrashQuery
from kagent.diagnosis.helpers import base_name, is_scaffold
from kagent.diagnosis.stack import Symbols, by_frame, in_helper, points, reliable
from kagent.klog.model import Frame, Report
from kagent.resolution import Deadlock, Fault, MemoryFacts, SourcePoint
from kagent.symbols.model import Symbolized

__all__ = ["crash_query", "functions_to_read", "in_tree", "significant"]

# How much of a crash a question names. They rank the answers of a search, most telling first, and
# decide nothing: more words would only make the last of them count less.
_MAX_FUNCTIONS = 40
_MAX_FILES = 24
_MAX_STACKS = 16


def significant(
    report: Report, symbolized: Iterable[Symbolized] = (), *, limit: int = _MAX_FUNCTIONS
) -> list[SourcePoint]:
    """Functions worth reading, most telling first, inlined ones included, each once.

    The report's own stack comes first, then who freed and who allocated the object, then the
    stacks of lock acquisitions and other tasks. Helpers and entry code are left out.
    """
    symbols = by_frame(symbolized)
    found: dict[tuple[str, str | None], SourcePoint] = {}
    for stack in _stacks(report):
        for point in _telling(stack, symbols):
            found.setdefault((base_name(point.function), point.module), point)
    return list(found.values())[:limit]


def functions_to_read(
    report: Report, symbolized: Iterable[Symbolized] = (), *, limit: int = 16
) -> list[str]:
    """Names of the functions whose source explains the report best, most telling first."""
    chosen = significant(report, symbolized, limit=limit)
    return list(dict.fromkeys(base_name(point.function) for point in chosen))


def crash_query(
    report: Report,
    symbolized: Iterable[Symbolized] = (),
    fault: Fault | None = None,
    deadlock: Deadlock | None = None,
    memory: MemoryFacts | None = None,
    blamed: Iterable[str] = (),
) -> CrashQuery:
    """What a search for the fix may use; `blamed` are commits the faulting line goes back to."""
    symbols = by_frame(symbolized)
    stacks = [telling for stack in _stacks(report) if (telling := _telling(stack, symbols))]
    own, *others = stacks or [[]]
    functions = [base_name(point.function) for point in own]
    if report.frame:
        functions.insert(0, base_name(report.frame))
    files = [point.file for stack in stacks for point in stack if point.file]
    frames = reliable(report.call_frames)
    return CrashQuery(
        title=report.title,
        text=_words(report, fault, memory, deadlock),
        functions=tuple(dict.fromkeys(functions))[:_MAX_FUNCTIONS],
        related=tuple(
            tuple(dict.fromkeys(base_name(point.function) for point in stack))[:_MAX_FUNCTIONS]
            for stack in others[:_MAX_STACKS]
        ),
        places=tuple(
            dict.fromkeys(f"{f.symbol}+{f.offset:#x}/{f.size:#x}" for f in frames if f.size)
        )[:_MAX_FUNCTIONS],
        files=tuple(dict.fromkeys(files))[:_MAX_FILES],
        modules=tuple(dict.fromkeys(frame.module for frame in frames if frame.module)),
        identifiers=tuple(dict.fromkeys(_identifiers(report, fault, deadlock))),
        blamed=tuple(dict.fromkeys(blamed)),
        release=report.context.kernel if in_tree(report) else None,
    )


def in_tree(report: Report) -> bool:
    """Whether the code to blame is of the kernel's own tree.

    A module that the log marks as built elsewhere has a history of its own: the kernel's release
    says nothing about the age of its fixes.
    """
    foreign = report.context.out_of_tree
    return not any(frame.module in foreign for frame in reliable(report.call_frames)[:3])


def _stacks(report: Report) -> Iterator[list[Frame]]:
    """The report's own stack, then who freed and who allocated, then locks and other tasks."""
    yield reliable(report.call_frames)
    for role in ("free", "alloc", "store", "work", "lock", "origin", "task", "cpu"):
        for trace in report.traces:
            if trace.role == role:
                yield reliable(trace.frames)
    if report.locks:
        for link in report.locks.chain:
            yield list(link.frames)


def _telling(frames: list[Frame], symbols: Symbols) -> list[SourcePoint]:
    return [
        point
        for _, point in points(frames, symbols)
        if not in_helper(point) and not is_scaffold(point.function)
    ]


def _identifiers(report: Report, fault: Fault | None, deadlock: Deadlock | None) -> Iterator[str]:
    if fault and fault.struct:
        yield fault.struct
    if fault and fault.member:
        yield fault.member.split(".")[0].split("[")[0]
    if report.locks:
        facts = report.locks
        refs = [facts.acquiring] if facts.acquiring else list(facts.holding)
        for ref in (*refs, *(link.lock for link in facts.chain)):
            yield from _lock_words(ref.name)
    for cycle in deadlock.cycles if deadlock else ():
        for member in cycle:
            for name in (*member.holds[:1], member.waits_for or ""):
                yield from _lock_words(name)


def _lock_words(name: str) -> Iterator[str]:
    """``&sb->s_type->i_mutex_key#9`` → its last member."""
    bare = name.split(" (")[0].split("#")[0].split("/")[0].replace("->", ".")
    last = bare.rsplit(".", 1)[-1].strip("&()[] ")
    if last.isidentifier():
        yield last


def _words(
    report: Report,
    fault: Fault | None,
    memory: MemoryFacts | None,
    deadlock: Deadlock | None,
) -> str:
    parts = [report.message.replace("\n", ". ")] if report.message else []
    if fault and fault.expression:
        parts.append(fault.expression)
    if fault and fault.pointer:
        parts.append(fault.pointer.meaning)
    if memory and memory.object:
        parts.append(memory.object)
    if deadlock:
        parts.append(deadlock.reason)
    return ". ".join(parts)[:1000]
