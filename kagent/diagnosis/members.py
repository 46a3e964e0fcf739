"""Which struct member a faulting instruction touched: the C line and DWARF must agree.

An instruction knows a displacement, a size and a direction; the source line knows expressions;
debug info knows offsets. A member is named only where these meet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kagent.diagnosis.code import Call, CFunction, MemberAccess, cast_type, strip_parens
from kagent.diagnosis.helpers import bare_name, is_helper
from kagent.diagnosis.reader import Reader, struct_name
from kagent.resolution import AccessKind
from kagent.symbols.model import Member

__all__ = ["MemberHit", "Touch", "argument_member", "called_member", "copied_member",
           "divisor_member", "expand", "touched_member"]  # fmt: skip

_PAGE = 4096
_BODY_LINES = 8  # compilers move loads by a few statements, not across a whole function
_CALL_DEPTH = 3  # functions inlined into each other that gcc takes an access out of
_COPIES = re.compile(r"(?:__)?(?:mem(?:cpy|move|set)|str[ls]?n?cpy)")
"""What compilers turn into instructions of the caller. The first argument is written."""
_DIVIDES = re.compile(r"do_div|\w{0,16}div(?:_\w{1,32}|64\w{0,16})?|DIV_\w{1,40}|mod_\w{1,16}"
                      r"|round(?:up|down)(?:_\w{1,16})?|mult_frac")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Touch:
    """What the instruction and the registers say about an access."""

    displacement: int | None = None
    size: int | None = None
    access: AccessKind | None = None
    pointer: int | None = None
    """Value of the pointer the displacement was added to."""
    indexed: bool = False
    """True when an index register was added as well: an array element."""
    lifted: int | None = None
    """Displacement from the register that the base was computed from (``lea``), if any."""
    loaded_at: int | None = None
    """Displacement of the load that fetched that pointer, if it was seen."""
    values: Mapping[str, int] | None = None
    """Values of C variables that debug info found in the registers."""


@dataclass(frozen=True, slots=True)
class MemberHit:
    """A member with what speaks for it."""

    struct: str
    member: str
    expression: str | None
    """None where several expressions of the line fit equally well."""
    line: int
    offset: int | None = None
    size: int | None = None
    facts: tuple[str, ...] = ()
    """Independent observations that agree, in words."""
    weight: int = 0
    root: str = ""
    """The variable the expression starts from."""
    written: bool = False
    """Whether the source line assigns to it."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A member access with the struct and member it means."""

    access: MemberAccess
    struct: str
    path: tuple[str, ...]
    member: Member | None
    via: Member | None
    """The member that the last pointer was read from."""
    direct: bool
    """True when the root variable itself is the pointer."""
    exact: int | None = None
    """Where the element of a constant subscript lies."""
    rows: range | None = None
    """Offsets of the member in each element, where the path leads through an array of structs."""


def touched_member(
    reader: Reader, function: CFunction, line: int, touch: Touch
) -> MemberHit | None:
    """The member that the instruction at `line` of `function` reads or writes."""
    hit = _touched(reader, function, line, touch)
    if hit is None and touch.lifted is not None:
        hit = _touched(reader, function, line, replace(touch, displacement=touch.lifted))
    return hit


def _touched(reader: Reader, function: CFunction, line: int, touch: Touch) -> MemberHit | None:
    on_line = [*function.accesses(line, line), *function.loop_members(line, line)]
    if hit := _best(_score(reader, function, on_line, touch, "named on the faulting line")):
        return hit
    calls = function.calls(line, line)
    if hit := _in_callees(reader, function, calls, touch, _CALL_DEPTH, {function.name}):
        return hit
    before = function.accesses(max(function.start, line - _BODY_LINES), line - 1)
    scored = _score(reader, function, before, touch, "named shortly before the faulting line")
    return _best([hit for hit in scored if len(hit.facts) >= 3]) or _followed(
        reader, function, line, touch
    )


def _in_callees(
    reader: Reader,
    function: CFunction,
    calls: Iterable[Call],
    touch: Touch,
    depth: int,
    seen: set[str],
) -> MemberHit | None:
    """What a called function reads: compilers move loads to where the pointer comes from.

    Each function is read once: `seen` are those that were.
    """
    for call in calls:
        if call.name in seen:
            continue
        seen.add(call.name)
        callee = reader.function_named(call.name, function.path, function.module)
        if callee is None or is_helper(callee.name, callee.path, callee.module):
            continue
        reason = f"read in {callee.name}(), which the line calls"
        hit = _best(_score(reader, callee, callee.accesses(), touch, reason))
        if hit is None and depth > 1:
            hit = _in_callees(reader, callee, callee.calls(), touch, depth - 1, seen)
        if hit:
            words = expand(hit.expression, hit.root, callee, call) if hit.expression else None
            root = hit.root if words == hit.expression else re.split(r"->|\.|\[", words or "")[0]
            return replace(hit, expression=words, root=root)
    return None


def _followed(reader: Reader, function: CFunction, line: int, touch: Touch) -> MemberHit | None:
    """The one pointer that the line reads from a member and dereferences, if it has only one."""
    if touch.loaded_at is not None or touch.displacement is None:
        return None  # the load was seen, and no member of the line lies there
    followed = [access for access in function.accesses(line, line) if access.pointee]
    hits = [
        hit
        for access in followed
        if (resolved := resolve(reader, function, access)) is not None
        and resolved.member is not None
        and "*" in resolved.member.type_name
        and (hit := _hit(resolved, "the only pointer that the line dereferences")) is not None
    ]
    return _one_of(hits) if len(hits) == len(followed) else None


def called_member(reader: Reader, function: CFunction, line: int) -> MemberHit | None:
    """The function pointer that `line` calls through, if there is exactly one."""
    hits = [
        hit
        for call in function.calls(line, line)
        if call.through
        and (hit := _hit(resolve(reader, function, call.through), "called on that line"))
    ]
    return _one_of(hits)


def divisor_member(reader: Reader, function: CFunction, line: int) -> MemberHit | None:
    """What `line` divides by, if that is a member."""
    divisors = function.divisors(line) or [
        call.members[-1]
        for call in function.calls(line, line)
        if call.members and call.members[-1] and _DIVIDES.fullmatch(call.name)
    ]
    hits = [
        hit
        for access in divisors
        if (hit := _hit(resolve(reader, function, access), "the divisor on that line"))
    ]
    return _one_of(hits)


def copied_member(
    reader: Reader, function: CFunction, line: int, touch: Touch, address: int | None
) -> MemberHit | None:
    """The member that `line` gave to a copying function that was compiled into it."""
    copies = [call for call in function.calls(line, line) if _COPIES.fullmatch(call.name)]
    if touch.access not in ("read", "write") or len(copies) != 1:
        return None
    position = 0 if touch.access == "write" else 1
    return argument_member(
        reader, function, line, copies[0].name, address=address, position=position
    )


def argument_member(
    reader: Reader,
    function: CFunction,
    line: int,
    callee: str,
    *,
    address: int | None = None,
    position: int | None = None,
    carried: int | None = None,
    kind: AccessKind | None = None,
) -> MemberHit | None:
    """The member that `line` handed to the helper `callee`, in which the fault happened.

    `position` is the argument whose register was dereferenced, where that is known, and `carried`
    the one that this register carries into a function. For ``&p->member`` with `p` NULL the fault
    `address` must lie inside the member, unless the bad pointer was read from there.
    """
    hits: list[MemberHit] = []
    calls = _named_calls(function, line, callee)
    tail = None if calls else _tail_call(reader, function, line, callee)
    if tail is not None:
        inner, call, last = tail
        hit = argument_member(reader, inner, last, callee, address=address, position=position,
                              carried=carried, kind=kind)  # fmt: skip
        if hit is None or hit.expression is None:
            return hit
        return replace(hit, expression=expand(hit.expression, hit.root, inner, call))
    for call in calls or _helper_calls(function, line) or function.calls(line, line)[:1]:
        for at, access in enumerate(call.members):
            known = position is not None and position < len(call.arguments)
            if access is None or (known and at != position):
                continue
            embedded = call.arguments[at].lstrip("( ").startswith("&") and access.whole
            resolved = resolve(reader, function, access)
            hit = _argument(resolved, embedded, address, itself=at == carried)
            if hit and kind in ("read", "write"):
                fits = (access.written or access.filled) == (kind == "write")
                hit = replace(hit, weight=hit.weight + fits)
            if hit:
                hits.append(hit)
    return _best(hits)


def expand(expression: str, root: str, function: CFunction, call: Call | None) -> str:
    """Say `expression` in the caller's words: ``c->nr`` → ``ch->curve->nr``."""
    names = [name for name, _ in function.parameters]
    if call is None or root not in names or function.reassigns(root):
        return expression
    at = names.index(root)
    if at >= len(call.arguments) or not expression.startswith(root):
        return expression
    given, rest = strip_parens(call.arguments[at]), expression[len(root) :]
    if given.startswith("&") and rest.startswith("->"):
        return f"{strip_parens(given[1:])}.{rest[2:]}"
    simple = all(char.isalnum() or char in "_->.[]" for char in given)
    return f"{given}{rest}" if simple else f"({given}){rest}"


def _named_calls(function: CFunction, line: int, callee: str) -> list[Call]:
    """Calls on the line that lead into `callee` by their name."""
    calls = function.calls(line, line)
    wanted = bare_name(callee)
    same = [call for call in calls if bare_name(call.name) == wanted]
    return same or [call for call in calls if _leads_into(call, wanted)]


def _leads_into(call: Call, wanted: str) -> bool:
    """Whether a call is of a function of that bare name, or of one that is named after it."""
    return wanted.startswith(bare_name(call.name).removesuffix("_tail"))


def _helper_calls(function: CFunction, line: int) -> list[Call]:
    return [call for call in function.calls(line, line) if is_helper(call.name)]


def _tail_call(
    reader: Reader, function: CFunction, line: int, callee: str
) -> tuple[CFunction, Call, int] | None:
    """The function that `line` calls and that ends in a jump to `callee`: it left no frame.

    With its call, and the line of the jump.
    """
    called = [
        (inner, call)
        for call in function.calls(line, line)
        if (inner := reader.function_named(call.name, function.path, function.module))
    ]
    wanted = bare_name(callee)
    for inner, call in called:
        for last in reversed(inner.calls()):
            if _leads_into(last, wanted):
                return inner, call, last.line
    if _helper_calls(function, line):
        return None
    for inner, call in called:
        for last in reversed(inner.calls()):
            if is_helper(last.name):
                return inner, call, last.line
    return None


def _argument(
    resolved: Resolved | None, embedded: bool, address: int | None, *, itself: bool
) -> MemberHit | None:
    if resolved is None:
        return None
    member = resolved.member
    if not embedded and not (member and "[" in member.type_name):
        return _hit(resolved, "its value was handed to the helper", weight=1)
    hit = _hit(resolved, "its address was handed to the helper", weight=1)
    if hit is None or member is None or address is None or address >= _PAGE:
        return hit
    if member.offset <= address < member.offset + max(member.size, 1):
        fact = f"fault address {address:#x} lies in it"
        return replace(hit, facts=(*hit.facts, fact), weight=hit.weight + 2)
    if itself:
        return None
    fact = f"fault address {address:#x} lies outside: a bad pointer was read from it"
    return replace(hit, facts=(*hit.facts, fact), weight=hit.weight - 1)


def _score(
    reader: Reader,
    function: CFunction,
    accesses: Iterable[MemberAccess],
    touch: Touch,
    where: str,
) -> list[MemberHit]:
    hits = []
    nodes = _cursors(reader, function)
    for access in accesses:
        resolved = resolve(reader, function, access)
        if resolved is None:
            continue
        hit = _match(resolved, touch, where)
        if hit is None and resolved.direct and access.root in nodes:
            hit = _match_from_node(resolved, touch, where, nodes[access.root])
        if hit is not None:
            hits.append(hit)
    return hits


def _cursors(reader: Reader, function: CFunction) -> dict[str, int]:
    """Variables that are computed from a pointer to a member, with that member's offset."""
    found = {}
    for access in (*function.loop_members(), *function.containers()):
        resolved = resolve(reader, function, access)
        if resolved is not None and resolved.member is not None:
            found[access.root] = resolved.member.offset
    return found


def _match_from_node(resolved: Resolved, touch: Touch, where: str, node: int) -> MemberHit | None:
    """Compilers may keep the address of the list node in a register instead of the entry's."""
    if touch.displacement is None or not node:
        return None
    moved = replace(touch, displacement=touch.displacement + node, values=None)
    hit = _match(resolved, moved, where)
    return hit and replace(hit, weight=hit.weight - 2,
                           facts=(*hit.facts, "counted from the embedded node"))  # fmt: skip


def _match(resolved: Resolved, touch: Touch, where: str) -> MemberHit | None:
    member = resolved.member
    if member is None or touch.displacement is None:
        return None
    hit = _hit(resolved, where)
    if hit is None:
        return None
    if resolved.access.pointee and touch.loaded_at == member.offset and "[" not in member.type_name:
        fact = f"the bad pointer was loaded from offset {member.offset:#x}"
        return replace(hit, facts=(*hit.facts, fact), weight=3, written=resolved.access.stored)
    facts, weight = list(hit.facts), 0
    if touch.size is not None and touch.size > member.size > 0:
        return None
    if touch.indexed and touch.size == member.size and not resolved.rows:
        return None  # base + index reaches into an array, not at a scalar
    start = resolved.exact if resolved.exact is not None else member.offset
    if resolved.rows and touch.displacement in resolved.rows:
        row = resolved.rows.index(touch.displacement)
        facts.append(f"displacement {touch.displacement:#x} is that of element {row}")
        weight += 4
    elif start == touch.displacement:
        facts.append(f"its offset {start:#x} is the instruction's displacement")
        weight += 4
    elif resolved.exact is None and start < touch.displacement < start + member.size:
        facts.append(f"displacement {touch.displacement:#x} lies in it")
        weight += 1
    else:
        return None
    if touch.indexed:
        facts.append("an index register reaches into it")
    if touch.size is not None and touch.size == member.size:
        facts.append(f"both are {member.size} bytes")
        weight += 2
    if resolved.via and touch.loaded_at is not None and resolved.via.offset == touch.loaded_at:
        facts.append(f"the pointer was loaded from {resolved.via.struct}.{resolved.via.member}")
        weight += 3
    values = touch.values or {}
    if resolved.direct and touch.pointer is not None and resolved.access.root in values:
        if values[resolved.access.root] != touch.pointer:
            return None
        facts.append(f"{resolved.access.root} held {touch.pointer:#x}")
        weight += 3
    if touch.access in ("read", "write"):
        weight += 1 if hit.written == (touch.access == "write") else -1
    return replace(hit, facts=tuple(facts), weight=weight - 2 * resolved.access.address_of)


def _best(hits: Sequence[MemberHit]) -> MemberHit | None:
    if not hits:
        return None
    top = max(hit.weight for hit in hits)
    return _one_of([hit for hit in hits if hit.weight == top])


def _one_of(hits: Sequence[MemberHit]) -> MemberHit | None:
    """The member all `hits` agree on; its expression only if they agree on that too."""
    if len({(h.struct, h.member) for h in hits}) != 1:
        return None
    same = len({h.expression for h in hits}) == 1
    return hits[-1] if same else replace(hits[-1], expression=None)


def _hit(resolved: Resolved | None, fact: str, weight: int = 0) -> MemberHit | None:
    if resolved is None:
        return None
    member = resolved.member
    return MemberHit(
        struct=resolved.struct.split()[-1],
        member=".".join(resolved.path),
        expression=resolved.access.text,
        line=resolved.access.line,
        offset=member.offset if member else None,
        size=member.size if member else None,
        facts=(fact,),
        weight=weight,
        root=resolved.access.root,
        written=resolved.access.written
        or (resolved.access.filled and not (member and member.type_name.endswith("*"))),
    )


def resolve(reader: Reader, function: CFunction, access: MemberAccess) -> Resolved | None:
    """Type an access from its root outwards; None where a step has no known type."""
    declared = reader.type_of(function, access.root) or cast_type(access.root)
    struct = struct_name(declared)
    path: list[str] = []
    via: Member | None = None
    direct = True
    for operator, name in access.steps:
        if operator == "->" and path:
            via = reader.member(struct, path, function.module) if struct else None
            struct, path, direct = struct_name(via.type_name) if via else None, [name], False
        else:
            path.append(name)
    if struct is None:
        return None
    member = reader.member(struct, path, function.module)
    rows = None
    if member is None and len(path) > 1:
        member, rows = _through_array(reader, struct, path, function.module)
    exact = None
    if access.index is not None and member is not None and "[" in member.type_name:
        element = [*path[:-1], f"{path[-1]}[{access.index}]"]
        found = reader.member(struct, element, function.module)
        exact = found.offset if found else None
    return Resolved(access, struct, tuple(path), member, via, direct, exact, rows)


def _through_array(
    reader: Reader, struct: str, path: Sequence[str], module: str | None
) -> tuple[Member | None, range | None]:
    """The member in the first element of the array in `path`, and where the others have it."""
    for at in range(1, len(path)):
        array = reader.member(struct, path[:at], module)
        if array is None or "[" not in array.type_name:
            continue
        places = []
        for index in (0, 1):
            element = [*path[: at - 1], f"{path[at - 1]}[{index}]", *path[at:]]
            places.append(reader.member(struct, element, module))
        first, second = places
        if first is None:
            return None, None
        stride = second.offset - first.offset if second else array.size or 1
        return first, range(first.offset, array.offset + max(array.size, 1), stride)
    return None, None
