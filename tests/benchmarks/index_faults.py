"""Kill builds and updates of a commit index at random moments, fill its disk, flip its bits.

::

    python tests/benchmarks/index_faults.py [--kills N] [--seed S]

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
from kagent.errors import InputError, KagentError

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
            full_disk(command, folder, (source, old, new))
        harm(folder, dice)


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
    print(f"{command}: {count} kills, nothing lost, nothing counted twice; {dict(seen)}")


def full_disk(command: str, folder: Path, known: Any) -> None:
    source, old, new = known
    disk = folder / "disk"
    refused = 0
    for left in range(64, 2048, 192):
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
            except InputError:
                refused += 1
                if look(out) != old:
                    raise SystemExit(f"{command}: a full disk harmed the index") from None
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            if finish(command, source, out) != new:
                raise SystemExit(f"{command}: a rerun after a full disk gave something else")
        disk.rmdir()
    print(f"{command}: {refused} full disks, the previous index answered, a rerun finished")


def harm(folder: Path, dice: random.Random) -> None:
    named: Counter[str] = Counter()
    for number in range(60):
        out = Path(shutil.copytree(folder / "new", folder / "harmed"))
        name = ("commits.sqlite", "vectors.faiss", "embedding.npz")[number % 3]
        data = bytearray((out / name).read_bytes())
        if number % 2:
            del data[dice.randrange(len(data)) :]
        else:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        (out / name).write_bytes(data)
        try:
            with CommitIndex.open(out) as index:
                problems = index.verify()
                index.search("leak in dev7_get_ring")
        except KagentError as error:
            problems = [str(error)]
        named[name] += any(name in problem for problem in problems)
        shutil.rmtree(out)
    print(f"harmed files, and how often their damage was named: {dict(named)} of 20 each")


if __name__ == "__main__":
    main()
