"""Coverage-guided fuzzing of the log parser: ``python tests/fuzz/klog_fuzz.py -max_total_time=60``.

All options are libFuzzer's; see README.md beside this file.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import atheris  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent
SEEDS = (HERE / "seeds", HERE.parent / "data" / "klog")
DICTIONARY = HERE / "kernel.dict"
DEFAULTS = {"dict": str(DICTIONARY), "max_len": "4096", "timeout": "10"}

sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
from fuzz_counters import COUNTERS_VARIABLE, Counters  # noqa: E402

with atheris.instrument_imports(include=["kagent.klog", "kagent.text"]):
    from klog_invariants import BrokenInvariantError, check

CPU_LIMIT = 2.0
"""Processor seconds that one input may cost."""
_counters = Counters(Path(path)) if (path := os.environ.get(COUNTERS_VARIABLE)) else None

_LINES = [
    line
    for folder in SEEDS
    for path in sorted(folder.glob("*.log"))
    for line in path.read_bytes().split(b"\n")
    if line
]
_PREFIXES = (
    b"",
    b"> ",
    b"[    1.000000] ",
    b"[    1.000000][    T7] ",
    b"[    1.000000][    C1] ",
    b"<4>[    1.000000] ",
    b"Jan  1 00:00:00 host kernel: [    1.000000] ",
    b"4,100,1000000,-,caller=T7;",
)


def mutate_lines(data: bytes, max_size: int, seed: int) -> bytes:
    """Edit a log as consoles do: lines lost, repeated, moved, mixed in, or given a prefix.

    Two times in three the bytes themselves change instead, guided by coverage.
    """
    rng = random.Random(seed)
    if rng.randrange(3):
        return bytes(atheris.Mutate(data, max_size))
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[at : at + rng.randint(1, 4)]
        case 1:
            lines.insert(at, rng.choice(lines))
        case 2:
            lines.insert(rng.randrange(len(lines)), lines.pop(at))
        case 3:
            start = rng.randrange(len(_LINES))
            lines[at:at] = _LINES[start : start + rng.randint(1, 12)]
        case 4:
            lines[at] = rng.choice(_PREFIXES) + lines[at]
        case _:
            prefix = rng.choice(_PREFIXES)
            lines = [prefix + line for line in lines]
    return b"\n".join(lines)[:max_size]


def check_once(data: bytes) -> None:
    """Hold all invariants, and that it does not take long; count the execution."""
    started = time.process_time()
    try:
        check(data)
    finally:
        used = time.process_time() - started
        if _counters is not None:
            _counters.add(used)
    if used > CPU_LIMIT:
        raise BrokenInvariantError("takes at most 2 s of CPU", f"{used:.1f} s")


def main(arguments: list[str]) -> None:
    """Run libFuzzer with `arguments`; a corpus that nobody named is kept for this run only."""
    given = {argument[1:].partition("=")[0] for argument in arguments if argument[:1] == "-"}
    options = [f"-{name}={value}" for name, value in DEFAULTS.items() if name not in given]
    with tempfile.TemporaryDirectory(prefix="klog-corpus-") as scratch:
        folders = [] if any(argument[:1] != "-" for argument in arguments) else [scratch]
        seeds = [] if folders == [] and _is_replay(arguments) else [str(path) for path in SEEDS]
        argv = [sys.argv[0], *options, *arguments, *folders, *seeds]
        atheris.Setup(argv, check_once, custom_mutator=mutate_lines)
        atheris.Fuzz()


def _is_replay(arguments: list[str]) -> bool:
    """Whether single inputs are to be run again: files are named instead of folders."""
    return any(Path(argument).is_file() for argument in arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
