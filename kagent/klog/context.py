"""Who crashed where: the CPU line, taint, hardware, modules, workqueue, architecture."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kagent.klog.draft import Block, Draft
from kagent.klog.lines import Line
from kagent.klog.model import Context, Frame

__all__ = ["freeze_context", "read_context"]

_RELEASE = r"(?P<kernel>\d{1,2}\.\d{1,3}[^\s]{0,96})"
_TAINT = r"(?:Kdump: loaded )?(?:Not tainted|Tainted: (?P<taint>[A-Z ]{1,60}?))"
# lib/dump_stack.c, dump_stack_print_info(); "Pid: 1, comm: x" before 3.11.
_CPU = re.compile(
    r"CPU: (?P<cpu>\d{1,5}) (?:UID: \d{1,10} )?PID: (?P<pid>\d{1,10})"
    r"(?: Comm: (?P<comm>.{1,64}?))? "
    + _TAINT
    + r"(?: {1,8}"
    + _RELEASE
    + r"(?: {1,4}(?P<build>.{0,200}))?)?\s*$"
)
_CPU_SHORT = re.compile(
    r"CPU: (?P<cpu>\d{1,5}) (?:UID: \d{1,10} )?PID: (?P<pid>\d{1,10}) Comm: (?P<comm>\S{1,64})"
)
_CPU_OLD_ARM = re.compile(
    r"CPU: (?P<cpu>\d{1,5}) {1,8}"
    + _TAINT
    + r" {1,8}\("
    + _RELEASE
    + r" (?P<build>#[^)]{0,120})\)$"
)
_PID = re.compile(
    r"Pid: (?P<pid>\d{1,10}), comm: (?P<comm>.{1,64}?) "
    + _TAINT
    + r"(?: {1,8}\(?"
    + _RELEASE
    + r"(?: (?P<build>.{0,200}))?)?\s*$"
)
# lib/dump_stack.c, BUILD_ID_FMT: behind the utsname's version.
_BUILD_ID = re.compile(r" ([0-9a-f]{32,64})$")
_CPU_LINES = (_CPU, _PID, _CPU_OLD_ARM, _CPU_SHORT)
# Hung tasks and RCU stalls: taint first. lockdep's banner: release first.
_TAINTED = re.compile(_TAINT + r" {1,8}" + _RELEASE + r"(?: {1,4}(?P<build>.{0,200}))?\s*$")
_BANNER = re.compile(
    _RELEASE + r" (?P<build>#.{1,120}?) (?:Not tainted|Tainted: (?P<taint>[A-Z ]{1,60}))\s*$"
)
_HARDWARE = re.compile(r"Hardware name: (.{1,400})")
_WORKQUEUE = re.compile(r"Workqueue: (.{1,200})")
_MODULES = re.compile(r"Modules linked in:(.*)")
_UNLOADED = re.compile(r"\[last unloaded: ([\w-]{1,64})")
_MODULE = re.compile(r"[\w-]{1,64}(?=[(\s]|$)")
# kernel/module/main.c, module_flags(): the taints of one module, then + or - as it comes or goes.
_MARKED_FOREIGN = re.compile(r"(?<![\w-])([\w-]{1,64})\([A-Z]{0,16}O[A-Z]{0,16}[+-]?\)")
_QUIET_FACTS = re.compile(
    r"REGS: |R:\d T:\d|Failing address:|Fault in |\*pde = |\(ftrace buffer|Flags: nZ|Control: "
    r"|LR (?:is at|\[)|lr {0,4}: |ra {1,4}: |Process \S{1,64} \(pid|Backtrace:|Mem abort"
    r"|Tainted: \[[A-Z]\]=|Sched_ext: |.{0,40}last unloaded:|Kernel Offset: |Dumping ftrace buffer"
    r"|CPU features: |Memory Limit: |SMP: stopping|Rebooting in|Call trace unavailable"
    r"|note: .{1,64} exited with|Disabling lock debugging due|Fixing recursive fault"
    r"|\"echo 0 > /proc|hardirqs last|softirqs last|irq event stamp|Preemption disabled at"
    r"|lock_is_held|rcu_scheduler_active|in_atomic\(\)|preempt_count: |RCU nest depth"
)


def read_context(draft: Draft, line: Line) -> bool:
    """Take a line that says who or where."""
    text = line.text.lstrip()
    if "CPU: " in text or "Pid: " in text:
        match = next((m for p in _CPU_LINES if (m := p.search(text))), None)
        if match:
            _take_cpu(draft, match)
            return True
    if "ainted" in text and (match := _TAINTED.match(text) or _BANNER.match(text)):
        _take_kernel(draft, match)
        return True
    if match := _HARDWARE.match(text):
        draft.facts.setdefault("hardware", match[1].strip())
        return True
    if match := _WORKQUEUE.match(text):
        draft.block.workqueue = draft.block.workqueue or match[1].strip()
        return True
    if match := _MODULES.match(text):
        draft.facts.setdefault("modules", match[1])
        draft.stack = None
        return True
    return _QUIET_FACTS.match(text) is not None


def _take_cpu(draft: Draft, match: re.Match[str]) -> None:
    groups = match.groupdict()
    block = draft.block
    if groups.get("cpu") and block.cpu is None:
        block.cpu = int(groups["cpu"])
    if block.pid is None and groups.get("pid"):
        block.pid = int(groups["pid"])
    if block.comm is None and groups.get("comm"):
        block.comm = groups["comm"]
    _take_kernel(draft, match)


def _take_kernel(draft: Draft, match: re.Match[str]) -> None:
    groups = match.groupdict()
    if groups.get("kernel"):
        draft.facts.setdefault("kernel", groups["kernel"].rstrip(")"))
        if groups.get("build"):
            build = " ".join(groups["build"].split())
            if found := _BUILD_ID.search(build):
                draft.facts.setdefault("build_id", found[1])
                build = build[: found.start()]
            draft.facts.setdefault("build", build)
    if "taint" in groups:
        taint = groups["taint"]
        draft.facts.setdefault("taint", "".join(taint.split()) if taint else "")


# What only one architecture prints; looked for in the report's lines, in this order.
_ARCH_WORDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("s390x", re.compile(r"Krnl (?:PSW|GPRS|Code)")),
    # powerpc and mips print registers as wide as the kernel's words are.
    ("ppc", re.compile(r"^GPR\d\d: [0-9a-f]{8} |^MSR: {1,2}[0-9a-f]{8} ")),
    # The kernel's own MSR (bit 14, PR, is not set) without bit 0, LE.
    ("ppc64", re.compile(r"MSR: {1,2}[0-9a-f]{12}[012389ab][0-9a-f]{2}[02468ace] ")),
    ("ppc64le", re.compile(r"^NIP:? |^GPR\d\d: |MSR: {1,2}[0-9a-f]{16}|^NIP \[")),
    ("loongarch", re.compile(r"^ *ERA: [0-9a-f]{16}|^ *BADV: |CSR_|ESTAT: ")),
    ("riscv64", re.compile(r"^ ?epc : |status: [0-9a-f]{16} badaddr: |Hart \d{1,4} ")),
    ("mips", re.compile(r"^epc {1,4}: [0-9a-f]{8} |^\$ ?\d{1,2} {0,3}: [0-9a-f]{8} ")),
    ("mips64", re.compile(r"^epc {1,4}: [0-9a-f]{8,16} |^\$ ?\d{1,2} {0,3}: ")),
    ("arm64", re.compile(r"^pstate: |^x\d{1,2} ?: [0-9a-f]{16}|Mem abort info|el[01]_?\w*_sync")),
    ("arm", re.compile(r"psr: ?[0-9a-f]{8}|SMP ARM|\) from \[<|ret_fast_syscall|__dabt_svc")),
    ("i386", re.compile(r"\bEIP\b|\bEAX: [0-9a-f]{8} ")),
    ("x86_64", re.compile(r"\bRIP\b|\bRAX: |entry_SYSCALL_64|do_syscall_64|__x64_sys|asm_exc_")),
)
_ARCH_FRAMES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("arm64", re.compile(r"^(?:el0_svc|el0t_64|el1h_64|__arm64_sys|invoke_syscall|el0_sync)")),
    ("ppc64le", re.compile(r"^(?:system_call_(?:exception|vectored|common)|ret_from_kernel_user)")),
    ("s390x", re.compile(r"^(?:__s390x_sys_|__do_syscall$|pgm_check_handler|__do_pgm_check)")),
    (
        "riscv64",
        re.compile(r"^(?:do_trap_ecall_u|handle_exception|ret_from_exception|__riscv_sys)"),
    ),
    ("loongarch", re.compile(r"^(?:handle_syscall|do_syscall$|ret_from_kernel_thread_asm)")),
    ("mips64", re.compile(r"^(?:syscall_common|handle_sys(?:64|n32)?$)")),
)


def _architecture(lines: Sequence[str], frames: Sequence[Frame]) -> str | None:
    for arch, words in _ARCH_WORDS:
        if any(words.search(text) for text in lines):
            return arch
    for arch, names in _ARCH_FRAMES:
        if any(names.match(frame.symbol) for frame in frames):
            return arch
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def freeze_context(draft: Draft, block: Block, frames: Sequence[Frame]) -> Context:
    """The facts as a value; `block` is the one the report is about."""
    facts = draft.facts
    caller = draft.header.caller
    cpu = block.cpu
    if cpu is None and caller and caller[0] == "C":
        cpu = int(caller[1:])
    if cpu is None and "cpu" in facts:
        cpu = int(facts["cpu"])
    pid = block.pid if block.pid is not None else _number(facts.get("pid"))
    modules = facts.get("modules", "").partition("[last unloaded")[0]
    unloaded = _UNLOADED.search(facts.get("modules", ""))
    return Context(
        cpu=cpu,
        task=block.comm or facts.get("task"),
        pid=pid,
        kernel=facts.get("kernel"),
        build=facts.get("build"),
        build_id=facts.get("build_id"),
        arch=_architecture(draft.lines, frames),
        hardware=facts.get("hardware"),
        taint=facts.get("taint"),
        workqueue=block.workqueue,
        modules=tuple(_MODULE.findall(modules)),
        unloaded=unloaded[1] if unloaded else None,
        out_of_tree=tuple(dict.fromkeys(_MARKED_FOREIGN.findall(facts.get("modules", "")))),
        time=draft.header.time,
    )
