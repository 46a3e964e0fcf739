"""The index on disk: ``commits.sqlite``, ``vectors.faiss``, ``embedding.npz``, ``manifest.json``.

SQLite holds what ranking needs of each commit, the texts (compressed), and postings: for each
word, function, file, identifier, symbol named in a message, fixed and reverted hash, the ids of its
commits (`kagent.commits.postings`); for words with a weight. Each row has its sum
(`kagent.commits.sums`). Words are ranked by BM25 over these lists: SQLite's own FTS5 takes twenty
times as long and twice the space for the same order. An opened store keeps its files open, so it
works on unharmed while a new index takes the directory's place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from kagent.commits.manifest import file_sum, read_manifest
from kagent.commits.model import Commit
from kagent.commits.packing import patch_key, subject_key, unpack_commit
from kagent.commits.postings import Ids, decode_ids
from kagent.commits.prepare import KINDS, SUPERSEDED, TRUNCATED, WEIGHT_UNIT, PostingKind
from kagent.commits.quoted import Quote, unpack_quotes
from kagent.commits.sums import add_row_sum
from kagent.commits.traits import POSTED
from kagent.commits.vectors import open_vectors, search_vectors
from kagent.errors import IndexCorruptError

__all__ = ["DATABASE", "EMBEDDING", "FACTS", "VECTORS", "Ids", "PostingKind", "Row", "Store"]

DATABASE = "commits.sqlite"
VECTORS = "vectors.faiss"
EMBEDDING = "embedding.npz"

_PACKED = "hash, subject, files, fixes, body"
FACTS = "id, hash, subject, day, flags, breadth, files, fixes, subject_key, patch_key"
"""The columns of ``commits`` under its sum."""
_HEAD = "head = row_sum(kind, term, n, last, sum)"
_SUMS = {
    "commits": f"commits.sum = row_sum({FACTS})",
    "texts": "texts.sum = row_sum(id, body)",
    "quotes": "sum = row_sum(commit_id, reports)",
    "arrays": "sum = row_sum(name, start, data)",
    "postings": f"sum = row_sum(ids, weights) AND {_HEAD}",
}
"""By table: whether a row has its sum. The length of a list is read without the list."""
_SUMMED = 128 << 20
"""Bytes of a database that is read whole and compared with its sum before the first question. In
larger ones the rows have sums; what damage hides from a search there, `Store.problems` finds.
"""
_K1, _B = 1.2, 0.75
"""Of BM25, as SQLite's FTS5 has them."""


@dataclass(frozen=True, slots=True)
class Row:
    """What ranking needs of a commit."""

    id: int
    hash: str
    subject: str
    day: int
    """Days since 1970-01-01 of the author date; -1 when it cannot be read."""
    flags: int
    """Bits of `kagent.commits.traits`."""
    breadth: int
    """Files touched."""
    files: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()


class Store:
    """An index opened for reading. Methods may be called from any thread."""

    def __init__(self, directory: Path) -> None:
        """Open the index at `directory`.

        Raises:
            MissingDataError, InputError, IndexCorruptError: as `read_manifest`; also
                `IndexCorruptError` when files are missing, cut or not what they should be.
        """
        self.directory = directory
        self._lock = threading.Lock()
        self._summed = False
        self._faiss: Any = None
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self._calendar: npt.NDArray[np.int64] | None = None
        self._bearing: dict[int, int] = {}
        for _ in range(5):
            self.manifest = read_manifest(directory)
            with contextlib.ExitStack() as stack:
                try:
                    self._open_files(stack)
                except IndexCorruptError:
                    # Unless a build finished meanwhile, it is as bad as it looks.
                    if read_manifest(directory) == self.manifest:
                        raise
                    continue
                if read_manifest(directory) == self.manifest:
                    self._open = stack.pop_all()
                    # A cache may drop the last reference, or the process end with it.
                    weakref.finalize(self, self._open.close)
                    return
        raise IndexCorruptError(f"the index {directory} changes while it is being opened")

    def _open_files(self, stack: contextlib.ExitStack) -> None:
        self._files: dict[str, IO[bytes]] = {}
        try:
            for name, expected in self.manifest.files.items():
                path = self.directory / Path(name).name
                self._files[name] = stack.enter_context(path.open("rb"))
                if path.stat().st_size != expected.size:
                    raise self._corrupt(f"{name} has not the size the manifest states")
            uri = f"{(self.directory / DATABASE).resolve().as_uri()}?mode=ro&immutable=1"
            self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
            stack.callback(self._database.close)
            add_row_sum(self._database)
            self._database.execute("SELECT 1 FROM commits LIMIT 1").fetchone()
        except FileNotFoundError as error:
            raise self._corrupt(f"{Path(str(error.filename)).name} is missing") from error
        except sqlite3.DatabaseError as error:
            raise self._corrupt(f"{DATABASE}: {error}") from error

    def close(self) -> None:
        """Close the files; searching afterwards fails."""
        self._open.close()

    def _corrupt(self, what: str) -> IndexCorruptError:
        return IndexCorruptError(
            f"the index {self.directory} is damaged: {what}",
            hint="see `kagent index verify`; rebuild it with `kagent index build`",
        )

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[sqlite3.Cursor]:
        with self._lock, contextlib.closing(self._database.cursor()) as cursor:
            if not self._summed and self.manifest.files[DATABASE].size <= _SUMMED:
                self._check_sum(DATABASE, self._files[DATABASE])
            self._summed = True
            try:
                yield cursor
            except (sqlite3.DatabaseError, zlib.error, ValueError) as error:
                raise self._corrupt(f"{DATABASE}: {error}") from error

    def content(self, name: str) -> bytes | None:
        """A whole file of the index, checked against its sum; None when it has no such file."""
        file = self._files.get(name)
        if file is None:
            return None
        with self._lock:
            self._check_sum(name, file)
            file.seek(0)
            return file.read()

    def _check_sum(self, name: str, file: IO[bytes]) -> None:
        file.seek(0)
        if (
            hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
            != self.manifest.files[name].sha256
        ):
            raise self._corrupt(f"{name} has not the checksum the manifest states")

    def check_files(self) -> None:
        """Compare every file with its sum, before they become part of another index.

        Raises:
            IndexCorruptError: one has changed.
        """
        with self._lock:
            for name, file in self._files.items():
                self._check_sum(name, file)

    def vectors(self) -> Any:
        """The FAISS index; loaded on first use, not to be changed."""
        with self._lock:
            if self._faiss is None:
                self._faiss = self._load_vectors(mapped=True)
            return self._faiss

    def check_dimension(self, dimension: int) -> None:
        """Refuse an embedding whose vectors are not as long as those of the index.

        Raises:
            IndexCorruptError: they are not.
        """
        if dimension != self.manifest.dimension:
            raise self._corrupt(
                f"its vectors have {self.manifest.dimension} numbers, those of its embedding "
                f"{self.manifest.embedding} have {dimension}"
            )

    def copy_vectors(self) -> Any:
        """A FAISS index of one's own, in memory."""
        return self._load_vectors(mapped=False)

    def _load_vectors(self, *, mapped: bool) -> Any:
        file = self._files.get(VECTORS)
        if file is None:
            raise self._corrupt(f"{VECTORS} is missing")
        if self.manifest.vector_index.kind == "exact":
            # FAISS trusts what it reads; what is too large to be summed up here is only mapped.
            self._check_sum(VECTORS, file)
        try:
            index = open_vectors(file, self.directory / VECTORS, mapped=mapped)
        except (RuntimeError, MemoryError) as error:
            raise self._corrupt(f"{VECTORS}: {error}") from error
        if (index.d, index.ntotal) != (self.manifest.dimension, self.manifest.vectors):
            raise self._corrupt(f"{VECTORS} is not the file that the manifest describes")
        return index

    def owners(self) -> Ids:
        """The commit id of every vector, in the order of the vectors."""
        return self._array("owner", "<u4")

    def _array(self, name: str, kind: str) -> npt.NDArray[Any]:
        """A column that is read whole, of pieces that builds and updates wrote."""
        if name not in self._arrays:
            with self._cursor() as cursor:
                query = f"SELECT {_SUMS['arrays']}, data FROM arrays WHERE name = ? ORDER BY start"
                joined = b"".join(piece for (piece,) in _sound(cursor.execute(query, (name,))))
                self._arrays[name] = np.frombuffer(joined, dtype=kind)
        return self._arrays[name]

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """(commit id, cosine) of the commits whose best chunk is nearest, best first.

        Raises:
            IndexCorruptError: the vectors are damaged, or not as long as `vector`.
        """
        self.check_dimension(len(vector))
        scores, rows = search_vectors(self.vectors(), self.manifest.vector_index, vector, k)
        owners = self.owners()
        best: dict[int, float] = {}
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if 0 <= row < len(owners):
                best.setdefault(int(owners[row]), score)
        return list(best.items())

    def postings(self, kind: PostingKind, term: str) -> Ids:
        """Ids of the commits under `term`, ascending."""
        with self._cursor() as cursor:
            query = f"SELECT {_SUMS['postings']}, ids FROM postings WHERE kind = ? AND term = ?"
            found = _sound(cursor.execute(query, (KINDS[kind], _key(term))))
            return decode_ids(found[0][0] if found else b"")

    def frequency(self, word: str) -> int:
        """In how many commits a word of the text occurs."""
        with self._cursor() as cursor:
            query = f"SELECT {_HEAD}, n FROM postings WHERE kind = ? AND term = ?"
            found = _sound(cursor.execute(query, (KINDS["word"], _key(word))))
        return int(found[0][0]) if found else 0

    def match(self, terms: Sequence[str], k: int) -> list[tuple[int, float]]:
        """(commit id, BM25) of the `k` commits that match any of `terms` best."""
        lengths = self._array("length", "<u2")
        mean = max(float(lengths.mean()), 1.0) if len(lengths) else 1.0
        found: list[Ids] = []
        gains: list[npt.NDArray[np.float64]] = []
        query = (
            f"SELECT {_SUMS['postings']}, n, ids, weights FROM postings WHERE kind = ? AND term = ?"
        )
        with self._cursor() as cursor:
            for term in dict.fromkeys(terms):
                rows = _sound(cursor.execute(query, (KINDS["word"], _key(term))))
                if not rows:
                    continue
                row = rows[0]
                ids = decode_ids(row[1])
                count = np.frombuffer(row[2], dtype=np.uint8) * WEIGHT_UNIT
                if len(ids) != len(count) or (len(ids) and ids[-1] > len(lengths)):
                    raise ValueError(f"the list of {term!r} does not fit the rest")
                rarity = max(np.log((len(lengths) - row[0] + 0.5) / (row[0] + 0.5)), 1e-6)
                norm = _K1 * (1 - _B + _B * lengths[ids - 1] / mean)
                found.append(ids)
                gains.append(rarity * count * (_K1 + 1) / (count + norm))
        if not found:
            return []
        ids, places = np.unique(np.concatenate(found), return_inverse=True)
        scores = np.bincount(places, np.concatenate(gains))
        best = np.argsort(-scores, kind="stable")[:k]
        return list(zip(ids[best].tolist(), scores[best].tolist(), strict=True))

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Ranking facts of some commits, by id."""
        columns = (
            f"SELECT {_SUMS['commits']}, id, hash, subject, day, flags, breadth, files, fixes "
            "FROM commits WHERE id IN"
        )
        found = [
            Row(id, hash, subject, day, flags, breadth, _tuple(files), _tuple(fixes))
            for id, hash, subject, day, flags, breadth, files, fixes in self._select(columns, ids)
        ]
        if len(found) != len(set(ids)):
            raise self._corrupt(f"{DATABASE}: lists name commits that are not there")
        return sorted(found, key=lambda row: row.id)

    def _select(self, columns: str, ids: Sequence[int]) -> list[Any]:
        found: list[Any] = []
        with self._cursor() as cursor:
            for start in range(0, len(ids), 30_000):
                some = [int(i) for i in ids[start : start + 30_000]]
                marks = ",".join("?" * len(some))
                found += _sound(cursor.execute(f"{columns} ({marks})", some))
        return found

    def calendar(self) -> npt.NDArray[np.int64]:
        """(day, flags) of every commit, a row an id (0 is none); read once."""
        if self._calendar is None:
            days, flags = self._array("day", "<i4"), self._array("flags", "<u4")
            both = np.stack((days.astype(np.int64), flags.astype(np.int64)), axis=1)
            self._calendar = np.concatenate((np.array([[-1, 0]]), both))
        return self._calendar

    def bearing(self, flag: int) -> int:
        """How many commits have a flag; counted once each."""
        if flag not in self._bearing:
            self._bearing[flag] = int(np.count_nonzero(self.calendar()[:, 1] & flag))
        return self._bearing[flag]

    def quotes(self, ids: Sequence[int]) -> dict[int, tuple[Quote, ...]]:
        """The crash reports that the messages of some commits quote, by id."""
        columns = f"SELECT {_SUMS['quotes']}, commit_id, reports FROM quotes WHERE commit_id IN"
        found = self._select(columns, ids)
        try:
            return {id: unpack_quotes(zlib.decompress(data).decode()) for id, data in found}
        except (ValueError, zlib.error) as error:
            raise self._corrupt(f"{DATABASE}: {error}") from error

    def packed(self, first: int = 1) -> Iterator[tuple[Any, ...]]:
        """(hash, subject, files, fixes, body) of the commits from id `first` on."""
        query = (
            f"SELECT {_SUMS['commits']} AND {_SUMS['texts']}, {_PACKED} "
            "FROM commits JOIN texts USING (id) WHERE id >= ? ORDER BY id LIMIT ?"
        )
        step = 500
        for start in range(first, self.manifest.commits + 1, step):
            with self._cursor() as cursor:
                found = _sound(cursor.execute(query, (start, step)))
            yield from found

    def commits(self, ids: Sequence[int] | None = None) -> Iterator[Commit]:
        """Whole commits, of some ids in their order or all by id."""
        if ids is None:
            yield from map(self._unpack, self.packed())
            return
        columns = (
            f"SELECT {_SUMS['commits']} AND {_SUMS['texts']}, id, {_PACKED} "
            "FROM commits JOIN texts USING (id) WHERE id IN"
        )
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            found = {row[0]: row[1:] for row in self._select(columns, some)}
            for key in some:
                if key not in found:
                    raise self._corrupt(f"{DATABASE}: lists name commits that are not there")
                yield self._unpack(found[key])

    def _unpack(self, row: Sequence[Any]) -> Commit:
        try:
            return unpack_commit(row)
        except (ValueError, TypeError, zlib.error) as error:
            raise self._corrupt(f"{DATABASE}: {error}") from error

    def named(self, hashes: Iterable[str]) -> dict[str, tuple[int, int]]:
        """(id, day) of the commits that (abbreviated) hashes name, as far as they are here."""
        wanted = {_key(hash): hash for hash in hashes}
        query = (
            "SELECT value, count(*), commits.id, day FROM json_each(?) JOIN commits "
            "ON hash >= value AND hash < value || char(1114111) GROUP BY value"
        )
        with self._cursor() as cursor:
            rows = cursor.execute(query, (json.dumps(list(wanted)),)).fetchall()
        return {wanted[key]: (id, day) for key, count, id, day in rows if count == 1}

    def find(self, hash_prefix: str) -> Commit | None:
        """The commit of that hash, or the only one whose hash starts with it."""
        found = self.named([hash_prefix])
        return next(self.commits([found[hash_prefix][0]])) if found else None

    def mentioning(self, kind: PostingKind, hash: str) -> list[int]:
        """Ids of the commits whose `kind` (``fixes``, ``reverts``) names `hash`, ascending."""
        lengths = range(7, min(len(hash), 12) + 1)
        found = [self.postings(kind, hash[:length]) for length in lengths]
        return [int(id) for id in np.unique(np.concatenate(found))] if found else []

    def twins(self, subject: str, diff: str) -> list[Row]:
        """Commits with that subject or patch, by id."""
        keys = (subject_key(subject), patch_key(diff) if diff else None)
        query = "SELECT id FROM commits WHERE subject_key = ? UNION SELECT id FROM commits WHERE "
        with self._cursor() as cursor:
            found = cursor.execute(f"{query} patch_key = ? LIMIT 50", keys).fetchall()
        return self.rows([id for (id,) in found])

    def hashes(self) -> Iterator[str]:
        """Of every commit, by id."""
        with self._cursor() as cursor:
            found = cursor.execute("SELECT hash FROM commits ORDER BY id").fetchall()
        return (hash for (hash,) in found)

    def span(self) -> tuple[str | None, str | None]:
        """Dates of the oldest and the newest commit."""
        query = "SELECT id FROM commits WHERE day >= 0 ORDER BY day"
        with self._cursor() as cursor:
            ends = [cursor.execute(f"{query} {way} LIMIT 1").fetchone() for way in ("", "DESC")]
        first, last = (next(self.commits(list(end))).date if end else None for end in ends)
        return first, last

    def counts(self) -> dict[str, int]:
        """How many commits are of a special kind: posted only, replaced, with a cut patch."""
        query = "SELECT count(*) FROM commits WHERE flags & ?"
        with self._cursor() as cursor:
            return {
                "posted": cursor.execute(query, (POSTED,)).fetchone()[0],
                "superseded": cursor.execute(query, (SUPERSEDED,)).fetchone()[0],
                "truncated": cursor.execute(query, (TRUNCATED,)).fetchone()[0],
            }

    def problems(self) -> list[str]:
        """Everything found wrong with the files; empty when the index is sound."""
        found = []
        for name, expected in self.manifest.files.items():
            path = self.directory / Path(name).name
            if not path.is_file():
                found.append(f"{name} is missing")
            elif file_sum(path) != expected:
                found.append(f"{name} does not match the checksum in the manifest")
        if found:
            return found
        with self._cursor() as cursor:
            checks = cursor.execute("PRAGMA integrity_check(5)").fetchall()
            found += [f"{DATABASE}: {line}" for (line,) in checks if line != "ok"]
            found += [
                f"{DATABASE}: rows of {table} have not their sums"
                for table, sound in _SUMS.items()
                if cursor.execute(f"SELECT 1 FROM {table} WHERE NOT ({sound}) LIMIT 1").fetchone()
            ]
            (commits,) = cursor.execute("SELECT count(*) FROM commits").fetchone()
            (texts,) = cursor.execute("SELECT count(*) FROM texts").fetchone()
        index = self.vectors()
        manifest, owners = self.manifest, self.owners()
        stated = (manifest.commits, manifest.commits, manifest.commits)
        if (commits, texts, len(self._array("length", "<u2"))) != stated:
            found.append(f"counts differ from the manifest: {commits} commits, {texts} texts")
        if len(owners) != index.ntotal or (len(owners) and int(owners.max()) > commits):
            found.append(f"{len(owners)} owners of {index.ntotal} vectors")
        return found


def _sound(rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The rows of a query without their first column, which says whether their sums are right.

    Raises:
        ValueError: one is not.
    """
    found = []
    for sound, *row in rows:
        if sound != 1:
            raise ValueError("a row has not its sum")
        found.append(tuple(row))
    return found


def _tuple(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text != "[]" else ()


def _key(text: str) -> str:
    """Without lone surrogates, which UTF-8 cannot store; nothing in an index has them."""
    return text.encode("utf-8", "replace").decode()
