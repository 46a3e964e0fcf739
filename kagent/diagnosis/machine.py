"""Instruction and registers of a trap: what they tell before any debug info is asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kagent.diagnosis import disasm, x86
from kagent.diagnosis.meaning import in_modules_area, pointer_meaning, shadow_range
from kagent.diagnosis.stack import log_origin
from kagent.klog.model import Report
from kagent.resolution import AccessKind, Evidence, Pointer, evidence

__all__ = ["Machine", "is_gone", "read_machine", "read_pointer"]

_TRAP_INSTRUCTIONS = ("ud2", "ud1", "ud0", "int3", "brk", "ebreak", "c.ebreak", "trap", "break")
_RETURNS = ("ret", "iret")
_GONE = "in memory of a module that is gone"
_IN_DELAY_SLOT = 1 << 31  # MIPS, Cause.BD: EPC is that of the branch before
_SMALL = 1 << 16
"""Below it a register holds an index or offset, or NULL."""


@dataclass(slots=True)
class Machine:
    """What instruction and registers tell."""

    instruction: disasm.Decoded | None = None
    access: AccessKind | None = None
    address: int | None = None
    size: int | None = None
    register: str | None = None
    pointer: int | None = None
    displacement: int | None = None
    loaded_at: int | None = None
    lifted: int | None = None
    lowered: int | None = None
    """How much was taken from a NULL pointer to make this one: ``container_of()``."""
    indexed: bool = False
    effective: int | None = None
    """The address as the registers give it; the printed one is the kernel's own guess at times."""
    recomputed: bool = False
    """The address computed from the registers is the printed one."""
    evidence: list[Evidence] = field(default_factory=list)


def read_machine(
    report: Report, *, executed: bool, built: tuple[bytes, int] | None = None
) -> Machine:
    """Decode the trap of a report; `executed` says that the PC itself was the bad address.

    `built` is the code of the debug file around the PC, with the PC's offset in it, for reports
    whose ``Code:`` line holds nothing.
    """
    printed = report.access
    machine = Machine()
    if printed:
        machine.address, machine.size = printed.address, printed.size
        if printed.kind in ("read", "write", "exec"):
            machine.access = printed.kind
    if executed:
        machine.access = "exec"
        if machine.address is None and report.pc is not None:
            machine.address = report.pc.address
        return machine
    arch = report.context.arch or "x86_64"
    code = report.code or (_of_file(*built, arch, report) if built else None)
    delayed = bool(report.registers.get("cause", 0) & _IN_DELAY_SLOT)
    decoded = disasm.decode(code, arch, delayed=delayed) if report.pc is not None else None
    if decoded is None or decoded.mnemonic.startswith(_TRAP_INSTRUCTIONS):
        return machine
    machine.instruction = decoded
    machine.evidence.append(
        evidence(
            "code",
            f"instruction at the PC: {decoded.text}",
            log_origin(report.span) if report.code else "the debug file: the log has no code bytes",
            author="kernel" if report.code else "debug-info",
        )
    )
    if not _is_memory_fault(report):
        return machine
    target = _branch_target(report, decoded)
    if target and target in report.registers:
        machine.access, machine.register = "exec", target
        machine.pointer = machine.address = report.registers[target]
    elif decoded.mnemonic.startswith(_RETURNS) and machine.address is None:
        machine.access = "exec"  # a general protection fault on return: the target is no address
    else:
        _operand(machine, decoded, report, arch)
    return machine


def _of_file(data: bytes, trap: int, arch: str, report: Report) -> disasm.Code | None:
    """Code as a file has it; None where the log does not tell in which byte order that is.

    powerpc's MSR does (bit 0, LE), and arm's PSR tells Thumb from ARM (bit 5, T).
    """
    registers = report.registers
    if arch.startswith("mips") or (arch.startswith("ppc") and "msr" not in registers):
        return None
    if arch.startswith("ppc64"):
        arch = "ppc64le" if registers["msr"] & 1 else "ppc64"
    thumb = arch == "arm" and bool(registers.get("psr", 0) & 1 << 5)
    return disasm.Code(data, trap, arch, halfwords=thumb)


def _branch_target(report: Report, decoded: disasm.Decoded) -> str | None:
    """The register of an indirect call, also of one through a retpoline thunk."""
    thunk = report.pc.symbol.rpartition("x86_indirect_thunk_")[2] if report.pc else ""
    name = decoded.target or (thunk if thunk in report.registers else None)
    return x86.full_register(name) if name else None


def _is_memory_fault(report: Report) -> bool:
    """Whether the trap was a refused access, rather than a watchdog's or a BUG's snapshot."""
    quiet = ("WARNING", "BUG", "HANG", "RCU", "LOCKDEP", "ATOMIC_SLEEP")
    if report.access and report.access.address is not None:
        return True
    if "divide error" in report.header:
        return False
    return "general protection" in report.header or not report.kind.startswith(quiet)


def _operand(machine: Machine, decoded: disasm.Decoded, report: Report, arch: str) -> None:
    registers = report.registers
    computed = [(op, op.address(registers)) for op in decoded.operands]
    if not computed:
        return
    wanted = machine.access if machine.access in ("read", "write") else None
    exact = [(op, at) for op, at in computed if at is not None and at == machine.address]
    same_kind = [(op, at) for op, at in computed if op.access == wanted]
    operand, address = (exact or same_kind or computed)[0]
    machine.recomputed = bool(exact)
    machine.access = machine.access or operand.access
    machine.address = machine.address if machine.address is not None else address
    machine.size = machine.size or operand.size
    machine.displacement, machine.register = operand.disp, _pointer_of(operand, registers)
    machine.effective = address
    machine.indexed = operand.index is not None
    if machine.register and arch == "x86_64":
        machine.register = x86.full_register(machine.register)
    wild = "general protection" in report.header and "KASAN" in report.header
    if shadow := shadow_range(address, arch, kasan=wild) if address is not None else None:
        _through_shadow(machine, decoded, operand, registers, shadow)
    if machine.pointer is None and machine.register:
        machine.pointer = registers.get(machine.register)
    if machine.register and arch == "x86_64":
        _trace_back(machine, decoded, registers)
    if machine.register and machine.pointer is not None:
        text = f"{machine.register} = {machine.pointer:#018x}"
        machine.evidence.append(evidence("register", text, log_origin(report.span)))


def _pointer_of(operand: disasm.Operand, registers: dict[str, int]) -> str | None:
    """Which of base and index is the pointer: with a scale of 1 compilers use either as such."""
    if operand.base is None or operand.index is None or operand.scale != 1:
        return operand.base
    base, index = registers.get(operand.base), registers.get(operand.index)
    small = base is not None and base < _SMALL
    if small and index is not None and (index >= _SMALL or (index == 0 and base != 0)):
        return operand.index
    return operand.base


def _trace_back(machine: Machine, decoded: disasm.Decoded, registers: dict[str, int]) -> None:
    """How the pointer got into its register: loaded from memory, or computed from another."""
    came = x86.origin(decoded.before, machine.register or "")
    if came is None or machine.pointer is None:
        return
    if came.kind == "load":
        machine.loaded_at = came.disp
    elif (base := came.pointer(registers, machine.pointer)) is not None:
        machine.lifted = (machine.displacement or 0) + came.disp
        if base == 0 and came.index is None:
            machine.lowered = -came.disp


def _through_shadow(
    machine: Machine,
    decoded: disasm.Decoded,
    operand: disasm.Operand,
    registers: dict[str, int],
    shadow: tuple[int, int],
) -> None:
    """See through KASAN's inline check: it faulted on the shadow of the real address."""
    low, high = shadow
    machine.address, machine.size, machine.access = low, None, None
    machine.recomputed, machine.displacement, machine.register = False, None, None
    machine.indexed, machine.effective = False, None
    source = None
    for name in filter(None, (operand.base, operand.index)):
        index = x86.full_register(name)
        source = source or x86.shadow_source(decoded.before, index)
    if source is None or not low <= registers.get(source, -1) <= high:
        fitting = [name for name, value in registers.items() if low <= value <= high and value]
        source = fitting[0] if len(fitting) == 1 else None
    if source is None:
        return
    machine.address, machine.register, machine.displacement = registers[source], source, 0
    machine.effective = machine.address
    came = x86.origin(decoded.before, source)
    if came is None or came.kind != "address":
        return
    pointer = came.pointer(registers, registers[source])
    if pointer is not None:
        machine.register, machine.pointer, machine.displacement = came.base, pointer, came.disp
        machine.indexed, machine.recomputed = came.index is not None, True


def read_pointer(report: Report, machine: Machine) -> Pointer | None:
    """The register that formed the bad address, and what its value means."""
    arch = report.context.arch or "x86_64"
    gone = _of_unloaded_module(report, machine, arch)
    if machine.access == "exec" and gone and machine.address is not None:
        return Pointer(register="rip", value=machine.address, meaning=gone)
    if machine.register is None or machine.pointer is None:
        return None
    meaning = pointer_meaning(machine.pointer, arch)
    below = (1 << 64) - machine.pointer
    if meaning and meaning.kind == "errptr" and machine.lowered == below:
        text = f"NULL - {below:#x}: an entry computed from a NULL pointer to its member"
        meaning = replace(meaning, kind="null", text=text)
    if meaning is None and machine.address is not None:
        meaning = pointer_meaning(machine.address, arch)
    by_stack = machine.register in ("rsp", "sp", "esp")
    overflow = meaning is None and "double fault" in report.header and by_stack
    if overflow or "stack guard page" in report.header:
        text = "in the guard page beyond the stack: stack overflow"
    elif meaning is None and gone:
        text = gone
    else:
        text = meaning.text if meaning else "a plausible kernel address"
    return Pointer(register=machine.register, value=machine.pointer, meaning=text)


def is_gone(pointer: Pointer | None) -> bool:
    """Whether a bad pointer led to what a module had before it was unloaded."""
    return pointer is not None and pointer.meaning.startswith(_GONE)


def _of_unloaded_module(report: Report, machine: Machine, arch: str) -> str | None:
    """What to say of an address in the modules' area where nothing is mapped any more."""
    name, address = report.context.unloaded, machine.address
    if name is None or address is None or not in_modules_area(address, arch):
        return None
    if report.pc is not None and report.pc.module is not None and machine.access == "exec":
        return None  # something stands there, if only data
    return f"{_GONE}: {name} was unloaded last"
