"""C as the kernel writes it: functions, member accesses, calls and declared types by line.

tree-sitter parses without running the preprocessor. Annotations that would derail it
(``__init``, ``__user``, ``__releases(x)``) are blanked first, byte for byte, so that every
position stays what it is in the file. This runs in the child; `c_source` asks it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from kagent.source.annotations import without_annotations

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

__all__ = [
    "MAX_SOURCE_BYTES",
    "CSyntax",
    "Call",
    "Declaration",
    "FieldAccess",
    "FunctionSpan",
    "parser",
]

MAX_SOURCE_BYTES = 8 * 1024 * 1024
_MAX_NODES = 2_000_000
_MAX_TEXT = 400
_MAX_HEADER_LINES = 24
_HEADER_NAME = re.compile(rb"([A-Za-z_]\w{0,255})\s{0,8}\(")
_CONTAINERS = frozenset(
    [
        "translation_unit",
        "preproc_if",
        "preproc_ifdef",
        "preproc_else",
        "preproc_elif",
        "preproc_elifdef",
        "linkage_specification",
        "declaration_list",
        "ERROR",
    ]
)


@dataclass(frozen=True, slots=True)
class FunctionSpan:
    """Where a function definition stands: lines 1-based and inclusive."""

    name: str
    start: int
    end: int
    macro: str | None = None
    """The macro that defines it: ``SYSCALL_DEFINE3``."""


@dataclass(frozen=True, slots=True)
class FieldAccess:
    """One ``base->member`` or ``base.member``."""

    expression: str
    base: str
    member: str
    arrow: bool
    line: int
    """Of the member's name."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call; `function` is an expression when it goes through a pointer."""

    function: str
    arguments: tuple[str, ...]
    line: int
    end: int


@dataclass(frozen=True, slots=True)
class Declaration:
    """A parameter or local variable."""

    name: str
    type: str
    """Without qualifiers and stars: ``struct fan_curve``, ``unsigned int``."""
    pointers: int
    parameter: bool
    line: int
    array: bool = False


@lru_cache(maxsize=1)
def parser() -> Parser:
    """tree-sitter for C."""
    import tree_sitter
    import tree_sitter_c

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_c.language()))


class CSyntax:
    """A parsed C file. Lines are 1-based throughout; texts are clipped to 400 characters."""

    def __init__(self, text: str) -> None:
        self._raw = text.encode("utf-8", "replace")[:MAX_SOURCE_BYTES]
        self._root = parser().parse(without_annotations(self._raw)).root_node

    @cached_property
    def functions(self) -> tuple[FunctionSpan, ...]:
        """All function definitions, in source order."""
        return tuple(span for span, _ in self._definitions)

    def function_at(self, line: int) -> FunctionSpan | None:
        """The function whose definition covers a line."""
        return next((f for f in self.functions if f.start <= line <= f.end), None)

    def field_accesses(self, line: int) -> list[FieldAccess]:
        """Member accesses whose member name stands on `line`, in source order."""
        found: list[tuple[int, FieldAccess]] = []
        for node in self._on_lines(line, line):
            if node.type != "field_expression":
                continue
            base = node.child_by_field_name("argument")
            member = node.child_by_field_name("field")
            if base is None or member is None or member.start_point[0] + 1 != line:
                continue
            between = self._raw[base.end_byte : member.start_byte]
            access = FieldAccess(
                self._text(node), self._text(base), self._text(member), b"->" in between, line
            )
            found.append((member.start_byte, access))
        return [access for _, access in sorted(found, key=lambda pair: pair[0])]

    def calls(self, line: int) -> list[Call]:
        """Calls that begin on `line`, in source order; if none does, those that span it."""
        begin: list[tuple[int, Call]] = []
        cover: list[tuple[int, Call]] = []
        for node in self._on_lines(line, line):
            if call := self._call(node):
                (begin if call.line == line else cover).append((node.start_byte, call))
        return [call for _, call in sorted(begin or cover, key=lambda pair: pair[0])]

    def _call(self, node: Node) -> Call | None:
        function = node.child_by_field_name("function")
        arguments = node.child_by_field_name("arguments")
        if node.type != "call_expression" or function is None or arguments is None:
            return None
        first, last = function.end_point[0] + 1, node.end_point[0] + 1
        return Call(self._text(function), self._arguments(arguments), first, last)

    def every_call(self) -> list[Call]:
        """All calls, by the line they begin on, then in source order."""
        found = [
            (call.line, node.start_byte, call)
            for node in _walk(self._root)
            if (call := self._call(node))
        ]
        return [call for *_, call in sorted(found, key=lambda one: one[:2])]

    def declarations(self, line: int) -> list[Declaration]:
        """Parameters, then locals, of the function that covers `line`.

        Locals of every block are listed; an inner one that shadows comes later.
        """
        for span, nodes in self._definitions:
            if span.start <= line <= span.end:
                return list(self._declared(span, nodes) if nodes else self._declared_in(span))
        return []

    # ------------------------------------------------------------------------------------------

    @cached_property
    def _definitions(self) -> list[tuple[FunctionSpan, tuple[Node, ...]]]:
        found: list[tuple[FunctionSpan, tuple[Node, ...]]] = []
        stack: list[Node] = [self._root]
        while stack:
            container = stack.pop()
            previous: Node | None = None
            for child in container.children:
                if child.type == "function_definition":
                    if span := self._defined(child):
                        found.append((span, (child,)))
                elif child.type == "compound_statement" and previous is not None:
                    if span := self._macro_defined(previous, child):
                        found.append((span, (previous, child)))
                elif child.type in _CONTAINERS:
                    stack.append(child)
                if child.is_named and child.type != "comment":
                    previous = child
        return self._completed(found)

    def _completed(
        self, found: list[tuple[FunctionSpan, tuple[Node, ...]]]
    ) -> list[tuple[FunctionSpan, tuple[Node, ...]]]:
        """Repair what conditional compilation breaks: braces that balance on one branch only.

        In kernel style a function's braces, and only those, stand in the first column.
        """
        opens = [n for n, line in enumerate(self._lines, 1) if line.rstrip() == b"{"]
        sound = [
            pair
            for pair in found
            if bisect_right(opens, pair[0].end) - bisect_left(opens, pair[0].start) <= 1
        ]
        ends = [n for n, line in enumerate(self._lines, 1) if line.startswith(b"}")]
        covered = sorted((span.start, span.end) for span, _ in sound)
        for line in opens:
            at = bisect_right(covered, (line, 1 << 31)) - 1
            if at >= 0 and covered[at][0] <= line <= covered[at][1]:
                continue
            close = bisect_right(ends, line)
            if close < len(ends) and (span := self._by_columns(line, ends[close])):
                sound.append((span, ()))
        return sorted(sound, key=lambda pair: pair[0].start)

    def _by_columns(self, opening: int, end: int) -> FunctionSpan | None:
        start = opening
        while start > max(1, opening - _MAX_HEADER_LINES):
            line = self._lines[start - 2]
            if not line.strip() or line.rstrip().endswith((b"}", b";", b"*/", b"\\", b"{")):
                break
            if line.startswith((b"#", b"//", b"/*", b" *")):
                break
            start -= 1
        header = without_annotations(b"\n".join(self._lines[start - 1 : opening - 1]))
        named = _HEADER_NAME.search(header)
        if named is None:
            return None
        return FunctionSpan(named[1].decode("ascii"), start, end)

    @cached_property
    def _lines(self) -> list[bytes]:
        return self._raw.split(b"\n")

    def _declared_in(self, span: FunctionSpan) -> Iterator[Declaration]:
        """For a function without a node of its own: parse its header alone, walk its lines."""
        first = next(n for n in range(span.start, span.end + 1) if self._lines[n - 1][:1] == b"{")
        header = b"\n".join([*self._lines[span.start - 1 : first - 1], b"{", b"}"])
        for parameter in CSyntax(header.decode("utf-8", "replace")).declarations(1):
            if parameter.parameter:
                yield replace(parameter, line=parameter.line + span.start - 1)
        for node in _walk(self._root, first - 1, span.end - 1):
            if node.type == "declaration" and node.start_point[0] >= first:
                yield from self._declarators(node, parameter=False)

    def _defined(self, node: Node) -> FunctionSpan | None:
        body = node.child_by_field_name("body")
        declarator = node.child_by_field_name("declarator")
        if body is None or declarator is None:
            return None
        start = self._first_line(node)
        end = node.end_point[0] + 1
        if declarator.type == "parenthesized_declarator":  # DEFINE_IDTENTRY(exc_page_fault)
            kind = node.child_by_field_name("type")
            inner = next((c for c in declarator.children if c.is_named), None)
            if inner is None or kind is None:
                return None
            return FunctionSpan(self._text(inner), start, end, self._text(kind))
        for inner in _chain_of(declarator):
            if inner.type == "function_declarator":
                named = inner.child_by_field_name("declarator")
                if named is not None and named.type in ("identifier", "parenthesized_declarator"):
                    return self._span_of(self._text(named), inner, start, end)
        return None

    def _span_of(self, name: str, declarator: Node, start: int, end: int) -> FunctionSpan | None:
        """A plain function, or a macro that is only known by its capitals to be one."""
        parameters = declarator.child_by_field_name("parameters")
        first = next((c for c in parameters.children if c.is_named), None) if parameters else None
        if name.isupper() and first is not None:
            return FunctionSpan(self._text(first), start, end, name)
        return FunctionSpan(name.strip("() \t*"), start, end)

    def _first_line(self, node: Node) -> int:
        """Of a definition; blanked annotations in front of it are not part of the node."""
        line_start = self._raw.rfind(b"\n", 0, node.start_byte) + 1
        return self._raw.count(b"\n", 0, line_start) + 1

    def _macro_defined(self, head: Node, body: Node) -> FunctionSpan | None:
        call = head if head.type == "call_expression" else None
        if head.type == "expression_statement":
            call = next((c for c in head.children if c.type == "call_expression"), None)
        if call is None or body.start_point[0] - head.end_point[0] > 2:
            return None
        macro = call.child_by_field_name("function")
        arguments = call.child_by_field_name("arguments")
        named = next((c for c in arguments.children if c.is_named), None) if arguments else None
        if macro is None or named is None:
            return None
        return FunctionSpan(
            self._text(named), head.start_point[0] + 1, body.end_point[0] + 1, self._text(macro)
        )

    def _declared(self, span: FunctionSpan, nodes: tuple[Node, ...]) -> Iterator[Declaration]:
        if span.macro and span.macro.endswith(tuple(f"DEFINE{n}" for n in range(7))):
            yield from self._syscall_parameters(nodes[0])
        for root in nodes:
            for node in _walk(root):
                if node.type == "parameter_declaration" and self._of_function(node, root):
                    yield from self._declarators(node, parameter=True)
        for root in nodes:
            for node in _walk(root):
                if node.type == "declaration":
                    yield from self._declarators(node, parameter=False)

    def _of_function(self, parameter: Node, root: Node) -> bool:
        """Not a parameter of a function pointer, and not in the body."""
        node, depth = parameter.parent, 0
        while node is not None and node != root:
            if node.type == "compound_statement":
                return False
            depth += node.type == "parameter_list"
            node = node.parent
        return depth == 1

    def _declarators(self, node: Node, *, parameter: bool) -> Iterator[Declaration]:
        kind = node.child_by_field_name("type")
        if kind is None:
            return
        type_name = self._type_name(kind)
        for declarator in node.children_by_field_name("declarator"):
            stars = 0
            array = False
            for inner in _chain_of(declarator):
                stars += inner.type == "pointer_declarator"
                array = array or inner.type == "array_declarator"
                if inner.type == "identifier":
                    line = inner.start_point[0] + 1
                    name = self._text(inner)
                    yield Declaration(name, type_name, stars, parameter, line, array)

    def _syscall_parameters(self, head: Node) -> Iterator[Declaration]:
        """``SYSCALL_DEFINE2(name, type, parameter, ...)``: types and names alternate."""
        text = self._raw[head.start_byte : head.end_byte].decode("utf-8", "replace")
        words = [w.strip() for w in text.partition("(")[2].rpartition(")")[0].split(",")][1:]
        for kind, name in zip(words[::2], words[1::2], strict=False):
            bare = " ".join(w for w in kind.replace("*", " ").split() if w not in _QUALIFIERS)
            yield Declaration(name, bare, kind.count("*"), True, head.start_point[0] + 1)

    def _type_name(self, kind: Node) -> str:
        if kind.type in ("struct_specifier", "union_specifier", "enum_specifier"):
            tag = kind.child_by_field_name("name")
            keyword = kind.type.partition("_")[0]
            return f"{keyword} {self._text(tag)}" if tag is not None else keyword
        return self._text(kind)

    def _arguments(self, node: Node) -> tuple[str, ...]:
        """Split at top-level commas; text, because macros take what is no expression."""
        raw = self._raw[node.start_byte + 1 : node.end_byte - 1].decode("utf-8", "replace")
        parts, depth, quote, current = [], 0, "", ""
        previous = ""
        for char in raw[: _MAX_TEXT * 16]:
            if quote:
                quote = "" if char == quote and previous != "\\" else quote
            elif char in "\"'":
                quote = char
            elif char in "([{":
                depth += 1
            elif char in ")]}":
                depth -= 1
            if char == "," and not depth and not quote:
                parts.append(current)
                current = ""
            else:
                current += char
            previous = "" if previous == "\\" else char
        parts.append(current)
        texts = [" ".join(part.split())[:_MAX_TEXT] for part in parts]
        return tuple(texts) if texts != [""] else ()

    def _on_lines(self, first: int, last: int) -> Iterator[Node]:
        """Nodes that touch the lines, outermost first."""
        return _walk(self._root, first - 1, last - 1)

    def _text(self, node: Node) -> str:
        raw = self._raw[node.start_byte : min(node.end_byte, node.start_byte + 4 * _MAX_TEXT)]
        return " ".join(raw.decode("utf-8", "replace").split())[:_MAX_TEXT]


_QUALIFIERS = frozenset(("const", "volatile", "__user", "__iomem", "__percpu", "__rcu"))


def _walk(root: Node, first: int = 0, last: int = 1 << 31) -> Iterator[Node]:
    """Depth-first, in source order, only through nodes that touch the 0-based rows."""
    stack = [root]
    for _ in range(_MAX_NODES):
        if not stack:
            return
        node = stack.pop()
        if node.end_point[0] < first or node.start_point[0] > last:
            continue
        yield node
        stack.extend(reversed(node.children))


def _chain_of(declarator: Node) -> Iterator[Node]:
    """A declarator and the declarators nested in it, outermost first."""
    node: Node | None = declarator
    for _ in range(32):
        if node is None:
            return
        yield node
        inner = node.child_by_field_name("declarator")
        if inner is None and node.type in ("parenthesized_declarator", "attributed_declarator"):
            inner = next((c for c in node.children if c.is_named), None)
        node = inner
