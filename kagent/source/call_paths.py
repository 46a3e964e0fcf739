"""How one frame of a trace reaches the next, where the source shows it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from kagent.source.callers import calls_of
from kagent.source.model import FunctionSource
from kagent.source.names import source_names
from kagent.source.sites import C_FILES, MAX_FILES, CallSite, uses_of

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree

__all__ = ["CallPath", "call_path"]

_MAX_DEFINITIONS = 4
_MAX_DEPTH = 4
_MAX_FRONTIER = 64
_MAX_HEADERS = 40
_SECONDS = 15.0
_MAX_REFERENCES = 8
_FOLDED = ("inline", "static", "macro")
"""Callers that leave no frame of their own."""


@dataclass(frozen=True, slots=True)
class CallPath:
    """How `start` reaches `end`."""

    start: str
    end: str
    kind: Literal["direct", "through", "pointer", "registered", "unknown"]
    """direct: it calls it. through: by way of inlined functions, macros, or a tail call.
    pointer: through a member that is set to `end` somewhere. registered: the address of `end` is
    taken, but what carries it to `start` is not visible. unknown: nothing was found."""
    steps: tuple[CallSite, ...] = ()
    """In the order of the calls; of a pointer, the place that sets the member comes last."""
    note: str = ""
    truncated: bool = False
    """Whether a bound was met, so that a better answer may exist."""


@dataclass
class _Search:
    """What is known while one question is answered."""

    tree: SourceTree
    start: str
    end: str
    function: FunctionSource
    calls: dict[str, CallSite] = field(default_factory=dict)
    """First call in `start`, by callee."""
    cut: bool = False
    _until: float = 0.0

    def __post_init__(self) -> None:
        self.cut = self.function.truncated
        self._until = time.monotonic() + _SECONDS
        for site in calls_of(self.function):
            self.calls.setdefault(site.callee, site)

    @cached_property
    def of_end(self) -> list[CallSite]:
        """Uses of the end, anywhere."""
        return self.uses([self.end], local=False)

    def expired(self) -> bool:
        """Whether no further search should begin."""
        over = time.monotonic() > self._until
        self.cut = self.cut or over
        return over

    def uses(self, names: Iterable[str], *, local: bool) -> list[CallSite]:
        """Uses in the whole tree, or only where `start` is compiled from: its file and headers."""
        path = self.function.path
        globs, files = ((path, "*.h"), _MAX_HEADERS) if local else (C_FILES, MAX_FILES)
        sites, cut = uses_of(self.tree, names, globs=globs, near=path, files=files)
        self.cut = self.cut or cut
        return sites

    def answer(
        self,
        kind: Literal["direct", "through", "pointer", "registered", "unknown"],
        steps: Sequence[CallSite] = (),
        note: str = "",
    ) -> CallPath:
        return CallPath(self.start, self.end, kind, tuple(steps), note, self.cut)

    def inside(self, site: CallSite) -> bool:
        """Whether a use stands in `start` itself."""
        function = self.function
        return site.path == function.path and function.start <= site.line <= function.end

    def visible(self, site: CallSite) -> bool:
        """Whether the compiler sees the caller when it compiles `start`."""
        return site.path == self.function.path or site.path.endswith(".h")


def call_path(
    tree: SourceTree, start: str, end: str, *, files: dict[str, str] | None = None
) -> CallPath:
    """Explain why `end` stands below `start` in a stack: `start` is the caller's frame.

    Names may be symbols as traces print them; `files` says where debug info puts them. Looks for
    a direct call, for one by way of functions and macros that leave no frame, then for a
    function pointer. Never raises for names that are nowhere: the answer is ``unknown`` then.
    """
    names = source_names(end)
    found = tree.lookup([start], files)[start][:_MAX_DEFINITIONS]
    if not names or not found:
        missing = end if not names else start
        return CallPath(start, end, "unknown", note=f"{missing} has no definition in the tree")
    best: CallPath | None = None
    for function in found:
        search = _Search(tree, start, names[0], function)
        answer = _called(search) or _pointed(search)
        if answer.kind in ("direct", "through", "pointer"):
            return answer
        best = best or answer
    assert best is not None
    return best


def _called(search: _Search) -> CallPath | None:
    site = search.calls.get(search.end)
    if site is not None and site.kind == "call":
        return search.answer("direct", [site])
    level = [s for s in search.of_end if s.kind == "call"]
    if own := next(filter(search.inside, level), None):
        return search.answer("direct", [own])
    below: dict[str, tuple[CallSite, ...]] = {}
    for depth in range(_MAX_DEPTH):
        new = _frontier(search, level, below, tails=depth == 0)
        for caller, steps in new.items():
            if (first := search.calls.get(caller)) and first.kind == "call":
                return search.answer("through", [first, *steps], _folding(steps))
        below |= new
        if not new or search.expired():
            break
        level = [s for s in search.uses(new, local=True) if s.kind == "call"]
    return None


def _frontier(
    search: _Search,
    level: Sequence[CallSite],
    below: dict[str, tuple[CallSite, ...]],
    *,
    tails: bool,
) -> dict[str, tuple[CallSite, ...]]:
    """Callers that may stand between, with the steps from each of them down to the end."""
    ranked = sorted(level, key=lambda s: s.caller_kind not in _FOLDED)
    new: dict[str, tuple[CallSite, ...]] = {}
    for site in ranked:
        folded = site.caller_kind in _FOLDED and search.visible(site)
        tail = tails and site.caller_kind == "function"
        if not site.caller or site.caller in below or not (folded or tail):
            continue
        if len(new) >= _MAX_FRONTIER and site.caller not in search.calls:
            search.cut = True
            continue
        new.setdefault(site.caller, (site, *below.get(site.callee, ())))
    return new


def _folding(steps: Sequence[CallSite]) -> str:
    words = {
        "macro": "a macro",
        "inline": "inlined",
        "static": "static, the compiler may inline it",
    }
    said = [f"{s.caller}: {words.get(s.caller_kind, 'may end in a tail call')}" for s in steps]
    return "; ".join(said)


def _pointed(search: _Search) -> CallPath:
    taken = [site for site in search.of_end if site.kind == "reference"]
    stored: dict[str, CallSite] = {}
    for site in taken:
        for member in _members(site):
            stored.setdefault(member, site)
    if stored:
        for use in sorted(search.uses(stored, local=True), key=_only_read):
            if use.kind == "pointer" and (steps := _up(search, use)):
                note = f"through the member {use.callee}"
                return search.answer("pointer", [*steps, stored[use.callee]], note)
    if taken:
        note = f"the address of {search.end} is taken; the pointer's way is not visible"
        return search.answer("registered", taken[:_MAX_REFERENCES], note)
    return search.answer("unknown", note=f"no use of {search.end} leads to {search.start}")


def _up(search: _Search, use: CallSite) -> list[CallSite]:
    """The steps from the start to a use of the member; empty when there is no way."""
    if search.inside(use):
        return [use]
    first = search.calls.get(use.caller)
    folded = use.caller_kind in _FOLDED and search.visible(use)
    return [first, use] if first is not None and folded else []


def _only_read(use: CallSite) -> bool:
    """A member that is read, not called: in a condition, or into a variable."""
    return not re.search(rf"(?:\.|->)\s*{re.escape(use.callee)}\s*\(", use.text)


def _members(site: CallSite) -> Iterator[str]:
    """Members that a line sets to the function: ``.write = f``, ``ops->write = f``."""
    name = re.escape(site.callee)
    for found in re.finditer(rf"(?:\.|->)\s*(\w{{1,128}})\s*=\s*&?\s*{name}\b", site.text):
        yield found[1]
