"""Deadlocks of a crash lab through the command line: what `deadlock` of the JSON contract says.

::

    python tests/benchmarks/deadlock_contract.py ../shared/logs/crashlab-dev --vmlinux VMLINUX \\
        [--vmlinux OTHER] [--verbose] [--case NAME]

Every log with a verdict in its truth goes through ``kagent analyze LOG --json --modules DIR``, with
the ``--vmlinux`` of its release if one is given: cycle members and their order, the lock each holds
and the line it took it at, the lock it waits for with its type and line, and the victims must be
those of the truth. A control must have no cycle and the verdict ``not-a-deadlock``; where no task
is stuck a cycle may be ``possible``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kagent.symbols import Symbolizer

Score = tuple[str, bool, str]


def contract(log: Path, modules: Path, vmlinux: Path | None) -> dict[str, Any]:
    """The JSON that the command line prints for a log."""
    command = [sys.executable, "-m", "kagent", "analyze", str(log), "--json", "--quiet"]
    command += ["--modules", str(modules)]
    command += ["--vmlinux", str(vmlinux)] if vmlinux else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def scores(truth: dict[str, Any], answer: dict[str, Any]) -> Iterator[Score]:
    """Compare the contract with a truth."""
    deadlock = answer["deadlock"] or {"verdict": None, "cycles": [], "victims": []}
    verdict, cycles = deadlock["verdict"], deadlock["cycles"]
    stuck = "lockdep" not in truth["kind"] or truth["deadlock"]
    wanted = "deadlock" if truth["deadlock"] else "not-a-deadlock" if stuck else "possible"
    yield "verdict", verdict == wanted, f"{verdict}, should be {wanted}"
    if not truth["deadlock"] and stuck:
        yield "no cycle claimed", not cycles, f"{cycles}"
    members = {member["task"]: member for cycle in cycles for member in cycle}
    if truth.get("cycle"):
        yield from _cycle(truth, cycles, deadlock["victims"])
    for task in truth.get("tasks", ()):
        victims = {victim["task"]: victim for victim in deadlock["victims"]}
        name = task["comm"][:15]
        known = members.get(name) or victims.get(name)
        if known is None:
            told = answer["deadlock"] and name in deadlock["reason"]
            yield "task named", bool(told), f"{name}: {deadlock.get('reason')}"
            continue
        yield from _task(task, known, in_cycle=name in members)


def _cycle(
    truth: dict[str, Any], cycles: Sequence[Any], victims: Sequence[dict[str, Any]]
) -> Iterator[Score]:
    wanted = [name[:15] for name in truth["cycle"]]
    got = [[member["task"] for member in cycle] for cycle in cycles]
    yield "cycle members", any(sorted(c) == sorted(wanted) for c in got), f"{got} / {wanted}"
    turned = [wanted[at:] + wanted[:at] for at in range(len(wanted))]
    yield "cycle order", any(cycle in turned for cycle in got), f"{got} / {wanted}"
    outside = {task["comm"][:15] for task in truth.get("tasks", ())} - set(wanted)
    queued = {victim["task"] for victim in victims}
    yield "victims", queued == outside, f"{queued} / {outside}"


def _task(wanted: dict[str, Any], got: dict[str, Any], *, in_cycle: bool) -> Iterator[Score]:
    for lock in wanted.get("holds", ()) if in_cycle else ():
        held = {_tail(name): at for name, at in zip(got["holds"], got["taken"], strict=True)}
        name = _tail(lock["lock"])
        yield "held lock", name in held, f"{wanted['comm']}: {list(held)} / {lock['lock']}"
        yield "line it was taken at", *_place(lock["source"], held.get(name))
    waits = wanted.get("waits")
    if not waits:
        return
    right = _tail(got["waits_for"] or "") == _tail(waits["lock"])
    yield "awaited lock", right, f"{wanted['comm']}: {got['waits_for']} / {waits['lock']}"
    yield "line of the wait", *_place(waits["source"], got["where"])
    if in_cycle:
        same = got["lock_type"] == waits["type"]
        yield "type of wait", same, f"{wanted['comm']}: {got['lock_type']} / {waits['type']}"


def _place(wanted: dict[str, Any], got: dict[str, Any] | None) -> tuple[bool, str]:
    expected = (wanted["function"], Path(wanted["file"]).name, wanted["line"])
    found = (got["function"], Path(got["file"] or "?").name, got["line"]) if got else None
    return found == expected, f"{found}, should be {expected}"


def _tail(lock: str) -> str:
    return re.split(r"->|\.", lock.split("/")[0].split(" ")[0])[-1].strip("&")


def _modules(directory: Path, truth: dict[str, Any]) -> Path:
    stages = {Path(module["source"]).parts[-3] for module in truth["modules"]}
    return directory / "modules" / next(iter(stages), "")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--vmlinux", type=Path, action="append", default=[])
    parser.add_argument("--case", action="append", default=[], help="only these")
    parser.add_argument("--verbose", action="store_true", help="print what differs")
    options = parser.parse_args()
    releases: dict[str, Path] = {}
    for path in options.vmlinux:
        with Symbolizer.open(path) as symbolizer:
            releases[symbolizer.vmlinux_release or ""] = path
    totals: dict[str, list[bool]] = defaultdict(list)
    started, logs = time.monotonic(), 0
    for path in sorted((options.directory / "logs").glob("*.json")):
        truth = json.loads(path.read_text())
        if "deadlock" not in truth or (options.case and path.stem not in options.case):
            continue
        vmlinux = releases.get(truth["kernel"]["release"])
        answer = contract(path.with_suffix(".log"), _modules(options.directory, truth), vmlinux)
        found = list(scores(truth, answer))
        logs += 1
        for metric, right, _ in found:
            totals[metric].append(right)
        if options.verbose:
            wrong = [f"    {metric}: {text}" for metric, right, text in found if not right]
            print(f"{path.stem}: {len(found) - len(wrong)}/{len(found)}", *wrong, sep="\n")
    print(f"\n{logs} logs, {len(releases)} vmlinux\n{'':24}{'agree':>7}{'of':>5}")
    for metric, results in totals.items():
        print(f"{metric:24}{sum(results):>7}{len(results):>5}")
    print(f"{time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
