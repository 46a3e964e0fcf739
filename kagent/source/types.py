"""Definitions of structs, unions, enums and typedefs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kagent.source.lookup import OUTSIDE_KERNEL, rank_path
from kagent.source.model import Excerpt
from kagent.source.paging import Page, page_of
from kagent.source.store import GrepHit, readable

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree

__all__ = ["TypeSource", "find_type"]

_NAME = re.compile(r"(?:(?P<keyword>struct|union|enum) )?(?P<name>[A-Za-z_]\w{0,255})\Z", re.ASCII)
_MAX_LINES = 400
_MAX_HITS = 200
_ASIDE = re.compile(r"\"(?:[^\"\\]|\\.){0,400}\"|/\*.{0,400}?\*/|//.*")
_FILES = ("*.h", "*.c")


@dataclass(frozen=True, slots=True)
class TypeSource(Excerpt):
    """A whole type definition."""

    name: str = ""
    """``struct file_operations``, or a typedef's bare name."""


def find_type(tree: SourceTree, name: str, *, offset: int = 0, limit: int = 20) -> Page[TypeSource]:
    """Definitions of a type: ``struct foo``, ``enum foo``, ``foo_t``, or a bare tag.

    Headers of generic code come first. Declarations without a body do not count. No match, or
    what cannot be a type name, is an empty page; definitions end after 400 lines (`truncated`).
    """
    spelled = _NAME.match(" ".join(name.split()))
    if spelled is None:
        return page_of([], offset, limit, truncated=False)
    hits, cut = tree.store.grep([_pattern(spelled)], _FILES)
    head = _head(spelled)
    kept = (hit for hit in hits if head.match(hit.text) and readable(hit.path))
    ranked = sorted(kept, key=_order)
    if ranked and rank_path(ranked[0].path)[0] < OUTSIDE_KERNEL:
        ranked = [hit for hit in ranked if rank_path(hit.path)[0] < OUTSIDE_KERNEL]
    cut = cut or len(ranked) > _MAX_HITS
    found: dict[tuple[str, int], TypeSource] = {}
    for hit in ranked[:_MAX_HITS]:
        for source in _definition(tree, hit, spelled):
            found.setdefault((source.path, source.start), source)
    return page_of(list(found.values()), offset, limit, truncated=cut)


def _order(hit: GrepHit) -> tuple[int, bool, bool, str, int]:
    rank = rank_path(hit.path)[0]
    header = hit.path.endswith(".h")
    return rank, not header, not hit.path.startswith("include/"), hit.path, hit.line


def _pattern(spelled: re.Match[str]) -> str:
    """Lines that may define it. A bare word is what PCRE finds fastest; `_head` is stricter."""
    name = spelled["name"]
    return rf"\b{name}\b([[:space:]]*[;)([]|([[:space:]][^;,*=()]*)?([{{].*)?$)"


def _head(spelled: re.Match[str]) -> re.Pattern[str]:
    """How a definition begins, or how the one of a typedef ends."""
    name, keyword = spelled["name"], spelled["keyword"]
    body = rf"{name}(?:\s[^;,*=()]*)?(?:\{{.*)?$"
    heads = [rf"\s*(?:typedef\s+)?(?:{keyword or 'struct|union|enum'})\s+{body}"]
    if keyword is None:
        heads.append(rf"\s*typedef\s.*\W{name}\s*[;)(\[]")
        heads.append(rf"\}}.*\W{name}\s*;")
    return re.compile("|".join(heads), re.ASCII)


def _definition(tree: SourceTree, hit: GrepHit, spelled: re.Match[str]) -> Iterator[TypeSource]:
    name = spelled["name"]
    tag = re.match(rf"\s*(?:typedef\s+)?(struct|union|enum)\s+{name}\b(?!\s*[\w*;])", hit.text)
    if tag is not None:
        if (end := _closing(tree, hit)) is not None:
            yield _cut_out(tree, hit.path, hit.line, end, f"{tag[1]} {name}")
    elif hit.text.startswith("}"):
        rows = tree.read_lines(hit.path, max(1, hit.line - _MAX_LINES + 1), hit.line)
        back = enumerate(reversed(rows.text.split("\n")))
        start = next((hit.line - n for n, row in back if row.startswith("typedef")), None)
        if start is not None:
            yield _cut_out(tree, hit.path, start, hit.line, name)
    elif hit.text.lstrip().startswith("typedef") and ";" in hit.text:
        yield _cut_out(tree, hit.path, hit.line, hit.line, name)


def _closing(tree: SourceTree, hit: GrepHit) -> int | None:
    """The line that closes the braces opened from a line on; None for mere declarations."""
    excerpt = tree.read_lines(hit.path, hit.line, hit.line + _MAX_LINES - 1)
    depth = 0
    opened = comment = False
    for number, row in enumerate(excerpt.text.split("\n"), hit.line):
        if comment:
            _, ends, row = row.partition("*/")
            comment = not ends
        row = _ASIDE.sub(" ", row)
        code, begins, _ = row.partition("/*")
        comment = comment or bool(begins)
        depth += code.count("{") - code.count("}")
        opened = opened or "{" in code
        if opened and depth <= 0:
            return number
        if not opened and (";" in code or "(" in code or number > hit.line + 3):
            return None
    return hit.line + _MAX_LINES if opened else None


def _cut_out(tree: SourceTree, path: str, start: int, end: int, name: str) -> TypeSource:
    found = tree.read_lines(path, start, min(end, start + _MAX_LINES - 1))
    cut = found.truncated or end > found.end
    return TypeSource(path, start, found.end, found.text, tree.revision, cut, name)
