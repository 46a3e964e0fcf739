"""Who waits for whom, drawn three ways: Mermaid, a tree for terminals, lockdep's columns.

All take a `Deadlock` and know nothing of how it was found. `wait_graph` is what they and the
picture of `kagent.report.picture` share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kagent.report.decoded import position
from kagent.report.facts import task_name
from kagent.report.prose import one_line
from kagent.resolution import CycleMember, Deadlock, SourcePoint
from kagent.text import strip_control

__all__ = [
    "WaitArrow",
    "WaitGraph",
    "WaitNode",
    "interleaving",
    "mermaid",
    "wait_graph",
    "wait_tree",
]

Role = Literal["stuck", "victim", "culprit"]

MAX_VICTIMS = 12
"""Tasks behind a deadlock that are drawn; the text lists more."""
_MAX_TREE = 40
_COLUMN = 34
_MAX_COLUMN = 60
_MAX_LABEL = 60


@dataclass(frozen=True, slots=True)
class WaitNode:
    """A task."""

    label: str
    role: Role
    cycle: int | None = None
    """Number of the cycle it belongs to, from 0."""


@dataclass(frozen=True, slots=True)
class WaitArrow:
    """From the task that waits to the task it waits for, by their numbers."""

    waiter: int
    owner: int
    label: str
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class WaitGraph:
    """Tasks and their waits; cycles come first, in order."""

    nodes: tuple[WaitNode, ...]
    arrows: tuple[WaitArrow, ...]
    left_out: int = 0
    """Victims that are not drawn."""


def wait_graph(deadlock: Deadlock) -> WaitGraph:
    """Nodes and arrows of `deadlock`, each task once."""
    nodes: list[WaitNode] = []
    arrows: list[WaitArrow] = []
    owners: dict[str, int] = {}
    for number, cycle in enumerate(deadlock.cycles):
        first = len(nodes)
        for at, member in enumerate(cycle):
            nodes.append(WaitNode(task_name(member.task, member.pid), "stuck", number))
            owed = [member.owes] if member.owes else []
            owners.update(dict.fromkeys([*member.holds, *owed], first + at))
            after = first + (at + 1) % len(cycle)
            label = one_line(member.waits_for or "?")
            arrows.append(WaitArrow(first + at, after, label, member.inferred))
    culprit = None
    if deadlock.culprit is not None:
        name = task_name(deadlock.culprit.task, deadlock.culprit.pid)
        known = [at for at, node in enumerate(nodes) if node.label == name]
        culprit = known[0] if known else len(nodes)
        if not known:
            nodes.append(WaitNode(name, "culprit"))
    for victim in deadlock.victims[:MAX_VICTIMS]:
        nodes.append(WaitNode(task_name(victim.task, victim.pid), "victim"))
        owner = owners.get(victim.waits_for or "", culprit)
        if owner is not None:
            arrows.append(WaitArrow(len(nodes) - 1, owner, one_line(victim.waits_for or "?")))
    return WaitGraph(tuple(nodes), tuple(arrows), max(0, len(deadlock.victims) - MAX_VICTIMS))


def mermaid(deadlock: Deadlock) -> str:
    """The graph as a Mermaid flowchart; empty when there is nothing to draw.

    Solid arrows are what the kernel printed, dotted ones were inferred.
    """
    graph = wait_graph(deadlock)
    if not graph.arrows:
        return ""
    lines = ["flowchart LR"]
    lines += [
        f'    t{at}["{_quoted(node.label)}"]:::{node.role}' for at, node in enumerate(graph.nodes)
    ]
    for arrow in graph.arrows:
        line = "-.->" if arrow.inferred else "-->"
        lines.append(f'    t{arrow.waiter} {line}|"{_quoted(arrow.label)}"| t{arrow.owner}')
    if graph.left_out:
        lines.append(f'    more["and {graph.left_out} more behind it"]:::victim')
    lines += [
        "    classDef stuck fill:#f8d7da,stroke:#b02a37,color:#000",
        "    classDef victim fill:#e2e3e5,stroke:#6c757d,color:#000",
        "    classDef culprit fill:#fff3cd,stroke:#b58900,color:#000",
    ]
    return "\n".join(lines)


def wait_tree(deadlock: Deadlock) -> list[str]:
    """The graph as lines of text: each cycle in order, then who queues behind it."""
    lines: list[str] = []
    for number, cycle in enumerate(deadlock.cycles, 1):
        lines.append(f"cycle {number}" if len(deadlock.cycles) > 1 else "cycle")
        for at, member in enumerate(cycle):
            lines += _member_lines(member, cycle[(at + 1) % len(cycle)], last=at == len(cycle) - 1)
    if deadlock.cycles and deadlock.victims:
        lines.append("queued behind it")
    elif deadlock.culprit is not None:
        lines.append(task_name(deadlock.culprit.task, deadlock.culprit.pid))
    elif deadlock.victims:
        lines.append("waiting")
    shown = deadlock.victims[:_MAX_TREE]
    left_out = len(deadlock.victims) - len(shown)
    for at, victim in enumerate(shown):
        branch = "└─" if at == len(shown) - 1 and not left_out else "├─"
        where = f" in {_at(victim.where)}" if victim.where else ""
        wanted = victim.waits_for or "something"
        lines.append(f"{branch} {task_name(victim.task, victim.pid)} waits for {wanted}{where}")
    if left_out:
        lines.append(f"└─ and {left_out} more")
    return [_drawn(line) for line in lines]


def interleaving(cycle: Sequence[CycleMember]) -> list[str]:
    """How the cycle comes about, one column for each task, time downwards.

    This is lockdep's "Possible unsafe locking scenario" (print_circular_lock_scenario of
    kernel/locking/lockdep.c) for a cycle of any length: first everybody takes what it holds, then
    everybody asks for what the next one has. A member that an interrupt stopped shows the
    interrupt where lockdep does.
    """
    heads = [_clipped(_head(at, member)) for at, member in enumerate(cycle)]
    took = [_taken(member) for member in cycle]
    asked = [_asked(member) for member in cycle]
    texts = [*heads, *took, *(line for lines in asked for line in lines)]
    width = min(_MAX_COLUMN, max(_COLUMN, *(len(text) + 2 for text in texts))) if texts else 0

    def row(at: int, text: str) -> str:
        return (" " * width * at + _clipped(text)).rstrip()

    lines = ["".join(f"{head:<{width}}" for head in heads).rstrip()]
    lines.append("".join(f"{'-' * len(head):<{width}}" for head in heads).rstrip())
    lines += [row(at, text) for at, text in enumerate(took) if text]
    # A queued writer asks before the reader behind it; an interrupt comes after everybody else.
    order = sorted(range(len(cycle)), key=lambda at: (cycle[at].interrupt, bool(cycle[at].holds)))
    lines += [row(at, text) for at in order for text in asked[at]]
    return [*lines, "*** DEADLOCK ***"]


def _head(at: int, member: CycleMember) -> str:
    return f"CPU{at} {task_name(member.task, member.pid)}"


def _taken(member: CycleMember) -> str:
    if not member.holds:
        return f"owes {_bare(member.owes)};" if member.owes else ""
    point = member.taken[0] if member.taken else None
    return f"lock({_bare(member.holds[0])});{_line(point)}"


def _asked(member: CycleMember) -> list[str]:
    text = f"lock({_bare(member.waits_for or '?')});{_line(member.where)}"
    return ["<Interrupt>", f"  {text}"] if member.interrupt else [text]


def _line(point: SourcePoint | None) -> str:
    """The last part of the path is enough in a narrow column."""
    if point is None or not point.file or point.line is None:
        return ""
    return f"  {point.file.rpartition('/')[2]}:{point.line}"


def _bare(lock: str) -> str:
    """A lock's name without its address."""
    return lock.split(" (0x")[0]


def _member_lines(member: CycleMember, owner: CycleMember, *, last: bool) -> list[str]:
    branch, stem = ("└─", "  ") if last else ("├─", "│ ")
    kind = f"{member.lock_type} " if member.lock_type else ""
    where = f" in {_at(member.where)}" if member.where else ""
    sure = " (inferred)" if member.inferred else ""
    irq = ", from an interrupt" if member.interrupt else ""
    holds = [
        f"{lock} from {_at(point)}" if point else lock
        for lock, point in zip(
            member.holds, [*member.taken, *[None] * len(member.holds)], strict=False
        )
    ]
    return [
        f"{branch} {task_name(member.task, member.pid)}{sure}",
        *([f"{stem}   holds     {', '.join(holds)}"] if holds else []),
        *([f"{stem}   owes      {member.owes}"] if member.owes else []),
        f"{stem}   waits for {kind}{member.waits_for or '?'}{irq}{where}",
        f"{stem}   owned by  {task_name(owner.task, owner.pid)}",
    ]


def _at(point: SourcePoint) -> str:
    line = f" at {position(point.file, point.line)}" if point.file else ""
    return f"{point.function}(){line}"


def _drawn(text: str) -> str:
    """`text` without line breaks, with the blanks that draw the tree."""
    text = strip_control(text)
    bare = text.lstrip(" ")
    return " " * (len(text) - len(bare)) + bare.replace("\n", " ").replace("\t", " ")


def _clipped(text: str) -> str:
    text = strip_control(text).replace("\n", " ")
    return text if len(text) <= _MAX_COLUMN else text[: _MAX_COLUMN - 1] + "…"


def _quoted(text: str) -> str:
    """Text fit for a quoted Mermaid label: entities for what would end or restyle it."""
    text = strip_control(text)
    clean = text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"
    return "".join(c if c.isalnum() or c in " _-.,:()/+*'&>[]" else f"#{ord(c)};" for c in clean)
