"""Who holds what and who waits for whom, with and without lockdep, source and debug info."""

from dataclasses import replace
from pathlib import Path

import pytest

from kagent.diagnosis import analyse_task, build_wait_graph, fold_tasks, tasks_of
from kagent.diagnosis.code import parse_function
from kagent.diagnosis.locks.handlers import handlers_of
from kagent.diagnosis.locks.held import lock_argument
from kagent.diagnosis.locks.model import LockUse, TaskLocks, same_lock
from kagent.diagnosis.locks.primitives import acquires, released, waits_in, wrapped
from kagent.diagnosis.reader import Reader
from kagent.diagnosis.stack import contexts
from kagent.klog import parse_log
from kagent.klog.model import (
    ChainLink,
    Context,
    Frame,
    KernelLog,
    LockdepFacts,
    LockRef,
    Report,
    TaskState,
    Trace,
)
from kagent.source import SourceTree
from kagent.symbols.model import Location, Symbolized

DATA = Path(__file__).parents[1] / "data" / "diagnosis"
TEXT = (DATA / "vol.c").read_text().splitlines()
MUTEX = ("__schedule", "schedule", "schedule_preempt_disabled", "__mutex_lock.constprop.0")
COMPLETION = ("__schedule", "schedule", "schedule_timeout", "__wait_for_common")
SPIN = ("native_queued_spin_lock_slowpath", "_raw_spin_lock")


@pytest.fixture
def source(tmp_path):
    (tmp_path / "vol.c").write_text((DATA / "vol.c").read_text())
    return SourceTree.open(tmp_path)


def line_of(function, text):
    """The line with `text` in the body of `function`."""
    start = next(n for n, row in enumerate(TEXT) if f" {function}(" in f" {row}" and row[0] != "\t")
    return next(n + 1 for n in range(start, len(TEXT)) if text in TEXT[n])


class Case:
    """Tasks of one log with what debug info says about their frames."""

    def __init__(self):
        self.tasks = []
        self.symbols = []

    def task(self, comm, pid, top, *calls, held=(), **more):
        """A task blocked in `top`, called from `calls`: (function, text of its line)."""
        frames = [Frame(name, 0x10 + n, 0x100) for n, name in enumerate(top)]
        for n, (function, text) in enumerate(calls):
            frame = Frame(function, 0x20 + pid * 64 + n, 0x100, "vol")
            frames.append(frame)
            where = Location(function, "fs/vol.c", line_of(function, text))
            self.symbols.append(Symbolized(frame, (where,)))
        frames += [Frame("kthread", 0xDA, 0x100), Frame("ret_from_fork", 0x22, 0x30)]
        more.setdefault("state", "D")
        more.setdefault("blocked_seconds", 120)
        self.tasks.append(
            TaskState(comm, pid, frames=tuple(frames), held=held, span=(pid, pid + 1), **more)
        )

    def graph(self, source=None, reports=()):
        log = KernelLog(tuple(reports), tuple(self.tasks))
        locks = [analyse_task(task, self.symbols, source=source) for task in self.tasks]
        return build_wait_graph(locks, log, self.symbols)


def cycle(result):
    return [[member.task for member in members] for members in result.deadlock.cycles]


def abba():
    case = Case()
    ioctl = ("vol_ioctl", "return flush_meta(&vol)"), ("vol_ioctl", "return trim_data(&vol)")
    case.task(
        "flush", 10, MUTEX, ("take_data", "mutex_lock"), ("flush_meta", "take_data(v)"), ioctl[0]
    )
    case.task(
        "trim", 11, MUTEX, ("take_meta", "mutex_lock"), ("trim_data", "take_meta(v)"), ioctl[1]
    )
    return case


def test_opposite_lock_orders_from_source_alone(source):
    result = abba().graph(source)
    assert result.deadlock.verdict == "deadlock"
    assert cycle(result) == [["flush", "trim"]]
    first, second = result.deadlock.cycles[0]
    assert (first.holds, first.waits_for, first.lock_type) == (["vol.meta"], "vol.data", "mutex")
    assert (second.holds, second.waits_for) == (["vol.data"], "vol.meta")
    assert first.where.line == line_of("take_data", "mutex_lock")
    assert first.inferred, "nothing but source says so"
    holder = result.tasks[0].holds[0]
    assert holder.where.line == line_of("flush_meta", "mutex_lock"), "the error path returned"


def test_every_claim_cites_the_ledger(source):
    result = abba().graph(source)
    known = {fact.id for fact in result.evidence}
    assert result.findings
    assert all(finding.evidence and set(finding.evidence) <= known for finding in result.findings)
    assert any(
        fact.kind == "source" and "mutex_lock(&v->meta);" in fact.content
        for fact in result.evidence
    )


def test_without_source_no_cycle_is_claimed():
    result = abba().graph()
    assert result.deadlock.verdict == "possible"
    assert result.deadlock.cycles == []
    assert result.tasks[0].waits.type == "mutex"


def test_a_third_task_only_queues(source):
    case = abba()
    case.task("stat", 12, MUTEX, ("take_meta", "mutex_lock"), ("vol_work", "take_meta(&vol)"))
    result = case.graph(source)
    assert cycle(result) == [["flush", "trim"]]
    assert [(v.task, v.waits_for) for v in result.deadlock.victims] == [("stat", "vol.meta")]


def held(*entries):
    return tuple(
        LockRef(name, address, at=Frame(symbol, offset, 0x100, "vol"), index=n)
        for n, (name, address, symbol, offset) in enumerate(entries)
    )


def test_lockdep_addresses_tell_two_locks_of_one_class_apart():
    """Each task holds one inode's lock and waits for the other's; the class is the same."""
    case = Case()
    for comm, pid, mine, wanted in (("a", 1, 0x100, 0x200), ("b", 2, 0x200, 0x100)):
        case.task(
            comm,
            pid,
            MUTEX,
            ("take_data", "mutex_lock"),
            held=held(
                ("&inode->i_rwsem", mine, "flush_meta", 0x5),
                ("&inode->i_rwsem/1", wanted, "take_data", 0x20 + pid * 64),
            ),
        )
    result = case.graph()
    assert cycle(result) == [["a", "b"]]
    assert not any(member.inferred for member in result.deadlock.cycles[0])
    assert result.findings[0].confidence > 0.9
    assert result.tasks[0].waits.address == 0x200


def test_one_class_is_not_one_lock():
    """Two tasks, four inodes: nobody waits for what the other has."""
    case = Case()
    for comm, pid, mine, wanted in (("a", 1, 0x100, 0x200), ("b", 2, 0x300, 0x400)):
        case.task(
            comm,
            pid,
            MUTEX,
            ("take_data", "mutex_lock"),
            held=held(
                ("&inode->i_rwsem", mine, "flush_meta", 0x5),
                ("&inode->i_rwsem", wanted, "take_data", 0x20 + pid * 64),
            ),
        )
    assert case.graph().deadlock.verdict == "not-a-deadlock"


def test_a_very_long_circle_is_still_found():
    case = Case()
    size = 40
    for pid in range(1, size + 1):
        mine, wanted = pid, pid % size + 1
        case.task(
            f"t{pid}", pid, MUTEX, ("take_data", "mutex_lock"),
            held=held(("lock", mine, "x", 5), ("lock", wanted, "take_data", 0x20 + pid * 64)),
        )  # fmt: skip
    result = case.graph()
    assert [len(members) for members in result.deadlock.cycles] == [size]
    assert len(result.deadlock.reason) < 3000


def test_a_circle_of_three_in_waiting_order():
    case = Case()
    for comm, pid, mine, wanted in (("a", 1, 1, 2), ("b", 2, 2, 3), ("c", 3, 3, 1)):
        case.task(
            comm,
            pid,
            MUTEX,
            ("take_data", "mutex_lock"),
            held=held(
                (f"lock{mine}", mine, "flush_meta", 0x5),
                (f"lock{wanted}", wanted, "take_data", 0x20 + pid * 64),
            ),
        )
    assert cycle(case.graph()) == [["a", "b", "c"]]


def test_a_work_item_that_needs_the_canceller_s_lock(source):
    case = Case()
    case.task(
        "rmmod",
        20,
        (*COMPLETION, "__flush_work", "cancel_work_sync"),
        ("stop_work", "cancel_work_sync"),
    )
    case.task(
        "kworker/0:1",
        21,
        MUTEX,
        ("take_meta", "mutex_lock"),
        ("vol_work", "take_meta(&vol)"),
        workqueue="events vol_work",
    )
    result = case.graph(source)
    assert cycle(result) == [["rmmod", "kworker/0:1"]]
    assert result.deadlock.cycles[0][0].lock_type == "work"


def test_a_thread_that_cannot_stop(source):
    case = Case()
    case.task("stop", 30, (*COMPLETION, "kthread_stop"), ("stop_thread", "kthread_stop"))
    case.task(
        "vol_flush", 31, MUTEX, ("take_data", "mutex_lock"), ("flush_thread", "take_data(arg)")
    )
    assert cycle(case.graph(source)) == [["stop", "vol_flush"]]


def test_a_timer_that_spins_for_the_lock_of_who_deletes_it(source):
    case = Case()
    case.task(
        "stop", 32, ("timer_delete_sync",), ("stop_timer", "timer_delete_sync"), running=True,
        cpu=0, state="R", blocked_seconds=None,
    )  # fmt: skip
    case.task(
        "idle", 33, SPIN, ("vol_timer", "spin_lock"), running=True, cpu=1, state="R",
        blocked_seconds=None,
    )  # fmt: skip
    assert cycle(case.graph(source)) == [["stop", "idle"]]


def test_a_completion_whose_signaller_waits_for_the_waiter(source):
    case = Case()
    case.task("wait", 40, COMPLETION, ("wait_done", "wait_for_completion"))
    case.task("finish", 41, MUTEX, ("finish", "mutex_lock"))
    result = case.graph(source)
    assert cycle(result) == [["wait", "finish"]]
    assert result.deadlock.cycles[0][1].owes == "volume.done"


def test_a_completion_nobody_signals_is_no_deadlock(source):
    case = Case()
    case.task("wait", 40, COMPLETION, ("wait_done", "wait_for_completion"))
    case.task("meta", 41, MUTEX, ("take_meta", "mutex_lock"))
    result = case.graph(source)
    assert result.deadlock.verdict == "not-a-deadlock"
    assert result.deadlock.culprit.task == "wait"
    assert "nobody in the log is about to signal" in result.deadlock.reason
    assert [victim.task for victim in result.deadlock.victims] == ["meta"]


def test_a_reader_behind_a_waiting_writer(source):
    """A recursive read lock is harmless until a writer queues in between."""
    rwsem = ("__schedule", "schedule", "rwsem_down_read_slowpath", "down_read")
    case = Case()
    case.task("reader", 50, rwsem, ("read_again", "down_read"), ("read_tree", "read_again(v)"))
    assert case.graph(source).deadlock.verdict == "not-a-deadlock"
    writer = ("__schedule", "schedule", "rwsem_down_write_slowpath", "down_write")
    case.task("writer", 51, writer, ("write_tree", "down_write"))
    assert case.graph(source).deadlock.verdict == "deadlock"


def test_waiters_of_a_semaphore_do_not_wait_for_each_other(source):
    down = ("__schedule", "schedule", "schedule_timeout", "__down_common", "__down", "down")
    case = Case()
    for comm, pid in (("a", 60), ("b", 61)):
        case.task(comm, pid, down, ("use_slot", "down("))
    result = case.graph(source)
    assert result.deadlock.verdict == "not-a-deadlock"
    assert result.tasks[0].waits.type == "semaphore"


def test_the_same_stack_twice_with_one_lock_is_no_cycle(source):
    case = Case()
    for comm, pid in (("a", 70), ("b", 71)):
        case.task(comm, pid, MUTEX, ("take_meta", "mutex_lock"), ("trim_data", "take_meta(v)"))
    result = case.graph(source)
    assert result.deadlock.verdict == "not-a-deadlock"
    assert "no task in the log is seen to hold" in result.deadlock.reason


def test_an_owner_that_died_keeps_its_lock(source):
    oops = Frame("trim_data", 0x30, 0x100, "vol", exact=True)
    where = Location("trim_data", "fs/vol.c", line_of("trim_data", "take_meta(v)"))
    report = Report(
        title="general protection fault in trim_data",
        kind="DoS",
        header="general protection fault: 0000 [#1]",
        span=(0, 5),
        context=Context(task="trim", pid=80),
        pc=oops,
        registers={"rax": 1},
        traces=(Trace("call", ()),),
    )
    case = Case()
    case.task("next", 81, MUTEX, ("take_data", "mutex_lock"))
    case.symbols.append(Symbolized(oops, (where,)))
    case.tasks = list(tasks_of(KernelLog((report,), tuple(case.tasks))))
    result = case.graph(source, [report])
    assert result.deadlock.verdict == "not-a-deadlock"
    assert result.deadlock.culprit.task == "trim"
    assert "died in the earlier oops" in result.deadlock.culprit.why
    assert [victim.task for victim in result.deadlock.victims] == ["next"]


def test_the_kernel_names_the_owner():
    case = Case()
    case.task("a", 1, MUTEX, ("take_data", "mutex_lock"), owner=("b", 2))
    case.task("b", 2, MUTEX, ("take_meta", "mutex_lock"), owner=("a", 1))
    assert cycle(case.graph()) == [["a", "b"]]


def test_an_interrupt_that_spins_on_what_it_interrupted(source):
    """One CPU: the timer waits for a spinlock whose owner it interrupted."""
    case = Case()
    case.task(
        "pushd", 34, SPIN, ("vol_timer", "spin_lock"), ("stop_timer", "timer_delete_sync"),
        running=True, cpu=0, state="R", blocked_seconds=None,
    )  # fmt: skip
    assert cycle(case.graph(source)) == [["pushd"]]


LOCKUP = """\
[   19.369189] watchdog: BUG: soft lockup - CPU#1 stuck for 13s! [pushd:92]
[   19.370088] CPU: 1 PID: 92 Comm: pushd Tainted: G           OE      6.1.0-56-amd64 #1
[   19.370800] RIP: 0010:native_queued_spin_lock_slowpath+0x30/0x2a0
[   19.373535] Call Trace:
[   19.374192]  <IRQ>
[   19.374853]  _raw_spin_lock+0x25/0x30
[   19.374997]  nic_tick+0x16/0x30 [spins]
[   19.375563]  handle_softirqs+0xd7/0x280
[   19.375746]  sysvec_apic_timer_interrupt+0x6e/0x90
[   19.375959]  </IRQ>
[   19.376017]  <TASK>
[   19.376068]  asm_sysvec_apic_timer_interrupt+0x16/0x20
[   19.376300] RIP: 0010:delay_tsc+0x32/0x90
[   19.377912]  nic_push.constprop.0+0x38/0x60 [spins]
[   19.378057]  spins_write+0x16e/0xc70 [spins]
[   19.379332]  entry_SYSCALL_64_after_hwframe+0x6e/0xd8
"""


def test_what_an_interrupt_interrupted_is_part_of_the_stack():
    (found,) = tasks_of(parse_log(LOCKUP))
    symbols = [frame.symbol for frame in found.frames]
    assert symbols[4:6] == ["asm_sysvec_apic_timer_interrupt", "delay_tsc"]
    assert contexts(found.frames)[3:7] == [0, 0, 1, 1]


def test_a_running_task_in_no_lock_is_the_one_to_look_at():
    case = Case()
    case.task("loop", 90, ("take_data",), running=True, cpu=3, state="R", blocked_seconds=None)
    result = case.graph()
    assert result.deadlock.culprit.task == "loop"
    assert "keeps running on CPU 3" in result.deadlock.reason


def test_a_holder_without_a_stack_may_be_a_waiter_too():
    """lockdep lists a lock before it is taken: two silent tasks with it last prove nothing."""
    case = Case()
    case.task(
        "stuck", 1, MUTEX, ("take_data", "mutex_lock"),
        held=held(("rtnl_mutex", 0x10, "take_data", 0x20 + 64)),
    )  # fmt: skip
    for pid in (2, 3):
        case.tasks.append(
            TaskState(f"s{pid}", pid, held=held(("rtnl_mutex", 0x10, "x", 1)), source="held-locks")
        )
    assert case.graph().edges == ()
    holder = held(("rtnl_mutex", 0x10, "x", 1), ("inner", 0x20, "x", 2))
    case.tasks.append(TaskState("owner", 4, held=holder, source="held-locks"))
    result = case.graph()
    assert [result.tasks[edge.owner].comm for edge in result.edges] == ["owner"]


# lockdep reports --------------------------------------------------------------------------------


def lockdep(variant="circular", **more):
    acquiring = LockRef("&v->meta", 0x1000, at=Frame("take_meta", 0x10, 0x40, "vol"))
    holding = LockRef("&v->data", 0x2000, at=Frame("trim_data", 0x10, 0x40, "vol"))
    chain = (
        ChainLink(1, holding, (Frame("__mutex_lock", 1, 9), Frame("take_data", 0x10, 0x40, "vol"),
                               Frame("flush_meta", 0x20, 0x40, "vol"))),
        ChainLink(0, acquiring, (Frame("take_meta", 0x10, 0x40, "vol"),)),
    )  # fmt: skip
    facts = LockdepFacts(
        variant, "trim", 11, more.pop("acquiring", acquiring), more.pop("holding", (holding,)),
        more.pop("chain", chain),
    )  # fmt: skip
    return Report(
        title="possible deadlock in take_meta",
        kind="LOCKDEP",
        header="WARNING: possible circular locking dependency detected",
        span=(0, 9),
        locks=facts,
        **more,
    )


def test_a_lock_order_nobody_is_stuck_in_is_possible():
    result = build_wait_graph([], KernelLog((lockdep(),)))
    assert result.deadlock.verdict == "possible"
    (members,) = result.deadlock.cycles
    assert (members[0].task, members[0].holds, members[0].waits_for) == (
        "trim",
        ["v->data"],
        "v->meta",
    )
    assert "take_data" in members[1].task
    assert (members[1].holds, members[1].waits_for) == (["v->meta"], "v->data")
    assert members[1].inferred


def test_a_stuck_task_inherits_lockdep_s_names():
    """After its first report lockdep is off; the hung task's call site is the reported one."""
    case = Case()
    case.task("trim", 11, MUTEX, ("take_meta", "mutex_lock"))
    frames = tuple(
        replace(f, offset=0x10) if f.symbol == "take_meta" else f for f in case.tasks[0].frames
    )
    case.tasks = [replace(case.tasks[0], frames=frames)]
    same = LockRef("&v->meta", 0x1000, at=Frame("trim_data", 0x10, 0x40, "vol"))
    result = case.graph(reports=[lockdep("recursive", holding=(same,), chain=())])
    assert result.deadlock.verdict == "deadlock"
    assert cycle(result) == [["trim"]]
    assert result.tasks[0].waits.address == 0x1000


@pytest.mark.parametrize(
    ("variant", "verdict", "words"),
    [
        ("recursive", "possible", "already holds"),
        ("bad-unlock", "not-a-deadlock", "does not hold"),
        ("held-freed", "not-a-deadlock", "frees memory"),
        ("held-at-return", "not-a-deadlock", "returns to user space"),
        ("held-at-exit", "not-a-deadlock", "exits, or is frozen"),
        ("suspicious-rcu", "not-a-deadlock", "RCU"),
        ("wait-context", "not-a-deadlock", "may sleep"),
    ],
)
def test_the_other_kinds_of_lockdep_reports(variant, verdict, words):
    result = build_wait_graph([], KernelLog((lockdep(variant),)))
    assert result.deadlock.verdict == verdict
    assert words in result.deadlock.reason


STILL_HELD = """\
WARNING: pager/4398 still has locks held!
5.9.0 #15 Not tainted
------------------------------------
1 lock held by pager/4398:
 #0: ffffa00019769560 (rcu_read_lock){....}-{1:2}, at: count_event+0x24/0x2f0

stack backtrace:
CPU: 1 PID: 4398 Comm: pager Not tainted 5.9.0 #15
Call trace:
 debug_check_no_locks_held+0x110/0x130
 get_signal+0x1a94/0x2400
"""
NO_KEY = """\
INFO: trying to register non-static key.
the code is fine but needs lockdep annotation.
turning off the locking correctness validator.
CPU: 1 PID: 0 Comm: swapper/1 Not tainted 4.13.0 #9
Call Trace:
 register_lock_class+0x55e/0x2c70
 lock_acquire+0x1d5/0x580
 flow_cleanup+0xf4/0x300
"""
LEAVING = """\
WARNING: lock held when returning to user space!
4.18.0 #51 Not tainted
------------------------------------------------
fused/17896 is leaving the kernel with locks still held!
1 lock held by fused/17896:
 #0: 00000000a3b01fa0 (&fi->mutex){+.+.}, at: fuse_lock_inode+0xaf/0xe0
"""
UNBALANCED = """\
WARNING: bad unlock balance detected!
6.12.1 #1 Not tainted
-------------------------------------
chand/64 is trying to release lock (&c->lock) at:
chan_write+0x1bb/0x220
but there are no more locks to release!

other info that might help us debug this:
no locks held by chand/64.
"""


@pytest.mark.parametrize(
    ("text", "task", "said"),
    [
        (STILL_HELD, ("pager", 4398), "pager/4398 holds rcu_read_lock at count_event+0x24/0x2f0"),
        (NO_KEY, ("swapper/1", 0), None),
        (LEAVING, ("fused", 17896), "fused/17896 holds &fi->mutex at fuse_lock_inode+0xaf/0xe0"),
        (UNBALANCED, ("chand", 64), "chand/64 releases &c->lock at chan_write+0x1bb/0x220"),
    ],
    ids=["still held", "no key", "leaving", "unbalanced"],
)
def test_a_lockdep_report_is_of_the_task_that_any_of_its_lines_names(text, task, said):
    log = parse_log(text)
    (case,) = log.reports
    assert (case.context.task, case.context.pid) == task
    result = build_wait_graph([], log)
    assert result.deadlock.reason.startswith(f"{task[0]}/{task[1]}: it ")
    facts = [fact.content for fact in result.evidence if fact.kind == "lock-edge"]
    assert said is None or said in facts
    assert not any("None" in fact for fact in facts)


# Parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        ("__mutex_lock.constprop.0", "mutex"),
        ("rwsem_down_write_slowpath", "rwsem"),
        ("native_queued_spin_lock_slowpath", "spinlock"),
        ("queued_write_lock_slowpath", "rwlock"),
        ("__down_common", "semaphore"),
        ("__wait_for_common", "completion"),
        ("__flush_work", "work"),
        ("timer_delete_sync", "timer"),
        ("synchronize_rcu", "rcu"),
        ("folio_wait_bit_common", "page lock"),
        ("vfs_write", None),
    ],
)
def test_what_a_stack_waits_in(symbol, kind):
    primitive = waits_in(symbol)
    assert (primitive.type if primitive else None) == kind


def test_what_source_takes_and_releases():
    assert acquires("mutex_lock_interruptible").type == "mutex"
    assert acquires("down_read_nested").mode == "read"
    assert acquires("read_lock_bh").type == "rwlock"
    assert acquires("unlock_page") is None
    assert released("spin_unlock_irqrestore", ["&q->lock", "flags"]) == "&q->lock"
    assert released("mutex_lock", ["&q->lock"]) is None
    assert released("inode_unlock", ["dir"]) == "&dir->i_rwsem"
    assert wrapped("inode_lock") == (acquires("down_write"), "&{0}->i_rwsem")


def test_identity_of_locks():
    typed = LockUse("v.a", "mutex", members=("v.a",))
    here = LockUse("x.a", "mutex", members=("v.a",), instance="x.a")
    there = LockUse("y.a", "mutex", members=("v.a",), instance="y.a")
    named = LockUse("x.a", "mutex", lock_class="&x.a")
    assert same_lock(typed, here) == (True, False)
    assert same_lock(here, there) == (False, True)
    assert same_lock(here, named) == (True, True)
    assert same_lock(here, LockUse("x.a", "spinlock", instance="x.a")) == (False, False)


def test_tasks_with_one_stack_are_analysed_once():
    case = abba()
    case.tasks += [replace(case.tasks[0], comm="twin", pid=99)]
    case.tasks += [replace(case.tasks[0], blocked_seconds=240)]  # the same task, dumped again
    groups = fold_tasks(case.tasks, 8)
    assert [[t.comm for t in group.tasks] for group in groups] == [["flush", "twin"], ["trim"]]
    (only,) = fold_tasks(case.tasks, 1)
    assert len(only.stacks) == 2


def test_the_same_code_with_other_locks_is_another_stack():
    case = abba()
    twin = replace(case.tasks[0], pid=99, held=held(("lock", 1, "x", 1)))
    assert len(fold_tasks([case.tasks[0], twin], 8)) == 2


@pytest.mark.parametrize(
    ("stack", "name", "kind"),
    [
        (("__schedule", "__lock_sock", "lock_sock_nested", "tcp_sendmsg"), "socket lock", "lock"),
        (("schedule", "__mutex_lock", "rtnl_lock", "dev_ioctl"), "rtnl_mutex", "lock"),
        (("schedule", "percpu_rwsem_wait", "__percpu_down_read", "cpus_read_lock", "x"),
         "cpu_hotplug_lock", "lock"),
        (("schedule", "rt_mutex_slowlock.constprop.0", "rt_mutex_lock", "x"), "rt_mutex", "lock"),
        (("schedule", "__ww_mutex_lock.constprop.0", "ww_mutex_lock", "x"), "mutex", "lock"),
        (("schedule", "bit_wait_io", "__wait_on_bit", "__wait_on_buffer", "x"), "io", "io"),
        (("schedule", "synchronize_rcu", "x"), "rcu", "grace-period"),
    ],
)  # fmt: skip
def test_what_a_stack_names_without_source(stack, name, kind):
    frames = tuple(Frame(symbol, 0x10 + n, 0x100) for n, symbol in enumerate(stack))
    found = analyse_task(TaskState("a", 1, state="D", blocked_seconds=9, frames=frames))
    assert (found.waits.name, found.waits.kind) == (name, kind)


def test_a_grace_period_waits_for_the_reader_that_stalls_it():
    case = Case()
    case.task("sync", 1, ("schedule", "synchronize_rcu"), ("stop_work", "cancel_work_sync"))
    case.task("loop", 2, ("take_data",), running=True, cpu=1, state="R", blocked_seconds=None,
              source="rcu-stall")  # fmt: skip
    result = case.graph()
    assert result.deadlock.culprit.task == "loop"
    assert [victim.task for victim in result.deadlock.victims] == ["sync"]


def test_one_name_in_two_files_is_two_locks():
    mine, other = (
        LockUse("lock", "mutex", instance="lock", home=path) for path in ("a/x.c", "b/y.c")
    )
    assert same_lock(mine, other) == (False, True)
    assert same_lock(mine, replace(other, home=None)) == (True, True)


def stuck(comm, pid, holds, waits):
    """A task with locks as the graph sees them."""
    return TaskLocks(comm, pid, holds=tuple(holds), waits=waits, sites=("x",), blocked_seconds=9)


def test_a_writer_waits_for_every_reader():
    """One reader sleeps, but the other can never leave: that is enough."""
    read = LockUse("g.sem", "rwsem", mode="read", instance="g.sem", inferred=True)
    cfg = LockUse("g.cfg", "mutex", instance="g.cfg", inferred=True)
    asleep = stuck("asleep", 1, [read], LockUse("sleep", "sleep", kind="sleep"))
    reader = stuck("reader", 2, [read], replace(cfg, inferred=False))
    writer = stuck("writer", 3, [cfg], replace(read, mode="write", inferred=False))
    result = build_wait_graph([asleep, reader, writer], KernelLog(()))
    assert cycle(result) == [["reader", "writer"]]


def same_type(count):
    held = LockUse("a.lock", "mutex", members=("a.lock",), inferred=True)
    wanted = replace(held, inferred=False)
    return [stuck(f"t{n}", n, [held], wanted) for n in range(1, count + 1)]


def test_of_three_alike_nobody_knows_who_waits_for_whom():
    """Each may wait for any of the others; all are in it, and none can go on."""
    result = build_wait_graph(same_type(3), KernelLog(()))
    assert cycle(result) == [["t1", "t2", "t3"]]
    assert all(member.inferred for member in result.deadlock.cycles[0])


def test_of_very_many_alike_no_cycle_is_picked():
    for count in (40, 2000):
        result = build_wait_graph(same_type(count), KernelLog(()))
        assert (result.deadlock.verdict, result.deadlock.cycles) == ("possible", [])
        assert len(result.deadlock.victims) == count


def test_an_unknown_work_that_hangs_on_its_flusher_s_lock():
    lock = LockUse("g.lock", "mutex", instance="g.lock")
    flusher = stuck("flusher", 1, [lock], LockUse("work", "work", kind="handler"))
    worker = replace(stuck("kworker/0:1", 2, [], lock), runs=("workqueue:events", "poll"))
    other = replace(stuck("kworker/0:2", 3, [], None), runs=("workqueue:events", "scan"))
    result = build_wait_graph([flusher, worker, other], KernelLog(()))
    assert cycle(result) == [["flusher", "kworker/0:1"]]
    assert result.deadlock.cycles[0][0].inferred


def test_the_kernel_s_own_queues_by_name():
    function = parse_function("void f(void)\n{\n\tflush_scheduled_work();\n}", name="f")
    (call,) = function.calls()
    primitive, argument = lock_argument(call)
    assert handlers_of(Reader(), function, primitive, argument) == ("workqueue:events",)


CALLBACK = """\
static noinline int item_show(struct table *t, int n)
{
	mutex_lock(&t->lock);
	show(t->item[n]);
	mutex_unlock(&t->lock);
	return 0;
}

static noinline int table_walk(struct table *w, int (*each)(struct table *t, int n))
{
	int rc;

	mutex_lock(&w->lock);
	rc = each(w, 3);
	mutex_unlock(&w->lock);
	return rc;
}
"""


@pytest.mark.parametrize("call", ["each(w, 3)", "(*each)(w, 3)"])
def test_a_callback_by_function_pointer_takes_the_lock_again(tmp_path, call):
    (tmp_path / "table.c").write_text(CALLBACK.replace("each(w, 3)", call))
    own = (("item_show", 3), ("table_walk", 14))
    frames = tuple(Frame(name, 0x10, 0x40, "table") for name, _ in own)
    symbols = [
        Symbolized(frame, (Location(name, "table.c", line),))
        for frame, (name, line) in zip(frames, own, strict=True)
    ]
    top = tuple(Frame(name, 1, 9) for name in MUTEX)
    task = TaskState("walker", 7, state="D", blocked_seconds=9, frames=(*top, *frames))
    found = analyse_task(task, symbols, source=SourceTree.open(tmp_path))
    assert cycle(build_wait_graph([found], KernelLog(()))) == [["walker"]]
