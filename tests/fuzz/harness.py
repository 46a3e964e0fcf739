"""Runs a campaign of mutants in worker processes that may die, and counts what happens.

A mutant is made from (seed, index) alone, so that any one of them can be made again:
``--seed S --start INDEX --count 1``. The supervisor restarts a worker behind the mutant that killed
or hung it. A worker publishes where it is through a file that both map into memory.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn, Protocol

__all__ = ["Campaign", "Mutant", "SlowError", "Totals", "campaign_main", "cpu_limit", "run"]

ROOT = Path(__file__).resolve().parents[2]
CPU_LIMIT = 2.0
"""Processor seconds that one mutant may cost."""
_PATIENCE = 5 * CPU_LIMIT
"""Processor seconds after which Python code is interrupted."""
_HUNG = 90.0
"""Seconds without a new mutant after which a worker is killed: native code heeds no interrupt."""
_MEMORY = 3 << 30
"""Address space of a worker."""
_GROWTH = 256 << 20
"""Bytes by which one mutant may raise the peak of a worker's resident memory."""
_KEPT = 3
"""Mutants that are written out for each kind of finding."""


class SlowError(Exception):
    """A mutant costs more processor time than it may, or more memory."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is fed in, and how it was made."""

    content: bytes
    story: str
    """The seed file and what was done to it, in words."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else the check is to know."""


class Campaign(Protocol):
    """Makes mutants and says what must hold for each."""

    name: str

    def prepare(self, folder: Path) -> None:
        """Write what all workers read into `folder`; once, by the supervisor."""

    def load(self, folder: Path) -> None:
        """Read that again, to make and check mutants."""

    def warm(self) -> None:
        """Check good input, so that no mutant pays for imports; once in each worker."""

    def make(self, dice: random.Random) -> Mutant:
        """One mutant; the same dice make the same one."""

    def check(self, mutant: Mutant, dice: random.Random) -> None:
        """Raise what is wrong."""


@dataclass
class Totals:
    """What came of a campaign."""

    mutants: int = 0
    cpu: float = 0.0
    wall: float = 0.0
    slowest: tuple[float, int] = (0.0, -1)
    """Processor seconds of the slowest mutant, and its index."""
    deaths: int = 0
    """Workers that died or hung: each is a finding too."""
    findings: Counter[str] = field(default_factory=Counter)
    """By kind: the exception and the place that raised it."""

    def __str__(self) -> str:
        each = f", {self.mutants / self.wall:.0f} a second" if self.wall else ""
        lines = [
            f"{self.mutants} mutants{each}; {self.cpu:.0f} s of CPU, {self.wall:.0f} s of time",
            f"slowest: {self.slowest[0]:.2f} s of CPU (mutant {self.slowest[1]})",
            f"workers that died: {self.deaths}",
            f"findings: {sum(self.findings.values())} of {len(self.findings)} kinds",
        ]
        lines += [f"  {count:6} {kind}" for kind, count in self.findings.most_common()]
        return "\n".join(lines)


# ── the worker ───────────────────────────────────────────────────────────────────────────────


class _Cell:
    """Where a worker is: index, mutants done, their CPU seconds, the slowest and its index."""

    _ROW = struct.Struct("<qqddq")

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(self._ROW.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self._ROW.size)

    def get(self) -> tuple[int, int, float, float, int]:
        return self._ROW.unpack_from(self._map)  # type: ignore[return-value]

    def put(self, index: int, done: int, cpu: float, slowest: tuple[float, int]) -> None:
        self._ROW.pack_into(self._map, 0, index, done, cpu, *slowest)


def cpu_limit(seconds: float) -> None:
    """Raise `SlowError` in this process once it has used so much more processor time; 0: never."""
    signal.signal(signal.SIGPROF, _give_up)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _give_up(signum: int, frame: FrameType | None) -> NoReturn:
    raise SlowError(f"no end after {_PATIENCE:.0f} s of CPU")


def dice_of(seed: int, index: int) -> random.Random:
    return random.Random(f"{seed}:{index}")


def _work(campaign: Campaign, options: argparse.Namespace) -> None:
    """Check a range of mutants; a line of JSON on standard output for each finding."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    campaign.load(options.folder)
    campaign.warm()
    cell = _Cell(options.cell)
    done, cpu, slowest = 0, 0.0, (0.0, -1)
    for index in range(options.start, options.start + options.count, options.step):
        cell.put(index, done, cpu, slowest)
        dice = dice_of(options.seed, index)
        mutant = campaign.make(dice)
        used, broken = _judge(campaign, mutant, dice)
        done, cpu = done + 1, cpu + used
        slowest = max(slowest, (used, index))
        if broken is not None:
            print(json.dumps({"index": index, **broken}), flush=True)
    cell.put(options.start + options.count, done, cpu, slowest)


def _judge(
    campaign: Campaign, mutant: Mutant, dice: random.Random
) -> tuple[float, dict[str, str] | None]:
    """CPU seconds of one mutant, and what is wrong with what came of it."""
    peak, started = _peak(), time.process_time()
    broken: dict[str, str] | None = None
    try:
        cpu_limit(_PATIENCE)
        try:
            campaign.check(mutant, dice)
        finally:
            cpu_limit(0)
        used = time.process_time() - started
        if used > CPU_LIMIT:
            raise SlowError(f"{used:.1f} s of CPU")
        if (grown := _peak() - peak) > _GROWTH:
            raise SlowError(f"{grown >> 20} MiB of memory")
    except Exception as error:  # noqa: BLE001 - whatever comes out is what is looked for
        broken = {"kind": _kind(error), "trace": traceback.format_exc()}
    return time.process_time() - started, broken


def _peak() -> int:
    # Not getrusage(): its ru_maxrss begins with that of the process that started this one.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def _kind(error: BaseException) -> str:
    """The exception and the innermost place of the project that raised it."""
    calls = traceback.extract_tb(error.__traceback__)
    own = [call for call in calls if "/kagent/" in call.filename.replace(str(ROOT), "")] or calls
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}"
    return f"{type(error).__name__} at {place}: {str((*error.args, '')[0])[:120]}"


# ── the supervisor ───────────────────────────────────────────────────────────────────────────


class _Worker:
    """One process on every `step`-th mutant of the range, and its successors when it dies."""

    def __init__(self, command: list[str], folder: Path, number: int, span: range) -> None:
        self._command = [*command, f"--folder={folder}", f"--cell={folder / f'cell{number}'}"]
        self._errors = folder / f"errors{number}"
        self._output = folder / f"output{number}"
        self._read: IO[bytes] | None = None
        self.cell = _Cell(folder / f"cell{number}")
        self.span = span
        self._before = (0, 0.0)
        self._seen = (-1, 0.0)
        self.slowest = (0.0, -1)
        self.process: subprocess.Popen[bytes] | None = None
        self._start(span.start)

    def _start(self, at: int) -> None:
        self.cell.put(at, 0, 0.0, (0.0, -1))
        ranges = [f"--start={at}", f"--count={self.span.stop - at}", f"--step={self.span.step}"]
        with self._output.open("ab") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*self._command, *ranges], stdin=subprocess.DEVNULL, stdout=output, stderr=errors
            )
        self._seen = (at, time.monotonic())

    @property
    def done(self) -> int:
        return self._before[0] + self.cell.get()[1]

    @property
    def cpu(self) -> float:
        return self._before[1] + self.cell.get()[2]

    def findings(self) -> Iterator[dict[str, str]]:
        """Those that were written since the last call."""
        if self._read is None:
            self._read = self._output.open("rb")
        while line := self._read.readline():
            if not line.endswith(b"\n"):  # still being written
                self._read.seek(-len(line), os.SEEK_CUR)
                return
            yield json.loads(line)

    def tend(self) -> dict[str, str] | None:
        """Go on behind a mutant that ended the process; say so. None: nothing happened."""
        index, done, cpu, *slowest = self.cell.get()
        self.slowest = max(self.slowest, tuple(slowest))
        process = self.process
        if process is None:
            return None
        code = process.poll()
        now = time.monotonic()
        if code is None and (index != self._seen[0] or now - self._seen[1] < _HUNG):
            self._seen = (index, now) if index != self._seen[0] else self._seen
            return None
        if code is None:
            process.kill()
            process.wait()
        self.process = None
        if code == 0:
            return None
        self._before = (self._before[0] + done + 1, self._before[1] + cpu)
        self.cell.put(index, 0, 0.0, (0.0, -1))
        trace = self._errors.read_text("utf-8", "replace")[-2000:]  # before a successor clears it
        if (following := index + self.span.step) < self.span.stop:
            self._start(following)
        return {"index": str(index), "kind": _cause(code), "trace": trace}

    def kill(self) -> None:
        """End the process, if it still runs, and close what was opened."""
        if self._read is not None:
            self._read.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def _cause(code: int | None) -> str:
    if code is None:
        return f"worker hung for {_HUNG:.0f} s"
    name = signal.Signals(-code).name if code < 0 else f"exit {code}"
    return f"worker died: {name}"


def run(
    campaign: Campaign,
    script: Path,
    *,
    seed: int = 0,
    start: int = 0,
    count: int,
    jobs: int = 1,
    kept: Path | None = None,
    say: Callable[[str], None] = print,
) -> Totals:
    """Check mutants `start` to `start + count`; those that break a rule are written to `kept`."""
    totals, started = Totals(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{campaign.name}-") as scratch:
        folder = Path(scratch)
        campaign.prepare(folder)
        command = [sys.executable, str(script), "--worker", f"--seed={seed}"]
        spans = [range(start + at, start + count, jobs) for at in range(min(jobs, count))]
        workers = [_Worker(command, folder, at, span) for at, span in enumerate(spans)]
        keeper = _Keeper(campaign, script, seed, kept, say, folder)
        try:
            told = time.monotonic()
            while True:
                running = [worker for worker in workers if worker.process is not None]
                for worker in workers:
                    keeper.take(totals, worker)
                _add_up(totals, workers, started)
                if not running:
                    return totals
                if time.monotonic() - told > 30:
                    told = time.monotonic()
                    say(f"{totals.mutants}/{count}: {totals.mutants / totals.wall:.0f} a second")
                time.sleep(0.05)
        finally:
            for worker in workers:
                worker.kill()


def _add_up(totals: Totals, workers: list[_Worker], started: float) -> None:
    totals.mutants = sum(worker.done for worker in workers)
    totals.cpu = sum(worker.cpu for worker in workers)
    totals.slowest = max(worker.slowest for worker in workers)
    totals.wall = time.monotonic() - started


@dataclass
class _Keeper:
    """Counts findings, tells of the first of each kind, and writes their mutants out."""

    campaign: Campaign
    script: Path
    seed: int
    kept: Path | None
    say: Callable[[str], None]
    folder: Path
    loaded: bool = False

    def take(self, totals: Totals, worker: _Worker) -> None:
        if died := worker.tend():
            totals.deaths += 1
            self._note(totals, died)
        for found in worker.findings():
            self._note(totals, found)

    def _note(self, totals: Totals, found: dict[str, str]) -> None:
        index, kind = int(found["index"]), found["kind"]
        totals.findings[kind] += 1
        if totals.findings[kind] > _KEPT:
            return
        again = (
            f"python {self.script.relative_to(ROOT)} --seed {self.seed} --start {index} --count 1"
        )
        if totals.findings[kind] == 1:
            self.say(f"FOUND {kind}\n  {again}\n{found['trace'][-3000:]}")
        if self.kept is None:
            return
        if not self.loaded:
            self.campaign.load(self.folder)
            self.loaded = True
        mutant = self.campaign.make(dice_of(self.seed, index))
        self.kept.mkdir(parents=True, exist_ok=True)
        stem = f"{self.campaign.name}-{self.seed}-{index}"
        (self.kept / stem).write_bytes(mutant.content)
        told = f"{kind}\n{mutant.story}\n{again}\n\n{found['trace']}"
        (self.kept / f"{stem}.txt").write_text(told, "utf-8", "replace")


def campaign_main(campaign: Campaign, script: Path, *, default_count: int) -> int:
    """The command line of a campaign; returns its exit status, 1 where anything was found."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other mutants")
    parser.add_argument("--start", type=int, default=0, help="index of the first mutant")
    parser.add_argument("--count", type=int, default=default_count)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes")
    parser.add_argument("--kept", type=Path, help="directory for mutants that break a rule")
    for hidden in ("--worker", "--folder", "--cell", "--step"):
        action = "store_true" if hidden == "--worker" else "store"
        parser.add_argument(hidden, action=action, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        options.folder, options.cell = Path(options.folder), Path(options.cell)
        options.step = int(options.step)
        _work(campaign, options)
        return 0
    totals = run(
        campaign,
        script,
        seed=options.seed,
        start=options.start,
        count=options.count,
        jobs=options.jobs,
        kept=options.kept,
    )
    print(totals)
    return 1 if totals.findings else 0
