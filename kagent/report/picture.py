"""Where the boxes and arrows of a wait-for graph go, for the SVG of a page or a notebook.

A template draws it, so that every text is escaped there. All measures are in SVG user units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kagent.report.waits import Role, WaitGraph, WaitNode, wait_graph
from kagent.resolution import Deadlock

__all__ = ["Arrow", "Box", "Picture", "draw"]

_BOX_WIDTH, _BOX_HEIGHT = 190.0, 40.0
_GAP_X, _GAP_Y = 170.0, 24.0
_MARGIN = 34.0
_BEND = 46.0
_LOOP = 64.0
_MAX_LABEL = 30


@dataclass(frozen=True, slots=True)
class Box:
    """A task; `x` and `y` are its centre."""

    x: float
    y: float
    width: float
    height: float
    text: str
    role: Role


@dataclass(frozen=True, slots=True)
class Arrow:
    """A wait: an SVG path, and where its label stands."""

    path: str
    x: float
    y: float
    text: str
    inferred: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing of `width` by `height`."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    title: str
    """What a screen reader says instead."""
    left_out: int = 0
    """Tasks that are not drawn."""


def draw(deadlock: Deadlock) -> Picture | None:
    """Lay `deadlock` out; None when it has no arrow to draw.

    Cycles stand on circles, one below the other; who queues behind them stands on the left.
    """
    graph = wait_graph(deadlock)
    if not graph.arrows:
        return None
    places, width, height = _places(graph)
    boxes = tuple(
        Box(*place, _BOX_WIDTH, _BOX_HEIGHT, _short(node.label), node.role)
        for node, place in zip(graph.nodes, places, strict=True)
    )
    arrows = tuple(
        _arrow(boxes[a.waiter], boxes[a.owner], _short(a.label), a.inferred) for a in graph.arrows
    )
    waits = "; ".join(
        f"{graph.nodes[a.waiter].label} waits for {graph.nodes[a.owner].label}"
        for a in graph.arrows
    )
    return Picture(width, height, boxes, arrows, waits, graph.left_out)


def _places(graph: WaitGraph) -> tuple[list[tuple[float, float]], float, float]:
    """The centre of each node, and the size of it all."""
    queue = [at for at, node in enumerate(graph.nodes) if node.role == "victim"]
    groups = _groups(graph.nodes)
    left = _MARGIN + _BOX_WIDTH / 2
    main = left + (_BOX_WIDTH + _GAP_X if queue else 0.0)
    places: dict[int, tuple[float, float]] = {}
    y, right = _MARGIN, main
    for group in groups:
        radius = _radius(len(group))
        for step, at in enumerate(group):
            places[at] = _on_circle(len(group), step, main, y, radius)
            right = max(right, places[at][0])
        y = max(places[at][1] for at in group) + _BOX_HEIGHT / 2 + _LOOP
    column = _MARGIN
    for at in queue:
        places[at] = (left, column + _BOX_HEIGHT / 2)
        column += _BOX_HEIGHT + _GAP_Y
    height = max(y - _LOOP + _BEND, column) + _MARGIN
    ordered = [places[at] for at in range(len(graph.nodes))]
    return ordered, right + _BOX_WIDTH / 2 + _LOOP + _MARGIN, height


def _groups(nodes: Sequence[WaitNode]) -> list[list[int]]:
    """Each cycle's nodes, then the culprit."""
    found: dict[int | None, list[int]] = {}
    for at, node in enumerate(nodes):
        if node.role != "victim":
            found.setdefault(node.cycle, []).append(at)
    return list(found.values())


def _radius(count: int) -> float:
    """Wide enough that neighbours on the circle do not touch."""
    if count < 3:
        return 0.0
    return max(110.0, (_BOX_WIDTH + 40.0) / (2 * math.sin(math.pi / count)) * 0.8)


def _on_circle(
    count: int, step: int, left: float, top: float, radius: float
) -> tuple[float, float]:
    if count < 3:
        return left + step * (_BOX_WIDTH + _GAP_X), top + _BEND + _BOX_HEIGHT / 2
    angle = 2 * math.pi * step / count - math.pi / 2
    x = left + 1.35 * radius * (1 + math.cos(angle))
    return x, top + _BOX_HEIGHT / 2 + radius * (1 + math.sin(angle))


def _arrow(waiter: Box, owner: Box, text: str, inferred: bool) -> Arrow:
    if waiter is owner:
        return _self_loop(waiter, text, inferred)
    if waiter.role == "victim":
        return _from_the_queue(waiter, owner, text, inferred)
    middle_x, middle_y = (waiter.x + owner.x) / 2, (waiter.y + owner.y) / 2
    length = math.hypot(owner.x - waiter.x, owner.y - waiter.y) or 1.0
    # To the left of the way, so that the two arrows of a pair bend apart.
    bend_x = (owner.y - waiter.y) / length * _BEND
    bend_y = -(owner.x - waiter.x) / length * _BEND
    control = (middle_x + bend_x * 1.4, middle_y + bend_y * 1.4)
    start, end = _edge(waiter, control), _edge(owner, control)
    path = (
        f"M{start[0]:.0f} {start[1]:.0f}Q{control[0]:.0f} {control[1]:.0f} "
        f"{end[0]:.0f} {end[1]:.0f}"
    )
    x = (start[0] + end[0]) / 4 + control[0] / 2
    y = (start[1] + end[1]) / 4 + control[1] / 2
    return Arrow(path, round(x, 1), round(y, 1), text, inferred)


def _from_the_queue(waiter: Box, owner: Box, text: str, inferred: bool) -> Arrow:
    """Out on the right, in on the left; the label stands where the ways still lie apart."""
    x, end = waiter.x + waiter.width / 2, owner.x - owner.width / 2
    path = (
        f"M{x:.0f} {waiter.y:.0f}C{x + _BEND:.0f} {waiter.y:.0f} {end - _BEND:.0f} {owner.y:.0f} "
        f"{end:.0f} {owner.y:.0f}"
    )
    return Arrow(path, x + 60.0, round(waiter.y - 4, 1), text, inferred)


def _self_loop(box: Box, text: str, inferred: bool) -> Arrow:
    right, half = box.x + box.width / 2, box.height / 4
    path = (
        f"M{right:.0f} {box.y - half:.0f}c{_LOOP:.0f} -30 {_LOOP:.0f} {30 + 2 * half:.0f} "
        f"0 {2 * half:.0f}"
    )
    return Arrow(path, box.x, round(box.y + box.height, 1), text, inferred)


def _edge(box: Box, towards: tuple[float, float]) -> tuple[float, float]:
    """Where the line from the box's centre to a point leaves the box."""
    x, y = towards[0] - box.x, towards[1] - box.y
    scale = max(abs(x) / (box.width / 2), abs(y) / (box.height / 2), 1e-6)
    return box.x + x / scale, box.y + y / scale


def _short(text: str) -> str:
    return text if len(text) <= _MAX_LABEL else text[: _MAX_LABEL - 1] + "…"
