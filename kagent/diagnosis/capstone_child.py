"""What the child does for `instructions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kagent.isolation.child import Session

__all__ = ["runs"]

_KINDS = {1: "register", 2: "immediate", 3: "memory"}  # CS_OP_REG, _IMM, _MEM
_MAX_INSTRUCTIONS = 4096


def runs(
    session: Session, key: str, arch: str, modes: list[str], wanted: list[tuple[int, int]]
) -> list[list[dict[str, Any]]]:
    """The instructions of each ``[start, end)``, as `Instruction` has them."""
    text = session.given[key]
    assert isinstance(text, str)
    data, engine = bytes.fromhex(text), _engine(arch, modes)
    return [
        [_plain(insn) for insn in engine.disasm(data[start:end], start, _MAX_INSTRUCTIONS)]
        for start, end in wanted
    ]


def _engine(arch: str, modes: list[str]) -> Any:
    import capstone

    mode = 0
    for name in modes:
        mode |= getattr(capstone, f"CS_MODE_{name}")
    engine = capstone.Cs(getattr(capstone, f"CS_ARCH_{arch}"), mode)
    engine.detail = True
    return engine


def _plain(insn: Any) -> dict[str, Any]:
    import capstone

    try:
        written = [insn.reg_name(register) for register in insn.regs_access()[1]]
    except capstone.CsError:  # not told for every architecture
        written = []
    return {
        "address": insn.address,
        "size": insn.size,
        "mnemonic": insn.mnemonic,
        "op_str": insn.op_str,
        "operands": [_operand(insn, op) for op in insn.operands],
        "written": [name for name in written if name],
    }


def _operand(insn: Any, op: Any) -> dict[str, Any]:
    kind = _KINDS.get(op.type, "other")
    found: dict[str, Any] = {"kind": kind, "size": getattr(op, "size", 0)}
    if kind == "register":
        found["register"] = insn.reg_name(op.reg)
    elif kind == "immediate":
        found["immediate"] = op.imm
    elif kind == "memory":
        found["memory"] = {
            "base": _name(insn, op.mem.base),
            "index": _name(insn, getattr(op.mem, "index", 0)),
            "scale": getattr(op.mem, "scale", 1),
            "disp": op.mem.disp,
            "segment": _name(insn, getattr(op.mem, "segment", 0)),
        }
    found["written"] = bool(getattr(op, "access", 0) & 2)  # CS_AC_WRITE
    return found


def _name(insn: Any, register: int) -> str | None:
    return insn.reg_name(register) if register else None
