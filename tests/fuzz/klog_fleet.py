"""Many fuzzers of the log parser with one corpus, until a budget is spent:
``klog_fleet.py --runs 10_000_000 --cpu-seconds 3600``.

Each worker is `klog_fuzz.py` with a seed of its own; they learn from one another through the corpus
directory. A worker ends at its first finding and is followed by one with the next seed. See
README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from fuzz_counters import COUNTERS_VARIABLE, Counters  # noqa: E402
from seed_logs import seed_logs  # noqa: E402

__all__ = ["Budget", "Spent", "run_fleet"]

_SIZES = (4096, 4096, 16384, 65536)
"""Longest inputs, worker by worker: short ones are many, long ones find what is slow."""
_BROKEN = re.compile(
    r"BrokenInvariantError: (.{1,300})|(\w+Error: .{0,300})|ERROR: (libFuzzer: .+)"
)


@dataclass(frozen=True, slots=True)
class Budget:
    """What is spent first ends the run."""

    runs: int
    cpu_seconds: float


@dataclass
class Spent:
    """What a fleet has done."""

    runs: int = 0
    cpu: float = 0.0
    """Processor seconds within the parser and its invariants; libFuzzer's own are not counted."""
    wall: float = 0.0
    slowest: float = 0.0
    """Processor seconds of the slowest input, with the coverage's instruments in the code."""
    corpus: int = 0
    findings: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        each = f", {self.runs / self.wall:.0f} a second" if self.wall else ""
        lines = [
            f"{self.runs} executions{each}; {self.cpu:.0f} s of CPU, {self.wall:.0f} s of time",
            f"slowest input: {self.slowest:.2f} s of CPU",
            f"corpus: {self.corpus} inputs",
            f"findings: {sum(self.findings.values())} of {len(self.findings)} kinds",
        ]
        lines += [f"  {count:6} {kind}" for kind, count in self.findings.most_common()]
        return "\n".join(lines)


class _Worker:
    """One fuzzer, and its successors."""

    def __init__(self, number: int, folder: Path, corpus: Path, kept: Path) -> None:
        self._number, self._corpus, self._kept = number, corpus, kept
        self._log = folder / f"log{number}"
        self._counters = folder / f"counters{number}"
        self._before = (0, 0.0)
        self._slowest = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, seed: int) -> None:
        self._counters.write_bytes(bytes(Counters.SIZE))
        options = [
            *(f"-seed={seed}", "-reload=1", "-print_final_stats=0"),
            *(f"-max_len={_SIZES[self._number % len(_SIZES)]}", f"-artifact_prefix={self._kept}/"),
        ]
        command = [sys.executable, HERE / "klog_fuzz.py", *options, self._corpus]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, COUNTERS_VARIABLE: str(self._counters)},
            )

    def spent(self) -> tuple[int, float, float]:
        """Executions, processor seconds, and the slowest execution's."""
        runs, cpu, slowest = Counters(self._counters).get()
        self._slowest = max(self._slowest, slowest)
        return self._before[0] + runs, self._before[1] + cpu, self._slowest

    def ended(self) -> str | None:
        """What the fuzzer found, if it ended; its count is kept for its successor."""
        if self.process is None or self.process.poll() is None:
            return None
        runs, cpu, _ = self.spent()
        self._before = (runs, cpu)
        self._counters.write_bytes(bytes(Counters.SIZE))
        text = self._log.read_text("utf-8", "replace")
        found = _BROKEN.search(text)
        words = next((part for part in found.groups() if part), "") if found else text[-200:]
        return f"exit {self.process.returncode}: {words}"

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)  # the corpus is on disk; nothing is lost
            self.process.wait()


def run_fleet(
    budget: Budget,
    *,
    workers: int,
    corpus: Path,
    kept: Path,
    seed: int = 1,
    say: Callable[[str], None] = print,
) -> Spent:
    """Fuzz until the budget is spent; inputs that break something are written to `kept`."""
    for folder in (corpus, kept):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in _pieces(max(_SIZES)):
        (corpus / name).write_bytes(content)
    spent, started, told = Spent(), time.monotonic(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="klog-fleet-") as scratch:
        fleet = [_Worker(number, Path(scratch), corpus, kept) for number in range(workers)]
        try:
            for worker in fleet:
                worker.start(seed)
                seed += 1
            while spent.runs < budget.runs and spent.cpu < budget.cpu_seconds:
                time.sleep(0.2)
                for worker in fleet:
                    if found := worker.ended():
                        spent.findings[found] += 1
                        say(f"FOUND {found}")
                        worker.start(seed)
                        seed += 1
                each = [worker.spent() for worker in fleet]
                spent.runs = sum(runs for runs, _, _ in each)
                spent.cpu = sum(cpu for _, cpu, _ in each)
                spent.slowest = max(slowest for _, _, slowest in each)
                spent.wall = time.monotonic() - started
                if time.monotonic() - told > 60:
                    told = time.monotonic()
                    say(f"{spent.runs} executions, {spent.cpu:.0f} s of CPU")
        finally:
            for worker in fleet:
                worker.stop()
    spent.corpus = sum(1 for _ in corpus.iterdir())
    return spent


def _pieces(size: int) -> Iterator[tuple[str, bytes]]:
    """Every seed log, long ones in pieces that end with a line."""
    for number, path in enumerate(seed_logs()):
        data, piece = path.read_bytes(), 0
        while data:
            cut = len(data) if len(data) <= size else data.rfind(b"\n", 0, size) + 1 or size
            yield f"seed-{number}-{piece}", data[:cut]
            data, piece = data[cut:], piece + 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000_000, help="executions, at most")
    parser.add_argument("--cpu-seconds", type=float, default=3600.0, help="of the parser, at most")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1, help="of the first worker")
    parser.add_argument("--corpus", type=Path, help="kept between runs; none: for this run only")
    parser.add_argument("--kept", type=Path, default=Path("klog-findings"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="klog-corpus-") as scratch:
        spent = run_fleet(
            Budget(options.runs, options.cpu_seconds),
            workers=options.workers,
            corpus=options.corpus or Path(scratch),
            kept=options.kept,
            seed=options.seed,
        )
    print(spent)
    return 1 if spent.findings else 0


if __name__ == "__main__":
    sys.exit(main())
