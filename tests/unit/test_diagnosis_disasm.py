"""Code lines of several architectures, and where x86 registers came from."""

import pytest

from kagent.diagnosis import disasm, x86

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
        ("riscv64", "0763 00a5 (3503) 0107", "ld a0, 0x10(a4)", "a4", 0x10, 8, "read"),
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
