"""What to do next, and what datum would prove more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress

from kagent.commits.packing import is_posted
from kagent.diagnosis.actions import SlotError, clean, render
from kagent.diagnosis.lock_advice import lock_advice
from kagent.diagnosis.meaning import shadow_range
from kagent.klog.model import KernelLog, Report
from kagent.klog.oom_model import OomFacts
from kagent.klog.release import read_release
from kagent.klog.titles import NOBODY
from kagent.resolution import NO_INDEX, Actions, Deadlock, Fault, Fix, Missing
from kagent.symbols.model import Symbolized

__all__ = ["advise", "blamed_modules", "missing_data"]

# What verifies a fix of such a bug, by the report's kind or title.
_VERIFY: tuple[tuple[str, str], ...] = (
    (r"KASAN|use-after-free|double.free|corrupted list|list_(?:add|del)|poison", "debug-heap"),
    (r"refcount", "debug-refcount"),
    (r"LOCKDEP|HANG|deadlock|hung|lockup|stall", "debug-locks"),
    (r"ATOMIC_SLEEP|scheduling while atomic|invalid context", "debug-atomic"),
    (r"UBSAN|divide error", "debug-values"),
    (r"KCSAN|data-race", "debug-races"),
    (r"LEAK|memory leak", "debug-leaks"),
    (r"NULL|null-ptr|paging request|general protection|page fault", "debug-pointers"),
)
_HANGS = re.compile(r"HANG|hung|lockup|stall", re.IGNORECASE)
_HARDLY = 0.2
_NAMED = 8


def advise(
    report: Report, fault: Fault | None, deadlock: Deadlock | None, fixes: Sequence[Fix]
) -> Actions:
    """Upgrade or patch, verify, and what to do until then."""
    if report.oom is not None:
        return _more_memory(report.oom)
    if not report.kernel_bug:
        return Actions(fix=[render("not-the-kernel")])
    return Actions(
        fix=_fix(report, fault, deadlock, fixes),
        verify=_verify(report),
        mitigate=_mitigate(report, fault),
    )


def _more_memory(oom: OomFacts) -> Actions:
    fix = (
        render("more-memory-cgroup", {"cgroup": oom.memcg}) if oom.memcg else render("more-memory")
    )
    return Actions(fix=[fix], verify=[render("watch-memory")], mitigate=[render("limit-memory")])


def _fix(
    report: Report, fault: Fault | None, deadlock: Deadlock | None, fixes: Sequence[Fix]
) -> list[str]:
    steps = [_apply(fix) for fix in [f for f in fixes if f.confidence >= _HARDLY][:2]]
    remedies = lock_advice(report, deadlock) if deadlock is not None else []
    if remedies:
        steps += remedies
    elif fault is not None and fault.struct is not None:
        place = fault.own_frame or fault
        values = {
            "place": f" at {place.file}:{place.line}" if place.file else "",
            "expression": fault.expression or f"{fault.struct}.{fault.member}",
            "function": place.function or "",
        }
        steps.append(render("check-value", values))
    foreign = [name for name in blamed_modules(report) if name in report.context.out_of_tree]
    return [*steps, *_rendered("report-module", "module", foreign)]


def _apply(fix: Fix) -> str:
    """How to get a commit, by where it has landed."""
    values = {"hash": fix.hash[:12], "subject": fix.subject, "tag": fix.status.upstream_tag or ""}
    if is_posted(fix.hash):
        values["message-id"] = fix.hash
        names = ("shazam", "posted") if "@" in fix.hash else ("posted",)
    elif fix.status.in_kernel:
        names = ("follow-up",)
    else:
        names = ("upgrade-or-pick", "cherry-pick") if fix.status.upstream_tag else ("cherry-pick",)
    for name in names[:-1]:
        with suppress(SlotError):
            return render(name, values)
    return render(names[-1], values)


def _rendered(name: str, slot: str, values: Iterable[str]) -> list[str]:
    """The action for each of `values` that may stand in it."""
    found = []
    for value in values:
        with suppress(SlotError):
            found.append(render(name, {slot: value}))
    return found


def _verify(report: Report) -> list[str]:
    text = f"{report.kind} {report.title} {report.header}"
    found = [name for pattern, name in _VERIFY if re.search(pattern, text, re.IGNORECASE)]
    return [render(name) for name in (*found[:2], "rerun")]


def _mitigate(report: Report, fault: Fault | None) -> list[str]:
    steps = []
    modules = blamed_modules(report)
    if fault is not None and fault.module and fault.module not in modules:
        modules.append(fault.module)
    if "O" in (report.context.taint or "") and not set(modules) & set(report.context.out_of_tree):
        # Documentation/admin-guide/reporting-issues.rst: first without what is not the kernel's.
        named = ", ".join(report.context.out_of_tree[:_NAMED])
        steps.append(render("without-foreign", {"name": f" ({named})"} if named else {"name": ""}))
        modules = []
    steps += _rendered("blacklist", "module", modules[:1])
    if report.kind == "HANG":
        steps.append(render("reboot-on-hang"))
    return steps or [render("avoid")]


def blamed_modules(report: Report) -> list[str]:
    """Modules that the trace runs through, innermost first."""
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
    lacking: list[Missing] = []
    if not report.kernel_bug:
        return lacking
    if not vmlinux:
        lacking.append(Missing(what="debug info of the kernel (vmlinux): source lines and members",
                               how=_debug_package(release, report.context.build)))  # fmt: skip
    used = {frame.module for frame in report.call_frames if frame.module}
    if used and not modules:
        names = ", ".join(sorted(filter(None, used))[:6])
        plural = "s" * (len(used) > 1)
        lacking.append(Missing(what=f"debug info of the module{plural} {names}",
                               how="--modules DIR with their .ko files (and sources)"))  # fmt: skip
    if not source:
        lacking.append(Missing(
            what="the source at the crash's own version: expressions, and locks held",
            how=_source(release, report.context.build),
        ))  # fmt: skip
    if not index:
        how = "kagent index build REPO -o DIR, then --index DIR"
        lacking.append(Missing(what=NO_INDEX, how=how))
    lacking += _from_the_kernel(log, report)
    refused = {item.note for item in symbolized if item.note and "build" in item.note}
    lacking += [Missing(what=note, how=_debug_package(release, report.context.build))
                for note in sorted(refused)[:3]]  # fmt: skip
    return lacking


def _from_the_kernel(log: KernelLog, report: Report) -> list[Missing]:
    """Kernel options whose output would have helped with this very report."""
    lacking = []
    waiting = bool(_HANGS.search(f"{report.kind} {report.title} {report.header}"))
    if waiting and report.locks is None and not any(task.held for task in log.tasks):
        lacking.append(Missing(what="the list of locks each task holds",
                               how="boot a kernel with CONFIG_PROVE_LOCKING=y, and press sysrq-d "
                                   "(echo d > /proc/sysrq-trigger) while it hangs"))  # fmt: skip
    if waiting and report.locks is None and len(log.tasks) < 2:
        lacking.append(Missing(what="the stacks of the other blocked tasks",
                               how="echo w > /proc/sysrq-trigger while it hangs, and add "
                                   "dmesg to the log"))  # fmt: skip
    if report.corrupted and not (report.call_frames and report.corrupted_reason == NOBODY):
        lacking.append(Missing(what="an undamaged report",
                               how="the whole log from a serial console, netconsole or "
                                   "/sys/fs/pstore; CONFIG_PRINTK_CALLER=y tells lines of several "
                                   "CPUs apart"))  # fmt: skip
    heap = re.search(r"use-after-free|poison|general protection|corrupted list|double",
                     report.title + report.header, re.IGNORECASE)  # fmt: skip
    address = report.access.address if report.access else None
    under_kasan = address is not None and shadow_range(address, report.context.arch) is not None
    if heap and not under_kasan and not report.kind.startswith(("KASAN", "KFENCE")):
        lacking.append(Missing(what="who allocated and freed the object",
                               how="CONFIG_KASAN=y, or boot with slub_debug=FZPU"))  # fmt: skip
    return lacking


_TREES = "https://git.kernel.org/pub/scm/linux/kernel/git"


def _source(release: str | None, build: str | None) -> str:
    """How to get the source: a public tree, and the name that it has for this kernel.

    A vendor's tags are in no public tree of kernel.org, and a hash of ``-gHASH`` may be of any.
    """
    try:
        known = read_release(clean("release", release or ""), build)
    except SlotError:
        known = read_release("")
    if known.next_day:
        tag = clean("revision", f"next-{known.next_day}")
        return f"git clone {_TREES}/next/linux-next.git, then --kernel-src linux-next@{tag}"
    clone = f"git clone {_TREES}/stable/linux.git, then --kernel-src linux"
    tag = clean("revision", known.tag or "TAG")
    if known.commit:
        commit = clean("revision", known.commit)
        return f"{clone}@{commit}, or linux@{tag} where the clone has no such commit"
    return f"{clone}@{tag} ({known.note})" if known.tag and known.note else f"{clone}@{tag}"


def _debug_package(release: str | None, build: str | None) -> str:
    """The command that installs vmlinux with debug info, from the release string's habits."""
    try:
        name = clean("release", release or "")
    except SlotError:
        return "--vmlinux FILE of the crashed kernel (its release is not in the log)"
    text = f"{release} {build or ''}"
    for pattern, command in _PACKAGES:
        if re.search(pattern, text):
            return command.format(release=name)
    version = re.match(r"(\d{1,3})\.(\d{1,4})", name)
    # lib/Kconfig.debug made a choice of it in 5.18.
    new = version is None or (int(version[1]), int(version[2])) >= (5, 18)
    option = "CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT" if new else "CONFIG_DEBUG_INFO"
    return f"--vmlinux FILE: the vmlinux left by the build of {name} ({option}=y)"


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
