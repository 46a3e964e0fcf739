"""Writing an index's database so that it can be stopped at any moment and gone on with.

Beside the database stands ``scratch.sqlite`` with what only the build needs: how far it got, and
runs of posting lists that `IndexWriter.finish_reading` merges. Both are written in the same
transactions, so what was counted is what is there. See `kagent.commits.store` for the layout.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import shutil
import sqlite3
import sys
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from kagent.commits.packing import is_posted
from kagent.commits.postings import encode_lists
from kagent.commits.prepare import KINDS, SUPERSEDED
from kagent.commits.store import DATABASE, FACTS
from kagent.commits.sums import add_row_sum, row_sum
from kagent.commits.traits import POSTED
from kagent.errors import IndexCorruptError

__all__ = ["LAYOUT", "SCRATCH", "IndexWriter"]

SCRATCH = "scratch.sqlite"
LAYOUT = 3
"""Of that file: no job goes on with what another layout was used for."""
_SCHEMA = """
CREATE TABLE commits (
    id INTEGER PRIMARY KEY, hash TEXT NOT NULL, subject TEXT NOT NULL, day INTEGER NOT NULL,
    flags INTEGER NOT NULL, breadth INTEGER NOT NULL, files TEXT NOT NULL, fixes TEXT NOT NULL,
    subject_key INTEGER NOT NULL, patch_key INTEGER, sum INTEGER NOT NULL);
CREATE UNIQUE INDEX commits_hash ON commits (hash);
CREATE INDEX commits_subject ON commits (subject_key);
CREATE INDEX commits_patch ON commits (patch_key) WHERE patch_key IS NOT NULL;
CREATE TABLE texts (id INTEGER PRIMARY KEY, body BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE quotes (
    commit_id INTEGER PRIMARY KEY, reports BLOB NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE arrays (
    name TEXT, start INTEGER, data BLOB NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (name, start))
    WITHOUT ROWID;
CREATE TABLE postings (
    kind INTEGER, term TEXT, n INTEGER NOT NULL, last INTEGER NOT NULL, head INTEGER NOT NULL,
    sum INTEGER NOT NULL, ids BLOB NOT NULL, weights BLOB, PRIMARY KEY (kind, term)) WITHOUT ROWID;
"""
_SCRATCH_SCHEMA = """
CREATE TABLE scratch.state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE scratch.runs (
    id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, term TEXT NOT NULL, ids BLOB NOT NULL,
    weights BLOB NOT NULL);
CREATE TABLE scratch.owners (start INTEGER PRIMARY KEY, data BLOB NOT NULL);
"""
_List = tuple[int, str, bytes, bytes]
"""Kind, term, ids (little-endian uint32), weights (uint8, of words only)."""
_Stored = tuple[int, int, bytes, bytes | None]
"""Length, last id, ids (as `kagent.commits.postings` has them), weights."""
_RUN = 1 << 32
"""Run r has the rows of ``runs`` from r times this on, in the order of kinds and terms."""
_MERGE_LISTS, _MERGE_IDS = 4096, 1 << 18
"""Posting lists encoded at once, and ids at which fewer are."""
_WORD = KINDS["word"]
_ARRAYS = {"length": ("H", "<u2"), "day": ("i", "<i4"), "flags": ("I", "<u4")}
"""Columns that are read whole: type here, type stored."""


class IndexWriter:
    """Fills the database in one directory; `state` tells what an earlier writer of it did."""

    def __init__(self, directory: Path, job: str, *, base: Path | None = None) -> None:
        """Go on with the same `job`, or start it: empty, or with a copy of the index at `base`."""
        self._directory = directory
        if _job(directory) != job:
            _start(directory, job, base)
        self._database = _open(directory)
        self.count: int = self._one("SELECT count(*) FROM commits")
        self._run: int = self._one(f"SELECT coalesce(max(id) / {_RUN} + 1, 0) FROM scratch.runs")
        # Bytes rather than lists of numbers: the garbage collector has nothing to look through.
        self._postings: list[defaultdict[str, bytearray]] = [defaultdict(bytearray) for _ in KINDS]
        self._weights: defaultdict[str, bytearray] = defaultdict(bytearray)
        self._arrays = {name: array(kind) for name, (kind, _) in _ARRAYS.items()}
        self.unsaved = 0
        """Commits added since the last `save`."""
        self.whole = True
        """Whether `save` may be called."""

    def _one(self, query: str, values: Sequence[Any] = ()) -> Any:
        row = self._database.execute(query, values).fetchone()
        return row[0] if row else None

    def state(self, key: str) -> Any:
        """What `note` was told last under `key`; None when nothing was."""
        found = self._one("SELECT value FROM scratch.state WHERE key = ?", (key,))
        return None if found is None else json.loads(found)

    def note(self, key: str, value: Any) -> None:
        """Remember a JSON value; like all that is written, from the next `save` on."""
        self._database.execute(
            "INSERT OR REPLACE INTO scratch.state VALUES (?, ?)", (key, json.dumps(value))
        )

    def add(self, prepared: Any, blobs: Sequence[bytes]) -> None:
        """Store what `kagent.commits.prepare` made of some commits, without those that are in."""
        ids: list[int] = []
        for row, body in zip(prepared["rows"], blobs, strict=False):
            if self._known(row[0]):
                ids.append(0)
                continue
            self.count += 1
            self.unsaved += 1
            ids.append(self.count)
            *facts, quotes, length = row
            self._replace_versions(row)
            self._insert("commits", self.count, *facts)
            self._insert("texts", self.count, body)
            if quotes:
                packed = zlib.compress(quotes.encode(), 9)
                self._insert("quotes", self.count, packed)
            for name, value in (("length", length), ("day", row[2]), ("flags", row[3])):
                self._arrays[name].append(value)
        self._post(prepared["terms"], blobs[len(ids) :], np.array(ids, dtype="<u4"))

    def _insert(self, table: str, *row: Any) -> None:
        """A row, and its sum behind it."""
        marks = "?, " * len(row)
        self._database.execute(f"INSERT INTO {table} VALUES ({marks}?)", (*row, row_sum(*row)))

    def _post(
        self, terms: Sequence[Sequence[str]], blobs: Sequence[bytes], ids: npt.NDArray[np.uint32]
    ) -> None:
        """Note rows under their terms, those whose id is 0 left out."""
        *lists, weights = blobs
        for kind, (names, lengths, numbers) in enumerate(
            zip(terms, lists[::2], lists[1::2], strict=True)
        ):
            found = ids[np.frombuffer(numbers, dtype=np.uint16)]
            kept = found > 0
            ends = np.cumsum(kept)[np.cumsum(np.frombuffer(lengths, dtype=np.uint16)) - 1]
            _append(self._postings[kind], names, found[kept].tobytes(), 4 * ends)
            if kind == _WORD:
                worth = np.frombuffer(weights, dtype=np.uint8)[kept]
                _append(self._weights, names, worth.tobytes(), ends)

    def _known(self, hash: str) -> bool:
        """Whether a commit is in, be it under a longer or a shorter form of its hash."""
        if is_posted(hash):
            return self._one("SELECT 1 FROM commits WHERE hash = ?", (hash,)) is not None
        start = hash[:12]
        query = "SELECT hash FROM commits WHERE hash >= ? AND hash < ?"
        found = self._database.execute(query, (start, start + "g"))
        return any(old.startswith(hash) or hash.startswith(old) for (old,) in found)

    def _replace_versions(self, row: Sequence[Any]) -> None:
        """Of several postings of one patch only the newest counts."""
        hash, day, flags, key = row[0], row[2], row[3], row[7]
        if not (flags & POSTED and "@" in hash):
            return
        replaced = "WHERE subject_key = ? AND flags & ? AND day <= ? AND hash LIKE '%@%'"
        values = (key, POSTED, day)
        self._database.execute(
            f"UPDATE commits SET flags = flags | {SUPERSEDED} {replaced}", values
        )
        self._database.execute(f"UPDATE commits SET sum = row_sum({FACTS}) {replaced}", values)

    def save(self) -> None:
        """Make all of it last, whatever happens to this process."""
        for name, (kind, stored) in _ARRAYS.items():
            values = self._arrays[name]
            if values:
                start = self.count - len(values) + 1
                self._insert("arrays", name, start, np.asarray(values, stored).tobytes())
                self._arrays[name] = array(kind)
        places = itertools.count(self._run * _RUN)
        for number, postings in enumerate(self._postings):
            weights: Mapping[str, bytes | bytearray]
            weights = self._weights if number == _WORD else {}
            self._database.executemany(
                "INSERT INTO scratch.runs VALUES (?, ?, ?, ?, ?)",
                (
                    (next(places), number, term, postings[term], weights.get(term, b""))
                    for term in sorted(postings)
                ),
            )
            postings.clear()
        self._weights.clear()
        self._run += 1
        self._database.execute("COMMIT")
        self._database.execute("BEGIN")
        self.unsaved = 0

    @contextlib.contextmanager
    def in_one_go(self) -> Iterator[None]:
        """What is written inside belongs together: `whole` is false until all of it is."""
        self.whole = False
        yield
        self.whole = True

    def merge_runs(self) -> None:
        """Bring all runs together in ``postings``; saved only with what comes after."""
        self.save()
        self.whole = False
        fresh = self._one("SELECT 1 FROM postings LIMIT 1") is None
        for lists in _batches(self._merged_runs()):
            self._write_lists(lists, fresh)
        self._database.execute("DELETE FROM scratch.runs")
        self.whole = True

    def _write_lists(self, lists: Sequence[_List], fresh: bool) -> None:
        """Put the lists into ``postings``, behind those that are there."""
        old = [None if fresh else self._list(kind, term) for kind, term, *_ in lists]
        ids = np.frombuffer(b"".join(data for _, _, data, _ in lists), dtype="<u4")
        lengths = [len(data) // 4 for _, _, data, _ in lists]
        lasts = ids[np.cumsum(lengths) - 1].tolist()
        packed = encode_lists(ids, lengths, [before[1] if before else 0 for before in old])
        self._database.executemany(
            "INSERT OR REPLACE INTO postings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            itertools.starmap(_joined, zip(lists, old, lengths, lasts, packed, strict=True)),
        )

    def _list(self, kind: int, term: str) -> _Stored | None:
        query = "SELECT n, last, ids, weights, head, sum FROM postings WHERE kind = ? AND term = ?"
        found = self._database.execute(query, (kind, term)).fetchone()
        if found is None:
            return None
        *row, head, sum = found
        _check(kind, term, row, head, sum)
        return cast("_Stored", tuple(row))

    def _merged_runs(self) -> Iterator[_List]:
        """What all runs have of each term, in the order of kinds and terms."""
        query = (
            "SELECT kind, term, id, ids, weights FROM scratch.runs WHERE id >= ?1 AND id < ?2 "
            "ORDER BY id"
        )
        runs = [
            self._database.execute(query, (run * _RUN, (run + 1) * _RUN))
            for run in range(self._run)
        ]
        # No two rows have the same id, so nothing behind it is compared.
        rows: Iterator[tuple[int, str, int, bytes, bytes]] = heapq.merge(*runs)
        for (kind, term), pieces in itertools.groupby(rows, key=itemgetter(0, 1)):
            _, _, ids, weights = zip(*(piece[1:] for piece in pieces), strict=True)
            yield kind, term, b"".join(ids), b"".join(weights)

    def packed(
        self, first: int, step: int = 1, last: int = sys.maxsize
    ) -> Iterator[tuple[Any, ...]]:
        """(id, hash, subject, files, fixes, body) of every `step`-th commit, `first` to `last`."""
        query = (
            "SELECT id, hash, subject, files, fixes, body FROM commits JOIN texts USING (id) "
            "WHERE id BETWEEN ?1 AND ?2 AND (id - ?1) % ?3 = 0 ORDER BY id"
        )
        return self._database.execute(query, (first, last, step))

    def own(self, start: int, owners: Sequence[int]) -> None:
        """Say which commits the vectors from number `start` on belong to."""
        data = np.asarray(owners, dtype="<u4").tobytes()
        self._database.execute("INSERT INTO scratch.owners VALUES (?, ?)", (start, data))

    def move_owners(self) -> None:
        """Put what `own` was told where readers look for it."""
        query = "SELECT start, data FROM scratch.owners ORDER BY start"
        pieces = self._database.execute(query).fetchall()
        if not pieces:
            return
        first = pieces[0][0]
        if first == 0:
            self._database.execute("DELETE FROM arrays WHERE name = 'owner'")
        joined = b"".join(data for _, data in pieces)
        self._insert("arrays", "owner", first, joined)
        self._database.execute("DELETE FROM scratch.owners")

    def seal(self) -> None:
        """Close the database as one that is only read from now on."""
        self._database.execute("COMMIT")
        self._database.execute("DETACH scratch")
        self._database.execute("PRAGMA journal_mode = DELETE")
        self.close()

    def close(self) -> None:
        """Close the files; what was not saved is lost."""
        self._database.close()


def _append(
    held: defaultdict[str, bytearray], terms: Sequence[str], data: bytes, ends: npt.NDArray[Any]
) -> None:
    """Append to what is held of each term its part of `data`, up to its one of `ends`."""
    start = 0
    for term, end in zip(terms, ends.tolist(), strict=True):
        if end > start:
            held[term] += data[start:end]
            start = end


def _batches(lists: Iterable[_List]) -> Iterator[list[_List]]:
    """Some of the lists at a time."""
    held: list[_List] = []
    size = 0
    for found in lists:
        held.append(found)
        size += len(found[2]) // 4
        if len(held) >= _MERGE_LISTS or size >= _MERGE_IDS:
            yield held
            held, size = [], 0
    if held:
        yield held


def _joined(
    added: _List, before: _Stored | None, length: int, last: int, packed: bytes
) -> tuple[Any, ...]:
    """The row of a list that was put behind what there was of it."""
    kind, term, _, weights = added
    n, _, ids, old_weights = before or (0, 0, b"", None)
    n, ids = n + length, ids + packed
    both = (old_weights or b"") + weights or None
    sum = row_sum(ids, both)
    return kind, term, n, last, row_sum(kind, term, n, last, sum), sum, ids, both


def _check(kind: int, term: str, row: Sequence[Any], head: int, sum: int) -> None:
    n, last, ids, weights = row
    if (sum, head) != (row_sum(ids, weights), row_sum(kind, term, n, last, sum)):
        raise IndexCorruptError(
            f"{DATABASE} is damaged: the list of {term!r} has not its sum",
            hint="rebuild it with `kagent index build`",
        )


def _open(directory: Path) -> sqlite3.Connection:
    database = sqlite3.connect(directory / DATABASE, isolation_level=None)
    add_row_sum(database)
    database.execute("ATTACH ? AS scratch", (os.fspath(directory / SCRATCH),))
    # The journal undoes what a killed process had begun. It is of both files only where both are
    # synced; `save` is so rare that this costs nothing.
    for schema in ("main", "scratch"):
        database.execute(f"PRAGMA {schema}.journal_mode = TRUNCATE")
        database.execute(f"PRAGMA {schema}.synchronous = NORMAL")
    database.execute("PRAGMA main.cache_size = -131072")
    database.execute("BEGIN")
    return database


def _start(directory: Path, job: str, base: Path | None) -> None:
    """Empty the directory and lay the tables out."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if base is not None:
        shutil.copyfile(base / DATABASE, directory / DATABASE)
    database = sqlite3.connect(directory / DATABASE, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous = OFF")
        if base is None:
            database.execute("PRAGMA page_size = 8192")
            database.executescript(_SCHEMA)
    finally:
        database.close()
    # The job is told last: without it, all of this is begun again.
    database = _open(directory)
    try:
        database.execute("COMMIT")
        database.executescript(_SCRATCH_SCHEMA)
        database.execute("INSERT INTO scratch.state VALUES ('job', ?)", (job,))
    finally:
        database.close()


def _job(directory: Path) -> str | None:
    """The job that stands half done in `directory`; None when there is none to go on with."""
    if not (directory / SCRATCH).is_file() or not (directory / DATABASE).is_file():
        return None
    try:
        database = sqlite3.connect(directory / SCRATCH)
        try:
            row = database.execute("SELECT value FROM state WHERE key = 'job'").fetchone()
        finally:
            database.close()
    except sqlite3.DatabaseError:
        return None
    return row[0] if row else None
