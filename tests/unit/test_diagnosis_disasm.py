"""Code lines of several architectures, and where x86 registers came from."""

import random

import pytest

from kagent.diagnosis import disasm, x86
from kagent.diagnosis.machine import read_machine
from kagent.klog import parse_log

# mov rax,[rbp+0x48]; <mov edx,[rax+0x1c]>; test edx,edx
PLAIN = "41 54 55 48 89 fd 53 48 8b 45 48 <8b> 50 1c 85 d2"
# mov rbx,[r15+0xb8]; movabs rax,shadow; lea rdi,[rbx+0x1c]; mov rdx,rdi; shr rdx,3; <movzx ...>
SHADOW = (
    "49 8b 9f b8 00 00 00 48 b8 00 00 00 00 00 fc ff df 48 8d 7b 1c 48 89 fa 48 c1 ea 03 "
    "<0f> b6 14 02 48 89 f8"
)


@pytest.mark.parametrize(
    ("arch", "code", "text", "base", "disp", "size", "access"),
    [
        ("x86_64", PLAIN, "mov edx, dword ptr [rax + 0x1c]", "rax", 0x1C, 4, "read"),
        ("x86_64", "<c6> 43 08 00", "mov byte ptr [rbx + 8], 0", "rbx", 8, 1, "write"),
        ("i386", "<8b> 40 04", "mov eax, dword ptr [eax + 4]", "eax", 4, 4, "read"),
        ("arm64", "aa0003f3 (b9401c21)", "ldr w1, [x1, #0x1c]", "x1", 0x1C, 4, "read"),
        ("arm64", "(f9000801)", "str x1, [x0, #0x10]", "x0", 0x10, 8, "write"),
        ("arm", "e1a02000 (e5834020)", "str r4, [r3, #0x20]", "r3", 0x20, None, "write"),
        ("arm", "4604 (6903) 2b00", "ldr r3, [r0, #0x10]", "r0", 0x10, None, "read"),  # Thumb
        ("riscv64", "0763 00a5 (3503) 0107", "ld a0, 0x10(a4)", "a4", 0x10, 8, "read"),
        ("riscv64", "(6788)", "c.ld a0, 8(a5)", "a5", 8, 8, "read"),
        ("riscv32", "(a223) 00a7", "sw a0, 4(a5)", "a5", 4, 4, "write"),
        ("ppc64le", "7c0802a6 <e9230010> 39290001", "ld r9, 0x10(r3)", "r3", 0x10, 8, "read"),
        ("ppc64", "7c0802a6 <f9230010> 39290001", "std r9, 0x10(r3)", "r3", 0x10, 8, "write"),
        ("ppc", "<81230010>", "lwz r9, 0x10(r3)", "r3", 0x10, 4, "read"),
        ("ppc64", "<e9200010>", "ld r9, 0x10(0)", None, 0x10, 8, "read"),  # r0 as a base is zero
        ("ppc64", "<88030008>", "lbz r0, 8(r3)", "r3", 8, 1, "read"),
        ("mips64", "00000000 <dc620010> 00000000", "ld $v0, 0x10($v1)", "r3", 0x10, 8, "read"),
        ("mips64el", "<fc620010>", "sd $v0, 0x10($v1)", "r3", 0x10, 8, "write"),
        ("mips", "<8c820010>", "lw $v0, 0x10($a0)", "r4", 0x10, 4, "read"),
        ("mipsel", "<a0820003>", "sb $v0, 3($a0)", "r4", 3, 1, "write"),
        ("s390x", "b9040012 <e31020100004>", "lg %r1, 0x10(%r2)", "r2", 0x10, 8, "read"),
        ("s390x", "<e31020100024>", "stg %r1, 0x10(%r2)", "r2", 0x10, 8, "write"),
        ("sparc64", "<c4586010>", "ldx [%g1+0x10], %g2", "g1", 0x10, 8, "read"),
        ("sparc64", "<c4706010>", "stx %g2, [%g1+0x10]", "g1", 0x10, 8, "write"),
        ("sparc", "<c4006010>", "ld [%g1+0x10], %g2", "g1", 0x10, 4, "read"),
    ],
)
def test_faulting_operand(arch, code, text, base, disp, size, access):
    decoded = disasm.decode(code, arch)
    assert decoded is not None
    assert decoded.text == text
    operand = decoded.operands[0]
    assert (operand.base, operand.disp, operand.access) == (base, disp, access)
    assert size is None or operand.size == size


def test_effective_address():
    decoded = disasm.decode("<8b> 44 88 10", "x86_64")  # mov eax,[rax+rcx*4+0x10]
    assert decoded is not None
    assert decoded.operands[0].address({"rax": 0x1000, "rcx": 3}) == 0x101C
    assert decoded.operands[0].address({"rax": 0x1000}) is None


def test_instructions_before_the_trap_fall_into_step():
    listing = disasm.disassemble("ff " + PLAIN, "x86_64")
    assert [text for at, text, _ in listing if at < 0][-1] == "mov rax, qword ptr [rbp + 0x48]"
    assert [text for _, text, trap in listing if trap] == ["mov edx, dword ptr [rax + 0x1c]"]


@pytest.mark.parametrize("code", ["Unable to access opcode bytes at 0xd6.", "", "48 8b 45 48"])
def test_code_without_a_marked_byte_says_nothing(code):
    assert disasm.decode(code, "x86_64") is None


def test_unknown_architectures_are_left_alone():
    assert disasm.decode(PLAIN, "loongarch64") is None


def test_push_and_call_touch_the_stack():
    decoded = disasm.decode("<e8> 00 00 00 00", "x86_64")
    assert decoded is not None
    assert decoded.operands[0].address({"rsp": 0x1000}) == 0xFF8


def test_an_indirect_call_names_its_register():
    decoded = disasm.decode("<ff> d0", "x86_64")
    assert decoded is not None
    assert decoded.target == "rax"


def test_a_pointer_loaded_from_memory():
    decoded = disasm.decode(PLAIN, "x86_64")
    assert decoded is not None
    assert x86.origin(decoded.before, "rax") == x86.Origin("load", "rbp", 0x48)


def test_seeing_through_a_kasan_check():
    decoded = disasm.decode(SHADOW, "x86_64")
    assert decoded is not None
    assert x86.shadow_source(decoded.before, "rdx") == "rdi"
    came = x86.origin(decoded.before, "rdi")
    assert came == x86.Origin("address", "rbx", 0x1C)
    assert came is not None
    assert came.pointer({"rbx": 0}, 0x1C) == 0
    assert came.pointer({"rbx": 8}, 0x1C) is None, "registers that do not add up prove nothing"


def test_a_register_that_moved_itself():
    decoded = disasm.decode("48 89 fb 48 83 c7 08 <8b> 07", "x86_64")  # mov rbx,rdi; add rdi,8
    assert decoded is not None
    assert x86.origin(decoded.before, "rdi") == x86.Origin("address", "rbx", 8)


def test_a_clobbered_base_proves_nothing():
    # lea rdi,[rbx+8]; xor ebx,ebx; mov eax,[rdi]
    decoded = disasm.decode("48 8d 7b 08 31 db <8b> 07", "x86_64")
    assert decoded is not None
    assert x86.origin(decoded.before, "rdi") is None


@pytest.mark.parametrize(
    ("part", "whole"),
    [("eax", "rax"), ("r8d", "r8"), ("dil", "rdi"), ("bh", "rbx"), ("r15", "r15")],
)
def test_registers_and_their_parts(part, whole):
    assert x86.full_register(part) == whole


def test_alignment_agrees_with_known_disassembly(syzkaller_logs):
    """The marked byte of real reports starts the instruction that a disassembler put there."""
    cases = sorted((syzkaller_logs / "decompile" / "arm").glob("*.in"))
    assert cases
    for path in cases:
        code = next(line for line in path.read_text().splitlines() if "Code: " in line)
        decoded = disasm.decode(code.split("Code: ", 1)[1], "arm")
        expected = path.with_suffix(".out").read_text()
        assert decoded is not None
        marked = next(line for line in expected.splitlines() if "trapping instruction" in line)
        assert decoded.mnemonic in marked


@pytest.mark.parametrize("arch", sorted(disasm.ARCHITECTURES))
def test_no_code_of_any_architecture_raises(arch):
    """Random code, in words, halfwords and bytes, whatever the architecture prints."""
    chance = random.Random(arch)
    for _ in range(300):
        width = chance.choice((2, 4, 8, 12))
        words = [f"{chance.getrandbits(width * 4):0{width}x}" for _ in range(12)]
        words[chance.randrange(12)] = "XXXXXXXX"
        at = chance.randrange(12)
        words[at] = f"<{words[at]}>"
        decoded = disasm.decode(" ".join(words), arch, delayed=chance.random() < 0.5)
        if decoded is not None:
            for register in ("rax", "r3", "x1", "a0"):
                list(x86.provenance(decoded.before, register))
                assert x86.untouched(decoded.before, register, 4) in (True, False)


def test_what_powerpc_could_not_read_does_not_join():
    decoded = disasm.decode("7c0802a6 XXXXXXXX <e9230010> XXXXXXXX 39290001", "ppc64")
    assert decoded is not None
    assert decoded.before == ()
    assert disasm.decode("7c0802a6 XXXXXXXX 39290001", "ppc64") is None


def test_an_indexed_load_of_powerpc():
    decoded = disasm.decode("<7c23282e>", "ppc64")  # lwzx r1, r3, r5
    assert decoded is not None
    (operand,) = decoded.operands
    assert (operand.base, operand.index, operand.size, operand.access) == ("r3", "r5", 4, "read")
    assert operand.address({"r3": 0x1000, "r5": 8}) == 0x1008


@pytest.mark.parametrize(
    ("arch", "code"),
    [
        ("s390x", "<41201010>"),  # la %r2,16(%r1): computes an address
        ("mips64", "<cc610000>"),  # pref
        ("sparc64", "<81c3e008>"),  # retl
        ("ppc64", "<7c0018ac>"),  # dcbf
    ],
)
def test_what_only_looks_like_a_load(arch, code):
    decoded = disasm.decode(code, arch)
    assert decoded is not None
    assert decoded.operands == ()


def test_a_copy_in_memory_writes_its_first_operand():
    decoded = disasm.decode("<d20720001000>", "s390x")  # mvc 0(8,%r2),0(%r1)
    assert decoded is not None
    assert [(op.base, op.access) for op in decoded.operands] == [("r2", "write"), ("r1", "read")]


def test_a_mips_trap_in_a_delay_slot_is_that_of_the_next_instruction():
    code = "00000000 <10600002> 8c620010"  # beqz $v1, ...; lw $v0, 0x10($v1)
    plain, delayed = disasm.decode(code, "mips"), disasm.decode(code, "mips", delayed=True)
    assert plain is not None
    assert delayed is not None
    assert (plain.mnemonic, delayed.mnemonic) == ("beqz", "lw")
    assert disasm.decode("<10600002>", "mips", delayed=True) is None


@pytest.mark.parametrize(
    ("arch", "code", "register"),
    [
        ("mips64", "<0320f809>", "r25"),
        ("riscv64", "(80e7) 00c7", "a5"),
        ("s390x", "<0de1>", "r1"),
        ("ppc64", "<4e800421>", "ctr"),
    ],
)
def test_where_an_indirect_call_goes(arch, code, register):
    decoded = disasm.decode(code, arch)
    assert decoded is not None
    assert decoded.target == register


def test_capstone_without_an_architecture(monkeypatch):
    from kagent.diagnosis import capstone_child

    monkeypatch.setattr("capstone.cs_support", lambda kind: False)
    assert capstone_child._engine("PPC", ["64", "BIG_ENDIAN"]) is None


def test_code_of_a_file_needs_its_byte_order():
    (report,) = parse_log(POWERPC).reports
    big = read_machine(report, executed=False, built=(bytes.fromhex("e9230010"), 0))
    assert big.instruction is not None
    assert big.instruction.text == "ld r9, 0x10(r3)"
    (little,) = parse_log(POWERPC.replace("9032 <SF", "9033 <SF")).reports
    swapped = read_machine(little, executed=False, built=(bytes.fromhex("100023e9"), 0))
    assert swapped.instruction is not None
    assert swapped.instruction.text == "ld r9, 0x10(r3)"


POWERPC = """\
BUG: Kernel NULL pointer dereference on read at 0x00000010
Faulting instruction address: 0xc0000000004d1234
Oops: Kernel access of bad area, sig: 11 [#1]
CPU: 1 PID: 1234 Comm: test Not tainted 6.1.0 #1
NIP:  c0000000004d1234 LR: c0000000004d1230 CTR: 0000000000000000
REGS: c00000000abcd000 TRAP: 0300   Not tainted  (6.1.0)
MSR:  8000000000009032 <SF,EE,ME,IR,DR,RI>  CR: 28000428  XER: 00000000
GPR00: c0000000004d1230 c00000000abcd300 c000000001a00000 0000000000000000
NIP [c0000000004d1234] foo_read+0x34/0x100
LR [c0000000004d1230] foo_read+0x30/0x100
Call Trace:
[c00000000abcd340] [c0000000004d2000] vfs_read+0x100/0x300
---[ end trace 0000000000000000 ]---
"""
