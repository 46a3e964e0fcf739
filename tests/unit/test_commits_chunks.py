"""Chunks: small enough, whole where possible, each with its subject."""

from __future__ import annotations

from kagent.commits.chunks import MAX_CHUNKS, chunk_commit
from kagent.commits.model import Commit

LONG = "".join(f"+line number {number}\n" for number in range(100))


def commit(message: str = "", diff: str = "") -> Commit:
    return Commit(
        "1" * 40, "fan: fix it", "Ada", "2024-01-01", message, ("a.c",), ("fan_apply",), diff
    )


def test_a_small_commit_is_one_chunk() -> None:
    assert list(chunk_commit(commit("Why.", "+x"), 500)) == [
        "fan: fix it\na.c fan_apply\n\nWhy.\n\n+x"
    ]


def test_an_empty_commit_is_one_chunk() -> None:
    assert list(chunk_commit(commit(), 500)) == ["fan: fix it\na.c fan_apply\n\n"]


def test_a_long_one_is_cut_at_line_ends() -> None:
    chunks = list(chunk_commit(commit("Why.", LONG), 600))
    assert len(chunks) > 2
    assert all(len(chunk) <= 600 for chunk in chunks)
    assert all(chunk.startswith("fan: fix it\n") for chunk in chunks)
    assert all(chunk.endswith("\n") for chunk in chunks)
    assert "".join(chunk.split("\n\n", 1)[1] for chunk in chunks) == f"Why.\n\n{LONG}"


def test_there_are_never_too_many() -> None:
    chunks = list(chunk_commit(commit("x" * 1_000_000), 100))
    assert len(chunks) == MAX_CHUNKS
    assert all(len(chunk) <= 100 for chunk in chunks)
