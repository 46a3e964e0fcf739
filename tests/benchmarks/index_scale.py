"""How latency, memory and size of a commit index grow with the history, on a made-up kernel.

::

    python tests/benchmarks/index_scale.py [SIZE ...] [--keep DIR] [--queries N] [--read]

Sizes default to 10k 100k 1M 1.3M. ``--keep DIR`` holds the indexes, and a run that was stopped goes
on there. Commits are written as a reader of commits would hand them over: their vectors are made
up, by directory and file, not embedded. ``--read`` goes the whole way, over a corpus file, which
takes several times as long. Each size is searched in a process of its own; its resident memory is
what the kernel counts for it (``VmHWM``, and the part of it that is no file).
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
from synthetic import DIMENSION, World

from kagent.commits import CommitIndex, CrashQuery
from kagent.commits.embeddings import CorpusEmbedder
from kagent.commits.manifest import Manifest, Source, file_sum
from kagent.commits.store import DATABASE, EMBEDDING, VECTORS
from kagent.commits.swap import staging
from kagent.commits.vectors import VectorFile, make_vectors
from kagent.commits.writer import SCRATCH, IndexWriter

_SUFFIXES = {"k": 1_000, "M": 1_000_000}


def size(text: str) -> int:
    return int(float(text[:-1]) * _SUFFIXES[text[-1]]) if text[-1] in _SUFFIXES else int(text)


def corpus(world: World, count: int, folder: Path) -> Path:
    path = folder / f"{count}.jsonl"
    if not path.exists():
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            for row in world.rows(count):
                file.write(json.dumps(row, separators=(",", ":")))
                file.write("\n")
        part.rename(path)
    return path


def write(count: int, out: Path) -> None:
    """An index of `count` commits, without parsing and embedding them."""
    world = World()
    with staging(out, keep=lambda error: True) as folder:
        writer = IndexWriter(folder, f"{count} made up")
        rows = VectorFile(folder / "rows", DIMENSION)
        done = writer.state("done") or 0
        rows.keep(done)
        frames = itertools.islice(world.prepared(count), done // world.FRAME, None)
        for prepared, blobs, vectors in frames:
            writer.add(prepared, blobs)
            rows.append(vectors)
            writer.own(done, range(done + 1, done + len(prepared["rows"]) + 1))
            done += len(prepared["rows"])
            writer.note("done", done)
            if writer.unsaved >= 16_384 or done == count:
                rows.sync()
                writer.save()
        writer.merge_runs()
        embedder = CorpusEmbedder()
        embedder.learn(f"{r['subject']} {r['message']}" for r in world.rows(min(count, 20_000)))
        embedder.save(folder / EMBEDDING)
        index, facts = make_vectors(rows)
        faiss.write_index(index, str(folder / VECTORS))
        writer.move_owners()
        writer.save()
        writer.seal()
        for name in (SCRATCH, f"{SCRATCH}-journal", "rows"):
            (folder / name).unlink(missing_ok=True)
        Manifest(
            sources=[Source(kind="jsonl", location="made up")],
            embedding=embedder.id,
            dimension=index.d,
            commits=count,
            vectors=index.ntotal,
            learnt_from=min(count, 20_000),
            vector_index=facts,
            files={name: file_sum(folder / name) for name in (DATABASE, VECTORS, EMBEDDING)},
        ).write(folder)


def build(count: int, folder: Path, *, read: bool) -> Path:
    out = folder / f"{count}.index"
    if out.exists():
        return out
    start, cpu = time.perf_counter(), time.process_time()
    if read:
        CommitIndex.build(corpus(World(), count, folder), out).close()
    else:
        write(count, out)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count}: made in {time.perf_counter() - start:.0f} s "
        f"({time.process_time() - cpu:.0f} s of CPU, {used.ru_utime:.0f} s in workers), "
        f"peak {peak:.0f} MiB",
        flush=True,
    )
    return out


def queries(count: int) -> list[CrashQuery]:
    """Crashes of the same kernel: a stack, files of its functions, a title and prose."""
    world, dice = World(), random.Random(2)
    found = []
    for stack in world.crashes(count):
        words = " ".join(world.prose(12))
        version = f"{dice.randrange(4, 7)}.{dice.randrange(1, 19)}.0"
        title = f"KASAN: slab-use-after-free Read in {stack[0]}"
        log = world.trace(stack[:6])
        found.append(CrashQuery(title, f"{words}\n{log}", functions=tuple(stack), release=version))
    return found


def memory() -> dict[str, float]:
    """MiB by the names of /proc/self/status."""
    fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {
        row[0].rstrip(":"): int(row[1]) / 1024 for row in fields if row[0].startswith(("Vm", "Rss"))
    }


def measure(index: Path, count: int) -> None:
    asked = queries(count + 5)
    start = time.perf_counter()
    with CommitIndex.open(index) as opened:
        opened.search_crash(asked[0])
        first = time.perf_counter() - start
        wall, cpu = [], []
        for query in asked[1:]:
            start, used = time.perf_counter(), time.process_time()
            opened.search_crash(query)
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - used)
        facts = opened.stats()
    seen, each = memory(), sum(facts["bytes"].values()) / facts["commits"]
    p50, p99 = np.percentile(wall[4:], [50, 99]) * 1000
    lost = facts["vector_index"]
    print(
        f"{facts['commits']:>9}{p50:>9.0f}{p99:>9.0f}{np.median(cpu[4:]) * 1000:>9.0f}"
        f"{first:>9.2f}{seen['VmHWM']:>9.0f}{seen['RssAnon']:>9.0f}{each:>9.0f}  "
        f"{lost['kind']} {lost['storage']}, {lost['probes']} of {lost['lists']} lists, "
        f"recall@10 {lost['recall_at_10']}, @250 {lost['recall_at_250']}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=size, metavar="SIZE")
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--queries", type=int, default=200, metavar="N")
    parser.add_argument("--read", action="store_true", help="parse and embed a corpus file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.queries)
        return
    sizes = options.sizes or [size(text) for text in ("10k", "100k", "1M", "1.3M")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        built = [build(count, folder, read=options.read) for count in sizes]
        print(
            f"{'commits':>9}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'first s':>9}{'RSS MiB':>9}"
            f"{'no file':>9}{'B each':>9}  vectors"
        )
        for index in built:
            command = [sys.executable, __file__, "--measure", index, "--queries", options.queries]
            subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    main()
