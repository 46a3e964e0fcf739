"""Where a name is used in a tree: called, read as a member, or taken as a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from kagent.errors import InputError
from kagent.source.lookup import OUTSIDE_KERNEL, rank_path
from kagent.source.store import DirectoryStore, GrepHit, RevisionStore, Store, confined, readable

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree

__all__ = [
    "C_FILES",
    "MAX_FILES",
    "CallSite",
    "CallerKind",
    "SiteKind",
    "store_of",
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
_ASM_START = re.compile(r"\s*(?:SYM_\w*START\w*|ENTRY)\((\w+)")
_ASM_CALL = re.compile(r"\s(?:call|jmp|bl|b|jal|tail|brasl|brcl)\b.{0,40}\Z")


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


def store_of(tree: SourceTree) -> Store:
    """The place with the tree's files."""
    return RevisionStore(tree.root, tree.revision) if tree.revision else DirectoryStore(tree.root)


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
    pattern = rf"(^|[^A-Za-z0-9_])({words})([^A-Za-z0-9_]|$)"
    hits, cut = store_of(tree).grep([pattern], globs)
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
        for hit in found[:_MAX_HITS_OF_FILE]:
            reader = _in_assembly if path.endswith(".S") else _in_c
            sites.extend(reader(tree, hit, spelled))
    return sites, cut


def _is_aside(text: str) -> bool:
    return _COMMENT.match(text) is not None or _DECLARES.match(text) is not None


def _rank(hit: GrepHit) -> int:
    return rank_path(hit.path)[0]


def _distance(path: str, near: str) -> tuple[int, bool, bool, bool]:
    same_folder = path.rpartition("/")[0] == near.rpartition("/")[0]
    return rank_path(path)[0], path != near, not same_folder, not path.endswith(".h")


def _in_c(tree: SourceTree, hit: GrepHit, spelled: re.Pattern[str]) -> Iterator[CallSite]:
    text = _ASIDE.sub(lambda aside: " " * len(aside[0]), hit.text)
    places = list(spelled.finditer(text))
    if not places:
        return
    caller, kind = _enclosing(tree, hit)
    if kind not in ("file", "macro") and hit.text[:1].strip():
        return  # the first column: the head of the definition itself
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
        if not in_file or before.endswith(("=", ",", "(", "{", "&")):
            return "reference"
        return None
    return None if in_file else "call"


def _enclosing(tree: SourceTree, hit: GrepHit) -> tuple[str, CallerKind]:
    """The macro or function around a line, and what it is."""
    if macro := _macro_at(tree, hit):
        return macro, "macro"
    span = tree.syntax(hit.path).function_at(hit.line)
    if span is None:
        return "", "file"
    head = tree.read_lines(hit.path, span.start, min(span.start + 6, span.end)).text
    head = head.partition("{")[0]
    if _INLINE.search(head):
        return span.name, "inline"
    return span.name, "static" if re.search(r"\bstatic\b", head) else "function"


def _macro_at(tree: SourceTree, hit: GrepHit) -> str | None:
    if found := _DEFINE.match(hit.text):
        return found[1]
    if hit.line == 1:
        return None
    first = max(1, hit.line - _MAX_MACRO_LINES)
    for row in reversed(tree.read_lines(hit.path, first, hit.line - 1).text.split("\n")):
        if not row.endswith("\\"):
            return None
        if found := _DEFINE.match(row):
            return found[1]
    return None


def _in_assembly(tree: SourceTree, hit: GrepHit, spelled: re.Pattern[str]) -> Iterator[CallSite]:
    place = spelled.search(hit.text.partition("#")[0] or hit.text)
    if place is None or not _ASM_CALL.search(hit.text[: place.start()]):
        return
    first = max(1, hit.line - _MAX_ASM_LINES + 1)
    rows = tree.read_lines(hit.path, first, hit.line).text.split("\n")
    start = next(filter(None, map(_ASM_START.match, reversed(rows))), None)
    caller, line = start[1] if start else "", hit.text.strip()[:200]
    yield CallSite(caller, place[0], hit.path, hit.line, line, "call", "assembly")
