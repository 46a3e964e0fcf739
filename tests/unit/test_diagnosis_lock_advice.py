"""What usually fixes a deadlock of each shape, with its locks and lines."""

from __future__ import annotations

import pytest

from kagent.diagnosis.lock_advice import lock_advice
from kagent.klog.model import LockdepFacts, Report
from kagent.resolution import Culprit, CycleMember, Deadlock, SourcePoint


def _report(facts: LockdepFacts | None = None) -> Report:
    return Report(title="hung", kind="HANG", header="INFO: task hung", span=(0, 4), locks=facts)


def _at(function: str, line: int) -> SourcePoint:
    return SourcePoint(function=function, file="fs/vol.c", line=line)


def _member(task: str, holds: str, waits: str, kind: str = "mutex", **more: object) -> CycleMember:
    facts = {
        "task": task, "pid": 7, "holds": [holds], "taken": [_at("take", 10)], "waits_for": waits,
        "lock_type": kind, "where": _at("ask", 20), **more,
    }  # fmt: skip
    return CycleMember.model_validate(facts)


def _advice(*cycle: CycleMember, verdict: str = "deadlock", **more: object) -> str:
    found = Deadlock.model_validate({"verdict": verdict, "reason": "r", "cycles": [cycle], **more})
    return "\n".join(lock_advice(_report(), found))


def test_two_orders_are_named_with_both_lines() -> None:
    text = _advice(_member("a", "v.meta", "v.data"), _member("b", "v.data", "v.meta"))
    assert "a/7: v.meta in take() at fs/vol.c:10, then v.data in ask() at fs/vol.c:20" in text
    assert "mutex_trylock()" in text
    assert "false positive" not in text


def test_what_may_happen_names_the_newest_order_and_the_way_to_annotate() -> None:
    cycle = (_member("a", "v->meta", "v->data"), _member("any", "v->data", "v->meta"))
    text = _advice(*cycle, verdict="possible")
    assert "the newest of these orders is v->meta, then v->data in ask() at fs/vol.c:20" in text
    assert "lockdep_set_class()" in text


def test_locks_of_one_global_object_are_no_false_positive() -> None:
    cycle = (_member("a", "vol.meta", "vol.data"), _member("any", "vol.data", "vol.meta"))
    assert "lockdep_set_class()" not in _advice(*cycle, verdict="possible")


def test_one_class_twice() -> None:
    text = _advice(
        _member("a", "dir.lock (0xff10)", "dir.lock (0xff20)"),
        _member("b", "dir.lock (0xff20)", "dir.lock (0xff10)"),
    )
    assert "take several dir.lock in one global order" in text


def test_a_lock_taken_again() -> None:
    text = _advice(_member("a", "rx.lock", "rx.lock", "spinlock"))
    assert "do not take rx.lock again in ask()" in text
    assert "it is held in take() at fs/vol.c:10" in text


def test_a_read_lock_taken_again_behind_a_writer() -> None:
    text = _advice(
        _member("reader", "rx.sem", "rx.sem", "rwsem"),
        CycleMember(task="writer", pid=7, waits_for="rx.sem", where=_at("ask", 30)),
    )
    assert "do not take rx.sem again in ask() at fs/vol.c:20" in text
    assert "queues behind a waiting writer (writer/7" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("work", "before you flush or cancel the work in ask() at fs/vol.c:20"),
        ("timer", "before you delete the timer"),
        ("kthread", "before you stop the thread"),
    ],
)
def test_waiting_for_a_function_that_needs_the_lock(kind: str, words: str) -> None:
    text = _advice(
        _member("a", "v.lock", "v.work (work_fn)", kind), _member("kworker", "v.work", "v.lock")
    )
    assert "release v.lock in take() at fs/vol.c:10" in text
    assert words in text


def test_waiting_for_an_event_under_a_lock() -> None:
    text = _advice(_member("a", "v.lock", "v.done", "completion"), _member("b", "v.done", "v.lock"))
    assert (
        "do not wait for the completion v.done in ask() at fs/vol.c:20 while holding v.lock" in text
    )
    assert "signal it before b/7 takes v.lock" in text


@pytest.mark.parametrize(
    ("states", "variant"),
    [
        (("{IN-HARDIRQ-W}", "{HARDIRQ-ON-W}"), "spin_lock_irqsave()"),
        (("{SOFTIRQ-ON-W}", "{IN-SOFTIRQ-W}"), "spin_lock_bh()"),
    ],
)
def test_interrupts(states: tuple[str, str], variant: str) -> None:
    facts = LockdepFacts("inconsistent-state", states=states)
    cycle = [[_member("a", "v.lock", "v.lock", "spinlock", interrupt=True)]]
    found = Deadlock(verdict="possible", reason="r", cycles=cycle)
    assert (
        f"take v.lock with {variant} wherever an interrupt" in lock_advice(_report(facts), found)[0]
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("died", "fix the oops of owner/3 first"),
        ("left", "returns with the lock held"),
        ("event", "find the path that should have woken owner/3"),
        ("runs", "leave its loop"),
        ("sleep", "do not sleep or poll with the lock held"),
        ("unknown", ""),
    ],
)
def test_without_a_cycle(kind: str, words: str) -> None:
    culprit = Culprit(task="owner", pid=3, why="in words", kind=kind)
    found = Deadlock(verdict="not-a-deadlock", reason="r", culprit=culprit)
    steps = lock_advice(_report(), found)
    assert words in "\n".join(steps)
    assert bool(steps) is bool(words)
