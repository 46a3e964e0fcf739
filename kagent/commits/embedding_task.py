"""Reading and embedding the commits of a half-built index, in one of its worker processes."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from kagent.commits.chunks import chunk_commit
from kagent.commits.embeddings import Embedder, make_embedder
from kagent.commits.names import words
from kagent.commits.packing import unpack_commit
from kagent.commits.workers import Frame

__all__ = ["count_frame", "embed_frame", "embed_rows", "first_chunks"]


def embed_frame(header: dict[str, Any], _: Sequence[bytes]) -> Frame:
    """Vectors of the commits ``first`` to ``last`` of ``database``.

    The answer's JSON has the commit each vector belongs to, its byte string the vectors as
    float16.
    """
    embedder = _learnt(header["embedding"], header["learnt"])
    owners, data = embed_rows(embedder, _rows(header))
    return owners, [data]


def count_frame(header: dict[str, Any], _: Sequence[bytes]) -> Frame:
    """How often each word is in the first chunk of every ``step``-th of those commits; as JSON."""
    return [Counter(words(text)) for text in first_chunks(_rows(header), header["size"])], ()


def _rows(header: dict[str, Any]) -> list[Sequence[Any]]:
    # Nobody writes to this database while its commits are read here.
    uri = f"{Path(header['database']).as_uri()}?mode=ro&immutable=1"
    database = sqlite3.connect(uri, uri=True)
    try:
        return database.execute(
            "SELECT id, hash, subject, files, fixes, body FROM commits JOIN texts USING (id) "
            "WHERE id BETWEEN ?1 AND ?2 AND (id - 1) % ?3 = 0 ORDER BY id",
            (header["first"], header["last"], header.get("step", 1)),
        ).fetchall()
    finally:
        database.close()


@lru_cache(maxsize=1)
def _learnt(embedding: str, path: str) -> Embedder:
    embedder = make_embedder(embedding)
    with Path(path).open("rb") as file:
        embedder.load(file)
    return embedder


def embed_rows(embedder: Embedder, rows: Iterable[Sequence[Any]]) -> tuple[list[int], bytes]:
    """The commit of every chunk of (id, hash, subject, files, fixes, body) rows, and its vector."""
    owners: list[int] = []
    texts: list[str] = []
    for id, *row in rows:
        for text in chunk_commit(unpack_commit(row), embedder.chunk_size):
            owners.append(id)
            texts.append(text)
    return owners, embedder.embed_documents(texts).astype("<f2").tobytes()


def first_chunks(rows: Iterable[Sequence[Any]], size: int) -> Iterator[str]:
    """The first chunk of each commit."""
    for _, *row in rows:
        yield next(chunk_commit(unpack_commit(row), size))
