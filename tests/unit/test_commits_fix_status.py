"""Where a fix has landed, by the tags of a repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.repository import GitRepository

from kagent.commits.fix_status import CommitStatus, fix_status, release_tags
from kagent.errors import InputError, MissingDataError


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> tuple[GitRepository, str, str]:
    """v6.9 -- fix -- v6.10-rc1 -- v6.10 -- v6.10.1 -- untagged."""
    repository = GitRepository(tmp_path_factory.mktemp("tags") / "repo")
    repository.commit("start\n")
    repository.git("tag", "v6.9")
    fix = repository.commit("fan: fix it\n")
    for tag in ("v6.10-rc1", "v6.10", "v6.10.1", "vanity", "v6.10-local"):
        repository.commit(f"for {tag}\n")
        repository.git("tag", tag)
    return repository, fix, repository.commit("later\n")


def test_a_landed_fix(tagged: tuple[GitRepository, str, str]) -> None:
    repository, fix, _ = tagged
    assert fix_status(repository.path, fix[:12], "6.10.1") == CommitStatus(
        hash=fix, first_tag="v6.10-rc1", release_tag="v6.10.1", in_release=True
    )


@pytest.mark.parametrize(
    ("release", "tag", "inside"),
    [
        ("6.9.0", "v6.9", False),
        ("6.10.0-rc1-00012-gabc", "v6.10-rc1", True),
        ("6.10.0-18-amd64", "v6.10", True),
        ("6.10.99", None, None),
        ("custom", None, None),
        (None, None, None),
    ],
)
def test_releases(
    tagged: tuple[GitRepository, str, str],
    release: str | None,
    tag: str | None,
    inside: bool | None,
) -> None:
    repository, fix, _ = tagged
    status = fix_status(repository.path, fix, release)
    assert (status.release_tag, status.in_release) == (tag, inside)


def test_a_fix_in_no_tag(tagged: tuple[GitRepository, str, str]) -> None:
    repository, _, later = tagged
    assert fix_status(repository.path, later, "6.10.1") == CommitStatus(
        hash=later, first_tag=None, release_tag="v6.10.1", in_release=False
    )


def test_an_unknown_commit(tagged: tuple[GitRepository, str, str]) -> None:
    assert fix_status(tagged[0].path, "f" * 40, "6.10") == CommitStatus(hash="f" * 40)


@pytest.mark.parametrize("hash", ["", "HEAD", "--all", "abc", "v6.10"])
def test_what_is_no_hash(tagged: tuple[GitRepository, str, str], hash: str) -> None:
    with pytest.raises(InputError, match="not a commit hash"):
        fix_status(tagged[0].path, hash, None)


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError):
        fix_status(tmp_path / "none", "a" * 12, None)


def test_tags_of_releases() -> None:
    assert release_tags("6.14.0-rc3-00012-gdeadbeef") == ["v6.14-rc3"]
    assert release_tags("6.14.0+") == ["v6.14"]
    assert release_tags("6.1.57-generic") == ["v6.1.57"]
    assert release_tags("x") == []
