"""Reading stacks: from frames and their inline chains to the frame that owns the problem."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from kagent.diagnosis.helpers import base_name, is_helper, is_scaffold
from kagent.klog.model import Frame, KernelLog, Report, TaskState
from kagent.resolution import Author, Evidence, SourcePoint, evidence
from kagent.symbols.model import Symbolized

__all__ = [
    "Symbols",
    "by_frame",
    "contexts",
    "frame_evidence",
    "frame_points",
    "frames_of",
    "in_helper",
    "is_common",
    "log_origin",
    "own_point",
    "points",
    "reliable",
    "site_of",
]

_ENTRY = re.compile(
    r"el1h?(?:_64)?_(?:irq|fiq|error)|__irq_svc|ret_from_(?:intr|exception)|apic_timer_interrupt"
    r"|hardware_interrupt_common(?:_virt)?|decrementer_common(?:_virt)?|handle_exception"
)
"""Entry code after which the interrupted context follows."""

Symbols: TypeAlias = Mapping[Frame, Symbolized]
"""What the debug info says about each frame; an empty mapping where there is none."""


def by_frame(items: Iterable[Symbolized]) -> dict[Frame, Symbolized]:
    """Index a symbolizer's answer by frame."""
    return {item.frame: item for item in items}


def reliable(frames: Iterable[Frame]) -> list[Frame]:
    """Frames the unwinder vouches for; all of them where it vouches for none (no unwinder)."""
    everything = list(frames)
    return [f for f in everything if f.reliable] or everything


def frame_points(frame: Frame, symbols: Symbols) -> list[SourcePoint]:
    """The inline chain at `frame`, innermost first; one point without lines if unknown."""
    known = symbols.get(frame)
    if known and known.chain:
        return [
            SourcePoint(function=c.function, file=c.file, line=c.line, module=frame.module)
            for c in known.chain
        ]
    return [
        SourcePoint(
            function=base_name(frame.symbol), file=frame.file, line=frame.line, module=frame.module
        )
    ]


def is_common(frame: Frame) -> bool:
    """Whether a frame is a helper or entry code: of a kind that says nothing of who is to blame."""
    return is_helper(frame.symbol, module=frame.module) or is_scaffold(frame.symbol)


def in_helper(point: SourcePoint) -> bool:
    """Whether a point of the source lies in a function that works on what it is handed."""
    return is_helper(point.function, point.file, point.module)


def points(frames: Sequence[Frame], symbols: Symbols) -> Iterator[tuple[Frame, SourcePoint]]:
    """Every function of a stack, innermost first, inlined ones included."""
    for frame in frames:
        for point in frame_points(frame, symbols):
            yield frame, point


def contexts(frames: Sequence[Frame]) -> list[int]:
    """For each frame: 0 in the innermost context, one more below every interrupt or exception.

    x86 prints the interrupted ``RIP:`` in the middle of the stack; elsewhere the entry code's
    name tells.
    """
    found: list[int] = []
    depth = 0
    for at, frame in enumerate(frames):
        entered = at > 0 and _ENTRY.fullmatch(frames[at - 1].symbol) is not None
        if at > 0 and (frame.exact or entered):
            depth += 1
        found.append(depth)
    return found


def own_point(frames: Sequence[Frame], symbols: Symbols) -> tuple[Frame, SourcePoint] | None:
    """The first function of a stack that is no helper and no scaffold.

    What an interrupt or exception came into is not looked at: it has handed nobody anything.
    """
    trusted = reliable(frames)
    innermost = [f for f, depth in zip(trusted, contexts(trusted), strict=True) if depth == 0]
    for frame, point in points(innermost, symbols):
        if not in_helper(point) and not is_scaffold(point.function):
            return frame, point
    return None


def frames_of(
    log: KernelLog, tasks: Iterable[TaskState] = (), *, primary: int | None = None
) -> list[Frame]:
    """Every frame of a log worth symbolizing, once: stacks, lockdep's stacks, ``at:`` places.

    What matters most comes first: report `primary`, those that it is a consequence of, tasks that
    hang or spin, the other reports, the other tasks. Whoever can look up only so many takes these.
    """
    near, others = _by_importance(log, log.primary if primary is None else primary)
    everybody = (*log.tasks, *tasks)
    stuck = [task for task in everybody if _is_stuck(task)]
    found: dict[Frame, None] = {}
    for part in (
        *map(_frames_in, near),
        *map(_frames_of_task, stuck),
        *map(_frames_in, others),
        *map(_frames_of_task, everybody),
    ):
        found.update(dict.fromkeys(part))
    return list(found)


def _by_importance(log: KernelLog, primary: int | None) -> tuple[list[Report], list[Report]]:
    """The primary report with its causes, and the others in the log's order."""
    near: dict[int, Report] = {}
    while primary is not None and primary not in near:
        near[primary] = log.reports[primary]
        primary = log.reports[primary].caused_by
    return list(near.values()), [r for i, r in enumerate(log.reports) if i not in near]


def _is_stuck(task: TaskState) -> bool:
    return bool(task.blocked_seconds or task.state == "D" or task.running)


def _frames_in(report: Report) -> Iterator[Frame]:
    yield from (frame for _, frame in report.all_frames())
    facts = report.locks
    if facts is None:
        return
    refs = [*facts.holding, *([facts.acquiring] if facts.acquiring else [])]
    yield from (ref.at for ref in refs if ref.at)
    yield from (f for link in facts.chain for f in link.frames)
    if facts.irq is not None:
        yield from (*facts.irq.safe_at, *facts.irq.unsafe_at)
        yield from (f for link in facts.irq.path for f in link.frames)


def _frames_of_task(task: TaskState) -> Iterator[Frame]:
    yield from ([task.pc] if task.pc else [])
    yield from task.frames
    yield from (ref.at for ref in task.held if ref.at)


def site_of(frame: Frame) -> str:
    """A place in the code, as the log names it: ``symbol+0xoffset``."""
    return f"{frame.symbol}+{frame.offset:#x}" if frame.offset is not None else frame.symbol


def log_origin(span: tuple[int, int]) -> str:
    """How evidence names bytes of the log."""
    return f"log {span[0]}-{span[1]}"


def frame_evidence(frame: Frame, symbols: Symbols) -> Evidence:
    """A frame with its inline chain, as one fact."""
    chain = frame_points(frame, symbols)
    where = " < ".join(
        f"{p.function} at {p.file}:{p.line}" if p.file else p.function for p in chain
    )
    content = f"{frame}: {where}" if chain[0].file else str(frame)
    decoded = symbols.get(frame)
    author: Author = "debug-info" if decoded and decoded.chain else "kernel"
    return evidence("frame", content, log_origin(frame.span), author=author)
