"""The index on disk: ``commits.sqlite``, ``vectors.faiss``, ``embedding.npz``, ``manifest.json``.

SQLite holds the commits' text, full-text words (FTS5, contentless: fed with the words of
`kagent.commits.names`) and postings: for each function, file, identifier, symbol named in a
message and fixed hash, the ids of its commits as little-endian uint32. An opened store keeps its
files open, so it works on unharmed while a new index takes the directory's place.
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
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from kagent.commits.manifest import file_sum, read_manifest
from kagent.commits.model import Commit
from kagent.commits.quoted import Quote, unpack_quotes
from kagent.errors import IndexCorruptError

__all__ = ["DATABASE", "EMBEDDING", "VECTORS", "PostingKind", "Row", "Store"]

DATABASE = "commits.sqlite"
VECTORS = "vectors.faiss"
EMBEDDING = "embedding.npz"

PostingKind = Literal[
    "function",
    "file",
    "directory",
    "identifier",
    "mention",
    "fixes",
    "quoted",
    "reference",
]
Ids = npt.NDArray[np.uint32]

_COLUMNS = (
    "hash, subject, author, date, message, diff, files, functions, fixes, trailers, identifiers, "
    "truncated"
)


_MAX_FREQUENCIES = 1 << 16


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
        self._faiss: Any = None
        self._frequencies: dict[str, int] = {}
        self._bearing: dict[int, int] = {}
        self._calendar: npt.NDArray[np.int64] | None = None
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
            try:
                yield cursor
            except (sqlite3.DatabaseError, zlib.error, json.JSONDecodeError) as error:
                raise self._corrupt(str(error)) from error

    def content(self, name: str) -> bytes | None:
        """A whole file of the index, checked against its sum; None when it has no such file."""
        file = self._files.get(name)
        if file is None:
            return None
        with self._lock:
            file.seek(0)
            data = file.read()
        if hashlib.sha256(data).hexdigest() != self.manifest.files[name].sha256:
            raise self._corrupt(f"{name} has not the checksum the manifest states")
        return data

    def vectors(self) -> Any:
        """The FAISS index; loaded on first use, not to be changed."""
        if self._faiss is None:
            self._faiss = self.copy_vectors()
        return self._faiss

    def copy_vectors(self) -> Any:
        """A FAISS index of one's own."""
        import faiss

        data = self.content(VECTORS)
        if data is None:
            raise self._corrupt(f"{VECTORS} is missing")
        try:
            return faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        except RuntimeError as error:
            raise self._corrupt(f"{VECTORS}: {error}") from error

    def owners(self) -> list[int]:
        """The commit id of every vector, in the order of the vectors."""
        with self._cursor() as cursor:
            found = cursor.execute("SELECT commit_id FROM chunks ORDER BY id").fetchall()
        return [owner for (owner,) in found]

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[int, float]]:
        """(commit id, cosine) of the commits whose best chunk is nearest, best first."""
        index = self.vectors()
        scores, rows = index.search(vector.reshape(1, -1), min(k, index.ntotal))
        found = [int(row) for row in rows[0] if row >= 0]
        owners = dict(self._select("SELECT id, commit_id FROM chunks WHERE id IN", found))
        best: dict[int, float] = {}
        for row, score in zip(found, scores[0], strict=False):
            best.setdefault(owners[row], float(score))
        return list(best.items())

    def postings(self, kind: PostingKind, term: str) -> Ids:
        """Ids of the commits under `term`, ascending."""
        with self._cursor() as cursor:
            row = cursor.execute(
                "SELECT ids FROM postings WHERE kind = ? AND term = ?", (kind, term)
            ).fetchone()
        return np.frombuffer(row[0] if row else b"", dtype="<u4")

    def frequency(self, word: str) -> int:
        """In how many commits a word of the full text occurs."""
        known = self._frequencies.get(word)
        if known is None:
            query = "SELECT doc FROM vocabulary WHERE term = ?"
            with self._cursor() as cursor:
                row = cursor.execute(query, (word,)).fetchone()
            known = int(row[0]) if row else 0
            if len(self._frequencies) < _MAX_FREQUENCIES:
                self._frequencies[word] = known
        return known

    def match(self, terms: Sequence[str], k: int) -> list[tuple[int, float]]:
        """(commit id, BM25) of the `k` commits that match any of `terms` best."""
        query = " OR ".join('"' + term.replace('"', "") + '"' for term in terms)
        if not query:
            return []
        with self._cursor() as cursor:
            return [
                (row, -score)
                for row, score in cursor.execute(
                    "SELECT rowid, bm25(words, 3.0, 1.0, 0.7) FROM words WHERE words MATCH ? "
                    "ORDER BY 2 LIMIT ?",
                    (query, k),
                )
            ]

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Ranking facts of some commits, by id."""
        columns = (
            "SELECT id, hash, subject, day, flags, breadth, files, fixes FROM commits WHERE id IN"
        )
        found = [
            Row(
                id=row[0],
                hash=row[1],
                subject=row[2],
                day=row[3],
                flags=row[4],
                breadth=row[5],
                files=tuple(json.loads(row[6])),
                fixes=tuple(json.loads(row[7])) if row[7] != "[]" else (),
            )
            for row in self._select(columns, ids)
        ]
        return sorted(found, key=lambda row: row.id)

    def calendar(self) -> npt.NDArray[np.int64]:
        """(day, flags) of every commit, a row an id (0 is none); read once."""
        if self._calendar is None:
            with self._cursor() as cursor:
                found = cursor.execute("SELECT id, day, flags FROM commits").fetchall()
            table = np.array(found, dtype=np.int64).reshape(-1, 3)
            calendar = np.full((self.manifest.commits + 1, 2), (-1, 0), dtype=np.int64)
            calendar[table[:, 0]] = table[:, 1:]
            self._calendar = calendar
        return self._calendar

    def bearing(self, flag: int) -> int:
        """How many commits have a flag; counted once each."""
        if flag not in self._bearing:
            self._bearing[flag] = int(np.count_nonzero(self.calendar()[:, 1] & flag))
        return self._bearing[flag]

    def quotes(self, ids: Sequence[int]) -> dict[int, tuple[Quote, ...]]:
        """The crash reports that the messages of some commits quote, by id."""
        found = self._select("SELECT commit_id, reports FROM quotes WHERE commit_id IN", ids)
        return {id: unpack_quotes(reports) for id, reports in found}

    def named(self, hashes: Iterable[str]) -> dict[str, tuple[int, int]]:
        """(id, day) of the commits that (abbreviated) hashes name, as far as they are here."""
        query = "SELECT id, day FROM commits WHERE hash >= ? AND hash < ? LIMIT 2"
        found: dict[str, tuple[int, int]] = {}
        with self._cursor() as cursor:
            for hash in dict.fromkeys(hashes):
                rows = cursor.execute(query, (hash, f"{hash}g")).fetchall()
                if len(rows) == 1:
                    found[hash] = rows[0]
        return found

    def _select(self, columns: str, ids: Sequence[int]) -> list[Any]:
        found: list[Any] = []
        with self._cursor() as cursor:
            for start in range(0, len(ids), 30_000):
                some = [int(i) for i in ids[start : start + 30_000]]
                marks = ",".join("?" * len(some))
                found += cursor.execute(f"{columns} ({marks})", some)
        return found

    def commits(self, ids: Sequence[int] | None = None) -> Iterator[Commit]:
        """Whole commits, of some ids in their order or all by id."""
        step = 500
        chosen: Sequence[int] = range(1, self.manifest.commits + 1) if ids is None else ids
        for start in range(0, len(chosen), step):
            some = list(chosen[start : start + step])
            found = {
                r[0]: r
                for r in self._select(f"SELECT id, {_COLUMNS} FROM commits WHERE id IN", some)
            }
            for key in some:
                yield unpack_commit(found[key][1:])

    def find(self, hash_prefix: str) -> Commit | None:
        """The commit of that hash, or the only one whose hash starts with it."""
        with self._cursor() as cursor:
            found = cursor.execute(
                f"SELECT {_COLUMNS} FROM commits WHERE hash >= ? AND hash < ? LIMIT 2",
                (hash_prefix, hash_prefix + "\U0010ffff"),
            ).fetchall()
        return unpack_commit(found[0]) if len(found) == 1 else None

    def hashes(self) -> Iterator[str]:
        """Of every commit, by id."""
        with self._cursor() as cursor:
            found = cursor.execute("SELECT hash FROM commits ORDER BY id").fetchall()
        return (hash for (hash,) in found)

    def span(self) -> tuple[str | None, str | None]:
        """Dates of the oldest and the newest commit."""
        query = "SELECT date FROM commits WHERE day >= 0 ORDER BY day"
        with self._cursor() as cursor:
            first = cursor.execute(f"{query} LIMIT 1").fetchone()
            last = cursor.execute(f"{query} DESC LIMIT 1").fetchone()
        return (first[0] if first else None, last[0] if last else None)

    def truncated(self) -> int:
        """How many commits have a patch longer than what is kept."""
        with self._cursor() as cursor:
            (count,) = cursor.execute("SELECT count(*) FROM commits WHERE truncated").fetchone()
        return int(count)

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
            (commits,) = cursor.execute("SELECT count(*) FROM commits").fetchone()
            (chunks,) = cursor.execute("SELECT count(*) FROM chunks").fetchone()
        index = self.vectors()
        stated = (self.manifest.commits, self.manifest.vectors, self.manifest.vectors)
        if (commits, chunks, index.ntotal) != stated:
            found.append(f"counts differ from the manifest: {(commits, chunks, index.ntotal)}")
        if index.d != self.manifest.dimension:
            found.append(f"vectors have {index.d} dimensions, not {self.manifest.dimension}")
        return found


def unpack_commit(row: Sequence[Any]) -> Commit:
    """The commit in a row of `_COLUMNS`."""
    hash, subject, author, date, message, diff, *lists, truncated = row
    files, functions, fixes, trailers, identifiers = (json.loads(text) for text in lists)
    return Commit(
        hash=hash,
        subject=subject,
        author=author,
        date=date,
        message=message,
        files=tuple(files),
        functions=tuple(functions),
        diff=zlib.decompress(diff).decode() if diff else "",
        fixes=tuple(fixes),
        trailers=tuple((key, value) for key, value in trailers),
        identifiers=tuple(identifiers),
        truncated=bool(truncated),
    )


def pack_commit(commit: Commit) -> tuple[Any, ...]:
    """A commit as the values of `_COLUMNS`."""
    lists: Iterable[Any] = (
        commit.files,
        commit.functions,
        commit.fixes,
        commit.trailers,
        commit.identifiers,
    )
    return (
        commit.hash,
        _clean(commit.subject),
        _clean(commit.author),
        commit.date,
        _clean(commit.message),
        zlib.compress(_clean(commit.diff).encode(), 6) if commit.diff else b"",
        *(json.dumps(item, separators=(",", ":"), ensure_ascii=True) for item in lists),
        int(commit.truncated),
    )


def _clean(text: str) -> str:
    """Without lone surrogates, which UTF-8 cannot store."""
    return text.encode("utf-8", "replace").decode()
