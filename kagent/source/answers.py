"""Typed answers of the source tools: what every face shows, whoever asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from kagent.source.call_paths import CallKind
from kagent.source.model import Excerpt
from kagent.source.paging import Page
from kagent.source.sites import CallerKind, CallSite, SiteKind

__all__ = [
    "Answer",
    "BlameAnswer",
    "CallPathAnswer",
    "CallSitesAnswer",
    "FunctionsAnswer",
    "LayoutAnswer",
    "LayoutMember",
    "LinesAnswer",
    "PagedAnswer",
    "Site",
    "SourceText",
    "SubsystemAnswer",
    "TypesAnswer",
    "page_facts",
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Answer(_Model):
    """What all answers say."""

    revision: str | None = None
    """Git tag or commit that was read; null for files as they lie in a directory."""
    truncated: bool = False
    """Something was cut, or a bound of the search was met: there may be more."""
    notes: list[str] = []
    """Where the answer comes from, and what was not known."""


class PagedAnswer(Answer):
    """A part of a longer list."""

    total: int
    """Items there are, as far as the search went."""
    offset: int = 0
    """Of the first item shown."""
    next_offset: int | None = None
    """Offset to ask for next; null at the end."""


class SourceText(_Model):
    """A piece of source: whole lines of one file."""

    name: str | None = None
    """Of the function or type that is defined here."""
    path: str
    """Relative to the tree's root."""
    start: int
    """First line, counted from 1."""
    end: int
    """Last line of `text`, included."""
    revision: str | None = None
    """Git tag or commit; null for a plain tree."""
    text: str
    truncated: bool = False
    """The piece goes on after `end`: read on with read_lines from `end` + 1."""

    @classmethod
    def of(cls, excerpt: Excerpt, name: str | None = None, *, max_text: int) -> SourceText:
        """Cut to whole lines of at most `max_text` characters.

        Of a first line that is longer, as much as fits is kept.
        """
        text, end = excerpt.text, excerpt.end
        if len(text) > max_text:
            kept = text[:max_text]
            text = kept.rpartition("\n")[0] or kept
            end = excerpt.start + text.count("\n")
        return cls(
            name=name,
            path=excerpt.path,
            start=excerpt.start,
            end=end,
            revision=excerpt.revision,
            text=text,
            truncated=excerpt.truncated or text != excerpt.text,
        )

    @property
    def origin(self) -> str:
        """``path:start-end@revision``."""
        where = f"{self.path}:{self.start}-{self.end}"
        return f"{where}@{self.revision}" if self.revision else where


class FunctionsAnswer(PagedAnswer):
    """Definitions of one function; several where configurations or architectures differ."""

    functions: list[SourceText]


class TypesAnswer(PagedAnswer):
    """Definitions of one type."""

    types: list[SourceText]


class LinesAnswer(Answer):
    """Lines of a file."""

    path: str
    start: int
    end: int
    """Last line of `text`, included."""
    text: str
    next_start: int | None = None
    """Line to read on from when `truncated`."""

    @property
    def origin(self) -> str:
        """``path:start-end@revision``."""
        where = f"{self.path}:{self.start}-{self.end}"
        return f"{where}@{self.revision}" if self.revision else where


class LayoutMember(_Model):
    """A member of a struct or union, or a constant of an enum."""

    name: str
    """Members of anonymous structs and unions stand in the list themselves."""
    type: str
    """As C spells it; of an enum's constant its value, where the source gives one."""
    offset: int | None = None
    """Bytes from the start; null where only the source is known."""
    size: int | None = None
    """Bytes; of a bit-field those of its type."""
    line: int | None = None
    """Where the source declares it; null where debug info answered."""
    condition: str | None = None
    """Preprocessor condition that the member depends on."""


class LayoutAnswer(PagedAnswer):
    """Members of a type in memory order."""

    type: str
    origin: Literal["debug info", "source"]
    """Debug info knows offsets and sizes of this build; source only order and conditions."""
    path: str | None = None
    """File of the definition, where source answered."""
    members: list[LayoutMember]


class Site(_Model):
    """One use of a function."""

    caller: str
    """Function or macro it stands in; empty outside of any, as in a table of operations."""
    callee: str
    """As the source spells it."""
    path: str
    line: int
    text: str
    """The line."""
    kind: SiteKind
    """call: by name. pointer: through a member or variable. reference: its address is taken."""
    caller_kind: CallerKind
    """static, inline and macro may leave no frame of their own in a trace."""

    @classmethod
    def of(cls, site: CallSite) -> Site:
        """The same as an answer."""
        return cls(**asdict(site))


class CallSitesAnswer(PagedAnswer):
    """Callers or callees of a function."""

    function: str
    sites: list[Site]


class CallPathAnswer(Answer):
    """How a function reaches the one whose frame stands above it in a trace."""

    start: str
    end: str
    kind: CallKind
    """direct: calls it. through: by way of inlined functions, macros or tail calls. pointer:
    through a member, table or parameter that is set to it. callback: start calls through a pointer
    and the address of end is taken, but not visibly for that pointer. entry: end is an interrupt
    or exception entry. compiler: the compiler inserts the call. registered: the address of end is
    taken, but start shows no call through a pointer. unknown: nothing was found."""
    steps: list[Site] = []
    """In the order of the calls; of a pointer, the place that sets it comes last."""
    note: str = ""


class BlameAnswer(Answer):
    """The commit that last changed a line."""

    path: str
    line: int
    text: str
    commit: str
    author: str
    date: str
    """Of authorship, ISO 8601."""
    subject: str
    original_path: str
    original_line: int
    boundary: bool = False
    """The known history begins with that commit: the line may be older."""


class SubsystemAnswer(Answer):
    """Who looks after a file, by MAINTAINERS."""

    path: str
    subsystem: str | None = None
    """Null when only THE REST matches, or the tree has no MAINTAINERS."""
    maintainers: list[str] = []
    reviewers: list[str] = []
    lists: list[str] = []
    status: str | None = None
    """Supported, Maintained, Odd Fixes, Orphan ..."""
    trees: list[str] = []
    """Repositories the subsystem is developed in."""


def page_facts(page: Page[Any]) -> dict[str, Any]:
    """The fields of a `PagedAnswer` that a page knows."""
    return {
        "total": page.total,
        "offset": page.offset,
        "next_offset": page.next_offset,
        "truncated": page.truncated,
    }
