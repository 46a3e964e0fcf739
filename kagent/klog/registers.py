"""Register dumps and ``Code:`` lines."""

from __future__ import annotations

import re

from kagent.klog.draft import Draft
from kagent.klog.lines import Line

__all__ = ["note_registers", "read_registers"]

# Names as the architectures' show_regs() print them (upper case there for x86, ppc, loongarch).
_NAMES = frozenset(
    (
        # x86
        "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 r08 r09 eflags rflags "
        "eax ebx ecx edx esi edi ebp esp cr0 cr2 cr3 cr4 orig_rax orig_eax dr0 dr1 dr2 dr3 dr6 dr7 "
        "fs gs knlgs cs ds es ss pkru "
        # arm, arm64
        + " ".join(f"x{n}" for n in range(31))
        + " pc lr sp pstate psr ip fp r0 r1 r2 r3 r4 r5 r6 r7 pmr esr far "
        # ppc
        "nip ctr msr xer dar dsisr cfar irqmask link "
        # riscv, mips, loongarch
        "epc ra gp tp t0 t1 t2 t3 t4 t5 t6 t7 t8 s0 s1 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 "
        "a0 a1 a2 a3 a4 a5 a6 a7 status badaddr cause hi lo badva era crmd prmd euen ecfg estat "
        "badv prid u0"
    ).split()
)
_PAIR = re.compile(r"([A-Za-z_]\w{0,8})(?: {0,4}: {0,2}| )(?:[0-9a-f]{4}:|\[<)?([0-9a-f]{8,16})\b")
_GPR = re.compile(r"GPR(\d\d): ((?:[0-9a-f]{8,16} ?){1,8})")
_MIPS = re.compile(r"\$ ?(\d{1,2}) {0,4}: ((?:[0-9a-f]{8,16} ?){1,4})")
_S390_FIRST = re.compile(r"Krnl GPRS: ((?:[0-9a-f]{16} ?){1,4})")
_STACK_WORDS = re.compile(r"\s{1,12}(?:[0-9a-f]{16} ){1,7}[0-9a-f]{16}\s*$")
_S390_MORE = re.compile(r"\s{8,16}((?:[0-9a-f]{16} ?){4})$")
_CODE = re.compile(r"\s{0,8}Code: {0,4}(.{1,1000})")
_PPC_CODE = re.compile(r"(?:<?[0-9a-f]{8}>? |XXXXXXXX ){3,7}(?:<?[0-9a-f]{8}>?|XXXXXXXX)\s*$")
_LOOKS = re.compile(
    r"\s{0,8}(?:[A-Z][A-Z0-9_]{1,8}: |[a-z]\w{0,6} {0,4}: (?:\[<)?[0-9a-f]{8}|(?:Status|Cause"
    r"|BadVA|PrId) {0,2}: |GPR\d\d:|\$ ?\d|Krnl GPRS"
    r"|(?:pc|[astu]\d|x\d{1,2}) [0-9a-f]{16} |(?:RSP|ESP|RAX|EAX|xPSR|Hi|Lo|r\d{1,2}) )"
)


# Lines that also name a function, for which other readers take them: mips, loongarch.
_WITH_FUNCTION = re.compile(r"(epc|ra|ERA) {0,4}: {1,2}([0-9a-f]{8,16}) \S")
_S390_PSW = re.compile(r"Krnl PSW : ([0-9a-f]{16}) ([0-9a-f]{16})\b")
# arch/s390/kernel/dis.c, show_code(): an instruction a line; ">" stands where the PSW points, "#"
# before the instruction that precedes it.
_S390_CODE = re.compile(r"\s{0,12}([#> ]?)[0-9a-f]{8,16}: ((?:[0-9a-f]{4}){1,3})(?:\s|$)")
_S390_AT_PSW = re.compile(r"(?:Oops|Low-address protection): ")
_HEX = re.compile(r"[<(]?(?:[0-9a-f]{2}){1,4}[>)]?(?:\s|$)")


def note_registers(draft: Draft, line: Line) -> None:
    """Keep the registers of a line that is another reader's."""
    text = line.text.lstrip()
    if text.startswith(("epc", "ra", "ERA")) and (match := _WITH_FUNCTION.match(text)):
        _store(draft, match[1].lower(), int(match[2], 16))
    elif text.startswith("Krnl PSW") and (match := _S390_PSW.match(text)):
        _store(draft, "mask", int(match[1], 16))
        _store(draft, "pc", int(match[2], 16))


def read_registers(draft: Draft, line: Line) -> bool:
    """Take a line of registers or code; user-space ones are recognised and dropped."""
    text = line.text.lstrip()
    if text.startswith("Krnl Code:"):
        _start_s390_code(draft, line)
        return True
    if draft.s390_mark and (match := _S390_CODE.match(line.text)):
        _add_s390_code(draft, match)
        return True
    if "Code: " in text and (match := _CODE.match(text)):
        _take_code(draft, match[1].strip())
        return True
    if _PPC_CODE.match(text):
        draft.block.code = f"{draft.block.code or ''} {text.strip()}".strip()[:_CODE_LENGTH]
        return True
    if not _LOOKS.match(text):
        if match := _S390_MORE.match(line.text):
            if "r3" in draft.block.registers and "r15" not in draft.block.registers:
                _numbered(draft, match[1], "r", _next_s390(draft))
            return True
        return _STACK_WORDS.match(line.text) is not None
    if match := _GPR.match(text):
        _numbered(draft, match[2], "r", int(match[1]))
        return True
    if match := _MIPS.match(text):
        _numbered(draft, match[2], "r", int(match[1]))
        return True
    if match := _S390_FIRST.match(text):
        _numbered(draft, match[1], "r", 0)
        return True
    pairs = [(m[1].lower(), m[2]) for m in _PAIR.finditer(text) if m[1].lower() in _NAMES]
    for name, value in pairs:
        _store(draft, _X86_SHORT.get(name, name), int(value, 16))
    return bool(pairs)


_X86_SHORT = {"r08": "r8", "r09": "r9"}


def _store(draft: Draft, name: str, value: int) -> None:
    if not draft.user_registers:
        draft.block.registers.setdefault(name, value)


def _numbered(draft: Draft, values: str, prefix: str, first: int) -> None:
    for number, value in enumerate(values.split(), first):
        _store(draft, f"{prefix}{number}", int(value, 16))


def _next_s390(draft: Draft) -> int:
    return sum(name[1:].isdigit() for name in draft.block.registers if name[0] == "r")


def _take_code(draft: Draft, code: str) -> None:
    if draft.user_pc or not _HEX.match(code):
        return
    if draft.block.code is None and (draft.block.pc is not None or not draft.user_registers):
        draft.block.code = code


def _start_s390_code(draft: Draft, line: Line) -> None:
    """A page fault leaves the PSW at its instruction, any other trap behind it."""
    if draft.block.code is not None:
        return
    faulted = any(_S390_AT_PSW.match(text) for text in draft.lines[:_FEW_LINES])
    draft.s390_mark = ">" if faulted else "#"
    if match := _S390_CODE.match(line.text.lstrip().removeprefix("Krnl Code:")):
        _add_s390_code(draft, match)


_FEW_LINES = 40
"""Before the code of a report: what happened, the modules, the registers."""
_CODE_LENGTH = 1000
"""Characters: no architecture prints more than 64 bytes of code (arch/*/kernel, ``Code:``)."""


def _add_s390_code(draft: Draft, match: re.Match[str]) -> None:
    word = f"<{match[2]}>" if match[1] == draft.s390_mark else match[2]
    draft.block.code = f"{draft.block.code or ''} {word}".strip()[:_CODE_LENGTH]
