"""Which object a lock expression means: followed through parameters, locals and callbacks."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kagent.diagnosis.code import Call, CFunction, MemberAccess, node_text, strip_parens, walk
from kagent.diagnosis.locks.callees import definition
from kagent.diagnosis.locks.handlers import started_with
from kagent.diagnosis.locks.held import Taken, lock_argument
from kagent.diagnosis.members import expand, resolve
from kagent.diagnosis.reader import Reader
from kagent.diagnosis.stack import in_helper
from kagent.klog.model import Frame
from kagent.resolution import SourcePoint

__all__ = ["Link", "Meaning", "calls_at", "file_scope", "follow", "root_of"]

_MAX_LOCALS = 6
_MAX_LINE = 300
_PATH = re.compile(r"(\w+)((?:\[[^\[\]]{0,80}\])?(?:(?:->|\.)\w+(?:\[[^\[\]]{0,80}\])?)*)")
_STEP = re.compile(r"(->|\.)(\w+)")
_SINGLE = re.compile(r"\w+(?:\[\d+\])?(?:\.\w+(?:\[\d+\])?)*")
_FIXED = re.compile(r"\w+(?:\[\d+\])?(?:(?:->|\.)\w+(?:\[\d+\])?)*")
"""A way without variable indices."""
_CONTAINER = re.compile(
    r"(?:container_of\w{0,16}|\w{1,24}_entry|from_timer|timer_container_of|from_work)"
    r"\s*\((?P<args>.{1,240})\)$"
)
_CONTAINED = re.compile(r"(\w+)-\[([\w.]+)\]")
"""``w-[poll]``: the object whose member `poll` the pointer `w` is."""
_TO_WORK = re.compile(r"to_delayed_work\s*\((.{1,120})\)$")


@dataclass(frozen=True, slots=True)
class Link:
    """A function on the stack, standing at a line of its source."""

    frame: Frame
    point: SourcePoint
    function: CFunction | None
    callee: str | None
    """The function it called at that line, as the stack shows it."""
    context: int = 0
    """0 in the innermost context, one more below every interrupt."""

    @property
    def line(self) -> int | None:
        """Where it stands."""
        return self.point.line


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an expression was followed to."""

    text: str
    """In the words of the outermost function it could be followed to."""
    members: tuple[str, ...]
    """``volume.data_lock`` for ``&v->data_lock``, and so on for each struct on the way out."""
    instance: str | None
    """The text, where it names one global object."""
    path: str | None
    """The text, where it starts from a global pointer."""
    home: str | None
    """The file of a static `instance` or `path`."""
    origin: str | None
    """The object within this task: two uses with one origin are of one object."""
    stopped: int | None = None
    """The link beyond code without source, through which a pointer was handed down."""


def follow(reader: Reader, links: Sequence[Link], taken: Taken, at: int | None) -> Meaning:
    """Follow the lock that `taken` names up the stack, from the function of link `at`.

    `at` None means that the stack above is not known.
    """
    trail = _Trail(reader, _bare(taken.argument), taken.function)
    stopped: int | None = None
    if at is not None and taken.via is not None and (outer := links[at].function):
        trail.out([(taken.via, outer)])
    here = at
    while here is not None and trail.root in _parameters(trail.function):
        above = _next_known(links, here)
        if above is None or not _handed(links, here, above):
            stopped = above
            break
        known, line = links[above].function, links[above].line
        hops = calls_at(reader, known, line, trail.function) if known and line else None
        if hops is None or not trail.out(hops):
            break
        here = above
    text, function = trail.text, trail.function
    if (started := _started(reader, text, function)) is not None:
        text, stopped = started, None
    scope = _scope(reader, text, trail.steps)
    single = scope is not None and not scope[2] and _SINGLE.fullmatch(text) is not None
    instance = text if single else None
    return Meaning(
        text=text,
        members=_members(reader, taken, trail.steps),
        instance=instance,
        path=text if scope and not single and _FIXED.fullmatch(text) else None,
        home=scope[1] if scope else None,
        origin=instance or (f"{function.name}: {text}" if _PATH.fullmatch(text) else None),
        stopped=stopped,
    )


class _Trail:
    """An expression on its way out of a function, through its callers."""

    def __init__(self, reader: Reader, text: str, function: CFunction) -> None:
        self.reader = reader
        self.text = text
        self.function = function
        self.steps = [(text, function)]
        self._through_locals()

    @property
    def root(self) -> str:
        return root_of(self.text)

    def out(self, hops: Sequence[tuple[Call, CFunction]]) -> bool:
        """Go to the callers through `hops`; False where an argument cannot be followed."""
        for call, outer in hops:
            names = _parameters(self.function)
            root = self.root
            if root not in names or names.index(root) >= len(call.arguments):
                return False
            if self.function.reassigns(root):
                return False
            self.text = _bare(expand(self.text, root, self.function, call))
            self.function = outer
            self.steps.append((self.text, outer))
            self._through_locals()
        return True

    def _through_locals(self) -> None:
        """``p->lock`` where the function says ``p = data``: ``data->lock``, and so on."""
        for _ in range(_MAX_LOCALS):
            root = self.root
            if root in _parameters(self.function) or root not in self.function.variables:
                return
            value = _only_value(self.function, root)
            text = _put(self.text, root, value) if value else ""
            if not text or root_of(text) == root:
                return
            self.text = text
            self.steps.append((text, self.function))


def calls_at(
    reader: Reader, outer: CFunction, line: int, inner: CFunction
) -> list[tuple[Call, CFunction]] | None:
    """The call at `line` of `outer` that led to `inner`: hops from the inside out.

    A function that ends in a call is not on the stack (the compiler jumps); it is found in source.
    """
    calls = outer.calls(line, line)
    direct = [call for call in calls if call.name == inner.name]
    through = [call for call in calls if call.through or _is_variable(call.name, outer)]
    chosen = direct or through
    if len(chosen) == 1:
        return [(chosen[0], outer)]
    if direct:
        return None
    hidden = [
        [(last, callee), (call, outer)]
        for call in calls
        if call.name.isidentifier() and lock_argument(call) is None
        for callee in [definition(reader, call.name, outer)]
        if callee is not None
        for last in callee.calls()
        if last.name == inner.name
    ]
    return hidden[0] if len(hidden) == 1 else None


def _is_variable(name: str, function: CFunction) -> bool:
    """Whether a call goes through a function pointer: ``fn(x)`` or ``(*fn)(x)``."""
    return name.lstrip("*( ").rstrip(") ") in function.variables


def file_scope(text: str, name: str) -> tuple[str, bool] | None:
    """The line that declares `name` at file scope, and whether it is static there."""
    pattern = _declaration(name)
    for at in re.finditer(rf"\b{re.escape(name)}\b", text):
        start = text.rfind("\n", 0, at.start()) + 1
        end = text.find("\n", at.end())
        line = text[start : end if end >= 0 else len(text)][:_MAX_LINE]
        if not line or line[0] in " \t#/*" or not pattern.match(line):
            continue
        if line[0] == "}":
            heads = (text.rfind(f"\n{word}", 0, start) for word in ("struct", "union", "static"))
            head = max(heads)
            return line, text.startswith("\nstatic", head)
        return line, line.startswith("static ")
    return None


@functools.lru_cache(maxsize=64)
def _declaration(name: str) -> re.Pattern[str]:
    """A line that declares `name`: alone, after others, after a struct's body, by a macro."""
    quoted = re.escape(name)
    first = r"[A-Za-z_][\w *]{0,120}?[ *](?:\w+[^;(]{0,80}?,\s*\*?)?"
    end = rf"{quoted}\s*(?:\[[^\]]{{0,80}}\]\s*)?(?:__\w+(?:\([^)]{{0,60}}\))?\s*)?(?:[=;,]|$)"
    return re.compile(
        rf"(?!return\b|goto\b|typedef\b){first}{end}"
        rf"|\}}\s*(?:__\w+\s+)?{end}"
        rf"|[\w ]{{0,40}}\b(?:DEFINE|DECLARE)_\w{{1,40}}\s*\(\s*{quoted}\s*[,)]"
    )


def root_of(expression: str) -> str:
    """The variable an expression starts from."""
    return re.split(r"->|\.|\[", expression, maxsplit=1)[0].strip("()&* ")


def _only_value(function: CFunction, name: str) -> str | None:
    """What a local is set to, if it is set once and to something that can be followed."""
    values = []
    for node in walk(function.root, "init_declarator", "assignment_expression"):
        target = node.child_by_field_name("declarator") or node.child_by_field_name("left")
        value = node.child_by_field_name("value") or node.child_by_field_name("right")
        if target is not None and value is not None and node_text(target).strip("* ") == name:
            values.append(strip_parens(node_text(value)))
    if len(values) != 1:
        return None
    value = values[0]
    if _PATH.fullmatch(value.removeprefix("&").strip()) or _CONTAINER.match(value):
        return value
    return None


def _put(text: str, root: str, value: str) -> str:
    """`text` with its root replaced by what the root was set to."""
    rest = text[len(root) :] if text.startswith(root) else ""
    if match := _CONTAINER.match(value):
        arguments = [part.strip() for part in match["args"].split(",")]
        return _contained(arguments, value, rest)
    if value.startswith("&") and rest.startswith("->"):
        return f"{strip_parens(value[1:])}.{rest[2:]}"
    return f"{value}{rest}" if rest or not value.startswith("&") else _bare(value)


def _contained(arguments: Sequence[str], value: str, rest: str) -> str:
    """``container_of(w, struct d, work)->lock``: written so that it can be followed further."""
    swapped = value.startswith(("from_timer", "timer_container_of", "from_work"))
    if len(arguments) < 3:
        return ""
    pointer, member = arguments[1] if swapped else arguments[0], arguments[2]
    if found := _TO_WORK.match(pointer):
        pointer, member = found[1].strip(), f"{member}.work"
    return f"{pointer}-[{member}]{rest}" if pointer.isidentifier() else ""


def _started(reader: Reader, text: str, function: CFunction) -> str | None:
    """A handler's argument, in the words of the code that started the thread or set the work up."""
    root = root_of(text).split("-")[0]
    if root not in _parameters(function)[:1]:
        return None
    given = started_with(reader, function)
    if given is None or file_scope(reader.file_text(function.path), root_of(given)) is None:
        return None
    if (contained := _CONTAINED.match(text)) is None:
        return _bare(expand(text, root, function, Call(function.name, (given,), 0, 0)))
    whole, member = given.lstrip("&"), contained[2].removesuffix(".work")
    for operator in ("->", "."):
        if whole.endswith(operator + member):
            outer, rest = whole[: -len(operator + member)], text[contained.end() :]
            return outer + (rest if operator == "->" else rest.replace("->", ".", 1))
    return None


def _parameters(function: CFunction) -> list[str]:
    return [name for name, _ in function.parameters]


def _next_known(links: Sequence[Link], here: int) -> int | None:
    """The next function up the stack whose source is there."""
    known = (n for n in range(here + 1, len(links)) if links[n].function and links[n].line)
    return next(known, None)


def _handed(links: Sequence[Link], here: int, above: int) -> bool:
    """Whether nothing but helpers that pass their arguments on stands in between."""
    between = links[here + 1 : above]
    return all(in_helper(link.point) for link in between)


def _members(
    reader: Reader, taken: Taken, trail: Sequence[tuple[str, CFunction]]
) -> tuple[str, ...]:
    """Struct and member, from every wording that tells the type; each struct once."""
    given = taken.call.arguments
    index = given.index(taken.argument) if taken.argument in given else -1
    direct = taken.call.members[index] if 0 <= index < len(taken.call.members) else None
    options = [(direct, taken.function)] if direct else []
    options += [(access, function) for text, function in trail if (access := _access(text))]
    found: dict[str, str] = {}
    for access, function in options:
        resolved = resolve(reader, function, access)
        if resolved is not None:
            found.setdefault(resolved.struct.split()[-1], ".".join(resolved.path))
    return tuple(f"{struct}.{path}" for struct, path in found.items())


def _access(text: str) -> MemberAccess | None:
    match = _PATH.fullmatch(text)
    steps = _STEP.findall(match[2]) if match else []
    return MemberAccess(text, match[1], tuple(steps)) if match and steps else None


def _scope(
    reader: Reader, text: str, trail: Sequence[tuple[str, CFunction]]
) -> tuple[str, str | None, bool] | None:
    """A global variable: its declaration, the file where it is static, if it is a pointer."""
    root = root_of(text)
    if not root.isidentifier():
        return None
    places = {function.path: function for _, function in reversed(trail)}
    for path, function in places.items():
        if root in function.variables:
            continue
        found = file_scope(reader.file_text(path), root)
        if found is not None:
            return found[0], path if found[1] else None, "*" in found[0].split(root)[0]
    return None


def _bare(argument: str) -> str:
    """``&v->lock`` → ``v->lock``, and ``&(v)->lock`` of a macro likewise."""
    text = re.sub(r"(?<![\w)])\((\w+)\)(?=->|\.)", r"\1", strip_parens(argument))
    return strip_parens(text[1:]) if text.startswith("&") else text
