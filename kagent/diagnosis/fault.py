"""The faulting instruction: what was accessed, through which pointer, in which member of what.

Each step uses what the one before proved: the ``Code:`` line gives the instruction, registers
give the pointer, debug info gives the line, and line plus layout give the member.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kagent.diagnosis import x86
from kagent.diagnosis.code import CFunction
from kagent.diagnosis.helpers import bare_name, base_name
from kagent.diagnosis.machine import Machine, is_gone, read_machine, read_pointer
from kagent.diagnosis.members import (
    MemberHit,
    Touch,
    argument_member,
    called_member,
    copied_member,
    divisor_member,
    expand,
    touched_member,
)
from kagent.diagnosis.memory import slub_finding
from kagent.diagnosis.reader import LineSource, Reader, TypeSource
from kagent.diagnosis.stack import (
    Symbols,
    by_frame,
    frame_evidence,
    frame_points,
    in_helper,
    own_point,
    reliable,
)
from kagent.diagnosis.typed import typed_member
from kagent.klog.frame_model import Frame
from kagent.klog.model import Report
from kagent.resolution import (
    Author,
    Evidence,
    Fault,
    Finding,
    Pointer,
    SourcePoint,
    evidence,
)
from kagent.symbols.model import Symbolized, Variable

__all__ = ["FaultResult", "decode_fault"]

_DIVISIONS = ("div", "idiv")
_DOUBLE_ADD = "list_add double add"
"""lib/list_debug.c: the entry that is added, the first argument, is in a list already."""
_SANITIZERS = ("KASAN", "KFENCE", "KMSAN", "KCSAN", "UBSAN", "MEMORY_SAFETY_UBSAN")
_ARGUMENTS = {  # integer argument registers of the C calling conventions
    "x86_64": ("rdi", "rsi", "rdx", "rcx", "r8", "r9"),
    "arm64": tuple(f"x{n}" for n in range(8)),
    "riscv64": tuple(f"a{n}" for n in range(8)),
}


@dataclass(frozen=True, slots=True)
class FaultResult:
    """A decoded fault with the facts it rests on."""

    fault: Fault
    evidence: tuple[Evidence, ...] = ()
    findings: tuple[Finding, ...] = ()


def decode_fault(
    report: Report,
    symbolized: Iterable[Symbolized] = (),
    *,
    types: TypeSource | None = None,
    source: LineSource | None = None,
) -> FaultResult | None:
    """Decode the fault of a report as far as the evidence goes.

    None for reports that blame no kernel instruction: user faults, lockdep, hung tasks.
    """
    symbols = by_frame(symbolized)
    place = _fault_frame(report, symbols)
    if place is None:
        return None
    frame, executed = place
    reader = Reader(source, types)
    built = types.code_at(frame) if types and report.code is None and frame.exact else None
    machine = read_machine(report, executed=executed, built=built)
    chain = frame_points(frame, symbols)
    pointer = read_pointer(report, machine)
    # What a module left behind is nobody's on this stack.
    own = None if is_gone(pointer) else _own_frame(report, frame, symbols)
    hit, hit_evidence = _member(report, frame, chain, own, machine, reader, executed=executed)
    seen = machine.address is not None and not (report.access and report.access.kind == "free")
    if machine.access is None and seen and hit is not None:
        machine.access = "write" if hit.written else "read"  # the shadow check does not tell
    known = symbols.get(frame)
    confidence = _confidence(known.approximate if known else False, chain[0], machine, hit)
    fault = _fault(frame, chain, own, machine, pointer, hit, confidence)
    facts = [frame_evidence(frame, symbols), *machine.evidence, *hit_evidence]
    if own and own[0] is not frame:
        facts.append(frame_evidence(own[0], symbols))
    return FaultResult(fault, tuple(facts), tuple(_findings(fault, hit, facts)))


def _fault(
    frame: Frame,
    chain: list[SourcePoint],
    own: tuple[Frame, SourcePoint] | None,
    machine: Machine,
    pointer: Pointer | None,
    hit: MemberHit | None,
    confidence: float,
) -> Fault:
    innermost = chain[0]
    return Fault(
        symbol=frame.symbol,
        function=innermost.function,
        file=innermost.file,
        line=innermost.line,
        module=frame.module,
        inline_chain=chain if innermost.file else [],
        own_frame=own[1] if own else None,
        access=machine.access,
        address=machine.address,
        size=machine.size,
        instruction=machine.instruction.text if machine.instruction else None,
        pointer=pointer,
        struct=hit.struct if hit else None,
        member=hit.member if hit else None,
        offset=hit.offset if hit else None,
        expression=hit.expression if hit else None,
        confidence=confidence,
    )


def _fault_frame(report: Report, symbols: Symbols) -> tuple[Frame, bool] | None:
    """The frame to blame, and whether the fault was a jump to an address that is no code."""
    if not report.kernel_bug:
        return None
    call = report.trace("call")
    calls = reliable(call.frames) if call else []
    fetched = bool(report.access and report.access.kind == "exec")
    if report.pc is not None and report.pc.offset is not None and not (fetched and calls):
        return report.pc, False
    # On a refused fetch the PC is the address itself, even where a symbol of data stands there.
    if (fetched or report.pc is not None) and report.registers:
        return (calls[0], True) if calls else None
    if report.kind.startswith(_SANITIZERS) or slub_finding(report) == "bad free":
        found = own_point(calls, symbols)
        return (found[0], False) if found else None
    return None


def _own_frame(report: Report, frame: Frame, symbols: Symbols) -> tuple[Frame, SourcePoint] | None:
    """The first owning frame when the PC's innermost function is a helper."""
    chain = frame_points(frame, symbols)
    if not in_helper(chain[0]):
        return None
    trace = report.trace("call")
    rest = [f for f in trace.frames if f != frame] if trace else []
    return own_point([frame, *reliable(rest)], symbols)


# Source and types -------------------------------------------------------------------------------


def _member(
    report: Report,
    frame: Frame,
    chain: Sequence[SourcePoint],
    own: tuple[Frame, SourcePoint] | None,
    machine: Machine,
    reader: Reader,
    *,
    executed: bool,
) -> tuple[MemberHit | None, list[Evidence]]:
    """The struct member behind the fault, with the source line and the layout that name it."""
    point = own[1] if own else chain[0]
    function = reader.function_at(point)
    variables = _variables(report, frame, reader)
    hit = None
    if function is not None and point.line is not None:
        place = _Place(report, frame, chain, own, function, point.line)
        hit = _named_member(place, machine, reader, variables, executed=executed)
        hit = hit and _in_callers_words(hit, function, chain, point, reader)
    plain = machine.instruction is not None and not executed and machine.access != "exec"
    if hit is None and plain and (own is None or own[0] is frame):
        line, registers = point.line or 0, report.registers
        hit = typed_member(reader, machine, variables, registers, line=line, module=frame.module)
        hit = hit and replace(hit, written=_is_written(function, line, hit.member))
    facts = []
    if function is not None and point.line is not None:
        facts.append(reader.line_evidence(function, point.line))
    if hit is None:
        return None, facts
    where = f"{hit.struct}.{hit.member}"
    if hit.offset is not None:
        content = f"{where} is at offset {hit.offset:#x}, {hit.size} bytes: {'; '.join(hit.facts)}"
        origin, author = f"debug info of {frame.module or 'vmlinux'}", _BUILT
    else:
        content = f"{where}: {'; '.join(hit.facts)}"
        origin, author = f"{function.path if function else point.file}:{hit.line}", _WRITTEN
    return hit, [*facts, evidence("struct-member", content, origin, author=author)]


_BUILT: Author = "debug-info"
_WRITTEN: Author = "source"


def _is_written(function: CFunction | None, line: int, member: str) -> bool:
    """Whether the source line assigns to a member of that name."""
    name = re.split(r"[.\[]", member)[-1]
    accesses = function.accesses(line, line) if function else []
    return any(access.written for access in accesses if access.steps[-1][1] == name)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the fault is blamed on, down to the line."""

    report: Report
    frame: Frame
    chain: Sequence[SourcePoint]
    own: tuple[Frame, SourcePoint] | None
    function: CFunction
    line: int


def _named_member(
    at: _Place,
    machine: Machine,
    reader: Reader,
    variables: Sequence[Variable],
    *,
    executed: bool,
) -> MemberHit | None:
    """The member that the source line names and the instruction fits."""
    helper = bare_name(at.chain[0].function)
    through_thunk = at.own is not None and helper.startswith("x86_indirect")
    if executed or machine.access == "exec" or through_thunk:
        return called_member(reader, at.function, at.line)
    if at.own is not None:
        return _helper_argument(at, at.own, machine, reader)
    if machine.instruction is None and at.report.pc is not None:
        return None  # a BUG() or a watchdog: nothing was accessed
    if _divides(machine):
        return divisor_member(reader, at.function, at.line)
    touch = _touch(at.report, machine, variables)
    return touched_member(reader, at.function, at.line, touch) or copied_member(
        reader, at.function, at.line, touch, machine.address
    )


def _divides(machine: Machine) -> bool:
    return bool(machine.instruction and machine.instruction.mnemonic.startswith(_DIVISIONS))


def _variables(report: Report, frame: Frame, reader: Reader) -> Sequence[Variable]:
    """What debug info knows of the variables at the trapping instruction."""
    if reader.types is None or report.pc is None:
        return ()
    return reader.types.variables(frame, report.registers)


def _touch(report: Report, machine: Machine, variables: Sequence[Variable]) -> Touch:
    displacement = machine.displacement
    if report.memory and report.memory.offset is not None and report.pc is None:
        displacement = report.memory.offset
    values: dict[str, int] = {}
    for variable in variables:
        if variable.depth == 0 and variable.value is not None:
            values.setdefault(variable.name, variable.value)
    return Touch(
        displacement=displacement,
        size=machine.size,
        access=machine.access,
        pointer=machine.pointer,
        loaded_at=machine.loaded_at,
        lifted=machine.lifted,
        indexed=machine.indexed,
        values=values,
    )


def _helper_argument(
    at: _Place, own: tuple[Frame, SourcePoint], machine: Machine, reader: Reader
) -> MemberHit | None:
    """The member whose value or address the owning frame gave to the helper."""
    if _divides(machine):
        return divisor_member(reader, at.function, at.line)
    inner = _entered_through(at.report, at.frame, at.chain, *own)
    position = 0 if _DOUBLE_ADD in at.report.message else None
    carried = None
    arch = at.report.context.arch or "x86_64"
    registers = _ARGUMENTS.get(arch, ())
    if machine.register in registers and inner == base_name(at.frame.symbol):
        carried = registers.index(machine.register)
        before = machine.instruction.before if machine.instruction else ()
        offset = at.frame.offset
        if offset == 0 or (arch == "x86_64" and x86.untouched(before, machine.register, offset)):
            position = carried
    return argument_member(
        reader,
        at.function,
        at.line,
        inner,
        address=machine.address,
        position=position,
        carried=carried,
        kind=machine.access,
    )


def _entered_through(
    report: Report,
    frame: Frame,
    chain: Sequence[SourcePoint],
    owner: Frame,
    point: SourcePoint,
) -> str:
    """The function that the owning line called: one step inwards from it on the stack."""
    if owner == frame and point in chain:
        return chain[max(0, list(chain).index(point) - 1)].function
    stack = reliable(report.call_frames)
    at = stack.index(owner) if owner in stack else 1
    return base_name(stack[max(0, at - 1)].symbol)


def _in_callers_words(
    hit: MemberHit,
    function: CFunction,
    chain: Sequence[SourcePoint],
    point: SourcePoint,
    reader: Reader,
) -> MemberHit:
    """Expand parameters of inlined functions to what their callers passed."""
    if hit.expression is None:
        return hit
    links = list(chain)
    at = links.index(point) if point in links else len(links)
    expression, root, inner = hit.expression, hit.root, function
    for outer in links[at + 1 :]:
        caller = reader.function_at(outer)
        if caller is None or outer.line is None:
            break
        calls = [c for c in caller.calls(outer.line, outer.line) if c.name == inner.name]
        if len(calls) != 1:
            break
        expression = expand(expression, root, inner, calls[0])
        root = expression.split("-")[0].split(".")[0]
        inner = caller
    if expression == hit.expression:
        return hit
    return replace(hit, expression=expression)


# Words ------------------------------------------------------------------------------------------


def _confidence(
    approximate: bool, innermost: SourcePoint, machine: Machine, hit: MemberHit | None
) -> float:
    """More independent facts, more confidence; debug info of another build halves it."""
    score = 0.4 + 0.2 * bool(innermost.file) + 0.1 * machine.recomputed
    if hit is not None:
        score += min(0.28, 0.08 * len(hit.facts) + 0.02 * hit.weight)
    return round(min(score, 0.98) * (0.5 if approximate else 1.0), 2)


def _member_words(hit: MemberHit) -> str:
    name = f"{hit.struct}.{hit.member}"
    return f"{name} (`{hit.expression}`)" if hit.expression else name


def _is_check(fact: Evidence) -> bool:
    return fact.kind == "source" and any(word in fact.content for word in ("BUG", "WARN"))


def _findings(fault: Fault, hit: MemberHit | None, facts: Sequence[Evidence]) -> list[Finding]:
    where = f"{fault.function}()" + (f" at {fault.file}:{fault.line}" if fault.file else "")
    ids = [fact.id for fact in facts]
    member = _member_words(hit) if hit else ""
    found = []
    if fault.access == "exec":
        via = f" through {member}" if hit else ""
        at = f"{fault.address:#x}" if fault.address is not None else "an address without code"
        found.append(f"{where} called{via} to {at}, which is no code.")
    elif hit and fault.pointer:
        found.append(
            f"{where} accessed {member}; the pointer in "
            f"{fault.pointer.register_} was {fault.pointer.meaning}."
        )
    elif hit and fault.own_frame:
        found.append(f"{fault.own_frame.function}() handed {member} to {fault.function}().")
    elif hit and fault.access is None:
        found.append(f"{where}: {hit.facts[0]} is {member}.")
    elif hit:
        found.append(f"{where} accessed {member}.")
    elif fault.pointer and "stack overflow" not in fault.pointer.meaning:
        found.append(f"{where} used a pointer that was {fault.pointer.meaning}.")
    elif check := next((fact for fact in facts if _is_check(fact)), None):
        found.append(f"The check `{check.content.rstrip('; {')}` at {check.origin} fired.")
    return [
        Finding(claim=text, confidence=fault.confidence, evidence=ids, by="rule:fault")
        for text in found
    ]
