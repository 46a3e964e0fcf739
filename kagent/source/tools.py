"""The source tools: one typed layer for the command line, the agents and MCP clients.

Every tool answers from the trees it was given, at their revision, and says where from. Names that
could lead out of a tree are refused before anything is looked up; answers are paged and cut to
whole lines, with `truncated` and the place to go on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from kagent.errors import MissingDataError
from kagent.source.answers import (
    BlameAnswer,
    CallPathAnswer,
    CallSitesAnswer,
    FunctionsAnswer,
    LayoutAnswer,
    LayoutMember,
    LinesAnswer,
    Site,
    SourceText,
    SubsystemAnswer,
    TypesAnswer,
    page_facts,
)
from kagent.source.call_paths import call_path
from kagent.source.callers import callers_of
from kagent.source.history import blame
from kagent.source.layout import members_of
from kagent.source.model import Excerpt
from kagent.source.names import asked_symbol, asked_type, names_module
from kagent.source.paging import MAX_PAGE, Page, page_of
from kagent.source.sites import CallSite
from kagent.source.store import confined
from kagent.source.union import SourceUnion

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree
    from kagent.source.types import TypeSource

__all__ = ["MAX_TEXT", "SourceTools", "TypeLayouts"]

MAX_TEXT = 12_000
"""Characters of one piece of source."""
_MAX_DEFINITIONS = 50
_ALIAS = re.compile(r"typedef\s+((?:struct|union|enum)\s+\w+)\s+\w+\s*;")


class _Member(Protocol):
    @property
    def member(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def type_name(self) -> str: ...


class TypeLayouts(Protocol):
    """Debug info that knows where members lie; a `Symbolizer` is one."""

    @property
    def mismatches(self) -> tuple[str, ...]:
        """What of it is not of the crashed build, in words."""

    def struct_layout(
        self, type_name: str, *, module: str | None = None, file: str | None = None
    ) -> Sequence[_Member]:
        """Members in memory order; empty for a type that is not known."""


class SourceTools:
    """Questions to one version of the kernel's source, and to sources of modules beside it."""

    def __init__(
        self,
        trees: Sequence[SourceTree],
        types: TypeLayouts | None = None,
        *,
        max_text: int = MAX_TEXT,
        notes: Sequence[str] = (),
    ) -> None:
        """`types` is debug info of the crashed build; `max_text` bounds each piece of source;
        `notes` are put into every answer.

        Without any tree only `struct_layout` can answer; all else is a `MissingDataError`.
        """
        self.trees = tuple(trees)
        self._union = SourceUnion(trees)
        self._types = types
        self._max_text = max_text
        self._notes = [*notes, *(f"source: {tree.note}" for tree in trees)]

    # Text -------------------------------------------------------------------------------------

    def lookup_function(
        self, name: str, *, file: str | None = None, offset: int = 0, limit: int = 10
    ) -> FunctionsAnswer:
        """Definitions of a function, generic code first; `file` asks for that file's only.

        `name` may be a symbol as a trace prints it: ``vfs_write+0x2a3/0x550``,
        ``foo.isra.0``, ``__x64_sys_write``.

        Raises:
            InputError: `name` is no function name, or `file` leaves the tree.
            MissingDataError: nothing defines it.
        """
        symbol = asked_symbol(name)
        place = {symbol: confined(file)} if file is not None else None
        found = SourceUnion(self._order(name)).lookup([symbol], place).get(symbol, [])
        if file is not None:
            found = [one for one in found if one.path == confined(file)]
        if not found:
            raise MissingDataError(
                f"{symbol} has no definition in {file or self._where}",
                hint="a macro may generate it, or its module's source lies elsewhere",
            )
        page = page_of(found[:_MAX_DEFINITIONS], offset, limit, truncated=self._cut_short)
        return FunctionsAnswer(
            **page_facts(page),
            revision=found[0].revision,
            notes=self._notes,
            functions=[self._piece(one, one.name) for one in page.items],
        )

    def read_lines(self, path: str, start: int, end: int) -> LinesAnswer:
        """Lines of a file, at most 400 of them.

        Raises:
            InputError: the path leaves the tree, or the file has no such lines.
            MissingDataError: no tree has that file.
        """
        excerpt = self._union.read_lines(confined(path), start, end)
        piece = self._piece(excerpt)
        return LinesAnswer(
            revision=excerpt.revision,
            truncated=piece.truncated,
            notes=self._notes,
            path=piece.path,
            start=piece.start,
            end=piece.end,
            text=piece.text,
            next_start=piece.end + 1 if piece.truncated else None,
        )

    def find_type(self, name: str, *, offset: int = 0, limit: int = 10) -> TypesAnswer:
        """Definitions of ``struct foo``, ``union foo``, ``enum foo``, ``foo_t`` or a bare tag.

        Raises:
            InputError: `name` is no type name.
            MissingDataError: nothing defines it.
        """
        spelled = asked_type(name)
        found, cut = self._type_sources(spelled)
        page = page_of(found, offset, limit, truncated=cut)
        return TypesAnswer(
            **page_facts(page),
            revision=found[0].revision,
            notes=self._notes,
            types=[self._piece(one, one.name) for one in page.items],
        )

    def struct_layout(
        self, name: str, *, module: str | None = None, offset: int = 0, limit: int = 100
    ) -> LayoutAnswer:
        """Members of a type: with offsets and sizes from debug info, else as the source lists
        them. `module` says whose definition to prefer.

        Raises:
            InputError: `name` is no type name.
            MissingDataError: neither debug info nor source defines it.
        """
        spelled = asked_type(name)
        known = self._types.struct_layout(spelled, module=module) if self._types else ()
        if known:
            members = [
                LayoutMember(name=m.member, type=m.type_name, offset=m.offset, size=m.size)
                for m in known
            ]
            page = page_of(members, offset, limit, truncated=False)
            return LayoutAnswer(
                **page_facts(page),
                notes=list(self._types.mismatches) if self._types else [],
                type=spelled,
                origin="debug info",
                members=list(page.items),
            )
        source, notes = self._source_of_layout(spelled)
        listed = [
            LayoutMember(name=m.name, type=m.type, line=m.line, condition=m.condition)
            for m in members_of(source.text, source.start)
        ]
        page = page_of(listed, offset, limit, truncated=source.truncated)
        return LayoutAnswer(
            **page_facts(page),
            revision=source.revision,
            notes=[*self._notes, *notes],
            type=source.name,
            origin="source",
            path=source.path,
            members=list(page.items),
        )

    # Uses -------------------------------------------------------------------------------------

    def find_callers(
        self, name: str, *, under: str | None = None, offset: int = 0, limit: int = 50
    ) -> CallSitesAnswer:
        """Places that call a function, then those that take its address.

        Raises:
            InputError: `name` is no function name, or the folder `under` leaves the tree.
        """
        symbol = asked_symbol(name)
        sites: list[CallSite] = []
        cut = False
        for tree in self.trees:
            found, bounded = callers_of(tree, symbol, under)
            sites += found
            cut = cut or bounded
        page = page_of(sites, offset, limit, truncated=cut)
        notes = [] if sites else [f"nothing in {under or self._where} names {symbol}"]
        return self._sites(symbol, page, notes)

    def find_callees(
        self, name: str, *, file: str | None = None, offset: int = 0, limit: int = 100
    ) -> CallSitesAnswer:
        """Calls in the body of a function, in source order; macros look like functions here.

        Raises:
            InputError: `name` is no function name, or `file` leaves the tree.
            MissingDataError: nothing defines it.
        """
        symbol = asked_symbol(name)
        place = confined(file) if file is not None else None
        for tree in self.trees:
            if (place is None or tree.exists(place)) and tree.lookup([symbol])[symbol]:
                page = tree.find_callees(symbol, file=place, offset=offset, limit=limit)
                return self._sites(symbol, page, [])
        raise MissingDataError(f"{symbol} has no definition in {file or self._where}")

    def call_path(
        self, start: str, end: str, *, files: Mapping[str, str] | None = None
    ) -> CallPathAnswer:
        """How the function `start` (the outer frame) reaches `end` (the frame above it).

        `files` may say where debug info puts the functions, by symbol.

        Raises:
            InputError: one of them is no function name.
        """
        first, *others = self._order(start)
        names = asked_symbol(start), asked_symbol(end)
        found = call_path(first, *names, files=files, others=others)
        return CallPathAnswer(
            revision=first.revision,
            truncated=found.truncated,
            notes=self._notes,
            start=found.start,
            end=found.end,
            kind=found.kind,
            steps=[Site.of(step) for step in found.steps],
            note=found.note,
        )

    # History and people -----------------------------------------------------------------------

    def blame(self, path: str, line: int) -> BlameAnswer:
        """The commit that last changed a line.

        Raises:
            InputError: the path leaves the tree, or the file has no such line.
            MissingDataError: no tree has the file, or the tree has no history.
        """
        inside = confined(path)
        tree = next((one for one in self.trees if one.exists(inside)), self._first)
        found = blame(tree, inside, line)
        return BlameAnswer(
            revision=tree.revision,
            notes=["the known history begins with this commit"] if found.boundary else [],
            path=found.path,
            line=found.line,
            text=found.text,
            commit=found.commit,
            author=found.author,
            date=found.date.isoformat(),
            subject=found.subject,
            original_path=found.original_path,
            original_line=found.original_line,
            boundary=found.boundary,
        )

    def subsystem_of(self, path: str) -> SubsystemAnswer:
        """Subsystem, maintainers and lists of a file, by the first tree with a MAINTAINERS.

        Raises:
            InputError: the path leaves the tree.
        """
        inside = confined(path)
        tree = next((one for one in self.trees if one.exists("MAINTAINERS")), self._first)
        notes = list(self._notes)
        if not tree.exists("MAINTAINERS"):
            notes.append("the tree has no MAINTAINERS")
        elif not self._union.exists(inside):
            notes.append(f"{inside} is no file of the tree; its name alone was matched")
        entry = tree.subsystem_of(inside)
        if entry is None:
            return SubsystemAnswer(revision=tree.revision, notes=notes, path=inside)
        return SubsystemAnswer(
            revision=tree.revision,
            notes=notes,
            path=inside,
            subsystem=entry.name,
            maintainers=list(entry.maintainers),
            reviewers=list(entry.reviewers),
            lists=list(entry.lists),
            status=entry.status,
            trees=list(entry.trees),
        )

    # ------------------------------------------------------------------------------------------

    def _order(self, name: str) -> list[SourceTree]:
        """The trees, those of modules first where a frame says that it is a module's."""
        trees = [self._first, *self.trees[1:]]
        return [*trees[1:], trees[0]] if names_module(name) else trees

    @property
    def _first(self) -> SourceTree:
        if not self.trees:
            raise MissingDataError(
                "no kernel source was given", hint="name a tree or a git repository: PATH[@REV]"
            )
        return self.trees[0]

    @property
    def _where(self) -> str:
        tree = self._first
        return f"{tree.root}@{tree.revision}" if tree.revision else str(tree.root)

    @property
    def _cut_short(self) -> bool:
        return any(tree.truncated for tree in self.trees)

    def _piece(self, excerpt: Excerpt, name: str | None = None) -> SourceText:
        return SourceText.of(excerpt, name, max_text=self._max_text)

    def _type_sources(self, name: str) -> tuple[list[TypeSource], bool]:
        for tree in self.trees:
            page = tree.find_type(name, limit=MAX_PAGE)
            if page.items:
                return list(page.items), page.truncated or page.next_offset is not None
        raise MissingDataError(
            f"{name} is defined nowhere in {self._where}",
            hint="a macro may generate it; give the tag as C spells it, such as struct file",
        )

    def _source_of_layout(self, name: str) -> tuple[TypeSource, list[str]]:
        """The definition with the members; a typedef leads to the type it names."""
        found, _ = self._type_sources(name)
        notes = ["no debug info knows this type: order and conditions are the source's"]
        if not members_of(found[0].text) and (alias := _ALIAS.match(found[0].text)):
            notes.append(f"{name} is {' '.join(alias[1].split())}")
            found, _ = self._type_sources(" ".join(alias[1].split()))
        if not members_of(found[0].text):
            notes.append(f"{found[0].name} has no members: {' '.join(found[0].text.split())[:200]}")
        if len(found) > 1:
            notes.append(f"{len(found)} definitions; this is the one of {found[0].path}")
        return found[0], notes

    def _sites(self, symbol: str, page: Page[CallSite], notes: list[str]) -> CallSitesAnswer:
        return CallSitesAnswer(
            **page_facts(page),
            revision=self._first.revision,
            notes=[*self._notes, *notes],
            function=symbol,
            sites=[Site.of(one) for one in page.items],
        )
