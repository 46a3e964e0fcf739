"""Reading git repositories and files of changes."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.repository import GitRepository

from kagent.commits import CommitIndex
from kagent.commits.history import MAX_DIFF, GitHistory
from kagent.commits.model import Commit
from kagent.errors import InputError, MissingDataError


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "repo")


def read(path: Path, **options: object) -> list[Commit]:
    history = GitHistory(path, **options)  # type: ignore[arg-type]
    commits = list(history.commits(history.head()))
    assert len(commits) == history.count(history.head())
    return commits


def test_a_commit_is_read_whole(repository: GitRepository) -> None:
    repository.commit("start\n", {"a.c": "int f(void)\n{\n\treturn 1;\n}\n"})
    hash = repository.commit(
        'a: return 2\n\nBecause.\n\nFixes: 0123456789ab ("start")\n',
        {"a.c": "int f(void)\n{\n\treturn grow(2);\n}\n"},
    )
    commit = read(repository.path)[0]
    assert commit.hash == hash
    assert commit.subject == "a: return 2"
    assert commit.author == "Ada Example <ada@example.org>"
    assert commit.date == "2023-11-16T23:13:20+01:00"
    assert commit.message == 'Because.\n\nFixes: 0123456789ab ("start")'
    assert commit.files == ("a.c",)
    assert commit.functions == ("f",)
    assert commit.identifiers == ("grow",)
    assert commit.fixes == ("0123456789ab",)
    assert commit.diff.startswith("diff --git a/a.c b/a.c\n")
    assert commit.diff.endswith("+\treturn grow(2);\n }")


def test_merges_are_left_out_and_empty_commits_kept(repository: GitRepository) -> None:
    repository.commit("one\n", {"a": "1\n"})
    repository.git("switch", "-q", "-c", "side")
    repository.commit("two\n", {"b": "2\n"})
    repository.git("switch", "-q", "main")
    repository.commit("three\n", {"c": "3\n"})
    repository.git("merge", "-q", "--no-ff", "-m", "merge side", "side")
    repository.commit("nothing\n")
    commits = read(repository.path)
    assert {c.subject for c in commits} == {"one", "two", "three", "nothing"}
    assert next(c for c in commits if c.subject == "nothing").diff == ""


def test_a_rename_touches_both_names(repository: GitRepository) -> None:
    repository.commit("one\n", {"old.c": "int f(void)\n{\n\treturn 0;\n}\n"})
    repository.git("mv", "old.c", "new.c")
    repository.commit("move\n")
    assert read(repository.path)[0].files == ("new.c", "old.c")


def test_bytes_that_are_not_utf8(repository: GitRepository) -> None:
    repository.commit("cafe: fix\n", {"a.c": b"/* \xff\xfe */\n"})
    # `git commit` would mend the message; other tools write what they are given.
    raw = repository.git("cat-file", "commit", "HEAD").replace("cafe", "caf\xe9")
    broken = raw.encode("latin-1") + b"\n"
    hash = repository.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=broken)
    repository.git("reset", "-q", "--hard", hash)
    (commit,) = read(repository.path)
    assert commit.subject == "caf\ufffd: fix"
    assert "\ufffd\ufffd" in commit.diff


def test_a_recorded_encoding_is_honoured(repository: GitRepository) -> None:
    repository.git("config", "i18n.commitEncoding", "ISO-8859-1")
    repository.commit("M\xfcller\n".encode("latin-1"), {"a": "1\n"})
    assert read(repository.path)[0].subject == "M\xfcller"


def test_messages_that_look_like_something_else(repository: GitRepository) -> None:
    texts = [
        "dividers\n\n---\n## Commit 1\n---\n",
        "a diff\n\ndiff --git a/x.c b/x.c\n@@ -1 +1 @@ int evil(void)\n+x\n",
        "\n\n\nleading lines\n",
        "\n",
    ]
    for number, text in enumerate(texts):
        repository.commit(text, {"a": f"{number}\n"}) if text.strip() else repository.git(
            "commit", "-q", "--allow-empty", "--allow-empty-message", "-m", ""
        )
    commits = read(repository.path)[::-1]
    assert [c.subject for c in commits] == ["dividers", "a diff", "leading lines", ""]
    assert commits[0].message == "---\n## Commit 1\n---"
    assert all(c.files in (("a",), ()) for c in commits)
    assert all("evil" not in c.functions for c in commits)


def test_a_huge_patch_is_cut_and_marked(repository: GitRepository) -> None:
    repository.commit("small\n", {"a": "1\n"})
    repository.commit("huge\n", {"big.c": "int x;\n" * 1_000_000})
    repository.commit("after\n", {"a": "2\n"})
    after, huge, small = read(repository.path)
    assert huge.truncated
    assert not after.truncated
    assert not small.truncated
    assert 0 < len(huge.diff) <= MAX_DIFF
    assert huge.files == ("big.c",)
    assert after.files == ("a",)


def test_since_and_paths(repository: GitRepository) -> None:
    repository.commit("one\n", {"net/a.c": "1\n"})
    repository.git("tag", "v1")
    repository.commit("two\n", {"net/a.c": "2\n"})
    repository.commit("three\n", {"fs/b.c": "3\n"})
    assert [c.subject for c in read(repository.path, since="v1")] == ["three", "two"]
    assert [c.subject for c in read(repository.path, since="v1", paths=["net"])] == ["two"]


@pytest.mark.parametrize("revision", ["v9", "--output=/tmp/x", "-p", "HEAD..HEAD", ""])
def test_an_unknown_revision_is_refused(repository: GitRepository, revision: str) -> None:
    repository.commit("one\n", {"a": "1\n"})
    with pytest.raises(InputError, match="no such revision"):
        GitHistory(repository.path, since=revision)


def test_bare_and_shallow_repositories(repository: GitRepository, tmp_path: Path) -> None:
    for number in range(4):
        repository.commit(f"c{number}\n", {"a": f"{number}\n"})
    repository.git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    repository.git(
        "clone", "-q", "--depth=2", f"file://{repository.path}", str(tmp_path / "shallow")
    )
    assert len(read(tmp_path / "bare.git")) == 4
    (tmp_path / "bare.git" / "config").unlink()
    assert len(read(tmp_path / "bare.git")) == 4
    assert [c.subject for c in read(tmp_path / "shallow")] == ["c3", "c2"]


def test_a_partial_clone_says_so_and_fetches_nothing(
    repository: GitRepository, tmp_path: Path
) -> None:
    for number in range(3):
        repository.commit(f"c{number}\n", {"a": f"{number}\n"})
    repository.git("config", "uploadpack.allowFilter", "true")
    for name, what in (("blobs", "blob:none"), ("trees", "tree:0")):
        clone = tmp_path / name
        repository.git("clone", "-q", "--no-checkout", f"--filter={what}",
                       f"file://{repository.path}", str(clone))  # fmt: skip
        before = sorted(p.name for p in (clone / ".git" / "objects" / "pack").iterdir())
        with pytest.raises(MissingDataError, match="partial clone") as caught:
            read(clone)
        assert "--refetch" in str(caught.value.hint)
        assert sorted(p.name for p in (clone / ".git" / "objects" / "pack").iterdir()) == before


def test_a_worktree_and_branches_of_remotes(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit("one\n", {"a": "1\n"})
    for name in ("stable", "vendor"):
        repository.git("clone", "-q", ".", str(tmp_path / name))
        other = GitRepository.__new__(GitRepository)
        other.path, other.day = tmp_path / name, 5
        other.commit(f"{name} only\n", {name: "1\n"})
        repository.git("remote", "add", name, str(tmp_path / name))
    repository.git("fetch", "-q", "--all")
    repository.git("worktree", "add", "-q", str(tmp_path / "tree"), "stable/main")
    assert [c.subject for c in read(tmp_path / "tree")] == ["stable only", "one"]
    history = GitHistory(repository.path, revisions=["stable/main", "vendor/main"], since="HEAD")
    subjects = {c.subject for c in history.commits(list(history.heads().values()))}
    assert subjects == {"stable only", "vendor only"}
    out = tmp_path / "index"
    with CommitIndex.build(repository.path, out, revisions=["vendor/main"]) as index:
        assert index.stats()["commits"] == 2
        assert set(index.stats()["sources"][0]["heads"]) == {"vendor/main"}


def test_a_message_too_long_to_keep(repository: GitRepository) -> None:
    repository.commit("long\n\n" + "word " * 200_000 + "\n", {"a.c": "int x;\n"})
    repository.commit("next\n", {"a.c": "int y;\n"})
    after, long = read(repository.path)
    assert (after.subject, after.truncated, long.subject, long.truncated) == (
        "next",
        False,
        "long",
        True,
    )


def test_the_repositorys_configuration_runs_nothing(
    repository: GitRepository, tmp_path: Path
) -> None:
    trap = f"touch {tmp_path}/trapped; cat"
    repository.commit("one\n", {"a.c": "1\n", ".gitattributes": "*.c diff=evil\n"})
    repository.commit("two\n", {"a.c": "2\n"})
    for key in ("diff.external", "diff.evil.command", "diff.evil.textconv", "core.pager"):
        repository.git("config", key, trap)
    repository.git("config", "log.showSignature", "true")
    repository.git("config", "diff.noprefix", "true")
    repository.git("config", "color.ui", "always")
    commit = read(repository.path)[0]
    assert not (tmp_path / "trapped").exists()
    assert commit.diff.startswith("diff --git a/a.c b/a.c\n")


def test_one_process_reads_it_all(
    repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        repository.commit(f"c{number}\n", {"a": f"{number}\n"})
    history = GitHistory(repository.path)
    head = history.head()
    started: list[object] = []
    popen = subprocess.Popen

    def counted(command: object, **options: Any) -> object:
        started.append(command)
        return popen(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", counted)
    assert len(list(history.commits(head))) == 30
    assert len(started) == 1


def test_stopping_early_ends_the_process(repository: GitRepository) -> None:
    for number in range(5):
        repository.commit(f"c{number}\n", {"a": f"{number}\n" * 100_000})
    history = GitHistory(repository.path)
    commits = history.commits(history.head())
    assert next(commits).subject == "c4"
    commits.close()  # type: ignore[attr-defined]


def test_what_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such directory"):
        GitHistory(tmp_path / "nothing")
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match="not a git repository"):
        GitHistory(tmp_path / "plain")


def test_an_empty_repository(repository: GitRepository) -> None:
    with pytest.raises(InputError, match="no commits yet"):
        GitHistory(repository.path).head()


ROW = {
    "id": "abc",
    "hash": "0123456789ab",
    "subject": "fan: fix",
    "author": "Ada",
    "date": "2024-01-01T00:00:00Z",
    "message": "Fixes: 111122223333 (x)",
    "files": ["a.c"],
    "functions": ["f"],
    "called": ["g"],
}


def test_a_file_of_changes(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl.gz"
    posted = ROW | {"hash": None, "id": "p1"}
    with gzip.open(path, "wt") as file:
        file.write("\n".join(json.dumps(row) for row in (ROW, ROW, posted)) + "\n\n")
    with CommitIndex.build(path, tmp_path / "index") as index:
        commits = list(index.commits())
    assert [c.hash for c in commits] == ["0123456789ab", "p1"]
    assert commits[0].fixes == ("111122223333",)
    assert commits[0].identifiers == ("g",)


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"hash": "x"}', '{"subject": 1}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "changes.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + line + "\n")
    with pytest.raises(InputError, match="line 2"):
        CommitIndex.build(path, tmp_path / "index")


def test_a_cut_gzip_file(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl.gz"
    data = gzip.compress((json.dumps(ROW) + "\n").encode() * 50)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cannot read"):
        CommitIndex.build(path, tmp_path / "index")
