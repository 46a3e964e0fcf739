"""Callers, callees, types, call paths and authors in small kernel-like trees."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from support.repository import GitRepository

from kagent.errors import InputError, MissingDataError
from kagent.source import (
    CallPath,
    SourceTree,
    blame,
    call_path,
    find_callees,
    find_callers,
    find_type,
)

FS_H = """\
struct file;
/* ops->write(): struct file_ops { is only named here */
struct file_ops {
	ssize_t (*write)(struct file *file, const char *buf);
	struct {
		int major;	/* } not the end */
	} version;
};
struct file {
	const struct file_ops *ops;
	struct list_head node;
};
enum whence { SEEK_SET, SEEK_CUR };
typedef unsigned int fmode_t;
typedef struct {
	int counter;
} count_t;
#define call_write(file, buf) \\
	((file)->ops->write(file, buf))
static inline ssize_t do_write_op(struct file *file, const char *buf)
{
	return file->ops->write(file, buf);
}
static inline void note_write(struct file *file)
{
	account(file);
}
#define note_twice(file) do { \\
	note_write(file); \\
	note_write(file); \\
} while (0)
ssize_t vfs_put(struct file *file, const char *buf);
"""
FS_C = """\
#include <linux/fs.h>

ssize_t vfs_put(struct file *file, const char *buf)
{
	note_twice(file);
	return do_write_op(file, buf);
}
EXPORT_SYMBOL(vfs_put);

static ssize_t checked(struct file *file, const char *buf)
{
	/* vfs_put() may sleep */
	pr_debug("vfs_put(%p)\\n", file);
	return vfs_put(file, buf);
}

SYSCALL_DEFINE2(put, struct file *, file, const char *, buf)
{
	return checked(file, buf);
}

ssize_t elsewhere(struct file *file, const char *buf)
{
	return far_away(file, buf);
}
"""
FAN_C = """\
#include <linux/fs.h>

static ssize_t fan_write(struct file *file, const char *buf)
{
	int (*parse)(const char *) = parse_speed;

	account(file);
	return parse(buf);
}

static const struct file_ops fan_ops = {
	.write = fan_write,
};

static void fan_poll(struct work_struct *work)
{
	account(NULL);
}

void fan_start(struct fan *fan)
{
	INIT_WORK(&fan->work, fan_poll);
}

ssize_t far_away(struct file *file, const char *buf)
{
	return vfs_put(file, buf);
}
"""
FILES = {
    "MAINTAINERS": "",
    "include/linux/fs.h": FS_H,
    "fs/put.c": FS_C,
    "fs/account.c": "void account(struct file *file)\n{\n\tfile++;\n}\n",
    "drivers/fan.c": FAN_C,
    "arch/x86/entry.S": "SYM_CODE_START(entry_put)\n\tcall\tvfs_put\nSYM_CODE_END(entry_put)\n",
    "tools/put.c": "int main(void)\n{\n\treturn vfs_put(0, 0);\n}\n",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> GitRepository:
    found = GitRepository(tmp_path_factory.mktemp("git") / "linux")
    found.commit("fs: add put\n\nBody.\n", FILES)
    found.git("tag", "v1")
    changed = FS_C.replace("note_twice(file);", "note_write(file);")
    found.commit("fs: note once", {"fs/put.c": changed})
    return found


@pytest.fixture(scope="module", params=["plain", "revision"])
def tree(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    repository: GitRepository,
) -> SourceTree:
    if request.param == "revision":
        return SourceTree.open(f"{repository.path}@v1")
    root = tmp_path_factory.mktemp("plain")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return SourceTree.open(root)


def line_of(text: str, file: str) -> int:
    return next(n for n, row in enumerate(FILES[file].splitlines(), 1) if text in row)


def steps(found: CallPath) -> list[tuple[str, str, str]]:
    return [(step.caller, step.callee, f"{step.path}:{step.line}") for step in found.steps]


# Callers and callees ---------------------------------------------------------------------------


def test_callers_are_calls_not_words(tree: SourceTree) -> None:
    found = find_callers(tree, "vfs_put.isra.0")
    assert [(s.kind, s.caller, s.caller_kind, s.path) for s in found.items] == [
        ("call", "far_away", "function", "drivers/fan.c"),
        ("call", "checked", "static", "fs/put.c"),
        ("call", "entry_put", "assembly", "arch/x86/entry.S"),
    ]
    assert (found.total, found.next_offset, found.truncated) == (3, None, False)
    assert found.items[1].line == line_of("return vfs_put", "fs/put.c")
    assert found.items[1].text == "return vfs_put(file, buf);"


def test_macros_call_and_addresses_are_taken(tree: SourceTree) -> None:
    noted = find_callers(tree, "note_write").items
    assert [(s.caller, s.caller_kind) for s in noted] == [("note_twice", "macro")] * 2
    (taken,) = find_callers(tree, "fan_write").items
    assert (taken.kind, taken.caller, taken.text) == ("reference", "", ".write = fan_write,")
    (handed,) = find_callers(tree, "fan_poll").items
    assert (handed.kind, handed.caller) == ("reference", "fan_start")


def test_a_member_of_that_name_is_no_call(tree: SourceTree) -> None:
    assert find_callers(tree, "write").items == ()


def test_callers_below_a_folder_and_in_pages(tree: SourceTree) -> None:
    assert [s.caller for s in find_callers(tree, "vfs_put", under="fs").items] == ["checked"]
    first = find_callers(tree, "vfs_put", limit=2)
    assert (len(first.items), first.total, first.next_offset) == (2, 3, 2)
    rest = find_callers(tree, "vfs_put", offset=2, limit=2)
    assert [s.caller for s in rest.items] == ["entry_put"]
    for folder in ("..", "/etc", "fs/../..", "*", ":(top)fs", ".git"):
        with pytest.raises(InputError):
            find_callers(tree, "vfs_put", under=folder)
    for offset, limit in ((-1, 5), (0, 0), (0, 201)):
        with pytest.raises(InputError):
            find_callers(tree, "vfs_put", offset=offset, limit=limit)


@pytest.mark.parametrize("name", ["0xffffffff81000000", "a b", "(", "nosuch", ""])
def test_what_is_no_function_has_no_callers(tree: SourceTree, name: str) -> None:
    assert find_callers(tree, name).items == ()


def test_callees_in_source_order(tree: SourceTree) -> None:
    found = find_callees(tree, "vfs_put")
    assert [(s.callee, s.line) for s in found.items] == [("note_twice", 5), ("do_write_op", 6)]
    inner = find_callees(tree, "do_write_op")
    assert [(s.callee, s.kind) for s in inner.items] == [("file->ops->write", "pointer")]
    mixed = find_callees(tree, "fan_write", file="/build/drivers/fan.c")
    assert [(s.callee, s.kind) for s in mixed.items] == [("account", "call"), ("parse", "pointer")]
    with pytest.raises(MissingDataError):
        find_callees(tree, "nosuch")


# Types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "spelled", "begin", "end"),
    [
        ("struct file_ops", "struct file_ops", "struct file_ops {", "};"),
        ("file", "struct file", "struct file {", "};"),
        ("enum whence", "enum whence", "enum whence", "enum whence { SEEK_SET, SEEK_CUR };"),
        ("fmode_t", "fmode_t", "typedef unsigned int fmode_t;", "typedef unsigned int fmode_t;"),
        ("count_t", "count_t", "typedef struct {", "} count_t;"),
    ],
)
def test_types_are_whole(tree: SourceTree, name: str, spelled: str, begin: str, end: str) -> None:
    (found,) = find_type(tree, name).items
    rows = found.text.split("\n")
    assert (found.name, found.path) == (spelled, "include/linux/fs.h")
    assert rows[0].startswith(begin)
    assert rows[-1] == end
    assert FS_H.splitlines()[found.start - 1 : found.end] == rows
    assert not found.truncated


@pytest.mark.parametrize("name", ["enum file", "struct list_head", "struct", "a;b", "x" * 300, "("])
def test_no_such_type(tree: SourceTree, name: str) -> None:
    assert find_type(tree, name).items == ()


def test_a_type_without_end_is_cut(tmp_path: Path) -> None:
    (tmp_path / "long.h").write_text("struct long_one {\n" + "\tint x;\n" * 900)
    (found,) = find_type(SourceTree.open(tmp_path), "long_one").items
    assert (found.start, found.end, found.truncated) == (1, 400, True)


# From one frame to the next --------------------------------------------------------------------


def test_a_direct_call(tree: SourceTree) -> None:
    found = call_path(tree, "checked", "vfs_put")
    assert (found.kind, found.truncated) == ("direct", False)
    line = line_of("return vfs_put", "fs/put.c")
    assert steps(found) == [("checked", "vfs_put", f"fs/put.c:{line}")]
    assert call_path(tree, "__x64_sys_put", "checked").kind == "direct"
    assert call_path(tree, "entry_put", "vfs_put").kind == "direct"


def test_through_inlined_functions_and_macros(tree: SourceTree) -> None:
    found = call_path(tree, "vfs_put", "account")
    assert found.kind == "through"
    assert [step.caller for step in found.steps] == ["vfs_put", "note_twice", "note_write"]
    assert found.note == "note_twice: a macro; note_write: inlined"


def test_a_static_function_may_be_inlined(tree: SourceTree) -> None:
    found = call_path(tree, "__x64_sys_put", "vfs_put")
    assert found.kind == "through"
    assert found.note == "checked: static, the compiler may inline it"


def test_a_tail_call_leaves_no_frame(tree: SourceTree) -> None:
    found = call_path(tree, "elsewhere", "vfs_put")
    assert [step.caller for step in found.steps] == ["elsewhere", "far_away"]
    assert found.note == "far_away: may end in a tail call"


def test_through_a_member(tree: SourceTree) -> None:
    found = call_path(tree, "vfs_put", "fan_write")
    assert (found.kind, found.note) == ("pointer", "through the member write")
    called = line_of("return file->ops->write", "include/linux/fs.h")
    assert steps(found) == [
        ("vfs_put", "do_write_op", f"fs/put.c:{line_of('return do_write_op', 'fs/put.c')}"),
        ("do_write_op", "write", f"include/linux/fs.h:{called}"),
        ("", "fan_write", f"drivers/fan.c:{line_of('.write =', 'drivers/fan.c')}"),
    ]
    own = call_path(tree, "do_write_op", "fan_write")
    assert [step.caller for step in own.steps] == ["do_write_op", ""]


def test_an_address_that_is_handed_over(tree: SourceTree) -> None:
    found = call_path(tree, "vfs_put", "fan_poll")
    assert found.kind == "registered"
    assert [step.text for step in found.steps] == ["INIT_WORK(&fan->work, fan_poll);"]


@pytest.mark.parametrize(
    ("start", "end"),
    [("fan_poll", "vfs_put"), ("nosuch", "vfs_put"), ("vfs_put", "nosuch"), ("vfs_put", "0xff")],
)
def test_no_way(tree: SourceTree, start: str, end: str) -> None:
    found = call_path(tree, start, end)
    assert (found.kind, found.steps) == ("unknown", ())
    assert found.note


def test_a_crowd_of_callers_is_cut(tmp_path: Path) -> None:
    for number in range(130):
        (tmp_path / f"f{number:03}.c").write_text(f"void f{number}(void)\n{{\n\thub();\n}}\n")
    found = find_callers(SourceTree.open(tmp_path), "hub", limit=200)
    assert (found.total, found.truncated) == (120, True)


def test_files_with_hostile_names_are_passed_over(tmp_path: Path) -> None:
    text = "struct trap {\n\tint x;\n};\nvoid bait(void)\n{\n\thub();\n}\n"
    for name in ("-x.c", "~root.h", ":(top)a.c", "good.c"):
        (tmp_path / name).write_text(text)
    (tmp_path / "link.c").symlink_to("/etc/passwd")
    tree = SourceTree.open(tmp_path)
    assert [s.path for s in find_callers(tree, "hub").items] == ["good.c"]
    assert [s.path for s in find_type(tree, "trap").items] == ["good.c"]


def test_circles_end(tmp_path: Path) -> None:
    ring = "".join(f"static void r{n}(void)\n{{\n\tr{(n + 1) % 40}();\n}}\n" for n in range(40))
    (tmp_path / "ring.c").write_text(ring + "void out(void)\n{\n\tend();\n}\n")
    begin = time.monotonic()
    found = call_path(SourceTree.open(tmp_path), "out", "r5")
    assert found.kind == "unknown"
    assert time.monotonic() - begin < 10


# History ---------------------------------------------------------------------------------------


def test_the_commit_of_a_line(repository: GitRepository) -> None:
    tree = SourceTree.open(f"{repository.path}@HEAD")
    noted = line_of("note_twice", "fs/put.c")
    found = blame(tree, "fs/put.c", noted)
    assert (found.subject, found.author) == ("fs: note once", "Ada Example <ada@example.org>")
    assert found.commit == repository.git("rev-parse", "HEAD")
    assert found.text == "\tnote_write(file);"
    assert found.date.isoformat() == "2023-11-16T23:13:20+01:00"
    assert not found.boundary
    older = blame(tree, "fs/put.c", 1)
    assert (older.subject, older.boundary) == ("fs: add put", True)
    then = blame(SourceTree.open(f"{repository.path}@v1"), "fs/put.c", noted)
    assert then.subject == "fs: add put"


def test_a_checkout_is_blamed_where_it_is_committed(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "src")
    repository.commit("one", {"a.c": "int x;\nint y;\n"})
    (repository.path / "a.c").write_text("int x;\nint z;\n")
    (repository.path / "new.c").write_text("int x;\n")
    tree = SourceTree.open(repository.path)
    assert blame(tree, "a.c", 1).subject == "one"
    with pytest.raises(MissingDataError, match="changed since HEAD"):
        blame(tree, "a.c", 2)
    with pytest.raises(MissingDataError, match="no history"):
        blame(tree, "new.c", 1)


def test_renames_are_followed_to_the_old_name(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "src")
    text = "".join(f"int line_{n};\n" for n in range(30))
    repository.commit("one", {"old.c": text})
    repository.commit("two", {"old.c": None, "new.c": text})
    found = blame(SourceTree.open(f"{repository.path}@HEAD"), "new.c", 7)
    assert (found.subject, found.original_path, found.original_line) == ("one", "old.c", 7)


def test_programs_of_the_repository_are_not_run(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "src")
    repository.commit("one", {"a.c": "int x;\n", ".gitattributes": "*.c diff=evil filter=evil\n"})
    proof = tmp_path / "ran"
    for name in ("diff.evil.textconv", "filter.evil.smudge", "filter.evil.clean"):
        repository.git("config", name, f"touch {proof}; cat")
    for spec in (f"{repository.path}@HEAD", str(repository.path)):
        assert blame(SourceTree.open(spec), "a.c", 1).subject == "one"
    assert not proof.exists()


def test_no_history_to_tell(tree: SourceTree, tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int x;\n")
    with pytest.raises(MissingDataError, match="no git repository"):
        blame(SourceTree.open(tmp_path), "a.c", 1)
    for path, line in (("../a.c", 1), ("/etc/passwd", 1), ("fs/put.c", 0), ("fs/put.c", 900)):
        with pytest.raises(InputError):
            blame(tree, path, line)
    with pytest.raises(MissingDataError):
        blame(tree, "fs/none.c", 1)


def test_git_gets_no_more_time_than_it_has(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "git"
    real = shutil.which("git")
    slow.write_text(f'#!/bin/sh\ncase "$*" in *blame*) exec sleep 60;; esac\nexec {real} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    tree = SourceTree.open(f"{repository.path}@HEAD")
    with pytest.raises(MissingDataError, match="did not finish"):
        blame(tree, "fs/put.c", 1, seconds=0.2)
