"""Where a fix has landed, by the tags and branches of a repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.repository import GitRepository

from kagent.commits.landed import CommitStatus, fix_status
from kagent.errors import InputError, MissingDataError


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> tuple[GitRepository, str, str, str]:
    """Mainline v6.9 -- fix -- v6.10-rc1 -- v6.10 -- later, and v6.9.1 -- backport -- v6.9.2."""
    repository = GitRepository(tmp_path_factory.mktemp("tags") / "repo")
    repository.commit("start\n")
    repository.git("tag", "v6.9")
    trunk = repository.git("rev-parse", "--abbrev-ref", "HEAD").strip()
    fix = repository.commit("fan: fix it\n")
    for tag in ("v6.10-rc1", "v6.10", "vanity", "v6.10-local"):
        repository.commit(f"for {tag}\n")
        repository.git("tag", tag)
    later = repository.commit("later\n")
    repository.git("checkout", "-q", "-b", "stable", "v6.9")
    repository.commit("Linux 6.9.1\n")
    repository.git("tag", "v6.9.1")
    backport = repository.commit(f"fan: fix it\n\ncommit {fix} upstream.\n")
    repository.git("tag", "v6.9.2")
    repository.git("checkout", "-q", trunk)
    return repository, fix, later, backport


Tagged = tuple[GitRepository, str, str, str]


@pytest.mark.parametrize(
    ("revision", "inside"),
    [
        ("v6.9", False),
        ("v6.10-rc1", True),
        ("v6.10", True),
        ("v6.9.1", False),
        ("v6.9.2", True),
        (None, None),
    ],
)
def test_a_fix_in_the_users_kernel(tagged: Tagged, revision: str | None, inside: bool) -> None:
    repository, fix, _, _ = tagged
    status = fix_status(repository.path, fix[:12], revision)
    assert (status.hash, status.first_tag) == (fix, "v6.10-rc1")
    assert status.in_revision is inside


def test_a_backport_is_named(tagged: Tagged) -> None:
    repository, fix, _, backport = tagged
    assert fix_status(repository.path, fix, "v6.9.2").backport == backport


def test_a_fix_in_no_tag(tagged: Tagged) -> None:
    repository, _, later, _ = tagged
    assert fix_status(repository.path, later, "v6.10") == CommitStatus(later, in_revision=False)


def test_an_unknown_commit(tagged: Tagged) -> None:
    assert fix_status(tagged[0].path, "f" * 40, "v6.10") == CommitStatus(hash="f" * 40)


@pytest.mark.parametrize("hash", ["", "HEAD", "--all", "abc", "v6.10"])
def test_what_is_no_hash(tagged: Tagged, hash: str) -> None:
    with pytest.raises(InputError, match="not a commit hash"):
        fix_status(tagged[0].path, hash)


@pytest.mark.parametrize("revision", ["--all", "", "v6.9 --all", "nonexistent"])
def test_what_is_no_revision(tagged: Tagged, revision: str) -> None:
    with pytest.raises(InputError):
        fix_status(tagged[0].path, tagged[1], revision)


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError):
        fix_status(tmp_path / "none", "a" * 12)
