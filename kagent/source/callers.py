"""Who calls a function, and whom it calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kagent.errors import MissingDataError
from kagent.source.c_source import CSource
from kagent.source.model import FunctionSource
from kagent.source.names import source_names
from kagent.source.paging import Page, page_of
from kagent.source.sites import CallSite, uses_of, within

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree

__all__ = ["callers_of", "calls_of", "find_callees", "find_callers"]

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
_ORDER = {"call": 0, "reference": 1}


def find_callers(
    tree: SourceTree, name: str, *, under: str | None = None, offset: int = 0, limit: int = 50
) -> Page[CallSite]:
    """Uses of a function: calls first, then places that take its address.

    `name` may be a symbol as a trace prints it; `under` confines the search to a folder. Raises
    `InputError` for a folder outside the tree.
    """
    wanted, cut = callers_of(tree, name, under)
    return page_of(wanted, offset, limit, truncated=cut)


def callers_of(
    tree: SourceTree, name: str, under: str | None = None
) -> tuple[list[CallSite], bool]:
    """All that `find_callers` pages through; also whether a bound cut the search."""
    sites, cut = uses_of(tree, source_names(name)[:1], globs=within(under))
    return sorted((s for s in sites if s.kind in _ORDER), key=lambda s: _ORDER[s.kind]), cut


def find_callees(
    tree: SourceTree, name: str, *, file: str | None = None, offset: int = 0, limit: int = 100
) -> Page[CallSite]:
    """Calls in the body of a function, in source order; macros look like functions here.

    `file` says which definition is meant, as debug info names it. Raises `MissingDataError` when
    the tree has no definition.
    """
    found = tree.lookup([name], {name: file} if file else None)[name]
    if not found:
        raise MissingDataError(f"{name} has no definition in {tree.root}")
    return page_of(calls_of(found[0]), offset, limit, truncated=found[0].truncated)


def calls_of(function: FunctionSource) -> list[CallSite]:
    """Every call in the text of a function, in source order."""
    if function.path.endswith(".S"):
        return []
    source = CSource(function.text, function.path)
    pointers = {declared.name for declared in source.declarations(1)}
    sites = []
    rows = function.text.split("\n")
    for call in source.every_call:
        callee = call.function.strip("()* \t")
        through = not _IDENTIFIER.match(callee) or callee in pointers
        sites.append(
            CallSite(
                function.name,
                callee,
                function.path,
                function.start + call.line - 1,
                rows[call.line - 1].strip()[:200],
                "pointer" if through else "call",
            )
        )
    return sites
