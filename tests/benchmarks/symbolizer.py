"""Speed, memory and correctness of the symbolizer against the tools people use today.

    python tests/benchmarks/symbolizer.py --vmlinux FILE --modules DIR \\
        [--script decode_stacktrace.sh] [--llvm llvm-symbolizer] LOG ...

The logs must be of that vmlinux. Their frames, each used once, are put together to traces of 17
kernel and 2 module frames. The first is decoded by ``kagent decode``, by the kernel's own
``scripts/decode_stacktrace.sh``, and by a bare drgn script that only does the look-ups; the others
show what a further trace costs in a process that has seen one of the same build. Chains of random
addresses are compared with those of llvm-symbolizer. Exits with 1 when a figure misses its goal.

The CPU of the bare script is the measure for trusted files: put them below a directory that only
root can write, and name that in ``KAGENT_DEBUG_DIR``. What the child for other files costs more is
measured by itself, against the same look-ups made in one process.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kagent
from kagent.symbols import Location, Symbolizer
from kagent.symbols.annotate import Decoding, annotate, frame_lines
from kagent.symbols.objects import DebugObject, open_object
from kagent.symbols.paths import tidy_path

KERNEL_FRAMES, MODULE_FRAMES = 17, 2
ROUNDS = 15
SHOWN = 20
PER_MODULE = 100

BARE = """\
import json, sys
import drgn
from elftools.elf.elffile import ELFFile

vmlinux, frames = sys.argv[1], json.load(sys.stdin)
program = drgn.Program(drgn.host_platform)

def loaded(sections):
    return [s for s in sections if s["sh_flags"] & 2 and s["sh_size"]]

def kernel(path):
    with open(path, "rb") as file:
        found = [s for s in loaded(ELFFile(file).iter_sections()) if s["sh_addr"] >> 63]
        low = min(s["sh_addr"] for s in found)
        high = max(s["sh_addr"] + s["sh_size"] for s in found)
    module = program.extra_module("vmlinux", create=True)
    module.address_range = (low, high)
    module.try_file(path, force=True)

def driver(path, base):
    module = program.relocatable_module(path, base, create=True)
    with open(path, "rb") as file:
        at = base
        for section in loaded(ELFFile(file).iter_sections()):
            at = -(-at // 4096) * 4096
            module.section_addresses[section.name] = at
            at += section["sh_size"]
    module.address_range = (base, at)
    module.try_file(path, force=True)

kernel(vmlinux)
for number, path in enumerate(sorted({f["file"] for f in frames if f["file"]})):
    driver(path, 0xffffffffc0000000 + (number << 24))
for frame in frames:
    address = program.symbol(frame["symbol"]).address + frame["offset"]
    for at in program.source_location(address):
        print(at.name(), at.filename, at.line)
"""


HERE = """\
import sys
from kagent.cli.decode import run
from kagent.isolation import InProcess, using
from kagent.symbols import DebugFiles
DebugFiles.trusts = lambda self, path: False
if sys.argv[1] == "here":
    with using(InProcess()):
        run(sys.argv[2:])
else:
    run(sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a process cost: seconds, CPU seconds, peak resident MiB; children included."""

    wall: float
    cpu: float
    peak: float
    output: bytes


def run(command: Sequence[str | Path], stdin: bytes = b"") -> Run:
    """Run to the end; raises `RuntimeError` when it fails."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(stdin)
        source.seek(0)
        begin = time.perf_counter()
        child = subprocess.Popen(
            [str(word) for word in command], stdin=source, stdout=target, stderr=subprocess.PIPE
        )
        assert child.stderr is not None
        errors = child.stderr.read()
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        child.stderr.close()
        if child.returncode:
            raise RuntimeError(f"{command[0]} failed: {errors.decode(errors='replace')[-400:]}")
        target.seek(0)
        return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, target.read())


def best(runs: Iterable[Run]) -> Run:
    """The one that the rest of the machine disturbed least."""
    return min(runs, key=lambda one: one.cpu)


class Traces:
    """Traces put together from the frame lines of some logs, no frame used twice."""

    def __init__(self, logs: Sequence[Path]) -> None:
        self._kernel: dict[tuple[str, int | None], bytes] = {}
        self._module: dict[tuple[str, int | None], bytes] = {}
        for data in map(Path.read_bytes, logs):
            for line in frame_lines(data):
                (frame,) = line.frames
                rows = self._module if frame.module else self._kernel
                if frame.reliable and not frame.exact:
                    rows.setdefault((frame.symbol, frame.offset), f" {frame}\n".encode())

    @property
    def left(self) -> int:
        """How many more traces there are."""
        return min(len(self._kernel) // KERNEL_FRAMES, len(self._module) // MODULE_FRAMES)

    def take(self) -> bytes:
        """The next trace."""
        if not self.left:
            raise SystemExit("the logs have too few different frames: give more of them")
        places = ((self._module, MODULE_FRAMES), (self._kernel, KERNEL_FRAMES))
        rows = [group.pop(next(iter(group))) for group, count in places for _ in range(count)]
        return b"Call Trace:\n" + b"".join(rows)


def bare_input(trace: bytes, modules: Path) -> bytes:
    """The frames as the bare script wants them, its modules found."""
    files = {path.stem.replace("-", "_"): str(path) for path in sorted(modules.rglob("*.ko"))}
    frames = [
        {
            "symbol": frame.symbol,
            "offset": (frame.offset or 0) - (not frame.exact and bool(frame.offset)),
            "file": files[frame.module] if frame.module else None,
        }
        for line in frame_lines(trace)
        for frame in line.frames
    ]
    return json.dumps(frames).encode()


def decode_here(trace: bytes, options: argparse.Namespace) -> tuple[float, Decoding]:
    """Milliseconds of decoding inside this process, files opened anew by name."""
    begin = time.perf_counter()
    with Symbolizer.open(options.vmlinux, options.modules) as symbolizer:
        found = annotate(trace, symbolizer)
    return (time.perf_counter() - begin) * 1000, found


def random_addresses(used: DebugObject, count: int, seed: int) -> list[int]:
    """Addresses spread over the executable sections."""
    chosen = random.Random(seed)
    sections = [s for s in used.image.sections if s.executable and s.allocated and s.size]
    weights = [s.size for s in sections]
    picked = chosen.choices(sections, weights, k=count)
    return [s.address + chosen.randrange(s.size) for s in picked]


Chain = tuple[tuple[str, int], ...]


def llvm_symbols(
    program: str, file: Path, addresses: Sequence[int]
) -> Iterator[list[dict[str, Any]]]:
    """What llvm-symbolizer says, innermost function first."""
    command = [program, "--output-style=JSON", "--inlines", f"--obj={file}"]
    asked = "".join(f"{address:#x}\n" for address in addresses).encode()
    for line in run(command, asked).output.splitlines():
        found = json.loads(line).get("Symbol", [])
        yield [symbol for symbol in found if symbol["FileName"]]


def llvm_chains(program: str, vmlinux: Path, addresses: Sequence[int]) -> Iterator[Chain]:
    """The same, as files and lines."""
    for symbols in llvm_symbols(program, vmlinux, addresses):
        chain = tuple((tidy_path(s["FileName"]), s["Line"]) for s in symbols)
        # Where there is no debug info, it takes the file from the symbol table, with line 0.
        yield () if [line for _, line in chain] == [0] else chain


def same(ours: Sequence[Location], theirs: Chain) -> bool:
    """Equal chains; llvm-symbolizer puts the build directory in front of relative names."""
    return len(ours) == len(theirs) and all(
        at.line == line and f"/{file}".endswith("/" + at.file.lstrip("/"))
        for at, (file, line) in zip(ours, theirs, strict=True)
    )


def module_agreement(options: argparse.Namespace, goals: Goals) -> None:
    """Chains at random places of modules' code, where llvm-symbolizer can know them.

    It takes a place for an offset in the file's sections, all of which begin at 0 there: what lies
    below the end of another code section it cannot tell from that, and is not asked. It is right
    where the outermost function it names is the one whose symbol covers the place.
    """
    asked = right = differing = 0
    for path in sorted(options.modules.rglob("*.ko")):
        used = open_object(path)
        code = [s for s in used.image.sections if s.executable and s.allocated and s.size]
        text = next((s for s in code if s.name == ".text"), None)
        low = max((s.size for s in code if s is not text), default=0)
        if text is None or low >= text.size:
            continue
        chosen = random.Random(options.seed)
        offsets = [chosen.randrange(low, text.size) for _ in range(PER_MODULE)]
        found = used.chains([text.address + offset for offset in offsets])
        theirs = llvm_symbols(options.llvm, path, offsets)
        for offset, ours, symbols in zip(offsets, found, theirs, strict=True):
            asked += 1
            if not symbols or not symbols[-1]["Line"]:
                continue
            places = used.image.find(symbols[-1]["FunctionName"])
            at = text.address + offset
            if not any(place.address <= at < place.address + place.size for place in places):
                continue
            right += 1
            chain = tuple((tidy_path(s["FileName"]), s["Line"]) for s in symbols)
            differing += not same(ours, chain)
    said = f"{right} of {asked} module places that it gets right, {differing} disagreements"
    goals.check(said, differing == 0)


class Goals:
    """Figures with what they should be."""

    def __init__(self) -> None:
        self.missed = 0

    def check(self, what: str, good: bool) -> None:
        """Print a figure with its verdict."""
        self.missed += not good
        print(f"  {what}{'' if good else '   MISSED'}")


def speed(trace: bytes, options: argparse.Namespace, goals: Goals) -> None:
    """``kagent decode`` against the kernel's script and the bare look-ups."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "trace.log"
        log.write_bytes(trace)
        command = [sys.executable, "-m", "kagent", "decode", log, "--vmlinux", options.vmlinux]
        command += ["--modules", options.modules]
        script = [sys.executable, "-c", BARE, options.vmlinux]
        lines = bare_input(trace, options.modules)
        compileall.compile_dir(Path(kagent.__path__[0]), quiet=1)  # as installers do
        turns = [(run(command), run(script, lines)) for _ in range(ROUNDS)]
    ours, bare = best(one for one, _ in turns), best(other for _, other in turns)
    print(f"  kagent decode       {ours.wall:6.2f} s wall  {ours.cpu:6.2f} s CPU")
    print(f"  bare drgn script    {bare.wall:6.2f} s wall  {bare.cpu:6.2f} s CPU")
    times = ours.cpu / bare.cpu
    goals.check(f"CPU of the bare script × {times:.2f} (≤ 1.5)", times <= 1.5)
    goals.check(f"peak memory {ours.peak:.0f} MiB (< 400)", ours.peak < 400)
    if options.script:
        kernels = run(["bash", options.script, options.vmlinux, "auto", options.modules], trace)
        print(f"  {options.script.name} {kernels.wall:6.2f} s wall  {kernels.cpu:6.2f} s CPU")
        ratio = kernels.wall / ours.wall
        goals.check(f"{ratio:.0f} times as fast as {options.script.name} (≥ 30)", ratio >= 30)


def isolation(trace: bytes, options: argparse.Namespace, goals: Goals) -> None:
    """What the child costs in a run that decodes files which came with the log."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "trace.log"
        log.write_bytes(trace)
        files = [log, "--vmlinux", options.vmlinux, "--modules", options.modules]
        command = [sys.executable, "-c", HERE]
        turns = [(run([*command, w, *files]) for w in ("child", "here")) for _ in range(ROUNDS)]
        pairs = [tuple(turn) for turn in turns]
    child, here = best(one for one, _ in pairs), best(other for _, other in pairs)
    assert child.output == here.output
    cpu, wall = (child.cpu - here.cpu) * 1000, (child.wall - here.wall) * 1000
    goals.check(f"the child costs {cpu:.0f} ms CPU (< 100), {wall:.0f} ms wall", cpu < 100)


def agreement(options: argparse.Namespace, goals: Goals) -> None:
    """Chains of random addresses against llvm-symbolizer's."""
    used = open_object(options.vmlinux)
    addresses = random_addresses(used, options.addresses, options.seed)
    pairs = zip(
        addresses,
        used.chains(addresses),
        llvm_chains(options.llvm, options.vmlinux, addresses),
        strict=True,
    )
    differing = [pair for pair in pairs if not same(pair[1], pair[2])]
    for address, ours, theirs in differing[:SHOWN]:
        print(f"  {address:#x}\n    ours   {[f'{at.file}:{at.line}' for at in ours]}")
        print(f"    theirs {[f'{file}:{line}' for file, line in theirs]}")
    found = f"{len(addresses) - len(differing)} of {len(addresses)} addresses agree"
    goals.check(f"{found} with {Path(options.llvm).name}", not differing)


def main() -> int:
    """Print the figures; 1 if any misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("logs", metavar="LOG", nargs="+", type=Path)
    parser.add_argument("--vmlinux", type=Path, required=True)
    parser.add_argument("--modules", type=Path, required=True)
    parser.add_argument("--script", type=Path, help="scripts/decode_stacktrace.sh of a kernel tree")
    parser.add_argument("--llvm", default=shutil.which("llvm-symbolizer"))
    parser.add_argument("--addresses", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    goals = Goals()
    traces = Traces(options.logs)
    first = traces.take()
    later = [traces.take() for _ in range(max(1, min(ROUNDS, traces.left)))]
    print(f"19 frames, {options.vmlinux.stat().st_size / 1e6:.0f} MB vmlinux")
    speed(first, options, goals)
    isolation(first, options, goals)
    decode_here(first, options)
    runs = [decode_here(trace, options) for trace in later]
    spent = statistics.median(milliseconds for milliseconds, _ in runs)
    goals.check(f"a further trace in the same process {spent:.1f} ms (< 50)", spent < 50)
    missed = sum(found.frames - found.decoded for _, found in runs)
    goals.check(f"{missed} frames not decoded", not missed)
    if options.llvm:
        agreement(options, goals)
        module_agreement(options, goals)
    return int(goals.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
