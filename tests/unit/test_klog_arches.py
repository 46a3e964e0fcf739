"""Registers, code and stacks as each architecture's own show_regs() and show_code() print them."""

from __future__ import annotations

import pytest

from kagent.klog import Report, parse_log


def only(text: str) -> Report:
    (report,) = parse_log(text).reports
    return report


def value(number: int, digits: int = 16) -> str:
    """A register's contents: its number in every byte, so that none is mistaken for another."""
    return f"{number + 1:02x}" * (digits // 2)


def numbers(names: str, digits: int = 16) -> dict[str, int]:
    return {name: int(value(n, digits), 16) for n, name in enumerate(names.split())}


def rows(names: str, columns: int, form: str, digits: int = 16) -> str:
    """Registers as show_regs() prints them, `columns` a line."""
    cells = [form.format(name, value(n, digits)) for n, name in enumerate(names.split())]
    lines = [" ".join(cells[at : at + columns]) for at in range(0, len(cells), columns)]
    return "\n".join(lines) + "\n"


def check(report: Report, expected: dict[str, int]) -> None:
    assert {name: report.registers.get(name) for name in expected} == expected


def test_s390() -> None:
    """arch/s390/kernel/dumpstack.c, show_registers(); dis.c, show_code()."""
    grid = "\n".join(
        ("Krnl GPRS: " if row == 0 else " " * 11)
        + " ".join(value(4 * row + column) for column in range(4))
        for row in range(4)
    )
    report = only(f"""\
Unable to handle kernel pointer dereference in virtual kernel address space
Failing address: 0000000000000000 TEID: 0000000000000483
Fault in home space mode while using kernel ASCE.
Oops: 0004 ilc:3 [#1] SMP
CPU: 1 PID: 900 Comm: dasdd Not tainted 6.12.0 #1
Krnl PSW : 0704c00180000000 000003ff8012a0c4 (probe_one+0x44/0xb0 [tool])
           R:0 T:1 IO:1 EX:1 Key:0 M:1 W:0 P:0 AS:3 CC:0 PM:0 RI:0 EA:3
{grid}
Krnl Code: 000003ff8012a0b6: e3b0a0000004	lg	%r11,0(%r10)
           000003ff8012a0bc: a7f40006		brc	15,000003ff8012a0c8
          #000003ff8012a0c0: b9040023		lgr	%r2,%r3
          >000003ff8012a0c4: e32030000024	stg	%r2,0(%r3)
           000003ff8012a0ca: 07fe		bcr	15,%r14
Call Trace:
 [<000003ff8012a0c4>] probe_one+0x44/0xb0 [tool]
([<000003ff8012a0b6>] probe_one+0x36/0xb0 [tool])
 [<00000000007c1f32>] really_probe+0x1a2/0x430
Last Breaking-Event-Address:
 [<000003ff8012a090>] probe_one+0x10/0xb0 [tool]
""")
    assert str(report.pc) == "probe_one+0x44/0xb0 [tool]"
    assert report.code == "e3b0a0000004 a7f40006 b9040023 <e32030000024> 07fe"
    check(report, {f"r{n}": int(value(n), 16) for n in range(16)} | {"pc": 0x3FF8012A0C4})
    assert [(f.symbol, f.reliable) for f in report.call_frames] == [
        ("probe_one", True),
        ("probe_one", False),  # arch/s390/kernel/dumpstack.c, show_stack(): in parentheses
        ("really_probe", True),
    ]


def test_what_a_mail_tore_off_an_arm_stack_is_as_sure_as_the_rest() -> None:
    report = only("""\
WARNING: CPU: 1 PID: 265 at mm/slub.c:1110 check_bytes+0xf4/0x118
CPU: 1 UID: 0 PID: 265 Comm: mdev Tainted: G    B   W           6.15.0 #1 NONE
Call trace:
[<c0529ad8>] (check_bytes) from [<c0529e9c>]
(check_object+0x3a0/0x408)
[<c0529e9c>] (check_object) from [<c052aa18>]
(free_processing+0x120/0x2e4)
""")
    assert [(f.symbol, f.reliable) for f in report.call_frames] == [
        ("check_object", True),
        ("free_processing", True),
    ]


def test_s390_traps_that_leave_the_psw_behind_the_instruction() -> None:
    report = only("""\
kernel BUG at drivers/s390/tool.c:20!
monitor event: 0040 ilc:2 [#1] SMP
Krnl PSW : 0704c00180000000 000003ff8012a0c4 (probe_one+0x44/0xb0 [tool])
Krnl Code: 000003ff8012a0bc: a7f40006		brc	15,000003ff8012a0c8
          #000003ff8012a0c0: af000000		mc	0,0
          >000003ff8012a0c4: e32030000024	stg	%r2,0(%r3)
Call Trace:
 [<000003ff8012a0c4>] probe_one+0x44/0xb0 [tool]
 [<00000000007c1f32>] really_probe+0x1a2/0x430
""")
    assert report.code == "a7f40006 <af000000> e32030000024"


def test_mips() -> None:
    """arch/mips/kernel/traps.c, __show_regs(): k0 and k1 ($26, $27) are left blank."""
    grid = "".join(
        f"${at:2}   : "
        + " ".join(" " * 16 if n in (26, 27) else value(n) for n in range(at, at + 4))
        + "\n"
        for at in range(0, 32, 4)
    )
    report = only(f"""\
CPU 0 Unable to handle kernel paging request at virtual address 0000000000000030, epc == \
ffffffff80a80044, ra == ffffffff80a80040
Oops[#1]:
CPU: 0 PID: 301 Comm: switchd Not tainted 6.12.0 #1
{grid}Hi    : 0000000000000005
Lo    : 0000000000000007
epc   : ffffffff80a80044 port_link+0x44/0xc0 [octsw]
ra    : ffffffff80a80040 port_link+0x40/0xc0 [octsw]
Status: 140000e3	KX SX UX KERNEL IE
Cause : 00800008 (ExcCode 02)
BadVA : 0000000000000030
PrId  : 000d9602 (Cavium Octeon III)
Modules linked in: octsw(O)
Process switchd (pid: 301, threadinfo=(____ptrval____), task=(____ptrval____), tls=0)
Stack : ffffffff80a80000 0000000000000000
Call Trace:
[<ffffffff80a80044>] port_link+0x44/0xc0 [octsw]
[<ffffffff805a1234>] dev_open+0x34/0x80

Code: df820008  ffbf0018  ffb00010 <dc430030> 10600004  00000000
""")
    assert str(report.pc) == "port_link+0x44/0xc0 [octsw]"
    assert report.code is not None
    assert report.code.split()[3] == "<dc430030>"
    kept = {f"r{n}": int(value(n), 16) for n in range(32) if n not in (26, 27)}
    check(report, kept | {"hi": 5, "lo": 7, "epc": 0xFFFFFFFF80A80044, "ra": 0xFFFFFFFF80A80040})
    assert [f.symbol for f in report.call_frames] == ["port_link", "dev_open"]


LOONG = (
    "pc ra tp sp a0 a1 a2 a3 a4 a5 a6 a7 t0 t1 t2 t3 t4 t5 t6 t7 t8 u0 s9 s0 s1 s2 s3 s4 s5 s6 s7 "
    "s8"
)


def test_loongarch() -> None:
    """arch/loongarch/kernel/traps.c, __show_regs()."""
    report = only(f"""\
CPU 2 Unable to handle kernel paging request at virtual address 0000000000000068, era == \
ffff800002114054, ra == ffff800002114040
Oops[#1]:
CPU: 2 PID: 640 Comm: fand Not tainted 6.12.0 #1
{rows(LOONG, 4, "{} {}")}   ra: ffff800002114040 fan_init+0x20/0x60 [lsfan]
  ERA: ffff800002114054 fan_step+0x34/0x60 [lsfan]
 CRMD: 000000b0 (PLV0 -IE -DA +PG DACF=CC DACM=CC -WE)
 ESTAT: 00010000 [PIL] (IS= ECode=1 EsubCode=0)
 BADV: 0000000000000068
 PRID: 0014c010 (Loongson-64bit, Loongson-3A5000)
Modules linked in: lsfan
Process fand (pid: 640, threadinfo=00000000c1b12f20, task=00000000a1b2c3d4)
Call Trace:
[<ffff800002114054>] fan_step+0x34/0x60 [lsfan]
[<9000000000a1b2c3>] worker_thread+0x123/0x400

Code: 29c02076  02c08063  00150080 <28c1a084> 4c000020
""")
    assert str(report.pc) == "fan_step+0x34/0x60 [lsfan]"
    assert report.code is not None
    assert "<28c1a084>" in report.code
    check(report, numbers(LOONG) | {"era": 0xFFFF800002114054, "badv": 0x68})


ARM = "r10 r9 r8 r7 r6 r5 r4 r3 r2 r1 r0"


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("e92dd800 e24cb004 e5903010 e1a04001 (e5930024)",) * 2,
        ("b510 4604 f7ff fffe (6803) 4620",) * 2,  # Thumb
        ("bad PC value", None),
    ],
)
def test_arm(code: str, kept: str | None) -> None:
    """arch/arm/kernel/process.c, __show_regs(); traps.c, dump_instr()."""
    report = only(f"""\
8<--- cut here ---
Unable to handle kernel NULL pointer dereference at virtual address 00000024 when read
[00000024] *pgd=00000000
Internal error: Oops: 5 [#1] SMP ARM
CPU: 0 PID: 77 Comm: gpiod Not tainted 6.12.0 #2
PC is at gpioexp_get+0x14/0x40 [gpioexp]
LR is at gpiod_get+0x20/0x3c
pc : [<bf0040a4>]    lr : [<c05d1e30>]    psr: 60000013
sp : c2a31e48  ip : 00000000  fp : c2a31e5c
{rows(ARM, 4, "{:3}: {}", 8)}\
Flags: nZCv  IRQs on  FIQs on  Mode SVC_32  ISA ARM  Segment none
Control: 10c5387d  Table: 6f00406a  DAC: 00000051
Process gpiod (pid: 77, stack limit = 0x(ptrval))
Stack: (0xc2a31e48 to 0xc2a32000)
1e40:                   c05d1e30 c2a31e6c bf0040a4 00000000 00000001 00000002
Call trace:
 gpioexp_get from gpiod_get+0x20/0x3c
 gpiod_get from vfs_read+0xb4/0x300
Code: {code}
---[ end trace 0000000000000000 ]---
""")
    assert str(report.pc) == "gpioexp_get+0x14/0x40 [gpioexp]"
    # Each line names a function and its caller, and the next line names the caller again.
    assert list(map(str, report.call_frames)) == [
        "gpioexp_get+0x14/0x40 [gpioexp]", "gpiod_get+0x20/0x3c", "vfs_read+0xb4/0x300"
    ]  # fmt: skip
    assert report.code == kept
    check(report, numbers(ARM, 8) | {"pc": 0xBF0040A4, "lr": 0xC05D1E30, "sp": 0xC2A31E48})


ARM64 = " ".join(f"x{n}" for n in range(29, -1, -1))


def test_arm_with_what_a_symbolizer_adds_for_inlined_functions() -> None:
    """The words before the function are none of its name, and the caller's place is no frame."""
    report = only(
        "Unable to handle kernel paging request at virtual address e03c4020\n"
        "Internal error: Oops: 807 [#1] SMP ARM\n"
        "CPU: 1 PID: 75 Comm: a Not tainted 5.12.0 #1\n"
        "PC is at __raw_writel arch/arm/include/asm/io.h:95 [inline]\n"
        "PC is at fill_aligned+0x94/0x138 drivers/video/fill.c:35\n"
        "LR is at fill_begin drivers/video/fill.c:62 [inline]\n"
        "LR is at fill_aligned+0x80/0x138 drivers/video/fill.c:35\n"
        "Backtrace: \n"
        "[<808f34c8>] (fill_aligned) from [<808f3340>] (sys_fill+0x1b0/0x338)\n"
    )
    names = [frame.symbol for frame in report.call_frames]
    assert names[0] == "__raw_writel"
    assert "fill_begin" not in names
    assert not any(" " in name for name in names)


def test_arm64() -> None:
    """arch/arm64/kernel/process.c, __show_regs(): names padded, three a line."""
    report = only(f"""\
Unable to handle kernel paging request at virtual address ffff8000a5a5a5a5
Mem abort info:
  ESR = 0x0000000096000046
Internal error: Oops: 0000000096000046 [#1] PREEMPT SMP
CPU: 3 UID: 0 PID: 288 Comm: Xorg Not tainted 6.12.0 #1
pstate: 60400005 (nZCv daif +PAN -UAO -TCO -DIT -SSBS BTYPE=--)
pc : flush_one+0x38/0x120 [disp]
lr : flush_all+0x20/0x120 [disp]
sp : ffff800081c33a80
pmr_save: 000000e0
{rows(ARM64, 3, "{:3}: {}")}Call trace:
 flush_one+0x38/0x120 [disp] (P)
 flush_all+0x20/0x120 [disp] (L)
 vfs_write+0xc8/0x300
Code: b9400c01 f9400802 8b010041 d503201f (f9000020)
---[ end trace 0000000000000000 ]---
""")
    assert str(report.pc) == "flush_one+0x38/0x120 [disp]"
    assert report.code is not None
    assert report.code.endswith("(f9000020)")
    check(report, numbers(ARM64) | {"sp": 0xFFFF800081C33A80, "pstate": 0x60400005})
    assert [f.symbol for f in report.call_frames] == ["flush_one", "flush_all", "vfs_write"]


RISCV = (
    "epc ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 "
    "t5 t6"
)


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("0000 ec06 e822 0800 e406 e022 892e 84aa 8b2e 1141 (e51c) 60a2",) * 2,
        ("Unable to access instruction at 0x0000000000000000.", None),
    ],
)
def test_riscv(code: str, kept: str | None) -> None:
    """arch/riscv/kernel/process.c, __show_regs(); traps.c, dump_instr()."""
    report = only(f"""\
Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008
Oops [#1]
CPU: 0 UID: 0 PID: 88 Comm: getty Not tainted 6.12.0 #1
Hardware name: riscv-virtio,qemu (DT)
epc : uartx_push+0x1e/0x50 [uartx]
 ra : uartx_write+0x2a/0x60 [uartx]
{rows(RISCV, 3, "{:>3} : {}")}\
status: 0000000200000120 badaddr: 0000000000000008 cause: 000000000000000f
[<ffffffff0160201e>] uartx_push+0x1e/0x50 [uartx]
[<ffffffff801a2b3c>] vfs_write+0xbc/0x300
Code: {code}
---[ end trace 0000000000000000 ]---
""")
    assert str(report.pc) == "uartx_push+0x1e/0x50 [uartx]"
    assert report.code == kept
    check(report, numbers(RISCV) | {"status": 0x200000120, "badaddr": 8, "cause": 15})


@pytest.mark.parametrize("dump", ["Code: ", "Instruction dump:\n"], ids=["6.5", "before"])
def test_ppc(dump: str) -> None:
    """arch/powerpc/kernel/process.c, __show_regs() and show_instructions()."""
    grid = "".join(
        f"GPR{at:02}: " + " ".join(value(n) for n in range(at, at + 4)) + " \n"
        for at in range(0, 32, 4)
    )
    words = ["60000000"] * 12 + ["<f9490010>"] + ["38210030"] * 3
    code = " ".join(words)
    if "dump" in dump:
        code = " ".join(words[:8]) + " \n" + " ".join(words[8:])
    report = only(f"""\
BUG: Kernel NULL pointer dereference on write at 0x00000010
Faulting instruction address: 0xc00800000052017c
Oops: Kernel access of bad area, sig: 11 [#1]
LE PAGE_SIZE=64K MMU=Radix SMP NR_CPUS=2048 NUMA PowerNV
CPU: 8 UID: 0 PID: 3311 Comm: opald Not tainted 6.12.0 #1
NIP:  c00800000052017c LR: c008000000520164 CTR: c000000000a0b2c0
REGS: c000000012d7b8f0 TRAP: 0300   Not tainted  (6.12.0)
MSR:  900000000280b033 <SF,HV,VEC,VSX,EE,FP,ME,IR,DR,RI,LE>  CR: 28002222  XER: 20040000
CFAR: c00800000052016c DAR: 0000000000000010 DSISR: 42000000 IRQMASK: 0
{grid}NIP [c00800000052017c] opal_apply+0x3c/0x90 [opalcfg]
LR [c008000000520164] opal_apply+0x24/0x90 [opalcfg]
Call Trace:
[c000000012d7bb80] [c008000000520164] opal_apply+0x24/0x90 [opalcfg] (unreliable)
[c000000012d7bbb0] [c000000000456789] vfs_write+0x109/0x300
{dump}{code}
---[ end trace 0000000000000000 ]---
""")
    assert str(report.pc) == "opal_apply+0x3c/0x90 [opalcfg]"
    assert report.code is not None
    assert report.code.split() == words
    kept = {f"r{n}": int(value(n), 16) for n in range(32)}
    check(report, kept | {"nip": 0xC00800000052017C, "lr": 0xC008000000520164, "dar": 0x10})


I386 = "eax ebx ecx edx esi edi ebp esp"


def test_i386() -> None:
    """arch/x86/kernel/process_32.c, __show_regs()."""
    report = only(f"""\
BUG: unable to handle page fault for address: f8a3c00c
#PF: supervisor read access in kernel mode
#PF: error_code(0x0000) - not-present page
*pde = 00000000
Oops: Oops: 0000 [#1] SMP
CPU: 0 UID: 0 PID: 411 Comm: modemd Not tainted 6.12.0 #1
EIP: modem_poll+0x11/0x30 [winmodem]
Code: 55 89 e5 53 8b 58 04 <8b> 43 0c 5b 5d c3
{rows(I386.upper(), 4, "{}: {}", 8)}DS: 007b ES: 007b FS: 00d8 GS: 0000 SS: 0068 EFLAGS: 00010246
CR0: 80050033 CR2: f8a3c00c CR3: 01b0e000 CR4: 000006d0
Call Trace:
 ? show_regs.part.0+0x55/0x5b
 modem_tick+0x1e/0x40 [winmodem]
 call_timer_fn+0x1e/0xf0
""")
    assert str(report.pc) == "modem_poll+0x11/0x30 [winmodem]"
    assert report.code is not None
    assert "<8b>" in report.code
    check(report, numbers(I386, 8) | {"eflags": 0x10246, "cr2": 0xF8A3C00C})
    assert report.context.arch == "i386"


POWERPC = """\
BUG: Kernel NULL pointer dereference on read at 0x00000010
Faulting instruction address: 0x{at}
Oops: Kernel access of bad area, sig: 11 [#1]
{order} PAGE_SIZE=4K SMP NR_CPUS=4 CoreNet Generic
CPU: 1 PID: 200 Comm: valved Not tainted 6.6.73 #0
NIP:  {at} LR: {at} CTR: {at}
REGS: {at} TRAP: 0300   Not tainted  (6.6.73)
MSR:  {msr} <EE>  CR: 44004804  XER: 00000000
GPR00: {at} {at} {at} {at}
NIP [{at}] valve_turn+0x22c/0x720 [valve]
---[ end trace 0000000000000000 ]---
"""
MIPS = """\
CPU 0 Unable to handle kernel paging request at virtual address {at}, epc == {at}, ra == {at}
Oops[#1]:
CPU: 0 PID: 300 Comm: valved Not tainted 5.15.150 #0
$ 0   : {at} {at} {at} {at}
epc   : {at} valve_turn+0x34/0x9c [valve]
Call Trace:
[<{at}>] valve_turn+0x34/0x9c [valve]
"""


@pytest.mark.parametrize(
    ("text", "at", "order", "msr", "arch"),
    [
        (POWERPC, "c209290c", "BE", "00029032", "ppc"),
        (POWERPC, "c00000000209290c", "LE", "800000000280b033", "ppc64le"),
        (POWERPC, "c00000000209290c", "BE", "8000000000029032", "ppc64"),
        (MIPS, "8734a0f4", "", "", "mips"),
        (MIPS, "ffffffffc0048114", "", "", "mips64"),
    ],
)
def test_the_registers_tell_width_and_byte_order(text, at, order, msr, arch) -> None:
    """REG of arch/powerpc/kernel/process.c and of arch/mips/kernel/traps.c: two digits a byte."""
    assert only(text.format(at=at, order=order, msr=msr)).context.arch == arch
