"""Building an index in stages that each can be stopped and gone on with.

Reading fills the database; learning and embedding give the vectors; then the manifest is written
and the whole takes its place. A build that was interrupted, killed or ran out of disk left its
directory beside the target: the same build, started again, goes on there. Commits that were made
meanwhile are read after those it had set out to read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kagent.commits.embedding_task import embed_rows, first_chunks
from kagent.commits.embeddings import LEARN_FROM, CorpusEmbedder, Embedder
from kagent.commits.manifest import Manifest, Source, file_sum
from kagent.commits.sources import Reading, grew, open_reading
from kagent.commits.store import DATABASE, EMBEDDING, VECTORS, Store
from kagent.commits.swap import staging, sync_files
from kagent.commits.vectors import VectorFile, extend, load_faiss, make_vectors
from kagent.commits.workers import Frame, Workers
from kagent.commits.writer import LAYOUT, SCRATCH, IndexWriter
from kagent.errors import InputError, MissingDataError, OutputError

__all__ = ["Job", "Progress", "run_job"]

Progress = Callable[[int, int | None], None]
"""Told (commits done, commits in all or None). Counts twice: reading, then embedding."""

_FRAME_RECORDS = 128
_FRAME_BYTES = 1 << 20
_SAVE_EVERY = 16_384
"""Commits: what a killed build has to do again at most."""
_EMBED_EVERY = 256
_ROWS = "rows.f16"
_OLD_ROWS = "old-rows.f16"


@dataclass(frozen=True, slots=True)
class Job:
    """What to build: the commits of `sources`, on top of what `base` has of them."""

    sources: Sequence[Source]
    embedder: Embedder
    base: Store | None = None
    before: Sequence[Source] = ()
    """The sources as `base` has them, in the same order."""
    origins: Sequence[Source] = field(default=())
    """What the manifest shall name instead of `sources`."""

    @property
    def identity(self) -> str:
        """The same for a job that may go on with what another left."""
        about = {
            "layout": LAYOUT,
            "sources": [
                s.model_dump(exclude={"heads"}) | {"heads": sorted(s.heads)} for s in self.sources
            ],
            "embedding": self.embedder.id,
            "base": _identity(self.base),
        }
        return json.dumps(about, sort_keys=True)


def _identity(store: Store | None) -> str:
    text = store.manifest.model_dump_json() if store else ""
    return hashlib.sha256(text.encode()).hexdigest()


def run_job(job: Job, target: Path, progress: Progress | None) -> int:
    """Build `target`, or replace it; return how many commits were added.

    Raises:
        KagentError: a source cannot be read, the embedding fails, or there is no room. All but
            the first leave what was done for the next attempt.
    """
    try:
        with staging(target, keep=_worth_keeping) as fresh, contextlib.ExitStack() as stack:
            build = _Build(job, fresh, progress)
            stack.callback(build.writer.close)
            return build.run()
    except (OSError, sqlite3.OperationalError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "disk is full" in str(error) or "No space left" in str(error):
            raise OutputError(
                f"no space left on the disk of {target}",
                hint="make room, then run the same command again: it goes on where it stopped",
            ) from error
        raise


def _worth_keeping(error: BaseException) -> bool:
    """Whether the next attempt may go on: not after input that will be refused again."""
    return not isinstance(error, InputError | MissingDataError)


class _Build:
    def __init__(self, job: Job, directory: Path, progress: Progress | None) -> None:
        self._job = job
        self._directory = directory
        self._tell = progress or _tell_nobody
        base = job.base.directory if job.base else None
        self.writer = IndexWriter(directory, job.identity, base=base)
        if self._rewritten():
            self.writer.close()
            (directory / SCRATCH).unlink()
            self.writer = IndexWriter(directory, job.identity, base=base)
        self._old = job.base.manifest.commits if job.base else 0

    def run(self) -> int:
        """Every stage that is not done yet; each starts from what the last one saved."""
        stages: dict[str, Callable[[], str]] = {
            "read": self._read,
            "learn": self._learn,
            "embed": self._embed,
            "vectors": self._write_vectors,
        }
        try:
            while (stage := self.writer.state("stage") or "read") in stages:
                self.writer.note("stage", stages[stage]())
                self.writer.save()
        except KeyboardInterrupt:
            if self.writer.whole:
                self.writer.save()
            raise
        self._finish()
        return self.writer.count - self._old

    # Reading.

    def _rewritten(self) -> bool:
        """Whether what an earlier attempt was to read is no longer part of the sources."""
        stretches = self.writer.state("stretches") or []
        last = {stretch["source"]: stretch["heads"] for stretch in stretches}
        return any(
            grew(source.model_copy(update={"heads": last[number]}), source) is not None
            for number, source in enumerate(self._job.sources)
            if number in last
        )

    def _stretches(self) -> list[dict[str, Any]]:
        """What to read, in order; what became of the sources since the first attempt at the end."""
        stretches: list[dict[str, Any]] = self.writer.state("stretches") or []
        for number, source in enumerate(self._job.sources):
            known = [stretch["heads"] for stretch in stretches if stretch["source"] == number]
            old = self._job.before[number] if self._job.base is not None else None
            same = old is not None and (old.heads, old.stamp) == (source.heads, source.stamp)
            if known[-1:] == [source.heads] or (same and not known):
                continue
            before = known[-1] if known else old.heads if old is not None else {}
            stretches.append({"source": number, "heads": source.heads, "after": before})
        self.writer.note("stretches", stretches)
        return stretches

    def _read(self) -> str:
        stretches = self._stretches()
        at, done, last = self.writer.state("position") or (0, 0, None)
        for number in range(at, len(stretches)):
            stretch = stretches[number]
            source = self._job.sources[stretch["source"]]
            source = source.model_copy(update={"heads": stretch["heads"]})
            reading = open_reading(source, stretch["after"])
            if number == at and done:
                self._read_stretch(number, reading, done, last)
                continue
            old = self._job.before[stretch["source"]] if self._job.base else None
            appended = old is not None and old.records and _appended(reading, old)
            skip = old.records if old is not None and appended else 0
            self._read_stretch(number, reading, skip, old.last if old is not None else None)
        if self.writer.count == 0:
            raise InputError(
                f"no commits to index in {self._job.sources[0].location}",
                hint="check the revision and the paths",
            )
        self.writer.merge_runs()
        return "learn"

    def _read_stretch(self, number: int, reading: Reading, skip: int, last: str | None) -> None:
        """Read one stretch from record `skip` on; `last` is the sum of the record before."""
        records = reading.records(max(skip - 1, 0))
        if skip and _sum(next(records, b"")) != last:
            raise InputError(
                f"{reading.source} is not in the order it was in when the build was interrupted",
                hint="run the same command again: it starts from the beginning",
            )
        done = skip
        passed: deque[tuple[int, str]] = deque()
        frames = _frames(reading, records, skip, passed)
        for prepared, blobs in Workers("prepare").map(frames):
            done, last = passed.popleft()
            with self.writer.in_one_go():
                self.writer.add(prepared, blobs)
                self.writer.note("position", (number, done, last))
            self._tell(done, reading.total)
            if self.writer.unsaved >= _SAVE_EVERY:
                self.writer.save()
        if reading.kind == "jsonl":
            self.writer.note(f"end of {reading.source}", (done, last))

    # Learning and embedding.

    def _learn(self) -> str:
        embedder, base = self._job.embedder, self._job.base
        corpus = embedder.id == CorpusEmbedder.id
        anew = base is None or (corpus and self.writer.count >= 2 * base.manifest.learnt_from)
        if anew and isinstance(embedder, CorpusEmbedder):
            embedder.learn_bags(self._bags(embedder.chunk_size))
        elif anew:
            embedder.learn(first_chunks(self.writer.packed(1, self._step), embedder.chunk_size))
        embedder.save(self._directory / EMBEDDING)
        self.writer.note("anew", anew)
        return "embed"

    @property
    def _step(self) -> int:
        """One commit in so many is learnt from."""
        return max(1, -(-self.writer.count // LEARN_FROM))

    def _bags(self, size: int) -> list[dict[str, int]]:
        """The words of the first chunks of the commits to learn from."""
        database = os.fspath(self._directory / DATABASE)
        about = {"database": database, "step": self._step, "size": size}
        starts = range(1, self.writer.count + 1, _EMBED_EVERY * self._step)
        frames = (
            (about | {"first": start, "last": start + starts.step - 1}, ()) for start in starts
        )
        return [bag for bags, _ in Workers("count").map(frames) for bag in bags]

    def _embed(self) -> str:
        saved = self._directory / EMBEDDING
        if saved.is_file():
            with saved.open("rb") as file:
                self._job.embedder.load(file)
        base = None if self.writer.state("anew") else self._job.base
        first = self._old + 1 if base else 1
        done, rows = self.writer.state("embedded") or (first - 1, 0)
        before = base.manifest.vectors if base else 0
        vectors = VectorFile(self._directory / _ROWS, self.writer.state("dimension") or 0)
        vectors.keep(rows)
        unsaved = 0
        for last, owners, data in self._vectors(done + 1):
            with self.writer.in_one_go():
                vectors.append(data)
                self.writer.own(before + rows, owners)
                unsaved, rows, done = unsaved + last - done, rows + len(owners), last
                self.writer.note("embedded", (done, rows))
                self.writer.note("dimension", len(data) // 2 // max(1, len(owners)))
            self._tell(done - first + 1, self.writer.count - first + 1)
            if unsaved >= _SAVE_EVERY:
                vectors.sync()
                self.writer.save()
                unsaved = 0
        vectors.sync()
        return "vectors"

    def _vectors(self, first: int) -> Iterator[tuple[int, Sequence[int], bytes]]:
        """(last commit, owners, rows of float16) of the commits from `first` on, in order."""
        count, embedder = self.writer.count, self._job.embedder
        starts = range(first, count + 1, _EMBED_EVERY)
        spans = [(start, min(start + _EMBED_EVERY - 1, count)) for start in starts]
        if embedder.id != CorpusEmbedder.id:
            for start, end in spans:
                yield end, *embed_rows(embedder, self.writer.packed(start, last=end))
            return
        shared = {
            "database": os.fspath(self._directory / DATABASE),
            "embedding": embedder.id,
            "learnt": os.fspath(self._directory / EMBEDDING),
        }
        frames = ((shared | {"first": start, "last": end}, ()) for start, end in spans)
        for (_, end), (owners, (data,)) in zip(spans, Workers("embed").map(frames), strict=True):
            yield end, owners, data

    # Finishing.

    def _write_vectors(self) -> str:
        faiss = load_faiss()
        base = None if self.writer.state("anew") else self._job.base
        old_dimension = base.manifest.dimension if base else 0
        dimension = self.writer.state("dimension") or old_dimension
        rows = VectorFile(self._directory / _ROWS, dimension)
        if base is None:
            index, facts = make_vectors(rows)
        else:
            base.check_dimension(dimension)
            spare = VectorFile(self._directory / _OLD_ROWS, dimension)
            index, facts = extend(base.copy_vectors(), base.manifest.vector_index, rows, spare)
        faiss.write_index(index, os.fspath(self._directory / VECTORS))
        about = {"vectors": index.ntotal, "dimension": index.d}
        self.writer.note("about", about | {"vector_index": facts.model_dump()})
        self.writer.move_owners()
        return "done"

    def _ended(self, source: Source) -> Source:
        """`source` with how far a file was read."""
        end = self.writer.state(f"end of {source.location}")
        return (
            source.model_copy(update={"records": end[0], "last": end[1] or ""}) if end else source
        )

    def _finish(self) -> None:
        """The manifest goes in last: what has one is whole."""
        job, about = self._job, self.writer.state("about")
        anew = self.writer.state("anew")
        sources = [self._ended(source) for source in job.origins or job.sources]
        self.writer.seal()
        names = [DATABASE, VECTORS]
        names += [EMBEDDING] if (self._directory / EMBEDDING).exists() else []
        Manifest(
            sources=sources,
            embedding=job.embedder.id,
            commits=self.writer.count,
            learnt_from=self.writer.count
            if anew or not job.base
            else job.base.manifest.learnt_from,
            files={name: file_sum(self._directory / name) for name in names},
            **about,
        ).write(self._directory)
        # Until all is safe, what the build could go on from stays.
        sync_files(self._directory)
        for name in (SCRATCH, f"{SCRATCH}-journal", _ROWS, _OLD_ROWS):
            (self._directory / name).unlink(missing_ok=True)


def _appended(reading: Reading, old: Source) -> bool:
    """Whether the file still begins with what was read of it before."""
    return _sum(next(reading.records(old.records - 1), b"")) == old.last


def _tell_nobody(_done: int, _total: int | None) -> None:
    pass


def _frames(
    reading: Reading, records: Iterable[bytes], done: int, passed: deque[tuple[int, str]]
) -> Iterator[Frame]:
    """Records in frames; `passed` gets the count of records with each, and the last's sum."""
    held: list[bytes] = []
    size = 0
    for record in records:
        held.append(record)
        size += len(record)
        if len(held) >= _FRAME_RECORDS or size >= _FRAME_BYTES:
            yield _frame(reading, held, done, passed)
            done, held, size = done + len(held), [], 0
    if held:
        yield _frame(reading, held, done, passed)


def _frame(reading: Reading, held: list[bytes], done: int, passed: deque[tuple[int, str]]) -> Frame:
    passed.append((done + len(held), _sum(held[-1])))
    return {"kind": reading.kind, "source": reading.source, "first": done + 1}, held


def _sum(record: bytes) -> str:
    return hashlib.blake2b(record, digest_size=16).hexdigest()
