"""What it takes to build a commit index and to bring it up to date.

::

    python tests/benchmarks/index_build.py corpus [--keep DIR]
    python tests/benchmarks/index_build.py git [--commits N] [--repository PATH] [--turns N]

``corpus`` builds all of ``fixbench/corpus.jsonl.gz`` (from the lab data beside the checkout), then
adds 1,000 made-up commits to it. ``git`` compares with ``git log -p --no-merges`` of the same
repository, by default a made-up one, taking turns; then 1,000 commits more.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from synthetic import World

from kagent.commits import CommitIndex

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "fixbench"


@contextmanager
def watched(what: str) -> Iterator[dict[str, float]]:
    """Print wall and CPU seconds, and the most memory that all processes held together."""
    peak, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    start, before = time.perf_counter(), os.times()
    watcher.start()
    result: dict[str, float] = {}
    try:
        yield result
    finally:
        stop.set()
        watcher.join()
    now = os.times()
    result["wall"] = time.perf_counter() - start
    own = now.user + now.system - before.user - before.system
    children = now.children_user + now.children_system
    children -= before.children_user + before.children_system
    result["cpu"] = own + children
    print(
        f"{what}: {result['wall']:.1f} s; CPU {own:.0f} s here, {children:.0f} s in children; "
        f"peak memory {peak[0]:.0f} MiB",
        flush=True,
    )


def resident() -> float:
    """MiB held by this process and its children; what they share counts once for each."""
    total, wanted = 0.0, {os.getpid()}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:
            continue
        if int(fields["Pid"]) in wanted or int(fields["PPid"]) in wanted:
            total += int(fields.get("VmRSS", "0 kB").split()[0]) / 1024
    return total


def sizes(out: Path) -> None:
    """Bytes a commit: of the files, of the text, and of the rest."""
    with CommitIndex.open(out) as index:
        facts = index.stats()
        text = sum(
            len(c.subject.encode()) + len(c.author.encode()) + len(c.date)
            + len(c.message.encode("utf-8", "replace")) + len(c.diff.encode("utf-8", "replace"))
            for c in index.commits()
        )  # fmt: skip
    count, files = facts["commits"], facts["bytes"]
    total = sum(files.values())
    parts = ", ".join(f"{name} {size / count:.0f}" for name, size in files.items())
    print(
        f"{count} commits, bytes a commit: {total / count:.0f} ({parts}); text {text / count:.0f}; "
        f"beyond the text {(total - text) / count:.0f} = {(total - text) / count / 1024:.2f} KiB"
    )
    database = sqlite3.connect(out / "commits.sqlite")
    try:
        rows = database.execute(
            "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 9"
        ).fetchall()
        print("  " + ", ".join(f"{name} {size / count:.0f}" for name, size in rows))
    except sqlite3.OperationalError:  # built without dbstat
        pass
    database.close()


def update(out: Path, add: int) -> None:
    with CommitIndex.open(out) as index:
        with watched(f"update with {add} commits"):
            added = index.update()
        print(f"{added} added, {index.stats()['commits']} in all; problems: {index.verify()}")


def corpus(folder: Path) -> None:
    if not SHARED.is_dir():
        raise SystemExit(f"no {SHARED}: the benchmark data is not shipped")
    source, out = folder / "corpus.jsonl", folder / "corpus.index"
    with gzip.open(SHARED / "corpus.jsonl.gz", "rb") as data, source.open("wb") as file:
        shutil.copyfileobj(data, file)
    shutil.rmtree(out, ignore_errors=True)
    with watched("build of the corpus"):
        CommitIndex.build(source, out).close()
    sizes(out)
    with source.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in islice(World().rows(1000), 1000))
    update(out, 1000)


def git(folder: Path, commits: int, repository: Path | None, turns: int) -> None:
    world = World(8000)
    path = repository or folder / "made-up.git"
    if not path.exists():
        world.repository(path, commits)
    log = ["git", "-C", str(path), "log", "-p", "--no-merges"]
    ratios = []
    for turn in range(turns):
        with watched("git log -p --no-merges") as alone:
            subprocess.run(log, stdout=subprocess.DEVNULL, check=True)
        out = folder / f"git.{turn}.index"
        with watched("build") as built:
            CommitIndex.build(path, out).close()
        ratios.append((alone["wall"] / built["wall"], alone["cpu"] / built["cpu"]))
        print(f"speed relative to git log: {ratios[-1][0]:.2f} by wall, {ratios[-1][1]:.2f} by CPU")
    sizes(out)
    if repository is None and hasattr(world, "_bodies"):
        world.extend(path, 1000)
        update(out, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("corpus", "git"))
    parser.add_argument("--keep", type=Path, help="work there and keep what is made")
    parser.add_argument("--commits", type=int, default=30_000)
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if options.what == "corpus":
            corpus(folder)
        else:
            git(folder, options.commits, options.repository, options.turns)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"largest child {used.ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
