"""Members of a type as its source declares them: order and conditions, but no offsets.

What the kernel adds to C's member lists is read as well: anonymous structs and unions, groups
(``struct_group`` of include/linux/stddef.h), ``DECLARE_BITMAP`` and its kin (include/linux/types.h,
hashtable.h), ``#ifdef`` around members, and annotations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kagent.source.annotations import without_annotations

__all__ = ["SourceMember", "members_of"]

_MAX_DEPTH = 12
_MAX_MEMBERS = 4096
_MAX_WORDS = 300
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)|//[^\n]*|\"(?:[^\"\\\n]|\\.){0,400}\"", re.DOTALL)
_DIRECTIVE = re.compile(r"[ \t]*#[ \t]*(\w+)[ \t]*([^\n]*)")
_NOISE = re.compile(r"\brandomized_struct_fields_(?:start|end)\b|\b____cacheline\w+\b")
_MACRO = re.compile(r"([A-Za-z_]\w*)\s*\((?!\s*\*)")
_BRACED = re.compile(r"(?:typedef\s+)?(struct|union|enum)\b\s*(\w*)[^{]*\{")
_POINTER = re.compile(r"\(\s*\*+\s*(\w+)\s*(?:\[[^\]]*\]\s*)*[()]")
_PLAIN = re.compile(r"(\w+)\s*((?:\[[^\]]*\]\s*)*)(:.*)?\Z", re.DOTALL)
# Groups: how many arguments stand before the members.
_GROUPS = {
    "struct_group": 1,
    "struct_group_attr": 2,
    "struct_group_tagged": 2,
    "__struct_group": 3,
}
_ARRAYS = {
    "DECLARE_BITMAP": "unsigned long [BITS_TO_LONGS({1})]",
    "DECLARE_HASHTABLE": "struct hlist_head [1 << ({1})]",
}


@dataclass(frozen=True, slots=True)
class SourceMember:
    """A member of a struct or union, or a constant of an enum."""

    name: str
    type: str
    """Without the name: ``int (*)(void)``; of an enum's constant its value, if one is given."""
    line: int
    condition: str | None = None
    """``CONFIG_SMP && !defined(X)``: what the preprocessor must find for it to be there."""


def members_of(text: str, first_line: int = 1) -> list[SourceMember]:
    """Members of the first struct, union or enum that `text` defines; none if it does not.

    Those of anonymous members stand in the list themselves. Lines count from `first_line`.
    """
    clean, conditions = _without_directives(_COMMENT.sub(_blank, text))
    bare = without_annotations(clean.encode("utf-8", "replace")).decode("utf-8", "replace")
    bare = _NOISE.sub(_blank, bare)
    head = _BRACED.search(bare)
    if head is None:
        return []
    body = _Body(bare, first_line, conditions)
    end = _matching(bare, head.end() - 1)
    found = body.constants(head.end(), end) if head[1] == "enum" else body.members(head.end(), end)
    return [member for _, member in zip(range(_MAX_MEMBERS), found, strict=False)]


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


def _without_directives(text: str) -> tuple[str, list[str | None]]:
    """The text with preprocessor lines blanked, and the condition each line stands under."""
    rows, conditions, stack = [], [], list[str]()
    goes_on = False
    for row in text.split("\n"):
        found = _DIRECTIVE.match(row)
        if found or goes_on:
            if found:
                _step(stack, found[1], found[2].strip())
            goes_on = row.endswith("\\")
            row = " " * len(row)
        rows.append(row)
        conditions.append(" && ".join(stack) or None)
    return "\n".join(rows), conditions


def _step(stack: list[str], word: str, rest: str) -> None:
    spelled = " ".join(rest.split())[:_MAX_WORDS]
    if word in ("if", "ifdef", "ifndef") and len(stack) < _MAX_DEPTH:
        stack.append(f"!{spelled}" if word == "ifndef" else spelled)
    elif word == "else" and stack:
        stack[-1] = _negated(stack[-1])
    elif word == "elif" and stack:
        stack[-1] = spelled
    elif word == "endif" and stack:
        stack.pop()


def _negated(condition: str) -> str:
    if re.fullmatch(r"!\w+", condition):
        return condition[1:]
    return f"!{condition}" if re.fullmatch(r"\w+", condition) else f"!({condition})"


def _matching(text: str, opening: int) -> int:
    """Where the bracket at `opening` closes; the end of the text if it does not."""
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] in "({[") - (text[at] in ")}]")
        if depth == 0:
            return at
    return len(text)


def _parts(text: str, start: int, end: int, separator: str) -> Iterator[tuple[int, int]]:
    """Where the pieces between top-level separators begin and end, blanks left out."""
    depth, begin = 0, start
    for at in range(start, end + 1):
        if at < end:
            depth += (text[at] in "({[") - (text[at] in ")}]")
        if at == end or (text[at] == separator and depth == 0):
            piece = text[begin:at]
            if piece.strip():
                yield begin + len(piece) - len(piece.lstrip()), at
            begin = at + 1


@dataclass(frozen=True, slots=True)
class _Body:
    """The text between a type's braces, cleaned, with what is known of its lines."""

    text: str
    first_line: int
    conditions: list[str | None]

    def constants(self, start: int, end: int) -> Iterator[SourceMember]:
        for begin, stop in _parts(self.text, start, end, ","):
            name, _, value = self.text[begin:stop].partition("=")
            if re.fullmatch(r"\w+", name.strip()):
                yield self._at(begin, name.strip(), value)

    def members(self, start: int, end: int, depth: int = _MAX_DEPTH) -> Iterator[SourceMember]:
        for begin, stop in _parts(self.text, start, end, ";"):
            yield from self._declared(begin, stop, depth)

    def _declared(self, begin: int, stop: int, depth: int) -> Iterator[SourceMember]:
        macro = _MACRO.match(self.text, begin, stop)
        if macro and (close := _matching(self.text, macro.end() - 1)) < stop:
            yield from self._of_macro(macro, close, depth)
            rest = self.text[close + 1 : stop]
            if not rest.strip():
                return
            begin = close + 1 + len(rest) - len(rest.lstrip())
        braced = _BRACED.match(self.text, begin, stop)
        if braced is None:
            yield from self._plain(begin, stop)
            return
        close = _matching(self.text, braced.end() - 1)
        if self.text[close + 1 : stop].strip():
            kind = " ".join(filter(None, (braced[1], braced[2], "{...}")))
            for at, last in _parts(self.text, close + 1, stop, ","):
                yield from self._one(at, kind, self.text[at:last])
        elif depth and braced[1] != "enum":
            yield from self.members(braced.end(), close, depth - 1)

    def _of_macro(self, macro: re.Match[str], close: int, depth: int) -> Iterator[SourceMember]:
        name, inside = macro[1], list(_parts(self.text, macro.end(), close, ","))
        words = [self.text[at:last].strip() for at, last in inside]
        skipped = _GROUPS.get(name)
        if skipped is not None and len(inside) > skipped and depth:
            yield from self.members(inside[skipped][0], close, depth - 1)
        elif name in _ARRAYS and len(words) > 1:
            yield self._at(macro.start(), words[0], _ARRAYS[name].format(*words))
        elif name == "DECLARE_FLEX_ARRAY" and len(words) > 1:
            yield self._at(macro.start(), words[1], f"{words[0]} []")
        else:
            spelled = self.text[macro.start() : close + 1]
            first = words[0] if words and re.fullmatch(r"[A-Za-z_]\w*", words[0]) else name
            yield self._at(macro.start(), first, spelled)

    def _plain(self, begin: int, stop: int) -> Iterator[SourceMember]:
        kind = ""
        for number, (at, last) in enumerate(_parts(self.text, begin, stop, ",")):
            words = self.text[at:last]
            if number == 0 and (split := _POINTER.search(words) or _PLAIN.search(words.rstrip())):
                kind = words[: split.start()].rstrip("* \t\n")
                words = words[len(kind) :]
                at += len(self.text[at:last]) - len(words.lstrip())
            yield from self._one(at, kind, words)

    def _one(self, at: int, kind: str, declarator: str) -> Iterator[SourceMember]:
        words = declarator.strip()
        found = _POINTER.search(words) or _PLAIN.search(words)
        if found is not None:
            shape = words[: found.start(1)] + words[found.end(1) :]
            yield self._at(at, found[1], f"{kind} {shape}")

    def _at(self, position: int, name: str, kind: str) -> SourceMember:
        row = self.text.count("\n", 0, position)
        spelled = " ".join(kind.split())[:_MAX_WORDS]
        return SourceMember(name, spelled, self.first_line + row, self.conditions[row])
