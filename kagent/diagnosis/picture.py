"""Pictures of waiting: Mermaid text, a tree for terminals, and lockdep's two columns."""

from __future__ import annotations

from collections.abc import Sequence

from kagent.resolution import CycleMember, Deadlock
from kagent.text import strip_control

__all__ = ["interleaving", "mermaid", "wait_tree"]

_COLUMN = 34
_MAX_LABEL = 60


def mermaid(deadlock: Deadlock) -> str:
    """The wait-for graph as a Mermaid flowchart: arrows point from the waiter to the owner."""
    lines = ["flowchart LR"]
    ids: dict[tuple[str, int | None], str] = {}

    def node(task: str, pid: int | None, style: str) -> str:
        key = (task, pid)
        if key not in ids:
            ids[key] = f"t{len(ids)}"
            label = f"{task} ({pid})" if pid is not None else task
            lines.append(f'    {ids[key]}["{_quoted(label)}"]:::{style}')
        return ids[key]

    for cycle in deadlock.cycles:
        names = [node(member.task, member.pid, "stuck") for member in cycle]
        for at, member in enumerate(cycle):
            owner = names[(at + 1) % len(names)]
            arrow = "-.->" if member.inferred else "-->"
            lines.append(f'    {names[at]} {arrow}|"{_quoted(member.waits_for or "?")}"| {owner}')
    owners = _owners(deadlock)
    for victim in deadlock.victims:
        name = node(victim.task, victim.pid, "victim")
        wanted = _quoted(victim.waits_for or "?")
        found = owners.get(victim.waits_for or "")
        if found is None and deadlock.culprit is not None:
            found = (deadlock.culprit.task, deadlock.culprit.pid)
        if found is not None:
            style = "stuck" if deadlock.cycles else "culprit"
            lines.append(f'    {name} -->|"{wanted}"| {node(*found, style)}')
    lines += [
        "    classDef stuck fill:#f8d7da,stroke:#b02a37",
        "    classDef victim fill:#e2e3e5,stroke:#6c757d",
        "    classDef culprit fill:#fff3cd,stroke:#b58900",
    ]
    return "\n".join(lines)


def wait_tree(deadlock: Deadlock) -> list[str]:
    """The same as lines for a terminal: each cycle, then who queues behind it."""
    lines = [f"{deadlock.verdict}: {strip_control(deadlock.reason)}"]
    for number, cycle in enumerate(deadlock.cycles, 1):
        lines.append(f"cycle {number}" if len(deadlock.cycles) > 1 else "cycle")
        for at, member in enumerate(cycle):
            last = at == len(cycle) - 1
            lines += _member_lines(member, cycle[(at + 1) % len(cycle)], last=last)
    if deadlock.culprit is not None:
        pid = f"/{deadlock.culprit.pid}" if deadlock.culprit.pid is not None else ""
        lines.append(f"holds everybody up: {strip_control(deadlock.culprit.task)}{pid}")
    if deadlock.victims:
        lines.append("queued behind")
        for at, victim in enumerate(deadlock.victims):
            branch = "└─" if at == len(deadlock.victims) - 1 else "├─"
            where = f" in {victim.where.function}()" if victim.where else ""
            task = f"{victim.task}/{victim.pid}" if victim.pid is not None else victim.task
            wanted = victim.waits_for or "something"
            lines.append(strip_control(f"{branch} {task} waits for {wanted}{where}"))
    return lines


def interleaving(cycle: Sequence[CycleMember]) -> list[str]:
    """How the cycle comes about, one column for each task, time downwards.

    First everybody takes what it holds, then everybody asks for what the next one has.
    """
    heads = [_clipped(_who(member)) for member in cycle]
    width = max(_COLUMN, *(len(head) + 2 for head in heads)) if heads else _COLUMN

    def row(at: int, text: str) -> str:
        return (" " * width * at + _clipped(text)).rstrip()

    lines = ["".join(f"{head:<{width}}" for head in heads).rstrip()]
    lines.append("".join(f"{'-' * len(head):<{width}}" for head in heads).rstrip())
    for at, member in enumerate(cycle):
        if member.holds:
            lines.append(row(at, f"lock({member.holds[0]});"))
    for at, member in enumerate(cycle):
        lines.append(row(at, f"lock({member.waits_for or '?'});"))
    lines.append("*** DEADLOCK ***")
    return lines


def _member_lines(member: CycleMember, owner: CycleMember, *, last: bool) -> list[str]:
    branch, stem = ("└─", "  ") if last else ("├─", "│ ")
    kind = f"{member.lock_type} " if member.lock_type else ""
    where = ""
    if member.where is not None:
        where = f" in {member.where.function}()"
        if member.where.line:
            where += f" at {member.where.file}:{member.where.line}"
    sure = " (inferred)" if member.inferred else ""
    texts = [
        f"{branch} {_who(member)}{sure}",
        f"{stem}   holds     {', '.join(member.holds) or 'nothing that is known'}",
        f"{stem}   waits for {kind}{member.waits_for or '?'}{where}",
        f"{stem}   owned by  {_who(owner)}",
    ]
    return [strip_control(text) for text in texts]


def _owners(deadlock: Deadlock) -> dict[str, tuple[str, int | None]]:
    return {
        lock: (member.task, member.pid)
        for cycle in deadlock.cycles
        for member in cycle
        for lock in member.holds
    }


def _who(member: CycleMember) -> str:
    return f"{member.task}/{member.pid}" if member.pid is not None else member.task


def _clipped(text: str) -> str:
    text = strip_control(text).replace("\n", " ")
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"


def _quoted(text: str) -> str:
    """Text fit for a quoted Mermaid label: entities for what would end or restyle it."""
    clean = _clipped(text)
    return "".join(c if c.isalnum() or c in " _-.,:()/+*'" else f"#{ord(c)};" for c in clean)
