"""Every row of an index has a sum: a flipped bit is named by whatever reads the row."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.index_faults import some_commits

import kagent.commits.store as store
from kagent.commits import CommitIndex
from kagent.errors import IndexCorruptError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sums")
    source = folder / "commits.jsonl"
    source.write_text("".join(some_commits(60)))
    CommitIndex.build(source, folder / "index").close()
    with source.open("a") as file:
        file.writelines(some_commits(40, first=60))
    return folder / "index"


@pytest.fixture
def large(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, opened as a database that is too large to be read whole."""
    monkeypatch.setattr(store, "_SUMMED", 0)
    return Path(shutil.copytree(built, tmp_path / "index"))


def harm(index: Path, statement: str) -> None:
    """Change a row as damage does: with its sum left as it was, and the file of the same size."""
    with closing(sqlite3.connect(index / "commits.sqlite")) as database, database:
        assert database.execute(statement).rowcount > 0


def search(index: CommitIndex) -> object:
    return index.search("leak in dev7_get_ring", 20)


def everything(index: CommitIndex) -> object:
    return list(index.commits())


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE commits SET subject = replace(subject, 'leak', 'lead')", search),
        ("UPDATE commits SET day = day + 1", search),
        ("UPDATE commits SET fixes = replace(fixes, '1', '3')", everything),
        ("UPDATE texts SET body = (SELECT body FROM texts WHERE id = 7)", everything),
        ("UPDATE postings SET n = n + 1", search),
        ("UPDATE postings SET ids = CAST(x'01' || substr(ids, 2) AS BLOB)", search),
        ("UPDATE postings SET weights = CAST(x'7f' || substr(weights, 2) AS BLOB)", search),
        ("UPDATE arrays SET data = CAST(x'7f' || substr(data, 2) AS BLOB)", search),
    ],
)
def test_no_wrong_content_is_served(
    large: Path, statement: str, read: Callable[[CommitIndex], object]
) -> None:
    harm(large, statement)
    with CommitIndex.open(large) as index, pytest.raises(IndexCorruptError, match="damaged"):
        read(index)
    with CommitIndex.open(large) as index:
        assert index.verify()


def test_an_update_does_not_take_damage_over(large: Path) -> None:
    harm(large, "UPDATE texts SET body = (SELECT body FROM texts WHERE id = 7) WHERE id = 8")
    with CommitIndex.open(large) as index, pytest.raises(IndexCorruptError, match="checksum"):
        index.update()


def test_a_small_database_is_compared_with_its_sum_before_it_is_asked(
    built: Path, tmp_path: Path
) -> None:
    index = Path(shutil.copytree(built, tmp_path / "index"))
    content = bytearray((index / "commits.sqlite").read_bytes())
    content[-1] ^= 1
    (index / "commits.sqlite").write_bytes(content)
    with CommitIndex.open(index) as opened:
        with pytest.raises(IndexCorruptError, match="has not the checksum"):
            search(opened)
        assert opened.verify() == ["commits.sqlite does not match the checksum in the manifest"]
