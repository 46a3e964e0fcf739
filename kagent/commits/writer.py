"""Writing an index, first the text, then the vectors; see `kagent.commits.store` for the layout."""

from __future__ import annotations

import shutil
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from kagent.commits.chunks import chunk_commit
from kagent.commits.embeddings import LEARN_FROM, Embedder
from kagent.commits.manifest import Manifest, Source, file_sum
from kagent.commits.model import Commit
from kagent.commits.names import base_symbol, named_symbols, words
from kagent.commits.quoted import Quote, pack_quotes, quotes_in, references
from kagent.commits.store import (
    DATABASE,
    EMBEDDING,
    VECTORS,
    PostingKind,
    pack_commit,
    unpack_commit,
)
from kagent.commits.traits import traits

__all__ = ["IndexWriter"]

_BATCH = 512
_MAX_WORDS = 4000
_SCHEMA = """
CREATE TABLE commits (
    id INTEGER PRIMARY KEY, hash TEXT NOT NULL, subject TEXT NOT NULL, author TEXT NOT NULL,
    date TEXT NOT NULL, day INTEGER NOT NULL, flags INTEGER NOT NULL, breadth INTEGER NOT NULL,
    fixes TEXT NOT NULL, files TEXT NOT NULL, functions TEXT NOT NULL, message TEXT NOT NULL,
    diff BLOB NOT NULL, trailers TEXT NOT NULL, identifiers TEXT NOT NULL,
    truncated INTEGER NOT NULL);
CREATE UNIQUE INDEX commits_hash ON commits (hash);
CREATE INDEX commits_calendar ON commits (day, flags);
CREATE TABLE quotes (commit_id INTEGER PRIMARY KEY, reports TEXT NOT NULL);
CREATE TABLE chunks (id INTEGER PRIMARY KEY, commit_id INTEGER NOT NULL);
CREATE TABLE postings (kind TEXT, term TEXT, ids BLOB NOT NULL, PRIMARY KEY (kind, term))
    WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5 (subject, message, code, content='',
    tokenize="unicode61 remove_diacritics 0 tokenchars '_'");
CREATE VIRTUAL TABLE vocabulary USING fts5vocab ('words', 'row');
"""


class IndexWriter:
    """Fills one directory. Call `add` for every commit, then `finish` once."""

    def __init__(self, directory: Path, *, base: Path | None = None) -> None:
        """Start empty, or with a copy of the index at `base` to add to."""
        self._directory = directory
        if base is not None:
            shutil.copyfile(base / DATABASE, directory / DATABASE)
        self._database = sqlite3.connect(directory / DATABASE, isolation_level=None)
        # Nobody reads this file before it is whole, and after a crash it is thrown away.
        if base is None:
            self._database.executescript(_SCHEMA)
        for setting in ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF", "BEGIN"):
            self._database.execute(setting)
        self.count: int = self._database.execute("SELECT count(*) FROM commits").fetchone()[0]
        self._old = self.count
        self._postings: defaultdict[tuple[PostingKind, str], array[int]] = defaultdict(
            lambda: array("I")
        )

    def add(self, commit: Commit) -> None:
        """Store one commit's text, words and postings."""
        self.count += 1
        values = pack_commit(commit)
        facts = (_day(commit.date), traits(commit), min(len(commit.files), 1000))
        self._database.execute(
            "INSERT INTO commits (id, day, flags, breadth, hash, subject, author, date, message, "
            "diff, files, functions, fixes, trailers, identifiers, truncated) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.count, *facts, *values),
        )
        code = " ".join((*commit.files, *commit.functions, *commit.identifiers))
        columns = (" ".join(words(t)[:_MAX_WORDS]) for t in (commit.subject, commit.message, code))
        self._database.execute(
            "INSERT INTO words (rowid, subject, message, code) VALUES (?, ?, ?, ?)",
            (self.count, *columns),
        )
        quotes = quotes_in(commit.message)
        if quotes:
            self._database.execute(
                "INSERT INTO quotes (commit_id, reports) VALUES (?, ?)",
                (self.count, pack_quotes(quotes)),
            )
        for kind, terms in _posting_terms(commit, quotes):
            for term in terms:
                self._postings[kind, term].append(self.count)

    def known(self, hash: str) -> bool:
        """Say whether a commit is in already."""
        query = "SELECT 1 FROM commits WHERE hash = ?"
        return self._database.execute(query, (hash,)).fetchone() is not None

    def finish(
        self,
        source: Source,
        embedder: Embedder,
        *,
        base_vectors: Any = None,
        learnt_from: int = 0,
    ) -> Iterator[int]:
        """Write the postings, embed what was added, close; yields the commits embedded so far.

        `base_vectors` is the FAISS index of the commits that were in before, whose embedding
        `embedder` has loaded; without it everything is embedded, after learning.
        """
        self._write_postings()
        first = self._old + 1 if base_vectors is not None else 1
        if base_vectors is None:
            learnt_from = self.count
            self._database.execute("DELETE FROM chunks")
            embedder.learn(self._sample(embedder.chunk_size))
        index = base_vectors
        for done, vectors in self._embed(embedder, first):
            if index is None:
                index = _new_faiss(vectors.shape[1])
            index.add(vectors)
            yield done
        self._close()
        files = self._write_vectors(index, embedder)
        Manifest(
            source=source,
            embedding=embedder.id,
            dimension=index.d,
            commits=self.count,
            vectors=index.ntotal,
            learnt_from=learnt_from,
            files={name: file_sum(self._directory / name) for name in files},
        ).write(self._directory)

    def _write_vectors(self, index: Any, embedder: Embedder) -> list[str]:
        import faiss

        faiss.write_index(index, str(self._directory / VECTORS))
        files = [DATABASE, VECTORS]
        if embedder.save(self._directory / EMBEDDING):
            files.append(EMBEDDING)
        return files

    def _write_postings(self) -> None:
        for (kind, term), ids in sorted(self._postings.items()):
            blob = np.asarray(ids, dtype="<u4").tobytes()
            self._database.execute(
                "INSERT INTO postings (kind, term, ids) VALUES (?1, ?2, ?3) "
                "ON CONFLICT DO UPDATE SET ids = CAST(ids || ?3 AS BLOB)",
                (kind, term, blob),
            )
        self._postings.clear()

    def _close(self) -> None:
        self._database.execute("INSERT INTO words (words) VALUES ('optimize')")
        self._database.execute("COMMIT")
        self._database.close()

    def _sample(self, size: int) -> Iterator[str]:
        """Chunks of commits spread evenly over the index."""
        step = max(1, -(-self.count // LEARN_FROM))
        for _, commit in self._commits(1, step):
            yield next(chunk_commit(commit, size))

    def _commits(self, first: int, step: int = 1) -> Iterator[tuple[int, Commit]]:
        query = (
            "SELECT id, hash, subject, author, date, message, diff, files, functions, fixes, "
            "trailers, identifiers, truncated FROM commits WHERE id >= ? AND (id - 1) % ? = 0 "
            "ORDER BY id"
        )
        for row in self._database.execute(query, (first, step)):
            yield row[0], unpack_commit(row[1:])

    def _embed(self, embedder: Embedder, first: int) -> Iterator[tuple[int, Any]]:
        """Batches of vectors, with how many commits are done after each."""
        texts: list[str] = []
        owners: list[int] = []
        for number, (id, commit) in enumerate(self._commits(first), 1):
            for text in chunk_commit(commit, embedder.chunk_size):
                texts.append(text)
                owners.append(id)
            if len(texts) >= _BATCH:
                yield number, self._embed_batch(embedder, texts, owners)
                texts, owners = [], []
        if texts:
            yield self.count - first + 1, self._embed_batch(embedder, texts, owners)

    def _embed_batch(self, embedder: Embedder, texts: list[str], owners: list[int]) -> Any:
        (start,) = self._database.execute("SELECT coalesce(max(id) + 1, 0) FROM chunks").fetchone()
        self._database.executemany(
            "INSERT INTO chunks (id, commit_id) VALUES (?, ?)", enumerate(owners, start)
        )
        return embedder.embed_documents(texts)


def _new_faiss(dimension: int) -> Any:
    """Half floats: exact scan, no training, half the memory of a flat index."""
    import faiss

    return faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )


def _posting_terms(
    commit: Commit, quotes: Iterable[Quote]
) -> Iterator[tuple[PostingKind, Iterable[str]]]:
    yield "function", dict.fromkeys(base_symbol(name) for name in commit.functions)
    yield "file", dict.fromkeys(commit.files)
    yield "directory", dict.fromkeys(path.rpartition("/")[0] for path in commit.files)
    yield "identifier", dict.fromkeys(commit.identifiers)
    yield "mention", named_symbols(f"{commit.subject}\n{commit.message}")[:400]
    yield "fixes", [hash[:12] for hash in commit.fixes]
    yield "quoted", dict.fromkeys(name for quote in quotes for name in quote.symbols)
    yield "reference", references(commit.message)


def _day(date: str) -> int:
    try:
        when = datetime.fromisoformat(date)
    except ValueError:
        return -1
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(-1, int(when.timestamp() // 86400))
