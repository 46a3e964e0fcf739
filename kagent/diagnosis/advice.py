"""What to do next, and what datum would prove more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kagent.commits.packing import is_posted
from kagent.diagnosis.lock_advice import lock_advice
from kagent.diagnosis.meaning import shadow_range
from kagent.klog.model import KernelLog, Report
from kagent.klog.oom_model import OomFacts
from kagent.klog.release import revision_candidates
from kagent.resolution import Actions, Deadlock, Fault, Fix, Missing
from kagent.symbols.model import Symbolized

__all__ = ["advise", "missing_data"]

# Debug options that would catch the same bug earlier or say more, by the report's kind or title.
_VERIFY: tuple[tuple[str, str], ...] = (
    (r"KASAN|use-after-free|double.free|corrupted list|list_(?:add|del)|poison",
     "re-run the same workload on a kernel with CONFIG_KASAN=y, or boot with slub_debug=FZPU: "
     "both must stay silent"),
    (r"refcount", "re-run with CONFIG_KASAN=y: neither it nor refcount_t may warn"),
    (r"LOCKDEP|HANG|deadlock|hung|lockup|stall",
     "re-run on a kernel with CONFIG_PROVE_LOCKING=y and CONFIG_DETECT_HUNG_TASK=y: lockdep and "
     "the hung-task detector must stay silent"),
    (r"ATOMIC_SLEEP|scheduling while atomic|invalid context",
     "re-run with CONFIG_DEBUG_ATOMIC_SLEEP=y and CONFIG_PROVE_LOCKING=y"),
    (r"UBSAN|divide error", "re-run with CONFIG_UBSAN=y and feed the boundary values again"),
    (r"KCSAN|data-race", "re-run with CONFIG_KCSAN=y under the same load"),
    (r"LEAK|memory leak",
     "re-run with CONFIG_DEBUG_KMEMLEAK=y, then: echo scan > /sys/kernel/debug/kmemleak; "
     "cat /sys/kernel/debug/kmemleak"),
    (r"NULL|null-ptr|paging request|general protection|page fault",
     "re-run the same workload; with CONFIG_KASAN=y a bad pointer is caught at its first use"),
)  # fmt: skip
_ANY = "re-run the workload that triggered the report and watch dmesg: it must not come back"
_LOCK_PATTERN = re.compile(r"LOCKDEP|HANG|deadlock|hung|lockup|stall", re.IGNORECASE)
_PLAIN = re.compile(r"[\w.+~-]{1,128}")
"""What may be put into a command line that somebody pastes into a shell."""
_HARDLY = 0.2
_NAMED = 8


def advise(
    report: Report, fault: Fault | None, deadlock: Deadlock | None, fixes: Sequence[Fix]
) -> Actions:
    """Upgrade or patch, verify, and what to do until then."""
    if report.oom is not None:
        return _more_memory(report.oom)
    if not report.kernel_bug:
        return Actions(fix=["nothing in the kernel: look at the program or person that did this"])
    return Actions(
        fix=_fix(report, fault, deadlock, fixes),
        verify=_verify(report),
        mitigate=_mitigate(report, fault),
    )


def _more_memory(oom: OomFacts) -> Actions:
    where = f"raise memory.max of {oom.memcg}" if oom.memcg else "add memory or swap"
    return Actions(
        fix=[f"{where}, or find out why the largest tasks need that much"],
        verify=["run the workload again and watch memory.current or /proc/meminfo while it grows"],
        mitigate=["lower oom_score_adj of what must survive; limit the others by memory.high"],
    )


def _fix(
    report: Report, fault: Fault | None, deadlock: Deadlock | None, fixes: Sequence[Fix]
) -> list[str]:
    steps: list[str] = []
    for fix in [f for f in fixes if f.confidence >= _HARDLY][:2]:
        name = f'{fix.hash[:12]} ("{fix.subject}")'
        if is_posted(fix.hash):
            how = f": b4 shazam {fix.hash}" if "@" in fix.hash else ""
            steps.append(f'try the posted patch "{fix.subject}"{how}')
        elif fix.status.in_kernel:
            steps.append(f"{name} is already in this kernel: look for a follow-up to it")
        elif fix.status.upstream_tag:
            steps.append(f"upgrade to {fix.status.upstream_tag} or later, or apply {name}: "
                         f"git cherry-pick -x {fix.hash[:12]}")  # fmt: skip
        else:
            steps.append(f"apply {name}: git cherry-pick -x {fix.hash[:12]}")
    remedies = lock_advice(report, deadlock) if deadlock is not None else []
    if remedies:
        steps += remedies
    elif fault is not None and fault.struct is not None:
        place = fault.own_frame or fault
        line = f" at {place.file}:{place.line}" if place.file else ""
        what = fault.expression or f"{fault.struct}.{fault.member}"
        steps.append(f"without a known fix: check `{what}` before its use in "
                     f"{place.function}(){line}, and find who left it so")  # fmt: skip
    foreign = [name for name in _blamed_modules(report) if name in report.context.out_of_tree]
    if foreign:
        modules = ", ".join(foreign)
        steps.append(f"report it to whoever ships {modules}: it is not part of the kernel tree")
    return steps


def _verify(report: Report) -> list[str]:
    text = f"{report.kind} {report.title} {report.header}"
    found = [advice for pattern, advice in _VERIFY if re.search(pattern, text, re.IGNORECASE)]
    return [*found[:2], _ANY]


def _mitigate(report: Report, fault: Fault | None) -> list[str]:
    steps = []
    modules = _blamed_modules(report)
    if fault is not None and fault.module and fault.module not in modules:
        modules.append(fault.module)
    if "O" in (report.context.taint or "") and not set(modules) & set(report.context.out_of_tree):
        # Documentation/admin-guide/reporting-issues.rst: first without what is not the kernel's.
        named = ", ".join(report.context.out_of_tree[:_NAMED])
        steps.append(f"run the workload without out-of-tree modules{named and f' ({named})'}: "
                     "they taint this kernel, and may have damaged what it met here")  # fmt: skip
        modules = []
    steps += [
        f"until it is fixed, do not load it: echo 'blacklist {module}' > "
        f"/etc/modprobe.d/{module}.conf && modprobe -r {module}"
        for module in modules[:1]
        if _PLAIN.fullmatch(module)
    ]
    if report.kind == "HANG":
        steps.append(
            "to get out of a hang by itself: sysctl kernel.hung_task_panic=1 "
            "kernel.softlockup_panic=1 kernel.panic=10 (reboots the machine)"
        )
    if not steps:
        steps.append("avoid the workload named by the task and the top of the trace")
    return steps


def _blamed_modules(report: Report) -> list[str]:
    frames = [frame for frame in report.call_frames if frame.reliable and frame.module]
    if report.locks and report.locks.acquiring and report.locks.acquiring.at:
        frames.insert(0, report.locks.acquiring.at)
    frames += [frame for task in report.tasks for frame in task.frames if frame.reliable]
    return list(dict.fromkeys(f.module for f in frames if f.module))


# Missing data -----------------------------------------------------------------------------------


def missing_data(
    log: KernelLog,
    primary: int,
    symbolized: Iterable[Symbolized] = (),
    *,
    vmlinux: bool = False,
    modules: bool = False,
    source: bool = False,
    index: bool = False,
) -> list[Missing]:
    """What was not there, in order of use, each with the command that gets it."""
    report = log.reports[primary]
    release = report.context.kernel
    wanted = [tag for tag, _ in revision_candidates(release or "", report.context.build)]
    lacking: list[Missing] = []
    if not report.kernel_bug:
        return lacking
    if not vmlinux:
        lacking.append(Missing(what="debug info of the kernel (vmlinux): source lines and members",
                               how=_debug_package(release, report.context.build)))  # fmt: skip
    used = {frame.module for frame in report.call_frames if frame.module}
    if used and not modules:
        names = ", ".join(sorted(filter(None, used))[:6])
        lacking.append(Missing(what=f"debug info of the modules {names}",
                               how="--modules DIR with their .ko files (and sources)"))  # fmt: skip
    if not source:
        lacking.append(Missing(
            what="the source at the crash's own version: expressions, and locks held",
            how="git clone https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git, then "
                f"--kernel-src linux@{wanted[0] if wanted else 'TAG'}",
        ))  # fmt: skip
    if not index:
        lacking.append(Missing(what="a commit index to look for existing fixes in",
                               how="kagent index build REPO -o DIR, then --index DIR"))  # fmt: skip
    lacking += _from_the_kernel(log, report)
    refused = {item.note for item in symbolized if item.note and "build" in item.note}
    lacking += [Missing(what=note, how=_debug_package(release, report.context.build))
                for note in sorted(refused)[:3]]  # fmt: skip
    return lacking


def _from_the_kernel(log: KernelLog, report: Report) -> list[Missing]:
    """Kernel options whose output would have helped with this very report."""
    lacking = []
    waiting = bool(_LOCK_PATTERN.search(f"{report.kind} {report.title} {report.header}"))
    if waiting and report.locks is None and not any(task.held for task in log.tasks):
        lacking.append(Missing(what="the list of locks each task holds",
                               how="boot a kernel with CONFIG_PROVE_LOCKING=y, or press sysrq-d "
                                   "(echo d > /proc/sysrq-trigger) while it hangs"))  # fmt: skip
    if waiting and report.locks is None and len(log.tasks) < 2:
        lacking.append(Missing(what="the stacks of the other blocked tasks",
                               how="echo w > /proc/sysrq-trigger while it hangs, and add "
                                   "dmesg to the log"))  # fmt: skip
    if report.corrupted:
        lacking.append(Missing(what="an undamaged report: lines of several CPUs are mixed",
                               how="CONFIG_PRINTK_CALLER=y tells them apart"))  # fmt: skip
    heap = re.search(r"use-after-free|poison|general protection|corrupted list|double",
                     report.title + report.header, re.IGNORECASE)  # fmt: skip
    address = report.access.address if report.access else None
    under_kasan = address is not None and shadow_range(address, report.context.arch) is not None
    if heap and not under_kasan and not report.kind.startswith(("KASAN", "KFENCE")):
        lacking.append(Missing(what="who allocated and freed the object",
                               how="CONFIG_KASAN=y, or boot with slub_debug=FZPU"))  # fmt: skip
    return lacking


def _debug_package(release: str | None, build: str | None) -> str:
    """The command that installs vmlinux with debug info, from the release string's habits."""
    if not release or not _PLAIN.fullmatch(release):
        return "--vmlinux FILE of the crashed kernel (its release is not in the log)"
    text = f"{release} {build or ''}"
    for pattern, command in _PACKAGES:
        if re.search(pattern, text):
            return command.format(release=release)
    return (f"--vmlinux FILE: the vmlinux left by the build of {release} "
            "(CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y)")  # fmt: skip


_PACKAGES = (
    (r"Debian|-\d+-(?:cloud-|rt-)?(?:amd64|arm64|686|riscv64)\b|\+deb|\bdeb1\d",
     "apt install linux-image-{release}-dbg, then "
     "--vmlinux /usr/lib/debug/boot/vmlinux-{release}"),
    (r"Ubuntu|-(?:generic|lowlatency|aws|azure|gcp|oracle|kvm)\b",
     "enable ddebs.ubuntu.com, apt install linux-image-{release}-dbgsym, then "
     "--vmlinux /usr/lib/debug/boot/vmlinux-{release}"),
    (r"\.(?:fc|el)\d+", "dnf debuginfo-install kernel-{release}, then "
     "--vmlinux /usr/lib/debug/lib/modules/{release}/vmlinux"),
    (r"-default\b|\.lp\d+|SUSE", "zypper install kernel-default-debuginfo, then "
     "--vmlinux /usr/lib/debug/boot/vmlinux-{release}.debug"),
    (r"-arch\d", "the vmlinux of debuginfod: export DEBUGINFOD_URLS=https://debuginfod.archlinux.org"),
)  # fmt: skip
