"""What the author of a log can do: flood, lie, break lines, name things as the kernel speaks.

Work stays bounded, nothing raises, what is not read is counted, and a name that somebody chose
never becomes a statement of the kernel where the two can be told apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support.hangs import hung_log

from kagent.diagnosis import wait_facts
from kagent.klog import KernelLog, parse_log
from kagent.klog.authorship import FIELDS, PRINTED, chooser_of, user_chosen
from kagent.klog.model import Context, Frame, Report, TaskState
from kagent.klog.oom_model import OomVictim

OOPS = """\
BUG: kernel NULL pointer dereference, address: 0000000000000008
#PF: supervisor read access in kernel mode
Oops: 0000 [#1] PREEMPT SMP NOPTI
CPU: 1 PID: 77 Comm: {comm} Not tainted 6.1.0-1-amd64 #1  Debian 6.1.4-1
Hardware name: {hardware}
RIP: 0010:{name}_apply+0x1e/0x70 [widget]
Call Trace:
 <TASK>
 {name}_write+0x65/0x90 [widget]
 vfs_write+0xc7/0x3f0
 </TASK>
---[ end trace 0000000000000000 ]---
"""
EVIL = "BUG: KASAN: a"
"""A task's name: at most 15 bytes, any bytes."""


def oops(name: str = "widget", comm: str = "worker", hardware: str = "QEMU Standard PC") -> str:
    return OOPS.format(name=name, comm=comm, hardware=hardware)


def stamped(text: str, start: float = 10.0) -> str:
    return "".join(f"[{start + n * 1e-3:12.6f}] {row}\n" for n, row in enumerate(text.split("\n")))


def word(number: int) -> str:
    """Another word without digits for each number."""
    letters = ""
    while number:
        number, rest = divmod(number, 26)
        letters += chr(ord("a") + rest)
    return letters or "zero"


def left(log: KernelLog) -> dict[str, tuple[int, int | None]]:
    return {item.what: (item.kept, item.total) for item in log.left_out}


# ── floods ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bystanders", [3, 100, 199, 202, 2000])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("lockdep", [False, True], ids=["owners named", "locks listed"])
def test_the_verdict_does_not_depend_on_bystanders(
    bystanders: int, place: str, lockdep: bool
) -> None:
    at = {"first": 0, "middle": bystanders // 2, "last": bystanders}[place]
    log = parse_log(hung_log(bystanders, circle_at=at, lockdep=lockdep))
    found = wait_facts(log).deadlock
    assert found.verdict == "deadlock"
    assert [{member.task for member in cycle} for cycle in found.cycles] == [{"left", "right"}]
    assert len(found.victims) == bystanders
    assert len(log.tasks) == bystanders + 2


def test_ten_thousand_hung_tasks_are_all_kept() -> None:
    log = parse_log(hung_log(10_000, circle_at=10_000))
    found = wait_facts(log).deadlock
    assert (found.verdict, len(found.victims), len(log.tasks)) == ("deadlock", 10_000, 10_002)
    kept, total = left(log)["alike reports"]
    assert (kept, total) == (len(log.reports), 10_002)


def test_one_warning_five_thousand_times_is_one_report() -> None:
    log = parse_log(stamped(oops()) * 5000)
    assert [report.repeats for report in log.reports] == [4999]
    assert left(log)["alike reports"] == (200, 5000)


def test_equal_headers_with_other_stacks_are_other_reports() -> None:
    """Of a page fault only the stack tells where: the 301st may be another bug."""
    log = parse_log(stamped(oops()) * 300 + stamped(oops("other")))
    assert [r.frame for r in log.reports] == ["widget_apply", "other_apply"]


def test_the_first_cause_is_found_among_thousands_of_others() -> None:
    segfaults = "".join(
        stamped(f"{word(n)}[{n}]: segfault at 10 ip 00005581a3b1c2d4 sp 00007ffd error 4")
        for n in range(2500)
    )
    remarks = "".join(stamped(f"WARNING: {word(n)} is odd") for n in range(2500))
    log = parse_log(segfaults + stamped(oops()) + remarks)
    assert log.primary is not None
    assert log.reports[log.primary].frame == "widget_apply"


def test_a_consequence_is_found_behind_any_number_of_other_reports() -> None:
    dead = stamped(oops())
    others = "".join(stamped(oops(word(n))) for n in range(80))
    hang = stamped(
        "INFO: task w:9 blocked for more than 120 seconds.\n"
        "      Tainted: G      D            6.1.0-1-amd64 #1\n"
        "Call Trace:\n schedule+0x1/0x2\n vol_update+0x1/0x9"
    )
    log = parse_log(dead + others + hang)
    assert log.reports[-1].caused_by == 0


def test_a_flood_of_different_reports_says_what_was_not_kept() -> None:
    from kagent.klog.flood import MAX_REPORTS

    log = parse_log("".join(f"BUG: {word(n)}\n" for n in range(MAX_REPORTS + 50)))
    assert len(log.reports) == MAX_REPORTS
    assert left(log)["different reports"] == (MAX_REPORTS, MAX_REPORTS + 50)


# ── names that read like headers ─────────────────────────────────────────────────────────────

CARRIERS = {
    "comm of a report": oops(comm=EVIL),
    "hardware": oops(hardware="BUG: KASAN: slab-use-after-free in run_me"),
    "usb product": "usb 1-1: Product: BUG: KASAN: use-after-free in evil+0x1/0x2\n" + oops(),
    "hid name": "hid-generic 0003:1234:0001.0001: input: USB HID v1.10 Device [BUG: KASAN: x in "
    "y+0x1/0x2] on usb-0000:00:14.0-1/input0\n" + oops(),
    "input device": "input: BUG: KASAN: x in y as /devices/pci0000:00/input5\n" + oops(),
    "scsi model": "scsi 2:0:0:0: Direct-Access     BUG: KASAN: x in y+0x1/0x2 PQ: 0 ANSI: 5\n"
    + oops(),
    "command line": "Kernel command line: root=/dev/sda1 BUG: KASAN: x in y+0x1/0x2\n" + oops(),
    "executable": "process '/tmp/BUG: KASAN: x in y+0x1/0x2' started with executable stack\n"
    + oops(),
    "exit note": oops() + f"note: {EVIL}[77] exited with irqs disabled\n",
    "ext4 comm": f"EXT4-fs error (device sda1): ext4_lookup:1: inode #2: comm {EVIL}: bad\n"
    + oops(),
    "systemd through kmsg": "systemd[1]: BUG: KASAN: use-after-free in evil+0x1/0x2\n" + oops(),
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_name_is_no_header(carrier: str) -> None:
    log = parse_log(stamped(CARRIERS[carrier]))
    assert [report.title for report in log.reports] == [
        "BUG: unable to handle kernel NULL pointer dereference in widget_apply"
    ]


def test_a_hung_task_may_be_called_anything() -> None:
    hung = hung_log(0).replace("task left:11", f"task {EVIL}:11", 1)
    log = parse_log(hung)
    assert {report.kind for report in log.reports} == {"HANG"}
    assert (EVIL, 11) in {(task.comm, task.pid) for task in log.tasks}


def test_a_name_with_a_line_break_begins_no_report() -> None:
    """``prctl(PR_SET_NAME, "x\\nBUG: KASAN: ab")``: printk() starts a line of its own with it."""
    log = parse_log(stamped(oops(comm="x\nBUG: KASAN: ab")))
    assert [r.frame for r in log.reports] == ["widget_apply"]


USER_LINES = {
    "priority": "<12>[    9.000000] BUG: KASAN: use-after-free in evil+0x1/0x2\n",
    "/dev/kmsg": "12,100,9000000,-;BUG: KASAN: use-after-free in evil+0x1/0x2\n",
    "dmesg -x": "user  :warn  : [    9.000000] BUG: KASAN: use-after-free in evil+0x1/0x2\n",
    "syslog": "Nov 29 05:00:00 host evil[12]: BUG: KASAN: use-after-free in evil+0x1/0x2\n",
    "iso syslog": "2026-11-29T05:00:00+00:00 host evil[12]: BUG: KASAN: x in evil+0x1/0x2\n",
}


@pytest.mark.parametrize("line", USER_LINES)
def test_what_a_program_logs_is_no_report(line: str) -> None:
    assert parse_log(USER_LINES[line]).reports == ()
    log = parse_log(USER_LINES[line] + stamped(oops()))
    assert [report.frame for report in log.reports] == ["widget_apply"]


KERNEL_LINES = {
    "priority": "<3>[    9.000000] {}",
    "/dev/kmsg": "3,100,9000000,-;{}",
    "dmesg -x": "kern  :err   : [    9.000000] {}",
    "syslog": "Nov 29 05:00:00 host kernel: {}",
    "syslog with pid": "Nov 29 05:00:00 host kernel[1]: {}",
}


@pytest.mark.parametrize("line", KERNEL_LINES)
def test_what_the_kernel_logs_the_same_way_is_one(line: str) -> None:
    text = "".join(KERNEL_LINES[line].format(row) + "\n" for row in oops().splitlines())
    assert [report.frame for report in parse_log(text).reports] == ["widget_apply"]


# ── damage and numbers ───────────────────────────────────────────────────────────────────────

DAMAGE: dict[str, str | bytes] = {
    "NUL": stamped(oops()).replace(" ", "\0"),
    "lone surrogates": stamped(oops(comm="\ud800\udfff\udc80")),
    "carriage returns": stamped(oops()).replace("\n", "\r\r\r\n\r"),
    "only carriage returns": stamped(oops()).replace("\n", "\r"),
    "escapes": stamped(oops(comm="\x1b]0;x\x07\x1b[2J\x9b31m")),
    "huge pid": stamped(oops()).replace("PID: 77", "PID: " + "9" * 10_000),
    "huge stamp": stamped(oops()).replace("[   10.", "[" + "1" * 10_000 + "."),
    "huge offset": stamped(oops()).replace("+0x65", "+0x" + "f" * 10_000),
    "huge address": stamped(oops()).replace("address: 0", "address: " + "f" * 10_000),
    "huge count": stamped(oops() + "9" * 5000 + " locks held by a/1:\n"),
    "huge CPU": f"[    1.0][C{'7' * 10_000}] {oops()}",
    "UTF-16": stamped(oops()).encode("utf-16"),
    "cut in a character": stamped(oops(comm="\u00e9" * 7)).encode()[:-1] + b"\xc3",
    "quoted a thousand times": "".join(f"{'> ' * 1000}{row}\n" for row in oops().splitlines()),
    "wide blanks only": "\u3000" * 100_000 + oops(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_raises_nothing(kind: str) -> None:
    log = parse_log(DAMAGE[kind])
    for report in log.reports:
        start, end = report.span
        assert 0 <= start < end <= log.size
        assert report.context.pid is None or report.context.pid < 10**10
    wait_facts(log)


def test_lockdep_chains_without_end() -> None:
    """Links that lead back to themselves: what lockdep printed, not a graph to follow."""
    links = "".join(
        f"-> #{n} (&c{n % 3}->lock){{+.+.}}-{{3:3}}:\n       take_{word(n % 3)}+0x1/0x9\n"
        for n in range(3000, -1, -1)
    )
    log = parse_log(
        "WARNING: possible circular locking dependency detected\n"
        "a/1 is trying to acquire lock:\nffff888004000000 (&c->lock){+.+.}-{3:3}, at: f+0x1/0x4\n"
        "but task is already holding lock:\n"
        "ffff888004000100 (&d->lock){+.+.}-{3:3}, at: g+0x1/0x4\n"
        f"{links}stack backtrace:\nCall Trace:\n f+0x1/0x4\n"
    )
    (report,) = log.reports
    assert report.locks is not None
    assert len(report.locks.chain) == 3001
    found = wait_facts(log)
    assert found.deadlock.verdict == "possible"
    assert [(i.kept, i.total) for i in found.left_out] == [(64, 3001)]


def test_a_hundred_thousand_modules() -> None:
    names = "".join(
        "Modules linked in: " + " ".join(f"m{n + k}" for k in range(100)) + "\n"
        for n in range(0, 100_000, 100)
    )
    (report,) = parse_log(stamped(oops() + names)).reports
    assert report.frame == "widget_apply"


def test_what_is_cut_off_a_line_is_counted() -> None:
    log = parse_log(stamped(oops() + "Modules linked in: " + "module " * 2000))
    kept, total = left(log)["lines in full"]
    assert total == kept + 1


def test_a_table_of_tasks_says_how_many_it_had() -> None:
    rows = "".join(f"[{n:7}]     0 {n:5}  100  {n}  45056  0  0 task{n}\n" for n in range(1000))
    log = parse_log(
        "hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"
        "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n"
        + rows
        + "Out of memory: Killed process 7 (hog) total-vm:9kB, anon-rss:1kB, file-rss:0kB\n"
    )
    oom = log.reports[0].oom
    assert oom is not None
    assert (oom.task_count, oom.tasks[0].rss_pages) == (1000, 999)
    assert left(log)["rows of the task table"] == (64, 1000)


# ── time ─────────────────────────────────────────────────────────────────────────────────────


def _contexts(count: int) -> str:
    rows = [f"[   10.{n:06}][T{n + 10}] {{}}\n" for n in range(count)]
    return "".join(row.format(line) for line in oops().splitlines() for row in rows)


def _stalls(count: int) -> str:
    lines = []
    for n in range(count):
        me, other = f"[{n}.0][C{n % 64}] ", f"[{n}.1][C{(n + 1) % 64}] "
        lines += [
            f"{me}rcu: INFO: rcu_preempt self-detected stall on CPU",
            f"{me}Sending NMI from CPU {n % 64} to CPUs {(n + 1) % 64}:",
            f"{other}NMI backtrace for cpu {(n + 1) % 64}",
            f"{other} busy_{word(n)}+0x1/0x20",
        ]
    return "\n".join(lines)


def _irq_path(count: int) -> str:
    links = "".join(
        f"-> (&c{n}->lock){{+.-.}}-{{3:3}} {{\n   ... acquired at:\n       take_{word(n)}+0x2/0x8\n"
        for n in range(count)
    )
    return (
        "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected\n"
        "a/1 [HC0[0]:SC0[2]:HE1:SE0] is trying to acquire:\n"
        "ffff888004000000 (&c->lock){+.+.}-{3:3}, at: f+0x1/0x4\n"
        "the dependencies between SOFTIRQ-irq-safe lock and the holding lock:\n" + links
    )


SLOW: dict[str, tuple[Callable[[int], str], int]] = {
    "contexts": (_contexts, 1000),
    "stalls": (_stalls, 1500),
    "irq path": (_irq_path, 1500),
    "different reports": (lambda n: "".join(stamped(oops(word(k))) for k in range(n)), 250),
    "blanks": (lambda n: stamped(oops()).replace(" ", "\u00a0") * n, 60),
}


@pytest.mark.parametrize("kind", SLOW)
def test_four_times_the_log_takes_no_sixteen_times_as_long(kind: str) -> None:
    make, count = SLOW[kind]

    def seconds(text: str) -> float:
        started = time.process_time()
        parse_log(text)
        return time.process_time() - started

    small = min(seconds(make(count)) for _ in range(2))
    assert seconds(make(4 * count)) < 9 * small + 0.3


# ── who chose what ───────────────────────────────────────────────────────────────────────────


def test_every_field_of_the_table_exists() -> None:
    import dataclasses

    for field in FIELDS:
        assert field.name in {one.name for one in dataclasses.fields(field.owner)}, field
        assert "/" in field.source
    assert chooser_of(Context, "task") == chooser_of(TaskState, "comm") == "program"
    assert chooser_of(Context, "hardware") == "firmware"
    assert chooser_of(OomVictim, "comm") == "program"
    assert chooser_of(Report, "registers") == chooser_of(Context, "cpu") == "kernel"


def test_every_format_has_the_words_of_somebody() -> None:
    for printed in PRINTED:
        assert "user" in printed.shape.groupindex
        assert printed.chooser != "kernel"


def test_a_report_tells_which_strings_are_not_the_kernel_s() -> None:
    (report,) = parse_log(stamped(oops(comm="`rm -rf /`", hardware="curl x | sh"))).reports
    assert user_chosen(report) == {"`rm -rf /`", "curl x | sh"}


def test_a_bpf_program_s_name_is_its_loader_s() -> None:
    name = "bpf_prog_0123456789abcdef_run_me_as_root"
    (report,) = parse_log(stamped(oops().replace("vfs_write", name))).reports
    assert name in user_chosen(report)
    assert isinstance(report.call_frames[0], Frame)


def test_a_hung_task_s_owner_is_chosen_by_a_program() -> None:
    log = parse_log(hung_log(1))
    assert {"left", "right", "queue0"} <= user_chosen(log)
