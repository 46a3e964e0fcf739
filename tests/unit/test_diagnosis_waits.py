"""Hangs of real kernels: who waits for whom, from stacks and source, with lockdep and without."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kagent.diagnosis import GraphResult, classify, frames_of, tasks_of, wait_facts
from kagent.diagnosis.locks.model import LockUse
from kagent.diagnosis.locks.words import what
from kagent.klog import parse_log
from kagent.klog.model import KernelLog
from kagent.resolution import CycleMember, Deadlock, SourcePoint
from kagent.source import SourceTree
from kagent.symbols.model import Location, Symbolized

DATA = Path(__file__).parents[1] / "data" / "waits"
LINES = json.loads((DATA / "lines.json").read_text())


def graph(name: str, *, source: bool = True, lines: bool = True) -> tuple[KernelLog, GraphResult]:
    """The wait graph of a log, with what the modules' debug info says."""
    log = parse_log((DATA / f"{name}.log").read_text())
    kernel = "612" if name.startswith("lockdep-") else "61"
    known = []
    for frame in frames_of(log, tasks_of(log)) if lines else ():
        chain = LINES[kernel].get(str(frame), ())
        known.append(Symbolized(frame, tuple(Location(*link) for link in chain)))
    tree = SourceTree.open(DATA / "src") if source else None
    return log, wait_facts(log, known, source=tree)


@dataclass(frozen=True)
class Member:
    """What a member of a cycle should hold (and where it took it), and wait for."""

    task: str
    holds: tuple[str, str] | None
    """Lock and ``function:line``; None for nothing."""
    waits: tuple[str, str]
    type: str = "mutex"


def place(point: SourcePoint | None) -> str:
    return f"{point.function}:{point.line}" if point else "?"


def lock(label: str | None) -> str:
    return (label or "").split(" (")[0]


def check_cycle(deadlock: Deadlock, wanted: tuple[Member, ...], victims: set[str]) -> None:
    assert deadlock.verdict == "deadlock"
    (cycle,) = deadlock.cycles
    names = [member.task for member in wanted]
    turned = [names[at:] + names[:at] for at in range(len(names))]
    assert [member.task for member in cycle] in turned
    assert {victim.task for victim in deadlock.victims} == victims
    found = {member.task: member for member in cycle}
    for expected in wanted:
        check_member(found[expected.task], expected)


def check_member(found: CycleMember, expected: Member) -> None:
    assert (lock(found.waits_for), place(found.where)) == expected.waits
    assert found.lock_type == expected.type
    if expected.holds is None:
        assert found.holds == []
        return
    assert (lock(found.holds[0]), place(found.taken[0])) == expected.holds


CYCLES: dict[str, tuple[Member, ...]] = {
    "readers": (
        Member(
            "lookupd", ("rm.map_sem", "map_lookup:26"), ("rm.page_sem", "map_count:16"), "rwsem"
        ),
        Member("filld", ("rm.page_sem", "page_fill:42"), ("rm.map_sem", "map_insert:35"), "rwsem"),
    ),
    "semaphores": (
        Member(
            "xferd", ("pool.bus", "bus_transfer:29"), ("pool.slots", "slot_get:14"), "semaphore"
        ),
        Member(
            "resetd", ("pool.slots", "slot_reset:41"), ("pool.bus", "slot_reset:43"), "semaphore"
        ),
    ),
    "three": (
        Member("commitd", ("jr->head_lock", "jr_commit:20"), ("jr->tail_lock", "jr_bump:13")),
        Member("trimd", ("jr->tail_lock", "jr_trim:29"), ("jr->data_lock", "jr_bump:13")),
        Member("writed", ("jr->data_lock", "jr_write:38"), ("jr->head_lock", "jr_bump:13")),
    ),
    "two-modules": (
        Member("scand", ("core_lock", "node_scan:31"), ("drv.lock", "drv_scan:12")),
        Member("attachd", ("drv.lock", "drv_attach:22"), ("core_lock", "node_add:20")),
    ),
    "callback": (
        Member("psud", ("psu0.state_lock", "psu_set:35"), ("psu0.state_lock", "psu_level:17")),
    ),
    "recursive-read": (
        Member("walkd", ("rt.tbl_sem", "rt_walk:25"), ("rt.tbl_sem", "rt_count:15"), "rwsem"),
        Member("addd", None, ("rt.tbl_sem", "rt_add:34"), "rwsem"),
    ),
    "cancelled-work": (
        Member(
            "linkd_down",
            ("ld->cfg_lock", "link_down:41"),
            ("ld->poll", "link_down:45"),
            "work",
        ),
        Member("kworker/0:1", None, ("ld->cfg_lock", "link_poll:19")),
    ),
    "drained-queue": (
        Member(
            "linkd_drain",
            ("ld->cfg_lock", "link_drain:62"),
            ("ld->wq", "link_drain:65"),
            "workqueue",
        ),
        Member("kworker/u4:1", None, ("ld->cfg_lock", "link_poll:19")),
    ),
    "completion": (
        Member("waitd", ("nic0.ctl", "nic_wait:106"), ("nic0.done", "nic_wait:107"), "completion"),
        Member("finishd", None, ("nic0.ctl", "nic_finish:97")),
    ),
    "thread-stop": (
        Member("killd", ("nic0.ctl", "nic_kill:87"), ("nic0.thr", "nic_kill:89"), "kthread"),
        Member("nic_thr", None, ("nic0.ctl", "nic_thread:77")),
    ),
    "spinners": (
        Member("sendd", ("nic0.tx_lock", "nic_send:54"), ("nic0.rx_lock", "nic_rx:47"), "spinlock"),
        Member(
            "polld", ("nic0.rx_lock", "nic_poll:63"), ("nic0.tx_lock", "nic_poll:65"), "spinlock"
        ),
    ),
    "interrupt": (
        Member(
            "pushd", ("nic0.tx_lock", "nic_push:39"), ("nic0.tx_lock", "nic_tick:21"), "spinlock"
        ),
    ),
    "embedded": (
        Member(
            "flushd",
            ("chip->ports[1].rx.lock", "port_flush:51"),
            ("chip->ports[1].tx.lock", "ring_drain:36"),
        ),
        Member(
            "kickd",
            ("chip->ports[1].tx.lock", "port_kick:64"),
            ("chip->ports[1].rx.lock", "ring_drain:36"),
        ),
    ),
    "twins": (  # another module has locks of the same names: its tasks are no part of this
        Member("bwaitd", ("aux", "b_wait:11"), ("done", "b_wait:12"), "wait queue"),
        Member("bpeekd", ("lock", "b_peek:19"), ("aux", "b_peek:20")),
    ),
    "wrappers": (
        Member("scand", ("main_shelf->lock", "shelf_scan:32"), ("bay.slot_lock", "bay_lock:17")),
        Member("opend", ("bay.slot_lock", "bay_open:21"), ("main_shelf->lock", "shelf_count:11")),
    ),
    "trylock": (
        Member("leftd", ("right", "take_left:22"), ("left", "take_left:24")),
        Member("rightd", ("left", "take_right:10"), ("right", "take_right:13")),
    ),
    "own-work": (Member("kworker/1:1", None, ("upl.kick", "uplink_reset:18"), "work"),),
    "work-signals": (
        Member(
            "waitd", ("upl.st", "uplink_wait:50"), ("upl.ready", "uplink_wait:52"), "completion"
        ),
        Member("kworker/1:1", None, ("upl.st", "uplink_fin:42")),
    ),
    "upgrade": (
        Member("upgraded", ("upl.rw", "uplink_upgrade:67"), ("upl.rw", "uplink_grow:59"), "rwsem"),
    ),
    "wake-up": (
        Member(
            "evwaitd", ("upl.st", "uplink_evwait:76"), ("upl.wq", "uplink_evwait:77"), "wait queue"
        ),
        Member("evwaked", None, ("upl.st", "uplink_evwake:85")),
    ),
    "rt-and-percpu": (
        Member("passd", ("gate", "lane_pass:25"), ("lanes[1].rt", "lane_pass:27"), "rt_mutex"),
        Member("stopd", ("lanes[1].rt", "lane_stop:36"), ("gate", "gate_close:17"), "percpu_rwsem"),
    ),
    "same-code": (
        Member("mv01", ("account.lock", "account_move:21"), ("account.lock", "account_credit:14")),
        Member("mv10", ("account.lock", "account_move:21"), ("account.lock", "account_credit:14")),
    ),
}
VICTIMS = {
    "readers": {"dumpd"},
    "three": {"late"},
    "recursive-read": {"countd"},
    "cancelled-work": {"late"},
    "drained-queue": {"late"},
}


@pytest.mark.parametrize("name", CYCLES)
def test_cycles_from_stacks_and_source(name: str) -> None:
    log, result = graph(name)
    check_cycle(result.deadlock, CYCLES[name], VICTIMS.get(name, set()))
    assert classify(log, log.primary or 0).route == "deadlock"
    known = {fact.id for fact in result.evidence}
    assert all(set(finding.evidence) <= known for finding in result.findings)


@pytest.mark.parametrize("name", CYCLES)
def test_without_source_no_cycle_is_invented(name: str) -> None:
    for lines in (True, False):
        _, result = graph(name, source=False, lines=lines)
        assert result.deadlock.cycles == []


@pytest.mark.parametrize("name", ["recursive-read", "semaphores", "same-code", "two-modules"])
def test_lockdep_s_lists_agree_with_the_source(name: str) -> None:
    _, result = graph(f"lockdep-{name}")
    (cycle,) = result.deadlock.cycles
    assert [m.task for m in cycle] == [member.task for member in CYCLES[name]]
    taken = [place(member.taken[0]) for member in cycle if member.holds]
    assert taken == [member.holds[1] for member in CYCLES[name] if member.holds]
    assert [place(m.where) for m in cycle] == [member.waits[1] for member in CYCLES[name]]


def test_lockdep_s_addresses_need_no_source() -> None:
    _, result = graph("lockdep-same-code", source=False, lines=False)
    (cycle,) = result.deadlock.cycles
    assert [member.task for member in cycle] == ["mv01", "mv10"]
    assert not any(member.inferred for member in cycle)
    assert cycle[0].holds[0] == cycle[1].waits_for


@pytest.mark.parametrize("name", ["interrupt", "lockdep-interrupt"])
def test_a_timer_that_interrupts_the_owner_of_its_lock(name: str) -> None:
    _, result = graph(name)
    check_cycle(result.deadlock, CYCLES["interrupt"], set())
    assert result.deadlock.cycles[0][0].interrupt


def test_what_a_worker_owes_is_not_a_lock_that_it_holds() -> None:
    _, result = graph("cancelled-work")
    worker = next(m for m in result.deadlock.cycles[0] if m.task.startswith("kworker"))
    assert worker.owes == "ld->poll (link_poll)"
    _, result = graph("completion")
    signaller = next(m for m in result.deadlock.cycles[0] if m.task == "finishd")
    assert signaller.owes == "nic0.done"


@pytest.mark.parametrize(
    ("name", "culprit", "kind", "victims", "words"),
    [
        ("owner-died", "resumed", "died", {"readd", "polld"}, "died in the earlier oops"),
        ("crawl", "crawld", "sleep", {"readd", "late"}, "waits for a timeout in disk_crawl()"),
        ("spin", "spind", "runs", {"readd", "late"}, "keeps running on CPU 1 in disk_spin()"),
        ("event", "eventd", "event", {"readd", "late"}, "nobody in the log is about to signal"),
        ("leak", None, "", {"readd", "late"}, "no task in the log is seen to hold"),
        ("leak", None, "", {"readd", "late"}, "returns with it held: disk_leak() at lives.c:54"),
        ("same-code-free", "audit2", "sleep", {"mv02", "mv12"}, "while it holds account.lock"),
        ("inverted-text", "filld", "event", {"draind", "peekd"}, "tk.full in tank_fill()"),
        ("counting", "tap1", "event", {"tap3"}, "while it holds tk.taps"),
        ("lockdep-same-code-free", "audit2", "sleep", {"mv02", "mv12"}, "waits for a timeout"),
        ("lockdep-leak", "leakd", "left", {"readd", "late"}, "to user space without unlocking"),
        ("lockdep-running", "yieldd", "runs", {"readd", "late"}, "keeps running while it holds 2"),
    ],
)
def test_no_cycle_where_somebody_could_still_go_on(
    name: str, culprit: str | None, kind: str, victims: set[str], words: str
) -> None:
    _, result = graph(name)
    deadlock = result.deadlock
    assert (deadlock.verdict, deadlock.cycles) == ("not-a-deadlock", [])
    assert {victim.task for victim in deadlock.victims} == victims
    assert (deadlock.culprit and deadlock.culprit.task) == culprit
    assert (deadlock.culprit.kind if deadlock.culprit else "") == kind
    assert words in deadlock.reason


def test_a_crash_with_tasks_stuck_behind_it_stays_a_crash() -> None:
    log, _ = graph("owner-died")
    assert classify(log, log.primary or 0).route == "general"


NAMED = """\
[  120.1] INFO: task reader:50 blocked for more than 30 seconds.
[  120.1]       Not tainted 6.18.0 #1
[  120.1] task:reader          state:D stack:0     pid:50    tgid:50    ppid:1 flags:0x00000000
[  120.1] Call Trace:
[  120.1]  <TASK>
[  120.1]  __schedule+0x4a1/0x1000
[  120.1]  schedule+0x2a/0x90
[  120.1]  {slowpath}+0x1e7/0x5a0
[  120.1]  tank_peek+0x11/0x30
[  120.1]  </TASK>
[  120.1] {blocker}
"""
OWNER = """\
[  120.1] task:owner           state:R  running task     stack:0 pid:44 tgid:44 ppid:1 flags:0x0008
[  120.1] Call Trace:
[  120.1]  <TASK>
[  120.1]  __schedule+0x4a1/0x1000
[  120.1]  __cond_resched+0x2d/0x50
[  120.1]  tank_spin+0x2d/0x60
[  120.1]  </TASK>
"""


@pytest.mark.parametrize(
    ("slowpath", "blocker", "certain"),
    [
        ("__mutex_lock", "INFO: task reader:50 is blocked on a mutex likely owned by task "
         "owner:44.", True),
        ("___down_common", "INFO: task reader:50 blocked on a semaphore likely last held by task "
         "owner:44", False),
        ("rwsem_down_read_slowpath", "INFO: task reader:50 <reader> blocked on an rw-semaphore "
         "likely owned by task owner:44 <writer>", True),
        ("rwsem_down_write_slowpath", "INFO: task reader:50 <writer> blocked on an rw-semaphore "
         "likely owned by task owner:44 <reader>", False),
    ],
)  # fmt: skip
def test_an_owner_that_the_kernel_names_runs(slowpath: str, blocker: str, certain: bool) -> None:
    waiter = NAMED.format(slowpath=slowpath, blocker=blocker)
    result = wait_facts(parse_log(waiter + OWNER))
    assert [edge.certain for edge in result.edges] == [certain]
    assert "owner/44 keeps running in tank_spin()" in result.deadlock.reason
    assert [victim.task for victim in result.deadlock.victims] == ["reader"]
    unseen = wait_facts(parse_log(waiter))
    assert unseen.deadlock.culprit is not None
    assert unseen.deadlock.culprit.task == "owner"
    assert "its stack is not in the log" in unseen.deadlock.reason


def test_a_wait_with_a_timeout_is_no_deadlock() -> None:
    """The same stacks as a real cycle, but the completion gives up some day."""
    text = (DATA / "completion.log").read_text()
    log = parse_log(text.replace(" __wait_for_common+", " wait_for_completion_timeout+"))
    chains = LINES["61"]
    known = [
        Symbolized(frame, tuple(Location(*link) for link in chains.get(str(frame), ())))
        for frame in frames_of(log, tasks_of(log))
    ]
    result = wait_facts(log, known, source=SourceTree.open(DATA / "src"))
    assert result.deadlock.verdict == "not-a-deadlock"
    assert "only until its timeout" in result.deadlock.reason


def test_who_hangs_but_not_for_a_lock_is_told_beside_those_that_do() -> None:
    _, found = graph("drained-queue", source=False, lines=False)
    reason = found.deadlock.reason
    assert found.deadlock.verdict == "possible"
    assert "neither shown nor ruled out" in reason
    assert reason.endswith("Besides, linkd_drain/93 waits for workqueue to finish in link_drain().")
    assert {victim.task for victim in found.deadlock.victims} == {
        "kworker/u4:1", "late", "linkd_drain"
    }  # fmt: skip


def test_who_runs_a_work_is_not_claimed_where_its_function_is_unknown() -> None:
    waits = LockUse("work", type="work", kind="handler")
    assert "any task of the log or none may be running" in what(waits)
    assert "no task in the log is running" in what(replace(waits, handlers=("probe_work",)))
