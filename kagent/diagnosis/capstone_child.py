"""What the child does for `instructions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kagent.isolation.child import Session

__all__ = ["disassemble"]

_REG, _IMM, _MEM = 1, 2, 3  # CS_OP_*
_MAX_INSTRUCTIONS = 4096


def disassemble(
    session: Session, arch: str, modes: list[str], code: str, address: int, count: int
) -> list[dict[str, Any]]:
    """The instructions of `code`, as `Instruction` has them; none where capstone lacks it."""
    engine = session.once(f"{arch} {modes}", lambda: _engine(arch, modes))
    if engine is None:
        return []
    found = engine.disasm(bytes.fromhex(code), address, min(count or 1 << 30, _MAX_INSTRUCTIONS))
    return [_plain(insn) for insn in found]


def _engine(arch: str, modes: list[str]) -> Any:
    import capstone

    kind = getattr(capstone, f"CS_ARCH_{arch}", None)
    if kind is None or not capstone.cs_support(kind):
        return None
    mode = 0
    for name in modes:
        mode |= getattr(capstone, f"CS_MODE_{name}")
    try:
        engine = capstone.Cs(kind, mode)
        engine.detail = True
    except capstone.CsError:
        return None
    return engine


def _plain(insn: Any) -> dict[str, Any]:
    import capstone

    try:
        access: list[Any] = [[insn.reg_name(n) for n in group] for group in insn.regs_access()]
    except capstone.CsError:
        access = [None, None]
    return {
        "address": insn.address,
        "size": insn.size,
        "mnemonic": insn.mnemonic,
        "op_str": insn.op_str,
        "operands": [_operand(insn, op) for op in insn.operands],
        "read": access[0],
        "written": access[1],
    }


def _operand(insn: Any, op: Any) -> dict[str, Any]:
    mem = getattr(op, "mem", None) if op.type == _MEM else None
    return {
        "type": op.type,
        "reg": _name(insn, op.reg) if op.type == _REG else None,
        "imm": op.imm if op.type == _IMM else None,
        "mem": _memory(insn, mem) if hasattr(mem, "base") else None,
        "size": getattr(op, "size", 0),
        "access": getattr(op, "access", 0),
    }


def _memory(insn: Any, mem: Any) -> dict[str, Any]:
    return {
        "base": _name(insn, mem.base),
        "index": _name(insn, getattr(mem, "index", 0)),
        "scale": getattr(mem, "scale", 1),
        "disp": mem.disp,
        "segment": _name(insn, getattr(mem, "segment", 0)),
    }


def _name(insn: Any, register: int) -> str | None:
    return insn.reg_name(register) if register else None
