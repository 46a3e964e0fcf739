"""The trace of "Decoding Kernel Callstacks with MCP Tools" finds its fix among real changes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

import kagent.demo
from kagent.cli.index import log_query
from kagent.commits import CommitIndex, Hit
from kagent.klog import parse_log

pytestmark = pytest.mark.integration

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "fixbench" / "corpus.jsonl.gz"
TRACE = Path(kagent.demo.__file__).with_name("data") / "cve-2025-37958" / "trace.log"
FIX = "be6e843fc51a"
EVERY = 12
"""Of the other subsystems' changes, one in so many stays."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> CommitIndex:
    """Every change to memory management of the benchmark's corpus, and some of all others."""
    if not CORPUS.is_file():
        pytest.skip(f"no {CORPUS}: the benchmark data is not shipped")
    directory = tmp_path_factory.mktemp("talk")
    source = directory / "corpus.jsonl.gz"
    with gzip.open(CORPUS, "rb") as lines, gzip.open(source, "wb", 1) as kept:
        for number, line in enumerate(lines):
            if number % EVERY == 0 or b'"mm/' in line:
                kept.write(line)
    return CommitIndex.build(source, directory / "index")


def search(index: CommitIndex, log: str) -> list[Hit]:
    return index.search_crash(log_query(parse_log(log), log))


def test_the_fix_is_the_first_of_four(index: CommitIndex) -> None:
    first, *others = search(index, TRACE.read_text("utf-8"))
    assert first.hash.startswith(FIX)
    assert first.subject == "mm/huge_memory: fix dereferencing invalid pmd migration entry"
    assert len(others) == 3
    assert any("split_huge_pmd_locked" in reason for reason in first.why)
    assert all(hit.confidence < first.confidence for hit in others)


def test_the_cve_named_in_the_log_is_no_hindrance(index: CommitIndex) -> None:
    assert search(index, f"CVE-2025-37958\n{TRACE.read_text('utf-8')}")[0].hash.startswith(FIX)
