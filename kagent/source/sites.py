"""Where a name is used in a tree: called, read as a member, or taken as a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from kagent.errors import InputError
from kagent.source.enclosing import Enclosing, enclosing
from kagent.source.lookup import OUTSIDE_KERNEL, rank_path
from kagent.source.store import GrepHit, confined, readable

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree

__all__ = [
    "C_FILES",
    "MAX_FILES",
    "CallSite",
    "CallerKind",
    "SiteKind",
    "uses_of",
    "within",
]

SiteKind = Literal["call", "pointer", "reference"]
"""call: by name; pointer: through the member or variable of that name; reference: the function's
address is taken (stored in a member, handed to another function)."""
CallerKind = Literal["function", "static", "inline", "macro", "assembly", "file"]

C_FILES = ("*.c", "*.h", "*.S")
_MAX_NAMES = 128
MAX_FILES = 120
"""Files that one search reads."""
_MAX_HITS_OF_FILE = 200
_MAX_MACRO_LINES = 60
_MAX_ASM_LINES = 400
_COMMENT = re.compile(r"\s{0,200}(?:\*(?:[\s/]|$)|/[/*])")
_ASIDE = re.compile(r"\"(?:[^\"\\]|\\.){0,400}\"|/\*.{0,400}?\*/|//.*|/\*.*")
_DEFINE = re.compile(r"\s*#\s*define\s+(\w+)")
# Lines that name a function for the linker or a tool, not to call it.
_DECLARES = re.compile(
    r"\s*(?:(?:EXPORT|TRACE_EVENT|DEFINE_EVENT|DECLARE)(?:_\w+)?|NOKPROBE_SYMBOL|_ASM_NOKPROBE"
    r"|ALLOW_ERROR_INJECTION|BTF_ID)\b"
)
_INLINE = re.compile(r"\b(?:__always_inline|__no_kasan_or_inline|inline|__inline)\b")
# Where a value may stand, not the name of something declared; rows of arguments begin with it.
_VALUE = re.compile(r"[=,(\{&?:!|]\Z|\breturn\Z")
_ASM_START = re.compile(r"\s*(?:SYM_\w*START\w*|ENTRY)\((\w+)")
_ASM_CALL = re.compile(r"\s(?:callq?|jmp|bl|b|jal|tail|brasl|brcl)\b.{0,40}\Z")
_ASM_WORD = re.compile(r"\.(?:quad|long|word|8byte|4byte)\s.{0,40}\Z")


@dataclass(frozen=True, slots=True)
class CallSite:
    """One use of a function or member."""

    caller: str
    """The function or macro it stands in; "" outside of any."""
    callee: str
    """As the source spells it."""
    path: str
    line: int
    text: str
    """The line, without indentation."""
    kind: SiteKind = "call"
    caller_kind: CallerKind = "function"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def within(folder: str | None) -> tuple[str, ...]:
    """Patterns for the sources below a folder; `InputError` for names outside the tree."""
    if folder is None:
        return C_FILES
    inside = confined(folder)
    if re.search(r"[*?\[\\]", inside):
        raise InputError(f"{folder!r} is not the name of a folder")
    return tuple(f"{inside}/{pattern}" for pattern in C_FILES)


def uses_of(
    tree: SourceTree,
    names: Iterable[str],
    *,
    globs: Sequence[str] = C_FILES,
    near: str = "",
    files: int = MAX_FILES,
) -> tuple[list[CallSite], bool]:
    """Every use of some C identifiers, by one grep; also whether a bound cut something.

    Files are read from `near` outward: that file, its folder, headers, generic code, the rest;
    at most `files` of them.
    """
    wanted = list(dict.fromkeys(names))
    words = "|".join(wanted[:_MAX_NAMES])
    if not words:
        return [], False
    pattern = rf"\b({words})\b"
    hits, cut = tree.store.grep([pattern], globs)
    spelled = re.compile(rf"(?<!\w)(?:{words})(?!\w)")
    kept = [hit for hit in hits if readable(hit.path) and not _is_aside(hit.text)]
    ranked = sorted(kept, key=lambda hit: (*_distance(hit.path, near), hit.path, hit.line))
    if ranked and _rank(ranked[0]) < OUTSIDE_KERNEL:
        ranked = [hit for hit in ranked if _rank(hit) < OUTSIDE_KERNEL]
    sites: list[CallSite] = []
    cut = cut or len(wanted) > _MAX_NAMES
    for number, (path, group) in enumerate(groupby(ranked, key=lambda hit: hit.path)):
        found = list(group)
        if number >= files:
            return sites, True
        cut = cut or len(found) > _MAX_HITS_OF_FILE
        lines = tree.lines(path)
        for hit in found[:_MAX_HITS_OF_FILE]:
            if hit.line > len(lines):
                continue  # the file is longer than what is read of it
            if path.endswith(".S"):
                sites.extend(_in_assembly(lines, hit, spelled))
            else:
                sites.extend(_in_c(tree, lines, hit, spelled))
    return sites, cut


def _is_aside(text: str) -> bool:
    return _COMMENT.match(text) is not None or _DECLARES.match(text) is not None


def _rank(hit: GrepHit) -> int:
    return rank_path(hit.path)[0]


def _distance(path: str, near: str) -> tuple[int, bool, bool, bool, bool]:
    """That file, its folder, headers (those that all may include first), then generic code."""
    aside = path.rpartition("/")[0] != near.rpartition("/")[0]
    header, shared = path.endswith(".h"), path.startswith("include/")
    return rank_path(path)[0], path != near, aside, not header, header and not shared


def _in_c(
    tree: SourceTree, lines: Sequence[str], hit: GrepHit, spelled: re.Pattern[str]
) -> Iterator[CallSite]:
    text = _ASIDE.sub(lambda aside: " " * len(aside[0]), hit.text)
    places = list(spelled.finditer(text))
    if not places:
        return
    caller, kind = _enclosing(tree, lines, hit)
    if kind not in ("file", "macro") and hit.text[:1].strip():
        body = text.find("{")  # in the first column: the head of a definition, perhaps all of it
        places = [place for place in places if 0 <= body < place.start()]
    for place in places:
        before, after = text[: place.start()].rstrip(), text[place.end() :].lstrip()
        use = _use(before, after, in_file=kind == "file")
        if place[0] != caller and use is not None:
            line = hit.text.strip()[:200]
            yield CallSite(caller, place[0], hit.path, hit.line, line, use, kind)


def _use(before: str, after: str, *, in_file: bool) -> SiteKind | None:
    """What a name is there for, by what stands around it."""
    if before.endswith((".", "->")):
        stored = after.startswith("=") and not after.startswith("==")
        return None if stored else "pointer"
    if not after.startswith("("):
        return "reference" if _VALUE.search(before) or not (before or in_file) else None
    return None if in_file else "call"


def _enclosing(tree: SourceTree, lines: Sequence[str], hit: GrepHit) -> tuple[str, CallerKind]:
    """The macro or function around a line, and what it is."""
    if macro := _macro_at(lines, hit):
        return macro, "macro"
    found = None if hit.text[:1].strip() else enclosing(lines, hit.line)
    if found is None:
        span = tree.syntax(hit.path).function_at(hit.line)
        if span is None:
            return "", "file"
        head = "\n".join(lines[span.start - 1 : min(span.start + 6, span.end)]).partition("{")[0]
        found = Enclosing(span.name, head, span.macro)
    if not found.name:
        return "", "file"
    if found.macro and "SYSCALL" in found.macro:
        return f"{'compat_' if 'COMPAT' in found.macro else ''}sys_{found.name}", "function"
    if _INLINE.search(found.head):
        return found.name, "inline"
    return found.name, "static" if re.search(r"\bstatic\b", found.head) else "function"


def _macro_at(lines: Sequence[str], hit: GrepHit) -> str | None:
    if found := _DEFINE.match(hit.text):
        return found[1]
    for at in range(hit.line - 2, max(-1, hit.line - 2 - _MAX_MACRO_LINES), -1):
        if not lines[at].endswith("\\"):
            return None
        if found := _DEFINE.match(lines[at]):
            return found[1]
    return None


def _in_assembly(
    lines: Sequence[str], hit: GrepHit, spelled: re.Pattern[str]
) -> Iterator[CallSite]:
    place = spelled.search(hit.text.partition("#")[0] or hit.text)
    if place is None:
        return
    before = hit.text[: place.start()]
    if _ASM_WORD.search(before):
        line = hit.text.strip()[:200]
        yield CallSite("", place[0], hit.path, hit.line, line, "reference", "assembly")
        return
    if not _ASM_CALL.search(before):
        return
    above = reversed(lines[max(0, hit.line - _MAX_ASM_LINES) : hit.line])
    start = next(filter(None, map(_ASM_START.match, above)), None)
    caller, line = start[1] if start else "", hit.text.strip()[:200]
    yield CallSite(caller, place[0], hit.path, hit.line, line, "call", "assembly")
