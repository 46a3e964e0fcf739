"""All families, in the order in which they are tried on a line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kagent.klog.formats.bugs import BUG, LEAK
from kagent.klog.formats.infos import INFO
from kagent.klog.formats.oom import INVOKED, KILLED, OOM, OOM_KILLED
from kagent.klog.formats.panics import PANIC
from kagent.klog.formats.sanitizers import UBSAN
from kagent.klog.formats.shape import (
    BAD_ACCESS,
    CALL_TRACE,
    FAULT,
    PC_ONLY,
    STACK,
    TRACE,
    TRAPPING_PC,
    Blame,
    Family,
    Format,
    any_of,
    rx,
    trace,
    way,
)
from kagent.klog.formats.warnings import WARNING

__all__ = ["FAMILIES", "family_of"]


def _single(marker: str, *formats: Format, lookalikes: str | None = None) -> Family:
    return Family(marker, formats, rx(lookalikes) if lookalikes else None)


def _strict(marker: str, *formats: Format) -> Family:
    return Family(marker, formats, strict=True)


def _pc_fault(marker: str, title: str, blame: Blame = FAULT, *alt: str) -> Family:
    return _single(marker, Format(rx(re.escape(marker)), title, alt, blame=blame))


FAMILIES: tuple[Family, ...] = (
    Family(
        "BUG:",
        BUG,
        rx(r"ODEBUG:|Boot_DEBUG:|xlog_status:|DEBUG:|BUG: no syscalls can create resource"),
    ),
    Family(
        "WARNING:",
        WARNING,
        any_of(
            r"WARNING: /etc/ssh/moduli does not exist",
            r"WARNING: workqueue cpumask: online intersect > possible intersect",
            r"WARNING: [Tt]he mand mount option",
            r"WARNING: Unsupported flag value\(s\) of 0x",
            r"WARNING: Unprivileged eBPF is enabled with eIBRS",
            r"WARNING: fbcon: Driver '.*' missed to adjust virtual screen size",
            r"WARNING: See https.* for mitigation options\.",
            r"WARNING: kernel not compiled with CPU_SRSO",
            r"EXT4-[Ff][Ss](?: \(.*\))?:",
            r"WARNING: .* uses (?:deprecated v2 capabilities|wireless extensions)",
            r"XFS \(\w+\): WARNING",
        ),
    ),
    Family(
        "INFO:",
        INFO,
        any_of(
            r"INFO: lockdep is turned off",
            r"INFO: Stall ended before state dump start",
            r"INFO: NMI handler",
            r"INFO: task .{1,80} blocked on an? ",
            r"INFO: recovery required on readonly filesystem",
            r"(?:handler|interrupt).*took too long",
            r"INFO: sys_.* is not present in /proc/kallsyms",
            r"INFO: no syscalls can create resource",
            r"\w_?INFO:|rmt_storage:INFO:",
        ),
    ),
    _single(
        "Unable to handle kernel",
        Format(
            rx(
                r"Unable to handle kernel "
                r"(?P<what>paging request|NULL pointer dereference|access to user memory)"
            ),
            "BUG: unable to handle kernel {what} in {frame}",
            BAD_ACCESS,
            blame=FAULT,
        ),
        Format(  # s390
            rx(r"Unable to handle kernel pointer dereference in virtual"),
            "BUG: unable to handle kernel paging request in {frame}",
            BAD_ACCESS,
            blame=FAULT,
        ),
    ),
    _single(
        "general protection fault",
        Format(
            rx(r"general protection fault.*:"),
            "general protection fault in {frame}",
            BAD_ACCESS,
            blame=FAULT,
        ),
        # arch/x86/kernel/traps.c, show_signal(): a user task's.
        lookalikes=r"general protection fault .* error:[0-9]+ in |general protection fault ip:",
    ),
    _pc_fault("stack segment: ", "stack segment fault in {frame}"),
    Family("Kernel panic", PANIC),
    _pc_fault("PANIC: double fault", "PANIC: double fault in {frame}", PC_ONLY),
    _single(
        "rust_kernel: panicked",
        Format(
            rx(r"rust_kernel: panicked"),
            "{words} in {frame}",
            details=(rx(r"rust_kernel: panicked at "), rx(r"^(?P<words>.+)$")),
            blame=trace("__rustc::rust_begin_unwind"),
        ),
    ),
    _single(
        "kernel BUG",
        Format(
            rx(r"kernel BUG at mm/usercopy\.c"),
            "BUG: bad usercopy in {frame}",
            blame=trace("usercopy __check"),
        ),
        Format(
            rx(r"kernel BUG at lib/list_debug\.c"),
            "BUG: corrupted list in {frame}",
            BAD_ACCESS,
            blame=TRACE,
        ),
        Format(
            rx(r"kernel BUG at(?: |$)"),
            "kernel BUG in {frame}",
            # skb_put() and friends check for their caller.
            blame=way(TRAPPING_PC, CALL_TRACE, STACK, skip="^skb_"),
        ),
    ),
    _single("Kernel BUG", Format(rx(r"Kernel BUG (?P<words>.*)"), "kernel BUG {words}")),
    _single(
        "BUG kmalloc-",
        Format(rx(r"BUG kmalloc-.*: Object already free"), "BUG: Object already free"),
    ),
    _pc_fault("divide error:", "divide error in {frame}", PC_ONLY),
    _pc_fault("divide_error:", "divide error in {frame}", PC_ONLY),  # 5.8 to 5.10
    _pc_fault("invalid opcode:", "invalid opcode in {frame}", PC_ONLY),
    _pc_fault("int3:", "int3 in {frame}"),
    Family("UBSAN:", UBSAN),
    _single(
        "Booting the kernel.",
        Format(rx(r"^Booting the kernel"), "unexpected kernel reboot", stackless=True),
        lookalikes=r"Parsing ELF|Decompressing Linux|Unknown parameter '",
    ),
    _single(
        "unregister_netdevice: waiting for",
        Format(
            rx(r"unregister_netdevice: waiting for .* to become free"),
            "unregister_netdevice: waiting for DEV to become free",
            stackless=True,
        ),
    ),
    _single(
        "VFS: Close: file count is 0",
        Format(
            rx(r"VFS: Close: file count is 0"),
            "VFS: Close: file count is zero (use-after-free)",
            stackless=True,
        ),
    ),
    _single(
        "VFS: Busy inodes after unmount",
        Format(
            rx(r"VFS: Busy inodes after unmount"),
            "VFS: Busy inodes after unmount (use-after-free)",
            stackless=True,
        ),
    ),
    _pc_fault("Internal error:", "Internal error in {frame}", FAULT, *BAD_ACCESS),
    _pc_fault("Unhandled fault:", "Unhandled fault in {frame}", FAULT, *BAD_ACCESS),
    _pc_fault("Alignment trap:", "Alignment trap in {frame}"),
    _single(
        "trusty: panic",
        Format(
            rx(r"trusty: panic.* ASSERT FAILED"),
            "trusty: ASSERT FAILED: {words}",
            details=(
                rx(r"trusty: panic \(.*?\):(?: DEBUG)? ASSERT FAILED at \(.*?\): (?P<words>.+)"),
            ),
            stackless=True,
        ),
        Format(
            rx(r"trusty: panic.* ASSERT FAILED.*: *(?P<words>.*)"),
            "trusty: ASSERT FAILED: {words}",
            broken=True,
        ),
        Format(
            rx(r"trusty: panic"),
            "trusty: panic: {words}",
            details=(rx(r"trusty: panic \(.*?\): (?P<words>.+)"),),
            stackless=True,
        ),
    ),
    _single(
        "fatal error:",
        Format(rx(r"fatal error:"), "go runtime error", stackless=True, kernel_bug=False),
        lookalikes=r"ALSA|fatal error: cannot create timer",
    ),
    # A fuzzer's own failures, found in its consoles.
    _single(
        "SYZFAIL:",
        Format(rx(r"SYZFAIL:(?P<words>.*)"), "SYZFAIL:{words}", stackless=True, kernel_bug=False),
    ),
    _single(
        "SYZFATAL:",
        Format(
            rx(r"SYZFATAL:(?P<words>.*)"),
            "SYZFATAL:{words}",
            ("SYZFATAL",),
            stackless=True,
            kernel_bug=False,
        ),
    ),
    _single(
        "panic:",
        Format(
            rx(r"panic: Sentry detected .* stuck task"),
            "panic: Sentry detected stuck tasks",
            stackless=True,
            kernel_bug=False,
        ),
        Format(rx(r"panic:(?P<words>.*)"), "panic:{words}", stackless=True, kernel_bug=False),
        lookalikes=r"_panic:|xlog_status:|ddb\.onpanic:|evtlog_status:",
    ),
    # What syzbot has no name for. Last, so that its names come first.
    _strict(
        "unreferenced object 0x",  # as /sys/kernel/debug/kmemleak lists them
        Format(rx(r"unreferenced object 0x"), "memory leak in {frame}", blame=LEAK),
    ),
    _strict(
        "hard LOCKUP on cpu",
        Format(
            rx(r"Watchdog detected hard LOCKUP on cpu"),
            "hard LOCKUP in {frame}",
            ("stall in {frame}",),
            blame=way(TRAPPING_PC, CALL_TRACE, STACK, pick="stall"),
        ),
    ),
    _strict(
        "BUG ",  # mm/slub.c, slab_bug()
        Format(
            rx(
                r"BUG (?P<cache>[\w-]{1,64}) \((?:Not tainted"
                r"|Tainted: [A-Z ]{1,40})\): (?!kasan:)(?P<what>.*)"
            ),
            "slab corruption in {cache}: {what}",
            kind="MEMORY_SAFETY_BUG",
            blame=TRACE,
        ),
    ),
    _strict(
        "Kernel bug detected[#",  # mips, loongarch
        Format(rx(r"Kernel bug detected\[#"), "kernel BUG in {frame}", blame=FAULT),
    ),
    _strict(
        "segfault at ",
        Format(
            rx(r"(?P<comm>[^\[\]]{1,32})\[[0-9]+\]: segfault at [0-9a-f]+ ip"),
            "segfault in {comm}",
            stackless=True,
            kernel_bug=False,
        ),
    ),
    _strict(INVOKED, *OOM),
    _strict(KILLED, *OOM_KILLED),
    _strict(
        "traps: ",
        Format(
            rx(r"traps: (?P<comm>[^\[\]]{1,32})\[[0-9]+\] (?P<what>[a-z][a-z ]{3,40}) ip:"),
            "user {what} in {comm}",
            stackless=True,
            kernel_bug=False,
        ),
    ),
    Family(  # die() of any architecture, where its first line was lost or is this one
        " [#",
        (
            Format(  # x86, riscv: what it died of stood above
                rx(r"Oops:?(?: Oops:)?(?: [0-9a-f]{4})? \[#"),
                "Oops in {frame}",
                BAD_ACCESS,
                kind="DoS",
                blame=FAULT,
                broken=True,
            ),
            Format(
                rx(
                    r"(?P<what>[A-Za-z][A-Za-z ,()/-]{2,80}?):?(?: [0-9a-f]{4,16})?(?: ilc:[0-9])?"
                    r" \[#[0-9]{1,4}\]"
                ),
                "{what} in {frame}",
                BAD_ACCESS,
                kind="DoS",
                blame=FAULT,
            ),
        ),
        strict=True,
        weak=True,
    ),
    Family("sysrq: Show ", (), rx(r"sysrq: Show (?:Regs|Memory|clockevent)"), dump=True),
    Family("SysRq : Show ", (), rx(r"SysRq : Show (?:Regs|Memory|clockevent)"), dump=True),
)


def family_of(line: str) -> Family | None:
    """The family whose report a line announces."""
    return next(_families(line), None)


def _families(line: str) -> Iterator[Family]:
    for family in FAMILIES:
        if family.marker not in line or (family.lookalikes and family.lookalikes.search(line)):
            continue
        if not family.strict or any(form.header.search(line) for form in family.formats):
            yield family
