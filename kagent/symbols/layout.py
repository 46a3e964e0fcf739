"""Walks over drgn types: which member lies at an offset, and where a member lies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kagent.symbols.model import Member

if TYPE_CHECKING:
    import drgn

__all__ = ["TypeQuestion", "layout_of", "member_at_offset", "member_by_path"]

_MAX_DEPTH = 16
_MAX_MEMBERS = 4096
_PATH = re.compile(r"[A-Za-z_]\w*(?:\[\d{1,9}\])*(?:\.[A-Za-z_]\w*(?:\[\d{1,9}\])*){0,31}\Z", re.A)
_STEP = re.compile(r"\[(\d+)\]|(\w+)", re.A)


@dataclass(frozen=True, slots=True)
class TypeQuestion:
    """Which members of a type are asked for: plain data, so that it can go to another process."""

    offset: int | None = None
    """The innermost member at that byte ..."""
    path: str | None = None
    """... or the one that this path names, or else all."""

    def answer(self, root: drgn.Type) -> list[Member]:
        """The members; none where there is no such."""
        if self.offset is not None:
            found = member_at_offset(root, self.offset)
        elif self.path is not None:
            found = member_by_path(root, self.path)
        else:
            return layout_of(root)
        return [found] if found else []


def member_at_offset(root: drgn.Type, offset: int) -> Member | None:
    """The innermost member that covers byte `offset`; None for padding and beyond the end."""
    found = _descend(root, offset, _MAX_DEPTH)
    if found is None or not found[0]:
        return None
    path, start, leaf, bits = found
    return _member(root, path.lstrip("."), start, leaf, bits)


def member_by_path(root: drgn.Type, path: str) -> Member | None:
    """The member that a path such as ``hdr.slots[3].len`` names."""
    if not _PATH.match(path):
        return None
    kind, start, bits = _strip(root), 0, None
    for index, name in _STEP.findall(path):
        if index:
            if not _is_array(kind):
                return None
            element = _strip(kind.type)
            if kind.length is not None and int(index) >= max(kind.length, 1):
                return None
            start += int(index) * (element.size or 0)
            whole, kind = kind.type, element
        else:
            if not _is_compound(kind):
                return None
            try:
                step = kind.member(name)
            except LookupError:
                return None
            start += step.bit_offset // 8
            whole, kind, bits = step.type, _strip(step.type), step.bit_field_size
    return _member(root, path, start, whole, bits)


def layout_of(root: drgn.Type) -> list[Member]:
    """The members of a type in memory order, those of anonymous members included."""
    members: list[Member] = []

    def collect(kind: Any, base: int, depth: int) -> None:
        for member in kind.members or ():
            start = base + member.bit_offset // 8
            inner = _strip(member.type)
            if member.name:
                bits = member.bit_field_size
                members.append(_member(root, member.name, start, member.type, bits))
            elif _is_compound(inner) and depth:
                collect(inner, start, depth - 1)
            if len(members) >= _MAX_MEMBERS:
                return

    kind = _strip(root)
    if _is_compound(kind):
        collect(kind, 0, _MAX_DEPTH)
    return members


_Leaf = tuple[str, int, Any, int | None]


def _descend(kind: Any, offset: int, depth: int) -> _Leaf | None:
    """(path, start, type, width of a bit-field) of the leaf at `offset` of `kind`."""
    bare = _strip(kind)
    size = _size(bare)
    if offset < 0 or depth <= 0 or (size is not None and offset >= size > 0):
        return None
    if _is_array(bare):
        step = _size(_strip(bare.type))
        if not step:
            return "", 0, kind, None
        index = offset // step
        inner = _descend(bare.type, offset - index * step, depth - 1)
        if inner is None or not _is_compound(_strip(bare.type)):
            return f"[{index}]", index * step, bare.type, None
        return f"[{index}]{inner[0]}", index * step + inner[1], *inner[2:]
    if not _is_compound(bare):
        return "", 0, kind, None
    return _in_members(bare, offset, depth)


def _in_members(kind: Any, offset: int, depth: int) -> _Leaf | None:
    best: _Leaf | None = None
    for member in kind.members or ():
        start = member.bit_offset // 8
        if not _covers(member, start, offset):
            continue
        inner = _descend(member.type, offset - start, depth - 1)
        if inner is None:
            continue
        name = f".{member.name}" if member.name else ""
        bits = member.bit_field_size or inner[3]
        candidate = (name + inner[0], start + inner[1], inner[2], bits)
        if candidate[0] and (best is None or (best[1] != offset and candidate[1] == offset)):
            best = candidate
        if best and best[1] == offset:
            break  # of a union, the first alternative that starts a member here
    return best


def _covers(member: Any, start: int, offset: int) -> bool:
    if member.bit_field_size:
        bits = member.bit_offset % 8 + member.bit_field_size
        return bool(start <= offset < start + (bits + 7) // 8)
    size = _size(_strip(member.type))
    if size is None:
        return False
    # A flexible array has no size of its own; it covers what follows.
    return bool(start <= offset < start + size) or (size == 0 and _is_open(member, start, offset))


def _is_open(member: Any, start: int, offset: int) -> bool:
    return offset >= start and _is_array(_strip(member.type))


def _strip(kind: Any) -> Any:
    """Without typedefs."""
    for _ in range(64):
        if kind.kind.name != "TYPEDEF":
            break
        kind = kind.type
    return kind


def _is_compound(kind: Any) -> bool:
    return kind.kind.name in ("STRUCT", "UNION", "CLASS")


def _is_array(kind: Any) -> bool:
    return bool(kind.kind.name == "ARRAY")


def _size(kind: Any) -> int | None:
    """Bytes of a type; 0 for a flexible array, None for an incomplete type."""
    if _is_array(kind):
        step = _size(_strip(kind.type))
        return None if step is None else step * (kind.length or 0)
    try:
        size: int | None = kind.size
    except AttributeError:  # functions and void have none
        return None
    return size


def _member(root: Any, path: str, start: int, kind: Any, bits: int | None) -> Member:
    tag = getattr(_strip(root), "tag", None) or root.type_name()
    size = _size(_strip(kind)) or 0
    return Member(tag, path, start, size, kind.type_name(), bits or None)
