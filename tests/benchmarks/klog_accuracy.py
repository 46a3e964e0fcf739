"""How often titles agree with syzkaller's expectations, and reports with crashlab's truth.

::

    python tests/benchmarks/klog_accuracy.py DIR [--verbose]
    python tests/benchmarks/klog_accuracy.py --crashlab DIR [--verbose]

The first DIR holds cases as ``KEY: value`` lines, an empty line and a console log; the second
pairs of ``NAME.log`` and ``NAME.json``, itself or in its folder ``logs``. Prints agreement; the
exit status is 0 unless a DIR holds no case.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kagent.klog import KernelLog, Report, parse_log

Check = tuple[str, object, object]
"""What is compared, what is wanted, what was found."""


@dataclass
class Expected:
    """The header of a case."""

    title: str | None = None
    alt: set[str] = field(default_factory=set)
    kind: str = "UNKNOWN"
    frame: str | None = None
    corrupted: bool = False
    panicked: bool = False


def read_case(path: Path) -> tuple[Expected, bytes]:
    """Return the expectations of a case and its log."""
    raw = path.read_bytes().replace(b"\r", b"")
    head, _, log = (b"", b"", raw[1:]) if raw.startswith(b"\n") else raw.partition(b"\n\n")
    log = log.partition(b"\n\nREPORT:\n")[0]
    want = Expected()
    for line in head.decode().splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        match key:
            case "TITLE":
                want.title = value or None
            case "ALT":
                want.alt.add(value)
            case "TYPE":
                want.kind = value
            case "FRAME":
                want.frame = value
            case "CORRUPTED":
                want.corrupted = value == "Y"
            case "PANICKED":
                want.panicked = value == "Y"
    return want, log


def title_checks(path: Path) -> Iterator[Check]:
    """Compare one case's first report."""
    want, data = read_case(path)
    log = parse_log(data)
    if want.title is None:
        yield "none", [], [r.title for r in log.reports if r.kernel_bug]
        return
    got = log.reports[log.primary] if log.primary is not None else None
    yield "title", want.title, got and got.title
    yield "type", want.kind, got and got.kind
    yield "alt", sorted(want.alt), got and sorted(got.alt_titles)
    yield "corrupted", want.corrupted, got and got.corrupted
    yield "panicked", want.panicked, got and got.panicked
    if want.frame:
        yield "frame", want.frame, got and got.frame


# Which of our kinds, or title beginnings, a kind of the truth may become.
_KINDS: dict[str, tuple[str, ...]] = {
    "hung-task": ("INFO: task hung in",),
    "soft-lockup": ("BUG: soft lockup in",),
    "rcu-stall": ("INFO: rcu detected stall in",),
    "lockdep-circular": ("possible deadlock in",),
    "lockdep-recursive": ("possible deadlock in",),
    "lockdep-inconsistent-state": ("inconsistent lock state in",),
    "lockdep-bad-unlock": ("WARNING: bad unlock balance in",),
    "kasan": ("KASAN: ", "general protection fault in", "BUG: unable to handle kernel"),
    "ubsan": ("UBSAN: ",),
    "kmemleak": ("memory leak in",),
    "refcount": ("WARNING: refcount bug in",),
    "scheduling-while-atomic": ("BUG: scheduling while atomic in",),
    "sleep-in-atomic": ("BUG: sleeping function called from invalid context in",),
    "double-free": ("kernel BUG in", "KASAN: invalid-free", "BUG: "),
    "stack-corruption": ("kernel panic: stack is corrupted in",),
    "stack-overflow": ("BUG: stack guard page was hit in", "PANIC: double fault"),
    "use-after-free": ("general protection fault in", "KASAN: ", "BUG: unable to handle kernel"),
    "usercopy": ("BUG: bad usercopy in",),
    "list-corruption": ("BUG: corrupted list in", "WARNING in"),
    "null-deref": ("BUG: unable to handle kernel NULL pointer dereference in",),
    "null-call": ("BUG: unable to handle kernel NULL pointer dereference in",),
    "page-fault": ("BUG: unable to handle kernel paging request in",),
    "bug-on": ("kernel BUG in",),
    "warn": ("WARNING in",),
    "divide-error": ("divide error in",),
    "user-segfault": ("segfault in",),
    "sysrq-crash": ("kernel panic: sysrq triggered crash",),
}


def crashlab_checks(path: Path) -> Iterator[Check]:
    """Compare one log with its truth."""
    truth: dict[str, Any] = json.loads(path.read_text())
    log = parse_log(path.with_suffix(".log").read_bytes())
    if truth["kind"] == "none":
        yield "none", [], [r.title for r in log.reports]
        return
    got = log.reports[log.primary] if log.primary is not None else None
    beginnings = _KINDS.get(truth["kind"])
    if beginnings and got:
        yield "kind", beginnings, beginnings if got.title.startswith(beginnings) else got.title
    yield "corrupted", False, got and got.corrupted
    yield (
        "kernel bug",
        truth["kind"] not in ("user-segfault", "sysrq-crash"),
        got and got.kernel_bug,
    )
    if got:
        yield from _span_checks(truth, got, path)
        yield from _fault_checks(truth, got)
    yield from _task_checks(truth, log)


def _span_checks(truth: dict[str, Any], got: Report, path: Path) -> Iterator[Check]:
    if header := truth.get("header"):
        start, end = got.span
        inside = header.encode() in path.with_suffix(".log").read_bytes()[start:end]
        yield "header in span", True, inside
    if release := truth["kernel"].get("release"):
        yield "release", release, got.context.kernel or release * (not got.kernel_bug)


def _fault_checks(truth: dict[str, Any], got: Report) -> Iterator[Check]:
    fault = truth.get("fault") or {}
    if symbol := fault.get("symbol"):
        frames = [str(f).partition(" [")[0] for f in got.call_frames if f.reliable][:2]
        yield "faulting frame", symbol, symbol if symbol in frames else frames[:1]
        if fault.get("module"):
            modules = {f.module for f in got.call_frames[:2]}
            yield (
                "module",
                fault["module"],
                fault["module"] if fault["module"] in modules else modules,
            )
    comm = truth.get("comm")
    if isinstance(comm, str):
        yield "task", comm[:15], got.context.task
    elif comm:
        yield "task", True, got.context.task in comm


def _task_checks(truth: dict[str, Any], log: KernelLog) -> Iterator[Check]:
    lockdep = next((r.locks for r in log.reports if r.locks), None)
    for task in truth.get("tasks", []):
        found = [t for t in log.tasks if t.pid == task["pid"] and t.comm == task["comm"]]
        yield "task found", task["comm"], found[0].comm if found else None
        held = {lock.address for t in found for lock in t.held}
        if lockdep and lockdep.pid == task["pid"]:
            held |= {lock.address for lock in lockdep.holding}
        wanted = {h["lockdep_address"] for h in task["holds"] if "lockdep_address" in h}
        if held and wanted:
            yield "held locks", True, {int(address, 16) for address in wanted} <= held


def crashlab_cases(directory: Path) -> list[Path]:
    """The truths in `directory`, or in the folder of logs below it."""
    inner = directory / "logs"
    return sorted((inner if inner.is_dir() else directory).glob("*.json"))


def main() -> None:
    """Print the agreement table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dir", type=Path, nargs="?")
    parser.add_argument("--crashlab", type=Path, metavar="DIR")
    parser.add_argument("--verbose", action="store_true", help="list what disagrees")
    args = parser.parse_args()
    good: Counter[str] = Counter()
    total: Counter[str] = Counter()
    cases: list[tuple[str, Iterator[Check]]] = []
    if args.dir:
        files = [path for path in args.dir.iterdir() if path.is_file()]
        names = sorted(files, key=lambda p: (len(p.name), p.name))
        cases += [(path.name, title_checks(path)) for path in names]
    if args.crashlab:
        cases += [(p.stem, crashlab_checks(p)) for p in crashlab_cases(args.crashlab)]
    if not cases:
        parser.error(f"no cases in {args.dir or args.crashlab or 'nothing'}: give a DIR of cases")
    for name, checks in cases:
        for what, want, got in checks:
            total[what] += 1
            good[what] += want == got
            if want != got and args.verbose:
                print(f"{name}: {what}: want {want!r}, got {got!r}")
    for what, count in total.items():
        print(f"{what:16} {good[what]:5} of {count:5} {good[what] / count:8.2%}")


if __name__ == "__main__":
    main()
