"""Circles in the wait-for graph: whether there is one, and which tells most.

Whether tasks wait in a circle is decided by strongly connected components, in linear time and
without any limit. Only which circle of a component is shown has limits: there may be exponentially
many, and the one with the fewest doubts, then the shortest, says most.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kagent.diagnosis.locks.edges import Edge
from kagent.resolution import LeftOut

__all__ = ["Circles", "circles", "rings"]

MAX_CYCLES = 16
"""Circles that are told; tasks of the others are counted."""
MAX_COMPONENT = 64
"""Tasks of a component from each of which the best circle is sought; of a larger one it is sought
from `_FEW` tasks, `_FEW` times."""
_FEW = 4
_MAX_RING = 6

Successors = Mapping[int, Mapping[int, bool]]
"""For each task those it waits for, and whether that is sure."""


@dataclass(slots=True)
class Circles:
    """Circles of tasks, each task in at most one of them."""

    found: list[list[int]] = field(default_factory=list)
    components: int = 0
    """Groups of tasks that wait for one another in a circle."""
    untold: int = 0
    """How many of them have no circle among `found`, because there are too many."""
    large: int = 0
    """Tasks in components that are too large to look at every circle."""

    def left_out(self) -> list[LeftOut]:
        """The components of which no circle is told, and circles that were not looked for."""
        items = []
        if self.untold:
            items.append(
                LeftOut(
                    what="groups of tasks that wait in a circle",
                    kept=self.components - self.untold,
                    total=self.components,
                    why=f"{MAX_CYCLES} circles are told; the verdict is that of all groups",
                )
            )
        if self.large:
            items.append(
                LeftOut(
                    what=f"circles among {self.large} tasks that all wait for one another",
                    kept=len(self.found),
                    why="there may be exponentially many; a short one is told",
                )
            )
        return items


def circles(edges: Iterable[Edge]) -> Circles:
    """For each component the circles that tell most; the verdict is whether there are any."""
    after: dict[int, dict[int, bool]] = {}
    for edge in edges:
        known = after.setdefault(edge.waiter, {})
        known[edge.owner] = edge.certain
    result = Circles()
    pending = _components(after)
    result.components = len(pending)
    told: set[int] = set()
    chosen: list[tuple[tuple[int, int, int], list[int], int]] = []
    for number, component in enumerate(pending):
        large = len(component) > MAX_COMPONENT
        result.large += len(component) if large else 0
        for cycle, cost in _disjoint(after, component, _FEW if large else MAX_CYCLES):
            chosen.append(((*cost, min(cycle)), cycle, number))
    chosen.sort(key=lambda entry: entry[0])
    for _, cycle, number in chosen[:MAX_CYCLES]:
        result.found.append(_turned(cycle))
        told.add(number)
    result.untold = len(pending) - len(told)
    return result


def rings(edges: Iterable[Edge]) -> list[list[int]]:
    """For each small group of tasks that may all wait for one another: one ring through all."""
    after: dict[int, dict[int, bool]] = {}
    for edge in edges:
        after.setdefault(edge.waiter, {})[edge.owner] = edge.certain
    found: list[list[int]] = []
    for group in _components(after):
        if not 2 <= len(group) <= _MAX_RING:
            continue
        first, *others = sorted(group)
        orders = ([first, *order] for order in itertools.permutations(others))
        whole = (
            ring
            for ring in orders
            if all(b in after.get(a, {}) for a, b in zip(ring, [*ring[1:], first], strict=True))
        )
        found += list(itertools.islice(whole, 1))
    return found


def _components(after: Successors) -> list[set[int]]:
    """Those that have a circle, a task that waits for itself among them; by their lowest task."""
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_edges_from((a, b) for a, following in after.items() for b in following)
    found = (set(group) for group in nx.strongly_connected_components(graph))
    closed = [g for g in found if len(g) > 1 or any(a in after.get(a, {}) for a in g)]
    return sorted(closed, key=min)


def _disjoint(
    after: Successors, component: set[int], most: int
) -> Iterable[tuple[list[int], tuple[int, int]]]:
    """The best circle of a component, the best of what is left without its tasks, and so on."""
    left = [component]
    while left and most:
        members = left.pop()
        best = _best(after, members)
        if best is None:
            continue
        yield best
        most -= 1
        rest = members - set(best[0])
        inside = {a: {b: s for b, s in after.get(a, {}).items() if b in rest} for a in rest}
        left += reversed(_components(inside))


def _best(after: Successors, members: set[int]) -> tuple[list[int], tuple[int, int]] | None:
    """The circle with the fewest doubts, then the shortest, then that of the lowest task."""
    best: tuple[tuple[int, int, int], list[int]] | None = None
    for start in sorted(members)[: _FEW if len(members) > MAX_COMPONENT else None]:
        found = _through(after, members, start)
        if found is None:
            continue
        cycle, cost = found
        rank = (*cost, min(cycle))
        if best is None or rank < best[0]:
            best = rank, cycle
    return (best[1], best[0][:2]) if best else None


def _through(
    after: Successors, members: set[int], start: int
) -> tuple[list[int], tuple[int, int]] | None:
    """The best circle through one task: Dijkstra by (doubts, steps) back to where it began."""
    best: dict[int, tuple[int, int]] = {}
    before: dict[int, int] = {}
    queue: list[tuple[int, int, int, int]] = [(0, 0, start, -1)]
    while queue:
        doubts, steps, at, came = heapq.heappop(queue)
        if at in best and (at != start or steps == 0):
            continue
        if steps:
            before[at] = came
            if at == start:
                return _path(before, start), (doubts, steps)
            best[at] = doubts, steps
        for following, sure in after.get(at, {}).items():
            if following in members and following not in best:
                heapq.heappush(queue, (doubts + (not sure), steps + 1, following, at))
    return None


def _path(before: Mapping[int, int], start: int) -> list[int]:
    path = [start]
    at = before[start]
    while at != start:
        path.append(at)
        at = before[at]
    return [start, *reversed(path[1:])]


def _turned(cycle: Sequence[int]) -> list[int]:
    start = cycle.index(min(cycle))
    return [*cycle[start:], *cycle[:start]]
