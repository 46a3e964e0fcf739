"""The index: building, searching, updating, surviving."""

from __future__ import annotations

import gc
import io
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from support.index_faults import some_commits
from support.repository import GitRepository, fan_history

from kagent.commits import CommitIndex, CrashQuery
from kagent.commits.documents import parse_documents
from kagent.commits.manifest import Manifest, file_sum, read_manifest
from kagent.commits.search import NO_STRUCTURE
from kagent.commits.store import VECTORS
from kagent.errors import IndexCorruptError, InputError, MissingDataError

CRASH = CrashQuery(
    title="BUG: unable to handle kernel NULL pointer dereference in fan_curve_lookup",
    functions=(
        "fan_curve_lookup",
        "fan_apply",
        "speed_store",
        "kernfs_fop_write_iter",
        "vfs_write",
        "do_syscall_64",
    ),
    files=("drivers/hwmon/fan.c",),
    release="6.6.0",
)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[GitRepository, str]:
    return fan_history(tmp_path_factory.mktemp("history") / "repo")


@pytest.fixture(scope="module")
def built(history: tuple[GitRepository, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index") / "fan.index"
    CommitIndex.build(history[0].path, out).close()
    return out


@pytest.fixture
def own(built: Path, tmp_path: Path) -> Path:
    """A copy of the index that a test may harm."""
    return Path(shutil.copytree(built, tmp_path / "own.index"))


def test_the_fix_of_a_crash_comes_first(built: Path, history: tuple[GitRepository, str]) -> None:
    with CommitIndex.open(str(built)) as index:
        best, *rest = index.search_crash(CRASH)
    assert best.hash == history[1]
    assert best.subject == "hwmon: fan: fix NULL dereference in fan_curve_lookup()"
    assert "touches fan_curve_lookup, where it crashed" in best.why
    assert "changes drivers/hwmon/fan.c, where it crashed" in best.why
    assert "Fixes: tag" in best.why
    assert best.fixes
    assert best.diff.startswith("diff --git")
    assert best.confidence > 0.5
    assert all(hit.score < best.score for hit in rest)
    assert all(0 <= hit.confidence <= best.confidence for hit in rest)


def test_a_question_in_words(built: Path, history: tuple[GitRepository, str]) -> None:
    with CommitIndex.open(built) as index:
        assert (
            index.search("which commit fixes a NULL dereference of the fan?")[0].hash == history[1]
        )
        assert index.search("crash in fan_curve_lookup")[0].hash == history[1]
        assert index.search("panel level", k=1)[0].subject.startswith("panel: set up unit")


def test_a_pasted_trace_as_a_question(built: Path, history: tuple[GitRepository, str]) -> None:
    trace = "Oops: 0000 [#1]\nRIP: 0010:fan_curve_lookup+0x12/0x60\n fan_apply+0x20/0x50\n"
    with CommitIndex.open(built) as index:
        best = index.search(f"{trace} vfs_write+0x1/0x2\n do_syscall_64+0x3/0x4\n")[0]
    assert best.hash == history[1]
    assert "touches fan_curve_lookup, where it crashed" in best.why


def test_struct_members_count(built: Path, history: tuple[GitRepository, str]) -> None:
    with CommitIndex.open(built) as index:
        hits = index.search_crash(CrashQuery(identifiers=("fan_curve.points",)))
    assert any("changed lines mention" in reason for hit in hits for reason in hit.why)


def test_wrappers_and_clones_are_the_same_function(
    built: Path, history: tuple[GitRepository, str]
) -> None:
    query = CrashQuery(functions=("fan_curve_lookup.isra.0.cold", "fan_apply.constprop.0"))
    with CommitIndex.open(built) as index:
        assert index.search_crash(query)[0].hash == history[1]


@pytest.mark.parametrize(
    "question",
    [
        "how to bake sourdough bread",
        "xyzzy plugh",
        "level",
        "btrfs_lookup_inode hung task in btrfs",
    ],
)
def test_an_unrelated_question_gets_low_confidence(built: Path, question: str) -> None:
    with CommitIndex.open(built) as index:
        assert all(hit.confidence <= NO_STRUCTURE for hit in index.search(question))


def test_an_unrelated_crash_gets_low_confidence(built: Path) -> None:
    query = CrashQuery(
        title="KASAN: slab-use-after-free Read in ext4_es_insert_extent",
        functions=("ext4_es_insert_extent", "ext4_map_blocks", "vfs_write"),
        files=("fs/ext4/extents_status.c",),
        release="6.6.0",
    )
    with CommitIndex.open(built) as index:
        assert all(hit.confidence <= NO_STRUCTURE for hit in index.search_crash(query))


@pytest.mark.parametrize(
    "query", [CrashQuery(), CrashQuery(functions=("do_syscall_64",)), CrashQuery(title=" \n")]
)
def test_an_empty_query_finds_nothing(built: Path, query: CrashQuery) -> None:
    with CommitIndex.open(built) as index:
        assert index.search_crash(query) == []


@pytest.mark.parametrize(
    "question", ['"', "NEAR(", "a AND OR", "subject:", "*", "\0", "\ud800", "x" * 100_000]
)
def test_hostile_questions(built: Path, question: str) -> None:
    with CommitIndex.open(built) as index:
        assert isinstance(index.search(question), list)


def test_two_builds_answer_alike(
    history: tuple[GitRepository, str], built: Path, tmp_path: Path
) -> None:
    with (
        CommitIndex.build(history[0].path, tmp_path / "again") as again,
        CommitIndex.open(built) as first,
    ):
        for question in ("fan speed", "NULL dereference", "ring level"):
            assert again.search(question, 10) == first.search(question, 10)
        assert again.search_crash(CRASH, 10) == first.search_crash(CRASH, 10)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_histories(tmp_path: Path, count: int) -> None:
    repository = GitRepository(tmp_path / "repo")
    for number in range(count):
        repository.commit(f"fan: fix leak number {number} in fan_{number}_probe()\n")
    with CommitIndex.build(repository.path, tmp_path / "index") as index:
        hits = index.search("leak in fan_0_probe")
        assert hits[0].subject == "fan: fix leak number 0 in fan_0_probe()"
        assert index.verify() == []


def test_of_commits_with_one_subject_the_best_stands_for_all(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "repo")
    for number in range(3):
        repository.commit("fan: fix fan_probe()\n\nOnce more.\n", {"a.c": f"{number}\n"})
    with CommitIndex.build(repository.path, tmp_path / "index") as index:
        (hit,) = index.search("fan_probe")
        assert sum(reason.startswith("also as ") for reason in hit.why) == 2


def test_markdown_has_every_commit(
    built: Path, history: tuple[GitRepository, str], tmp_path: Path
) -> None:
    buffer = io.StringIO()
    with CommitIndex.open(built) as index:
        index.export_markdown(buffer)
        index.export_markdown(tmp_path / "commits.md")
        documents = list(parse_documents(buffer.getvalue()))
        assert len(documents) == index.stats()["commits"] == 24
        fix = next(d for d in documents if d.hash == history[1])
        commit = index.get(history[1][:12])
    assert commit is not None
    assert (fix.message, fix.diff) == (commit.message, commit.diff)
    assert (tmp_path / "commits.md").read_text() == buffer.getvalue()


def test_statistics(built: Path, history: tuple[GitRepository, str]) -> None:
    with CommitIndex.open(built) as index:
        facts = index.stats()
    assert facts["sources"][0]["heads"] == {"HEAD": history[0].git("rev-parse", "HEAD")}
    assert facts["vector_index"]["kind"] == "exact"
    assert facts["embedding"] == "corpus"
    assert facts["oldest"] < facts["newest"]
    assert set(facts["bytes"]) == {"commits.sqlite", "vectors.faiss", "embedding.npz"}
    json.dumps(facts)


def test_progress_counts_both_stages(history: tuple[GitRepository, str], tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "repo")
    for number in range(70):
        repository.commit(f"c{number}\n")
    told: list[tuple[int, int | None]] = []
    CommitIndex.build(
        repository.path, tmp_path / "index", progress=lambda done, total: told.append((done, total))
    ).close()
    assert told == [(70, 70), (70, 70)]


# Keeping it up to date.


def test_update_adds_exactly_the_new_commits(tmp_path: Path) -> None:
    repository, fix = fan_history(tmp_path / "repo")
    out = tmp_path / "index"
    with CommitIndex.build(repository.path, out) as index:
        assert index.update() == 0
        new = repository.commit(
            "hwmon: fan: fix race in fan_apply()\n",
            {"drivers/hwmon/fan.c": "int fan_apply(int x)\n{\n}\n"},
        )
        repository.commit("ring: tune\n", {"drivers/ring/unit0.c": "int ring_x(void)\n{\n}\n"})
        assert index.update() == 2
        assert index.notes == ()
        assert index.stats()["commits"] == 26
        assert index.search("race in fan_apply")[0].hash == new
        assert {fix, new} <= {hit.hash for hit in index.search("fan_apply", 10)}
        assert index.verify() == []
    with CommitIndex.open(out) as index:
        heads = index.stats()["sources"][0]["heads"]
        assert heads == {"HEAD": repository.git("rev-parse", "HEAD")}
        assert index.update() == 0


def test_an_updated_index_knows_functions_of_both_times(tmp_path: Path) -> None:
    repository, _ = fan_history(tmp_path / "repo")
    with CommitIndex.build(repository.path, tmp_path / "index") as index:
        before = {hit.hash for hit in index.search("fan_curve_lookup", 50)}
        new = repository.commit("fan: rework fan_curve_lookup() for speed\n")
        index.update()
        after = {hit.hash for hit in index.search("fan_curve_lookup", 50)}
    assert after == before | {new}


def test_a_doubled_index_learns_its_embedding_anew(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "repo")
    repository.commit("fan: one\n")
    with CommitIndex.build(repository.path, tmp_path / "index") as index:
        for number in range(4):
            repository.commit(f"ring: number {number}\n")
        assert index.update() == 4
        assert index.stats()["learnt_from"] == 5
        assert any("anew" in note for note in index.notes)
        assert index.verify() == []


def test_rewritten_history_rebuilds_and_says_so(tmp_path: Path) -> None:
    repository, _ = fan_history(tmp_path / "repo")
    with CommitIndex.build(repository.path, tmp_path / "index") as index:
        gone = repository.git("rev-parse", "HEAD")
        repository.git("reset", "-q", "--hard", "HEAD~2")
        new = repository.commit("fan: another way\n", {"x.c": "1\n"})
        assert index.update() == 1
        assert "rewritten" in index.notes[0]
        assert index.get(gone) is None
        assert index.get(new) is not None
        assert index.stats()["commits"] == 23


def test_a_repository_that_moved_away(own: Path, tmp_path: Path) -> None:
    manifest = read_manifest(own).model_dump()
    manifest["sources"][0]["location"] = str(tmp_path / "moved")
    Manifest.model_validate(manifest).write(own)
    with CommitIndex.open(own) as index, pytest.raises(MissingDataError, match="no such directory"):
        index.update()


def test_a_file_that_grew_is_read_again(tmp_path: Path) -> None:
    row = {"hash": "a" * 12, "subject": "x: y", "author": "A", "date": "2024-01-01", "message": ""}
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with CommitIndex.build(path, tmp_path / "index") as index:
        assert index.update() == 0
        more = row | {"hash": "b" * 12, "subject": "x: z"}
        path.write_text(f"{json.dumps(row)}\n\n{json.dumps(more)}\n")
        assert index.update() == 1
        assert [commit.subject for commit in index.commits()] == ["x: y", "x: z"]
        assert index.verify() == []


# What can go wrong.


def test_a_failed_build_leaves_the_old_index(own: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    with pytest.raises(InputError):
        CommitIndex.build(bad, own)
    with CommitIndex.open(own) as index:
        assert index.verify() == []
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_kill_9_during_a_build_leaves_the_old_index(own: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from kagent.commits import CommitIndex\n"
        "CommitIndex.build(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    repository = GitRepository(tmp_path / "slow")
    for number in range(12):
        repository.commit(f"c{number}\n", {"big.c": f"int x{number};\n" * 150_000})
    process = subprocess.Popen([sys.executable, "-c", script, str(repository.path), str(own)])
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / ".own.index.new" / "scratch.sqlite").exists():
            assert process.poll() is None, "the build ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / ".own.index.new").exists(), (
        "nothing was left behind: the kill came too late to prove anything"
    )
    with CommitIndex.open(own) as index:
        assert index.verify() == []
        assert index.stats()["commits"] == 24
    CommitIndex.build(repository.path, own).close()
    assert not (tmp_path / ".own.index.new").exists()


def test_readers_keep_working_while_the_index_is_replaced(
    own: Path, history: tuple[GitRepository, str]
) -> None:
    stop = threading.Event()
    problems: list[BaseException] = []

    def reopen() -> None:
        while not stop.is_set():
            try:
                with CommitIndex.open(own) as index:
                    assert index.search_crash(CRASH)[0].hash == history[1]
            except BaseException as error:  # noqa: BLE001
                problems.append(error)
                return

    with CommitIndex.open(own) as old:
        reader = threading.Thread(target=reopen)
        reader.start()
        for _ in range(3):
            CommitIndex.build(history[0].path, own).close()
        stop.set()
        reader.join()
        assert problems == []
        assert old.search_crash(CRASH)[0].hash == history[1]


@pytest.mark.parametrize("name", ["commits.sqlite", "vectors.faiss", "embedding.npz"])
def test_a_flipped_bit_is_found(own: Path, name: str) -> None:
    path = own / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    if name == "embedding.npz":
        with pytest.raises(IndexCorruptError, match=name):
            CommitIndex.open(own)
        return
    with CommitIndex.open(own) as index:
        assert index.verify() == [f"{name} does not match the checksum in the manifest"]


@pytest.mark.parametrize("name", ["commits.sqlite", "vectors.faiss", "embedding.npz"])
@pytest.mark.parametrize("harm", ["delete", "empty", "cut"])
def test_harmed_files_are_refused(own: Path, name: str, harm: str) -> None:
    path = own / name
    if harm == "delete":
        path.unlink()
    else:
        path.write_bytes(b"" if harm == "empty" else path.read_bytes()[:-7])
    with pytest.raises(IndexCorruptError, match="damaged") as caught:
        CommitIndex.open(own)
    assert caught.value.hint


def test_vectors_of_another_length_than_the_embedding_s(own: Path) -> None:
    """As when files of two indexes were mixed and the manifest was written to match."""
    manifest = read_manifest(own)
    rows = np.ones((manifest.vectors, manifest.dimension + 8), dtype=np.float32)
    vectors = faiss.IndexScalarQuantizer(
        rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    vectors.add(rows)
    faiss.write_index(vectors, str(own / VECTORS))
    manifest.files[VECTORS] = file_sum(own / VECTORS)
    manifest.model_copy(update={"dimension": rows.shape[1]}).write(own)
    said = f"its vectors have {rows.shape[1]} numbers, those of its embedding corpus have"
    with CommitIndex.open(own) as index:
        assert [said in problem for problem in index.verify()] == [True]
        with pytest.raises(IndexCorruptError, match=said) as caught:
            index.search_crash(CRASH)
        assert "\n" not in str(caught.value)
        assert caught.value.hint


def test_new_vectors_of_another_length_do_not_join_the_old(tmp_path: Path) -> None:
    source = tmp_path / "more.jsonl"
    source.write_text("".join(some_commits(20)))
    embedding = DeterministicFakeEmbedding(size=16)
    out = tmp_path / "fake"
    CommitIndex.build(source, out, embedding=embedding).close()
    source.write_text("".join(some_commits(25)))
    with CommitIndex.open(out, embedding=DeterministicFakeEmbedding(size=24)) as index:
        with pytest.raises(IndexCorruptError, match=r"vectors have 16 numbers.* have 24"):
            index.update()
        assert index.stats()["commits"] == 20


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("{", IndexCorruptError, "damaged"),
        ("[]", InputError, "not a commit index"),
        ('{"kind": "other"}', InputError, "not a commit index"),
        ('{"kind": "kagent-commit-index", "schema_version": 99}', IndexCorruptError, "schema 99"),
        ('{"kind": "kagent-commit-index", "schema_version": 3}', IndexCorruptError, "an older"),
        ('{"kind": "kagent-commit-index", "schema_version": 4}', IndexCorruptError, "damaged"),
    ],
)
def test_manifests_that_are_not_ours(
    own: Path, content: str, error: type[Exception], words: str
) -> None:
    (own / "manifest.json").write_text(content)
    with pytest.raises(error, match=words):
        CommitIndex.open(own)


def test_each_flipped_bit_of_a_manifest_is_named(own: Path) -> None:
    path = own / "manifest.json"
    sound = path.read_bytes()
    for at in range(len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << at % 8]) + sound[at + 1 :])
        with pytest.raises(IndexCorruptError, match=r"manifest\.json is damaged"):
            read_manifest(own)


def test_a_manifest_cannot_lead_outside(own: Path, tmp_path: Path) -> None:
    manifest = read_manifest(own).model_dump()
    manifest["files"]["../../secret"] = {"size": 1, "sha256": "x"}
    Manifest.model_validate(manifest).write(own)
    (tmp_path / "secret").write_text("s")
    with pytest.raises(IndexCorruptError, match="secret is missing"):
        CommitIndex.open(own)


def test_paths_that_are_no_index(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no commit index"):
        CommitIndex.open(tmp_path / "nothing")
    with pytest.raises(InputError, match="not a commit index"):
        CommitIndex.open(tmp_path)


def test_a_build_never_replaces_other_directories(
    history: tuple[GitRepository, str], tmp_path: Path
) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        CommitIndex.build(history[0].path, tmp_path)
    with pytest.raises(InputError, match="not a directory"):
        CommitIndex.build(history[0].path, tmp_path / "precious.txt")
    assert (tmp_path / "precious.txt").read_text() == "x"


def test_no_commits_to_index(history: tuple[GitRepository, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no commits"):
        CommitIndex.build(history[0].path, tmp_path / "index", since="HEAD")
    assert not (tmp_path / "index").exists()


def test_unknown_embeddings(history: tuple[GitRepository, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown embedding"):
        CommitIndex.build(history[0].path, tmp_path / "index", embedding="word2vec")


def test_searching_from_many_threads(built: Path, history: tuple[GitRepository, str]) -> None:
    found: list[str] = []
    with CommitIndex.open(built) as index:
        threads = [
            threading.Thread(target=lambda: found.append(index.search_crash(CRASH)[0].hash))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [history[1]] * 8


# Other people's interfaces.


def test_as_a_langchain_retriever(built: Path, history: tuple[GitRepository, str]) -> None:
    with CommitIndex.open(built) as index:
        documents = index.as_retriever(k=2).invoke("NULL dereference in fan_curve_lookup")
    assert len(documents) == 2
    assert documents[0].metadata["hash"] == history[1]
    assert documents[0].page_content.startswith("## Commit 1\n### Metadata\n")


def test_as_a_langchain_vector_store(built: Path, history: tuple[GitRepository, str]) -> None:
    pytest.importorskip("langchain_community")
    with CommitIndex.open(built) as index:
        store = index.as_vectorstore()
    documents = store.similarity_search("fix NULL dereference in fan_curve_lookup", k=3)
    assert history[1] in {document.metadata["hash"] for document in documents}


def test_any_langchain_embedding_will_do(
    history: tuple[GitRepository, str], tmp_path: Path
) -> None:
    embedding = DeterministicFakeEmbedding(size=24)
    out = tmp_path / "index"
    with CommitIndex.build(history[0].path, out, embedding=embedding) as index:
        assert index.stats()["embedding"] == "object:DeterministicFakeEmbedding"
        assert index.search_crash(CRASH)[0].hash == history[1]
    with pytest.raises(InputError, match="embedding object"):
        CommitIndex.open(out)
    with CommitIndex.open(out, embedding=embedding) as index:
        assert index.search_crash(CRASH)[0].hash == history[1]


def test_an_index_that_is_dropped_lets_go_of_its_files(tmp_path: Path) -> None:
    repository, _ = fan_history(tmp_path / "repo")
    CommitIndex.build(repository.path, tmp_path / "index")
    gc.collect()
    held = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    assert not [name for name in held if name.startswith(str(tmp_path))]
