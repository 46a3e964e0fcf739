"""A syntax tree as plain data, with as much of tree-sitter's `Node` as rules use."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from kagent.errors import CorruptDataError

__all__ = ["Columns", "Node", "empty_tree", "tree_of"]


@dataclass(frozen=True, slots=True)
class Columns:
    """A tree's nodes in source order, parents before their children, a column for each fact."""

    names: list[str]
    """Of node types and fields; the columns `types` and `fields` index it."""
    types: list[int]
    fields: list[int]
    """-1 where a node has no field name in its parent."""
    named: list[bool]
    parents: list[int]
    """Always smaller than the node's own row; -1 for the root."""
    starts: list[int]
    ends: list[int]
    """In bytes."""


class Node:
    """One node; see tree-sitter's documentation for what the names mean."""

    __slots__ = ("_field", "_lines", "children", "end_byte", "is_named", "parent", "start_byte",
                 "text_of", "type")  # fmt: skip

    def __init__(
        self, kind: str, named: bool, span: tuple[int, int], text: bytes, lines: Sequence[int]
    ) -> None:
        self.type = kind
        self.is_named = named
        self.start_byte, self.end_byte = span
        self.children: list[Node] = []
        self.parent: Node | None = None
        self.text_of = text
        self._lines = lines
        self._field: str | None = None

    @property
    def text(self) -> bytes:
        """The source of this node."""
        return self.text_of[self.start_byte : self.end_byte]

    @property
    def start_point(self) -> tuple[int, int]:
        """0-based row, and bytes from its beginning."""
        return self._point(self.start_byte)

    @property
    def end_point(self) -> tuple[int, int]:
        """The same of the end."""
        return self._point(self.end_byte)

    def _point(self, byte: int) -> tuple[int, int]:
        row = bisect_right(self._lines, byte) - 1
        return row, byte - self._lines[row]

    @property
    def named_children(self) -> list[Node]:
        """Children that are no punctuation."""
        return [child for child in self.children if child.is_named]

    def child_by_field_name(self, name: str) -> Node | None:
        """The first child with that field name."""
        return next((child for child in self.children if child._field == name), None)

    def children_by_field_name(self, name: str) -> list[Node]:
        """All children with that field name."""
        return [child for child in self.children if child._field == name]


def empty_tree(data: bytes) -> Node:
    """A tree in which nothing was found."""
    return Node("translation_unit", True, (0, len(data)), data, [0])


def tree_of(data: bytes, columns: Columns) -> Node:
    """The tree; `CorruptDataError` for columns that are none of `data`."""
    lines = [0]
    while at := data.find(b"\n", lines[-1]) + 1:
        lines.append(at)
    names, nodes = columns.names, list[Node]()
    try:
        rows = zip(
            columns.types,
            columns.fields,
            columns.named,
            columns.parents,
            columns.starts,
            columns.ends,
            strict=True,
        )
        for row, (kind, field, named, parent, start, end) in enumerate(rows):
            if not (0 <= start <= end <= len(data) and -1 <= parent < row and kind >= 0):
                raise ValueError("a node out of place")
            node = Node(names[kind], named, (start, end), data, lines)
            if row:
                node.parent = nodes[parent if parent >= 0 else 0]
                node.parent.children.append(node)
                node._field = names[field] if field >= 0 else None
            nodes.append(node)
    except (ValueError, IndexError) as error:
        raise CorruptDataError(f"tree-sitter gave no tree ({error})") from None
    return nodes[0] if nodes else empty_tree(data)
