"""Who may own what a task waits for: found by index, each kind of wait once.

Tasks that wait for the same thing share one list of owners, so that thousands of bystanders cost
no more than their number. Where that list is very long, `narrow` keeps of it what decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kagent.diagnosis.locks.model import LockUse, TaskLocks, likeness, offered, same_lock, wanted
from kagent.resolution import LeftOut

__all__ = ["MAX_OWNERS", "Owners"]

MAX_OWNERS = 64
"""Owners of one lock that are looked at. Of more that may own it by its type alone, none is taken
for its owner: nothing tells one of them from another."""

Wish = tuple[object, ...]
"""All that decides who may own what a task waits for."""


@dataclass(slots=True)
class _Uses:
    """Uses of locks by the keys under which they are found, those that are alike taken together."""

    by_key: dict[str, dict[tuple[object, ...], tuple[LockUse, set[int]]]] = field(
        default_factory=dict
    )

    def add(self, task: int, use: LockUse) -> None:
        same = likeness(use)
        for key in offered(use):
            self.by_key.setdefault(key, {}).setdefault(same, (use, set()))[1].add(task)

    def of(self, waits: LockUse) -> Iterator[tuple[LockUse, set[int]]]:
        """Each kind of use that may be of the awaited lock, with the tasks that have it."""
        seen: set[tuple[object, ...]] = set()
        for key in wanted(waits):
            for same, found in self.by_key.get(key, {}).items():
                if same not in seen:
                    seen.add(same)
                    yield found


class Owners:
    """Indices of tasks by what others may wait for from them."""

    def __init__(self, tasks: Sequence[TaskLocks]) -> None:
        self.tasks = tasks
        self._addresses: dict[int, list[int]] = {}
        self._held, self._unplaced = _Uses(), _Uses()
        """All locks held; and those among them whose address is not known."""
        self._signals = _Uses()
        self._writers = _Uses()
        self._runs: dict[str, list[int]] = {}
        self._workers: list[int] = []
        self._names: dict[tuple[str, int], list[int]] = {}
        self.readers = [at for at, task in enumerate(tasks) if task.reads_rcu]
        self.unlisted = [at for at, task in enumerate(tasks) if task.unlisted]
        self._found: dict[Wish, list[int]] = {}
        self._crowds: dict[Wish, int] = {}
        for at, task in enumerate(tasks):
            self._enter(at, task)
        self._narrowed = self._narrow()

    def _enter(self, at: int, task: TaskLocks) -> None:
        for use in task.holds:
            self._held.add(at, use)
            if use.address is None:
                self._unplaced.add(at, use)
            elif (places := self._addresses.setdefault(use.address, []))[-1:] != [at]:
                places.append(at)
        for use in task.signals:
            self._signals.add(at, use)
        if task.waits is not None and task.waits.mode == "write":
            self._writers.add(at, task.waits)
        for run in dict.fromkeys(task.runs):
            self._runs.setdefault(run, []).append(at)
        if any(run.startswith("workqueue:") for run in task.runs):
            self._workers.append(at)
        self._names.setdefault((task.comm, task.pid), []).append(at)

    def around(self, task: TaskLocks, waits: LockUse) -> list[int]:
        """Tasks that may own what `task` waits for, ascending; only a closer look can tell."""
        wish = _wish(task, waits)
        return self._narrowed.get(wish, self._found[wish])

    def writers(self, waits: LockUse) -> list[int]:
        """A few tasks that wait to write what `waits` is about.

        All of them wait for the same owners; any one leads a reader behind it there.
        """
        found = sorted({at for use, ats in self._writers.of(waits) for at in ats
                        if same_lock(waits, use)[0]})  # fmt: skip
        return found[:_FEW]

    def is_crowd(self, task: TaskLocks) -> bool:
        """Whether too many may own what it waits for, and nothing tells them apart."""
        return task.waits is not None and _wish(task, task.waits) in self._crowds

    def left_out(self) -> Iterator[LeftOut]:
        """The owners that were not looked at."""
        crowd = sum(self._crowds.values())
        if crowd:
            yield LeftOut(
                what="possible owners of a lock",
                kept=0,
                total=crowd,
                why=f"more than {MAX_OWNERS} tasks hold one of its type, and nothing tells which",
            )
        if len(self.unlisted) > MAX_OWNERS:
            yield LeftOut(
                what="running tasks that may hold a lock",
                kept=MAX_OWNERS,
                total=len(self.unlisted),
                why="they wait for nobody, so that one stands for all",
            )
        lists = [(self._narrowed[wish], self._found[wish]) for wish in self._narrowed]
        if lists:
            yield LeftOut(
                what="owners of a lock",
                kept=sum(len(kept) for kept, _ in lists),
                total=sum(len(found) for _, found in lists),
                why=f"about {MAX_OWNERS} of each lock's, those that close a circle first",
            )

    def _look_up(self, task: TaskLocks, waits: LockUse, wish: Wish) -> list[int]:
        named = self._names.get(task.owner, []) if task.owner else []
        if waits.kind == "handler":
            found = [at for name in waits.handlers for at in self._runs.get(name, ())]
            return sorted({*found, *(() if waits.handlers else self._workers), *named})
        if waits.kind == "grace-period":
            return sorted({*self.readers, *named})
        placed = self._addresses.get(waits.address) if waits.address is not None else None
        if placed:
            return sorted({*self._firm(placed, waits), *named})
        alike = self._held if waits.address is None else self._unplaced
        proven: set[int] = set()
        likely: set[int] = set()
        for use, ats in (*alike.of(waits), *self._signals.of(waits)):
            same, sure = same_lock(waits, use)
            if same:
                (proven if sure else likely).update(ats)
        if len(proven | likely) > MAX_OWNERS:
            if not proven:
                self._crowds[wish] = len(likely)
            likely = set()
        return sorted({*proven, *likely, *named})

    def _firm(self, placed: Sequence[int], waits: LockUse) -> Sequence[int]:
        """Of very many that list a lock, those whose stack shows that they have it.

        lockdep enters a lock in the list before it is taken: the last one listed may be awaited.
        """
        if len(placed) <= MAX_OWNERS:
            return placed
        firm = [
            at
            for at in placed
            if self.tasks[at].sites or self.tasks[at].holds[-1].address != waits.address
        ]
        return firm or placed[:2]

    def _narrow(self) -> dict[Wish, list[int]]:
        wishes: dict[int, Wish] = {}
        for at, task in enumerate(self.tasks):
            if task.waits is not None:
                wishes[at] = wish = _wish(task, task.waits)
                if wish not in self._found:
                    self._found[wish] = self._look_up(task, task.waits, wish)
        large = {wish for wish, found in self._found.items() if len(found) > MAX_OWNERS}
        return _narrowed(wishes, self._found, large) if large else {}


_FEW = 8


def _wish(task: TaskLocks, waits: LockUse) -> Wish:
    handlers = waits.handlers if waits.kind == "handler" else ()
    return (task.owner, waits.address, handlers, *likeness(waits))


def _narrowed(
    wishes: dict[int, Wish], found: dict[Wish, list[int]], large: set[Wish]
) -> dict[Wish, list[int]]:
    """About `MAX_OWNERS` of each very long list, without a change to who waits in a circle.

    Tasks and wishes are nodes of one graph: task → its wish → each owner. Of a long list are kept:

    - the owner that leads back to the root of its component (`_ways`). Whoever follows these from
      any task of a component comes to the root, and from there round again: each component that
      had a circle has one still;
    - other owners of the same component, up to the limit; owners elsewhere lead into no circle
      with the waiter;
    - one that waits for nobody, for waits that any one owner can end.
    """
    back, root = _ways(wishes, found)
    kept: dict[Wish, list[int]] = {}
    for wish in large:
        owners = found[wish]
        inside = [
            at for at in owners if root.get(at) is not None and root.get(at) == root.get(wish)
        ]
        free = next((at for at in owners if at not in wishes), None)
        way = back.get(wish)
        first = [at for at in (way, free) if isinstance(at, int)]
        rest = [*inside, *owners][:MAX_OWNERS]
        kept[wish] = sorted(dict.fromkeys([*first, *rest]))
    return kept


def _ways(
    wishes: dict[int, Wish], found: dict[Wish, list[int]]
) -> tuple[dict[object, object], dict[object, int]]:
    """For each node of a component with a circle: the next one on its way to the component's root,
    and that root, its lowest task.
    """
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_edges_from(wishes.items())
    graph.add_edges_from((wish, at) for wish, owners in found.items() for at in owners)
    back: dict[object, object] = {}
    root: dict[object, int] = {}
    for component in nx.strongly_connected_components(graph):
        if len(component) < 2:
            continue
        lowest = min(node for node in component if isinstance(node, int))
        root[lowest] = lowest
        queue: deque[object] = deque([lowest])
        while queue:
            node = queue.popleft()
            before: Iterable[object] = graph.predecessors(node)
            for other in before:
                if other in component and other not in root:
                    root[other], back[other] = lowest, node
                    queue.append(other)
    return back, root
