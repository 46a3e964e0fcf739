"""Kill builds and updates of a commit index at random moments, fill its disk, flip its bits.

::

    python tests/benchmarks/index_faults.py [--kills N] [--disks N] [--flips N] [--seed S]

After each kill the previous index has to answer as before (or the new one whole, if the kill came
after the change), and a rerun has to give exactly what an undisturbed run gives.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.index_faults import content, kill_while, small_disk, some_commits

from kagent.commits import CommitIndex
from kagent.errors import KagentError, OutputError

OLD, NEW = 300, 900


def finish(command: str, source: Path, out: Path) -> dict[str, Any]:
    if command == "build":
        CommitIndex.build(source, out).close()
    else:
        with CommitIndex.open(out) as index:
            index.update()
    return look(out)


def look(out: Path) -> dict[str, Any]:
    with CommitIndex.open(out) as index:
        return content(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of builds, and of updates")
    parser.add_argument("--disks", type=int, default=20, help="points at which it is full")
    parser.add_argument("--flips", type=int, default=200, help="of bits, over all files")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = folder / "commits.jsonl"
        source.write_text("".join(some_commits(OLD)))
        CommitIndex.build(source, folder / "old").close()
        source.write_text("".join(some_commits(NEW)))
        CommitIndex.build(source, folder / "new").close()
        old, new = look(folder / "old"), look(folder / "new")
        for command in ("build", "update"):
            kills(command, options.kills, folder, (source, old, new), dice)
        for command in ("build", "update"):
            full_disk(command, options.disks // 2, folder, (source, old, new))
        flips(options.flips, folder, dice)


def kills(command: str, count: int, folder: Path, known: Any, dice: random.Random) -> None:
    source, old, new = known
    out = folder / "index"
    seen: Counter[str] = Counter()
    longest = 4.0
    for _ in range(count):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(folder / "old", out)
        start = time.perf_counter()
        after = dice.random() * longest
        died = kill_while(command, source, out, after)
        if not died:
            longest = min(longest, time.perf_counter() - start)
        left = folder / ".index.new"
        stage = "ended before" if not died else "began" if left.exists() else "not begun"
        found = look(out)
        if died and found == new:
            stage = "changed places"
        elif found != (old if died else new):
            raise SystemExit(f"{command}: the index is neither the old nor the new one")
        if finish(command, source, out) != new:
            raise SystemExit(f"{command}: a rerun gave something else")
        if left.exists():
            raise SystemExit(f"{command}: something was left behind")
        seen[stage] += 1
    print(
        f"{command}: {count} kills, nothing lost, nothing counted twice; {dict(seen)}", flush=True
    )


def full_disk(command: str, count: int, folder: Path, known: Any) -> None:
    source, old, new = known
    disk = folder / "disk"
    refused = 0
    needed = sum(file.stat().st_size for file in (folder / "new").iterdir()) // 1024
    for left in range(16, needed, -(-(needed - 16) // count)):
        with small_disk(disk, "64m") as mounted:
            if not mounted:
                print("full disk: skipped, mounting is not allowed here")
                return
            out = disk / "index"
            shutil.copytree(folder / "old", out)
            used = sum(file.stat().st_size for file in out.iterdir()) // 1024 + 64
            resize = ["mount", "-o", f"remount,size={used + left}k", str(disk)]
            subprocess.run(resize, check=True)
            try:
                finish(command, source, out)
            except OutputError:
                refused += 1
                if look(out) != old:
                    raise SystemExit(f"{command}: a full disk harmed the index") from None
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            if finish(command, source, out) != new:
                raise SystemExit(f"{command}: a rerun after a full disk gave something else")
        disk.rmdir()
    print(
        f"{command}: {refused} of {count} disks full, the previous index answered, reruns finished",
        flush=True,
    )


def flips(count: int, folder: Path, dice: random.Random) -> None:
    """One bit at a time over all files: named by verify, and no search serves what it made."""
    out = folder / "new"
    names = sorted(path.name for path in out.iterdir())
    sound = answer(out)
    named: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for number in range(count):
        path = out / names[number % len(names)]
        data = path.read_bytes()
        harmed = bytearray(data)
        harmed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path.write_bytes(harmed)
        try:
            with CommitIndex.open(out) as index:
                problems = index.verify()
        except KagentError as error:
            problems = [str(error)]
        named[path.name] += any(path.name in problem for problem in problems)
        try:
            if answer(out) != sound:
                raise SystemExit(f"{path.name}: a search served wrong content")
        except KagentError:
            refused[path.name] += 1
        path.write_bytes(data)
    print(f"{count} flips, wrong content never served; named: {dict(named)}", flush=True)
    print(f"searches refused, the others as before: {dict(refused)}", flush=True)
    if named.total() != count:
        raise SystemExit("some damage was not named")


def answer(out: Path) -> list[Any]:
    with CommitIndex.open(out) as index:
        hits = index.search("leak in dev7_get_ring", 20)
        return [(hit.hash, hit.score, index.get(hit.hash)) for hit in hits]


if __name__ == "__main__":
    main()
