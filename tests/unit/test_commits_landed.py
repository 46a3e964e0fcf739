"""Where a fix has landed, by the tags and branches of a repository."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from support.repository import GitRepository

from kagent.commits.fix_report import fix_report
from kagent.commits.landed import Landing, OnBranch, fix_status
from kagent.errors import InputError, MissingDataError

_FAN = "".join(f"line {number}\n" for number in range(30))
_BROKEN = _FAN.replace("line 15\n", "line 15\nbug\n")
_FIXED = _FAN.replace("line 15\n", "line 15\nfixed\n")
_FIX = "fan: check the curve before use"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Mainline v6.8 -- bug -- v6.9 -- fix -- v6.10-rc1 -- v6.10 -- repair, and stable branches.

    ``linux-6.9.y`` has the backport; ``linux-6.8.y`` forked before the bug; of the branches below,
    each is a way in which a fix comes and goes.
    """
    repo = GitRepository(tmp_path_factory.mktemp("kernel") / "linux")

    def tag(name: str) -> None:
        repo.commit(f"Linux {name[1:]}\n")
        repo.git("tag", name)

    def branch(name: str, start: str) -> None:
        repo.git("checkout", "-q", "-b", name, start)

    repo.commit("start\n", {"fan.c": _FAN})
    tag("v6.8")
    bug = repo.commit("fan: follow a curve\n", {"fan.c": _BROKEN})
    tag("v6.9")
    fix = repo.commit(
        f'{_FIX}\n\nAn unset curve made this oops.\n\nFixes: {bug[:12]} ("fan: follow a curve")\n'
        "Reviewed-by: Grace Example <grace@example.org>\n",
        {"fan.c": _FIXED},
    )
    tag("v6.10-rc1")
    tag("v6.10")
    repo.git("tag", "vanity")
    repair = repo.commit(f'fan: check it once\n\nFixes: {fix[:12]} ("{_FIX}")\n')

    branch("linux-6.9.y", "v6.9")
    tag("v6.9.1")
    message = f"{_FIX}\n\ncommit {fix} upstream.\n"
    backport = repo.commit(message, {"fan.c": _FIXED})
    tag("v6.9.2")
    branch("bracketed", "v6.9.1")
    repo.commit(f"{_FIX}\n\n[ Upstream commit {fix} ]\n", {"fan.c": _FIXED})
    branch("picked", "v6.9.1")
    repo.commit(f"vendor: fan\n\n(cherry picked from commit {fix})\n", {"fan.c": _FIXED})
    branch("same-subject", "v6.9.1")
    repo.commit(f"{_FIX}\n", {"fan.c": _FIXED, "more.c": ""})
    branch("same-patch", "v6.9.1")
    repo.commit("vendor: sign it\n", {"fan.c": "// vendor\n" + _BROKEN})
    repo.commit("vendor: fan: guard\n", {"fan.c": "// vendor\n" + _FIXED})
    branch("reverted", "v6.9.2")
    revert = f'Revert "{_FIX}"\n\nThis reverts commit {backport}.\n'
    undo = repo.commit(revert, {"fan.c": _BROKEN})
    branch("reapplied", "reverted")
    repo.commit(f'Revert "Revert"\n\nThis reverts\ncommit {undo}.\n', {"fan.c": _FIXED})
    branch("linux-6.8.y", "v6.8")
    tag("v6.8.7")
    branch("bug-backported", "v6.8.7")
    repo.commit(f"fan: follow a curve\n\n[ Upstream commit {bug} ]\n", {"fan.c": _BROKEN})
    branch("rewritten", "v6.9.1")
    repo.commit("vendor: fan: rewrite\n", {"fan.c": "something else\n"})
    repo.git("checkout", "-q", "main")
    return SimpleNamespace(
        path=repo.path, fix=fix, bug=bug, repair=repair, backport=backport, undo=undo
    )


def _on(kernel: SimpleNamespace, branch: str) -> OnBranch:
    return fix_report(kernel.path, kernel.fix, branches=[branch]).landing.branches[0]


@pytest.mark.parametrize(
    ("revision", "state"),
    [
        ("v6.8", "not affected"),
        ("v6.9", "lacks"),
        ("v6.10-rc1", "has"),
        ("v6.10", "has"),
        ("v6.9.1", "lacks"),
        ("v6.9.2", "has"),
    ],
)
def test_a_fix_in_the_users_kernel(kernel: SimpleNamespace, revision: str, state: str) -> None:
    [landing] = fix_status(kernel.path, [kernel.fix[:12]], revision)
    assert (landing.hash, landing.first_tag) == (kernel.fix, "v6.10-rc1")
    assert landing.kernel is not None
    assert landing.kernel.state == state


def test_mainline_and_the_maintained_series_are_looked_at(kernel: SimpleNamespace) -> None:
    [landing] = fix_status(kernel.path, [kernel.fix])
    assert [(on.branch, on.state, on.first_tag) for on in landing.branches] == [
        ("mainline", "has", "v6.10-rc1"),
        ("linux-6.9.y", "has", "v6.9.2"),
        ("linux-6.8.y", "not affected", None),
    ]


def test_what_belongs_to_a_fix(kernel: SimpleNamespace) -> None:
    [landing] = fix_status(kernel.path, [kernel.fix])
    assert [mention.hash for mention in landing.introduced_by] == [kernel.bug]
    assert [mention.hash for mention in landing.follow_ups] == [kernel.repair]


@pytest.mark.parametrize(
    ("branch", "how"),
    [
        ("v6.10", "ancestry"),
        ("linux-6.9.y", "upstream line"),
        ("bracketed", "upstream line"),
        ("picked", "upstream line"),
        ("same-subject", "subject"),
        ("same-patch", "patch-id"),
        ("reapplied", "upstream line"),
    ],
)
def test_how_a_branch_shows_that_it_has_the_fix(
    kernel: SimpleNamespace, branch: str, how: str
) -> None:
    on = _on(kernel, branch)
    assert (on.state, on.how) == ("has", how)


def test_a_reverted_backport(kernel: SimpleNamespace) -> None:
    on = _on(kernel, "reverted")
    assert (on.state, on.commit, on.applies) == ("reverted", kernel.undo, "cleanly")


def test_a_branch_that_took_the_bug_but_not_the_fix(kernel: SimpleNamespace) -> None:
    on = _on(kernel, "bug-backported")
    assert (on.state, on.applies) == ("lacks", "cleanly")


def test_a_patch_that_does_not_apply_names_the_file(kernel: SimpleNamespace) -> None:
    on = _on(kernel, "rewritten")
    assert (on.state, on.applies, on.conflicts) == ("lacks", "no", ("fan.c",))


def test_trying_a_patch_leaves_the_repository_alone(kernel: SimpleNamespace) -> None:
    index = kernel.path / ".git" / "index"
    before = index.read_bytes()
    _on(kernel, "rewritten")
    assert index.read_bytes() == before


def test_the_hash_of_a_backport_is_answered_for_the_original(kernel: SimpleNamespace) -> None:
    report = fix_report(kernel.path, kernel.backport)
    assert (report.landing.hash, report.backport_of) == (kernel.fix, kernel.fix)


@pytest.mark.parametrize(
    ("release", "revision", "sound"),
    [
        ("6.9.2", "v6.9.2", True),
        ("6.9.2-200.fc40.x86_64", "v6.9.2", True),
        ("6.9.0-12-amd64", "v6.9", False),
        ("6.7.1", None, False),
    ],
)
def test_a_release_string_stands_for_a_tag(
    kernel: SimpleNamespace, release: str, revision: str | None, sound: bool
) -> None:
    users = fix_report(kernel.path, kernel.fix, release=release).kernel
    assert users is not None
    assert (users.revision, users.sound) == (revision, sound)


def test_several_commits_at_once(kernel: SimpleNamespace) -> None:
    landings = fix_status(kernel.path, [kernel.repair, "f" * 40, kernel.fix], "v6.10")
    assert [landing.known for landing in landings] == [True, False, True]
    assert landings[0].first_tag is None
    assert landings[1] == Landing(hash="f" * 40)


def test_an_unknown_commit(kernel: SimpleNamespace) -> None:
    with pytest.raises(MissingDataError, match="has no commit ffff"):
        fix_report(kernel.path, "f" * 40)


@pytest.mark.parametrize("hash", ["", "HEAD", "--all", "abc", "v6.10"])
def test_what_is_no_hash(kernel: SimpleNamespace, hash: str) -> None:
    with pytest.raises(InputError, match="not a commit hash"):
        fix_status(kernel.path, [hash])


@pytest.mark.parametrize("revision", ["--all", "", "v6.9 --all", "nonexistent"])
def test_what_is_no_revision(kernel: SimpleNamespace, revision: str) -> None:
    with pytest.raises(InputError):
        fix_status(kernel.path, [kernel.fix], revision)


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError):
        fix_status(tmp_path / "none", ["a" * 12])
