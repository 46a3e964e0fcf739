"""Titles, kinds and integrity, family by family."""

from __future__ import annotations

import pytest

from kagent.klog import Report, parse_log
from kagent.klog.formats import FAMILIES
from kagent.klog.kinds import UNKNOWN, kind_of
from kagent.klog.rust import demangle

TRACE = """\
Call Trace:
 <TASK>
 dump_stack_lvl+0x66/0x90
 widget_apply+0x1e/0x70 [widget]
 widget_write+0x65/0x90 [widget]
 __x64_sys_write+0x10/0x20
 do_syscall_64+0x5d/0xb0
 </TASK>
"""
PC = "RIP: 0010:widget_apply+0x1e/0x70 [widget]\n" + TRACE
STALL = (
    "RIP: 0010:widget_spin+0x5/0x10 [widget]\nCall Trace:\n"
    " widget_poll+0x2/0x9 [widget]\n widget_thread+0x4/0x9 [widget]\n kthread+0xda/0x100\n"
)
LOCK = "at: widget_lock+0x1f/0x80 [widget]\n"


def only(log: str) -> Report:
    reports = parse_log(log).reports
    assert len(reports) == 1, [r.title for r in reports]
    return reports[0]


CASES = {
    "BUG: kernel NULL pointer dereference, address: 0000000000000018\n" + PC: (
        "BUG: unable to handle kernel NULL pointer dereference in widget_apply",
        "NULL-POINTER-DEREFERENCE",
    ),
    "BUG: unable to handle page fault for address: ffffc90000000008\n" + PC: (
        "BUG: unable to handle kernel paging request in widget_apply",
        "MEMORY_SAFETY_BUG",
    ),
    "general protection fault, probably for non-canonical address 0xdead000000000100: "
    "0000 [#1] PREEMPT SMP\n" + PC: ("general protection fault in widget_apply", "DoS"),
    "Oops: general protection fault, probably for non-canonical address 0xdead000000000100: "
    "0000 [#1] SMP\n" + PC: ("general protection fault in widget_apply", "DoS"),
    "divide error: 0000 [#1] PREEMPT SMP\n" + PC: ("divide error in widget_apply", "DoS"),
    "int3: 0000 [#1] SMP\n" + PC: ("int3 in widget_apply", "DoS"),
    "stack segment: 0000 [#1] SMP\n" + PC: ("stack segment fault in widget_apply", "DoS"),
    "invalid opcode: 0000 [#1] SMP\n" + PC: ("invalid opcode in widget_apply", "DoS"),
    "PANIC: double fault, error_code: 0x0\n" + PC: ("PANIC: double fault in widget_apply", "DoS"),
    "kernel BUG at drivers/widget.c:12!\ninvalid opcode: 0000 [#1] SMP\n" + PC: (
        "kernel BUG in widget_apply",
        "BUG",
    ),
    "kernel BUG at mm/usercopy.c:99!\n" + PC: ("BUG: bad usercopy in widget_apply", "BUG"),
    "kernel BUG at lib/list_debug.c:56!\n" + PC: (
        "BUG: corrupted list in widget_apply",
        "MEMORY_SAFETY_BUG",
    ),
    "BUG: KASAN: slab-out-of-bounds in widget_apply+0x1e/0x70\n"
    "Write of size 4 at addr ffff888005b0e4c0 by task a/1\n\n" + TRACE: (
        "KASAN: slab-out-of-bounds Write in widget_apply",
        "KASAN-WRITE",
    ),
    "BUG: KASAN: double-free in widget_apply+0x1e/0x70\n"
    "Free of addr ffff888005b0e4c0 by task a/1\n\n" + TRACE: (
        "KASAN: invalid-free in widget_apply",
        "KASAN-INVALID-FREE",
    ),
    "BUG: KMSAN: uninit-value in widget_apply+0x1e/0x70\n widget_apply+0x1e/0x70\n\n"
    "Uninit was created at:\n widget_alloc+0x1/0x2\n": (
        "KMSAN: uninit-value in widget_apply",
        "KMSAN-UNINIT-VALUE",
    ),
    "BUG: KMSAN: kernel-infoleak in kmsan_copy_to_user+0x1/0x2\nCPU: 0 PID: 7 Comm: a\n"
    + TRACE
    + "\nLocal variable ----buf@widget_get created at:\n widget_get+0x1/0x2\n": (
        "KMSAN: kernel-infoleak in widget_apply",
        "KMSAN-INFO-LEAK",
    ),
    "BUG: KCSAN: data-race in widget_get / widget_put\n\n"
    "write to 0xffff888005b0e4c0 of 4 bytes by task 7 on cpu 1:\n widget_put+0x1/0x2\n": (
        "KCSAN: data-race in widget_get / widget_put",
        "KCSAN-DATARACE",
    ),
    "BUG: KFENCE: use-after-free read in widget_apply+0x1e/0x70\n\n"
    "Use-after-free read at 0xffff888005b0e4c0 (in kfence-#7):\n widget_apply+0x1e/0x70\n": (
        "KFENCE: use-after-free read in widget_apply",
        "KFENCE-USE-AFTER-FREE-READ",
    ),
    "UBSAN: shift-out-of-bounds in drivers/widget.c:9:3\n" + TRACE: (
        "UBSAN: shift-out-of-bounds in widget_apply",
        "UBSAN",
    ),
    "WARNING: CPU: 0 PID: 1 at drivers/widget.c:9 widget_apply+0x1e/0x70\n" + PC: (
        "WARNING in widget_apply",
        "WARNING",
    ),
    "WARNING: drivers/widget.c:9 at widget_apply+0x1e/0x70, CPU#2: widgetd/77\n" + PC: (
        "WARNING in widget_apply",
        "WARNING",
    ),
    "WARNING: CPU: 0 PID: 1 at lib/refcount.c:28 refcount_warn_saturate+0x1/0x2\n" + PC: (
        "WARNING: refcount bug in widget_apply",
        "REFCOUNT_WARNING",
    ),
    "WARNING: CPU: 0 PID: 1 at lib/debugobjects.c:5 debug_print_object+0x1/0x2\n" + PC: (
        "WARNING: ODEBUG bug in widget_apply",
        "WARNING",
    ),
    "WARNING: possible recursive locking detected\na/1 is trying to acquire lock:\n"
    "ffffffffc0000000 (&w->lock){+.+.}-{3:3}, " + LOCK + TRACE: (
        "possible deadlock in widget_lock",
        "LOCKDEP",
    ),
    "WARNING: bad unlock balance detected!\na/1 is trying to release lock (&w->lock) at:\n"
    "[<ffffffffc0000010>] widget_unlock+0x1/0x2\nbut there are no more locks to release!\n"
    + TRACE: ("WARNING: bad unlock balance in widget_unlock", "LOCKDEP"),
    "WARNING: suspicious RCU usage\n6.1.0 #1 Not tainted\n"
    "drivers/widget.c:9 suspicious rcu_dereference_check() usage!\n" + TRACE: (
        "WARNING: suspicious RCU usage in widget_apply",
        "LOCKDEP",
    ),
    "BUG: sleeping function called from invalid context at mm/slab.h:1\n" + TRACE: (
        "BUG: sleeping function called from invalid context in widget_apply",
        "ATOMIC_SLEEP",
    ),
    "BUG: scheduling while atomic: a/1/0x00000002\n" + TRACE: (
        "BUG: scheduling while atomic in widget_apply",
        "ATOMIC_SLEEP",
    ),
    "BUG: using smp_processor_id() in preemptible [00000000] code: a/1\n" + TRACE: (
        "BUG: using smp_processor_id() in preemptible code in widget_apply",
        "LOCKDEP",
    ),
    "watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [widgetd:77]\n" + STALL: (
        "BUG: soft lockup in widget_thread",
        "HANG",
    ),
    "rcu: INFO: rcu_preempt self-detected stall on CPU\n" + STALL: (
        "INFO: rcu detected stall in widget_thread",
        "HANG",
    ),
    "watchdog: Watchdog detected hard LOCKUP on cpu 2\n" + STALL: (
        "hard LOCKUP in widget_thread",
        "HANG",
    ),
    "INFO: task a:1 blocked for more than 120 seconds.\nCall Trace:\n __schedule+0x1/0x2\n"
    " schedule+0x1/0x2\n __mutex_lock+0x1/0x2\n widget_apply+0x1e/0x70\n": (
        "INFO: task hung in widget_apply",
        "HANG",
    ),
    "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: "
    "widget_apply+0x99/0x99\n": ("kernel panic: stack is corrupted in widget_apply", "DoS"),
    "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n" + TRACE: (
        "kernel panic: VFS: Unable to mount root fs on unknown-block(NUM,NUM)",
        "DoS",
    ),
    "BUG widget_cache (Tainted: G    B   ): Poison overwritten\n" + TRACE: (
        "slab corruption in widget_cache: Poison overwritten",
        "MEMORY_SAFETY_BUG",
    ),
    "unregister_netdevice: waiting for lo to become free. Usage count = 2\n": (
        "unregister_netdevice: waiting for DEV to become free",
        "DoS",
    ),
    "Kernel bug detected[#1]:\nepc   : ffffffff80123456 widget_apply+0x44/0xc0\n" + TRACE: (
        "kernel BUG in widget_apply",
        "BUG",
    ),
    "illegal operation: 0001 ilc:1 [#1] SMP\n"
    "Krnl PSW : 0704c00180000000 000003ff8012a0c4 (widget_apply+0x44/0xb0)\n" + TRACE: (
        "illegal operation in widget_apply",
        "DoS",
    ),
}


@pytest.mark.parametrize("log", CASES, ids=[title for title, _ in CASES.values()])
def test_title_and_kind(log: str) -> None:
    report = only(log)
    assert (report.title, report.kind) == CASES[log]
    assert not report.corrupted, report.corrupted_reason
    if report.frame:
        assert report.frame in report.title


def test_system_calls_have_titles_for_every_wrapper() -> None:
    log = (
        "general protection fault: 0000 [#1] SMP\nRIP: 0010:__se_sys_swap+0x1/0x2\n"
        "Call Trace:\n do_syscall_64+0x1/0x2\n ret+0x1/0x2\n"
    )
    report = only(log)
    assert report.title == "general protection fault in swap"
    assert {"general protection fault in sys_swap", "bad-access in __se_sys_swap"} < set(
        report.alt_titles
    )


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("BUG: unable to handle kernel \n" + PC, "header"),
        ("BUG: KASAN: use-after-free in widget_apply+0x1/0x2\n", "header"),
        ("divide error: 0000 [#1] SMP\nCall Trace:\n", "no frame"),
        ("kernel BUG at a.c:1!\nRIP: 0010:widget_apply+0x1/0x2\n", "no stack"),
        (
            "kernel BUG at a.c:1!\nRIP: 0010:widget_apply+0x1/0x2\nCall Trace:\n<x>\n<y>\n<z>\n",
            "no frames",
        ),
        ("Kernel panic - not syncing: Fatal exception\n" + TRACE, "header"),
        ("Oops: 0002 [#1] SMP\n" + PC, "header"),
        ("UBSAN: \n" + TRACE, "header"),
        ("BUG: KASAN: \n" + TRACE, "header"),
        ("WARNING: possi[    1.234567] ble circular\n", "time stamp"),
    ],
)
def test_broken_reports_say_why(log: str, reason: str) -> None:
    report = only(log)
    assert report.corrupted
    assert reason in (report.corrupted_reason or "")


@pytest.mark.parametrize(
    "line",
    [
        "ODEBUG: selftest passed",
        "INFO: lockdep is turned off.",
        "EXT4-fs (sda1): WARNING: mounting unchecked fs",
        "WARNING: See https://example.org for mitigation options.",
        "perf: interrupt took too long (2502 > 2500), lowering",
        "systemd[1]: Starting Error Reporting (panic, oops, BUG)...",
        "DEBUG: nothing",
    ],
)
def test_lookalikes_are_no_reports(line: str) -> None:
    assert parse_log(f"[    1.000000] {line}\n").reports == ()


def test_a_report_by_another_cpu_does_not_mix_in() -> None:
    log = (
        "[   1.000000][   T10] BUG: kernel NULL pointer dereference, address: 0000000000000018\n"
        "[   1.000001][   T11] RIP: 0010:stranger+0x1/0x2\n"
        "[   1.000002][   T10] RIP: 0010:widget_apply+0x1e/0x70 [widget]\n"
        "[   1.000003][   T11] Call Trace:\n[   1.000004][   T11]  stranger_two+0x1/0x2\n"
        "[   1.000005][   T10] Call Trace:\n"
        "[   1.000006][   T10]  widget_write+0x65/0x90 [widget]\n"
        "[   1.000007][   T10]  vfs_write+0x65/0x90\n"
    )
    report = only(log)
    assert [f.symbol for f in report.call_frames] == ["widget_apply", "widget_write", "vfs_write"]


UNKNOWN_HEADERS = {
    "[8.0][T412] BUG: foo\n"
    "[8.0][T412] BUG: KASAN: use-after-free in bar+0x1/0x20\n"
    "[8.0][T412] Read of size 8 at addr ffff888000000000 by task a/1\n": (
        "KASAN: use-after-free Read in bar",
    ),
    "[7.0][T31] INFO: something\n"
    "[7.1][T31] INFO: task a:1 blocked for more than 143 seconds.\n"
    "[7.2][T31] Call Trace:\n[7.3][T31]  foo+0x1/0x2\n": ("INFO: task hung in foo",),
    "[1.0][C1] Kernel panic\n[1.0][C1] Kernel panic - not syncing: t\n": ("kernel panic: t",),
    "[3.0][T5] BUG: no such mode\n"
    "[3.1][T6] BUG: KCSAN: data-race in foo / bar\n"
    "[3.2][T5] usb 1-1: probing\n": (
        "BUG: no such mode",
        "KCSAN: data-race in foo / bar",
    ),
    "BUG: no such mode\nBUG: KCSAN: data-race in foo / bar\n": (
        "BUG: no such mode",
        "KCSAN: data-race in foo / bar",
    ),
}


@pytest.mark.parametrize("log", UNKNOWN_HEADERS)
def test_an_unknown_header_is_named_by_what_its_context_goes_on_to_report(log: str) -> None:
    reports = parse_log(log).reports
    assert tuple(report.title for report in reports) == UNKNOWN_HEADERS[log]
    assert not any(report.repeats for report in reports)
    assert reports[0].span[0] == 0


SYMBOLIZED = {
    "KASAN: slab-use-after-free Read in widget_apply": (
        "BUG: KASAN: slab-use-after-free in atomic_read include/linux/atomic.h:32 [inline]\n"
        "BUG: KASAN: slab-use-after-free in widget_busy drivers/widget.c:10 [inline]\n"
        "BUG: KASAN: slab-use-after-free in widget_apply+0x1e/0x70 drivers/widget.c:20\n"
        "Read of size 4 at addr ffff888005b0e4c0 by task a/1\n\n" + TRACE
    ),
    "KASAN: slab-use-after-free Write in widget_apply": (  # ... and folded
        "BUG: KASAN: slab-use-after-free in atomic_inc\ninclude/linux/atomic.h:42 [inline]\n"
        "BUG: KASAN: slab-use-after-free in\nwidget_busy drivers/widget.c:10 [inline]\n"
        "BUG: KASAN: slab-use-after-free in widget_apply+0x1e/0x70\ndrivers/widget.c:20\n"
        "Write of size 4 at addr ffff888005b0e4c0 by task a/1\n\n" + TRACE
    ),
    "WARNING in widget_apply": (
        "WARNING: CPU: 0 PID: 1 at drivers/widget.c:9 widget_check drivers/widget.c:9 [inline]\n"
        "WARNING: CPU: 0 PID: 1 at drivers/widget.c:9 widget_apply+0x1e/0x70 drivers/widget.c:20\n"
        + PC
    ),
    "KFENCE: use-after-free read in widget_apply": (
        "BUG: KFENCE: use-after-free read in widget_busy drivers/widget.c:10 [inline]\n"
        "BUG: KFENCE: use-after-free read in widget_apply+0x1e/0x70 drivers/widget.c:20\n\n"
        "Use-after-free read at 0xffff888005b0e4c0 (in kfence-#7):\n widget_apply+0x1e/0x70\n"
    ),
}


@pytest.mark.parametrize("title", SYMBOLIZED)
def test_a_symbolized_header_is_repeated_for_each_inlined_function(title: str) -> None:
    report = only(SYMBOLIZED[title])
    assert report.title == title
    assert not report.corrupted
    assert "widget_apply+0x1e" in report.header


def test_inlined_headers_alone_are_a_report() -> None:
    report = only("BUG: KASAN: use-after-free in widget_busy drivers/widget.c:10 [inline]\n")
    assert report.corrupted


def test_a_tasks_name_may_have_line_breaks() -> None:
    report = only(
        "[  286.100000][   T31] INFO: task fs\n"
        "[  286.100001][   T31] \tcheck:5612 blocked for more than 143 seconds.\n"
        "[  286.100002][   T31] Call Trace:\n[  286.100003][   T31]  __schedule+0x1/0x2\n"
        "[  286.100004][   T31]  schedule+0x1/0x2\n[  286.100005][   T31]  widget_apply+0x1/0x2\n"
    )
    assert report.title == "INFO: task hung in widget_apply"
    assert not report.corrupted


def test_the_stack_of_panic_on_warn_is_no_substitute_for_the_reports_own() -> None:
    note = "Disabling lock debugging due to kernel taint\n"
    for lines, corrupted in ((20, False), (21, True)):
        report = only(
            "kernel BUG at a.c:1!\n"
            + "RIP: 0010:widget_apply+0x1e/0x70\n" * (lines - 1)
            + note
            + "Kernel panic - not syncing: Fatal exception\n"
            + TRACE
        )
        assert report.title == "kernel BUG in widget_apply"
        assert report.corrupted == corrupted


def test_a_stall_is_named_by_what_the_timer_interrupted() -> None:
    stalled = (
        "rcu: INFO: rcu_preempt self-detected stall on CPU\nCall Trace:\n <IRQ>\n"
        " rcu_sched_clock_irq+0x1/0x2\n asm_sysvec_apic_timer_interrupt+0x1/0x2\n </IRQ>\n"
    )
    busy = " widget_spin+0x1/0x2\n widget_thread+0x1/0x2\n kthread+0x1/0x2\n"
    injected = " should_fail.cold+0x1/0x2\n"
    assert only(stalled + busy).title == "INFO: rcu detected stall in widget_thread"
    mixed = only(stalled + busy + injected)
    assert mixed.title == "INFO: rcu detected stall in widget_thread"
    assert mixed.corrupted


def test_work_is_queued_for_its_owner_but_a_kthreads_delayed_work_is_its_own() -> None:
    for queue, blamed in (
        ("queue_delayed_work_on", "widget_apply"),
        ("kthread_queue_delayed_work", "kthread_queue_delayed_work"),
    ):
        trace = f"RIP: 0010:{queue}+0x1/0x2\nCall Trace:\n {queue}+0x1/0x2\n"
        log = "general protection fault: 0000 [#1] SMP\n" + trace + " widget_apply+0x1/0x2\n"
        assert only(log + " vfs_write+0x1/0x2\n").frame == blamed


@pytest.mark.parametrize("indent", ["  ", " "])
def test_kmemleaks_backtrace_may_have_lost_its_indentation(indent: str) -> None:
    report = only(
        "BUG: memory leak\nunreferenced object 0xffff888005b0e4c0 (size 64):\n"
        f"{indent}backtrace (crc 0):\n    kmalloc+0x1/0x2\n    widget_probe+0x1/0x2\n"
        "    really_probe+0x1/0x2\n"
    )
    assert report.title == "memory leak in widget_probe"
    assert not report.corrupted


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("BUG: KCSAN: ", "KCSAN:"),
        ("Kernel panic - not syncing: ", "kernel panic:"),
    ],
)
def test_a_header_may_say_nothing(line: str, title: str) -> None:
    assert only(f"[    1.000000] {line}\n").title == title


READ_FOR_THE_TITLE = {
    "a detail without its rest": "BUG: KASAN: use-after-free in r+0x1/0x2\nRead of size 8\n",
    "a cut-off PC": "[1.0][C1]Unable to handle kernel paging request\n[1.0][C1]PC is at h+",
    "a cut-off frame": "unreferenced object 0x10\n backtrace (crc 1):\n d+",
    "the frame that decides": "[0.0] BUG: soft lockup\n[0.0] RIP: 0010:f+0x1/0x2\n"
    "[0.0] Call Trace:\n[0.0]  g+\n[0.0]  ret_from_fork+",
    "another report's stack": "[1.0][T1] WARNING: Nested lock was not taken\n"
    "[1.1][T1] general protection fault: 0000 [#1] SMP\n"
    "[1.2][T1] RIP: 0010:__lock_acquire+0x1/0x2\n"
    "[1.3][T1] Call Trace:\n[1.4][T1]  lock_acquire+0x1/0x2\n[1.5][T1]  widget_fill+0x1/0x2\n",
}


@pytest.mark.parametrize("name", READ_FOR_THE_TITLE)
def test_the_span_holds_every_line_the_title_was_read_from(name: str) -> None:
    data = READ_FOR_THE_TITLE[name].encode()
    first = parse_log(data + b"\n\nsomething else\n").reports[0]
    assert first.span[1] == len(data.rstrip())
    assert parse_log(data[slice(*first.span)]).reports[0].title == first.title
    assert "corrupted" not in first.title


def test_a_users_program_counter_is_never_the_reports() -> None:
    report = only(
        "INFO: task a:1 blocked for more than 120 seconds.\n" + TRACE + "RIP: 0033:0x401234\n"
    )
    assert report.pc is None


def test_user_faults_and_sysrq_are_no_kernel_bugs() -> None:
    log = parse_log(
        "viewer[42]: segfault at 10 ip 00005581a3b1c2d4 sp 00007ffdb1c2d3e0 error 4\n"
        "sysrq: Trigger a crash\nKernel panic - not syncing: sysrq triggered crash\n" + TRACE
    )
    assert [r.title for r in log.reports] == [
        "segfault in viewer",
        "kernel panic: sysrq triggered crash",
    ]
    assert not any(r.kernel_bug for r in log.reports)
    assert log.primary == 0


def test_sysrq_t_yields_tasks_but_no_report() -> None:
    log = parse_log(
        "[    9.000000] sysrq: Show Blocked State\n"
        "[    9.000001] task:mv_a state:D stack:0 pid:64 ppid:1 flags:0x0\n"
        "[    9.000002] Call Trace:\n[    9.000003]  __schedule+0x1/0x2\n"
        "[    9.000004] task:mv_b state:D stack:0 pid:65 ppid:1 flags:0x0\n"
        "[    9.000005] Call Trace:\n[    9.000006]  __schedule+0x1/0x2\n"
    )
    assert log.reports == ()
    assert [(t.comm, t.pid, t.state, len(t.frames), t.source) for t in log.tasks] == [
        ("mv_a", 64, "D", 1, "sysrq"),
        ("mv_b", 65, "D", 1, "sysrq"),
    ]


def test_every_family_can_be_told_by_its_marker() -> None:
    for family in FAMILIES:
        for form in family.formats:
            assert form.blame is None or all(form.blame.ways)
            assert "{frame}" not in form.title or form.blame or form.details


def test_kinds() -> None:
    assert kind_of("KASAN: use-after-free Write in f") == "KASAN-USE-AFTER-FREE-WRITE"
    assert kind_of("KASAN: use-after-free in f") == "KASAN-USE-AFTER-FREE-READ"
    assert kind_of("WARNING: corrupted") == UNKNOWN
    assert kind_of("something else") == UNKNOWN


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar"),
        (
            "_RNvMs3_NtCs1_6binder7processNtB5_7Process10update_ref",
            "<binder::process::Process>::update_ref",
        ),
        (
            "_RNvXs1_Cs1_6ashmemNtB5_6AshmemNtNtCs2_6kernel4misc6Device4mmap",
            "<ashmem::Ashmem as kernel::misc::Device>::mmap",
        ),
        ("_RINvCs1_4core4swapmE", "core::swap::<u32>"),
        ("_RNCNvCs1_4core4main0B3_", "core::main::{closure#0}"),
        ("_RNCNvC6kernel4init0", "kernel::init::{closure#0}"),
        ("_RNvNCC6kernel03run", "kernel::{closure#0}::run"),
        ("_RINvC6kernel4initKb1_Kc61_E", "kernel::init::<true, 'a'>"),
        (
            "_RINvC6kernel4initTjEFUKCjEyE",
            'kernel::init::<(usize,), unsafe extern "C" fn(usize) -> u64>',
        ),
        ("_RINvC6kernel4initDNtC4core3AnyEL_E", "kernel::init::<dyn core::Any>"),
        ("_RINvC6kernel4initFG_RL0_eEuE", "kernel::init::<for<'a> fn(&'a str)>"),
        ("_RNvXC6kernelINtC5alloc3VechENtC4core4Drop4drop", "<alloc::Vec<u8> as core::Drop>::drop"),
        ("_RINvC6kernel4initL0_E", "_RINvC6kernel4initL0_E"),
        ("_ZN4core9panicking5panic17h0123456789abcdefE", "core::panicking::panic"),
        ("_Z3fooi", "foo"),
        ("_RBroken", "_RBroken"),
        ("vfs_read", "vfs_read"),
    ],
)
def test_rust_names(mangled: str, name: str) -> None:
    assert demangle(mangled) == name


def test_the_frame_that_disabled_preemption_is_no_part_of_the_stack() -> None:
    header = "BUG: scheduling while atomic: a/1/0x00000002\nPreemption disabled at:\n"
    report = only(header + "[<ffffffff8709e980>] culprit+0x1f0/0x2e30\n" + TRACE)
    assert "culprit" not in [frame.symbol for frame in report.call_frames]


def test_a_line_the_console_prints_again_is_one_report() -> None:
    log = (
        "[    5.000000][   T31] INFO: t\n** replaying previous printk message **\n"
        "[    5.000000][   T31] INFO: task a:1 blocked for more than 143 seconds.\n"
        "[    5.000001][   T31] Call trace:\n[    5.000002][   T31]  __switch_to+0x2/0x6 (T)\n"
        "[    5.000003][   T31]  schedule+0xa4/0x140\n"
        "[    5.000004][   T31]  widget_wait_bit+0x6/0x9\n"
        "[    5.000005][   T31]  widget_read+0x6/0x9\n"
    )
    report = only(log)
    assert report.title == "INFO: task hung in widget_read"
    assert len(report.call_frames) == 4


def test_tasks_of_old_kernels() -> None:
    log = parse_log(
        "[    9.000000] SysRq : Show Blocked State\n"
        "[    9.000001] rcu_preempt     I29040    10      2 0x80004000\n"
        "[    9.000002] Call Trace:\n[    9.000003]  __schedule+0x1/0x2\n"
        "[    9.000004] syz worker      D ffff88003e0e1a40     0   402    401 0x00000000\n"
        "[    9.000005] Call Trace:\n[    9.000006]  [<ffffffff81001234>] __schedule+0x1/0x2\n"
    )
    assert [(t.comm, t.pid, t.state) for t in log.tasks] == [
        ("rcu_preempt", 10, "I"),
        ("syz worker", 402, "D"),
    ]


def test_arms_stacks_without_addresses() -> None:
    report = only(
        "Unhandled fault: page domain fault (0x01b) at 0x00000018\nPC is at widget_apply+0x1/0x2\n"
        "Backtrace: \n widget_apply from widget_write+0x10/0x20\n"
        " widget_write from vfs_write+0x1/0x2\n"
        " vfs_write from ksys_write+0x1/0x2\n"
    )
    assert report.title == "Unhandled fault in widget_apply"
    assert not report.corrupted
    names = [frame.symbol for frame in report.call_frames]
    assert names == ["widget_apply", "widget_write", "vfs_write", "ksys_write"]
