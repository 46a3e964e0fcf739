"""The attacker wrote the git repository or the directory: configuration, objects, names, links."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hostile_git import (
    HAZARDS,
    SECRET,
    VARIABLES,
    Hazard,
    Trap,
    answers,
    control,
    hostile_repository,
)
from support.repository import GitRepository

import kagent
from kagent.agents.toolbox import fix_statuses
from kagent.commits import CommitIndex
from kagent.commits.history import GitHistory
from kagent.errors import InputError, KagentError, MissingDataError
from kagent.klog.model import Context
from kagent.repository import Repository
from kagent.settings import Settings
from kagent.source import SourceTree, blame
from kagent.source.store import MAX_FILE_BYTES, confined

Bait = tuple[GitRepository, Trap, dict[str, str]]


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Bait:
    """A repository without traps set, traps beside it, and what kagent says of it."""
    repository, trap = hostile_repository(tmp_path_factory.mktemp("bait"))
    return repository, trap, answers(repository.path, repository.git("rev-parse", "HEAD"))


@pytest.fixture
def set_config(bait: Bait) -> Callable[[Hazard], None]:
    """Writes settings into the repository's own configuration; undone by the next one."""
    repository, trap, _ = bait
    config = repository.path / ".git" / "config"
    clean = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"

    def write(hazard: Hazard) -> None:
        config.write_text(clean)
        for name, value in hazard.settings:
            subprocess.run(
                ["git", "config", "-f", config, trap.fill(name), trap.fill(value)], check=True
            )

    return write


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard.name)
def test_no_setting_of_a_repository_counts(
    bait: Bait, set_config: Callable[[Hazard], None], hazard: Hazard
) -> None:
    repository, trap, clean = bait
    set_config(hazard)
    said = answers(repository.path, repository_head(repository))
    assert said == clean
    assert not trap.sprung(repr(said))


@pytest.mark.parametrize(
    "hazard", [h for h in HAZARDS if h.control], ids=lambda hazard: hazard.name
)
def test_the_traps_work(
    tmp_path: Path, bait: Bait, set_config: Callable[[Hazard], None], hazard: Hazard
) -> None:
    repository, trap, _ = bait
    set_config(hazard)
    copy = GitRepository.__new__(GitRepository)
    copy.path = tmp_path / "copy"
    shutil.copytree(repository.path, copy.path)
    assert trap.sprung(control(copy, *hazard.control))


def repository_head(repository: GitRepository) -> str:
    """Without git: the hostile settings would be its."""
    return (repository.path / ".git" / "refs" / "heads" / "main").read_text().strip()


def test_every_variable_that_git_knows_at_once(
    bait: Bait, set_config: Callable[[Hazard], None], tmp_path: Path
) -> None:
    repository, trap, clean = bait
    listed = subprocess.run(["git", "help", "-c"], capture_output=True, text=True, check=True)
    names = [line for line in listed.stdout.split() if "." in line and "_" not in line]
    assert len(names) > 400
    rows = []
    for name in names:
        section, _, key = (
            name.replace("*", "evil").replace("<", "").replace(">", "").rpartition(".")
        )
        section, dot, middle = section.partition(".")
        head = f'[{section} "{middle}"]' if dot else f"[{section}]"
        rows += [f"{head}\n\t{key} = {trap.folder / what}" for what in ("secret", "run")]
    config = repository.path / ".git" / "config"
    extensions = [row for row in rows if row.startswith(("[extensions", "[core]\n\trepository"))]
    config.write_text("\n".join(row for row in rows if row not in extensions))
    said = answers(repository.path, repository_head(repository))
    with CommitIndex.build(repository.path, tmp_path / "index") as index:
        found = [*index.commits(), *index.search("check the fan")]
        assert index.update() == 0
    assert said == clean
    assert len(found) > 2
    assert not trap.sprung(repr((said, found)))
    set_config(Hazard((), ""))


@pytest.mark.parametrize(("name", "value"), VARIABLES)
def test_no_variable_of_the_environment_counts(
    bait: Bait,
    set_config: Callable[[Hazard], None],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    repository, trap, clean = bait
    set_config(Hazard((), ""))
    monkeypatch.setenv(name, trap.fill(value))
    said = answers(repository.path, repository_head(repository))
    assert said == clean
    assert not trap.sprung(repr(said))


def test_counted_settings_of_the_environment_and_a_git_in_the_repository(
    bait: Bait, set_config: Callable[[Hazard], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, trap, clean = bait
    set_config(Hazard((), ""))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(trap.folder / "run"))
    shutil.copy(trap.folder / "run", trap.folder / "git")
    monkeypatch.chdir(trap.folder)
    monkeypatch.setenv("PATH", ".:" + os.environ["PATH"])
    said = answers(repository.path, repository_head(repository))
    assert said == clean
    assert not trap.sprung(repr(said))


# Parts of a repository that are elsewhere ---------------------------------------------------


def _gitfile(root: Path, other: Path) -> None:
    shutil.rmtree(root / ".git")
    (root / ".git").write_text(f"gitdir: {other / '.git'}\n")


def _linked_git(root: Path, other: Path) -> None:
    shutil.rmtree(root / ".git")
    (root / ".git").symlink_to(other / ".git")


def _commondir(root: Path, other: Path) -> None:
    (root / ".git" / "commondir").write_text(f"{other / '.git'}\n")


def _alternates(root: Path, other: Path) -> None:
    (root / ".git" / "objects" / "info").mkdir(exist_ok=True)
    (root / ".git" / "objects" / "info" / "alternates").write_text(f"{other}/.git/objects\n")
    _foreign_head(root, other)


def _quoted_alternates(root: Path, other: Path) -> None:
    (root / ".git" / "objects" / "info").mkdir(exist_ok=True)
    (root / ".git" / "objects" / "info" / "alternates").write_text(f'"{other}/.git/objects"\n')


def _linked_objects(root: Path, other: Path) -> None:
    shutil.rmtree(root / ".git" / "objects")
    (root / ".git" / "objects").symlink_to(other / ".git" / "objects")
    _foreign_head(root, other)


def _linked_fanout(root: Path, other: Path) -> None:
    for folder in (other / ".git" / "objects").iterdir():
        mine = root / ".git" / "objects" / folder.name
        shutil.rmtree(mine, ignore_errors=True)
        mine.symlink_to(folder)
    _foreign_head(root, other)


def _linked_references(root: Path, other: Path) -> None:
    shutil.rmtree(root / ".git" / "refs")
    (root / ".git" / "refs").symlink_to(other / ".git" / "refs")


def _foreign_head(root: Path, other: Path) -> None:
    (root / ".git" / "refs" / "heads" / "main").write_text(
        (other / ".git" / "refs" / "heads" / "main").read_text()
    )


@pytest.mark.parametrize(
    "divert",
    [
        _gitfile, _linked_git, _commondir, _alternates, _quoted_alternates, _linked_objects,
        _linked_fanout, _linked_references,
    ],
)  # fmt: skip
def test_a_repository_that_leads_out_is_refused(
    tmp_path: Path, divert: Callable[[Path, Path], None]
) -> None:
    repository, trap = hostile_repository(tmp_path)
    head = repository.git("rev-parse", "HEAD")
    divert(repository.path, trap.folder / "elsewhere")
    with pytest.raises(InputError, match=r"leads out|borrows"):
        Repository(repository.path)
    said = answers(repository.path, head)
    assert not trap.sprung(repr(said))
    assert "fan_apply" in said[f"lookup {repository.path}"]  # the files are still source


def test_an_object_store_that_the_user_names_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, _ = hostile_repository(tmp_path)
    clone = tmp_path / "clone"
    repository.git("clone", "-q", "--shared", ".", str(clone))
    with pytest.raises(InputError, match="borrows") as caught:
        Repository(clone)
    assert "git repack -a -d" in str(caught.value.hint)
    monkeypatch.setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", f"{repository.path}/.git/objects")
    assert len(list(GitHistory(clone).commits(GitHistory(clone).head()))) == 2


def test_worktrees_and_submodules_of_ones_own_are_read(tmp_path: Path) -> None:
    repository, _ = hostile_repository(tmp_path)
    repository.git("worktree", "add", "-q", str(tmp_path / "tree"), "HEAD~1")
    assert Repository(tmp_path / "tree").resolve("HEAD") == repository.git("rev-parse", "HEAD~1")
    parent = GitRepository(tmp_path / "parent")
    parent.commit("start\n", {"a": "1\n"})
    parent.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add",
               str(repository.path), "sub")  # fmt: skip
    assert (parent.path / "sub" / ".git").is_file()
    assert Repository(parent.path / "sub").resolve("HEAD") == repository.git("rev-parse", "HEAD")


def test_nothing_below_git_dir_changes_what_is_read(bait: Bait, tmp_path: Path) -> None:
    repository, trap, clean = bait
    copy = tmp_path / "repo"
    shutil.copytree(repository.path, copy)
    git_dir = copy / ".git"
    head = repository_head(repository)
    first = repository.git("rev-parse", "HEAD~1")
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info" / "grafts").write_text(f"{head}\n")
    (git_dir / "info" / "attributes").write_text("*.c diff=evil -text binary\n")
    (git_dir / "refs" / "replace").mkdir()
    (git_dir / "refs" / "replace" / head).write_text(f"{first}\n")
    (git_dir / "config.worktree").write_text(f"[core]\n\tfsmonitor = {trap.folder}/run\n")
    shutil.copytree(trap.folder / "hooks", git_dir / "hooks", dirs_exist_ok=True)
    (git_dir / "HEAD~1").write_text("x")
    said = {key: text.replace(str(copy), str(repository.path)) for key, text in
            answers(copy, head).items()}  # fmt: skip
    assert list(said.values()) == list(clean.values())
    assert not trap.sprung(repr(said))


def test_a_reference_that_is_a_link_shows_nothing(tmp_path: Path) -> None:
    repository, trap = hostile_repository(tmp_path)
    (repository.path / ".git" / "refs" / "heads" / "link").symlink_to(trap.folder / "secret")
    said = answers(repository.path, repository_head(repository))
    assert "damaged" in said["status"]
    assert not trap.sprung(repr(said))


@pytest.mark.parametrize("name", ["objects/aa/fifo", "HEAD", "config"])
def test_a_fifo_in_the_place_of_a_file_holds_nothing_up(tmp_path: Path, name: str) -> None:
    repository, _ = hostile_repository(tmp_path)
    fifo = repository.path / ".git" / name
    fifo.parent.mkdir(exist_ok=True)
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    with pytest.raises(InputError):
        Repository(repository.path)


def test_a_missing_object_fetches_nothing(tmp_path: Path) -> None:
    """A promisor whose server is a program: what is missing stays missing."""
    repository, trap = hostile_repository(tmp_path)
    blob = repository.git("rev-parse", "HEAD:fan.c")
    (repository.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    for key, value in (
        ("extensions.partialClone", "evil"),
        ("remote.evil.promisor", "true"),
        ("remote.evil.url", str(trap.folder / "elsewhere")),
        ("remote.evil.uploadpack", str(trap.folder / "run")),
        ("core.repositoryFormatVersion", "1"),
    ):
        repository.git("config", key, value)
    assert trap.sprung(control(repository, "cat-file", "-p", blob))
    said = answers(repository.path, repository_head(repository))
    assert not trap.sprung(repr(said))
    with pytest.raises(KagentError, match=r"damaged|partial"):
        list(GitHistory(repository.path).commits(GitHistory(repository.path).head()))


# Names and content ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "--all",
        "-h",
        "--output=x",
        "HEAD;x",
        "a..b",
        ":/fan",
        "@{u}",
        "^main",
        "main:fan.c",
        "",
        "\0",
    ],
)
def test_what_is_no_revision_never_reaches_git(bait: Bait, name: str) -> None:
    with pytest.raises(InputError):
        Repository(bait[0].path).resolve(name)
    with pytest.raises(ValueError, match="not a full id"):
        Repository(bait[0].path).run("log", revisions=[name])


def test_references_named_like_options(tmp_path: Path) -> None:
    repository, trap = hostile_repository(tmp_path)
    head = repository.git("rev-parse", "HEAD")
    for name in ("--output=x", "-evil", "v1.0--exec=x", "linux-6.1.y"):
        reference = repository.path / ".git" / "refs" / "heads" / name
        reference.write_text(f"{head}\n")
        (repository.path / ".git" / "refs" / "tags" / name).write_text(f"{head}\n")
    said = answers(repository.path, head)
    assert "state='has'" in said["status"]
    assert not list(repository.path.rglob("x"))
    assert not trap.sprung(repr(said))


def test_errors_do_not_repeat_git(tmp_path: Path) -> None:
    """An error of git may quote any file: `blame.ignoreRevsFile` was one way to have it do so."""
    repository, trap = hostile_repository(tmp_path)
    repository.git("config", "blame.ignoreRevsFile", str(trap.folder / "secret"))
    assert SECRET in control(repository, "blame", "fan.c")
    for path in ("fan.c", "Makefile"):
        assert SECRET not in repr(blame(SourceTree.open(repository.path), path, 1))
    (repository.path / ".git" / "config").write_text(f"[{SECRET}\n")
    with pytest.raises(InputError, match="damaged") as caught:
        Repository(repository.path)
    assert SECRET not in str(caught.value)


def test_messages_and_names_with_escapes(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "repo")
    wild = "fan\t\x1b[31m\u202e\n"
    repository.commit(
        b"fan: \x1b]0;x\x07 \xff\xfe\n\n\0never\n".replace(b"\0", b""), {"fan.c": "1\n"}
    )
    (repository.path / wild.replace("/", "")).write_text("int fan_apply;\n")
    (repository.path / ("d" * 200)).mkdir()
    (repository.path / ("d" * 200) / ("n" * 250 + ".c")).write_text("int fan_apply(void)\n{\n}\n")
    repository.commit("wild\n")
    for spec in (str(repository.path), f"{repository.path}@HEAD"):
        found = SourceTree.open(spec).lookup(["fan_apply"])["fan_apply"]
        assert [len(one.path) for one in found] == [453]
    commits = list(GitHistory(repository.path).commits(GitHistory(repository.path).head()))
    assert commits[0].subject == "wild"


def test_a_deep_tree_a_huge_blob_and_links_in_circles(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "repo")
    deep = "/".join(["d"] * 400)
    huge = b"int x;\n" * (MAX_FILE_BYTES // 7 + 1000)
    repository.commit("start\n", {f"{deep}/a.c": "int a;\n", "huge.c": huge})
    (repository.path / "loop.c").symlink_to("pool.c")
    (repository.path / "pool.c").symlink_to("loop.c")
    (repository.path / "dir").symlink_to(".")
    repository.commit("links\n")
    for spec in (str(repository.path), f"{repository.path}@HEAD"):
        tree = SourceTree.open(spec)
        assert tree.read_lines(f"{deep}/a.c", 1, 1).text == "int a;"
        with pytest.raises((MissingDataError, InputError)):
            tree.read_lines("loop.c", 1, 1)
        lines = MAX_FILE_BYTES // 7 + 1
        assert tree.read_lines("huge.c", lines, lines + 9).truncated
        with pytest.raises(InputError) as caught:
            tree.read_lines("huge.c", lines + 5, lines + 9)
        assert caught.value.hint == f"8 MiB of it are read, {lines} lines"
    assert len(list(GitHistory(repository.path).commits(GitHistory(repository.path).head()))) == 2


# What is source -------------------------------------------------------------------------------

HIDDEN = [
    ".git/config", ".env", "a/.env", "a/.git/config", ".GIT/config", "a/.Git/HEAD", ".config",
    "git~1/config", "GIT~1/config", "a/git~2", "a\\.git\\config", ".git::$INDEX_ALLOCATION/x",
    "\u200c.git/config", ".g\u200cit/config", "a/\u200d.env", "\uff0eenv", "\u2024git/config",
    "a/./.env", ".", "a/..", "../x", "/etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("path", HIDDEN)
def test_names_that_start_with_a_dot_are_no_source(path: str) -> None:
    with pytest.raises(InputError):
        confined(path)


def test_dot_files_are_not_read_found_or_searched(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "repo")
    text = f"int fan_apply(void)\n{{\n\t/* {SECRET} */\n}}\n"
    names = (".env.c", ".hidden/fan.c", "sub/.deep/fan.c", "sub/.x.c")
    repository.commit("start\n", {**dict.fromkeys(names, text), "ok.c": "int ok(void)\n{\n}\n"})
    (repository.path / "link.c").symlink_to(".env.c")
    repository.commit("link\n")
    nested = GitRepository(repository.path / "nested")
    nested.commit("x\n", {"n.c": "int n(void)\n{\n}\n"})
    (nested.path / ".git" / "evil.c").write_text(text)
    for spec in (str(repository.path), f"{repository.path}@HEAD"):
        tree = SourceTree.open(spec)
        assert tree.lookup(["fan_apply"])["fan_apply"] == []
        assert tree.lookup(["ok"])["ok"]
        for name in (*names, "link.c", "nested/.git/evil.c", "nested/.git/config"):
            with pytest.raises((InputError, MissingDataError)):
                tree.read_lines(name, 1, 1)
            assert tree.resolve(f"/build/{name}") is None
        assert tree.store.named(".env.c") == []


@pytest.mark.parametrize("root", ["/proc", "/sys", "/dev/pts", "/proc/self/root/proc"])
def test_what_the_running_kernel_makes_up_is_no_source(root: str) -> None:
    if not Path(root).is_dir():
        pytest.skip(f"no {root}")
    with pytest.raises(InputError, match="holds no source"):
        SourceTree.open(root)


def test_devices_sockets_and_fifos_are_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.c")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "socket.c"))
        (tmp_path / "zero.c").symlink_to("/dev/zero")
        (tmp_path / "maps.c").symlink_to("/proc/self/maps")
        tree = SourceTree.open(tmp_path)
        assert tree.lookup(["fan_apply"])["fan_apply"] == []
        for name in ("fifo.c", "socket.c", "zero.c", "maps.c"):
            assert not tree.exists(name)
            with pytest.raises((InputError, MissingDataError)):
                tree.read_lines(name, 1, 1)
    for root in ("fifo.c", "socket.c"):
        with pytest.raises(InputError, match="is not a directory"):
            SourceTree.open(tmp_path / root)


# What a repository says of the kernel that crashed ---------------------------------------------


@pytest.mark.parametrize("shape", ["bare", "branch", "detached"])
def test_what_is_checked_out_is_not_the_kernel_that_crashed(tmp_path: Path, shape: str) -> None:
    repository, _ = hostile_repository(tmp_path)
    path = repository.path
    if shape == "bare":
        path = tmp_path / "bare.git"
        repository.git("clone", "-q", "--bare", ".", str(path))
    elif shape == "branch":
        repository.git("switch", "-q", "-c", "feature")
    else:
        repository.git("switch", "-q", "--detach", "HEAD~1")
    assert SourceTree.for_crash(path, "5.4.7").kernel_revision is None
    assert SourceTree.for_crash(path, None).kernel_revision is None
    assert SourceTree.for_crash(path, "6.1.0").kernel_revision == "v6.1"
    assert SourceTree.for_crash(f"{path}@v6.1", "5.4.7").kernel_revision == "v6.1"


@pytest.mark.parametrize(
    ("spec", "release", "in_kernel"),
    [
        ("{bare}", "5.4.7", None),
        ("{bare}", None, None),
        ("{branch}", "5.4.7", None),
        ("{detached}", None, None),
        ("{bare}", "6.1.0", False),
        ("{bare}@v6.1", "5.4.7", False),
        ("{bare}@HEAD", None, True),
        ("{bare}", "6.1.0-13-amd64", None),  # Debian's own patches are in no tag
    ],
)
def test_a_fix_is_in_the_kernel_only_where_its_revision_is_known(
    tmp_path: Path, spec: str, release: str | None, in_kernel: bool | None
) -> None:
    repository, _ = hostile_repository(tmp_path)
    fix = repository.git("rev-parse", "HEAD")
    # An "@" in the path of a repository asks for no revision.
    for name in ("bare", "branch", "detached"):
        flags = ["--bare"] if name == "bare" else []
        repository.git("clone", "-q", *flags, ".", str(tmp_path / f"me@{name}"))
    repository.git("-C", str(tmp_path / "me@branch"), "switch", "-q", "-c", "feature")
    repository.git("-C", str(tmp_path / "me@detached"), "switch", "-q", "--detach", "HEAD")
    places = {name: str(tmp_path / f"me@{name}") for name in ("bare", "branch", "detached")}
    settings = Settings(kernel_src=spec.format(**places))
    status = fix_statuses(settings, [fix], Context(kernel=release))[fix]
    assert status.in_kernel is in_kernel


def test_only_the_runner_starts_git() -> None:
    """Beside the demo, which makes a repository of its own out of its own files."""
    package = Path(kagent.__file__).parent
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "repository") or path == package / "demo" / "runner.py":
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.List | ast.Tuple) and node.elts:
                first = node.elts[0]
                assert not (isinstance(first, ast.Constant) and first.value == "git"), path
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert not {"git", "pygit2", "dulwich"} & {n.partition(".")[0] for n in names}, path
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("which"):
                assert "'git'" not in ast.unparse(node), path


def test_a_file_of_many_gigabytes_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "real.c").write_text("int find_me(void) { return 0; }\n")
    with (tmp_path / "sparse.c").open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(InputError, match="a file is larger than 1 GiB"):
        SourceTree.open(tmp_path).lookup(["find_me"])
