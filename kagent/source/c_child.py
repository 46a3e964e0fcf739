"""What the child does for `CSource`, to a text given by its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagent.errors import CorruptDataError
from kagent.source.c_syntax import Call, CSyntax, Declaration, FieldAccess, FunctionSpan, parser

if TYPE_CHECKING:
    from kagent.isolation.child import Session

__all__ = ["calls", "declarations", "every_call", "field_accesses", "functions", "tree"]

_MAX_NODES = 500_000


def functions(session: Session, key: str) -> tuple[FunctionSpan, ...]:
    """All function definitions."""
    return _parsed(session, key).functions


def field_accesses(session: Session, key: str, line: int) -> list[FieldAccess]:
    """Member accesses on a line."""
    return _parsed(session, key).field_accesses(line)


def calls(session: Session, key: str, line: int) -> list[Call]:
    """Calls on a line."""
    return _parsed(session, key).calls(line)


def every_call(session: Session, key: str) -> list[Call]:
    """All calls."""
    return _parsed(session, key).every_call()


def declarations(session: Session, key: str, line: int) -> list[Declaration]:
    """Variables of the function around a line."""
    return _parsed(session, key).declarations(line)


def tree(session: Session, key: str) -> dict[str, Any]:
    """The whole tree, as `Columns` has it."""
    text = session.given[key]
    assert isinstance(text, str)
    cursor = parser().parse(text.encode()).walk()
    names: dict[str, int] = {}
    types: list[int] = []
    fields: list[int] = []
    named: list[bool] = []
    parents: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    above: list[int] = []
    while True:
        node, field = cursor.node, cursor.field_name
        assert node is not None
        row = len(types)
        if row >= _MAX_NODES:
            raise CorruptDataError(f"a C source has more than {_MAX_NODES} nodes")
        types.append(names.setdefault(node.type, len(names)))
        fields.append(names.setdefault(field, len(names)) if field else -1)
        named.append(node.is_named)
        parents.append(above[-1] if above else -1)
        starts.append(node.start_byte)
        ends.append(node.end_byte)
        if cursor.goto_first_child():
            above.append(row)
            continue
        while not cursor.goto_next_sibling():
            if not above:
                return {
                    "names": list(names),
                    "types": types,
                    "fields": fields,
                    "named": named,
                    "parents": parents,
                    "starts": starts,
                    "ends": ends,
                }
            cursor.goto_parent()
            above.pop()


def _parsed(session: Session, key: str) -> CSyntax:
    text = session.given[key]
    assert isinstance(text, str)
    made: CSyntax = session.once(key, lambda: CSyntax(text))
    return made
