"""What an index answers beside searches: who repairs whom, twins, vectors in lists, merging."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.index_faults import some_commits
from support.repository import GitRepository, fan_history

import kagent.commits.vectors as vectors
from kagent.commits import CommitIndex, CrashQuery, open_indexes
from kagent.commits.manifest import VectorFacts
from kagent.commits.packing import patch_key, plain_subject, subject_key
from kagent.commits.postings import decode_ids, encode_lists
from kagent.commits.vectors import VectorFile, extend, make_vectors, search_vectors
from kagent.errors import InputError, MissingDataError


@given(st.lists(st.tuples(st.sets(st.integers(1, 2**32 - 1)), st.integers(0, 9)), max_size=9))
def test_lists_of_ids_come_back_and_can_be_appended_to(lists: list[tuple[set[int], int]]) -> None:
    heads = [sorted(ids)[:cut] for ids, cut in lists]
    tails = [sorted(ids)[cut:] for ids, cut in lists]
    lasts = [head[-1] if head else 0 for head in heads]
    first = iter(_encoded([head for head in heads if head], []))
    more = iter(
        _encoded(
            [tail for tail in tails if tail],
            [last for last, tail in zip(lasts, tails, strict=True) if tail],
        )
    )
    for (ids, _), head, tail in zip(lists, heads, tails, strict=True):
        data = (next(first) if head else b"") + (next(more) if tail else b"")
        assert decode_ids(data).tolist() == sorted(ids)


def _encoded(lists: list[list[int]], lasts: list[int]) -> list[bytes]:
    joined = np.array([id for ids in lists for id in ids], dtype=np.uint32)
    return encode_lists(joined, [len(ids) for ids in lists], lasts)


@pytest.mark.parametrize("data", [b"\x80", b"\x01\xff", b"\xff" * 9 + b"\x01"])
def test_what_is_no_list_of_ids(data: bytes) -> None:
    with pytest.raises(ValueError, match="list of ids"):
        decode_ids(data)


def test_the_same_change_has_the_same_keys() -> None:
    assert subject_key("[PATCH v3 2/7] fan: fix it") == subject_key("fan: fix it")
    assert subject_key("fan: fix it") != subject_key("fan: break it")
    assert plain_subject("fan: [x] y") == "fan: [x] y"
    one = "diff --git a/a.c b/a.c\n@@ -1,3 +1,3 @@ f\n x\n-\ty = 1;\n+\ty = 2;\n"
    moved = "diff --git a/a.c b/a.c\n@@ -90,4 +91,4 @@ f\n other\n-    y = 1;\n+    y = 2;\n"
    assert patch_key(one) == patch_key(moved)
    assert patch_key(one) != patch_key(one.replace("= 2", "= 3"))
    assert patch_key("") is None


def test_who_repairs_and_who_reverts(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "repo")
    bug = repository.commit("fan: follow a curve\n", {"fan.c": "int fan_curve(void)\n{\n}\n"})
    fix = repository.commit(
        f'fan: fix fan_curve()\n\nFixes: {bug[:9]} ("fan: follow a curve")\n',
        {"fan.c": "int fan_curve(void)\n{\n\treturn 0;\n}\n"},
    )
    undo = repository.commit(f"Revert fan\n\nThis reverts commit {fix}.\n", {"b.c": "x\n"})
    with CommitIndex.build(repository.path, tmp_path / "index") as index:
        assert [commit.hash for commit in index.fixed_by(bug)] == [fix]
        assert [commit.hash for commit in index.fixed_by(bug[:12])] == [fix]
        assert [commit.hash for commit in index.reverted_by(fix)] == [undo]
        assert index.fixed_by(undo) == []
        hits = {hit.hash: hit.why for hit in index.search("fan_curve", 5)}
        assert f"speaks against it: reverted by {undo[:12]}" in hits[fix]
        assert f"repaired by {fix[:12]}" in hits[bug]


def rows_of(path: Path, count: int, seed: int = 1) -> VectorFile:
    """Vectors about a hundred centres, as texts of a hundred drivers have them."""
    dice = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((100, 24), np.float32)
    found = centres[dice.integers(0, 100, count)] + 0.5 * dice.standard_normal(
        (count, 24), np.float32
    )
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    file = VectorFile(path, 24)
    file.keep(0)
    file.append(found.astype("<f2").tobytes())
    return file


def test_few_vectors_are_all_compared(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "rows", 500)
    index, facts = make_vectors(rows)
    assert facts == VectorFacts(kind="exact", storage="fp16")
    query = rows.mapped()[17].astype(np.float32)
    scores, found = search_vectors(index, facts, query, 5)
    exact = rows.mapped().astype(np.float32) @ query
    assert found[0] == 17
    assert found.tolist() == np.argsort(-exact)[:5].tolist()
    assert scores == pytest.approx(np.sort(exact)[::-1][:5], abs=1e-3)


def test_many_vectors_stand_in_lists_whose_loss_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "EXACT_BELOW", 2000)
    monkeypatch.setattr(vectors, "_TRAIN_PER_LIST", 20)
    rows = rows_of(tmp_path / "rows", 3000)
    index, facts = make_vectors(rows)
    assert (facts.kind, facts.storage, facts.lists) == ("ivf", "int8", 64)
    assert facts.measured_on == 3000
    assert facts.recall_at_10 >= 0.95 or facts.probes == facts.lists
    queries = rows.mapped()[::100].astype(np.float32)
    exact = np.argsort(-(queries @ rows.mapped().astype(np.float32).T), axis=1)[:, :10]
    found = [set(search_vectors(index, facts, query, 10)[1].tolist()) for query in queries]
    share = np.mean([len(set(t) & f) / 10 for t, f in zip(exact.tolist(), found, strict=True)])
    assert share == pytest.approx(facts.recall_at_10, abs=0.1)


def test_vectors_that_outgrow_the_exact_scan_move_to_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "EXACT_BELOW", 2000)
    monkeypatch.setattr(vectors, "_TRAIN_PER_LIST", 20)
    index, facts = make_vectors(rows_of(tmp_path / "rows", 1500))
    spare = VectorFile(tmp_path / "spare", 24)
    index, facts = extend(index, facts, rows_of(tmp_path / "more", 1000, seed=2), spare)
    assert (index.ntotal, facts.kind) == (2500, "ivf")
    more = rows_of(tmp_path / "yet more", 10, seed=3)
    index, again = extend(index, facts, more, spare)
    assert (index.ntotal, again) == (2510, facts)
    query = more.mapped()[4].astype(np.float32)
    assert search_vectors(index, facts, query, 1)[1].tolist() == [2504]


def test_an_index_in_lists_is_mapped_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "EXACT_BELOW", 100)
    monkeypatch.setattr(vectors, "_TRAIN_PER_LIST", 5)
    source = tmp_path / "commits.jsonl"
    source.write_text("".join(some_commits(300)))
    with CommitIndex.build(source, tmp_path / "index") as index:
        assert index.stats()["vector_index"]["kind"] == "ivf"
        assert index.search("leak in dev7_get_ring")
        source.write_text("".join(some_commits(320)))
        assert index.update() == 20
        assert index.stats()["vectors"] == 320
        assert index.verify() == []
        assert json.loads((tmp_path / "index" / "manifest.json").read_text())["vector_index"]


def test_merging_counts_each_commit_once_and_follows_all_sources(tmp_path: Path) -> None:
    repository, fix = fan_history(tmp_path / "repo", others=4)
    repository.git("checkout", "-q", "-b", "stable", "HEAD~1")
    repository.commit(f"ring: only here\n\n[ Upstream commit {'ab' * 20} ]\n", {"r.c": "int x;\n"})
    repository.git("checkout", "-q", "main")
    parts = {"one": ("HEAD",), "two": ("stable",)}
    for name, revisions in parts.items():
        CommitIndex.build(repository.path, tmp_path / name, revisions=revisions).close()
    folders = [tmp_path / name for name in parts]
    with CommitIndex.merge(folders, tmp_path / "all") as index:
        hashes = [commit.hash for commit in index.commits()]
        assert len(hashes) == len(set(hashes)) == 9
        assert index.search("NULL dereference in fan_curve_lookup", 1)[0].hash == fix
        assert index.verify() == []
        repository.commit("fan: new\n", {"n.c": "int n;\n"})
        assert index.update() == 1
    with open_indexes(folders) as both:
        query = CrashQuery(title="NULL dereference", functions=("fan_curve_lookup", "fan_apply"))
        hits = both.search_crash(query, 20)
        assert len({hit.hash for hit in hits}) == len(hits)
        assert hits[0].hash == fix
        assert "also in two" in hits[0].why
    with pytest.raises(InputError, match="two indexes or more"):
        CommitIndex.merge(folders[:1], tmp_path / "x")
    with pytest.raises(MissingDataError, match="no commit index"):
        CommitIndex.merge([folders[0], tmp_path / "none"], tmp_path / "x")


def test_a_backport_stands_behind_its_original(tmp_path: Path) -> None:
    repository, fix = fan_history(tmp_path / "repo", others=2)
    repository.git("checkout", "-q", "-b", "linux-6.6.y", "HEAD~2")
    repository.git("cherry-pick", "-n", fix)
    subject = repository.git("log", "-1", "--format=%s", fix)
    backport = repository.commit(f"{subject}\n\n[ Upstream commit {fix} ]\n")
    repository.git("checkout", "-q", "main")
    CommitIndex.build(repository.path, tmp_path / "mainline").close()
    CommitIndex.build(repository.path, tmp_path / "stable", revisions=["linux-6.6.y"]).close()
    query = CrashQuery(title="NULL dereference", functions=("fan_curve_lookup", "fan_apply"))
    with open_indexes([tmp_path / "stable", tmp_path / "mainline"]) as both:
        best = both.search_crash(query, 1)[0]
    assert (best.hash, best.index) == (fix, "mainline")
    assert f"also as {backport[:12]} in stable" in best.why
