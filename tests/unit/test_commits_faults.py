"""What a commit index survives: kills, Ctrl-C, full disks, harmed files, two builders at once."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.index_faults import content, kill_while, small_disk, some_commits
from support.repository import GitRepository, fan_history

import kagent.commits.build as build
from kagent.commits import CommitIndex
from kagent.commits.swap import staging
from kagent.errors import InputError, KagentError, OutputError

SMALL, LARGE = 100, 240


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An index of few commits, and what one of all commits holds, built or updated to."""
    folder = tmp_path_factory.mktemp("faults")
    source = folder / "commits.jsonl"
    source.write_text("".join(some_commits(SMALL)))
    with CommitIndex.build(source, folder / "old") as index:
        old = content(index)
    source.write_text("".join(some_commits(LARGE)))
    with CommitIndex.build(source, folder / "new") as index:
        new = content(index)
    return {"source": source, "folder": folder, "old": old, "new": new}


def start(built: dict[str, Any], folder: Path) -> Path:
    """The old index, at a place of its own."""
    return Path(shutil.copytree(built["folder"] / "old", folder / "index"))


def finish(command: str, source: Path, out: Path) -> dict[str, Any]:
    if command == "build":
        CommitIndex.build(source, out).close()
    else:
        with CommitIndex.open(out) as index:
            index.update()
    with CommitIndex.open(out) as index:
        return content(index)


@pytest.mark.parametrize(("command", "after"), [("build", 0.1), ("build", 0.5), ("update", 0.3)])
def test_kill_9_harms_nothing(
    built: dict[str, Any], tmp_path: Path, command: str, after: float
) -> None:
    out = start(built, tmp_path)
    died = kill_while(command, built["source"], out, after)
    with CommitIndex.open(out) as index:
        assert content(index) == (built["old"] if died else built["new"])
    assert finish(command, built["source"], out) == built["new"]
    assert not (tmp_path / ".index.new").exists()


@pytest.mark.parametrize("command", ["build", "update"])
@pytest.mark.parametrize("stop", [2, 5])
def test_ctrl_c_goes_on_where_it_stopped(
    built: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    stop: int,
) -> None:
    out = start(built, tmp_path)
    for name in ("_FRAME_RECORDS", "_SAVE_EVERY", "_EMBED_EVERY"):
        monkeypatch.setattr(build, name, 64)
    told: list[int] = []

    def interrupt(done: int, total: int | None) -> None:
        told.append(done)
        if len(told) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(command, built["source"], out, interrupt)
    first = told[-1]
    with CommitIndex.open(out) as index:
        assert content(index) == built["old"]
    told.clear()
    run(command, built["source"], out, lambda done, total: told.append(done))
    assert told[0] > first or stop == 5  # the fifth is in the stage after
    with CommitIndex.open(out) as index:
        assert content(index) == built["new"]


def run(command: str, source: Path, out: Path, progress: Callable[[int, int | None], None]) -> None:
    if command == "build":
        CommitIndex.build(source, out, progress=progress).close()
    else:
        with CommitIndex.open(out) as index:
            index.update(progress)


def test_commits_made_meanwhile_come_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, _ = fan_history(tmp_path / "repo")
    monkeypatch.setattr(build, "_FRAME_RECORDS", 8)

    def interrupt(done: int, total: int | None) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CommitIndex.build(repository.path, tmp_path / "index", progress=interrupt)
    repository.commit("ring: more\n", {"ring.c": "int x;\n"})
    told: list[int] = []
    with CommitIndex.build(
        repository.path, tmp_path / "index", progress=lambda done, total: told.append(done)
    ) as index:
        assert told[0] > 16
        subjects = [commit.subject for commit in index.commits()]
        assert len(subjects) == len(set(subjects)) == 25
        assert subjects[-1] == "ring: more"
        heads = index.stats()["sources"][0]["heads"]
        assert heads == {"HEAD": repository.git("rev-parse", "HEAD")}
        assert index.verify() == []


def test_history_rewritten_meanwhile_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, _ = fan_history(tmp_path / "repo")
    monkeypatch.setattr(build, "_FRAME_RECORDS", 8)

    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CommitIndex.build(repository.path, tmp_path / "index", progress=interrupt)
    repository.git("reset", "-q", "--hard", "HEAD~3")
    with CommitIndex.build(repository.path, tmp_path / "index") as index:
        assert index.stats()["commits"] == 21


def test_another_job_does_not_go_on_with_what_was_left(
    built: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "_FRAME_RECORDS", 64)
    out = tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        CommitIndex.build(built["source"], out, progress=interrupt)
    repository = GitRepository(tmp_path / "repo")
    repository.commit("one\n", {"a.c": "1\n"})
    with CommitIndex.build(repository.path, out) as index:
        assert [commit.subject for commit in index.commits()] == ["one"]


def test_two_builders_at_once(built: dict[str, Any], tmp_path: Path) -> None:
    out = start(built, tmp_path)
    with staging(out), pytest.raises(InputError, match="another process is building"):
        CommitIndex.build(built["source"], out)


@pytest.mark.parametrize(
    ("command", "left"), [("build", "40k"), ("build", "300k"), ("update", "40k")]
)
def test_a_full_disk(built: dict[str, Any], tmp_path: Path, command: str, left: str) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "64m") as mounted:
        if not mounted:
            pytest.skip("mounting a tmpfs is not allowed here")
        out = start(built, disk)
        used = sum(file.stat().st_size for file in out.iterdir()) // 1024 + 64
        size = f"{used + int(left.removesuffix('k'))}k"
        subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
        with pytest.raises(OutputError, match="no space left") as caught:
            finish(command, built["source"], out)
        assert "run the same command again" in str(caught.value.hint)
        with CommitIndex.open(out) as index:
            assert content(index) == built["old"]
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert finish(command, built["source"], out) == built["new"]


def test_flipped_bits_are_named_or_harmless(built: dict[str, Any], tmp_path: Path) -> None:
    """A search over a harmed file answers or says that it is damaged; `verify` always tells."""
    dice = random.Random(3)
    for number in range(6):
        out = Path(shutil.copytree(built["folder"] / "new", tmp_path / str(number)))
        name = ("commits.sqlite", "vectors.faiss")[number % 2]
        data = bytearray((out / name).read_bytes())
        for _ in range(1 if number < 3 else 40):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        (out / name).write_bytes(data)
        try:
            with CommitIndex.open(out) as index:
                assert index.verify() == [f"{name} does not match the checksum in the manifest"]
                index.search("leak in dev7_get_ring")
        except KagentError as error:
            assert "damaged" in str(error)  # noqa: PT017
        assert finish("build", built["source"], out) == built["new"]
