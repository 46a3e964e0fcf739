"""Repetitions, consequences, panics and fingerprints."""

from __future__ import annotations

from pathlib import Path

from kagent.klog import parse_log

DATA = Path(__file__).parents[1] / "data" / "klog"


def oops(
    seconds: int, taint: str = "Not tainted", number: int = 1, function: str = "widget"
) -> str:
    lines = f"""\
BUG: kernel NULL pointer dereference, address: 0000000000000018
Oops: 0000 [#{number}] SMP
CPU: 1 PID: {40 + number} Comm: w{number} {taint} 6.1.0-18-amd64 #1 Debian 6.1.76-1
RIP: 0010:{function}+0x1e/0x70 [widget]
Call Trace:
 {function}_write+0x65/0x90 [widget]
 vfs_write+0xc7/0x3f0
---[ end trace 0000000000000000 ]---
"""
    stamped = (f"[{seconds:5}.{n:06}] {line}\n" for n, line in enumerate(lines.splitlines()))
    return "".join(stamped)


def test_an_oops_after_an_oops_is_a_consequence() -> None:
    log = parse_log(oops(1) + oops(2, "Tainted: G      D W        ", 2, "gadget"))
    assert [r.caused_by for r in log.reports] == [None, 0]
    assert log.primary == 0


def test_a_task_that_waits_for_a_dead_owner_is_a_consequence() -> None:
    hang = (
        "[  242.000000] INFO: task reader:88 blocked for more than 120 seconds.\n"
        "[  242.000001]       Tainted: G      D            6.1.0-18-amd64 #1\n"
        "[  242.000002] task:reader state:D stack:0 pid:88 ppid:1 flags:0x0\n"
        "[  242.000003] Call Trace:\n[  242.000004]  __schedule+0x1/0x2\n"
        "[  242.000005]  __mutex_lock.constprop.0+0x1/0x2\n"
        "[  242.000006]  widget_read+0x1f/0x80 [widget]\n"
    )
    log = parse_log(oops(1) + hang)
    assert [(r.title, r.caused_by) for r in log.reports] == [
        ("BUG: unable to handle kernel NULL pointer dereference in widget", None),
        ("INFO: task hung in widget_read", 0),
    ]
    alone = parse_log(hang.replace("D     ", "      "))
    assert [r.caused_by for r in alone.reports] == [None]


def test_a_remark_without_a_stack_does_not_come_first() -> None:
    log = parse_log("[    0.9] BUG: the firmware lies about its fans\n" + oops(1))
    assert [r.kind for r in log.reports] == ["UNKNOWN", "NULL-POINTER-DEREFERENCE"]
    assert log.primary == 1
    assert parse_log("[    0.9] BUG: the firmware lies about its fans\n").primary == 0


def test_nothing_crosses_a_reboot() -> None:
    banner = "[    0.000000] Linux version 6.1.0-18-amd64 (b@h) (gcc) #1 SMP Debian 6.1.76-1\n"
    log = parse_log(
        oops(1) + banner + oops(1) + oops(2, "Tainted: G      D W        ", 2, "gadget")
    )
    assert [r.caused_by for r in log.reports] == [None, None, 1]
    assert [r.repeats for r in log.reports] == [0, 0, 0]


def test_equal_reports_are_folded() -> None:
    log = parse_log(oops(1) + oops(2) + oops(3))
    assert [r.repeats for r in log.reports] == [2]


def test_a_flood_is_counted() -> None:
    line = "[    1.000000] WARNING: CPU: 0 PID: {} at mm/a.c:1 foo+0x1/0x2\n"
    log = parse_log("".join(line.format(n) for n in range(500)))
    assert sum(1 + r.repeats for r in log.reports) == 500
    assert len(log.reports) < 60


def test_a_panic_belongs_to_the_report_before_it() -> None:
    log = parse_log(oops(1) + "[    1.5] Kernel panic - not syncing: Fatal exception\n")
    assert [(r.panicked, r.corrupted) for r in log.reports] == [(True, False)]


def test_a_deadlock_after_lockdeps_warning() -> None:
    warning = (DATA / "lockdep-circular.log").read_text()
    hang = (
        "[  240.000000][   T31] INFO: task cachectl:900 blocked for more than 120 seconds.\n"
        "[  240.000001][   T31] task:cachectl state:D stack:0 pid:900 ppid:1 flags:0x0\n"
        "[  240.000002][   T31] Call Trace:\n[  240.000003][   T31]  __schedule+0x1/0x2\n"
        "[  240.000004][   T31]  cache_shrink+0x1f/0x80 [tilecache]\n"
        "[  240.000005][   T31]  cache_resize+0x5d/0x90 [tilecache]\n"
    )
    log = parse_log(warning + hang)
    assert [(r.kind, r.caused_by) for r in log.reports] == [("LOCKDEP", None), ("HANG", 0)]
    task = next(t for t in log.tasks if t.comm == "cachectl")
    assert [lock.name for lock in task.held] == ["&cache->map_lock"]
    assert task.frames


def test_fingerprints_do_not_depend_on_the_build() -> None:
    one = parse_log(oops(1)).reports[0]
    rebuilt = oops(1).replace("+0x1e/0x70", "+0x2f/0x88").replace("+0x65/0x90", "+0x6a/0x95")
    other = parse_log(rebuilt.replace("widget+", "widget.isra.0+")).reports[0]
    assert one.fingerprint == other.fingerprint
    assert len(one.fingerprint) == 16
    assert parse_log(oops(1, function="gadget")).reports[0].fingerprint != one.fingerprint


def test_a_boot_banner_tells_the_release_of_bare_reports() -> None:
    banner = "[    0.000000] Linux version 6.1.0-18-amd64 (b@h) (gcc) #1 SMP Debian 6.1.76-1\n"
    log = parse_log(
        banner + "[    9.0] a[1]: segfault at 0 ip 0000000000401780 sp 00007f error 6\n"
    )
    assert log.reports[0].context.kernel == "6.1.0-18-amd64"
    assert log.reports[0].context.build == "#1 SMP Debian 6.1.76-1"
