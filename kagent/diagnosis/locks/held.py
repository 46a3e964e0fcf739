"""What a function holds at one of its lines: locks taken before it and not yet released.

Only statements that must have run are counted: those before the line in its own block and in the
blocks around it. A branch that returns or jumps away did not run if we are past it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from kagent.diagnosis.code import Call, CFunction, node_text, unwrap, walk
from kagent.diagnosis.locks.callees import definition
from kagent.diagnosis.locks.primitives import (
    Primitive,
    acquires,
    guards,
    released,
    signals,
    wrapped,
)
from kagent.diagnosis.reader import Reader

__all__ = ["Taken", "dropped_at", "held_at", "lock_argument", "polled", "signals_after"]

_LEAVES = ("return_statement", "goto_statement", "break_statement", "continue_statement")
_FATAL = ("BUG", "panic", "do_exit", "unreachable", "usercopy_abort")
_BRANCHES = ("if_statement", "switch_statement", "while_statement", "for_statement", "do_statement")
_MAX_EFFECTS = 200
_MAX_DEPTH = 2  # a wrapper of a wrapper
_MAX_WRAPPER_LINES = 60
_MAX_JUMPS = 3


@dataclass(frozen=True, slots=True)
class Taken:
    """A lock taken at a line of a function."""

    call: Call
    primitive: Primitive
    argument: str
    """The lock as an expression in `function`'s terms: ``&v->data_lock``."""
    function: CFunction
    via: Call | None = None
    """The call that led to `function`, where a jump at its end took it off the stack."""


@dataclass(frozen=True, slots=True)
class _Effect:
    take: bool
    taken: Taken


def held_at(
    reader: Reader, function: CFunction, line: int, callee: str | None = None
) -> list[Taken]:
    """Locks `function` holds when it makes the call at `line`, in the order it took them."""
    return _balance(reader, function, line, callee)[0]


def dropped_at(
    reader: Reader, function: CFunction, line: int, callee: str | None = None
) -> list[Taken]:
    """Locks of its callers that `function` has released when it makes the call at `line`."""
    return _balance(reader, function, line, callee)[1]


def _balance(
    reader: Reader, function: CFunction, line: int, callee: str | None
) -> tuple[list[Taken], list[Taken]]:
    """What was taken and not released, and what was released without having been taken."""
    held: list[Taken] = []
    dropped: list[Taken] = []
    target = _target(function, line, callee)
    for effect in _before(reader, function, target) if target is not None else ():
        taken = effect.taken
        if effect.take:
            back = next((d for d in dropped if _same_argument(d, taken)), None)
            if back is None:
                held.append(taken)
            else:
                dropped.remove(back)
        elif (own := next((h for h in reversed(held) if _same_argument(h, taken)), None)) is None:
            dropped.append(taken)
        else:
            held.remove(own)
    return held, dropped


def _same_argument(left: Taken, right: Taken) -> bool:
    return _canonical(left.argument) == _canonical(right.argument)


def signals_after(reader: Reader, function: CFunction, line: int) -> list[Taken]:
    """Events that `function` raises on lines after `line`, itself or in what it calls."""
    found = []
    for call in function.calls(line, function.end):
        if call.line < line:
            continue
        found += _signals_of(call, function, None)
        if signals(call.name) is None and call.name.isidentifier() and call.line > line:
            callee = definition(reader, call.name, function)
            if callee is not None and callee.end - callee.start <= _MAX_WRAPPER_LINES:
                found += [t for inner in callee.calls() for t in _signals_of(inner, callee, call)]
    return found


def _signals_of(call: Call, function: CFunction, via: Call | None) -> list[Taken]:
    primitive = signals(call.name)
    if primitive is None or not call.arguments:
        return []
    return [Taken(call, primitive, call.arguments[0], function, via)]


def polled(reader: Reader, function: CFunction, line: int) -> Taken | None:
    """The lock that the loop around `line` tries to take until it gets it.

    ``while (!mutex_trylock(&a)) msleep(1);`` waits for it as surely as ``mutex_lock()`` does.
    """
    for loop in walk(function.root, "while_statement", "do_statement"):
        if not function.line_of(loop) <= line <= loop.end_point[0] + function.start:
            continue
        condition = loop.child_by_field_name("condition")
        if condition is None or not _negated(condition):
            continue
        for effect in _calls_in(reader, function, condition, 0):
            if effect.take and "_trylock" in effect.taken.call.name:
                return effect.taken
    return None


def lock_argument(call: Call) -> tuple[Primitive, str] | None:
    """What a call takes or waits for, and the expression that says which."""
    if call.name.startswith("guard(") and call.arguments:
        primitive = guards(call.name[6:-1].strip())
        return (primitive, call.arguments[0]) if primitive else None
    if call.name == "scoped_guard" and len(call.arguments) > 1:
        primitive = guards(call.arguments[0])
        return (primitive, call.arguments[1]) if primitive else None
    if known := wrapped(call.name):
        return known[0], known[1].format(*(call.arguments or ("",)))
    primitive = acquires(call.name)
    if primitive is None or not call.arguments:
        return None
    return primitive, call.arguments[0]


def _target(function: CFunction, line: int, callee: str | None) -> Any:
    """The node whose execution we ask about: the call on that line, or any node there."""
    fallback = None
    for node in walk(function.root, "call_expression"):
        start, end = function.line_of(node), node.end_point[0] + function.start
        if not start <= line <= end:
            continue
        name = node.child_by_field_name("function")
        if callee is None or (name is not None and node_text(name) == callee):
            return node
        fallback = fallback or node
    if fallback is not None:
        return fallback
    statements = (n for n in walk(function.root, "expression_statement", "return_statement",
                                  "declaration", *_BRANCHES))  # fmt: skip
    return next((n for n in statements if function.line_of(n) == line), None)


def _before(
    reader: Reader, function: CFunction, target: Any, jumps: int = _MAX_JUMPS
) -> list[_Effect]:
    """Effects of everything that ran before `target`, in order.

    Behind a return, only a ``goto`` leads on: then what ran is what ran before that.
    """
    layers: list[list[_Effect]] = []
    node = target
    while node.parent is not None:
        parent = node.parent
        layer: list[_Effect] = []
        jump = None
        if parent.type in ("compound_statement", "case_statement"):
            siblings = [c for c in parent.named_children if c.end_byte <= node.start_byte]
            first, jump = _entered(function, siblings, node) if jumps else (0, None)
            for at, sibling in enumerate(siblings[first:], first):
                scoped = _text_is_scoped(sibling)
                if scoped and not (at == len(siblings) - 1 and node.type == "compound_statement"):
                    continue
                layer += _effects(reader, function, sibling, _MAX_DEPTH)
        elif parent.type in _BRANCHES:
            condition = parent.child_by_field_name("condition")
            if condition is not None and condition.end_byte <= node.start_byte:
                effects = _calls_in(reader, function, condition, _MAX_DEPTH)
                layer += [e for e in effects if not e.take or _succeeded(e, parent, node)]
        layers.append(layer)
        if jump is not None:
            layers.append(_before(reader, function, jump, jumps - 1))
            break
        node = parent
    return [effect for layer in reversed(layers) for effect in layer][:_MAX_EFFECTS]


def _entered(function: CFunction, siblings: list[Any], node: Any) -> tuple[int, Any]:
    """Where control came into a block's statements before `node`: an index, and from which goto.

    (0, None) where it came in from above.
    """
    gone = [at for at, sibling in enumerate(siblings) if sibling.type in _LEAVES[:2]]
    if not gone:
        return 0, None
    after = [*siblings[gone[-1] + 1 :], node]
    for at, statement in enumerate(after, gone[-1] + 1):
        if statement.type != "labeled_statement":
            continue
        label = node_text(statement.child_by_field_name("label"))
        for jump in walk(function.root, "goto_statement"):
            named = jump.child_by_field_name("label")
            if named is not None and node_text(named) == label:
                return at, jump
    return 0, None


def _succeeded(effect: _Effect, branch: Any, inside: Any) -> bool:
    """Whether a lock asked for in a condition was got, seen from a branch of it.

    A trylock returns true for success; the interruptible and killable ones return 0.
    """
    name = effect.taken.call.name
    if "_trylock" not in name and not name.endswith(("_interruptible", "_killable")):
        return True
    then = inside != branch.child_by_field_name("alternative")
    true = then != _negated(branch.child_by_field_name("condition"))
    return bool(true == ("_trylock" in name))


def _effects(reader: Reader, function: CFunction, statement: Any, depth: int) -> list[_Effect]:
    """What a whole statement, run to its end, leaves taken or released."""
    if statement.type == "if_statement":
        return _if_effects(reader, function, statement, depth)
    if statement.type == "compound_statement":
        inner = [
            e
            for child in statement.named_children
            for e in _effects(reader, function, child, depth)
        ]
        return [e for e in inner if not e.taken.call.name.startswith("guard(")]
    if statement.type == "labeled_statement":
        return [
            e
            for child in statement.named_children
            for e in _effects(reader, function, child, depth)
        ]
    return _calls_in(reader, function, statement, depth)


def _if_effects(reader: Reader, function: CFunction, statement: Any, depth: int) -> list[_Effect]:
    condition = statement.child_by_field_name("condition")
    effects = _calls_in(reader, function, condition, depth) if condition is not None else []
    body = statement.child_by_field_name("consequence")
    otherwise = statement.child_by_field_name("alternative")
    if body is not None and not _leaves(body):
        effects += _effects(reader, function, body, depth)
    elif condition is not None and not _negated(condition):
        # "if (mutex_trylock(l)) return": who gets past it did not take the lock.
        effects = [e for e in effects if not (e.take and "_trylock" in e.taken.call.name)]
    if otherwise is not None:
        branch = next(iter(otherwise.named_children), None)
        if branch is not None and not _leaves(branch):
            effects += _effects(reader, function, branch, depth)
    return effects


def _calls_in(reader: Reader, function: CFunction, node: Any, depth: int) -> list[_Effect]:
    found: list[_Effect] = []
    for inner in walk(node, "call_expression"):
        call = function.call(inner)
        if call is None:
            continue
        taken = lock_argument(call)
        if taken and taken[0].kind == "lock":
            found.append(_Effect(True, Taken(call, taken[0], taken[1], function)))
        elif gone_name := released(call.name, call.arguments):
            gone = Taken(call, Primitive(""), gone_name, function)
            found.append(_Effect(False, gone))
        elif depth and call.name.isidentifier() and not taken:
            found += _wrapper(reader, function, call, depth - 1)
    return found


def _wrapper(reader: Reader, function: CFunction, call: Call, depth: int) -> Iterator[_Effect]:
    """What a callee leaves locked or unlocked when it returns, in the caller's terms."""
    callee = definition(reader, call.name, function)
    if callee is None or callee.end - callee.start > _MAX_WRAPPER_LINES:
        return
    body = next(walk(callee.root, "compound_statement"), None)
    lasting: list[_Effect] = []
    for effect in _effects(reader, callee, body, depth) if body is not None else ():
        same = [e for e in lasting if e.take and e.taken.argument == effect.taken.argument]
        if not effect.take and same:
            lasting.remove(same[-1])
        else:
            lasting.append(effect)
    names = [name for name, _ in callee.parameters]
    for effect in lasting:
        argument = _substitute(effect.taken.argument, names, call.arguments)
        yield replace(effect, taken=Taken(call, effect.taken.primitive, argument, function))


def _substitute(expression: str, names: list[str], given: tuple[str, ...]) -> str:
    head = expression.lstrip("&(").split("-")[0].split(".")[0].rstrip(")")
    if head not in names or names.index(head) >= len(given):
        return expression
    value = given[names.index(head)]
    if value.startswith("&") and f"{head}->" in expression:
        return expression.replace(f"{head}->", f"{value[1:]}.", 1)
    return expression.replace(head, value, 1)


def _canonical(expression: str) -> str:
    return expression.replace(" ", "").strip("()")


def _leaves(statement: Any) -> bool:
    """Whether control never runs past the end of this statement."""
    if statement.type in _LEAVES:
        return True
    if statement.type == "compound_statement":
        last = [c for c in statement.named_children if c.type != "comment"]
        return bool(last) and _leaves(last[-1])
    if statement.type == "expression_statement":
        call = unwrap(next(iter(statement.named_children), None))
        name = call.child_by_field_name("function") if call is not None else None
        return name is not None and node_text(name) in _FATAL
    return False


def _negated(condition: Any) -> bool:
    inner = unwrap(condition)
    return inner is not None and node_text(inner).startswith("!")


def _text_is_scoped(statement: Any) -> bool:
    return statement.type == "expression_statement" and node_text(statement).startswith(
        "scoped_guard("
    )
