"""Lookups in a small kernel-like tree: as plain files, as a checkout, and by revision."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kagent.errors import InputError, MissingDataError
from kagent.klog.release import revision_candidates
from kagent.repository import GitError, Repository
from kagent.source import SourceTree

READ_WRITE = """\
#include <linux/fs.h>

ssize_t ksys_write(unsigned int fd, const char __user *buf, size_t count)
{
	return vfs_write(fd, buf, count);
}

SYSCALL_DEFINE3(write, unsigned int, fd, const char __user *, buf,
		size_t, count)
{
	return ksys_write(fd, buf, count);
}

COMPAT_SYSCALL_DEFINE1(write, int, fd)
{
	return 0;
}

static noinline __cold int
do_split(struct file *file)
	__releases(&file->f_lock)
{
#ifdef CONFIG_X
	if (file) {
#else
	if (!file) {
#endif
		return 1;
	}
	return 0;
}
"""
ENTRY = """\
SYM_CODE_START(entry_SYSCALL_64)
	swapgs
SYM_INNER_LABEL(entry_SYSCALL_64_after_hwframe, SYM_L_GLOBAL)
	pushq	%rax
SYM_CODE_END(entry_SYSCALL_64)
"""
FILES = {
    "Makefile": "VERSION = 6\nPATCHLEVEL = 14\nSUBLEVEL = 0\nEXTRAVERSION =\n",
    "MAINTAINERS": "List\n\nFILES\nM:\tA B <a@b.example>\nL:\tlist@b.example\nF:\tfs/\n",
    "fs/read_write.c": READ_WRITE,
    "include/linux/fs.h": "ssize_t ksys_write(unsigned int fd, const char *b, size_t c);\n",
    "arch/x86/entry/entry_64.S": ENTRY,
    "arch/x86/mm/fault.c": "DEFINE_IDTENTRY_RAW_ERRORCODE(exc_page_fault)\n{\n\tfoo();\n}\n",
    "arch/arm64/kernel/traps.c": "void show_stack(int x)\n{\n}\n",
    "lib/dump.c": "void show_stack(int x)\n{\n\tx++;\n}\nvoid (*table)(int) = show_stack;\n",
    "tools/lib/dump.c": "void show_stack(int x)\n{\n}\n",
}


def git(root: Path, *arguments: str) -> str:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    for role in ("AUTHOR", "COMMITTER"):
        environment[f"GIT_{role}_NAME"] = "Test"
        environment[f"GIT_{role}_EMAIL"] = "test@example.com"
    done = subprocess.run(
        ["git", *arguments], cwd=root, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def fill(root: Path) -> Path:
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v6.14 holds `FILES`; the newer working tree has a longer ksys_write."""
    root = fill(tmp_path_factory.mktemp("linux"))
    git(root, "init", "-q")
    (root / "link.c").symlink_to("fs/read_write.c")
    (root / "escape.c").symlink_to("/etc/passwd")
    (root / "up.c").symlink_to("../outside.c")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "base")
    git(root, "tag", "v6.14")
    changed = READ_WRITE.replace("\treturn vfs_write", "\t/* newer */\n\treturn vfs_write")
    (root / "fs/read_write.c").write_text(changed)
    git(root, "commit", "-q", "-a", "-m", "newer")
    git(root, "tag", "v6.14.2")
    return root


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("plain"))


@pytest.fixture(params=["plain", "revision"])
def tree(request: pytest.FixtureRequest, plain: Path, repository: Path) -> SourceTree:
    return SourceTree.open(plain if request.param == "plain" else f"{repository}@v6.14")


def spans(tree: SourceTree, *names: str) -> dict[str, list[tuple[str, int, int]]]:
    found = tree.lookup(names)
    return {name: [(f.path, f.start, f.end) for f in found[name]] for name in names}


def test_all_names_of_a_trace_at_once(tree: SourceTree) -> None:
    assert spans(
        tree,
        "ksys_write",
        "__x64_sys_write",
        "__ia32_compat_sys_write",
        "do_split.isra.0.cold",
        "exc_page_fault",
        "entry_SYSCALL_64_after_hwframe",
        "nosuch_function",
        "0xffffffff81000000",
    ) == {
        "ksys_write": [("fs/read_write.c", 3, 6)],
        "__x64_sys_write": [("fs/read_write.c", 8, 12)],
        "__ia32_compat_sys_write": [("fs/read_write.c", 14, 17)],
        "do_split.isra.0.cold": [("fs/read_write.c", 19, 31)],
        "exc_page_fault": [("arch/x86/mm/fault.c", 1, 4)],
        "entry_SYSCALL_64_after_hwframe": [("arch/x86/entry/entry_64.S", 1, 5)],
        "nosuch_function": [],
        "0xffffffff81000000": [],
    }
    assert tree.truncated is False


def test_text_and_origin_of_a_function(repository: Path) -> None:
    (found,) = SourceTree.open(f"{repository}@v6.14").lookup(["ksys_write"])["ksys_write"]
    assert found.text.splitlines()[0].startswith("ssize_t ksys_write(")
    assert found.text.splitlines()[-1] == "}"
    assert found.origin == "fs/read_write.c:3-6@v6.14"
    assert found.name == "ksys_write"


def test_generic_code_comes_first_and_tools_do_not_count(tree: SourceTree) -> None:
    paths = [path for path, _, _ in spans(tree, "show_stack")["show_stack"]]
    assert paths == ["lib/dump.c", "arch/arm64/kernel/traps.c"]


def test_the_file_debug_info_names_is_preferred(tree: SourceTree) -> None:
    files = {"show_stack": "/build/linux-6.14/arch/arm64/kernel/traps.c"}
    (found,) = tree.lookup(["show_stack"], files)["show_stack"]
    assert found.path == "arch/arm64/kernel/traps.c"


def test_a_revision_is_read_not_the_working_tree(repository: Path) -> None:
    old = SourceTree.open(f"{repository}@v6.14").read_lines("fs/read_write.c", 5, 5)
    new = SourceTree.open(repository).read_lines("fs/read_write.c", 5, 5)
    assert old.text == "\treturn vfs_write(fd, buf, count);"
    assert old.revision == "v6.14"
    assert new.text == "\t/* newer */"
    assert new.revision is None


def test_excerpts_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "long.c").write_text("int x;\n" * 1000)
    found = SourceTree.open(tmp_path).read_lines("long.c", 10, 900)
    assert (found.start, found.end, found.truncated) == (10, 409, True)
    assert len(found.text.splitlines()) == 400
    whole = SourceTree.open(tmp_path).read_lines("long.c", 999, 5000)
    assert (whole.end, whole.truncated) == (1000, False)


def test_long_functions_are_cut_and_say_so(tmp_path: Path) -> None:
    body = "\tx++;\n" * 3000
    (tmp_path / "long.c").write_text(f"void big(int x)\n{{\n{body}}}\n")
    (found,) = SourceTree.open(tmp_path).lookup(["big"])["big"]
    assert found.truncated
    assert found.end - found.start + 1 == 1200


def test_functions_and_the_one_around_a_line(tree: SourceTree) -> None:
    names = [f.name for f in tree.functions_in("fs/read_write.c")]
    assert names == ["ksys_write", "write", "write", "do_split"]
    found = tree.enclosing_function("fs/read_write.c", 11)
    assert found is not None
    assert (found.name, found.start, found.end) == ("write", 8, 12)
    assert tree.enclosing_function("fs/read_write.c", 2) is None


def test_resolve_takes_the_longest_suffix(tree: SourceTree) -> None:
    assert tree.resolve("/usr/src/linux-6.14/lib/dump.c") == "lib/dump.c"
    assert tree.resolve("./include/linux/fs.h") == "include/linux/fs.h"
    assert tree.resolve("debian/build/build_amd64/fs/read_write.c") == "fs/read_write.c"
    assert tree.resolve("../../fs/read_write.c") == "fs/read_write.c"
    assert tree.resolve("drivers/none.c") is None
    assert tree.resolve("fs") is None
    assert tree.resolve("") is None


def test_module_sources_resolve_by_name(tmp_path: Path) -> None:
    for name in ("stage1/fanctl.c", "stage2/fanctl.c", "stage1/evtq.c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("int x;\n")
    tree = SourceTree.open(tmp_path)
    assert tree.resolve("/build/evtq.c") == "stage1/evtq.c"
    assert tree.resolve("/usr/src/stage2/modules/fanctl.c") == "stage2/fanctl.c"
    assert tree.resolve("/build/fanctl.c") is None


def test_a_tree_stands_for_the_directory_of_the_build(tmp_path: Path) -> None:
    (tmp_path / "drv" / "core").mkdir(parents=True)
    for name in ("core/a.c", "a.c"):
        (tmp_path / "drv" / name).write_text("int x;\n")
    tree = SourceTree.mapped(f"/build/pkg-1.0//drv/={tmp_path}/drv")
    assert tree.resolve("/build/pkg-1.0/drv/core/a.c") == "core/a.c"
    assert tree.resolve("/build/pkg-1.0/drv/x/../a.c") == "a.c"
    for other in ("core/a.c", "/build/pkg-1.0/drv", "/build/pkg-1.0/drv/../a.c", "/build/b.c"):
        assert tree.resolve(other) is None
    for wrong in ("nothing", "=x", "/build=", f"/build={tmp_path}/none"):
        with pytest.raises(InputError):
            SourceTree.mapped(wrong)


def test_maintainers_of_a_file(tree: SourceTree) -> None:
    found = tree.subsystem_of("fs/read_write.c")
    assert found is not None
    assert found.name == "FILES"
    assert found.lists == ("list@b.example",)
    assert tree.subsystem_of("lib/dump.c") is None


# Confinement ----------------------------------------------------------------------------------

OUTSIDE = ["/etc/passwd", "../x", "fs/../../x", "-rf", "", "a\0b", "a\nb", ".git/config", "~/x"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_outside_the_tree_are_refused(tree: SourceTree, name: str) -> None:
    for attempt in (tree.exists, tree.functions_in, tree.subsystem_of):
        with pytest.raises(InputError):
            attempt(name)
    with pytest.raises(InputError):
        tree.read_lines(name, 1, 1)
    with pytest.raises(InputError):
        tree.enclosing_function(name, 1)


@pytest.mark.parametrize("spec", ["{}", "{}@v6.14"])
def test_links_are_followed_inside_the_tree_only(repository: Path, spec: str) -> None:
    tree = SourceTree.open(spec.format(repository))
    assert tree.read_lines("link.c", 1, 1).text == "#include <linux/fs.h>"
    for name in ("escape.c", "up.c"):
        with pytest.raises(InputError, match="leaves the source tree"):
            tree.read_lines(name, 1, 1)
        assert tree.resolve(f"/x/{name}") is None or tree.revision


def test_missing_files_and_lines(tree: SourceTree) -> None:
    with pytest.raises(MissingDataError):
        tree.read_lines("fs/none.c", 1, 2)
    with pytest.raises(MissingDataError):
        tree.read_lines("fs", 1, 2)
    with pytest.raises(InputError, match="no lines"):
        tree.read_lines("Makefile", 90, 95)
    with pytest.raises(InputError, match="no lines"):
        tree.read_lines("Makefile", 0, 5)


@pytest.mark.parametrize("name", ["$(touch x)", "a|b", ".*", "foo(", "x;y", "-e", "ü", "a" * 5000])
def test_names_that_are_no_symbols_find_nothing(tree: SourceTree, name: str) -> None:
    assert tree.lookup([name]) == {name: []}


# Revisions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "revision", ["-x", "--output=x", "nosuch", "v6.14..v6.14.2", "", "HEAD:Makefile", "a b"]
)
def test_bad_revisions(repository: Path, revision: str) -> None:
    with pytest.raises(InputError):
        SourceTree.open(f"{repository}@{revision}")


def test_a_revision_of_a_plain_directory(plain: Path) -> None:
    with pytest.raises(InputError, match="not a git repository"):
        SourceTree.open(f"{plain}@v6.14")


def test_no_such_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a directory"):
        SourceTree.open(tmp_path / "none")
    with pytest.raises(InputError, match="not a directory"):
        SourceTree.for_release(tmp_path / "none", "6.1")


def test_an_at_sign_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "linux@home"
    folder.mkdir()
    (folder / "a.c").write_text("int a(void)\n{\n}\n")
    assert SourceTree.open(folder).exists("a.c")


def test_a_bare_repository(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    assert SourceTree.open(f"{tmp_path}/bare.git@v6.14").exists("lib/dump.c")
    assert SourceTree.open(tmp_path / "bare.git").exists("lib/dump.c")


@pytest.mark.parametrize(
    ("release", "tag"), [("6.14.0+", "v6.14"), ("6.14.2", "v6.14.2"), ("6.14.0-dirty", "v6.14")]
)
def test_the_tag_of_a_release(repository: Path, release: str, tag: str) -> None:
    tree = SourceTree.for_release(repository, release)
    assert tree.revision == tag
    assert tag in tree.note
    assert release in tree.note


def test_the_commit_in_a_release(repository: Path) -> None:
    commit = git(repository, "rev-parse", "--short=12", "v6.14")
    tree = SourceTree.for_release(repository, f"6.14.0-rc7-00042-g{commit}")
    assert tree.revision == commit


def test_a_release_without_a_tag(repository: Path) -> None:
    with pytest.raises(MissingDataError, match=r"v6\.1\.192") as caught:
        SourceTree.for_release(repository, "6.1.192")
    assert "PATH@REV" in (caught.value.hint or "")


def test_a_plain_tree_is_compared_with_the_release(plain: Path) -> None:
    assert "Makefile" not in SourceTree.for_release(plain, "6.14.0+").note
    assert "Makefile says 6.14.0" in SourceTree.for_release(plain, "6.1.192").note


@pytest.mark.parametrize(
    ("release", "build", "revisions"),
    [
        ("6.1.192", None, ["v6.1.192"]),
        ("6.14.0", None, ["v6.14"]),
        ("6.14.0-rc3+", None, ["v6.14-rc3"]),
        (
            "6.10.0-rc3-next-20240613-x",
            None,
            ["next-20240613", "v6.10-rc3-next-20240613-x", "v6.10-rc3"],
        ),
        ("6.1.0-56-amd64", "#1 SMP Debian 6.1.192-2", ["v6.1.192", "v6.1-56-amd64", "v6.1"]),
        ("6.9.0-00012-g0123456789ab", None, ["0123456789ab", "v6.9-00012-g0123456789ab", "v6.9"]),
        ("not a release", None, []),
    ],
)  # fmt: skip
def test_candidates_for_a_release(release: str, build: str | None, revisions: list[str]) -> None:
    assert [r for r, _ in revision_candidates(release, build)] == revisions


# git ------------------------------------------------------------------------------------------


def test_the_callers_git_variables_and_the_repositorys_helpers_are_ignored(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    git(repository, "config", "core.fsmonitor", f"touch {mark}")
    git(repository, "config", "grep.patternType", "fixed")
    git(repository, "config", "grep.column", "true")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", f"touch {mark}")
    try:
        for spec in (str(repository), f"{repository}@v6.14"):
            assert SourceTree.open(spec).lookup(["ksys_write"])["ksys_write"]
    finally:
        for name in ("core.fsmonitor", "grep.patternType", "grep.column"):
            monkeypatch.delenv("GIT_DIR", raising=False)
            git(repository, "config", "--unset", name)
    assert not mark.exists()


def test_output_is_capped(repository: Path) -> None:
    found = Repository(repository).run("cat-file", "blob", "HEAD:Makefile", limit=10)
    assert found.data == b"VERSION = "
    assert found.truncated


def test_a_failing_command_is_told_in_our_words(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "kagent.git")
    with pytest.raises(GitError, match="there is no such revision") as caught:
        Repository(repository).run("cat-file", "blob", "nosuch")
    assert "nosuch" not in str(caught.value)
    assert "nosuch" in caplog.text
