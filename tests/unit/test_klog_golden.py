"""One log for each family and architecture, and all that is read from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kagent.klog import Frame, KernelLog, LockRef, Report, TaskState, parse_log

LOGS = sorted((Path(__file__).parents[1] / "data" / "klog").glob("*.log"))


def _frames(frames: tuple[Frame, ...]) -> str:
    return " < ".join(f"{'' if f.reliable else '? '}{f}" for f in frames)


def _lock(lock: LockRef) -> str:
    return f"{lock.name}@{lock.address or 0:x} {lock.usage} {lock.wait_type} at {lock.at}"


def _describe(report: Report) -> Iterator[str]:
    start, end = report.span
    yield f"title: {report.title}"
    yield f"alt: {list(report.alt_titles)}  kind: {report.kind}  frame: {report.frame}"
    yield f"header: {report.header}"
    yield f"span: {start}-{end}  fingerprint: {report.fingerprint}"
    yield f"corrupted: {report.corrupted_reason}  panicked: {report.panicked}"
    yield f"kernel bug: {report.kernel_bug}  cause: {report.caused_by}  repeats: {report.repeats}"
    yield f"message: {report.message!r}"
    yield f"context: {report.context}"
    yield f"pc: {report.pc}"
    yield f"registers: {' '.join(f'{k}={v:x}' for k, v in report.registers.items())}"
    yield f"code: {report.code}"
    yield f"access: {report.access}"
    yield f"memory: {report.memory}"
    for trace in report.traces:
        yield f"{trace.role} of {trace.task}/{trace.pid} on {trace.cpu}: {_frames(trace.frames)}"
    if report.oom:
        yield f"oom: {report.oom}"
    if report.locks:
        facts = report.locks
        yield f"lockdep: {facts.variant} {facts.task}/{facts.pid} {facts.states}"
        yield f"  acquiring {_lock(facts.acquiring)}" if facts.acquiring else "  acquiring nothing"
        yield from (f"  holding {_lock(lock)}" for lock in facts.holding)
        for link in facts.chain:
            yield f"  #{link.index} {_lock(link.lock)}: {_frames(link.frames)}"


def _describe_task(task: TaskState) -> Iterator[str]:
    yield (
        f"task: {task.comm}/{task.pid} {task.state} cpu={task.cpu} for {task.blocked_seconds} s"
        f" running={task.running} source={task.source} owner={task.owner} pc={task.pc}"
    )
    yield f"  {_frames(task.frames)}"
    yield from (f"  holds {_lock(lock)}" for lock in task.held)


def describe(log: KernelLog) -> str:
    lines = [f"primary: {log.primary}"]
    for report in log.reports:
        lines += ["", *_describe(report)]
    for task in log.tasks:
        lines += ["", *_describe_task(task)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", LOGS, ids=[path.stem for path in LOGS])
def test_reading(path: Path, golden: Callable[[str, str], None]) -> None:
    golden(f"klog/{path.stem}.txt", describe(parse_log(path.read_bytes())))


def test_serial_console_line_ends_change_no_fact() -> None:
    for path in LOGS:
        data = path.read_bytes()
        plain, serial = parse_log(data), parse_log(data.replace(b"\n", b"\r\n"))
        assert [r.title for r in plain.reports] == [r.title for r in serial.reports]
        assert [r.registers for r in plain.reports] == [r.registers for r in serial.reports]
        for one, two in zip(plain.reports, serial.reports, strict=True):
            frames = [str(f) for f in one.call_frames]
            assert frames == [str(f) for f in two.call_frames]


def test_spans_state_the_facts() -> None:
    for path in LOGS:
        data = path.read_bytes()
        for report in parse_log(data).reports:
            start, end = report.span
            assert report.header.encode() in data[start:end]
            for _, frame in report.all_frames():
                assert start <= frame.span[0] < frame.span[1] <= end
                assert frame.symbol.encode() in data[frame.span[0] : frame.span[1]]
