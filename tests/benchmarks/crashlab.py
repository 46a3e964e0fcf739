"""Agreement of the rule-based diagnosis with crashes of known cause.

    python tests/benchmarks/crashlab.py DIR [--vmlinux FILE] [--verbose] [CASE ...]

DIR holds ``logs/NAME.log`` with ``logs/NAME.json`` (the truth) and ``modules/stageN`` (sources and
modules with debug info). A vmlinux is used for the cases of its own release only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kagent.diagnosis import (
    FaultResult,
    GraphResult,
    MemoryResult,
    analyse_task,
    build_wait_graph,
    classify,
    decode_fault,
    fold_tasks,
    frames_of,
    memory_facts,
    tasks_of,
)
from kagent.klog import parse_log
from kagent.resolution import SourcePoint
from kagent.source import SourceTree
from kagent.symbols import Symbolized, Symbolizer

Score = tuple[str, bool | None, str]
"""Metric, agreement (None: the data to know it was not given), and what differs."""


@dataclass
class Answer:
    """What the rules say about one log."""

    route: str = "general"
    fault: FaultResult | None = None
    memory: MemoryResult | None = None
    graph: GraphResult | None = None
    symbolized: list[Symbolized] = field(default_factory=list)


def diagnose(text: bytes, symbolizer: Symbolizer, source: SourceTree) -> Answer:
    """Run every expert on a log, as the agents do."""
    log = parse_log(text)
    if log.primary is None:
        return Answer()
    report = log.reports[log.primary]
    tasks = tasks_of(log)
    symbolized = symbolizer.symbolize(frames_of(log, tasks))
    groups = fold_tasks(tasks, 8)
    locks = [
        analyse_task(task, symbolized, source=source, types=symbolizer)
        for group in groups
        for task in group.tasks
    ]
    return Answer(
        route=classify(log, log.primary).route,
        fault=decode_fault(report, symbolized, source=source, types=symbolizer),
        memory=memory_facts(report, symbolized),
        graph=build_wait_graph(locks, log, symbolized),
        symbolized=symbolized,
    )


# Comparison -------------------------------------------------------------------------------------


def scores(truth: dict[str, Any], answer: Answer, whole_kernel: bool) -> Iterator[Score]:
    """Compare one answer with its truth."""
    if truth.get("fault"):
        yield from _fault(truth, answer, whole_kernel)
    elif truth["kind"] == "user-segfault":
        yield "no fault claimed", answer.fault is None, str(answer.fault)
    if deref := truth.get("deref"):
        yield from _member(deref, answer)
    if caller := truth.get("caller"):
        own = answer.fault.fault.own_frame if answer.fault else None
        yield "own frame", *_point(caller["source"], own)
    if kasan := truth.get("kasan"):
        yield from _kasan(kasan, answer)
    if "deadlock" in truth:
        yield from _deadlock(truth, answer)
    for task in truth.get("tasks", ()):
        yield from _task(task, answer)


def _fault(truth: dict[str, Any], answer: Answer, whole_kernel: bool) -> Iterator[Score]:
    wanted = truth["fault"]
    if answer.fault is None:
        yield "fault function", False, f"nothing, should be {wanted['symbol']}"
        return
    fault = answer.fault.fault
    names = wanted["function"] if isinstance(wanted["function"], list) else [wanted["function"]]
    allowed = {_base(name) for name in [*names, wanted["symbol"].split("+")[0]]}
    yield "fault function", _base(fault.symbol) in allowed, f"{fault.symbol} / {allowed}"
    known = whole_kernel or wanted["module"] is not None
    if not known:
        yield "fault line", None, "no vmlinux"
        return
    point = SourcePoint(function=fault.function or "", file=fault.file, line=fault.line)
    yield "fault line", *_point(wanted["source"], point)
    chain = [(p.function, _name(p.file), p.line) for p in fault.inline_chain]
    expected = [(p["function"], _name(p["file"]), p["line"]) for p in wanted["inline_chain"]]
    yield "inline chain", chain == expected, f"{chain}, should be {expected}"


def _member(deref: dict[str, Any], answer: Answer) -> Iterator[Score]:
    fault = answer.fault.fault if answer.fault else None
    got = (fault.struct, fault.member) if fault else None
    wanted = (deref["struct"], deref["member"])
    yield "struct and member", got == wanted, f"{got}, should be {wanted}"
    if deref.get("offset") is not None:
        offset = fault.offset if fault else None
        yield "member offset", offset == int(deref["offset"], 16), f"{offset} / {deref['offset']}"
    if address := deref.get("real_address") or deref.get("fault_address"):
        found = fault.address if fault else None
        yield "fault address", found == int(address, 16), f"{found} / {address}"
    if deref["access"] in ("read", "write"):
        yield "access", bool(fault and fault.access == deref["access"]), str(fault and fault.access)


def _kasan(kasan: dict[str, Any], answer: Answer) -> Iterator[Score]:
    facts = answer.memory.memory if answer.memory else None
    yield "access site", *_point(kasan["src"], facts.access if facts else None)
    for name in ("alloc", "free"):
        if name in kasan:
            yield f"{name} site", *_point(kasan[name], getattr(facts, name) if facts else None)
    if kasan.get("struct") and kasan.get("member"):
        fault = answer.fault.fault if answer.fault else None
        got = (fault.struct, fault.member) if fault else None
        wanted = (kasan["struct"], kasan["member"])
        yield "struct and member", got == wanted, f"{got}, should be {wanted}"


def _deadlock(truth: dict[str, Any], answer: Answer) -> Iterator[Score]:
    verdict = answer.graph.deadlock.verdict if answer.graph else None
    right = (verdict == "deadlock") == truth["deadlock"]
    yield "deadlock verdict", right, f"{verdict}, should be {truth['deadlock']}"
    yield "route", answer.route == "deadlock", answer.route
    if not truth.get("cycle"):
        return
    wanted = [_comm(name) for name in truth["cycle"]]
    cycles = answer.graph.deadlock.cycles if answer.graph else []
    got = [[_comm(member.task) for member in cycle] for cycle in cycles]
    yield "cycle members", any(sorted(c) == sorted(wanted) for c in got), f"{got} / {wanted}"
    turned = [wanted[i:] + wanted[:i] for i in range(len(wanted))]
    yield "cycle order", any(cycle in turned for cycle in got), f"{got} / {wanted}"
    outside = {_comm(t["comm"]) for t in truth.get("tasks", ())} - set(wanted)
    victims = {_comm(v.task) for v in answer.graph.deadlock.victims} if answer.graph else set()
    yield "victims", victims == outside, f"{victims} / {outside}"


def _task(wanted: dict[str, Any], answer: Answer) -> Iterator[Score]:
    known = answer.graph.tasks if answer.graph else ()
    task = next((t for t in known if t.pid == wanted.get("pid")), None)
    for lock in wanted.get("holds", ()):
        held = [u for u in task.holds if _tail(u.name) == _tail(lock["lock"])] if task else []
        names = [u.name for u in task.holds] if task else None
        yield "held lock", bool(held), f"{wanted['comm']}: {names} / {lock['lock']}"
        points = [_point(lock["source"], use.where) for use in held]
        best = next((p for p in points if p[0]), (False, f"{points}"))
        yield "line it was taken at", *best
    waits = wanted.get("waits")
    if not waits:
        return
    use = task.waits if task else None
    right = bool(use and _tail(use.name) == _tail(waits["lock"]))
    yield "awaited lock", right, f"{wanted['comm']}: {use and use.name} / {waits['lock']}"
    same_type = bool(use and use.type == waits["type"])
    yield "type of wait", same_type, f"{use and use.type} / {waits['type']}"
    yield "line of the wait", *_point(waits["source"], use.where if use else None)


def _point(wanted: dict[str, Any], got: SourcePoint | None) -> tuple[bool, str]:
    expected = (_base(wanted["function"]), _name(wanted["file"]), wanted.get("line"))
    found = (_base(got.function), _name(got.file), got.line) if got else None
    if expected[2] is None and found:
        found = (found[0], found[1], None)
    return found == expected, f"{found}, should be {expected}"


def _base(name: str) -> str:
    return re.sub(r"\.(constprop|isra|part|cold)(\.\d+)?$", "", name)


def _name(path: str | None) -> str | None:
    return Path(path).name if path else None


def _tail(lock: str) -> str:
    return re.split(r"->|\.", lock.split("/")[0].split(" ")[0])[-1].strip("&")


def _comm(name: str) -> str:
    return name[:15]


# Running ----------------------------------------------------------------------------------------


def run(directory: Path, vmlinux: Path | None, only: Iterable[str], verbose: bool) -> int:
    """Print the figures; the number of disagreements."""
    totals: dict[str, list[bool | None]] = defaultdict(list)
    wanted = set(only)
    started = time.monotonic()
    for path in sorted((directory / "logs").glob("*.json")):
        if wanted and path.stem not in wanted:
            continue
        truth = json.loads(path.read_text())
        release = truth["kernel"]["release"]
        used = vmlinux if vmlinux and release in _banner(vmlinux) else None
        modules = directory / "modules" / _stage(truth, path.stem)
        with Symbolizer.open(used, modules, release=release) as symbolizer:
            text = path.with_suffix(".log").read_bytes()
            answer = diagnose(text, symbolizer, SourceTree.open(modules))
        found = list(scores(truth, answer, used is not None))
        for metric, right, _ in found:
            totals[metric].append(right)
        if verbose:
            wrong = [f"    {metric}: {text}" for metric, right, text in found if right is False]
            print(f"{path.stem}: {len(found) - len(wrong)}/{len(found)}", *wrong, sep="\n")
    print(f"\n{'':24}{'agree':>7}{'of':>5}   unknowable")
    for metric, results in totals.items():
        known = [right for right in results if right is not None]
        print(f"{metric:24}{sum(known):>7}{len(known):>5}   {len(results) - len(known) or ''}")
    print(f"{time.monotonic() - started:.1f} s")
    return sum(right is False for results in totals.values() for right in results)


def _stage(truth: dict[str, Any], name: str) -> str:
    sources = [module["source"] for module in truth["modules"]]
    stage = re.search(r"stage\d", sources[0]) if sources else None
    return stage[0] if stage else ("stage1" if name.startswith("d61") else "stage2")


def _banner(vmlinux: Path) -> str:
    with Symbolizer.open(vmlinux) as symbolizer:
        return symbolizer.vmlinux_release or ""


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("case", nargs="*")
    parser.add_argument("--vmlinux", type=Path)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    run(options.directory, options.vmlinux, options.case, options.verbose)
    return 0


if __name__ == "__main__":
    sys.exit(main())
