"""The search behind `call_path`: what may stand, without a frame, between two functions."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from kagent.source.callers import calls_of
from kagent.source.model import FunctionSource, rows
from kagent.source.sites import C_FILES, MAX_FILES, CallSite, uses_of

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree

__all__ = ["Search", "Uses"]

_MAX_DEPTH = 5
_MAX_FRONTIER = 64
_MAX_HEADERS = 40
_SECONDS = 15.0
_MAX_INLINED = 24
_FOLDED = ("inline", "static", "macro")
"""Callers that the compiler may make part of their own caller."""
# Macros that call what they are given: LOCK_CONTENDED(lock, try, take), INDIRECT_CALL_2(f, a, b).
_CALLED_BY_MACRO = re.compile(r"\b[A-Z][A-Z0-9_]{3,}\(")
_ASM_INDIRECT = re.compile(r"\b(?:CALL_NOSPEC|(?:call|jmp)q?\s+\*|blr\s|jalr?\s|bctrl|basr)")
_TAIL_ROWS = 8
_Taken = tuple[CallSite, tuple[CallSite, ...]]


class Uses:
    """Searches for names in several trees; the same question is asked only once."""

    def __init__(self, trees: Sequence[SourceTree]) -> None:
        self.trees = trees
        self.cut = False
        self._known: dict[tuple[frozenset[str], tuple[str, ...]], list[CallSite]] = {}
        self._until = time.monotonic() + _SECONDS

    def of(
        self, names: Iterable[str], *, near: str, globs: Sequence[str] = C_FILES
    ) -> list[CallSite]:
        """Every use, from the file `near` outward; nothing when time is up."""
        wanted = frozenset(names)
        key = (wanted, tuple(globs))
        if key not in self._known:
            if not wanted or self.expired():
                return []
            self._known[key] = sites = []
            files = MAX_FILES if globs == C_FILES else _MAX_HEADERS
            for tree in self.trees:
                found, cut = uses_of(tree, sorted(wanted), globs=globs, near=near, files=files)
                sites += found
                self.cut = self.cut or cut
        return self._known[key]

    def expired(self) -> bool:
        """Whether no further search should begin."""
        over = time.monotonic() > self._until
        self.cut = self.cut or over
        return over

    def is_tail(self, site: CallSite) -> bool:
        """Whether the function ends with this call, so that the compiler may jump instead."""
        tree = next((one for one in self.trees if one.exists(site.path)), None)
        if tree is None or site.path.endswith(".S"):
            return False
        text = tree.read_lines(site.path, site.line, site.line + _TAIL_ROWS).text
        if re.match(rf"\s*return\s+{re.escape(site.callee)}\s*\(", text):
            return True
        after = text.partition(";")[2].lstrip(" \t")
        return bool(re.match(r"\n(?:\s*\n|\s*return;[^\n]*\n|\t\t?\}\n)*\}", after))


@dataclass(frozen=True, slots=True)
class Link:
    """A function or macro that calls its way to the end."""

    steps: tuple[CallSite, ...]
    """From its own body down to the end."""
    path: str
    """File of its body."""
    tail: bool
    """It ends with that call."""

    def vanishes_in(self, path: str) -> bool:
        """Whether it may leave no frame when it is called from a file."""
        inlined = self.path == path or self.path.endswith(".h")
        return self.tail or inlined or self.steps[0].caller_kind == "macro"


@dataclass
class Search:
    """What is known while the way from one definition of the start is looked for."""

    uses: Uses
    end: str
    function: FunctionSource
    calls: dict[str, CallSite] = field(default_factory=dict)
    """First call in the start, by callee."""
    below: dict[str, Link] = field(default_factory=dict)
    """What calls its way to the end, found so far."""

    def __post_init__(self) -> None:
        for site in calls_of(self.function):
            self.calls.setdefault(site.callee, site)

    @property
    def _local(self) -> tuple[str, ...]:
        return (self.function.path, "*.h")

    @property
    def of_end(self) -> list[CallSite]:
        """Uses of the end, anywhere."""
        return self.uses.of([self.end], near=self.function.path)

    def inside(self, site: CallSite) -> bool:
        """Whether a use stands in the start itself."""
        function = self.function
        return site.path == function.path and function.start <= site.line <= function.end

    def way_down(self) -> list[CallSite]:
        """Calls from the start to the end, without pointers; empty when there is no such way."""
        site = self.calls.get(self.end)
        if site is not None and site.kind == "call":
            return [site]
        near = self.uses.of([self.end], near=self.function.path, globs=self._local)
        return self._climb(near, self.below) or self._climb(self.of_end, self.below)

    def way_to(self, uses: Sequence[CallSite]) -> list[CallSite]:
        """Calls from the start to one of some uses, which comes last."""
        return self._climb(uses, {}, used=True)

    def _climb(
        self, level: Sequence[CallSite], below: dict[str, Link], *, used: bool = False
    ) -> list[CallSite]:
        """Upward from uses of the goal to the start, by what may leave no frame.

        `below` gets what was passed; with `used` a use that is no call counts as well.
        """
        if own := next((s for s in level if self.inside(s) and (used or _is_call(s))), None):
            return [own]
        goals = {site.callee for site in level}
        for depth in range(_MAX_DEPTH):
            new = self._callers(level, below, goals, any_use=used and depth == 0)
            for name, link in new.items():
                first = self.calls.get(name)
                if first and first.kind == "call" and link.vanishes_in(self.function.path):
                    return [first, *link.steps]
            if not new or self.uses.expired():
                break
            below |= new
            places = {link.path for link in new.values() if not link.path.endswith(".h")}
            globs = (*self._local, *sorted(places - {self.function.path}))
            level = self.uses.of(new, near=self.function.path, globs=globs)
        return []

    def _callers(
        self, level: Sequence[CallSite], below: dict[str, Link], goals: set[str], *, any_use: bool
    ) -> dict[str, Link]:
        """Callers that may vanish themselves; those that the start calls come first."""
        new: dict[str, Link] = {}
        for site in sorted(level, key=self._promise):
            if not site.caller or site.caller in below or not (any_use or _is_call(site)):
                continue
            known = below.get(site.callee)
            if known is None and site.callee not in goals:
                continue
            if known is not None and not known.vanishes_in(site.path):
                continue
            if len(new) >= _MAX_FRONTIER and site.caller not in self.calls:
                self.uses.cut = True
                continue
            steps = (site, *(known.steps if known else ()))
            if site.caller not in new:
                tail = not any_use and self.uses.is_tail(site)
                new[site.caller] = Link(steps, site.path, tail)
        return new

    def _promise(self, site: CallSite) -> tuple[bool, bool, bool]:
        here = site.path == self.function.path
        return site.caller not in self.calls, not here, site.caller_kind not in _FOLDED

    # Pointers ---------------------------------------------------------------------------------

    def calls_to(self, pattern: re.Pattern[str]) -> list[CallSite]:
        """The way to a call whose callee fits, in the start or in what its file inlines into it."""
        ways = ([*way, s] for way, calls in self._inlined() for s in calls)
        return next((way for way in ways if pattern.search(way[-1].callee)), [])

    @cached_property
    def indirect(self) -> list[list[CallSite]]:
        """Ways to calls through a pointer: in the start, and in what its file inlines into it."""
        if self.function.path.endswith(".S"):
            return [[site] for site in self._in_assembly()]
        found: list[list[CallSite]] = []
        for way, calls in self._inlined():
            found += [[*way, site] for site in calls if site.kind == "pointer"]
        return found

    def _inlined(self) -> Iterator[tuple[list[CallSite], list[CallSite]]]:
        """(way to it, its calls) of the start and of functions of its file below it."""
        if self.function.path.endswith(".S"):
            return
        tree = next(t for t in self.uses.trees if t.exists(self.function.path))
        bodies = {one.name: one for one in tree.functions_in(self.function.path)}
        queue: list[tuple[list[CallSite], FunctionSource]] = [([], self.function)]
        seen = {self.function.name}
        for _ in range(_MAX_INLINED):
            if not queue:
                return
            way, body = queue.pop(0)
            calls = calls_of(body)
            yield way, calls
            for site in calls:
                if len(way) < 2 and site.callee in bodies and site.callee not in seen:
                    seen.add(site.callee)
                    queue.append(([*way, site], bodies[site.callee]))

    def _in_assembly(self) -> Iterator[CallSite]:
        for number, row in enumerate(rows(self.function.text), self.function.start):
            if _ASM_INDIRECT.search(row):
                name, path = self.function.name, self.function.path
                yield CallSite(name, "", path, number, row.strip()[:200], "pointer", "assembly")

    def addresses(self) -> list[_Taken]:
        """(place that takes the address, calls from there to the end), the end's own first.

        A function that ends with a call of the end leaves no frame either: its address counts.
        """
        home = sorted(self._homes)
        own = self.uses.of([self.end], near=self.function.path, globs=home) if home else []
        ends = dict.fromkeys([*own, *self.of_end])
        taken: list[_Taken] = [(site, ()) for site in ends if site.kind == "reference"]
        tails = {name: link for name, link in self.below.items() if _all_tails(link)}
        files = tuple(sorted({link.path for link in tails.values()}))[:_MAX_FRONTIER]
        sites = self.uses.of(tails, near=self.function.path, globs=files) if files else []
        more = [(site, tails[site.callee].steps) for site in sites if site.kind == "reference"]
        return [*sorted(taken, key=lambda pair: self._far(pair[0])), *more]

    def _far(self, site: CallSite) -> tuple[bool, bool]:
        """Tables and the file that defines the end come first."""
        homes = self._homes
        return site.path not in homes, bool(site.caller)

    @cached_property
    def _homes(self) -> set[str]:
        found = (tree.lookup([self.end])[self.end][:1] for tree in self.uses.trees)
        return {one.path for definitions in found for one in definitions}

    def reads_of(self, members: Iterable[str]) -> list[CallSite]:
        """Calls through members of those names near the start, those that call them first."""
        sites = self.uses.of(members, near=self.function.path, globs=self._local)
        return sorted((s for s in sites if s.kind == "pointer"), key=_only_read)

    def names_of(self, hooks: Mapping[str, str]) -> list[CallSite]:
        """Places that name one of some hooks (by name: file that ties it) near the start."""
        if not hooks:
            return []
        globs = (*self._local, *sorted(set(hooks.values()) - {self.function.path}))
        sites = self.uses.of(hooks, near=self.function.path, globs=globs)
        return [site for site in sites if site.caller and site.kind != "call"]


def _is_call(site: CallSite) -> bool:
    if site.kind == "call":
        return True
    return bool(site.kind == "reference" and site.caller and _CALLED_BY_MACRO.search(site.text))


def _all_tails(link: Link) -> bool:
    return link.tail and link.steps[0].caller_kind != "macro"


def _only_read(use: CallSite) -> bool:
    """A member that is read, not called: in a condition, or into a variable."""
    return not re.search(rf"(?:\.|->)\s*{re.escape(use.callee)}\s*\(", use.text)
