"""C functions as rules need them: member accesses, calls and variables, line by line.

Kernel code is parsed as it stands, macros unexpanded; tree-sitter keeps going where a macro is
no valid C, so everything here is a best reading of the text, not a compiler's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from kagent.source.c_source import CSource
from kagent.source.c_tree import Node
from kagent.source.model import rows

__all__ = [
    "CFunction",
    "Call",
    "MemberAccess",
    "cast_type",
    "node_text",
    "parse_function",
    "strip_parens",
    "unwrap",
    "variable_type",
    "walk",
]

_MAX_CHARACTERS = 400_000
_TYPE_ARGUMENT = re.compile(r"^(?:container_of\w{0,16}|\w{0,16}_entry\w{0,16})\s*\(")
_TRANSPARENT = ("parenthesized_expression", "subscript_expression", "cast_expression")
_WRITES_FIRST = re.compile(
    r"(?:__)?(?:mem(?:cpy|move|set)|strn?cpy|str[ls]cpy|copy_from_user|v?sn?printf|get_random_bytes)"
)
_CONTAINER = re.compile(
    r"\b(\w{1,80})\s*=\s*(?:container_of\w{0,16}|\w{0,16}_entry\w{0,16})\s*"
    r"\([^;]{1,160}?,\s*(struct\s+\w{1,80})\s*,\s*([\w.]{1,80})\s*\)"
    r"|\b(\w{1,80})\s*=\s*(?:from_timer|timer_container_of)\s*"
    r"\(\s*\w{1,80}\s*,[^;]{1,120}?,\s*([\w.]{1,80})\s*\)"
)
_DEREFERENCES = (
    "parenthesized_expression",
    "subscript_expression",
    "update_expression",
    "pointer_expression",
)
_TERM_PARENTS = ("binary_expression", "parenthesized_expression", "cast_expression")
_STRUCT = re.compile(r"\b(struct|union)\s+(\w+)")


@dataclass(frozen=True, slots=True)
class MemberAccess:
    """``root->a->b.c[i]``: the root and every step with its operator."""

    text: str
    root: str
    """Identifier, or the source text of the call or cast it hangs on."""
    steps: tuple[tuple[str, str], ...]
    """``("->", "ops"), (".", "len")`` ...; subscripts are dropped."""
    index: int | None = None
    """The constant subscript after the last step, if there is one: 2 for ``p->drops[2]``."""
    line: int = 0
    address_of: bool = False
    written: bool = False
    filled: bool = False
    """True for what a copying function is given to write to: the member, or what it points to."""
    loop: bool = False
    """True for what a ``list_for_each_entry()`` macro reads to find its next entry."""
    pointee: bool = False
    """True where the member's value is dereferenced in turn: ``*p->q`` or ``p->q[i]``."""
    stored: bool = False
    """True where that pointee is assigned to."""
    whole: bool = True
    """False where an argument only computes with it: ``p->buf + 8``."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call with the texts of its arguments."""

    name: str
    """Callee text: ``kfree``, ``d->ops->sync`` or ``guard(mutex)``."""
    arguments: tuple[str, ...]
    line: int
    end_line: int
    through: MemberAccess | None = None
    """The member that holds the function pointer, for indirect calls."""
    members: tuple[MemberAccess | None, ...] = ()
    """For each argument: the member access it is, if it is one."""


@dataclass(frozen=True, slots=True)
class CFunction:
    """A parsed function definition. Lines are those of the file."""

    name: str
    path: str
    start: int
    end: int
    text: str
    parameters: tuple[tuple[str, str], ...]
    """(name, type text) in order."""
    variables: dict[str, str]
    """Type text of every parameter and local."""
    root: Node = field(repr=False, compare=False)
    module: str | None = None

    def line_of(self, node: Any) -> int:
        """The file's line where `node` starts."""
        return int(node.start_point[0]) + self.start

    def line(self, number: int) -> str:
        """A source line without its indentation."""
        lines = rows(self.text)
        at = number - self.start
        return lines[at].strip() if 0 <= at < len(lines) else ""

    def accesses(self, first: int | None = None, last: int | None = None) -> list[MemberAccess]:
        """Member accesses that start on lines `first` to `last`; of the whole body by default."""
        low, high = first or self.start, last or first or self.end
        return [
            access
            for node in walk(self.root, "field_expression")
            if low <= self.line_of(node) <= high and (access := self._access(node))
        ]

    def calls(self, first: int | None = None, last: int | None = None) -> list[Call]:
        """Calls whose text covers any of the lines `first` to `last`, outermost first."""
        low, high = first or self.start, last or first or self.end
        found = []
        for node in walk(self.root, "call_expression"):
            start, end = self.line_of(node), node.end_point[0] + self.start
            if start <= high and end >= low and (call := self._call(node, start, end)):
                found.append(call)
        return found

    def reassigns(self, name: str) -> bool:
        """Whether the variable `name` gets another value after its declaration."""
        for node in walk(self.root, "assignment_expression", "update_expression"):
            target = node.child_by_field_name("left") or node.child_by_field_name("argument")
            if target is not None and node_text(target) == name:
                return True
        return False

    def loop_members(self, first: int | None = None, last: int | None = None) -> list[MemberAccess]:
        """What ``list_for_each_entry(pos, head, member)`` and its kin reads behind the scenes."""
        found = []
        for call in self.calls(first, last):
            if "for_each_entry" not in call.name or len(call.arguments) < 3:
                continue
            at = 3 if "_safe" in call.name else 2
            position, member = call.arguments[0], call.arguments[min(at, len(call.arguments) - 1)]
            if position.isidentifier() and member.isidentifier():
                step = (("->", member),)
                found.append(
                    MemberAccess(f"{position}->{member}", position, step, line=call.line, loop=True)
                )
        return found

    def containers(self) -> list[MemberAccess]:
        """``p = container_of(q, struct s, member)`` and its kin, as ``p->member``."""
        found = []
        for match in _CONTAINER.finditer(self.text):
            variable, member = match[1] or match[4], match[3] or match[5]
            steps = (("->", member.split(".")[0]), *((".", m) for m in member.split(".")[1:]))
            found.append(MemberAccess(f"{variable}->{member}", variable, steps))
        return found

    def divisors(self, line: int) -> list[MemberAccess]:
        """Members that something is divided by on `line`."""
        found = []
        for node in walk(self.root, "binary_expression", "assignment_expression"):
            operator = node.child_by_field_name("operator")
            if operator is None or node_text(operator) not in ("/", "%", "/=", "%="):
                continue
            right = unwrap(node.child_by_field_name("right"))
            if right is not None and self.line_of(node) <= line <= node.end_point[0] + self.start:
                access = self._access(right, whole=True)
                found += [access] if access else []
        return found

    def call(self, node: Node) -> Call | None:
        """Read a ``call_expression`` node."""
        return self._call(node, self.line_of(node), node.end_point[0] + self.start)

    def _call(self, node: Node, start: int, end: int) -> Call | None:
        callee = unwrap(node.child_by_field_name("function"))
        callee = _strip_subscripts(callee) if callee is not None else None
        arguments = node.child_by_field_name("arguments")
        if callee is None or arguments is None:
            return None
        given = [child for child in arguments.named_children if child.type != "comment"]
        through = self._access(callee, whole=True) if callee.type == "field_expression" else None
        return Call(
            name=node_text(callee),
            arguments=tuple(node_text(child) for child in given),
            line=start,
            end_line=end,
            through=through,
            members=tuple(self._argument(child) for child in given),
        )

    def _argument(self, node: Node) -> MemberAccess | None:
        inner = unwrap(node)
        if inner is None:
            return None
        if inner.type == "pointer_expression" and node_text(inner).startswith("&"):
            inner = unwrap(inner.child_by_field_name("argument"))
        if inner is None:
            return None
        if inner.type == "binary_expression":
            terms = list(walk(inner, "field_expression"))
            outer = [n for n in terms if n.parent is not None and n.parent.type in _TERM_PARENTS]
            found = self._access(outer[0], whole=True) if len(outer) == 1 else None
            return replace(found, whole=False) if found else None
        return self._access(inner, whole=True)

    def _access(self, node: Node, *, whole: bool = False) -> MemberAccess | None:
        node = _strip_subscripts(node)
        if node.type != "field_expression":
            return None
        parent, pointee = _parent(node)
        if not whole and parent is not None and parent.type == "field_expression":
            operator = parent.child_by_field_name("operator")
            if operator is not None and node_text(operator) == ".":
                return None
        steps: list[tuple[str, str]] = []
        base: Node | None = node
        while base is not None and base.type == "field_expression":
            operator, member = (
                base.child_by_field_name("operator"),
                base.child_by_field_name("field"),
            )
            if operator is None or member is None:
                return None
            steps.append((node_text(operator), node_text(member)))
            base = unwrap(base.child_by_field_name("argument"))
            base = _strip_subscripts(base) if base is not None else None
        if base is None:
            return None
        return MemberAccess(
            text=node_text(node),
            root=node_text(base),
            steps=tuple(reversed(steps)),
            index=_constant_index(node),
            line=self.line_of(node),
            address_of=parent is not None
            and parent.type == "pointer_expression"
            and node_text(parent).startswith("&"),
            written=_is_written(node, parent),
            filled=_is_filled(node, parent),
            pointee=pointee,
            stored=pointee and _is_stored_through(node),
        )


def parse_function(
    text: str, *, name: str, path: str = "", start: int = 1, module: str | None = None
) -> CFunction:
    """Parse one function definition that begins at line `start` of `path`."""
    source = CSource(text[:_MAX_CHARACTERS], path or name)
    declared = source.declarations(text.count("\n") // 2 + 1)
    types = [(d.name, f"{d.type} {'*' * (d.pointers + d.array)}".strip()) for d in declared]
    parameters = [entry for entry, d in zip(types, declared, strict=True) if d.parameter]
    variables: dict[str, str] = {}
    for entry in types:
        variables.setdefault(*entry)
    return CFunction(
        name=name,
        path=path,
        start=start,
        end=start + text.count("\n"),
        text=text,
        parameters=tuple(parameters),
        variables=variables,
        root=source.tree,
        module=module,
    )


def variable_type(text: str, name: str) -> str | None:
    """The type of a file-scope variable, from its declaration in the file's text."""
    pattern = re.compile(
        rf"^(?:[\w]+\s+){{0,5}}?((?:struct|union)\s+\w+|\w+)\s*(\*{{0,3}})\s*{re.escape(name)}\s*"
        r"(?:\[[^\]\n]{0,80}\]\s*)?[=;,]",
        re.MULTILINE,
    )
    match = pattern.search(text)
    return f"{match[1]} {match[2]}".strip() if match else None


def strip_parens(text: str) -> str:
    """``(&x)`` → ``&x``, for any number of enclosing pairs."""
    text = text.strip()
    while text.startswith("(") and text.endswith(")") and _closes_at_end(text):
        text = text[1:-1].strip()
    return text


def _closes_at_end(text: str) -> bool:
    depth = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return at == len(text) - 1
    return False


def node_text(node: Any) -> str:
    """The source text of a node on one line."""
    return " ".join(node.text.decode("utf-8", "replace").split())


def walk(root: Any, *types: str) -> Iterator[Any]:
    """Nodes of the given types in source order, without recursion."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type in types:
            yield node
        stack.extend(reversed(node.children))


def unwrap(node: Any) -> Any:
    """Take parentheses and casts off an expression."""
    while node is not None and node.type in ("parenthesized_expression", "cast_expression"):
        value = node.child_by_field_name("value")
        node = value if value is not None else next(iter(node.named_children), None)
    return node


def _strip_subscripts(node: Any) -> Any:
    while node.type == "subscript_expression":
        inner = unwrap(node.child_by_field_name("argument"))
        if inner is None:
            break
        node = inner
    return node


def _parent(node: Any) -> tuple[Any, bool]:
    """The nearest parent that is no parenthesis, and whether it dereferences the value."""
    parent = node.parent
    pointee = False
    if parent is not None and parent.type == "update_expression":  # *p->tail++
        outer = parent.parent
        pointed = outer is not None and outer.type == "pointer_expression"
        return parent, pointed and node_text(outer).startswith("*")
    while parent is not None and parent.type in (
        "parenthesized_expression",
        "subscript_expression",
    ):
        if parent.type == "subscript_expression":
            index = parent.child_by_field_name("index")
            if index is not None and index.start_byte <= node.start_byte < index.end_byte:
                break
            pointee = True
        parent = parent.parent
    if parent is not None and parent.type == "pointer_expression":
        pointee = pointee or node_text(parent).startswith("*")
    return parent, pointee


def _constant_index(node: Any) -> int | None:
    parent = node.parent
    if parent is None or parent.type != "subscript_expression":
        return None
    index = parent.child_by_field_name("index")
    text = node_text(index) if index is not None else ""
    return int(text) if text.isdecimal() else None


def _is_filled(node: Any, parent: Any) -> bool:
    if parent is None or parent.type != "argument_list" or parent.parent is None:
        return False
    callee = parent.parent.child_by_field_name("function")
    first = next(iter(parent.named_children), None)
    copies = callee is not None and _WRITES_FIRST.fullmatch(node_text(callee))
    if first is None or not copies:
        return False
    return bool(first.start_byte <= node.start_byte and node.end_byte <= first.end_byte)


def _is_stored_through(node: Any) -> bool:
    """``*p->tail++ = c``, ``p->buf[i] = c``: what the member points to is assigned."""
    top = node
    while top.parent is not None and top.parent.type in _DEREFERENCES:
        top = top.parent
    return top is not node and _is_written(top, top.parent)


def _is_written(node: Any, parent: Any) -> bool:
    if parent is None:
        return False
    if parent.type == "update_expression":
        return True
    if parent.type != "assignment_expression":
        return False
    left = parent.child_by_field_name("left")
    return left is not None and left.start_byte <= node.start_byte < left.end_byte


def cast_type(root: str) -> str | None:
    """The struct a root names itself: ``container_of(p, struct q, m)`` → ``struct q *``."""
    if not _TYPE_ARGUMENT.match(root):
        return None
    found = _STRUCT.search(root)
    return f"{found[1]} {found[2]} *" if found else None
