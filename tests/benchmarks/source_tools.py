"""What the source tools explain of real traces, and how long each of them takes.

    python tests/benchmarks/source_tools.py TREE[@REV] LOG ... [--modules DIR] [--release 6.1]
        [--questions N] [--seed N] [--list] [--only-time]

Every two consecutive reliable frames of the logs' traces (of kernels whose release begins with
``--release``) make a question to `call_path`: how does the outer one reach the inner one? Pairs
count when both functions are defined in the tree; pairs that a trap or an interrupt lies between
are counted by themselves. The other tools are asked about functions and types drawn at random
from the tree's own files. Figures: pairs by kind, share explained, p50 and p95 in milliseconds.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from kagent.errors import KagentError
from kagent.klog import parse_log
from kagent.klog.model import Frame
from kagent.source import SourceTree
from kagent.source.answers import Answer, CallPathAnswer
from kagent.source.tools import SourceTools

EXPLAINED = ("direct", "through", "pointer", "entry", "compiler", "callback")
_HEADER = re.compile(rb"\A(?:[A-Z]+: [^\n]*\n)+\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tree")
    parser.add_argument("logs", nargs="*", type=Path)
    parser.add_argument("--modules", type=Path)
    parser.add_argument("--release", default="")
    parser.add_argument("--pairs", type=int, default=100_000, help="at most so many pairs")
    parser.add_argument("--questions", type=int, default=30, help="for each of the other tools")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="print every answer to a pair")
    given = parser.parse_args()
    trees = [SourceTree.open(given.tree)]
    if given.modules:
        trees.append(SourceTree.open(given.modules))
    tools = SourceTools(trees)
    times: dict[str, list[float]] = defaultdict(list)
    dice = random.Random(given.seed)
    pairs = sorted({pair for log in given.logs for pair in pairs_of(log, given.release)})
    if len(pairs) > given.pairs:
        pairs = sorted(dice.sample(pairs, given.pairs))
    if pairs:
        report_pairs(tools, pairs, times, listing=given.list)
    if given.questions:
        ask_others(tools, dice, given.questions, times)
    print(f"{'tool':<18} {'asked':>6} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8}")
    for name, taken in times.items():
        taken.sort()
        high = taken[min(len(taken) - 1, int(len(taken) * 0.95))]
        row = (statistics.median(taken), high, taken[-1])
        print(f"{name:<18} {len(taken):>6}" + "".join(f" {1000 * value:>8.0f}" for value in row))


def pairs_of(path: Path, release: str) -> Iterator[tuple[str, str]]:
    """(outer, inner) of consecutive reliable frames; nothing across stacks or other kernels."""
    data = _HEADER.sub(b"", path.read_bytes().replace(b"\r", b""))
    for report in parse_log(data).reports:
        kernel = report.context.kernel or ""
        if not kernel.startswith(release):
            continue
        for trace in report.traces:
            frames = [frame for frame in trace.frames if frame.reliable]
            for inner, outer in pairwise(frames):
                yield asked(outer), asked(inner)


def asked(frame: Frame) -> str:
    """A frame without what differs from log to log."""
    return f"{frame.symbol} [{frame.module}]" if frame.module else frame.symbol


def report_pairs(
    tools: SourceTools,
    pairs: list[tuple[str, str]],
    times: dict[str, list[float]],
    *,
    listing: bool,
) -> None:
    names = sorted({name.partition(" ")[0] for pair in pairs for name in pair})
    known = {name for tree in tools.trees for name, found in tree.lookup(names).items() if found}
    present = [pair for pair in pairs if {name.partition(" ")[0] for name in pair} <= known]
    kinds: Counter[str] = Counter()
    for outer, inner in present:
        found = timed(times["call_path"], lambda o=outer, i=inner: tools.call_path(o, i))
        assert isinstance(found, CallPathAnswer)
        kinds[found.kind] += 1
        if listing or found.kind not in EXPLAINED:
            steps = " | ".join(f"{s.path}:{s.line} {s.text}" for s in found.steps[:3])
            print(f"{found.kind:<10} {outer} -> {inner}: {found.note[:90]} {steps[:200]}")
    explained = sum(kinds[kind] for kind in EXPLAINED)
    print(f"{len(pairs)} pairs, {len(present)} with both functions in the tree: {dict(kinds)}")
    if present:
        print(f"explained {explained} of {len(present)}: {100 * explained / len(present):.1f} %")


def ask_others(
    tools: SourceTools, dice: random.Random, count: int, times: dict[str, list[float]]
) -> None:
    files = sorted(drawn_files(tools.trees[0], dice, count))
    for path in files:
        tree = tools.trees[0]
        functions = tree.functions_in(path)
        text = tree.read_lines(path, 1, 400).text
        questions: list[tuple[str, Callable[[], Answer]]] = [
            ("read_lines", lambda p=path: tools.read_lines(p, 1, 100)),
            ("subsystem_of", lambda p=path: tools.subsystem_of(p)),
            ("blame", lambda p=path: tools.blame(p, 1)),
        ]
        if functions:
            name = dice.choice(functions).name
            questions += [
                ("lookup_function", lambda n=name: tools.lookup_function(n)),
                ("find_callers", lambda n=name: tools.find_callers(n)),
                ("find_callees", lambda n=name: tools.find_callees(n)),
            ]
        tags = re.findall(r"\bstruct (\w+)", text)
        if tags:
            tag = f"struct {dice.choice(tags)}"
            questions += [
                ("find_type", lambda t=tag: tools.find_type(t)),
                ("struct_layout", lambda t=tag: tools.struct_layout(t)),
            ]
        for name, ask in questions:
            timed(times[name], ask)


def drawn_files(tree: SourceTree, dice: random.Random, count: int) -> Iterator[str]:
    hits, _ = tree.store.grep([r"^EXPORT_SYMBOL"], ("kernel/*.c", "mm/*.c", "fs/*.c", "net/*.c"))
    paths = sorted({hit.path for hit in hits})
    yield from dice.sample(paths, min(count, len(paths)))


def timed(taken: list[float], ask: Callable[[], Answer]) -> Answer | None:
    begin = time.perf_counter()
    try:
        return ask()
    except KagentError:
        return None
    finally:
        taken.append(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
