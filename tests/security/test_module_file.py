"""Attacked by whoever wrote a module file, code bytes or a source that came with a log.

Native libraries read these in a child. Whatever happens there costs its part: the analysis goes
on, and says what it lacks.
"""

from __future__ import annotations

import lzma
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.evil_dwarf import build_evil_module
from support.foreign_elf import build_foreign_module
from support.kernel_elf import build_module, need, run

import kagent
from kagent.errors import CorruptDataError, InputError, MismatchError, NativeCodeError
from kagent.isolation import Job, Limits, Subject, Worker, current, isolated, using
from kagent.isolation.shape import Word
from kagent.isolation.worker import _import_path
from kagent.klog.frame_model import Frame
from kagent.settings import Settings
from kagent.source import CSource, SourceTree
from kagent.source.c_tree import Columns, tree_of
from kagent.symbols import DebugFiles, Symbolizer
from kagent.symbols.model import Member

TESTS = Path(__file__).parents[1]
PATH = (*_import_path(), str(TESTS))
FILE = Subject("tidelink", "tidelink.ko")
LIMITS = Limits(memory=1 << 30, answer=1 << 20)


def job(name: str, answer: Any = int, seconds: int = 30) -> Job[Any]:
    return Job("drgn", f"support.misbehaving:{name}", answer, seconds)


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(LIMITS, PATH)
    yield made
    made.close()


def gone(pid: int) -> bool:
    """Whether a process ended, and was reaped."""
    return not Path(f"/proc/{pid}").exists()


def soon(what: Any, *arguments: Any) -> bool:
    """Whether that becomes true in a time that is long for any machine."""
    until = time.monotonic() + 20
    while not (found := what(*arguments)) and time.monotonic() < until:
        time.sleep(0.02)
    return bool(found)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("segfault", "drgn crashed (SIGSEGV) reading tidelink.ko"),
        ("abort", "drgn crashed (SIGABRT) reading tidelink.ko"),
        ("leave", "drgn ended (status 0) reading tidelink.ko"),
        ("hang", "drgn took longer than 1 s reading tidelink.ko"),
        ("half_an_answer", "drgn took longer than 1 s reading tidelink.ko"),
        ("eat_memory", "drgn needed more than 1024 MiB of memory reading tidelink.ko"),
        ("flood", "drgn answered with more than 1 MiB reading tidelink.ko"),
        ("nonsense", "answered another question"),
        ("not_json", "gave an answer of another kind"),
        ("deep_json", "gave an answer of another kind"),
        ("other_type", "gave an answer of another kind"),
        ("other_question", "answered another question than the one asked"),
        (
            "raises",
            "drgn failed (RuntimeError: of \\u{202e}no kind second line) reading tidelink.ko",
        ),
    ],
)
def test_what_fails_in_the_child_is_one_clear_error(what: str, words: str, worker: Worker) -> None:
    with pytest.raises(NativeCodeError) as caught:
        worker.call(job(what, seconds=1 if "longer" in words else 30), about=FILE)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    # The next file is read by the next child, and the one that did it by none.
    assert worker.call(job("well"), about=Subject("other", "other.ko")) == worker.pid
    with pytest.raises(NativeCodeError, match=r"reading tidelink\.ko"):
        worker.call(job("well"), about=FILE)


def test_after_some_crashes_nothing_more_is_tried(worker: Worker) -> None:
    for number in range(LIMITS.crashes):
        with pytest.raises(NativeCodeError, match="SIGSEGV"):
            worker.call(job("segfault"), about=Subject(str(number), "x.ko"))
    with pytest.raises(NativeCodeError, match=r"not tried on y\.ko: .* failed 4 times"):
        worker.call(job("well"), about=Subject("y", "y.ko"))
    assert worker.pid is None


def test_the_child_has_no_keys_and_little_code(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    names = worker.call(job("environment", list[str]), about=FILE)
    assert set(names) <= {"LC_ALL", "LC_CTYPE", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS"}
    assert worker.call(job("modules", list[str]), about=FILE) == []


def test_a_child_that_left_when_idle_is_no_crash(worker: Worker) -> None:
    first = worker.call(job("well"), about=FILE)
    os.kill(first, signal.SIGSTOP)  # what it is about to do may not be seen too early
    assert worker._process is not None
    worker._process.channel.shutdown(2)  # as after its minute of silence: it ends with status 0
    os.kill(first, signal.SIGCONT)
    assert worker.call(job("well"), about=FILE) != first
    assert gone(first)


def test_the_child_outlives_the_thread_that_started_it(worker: Worker) -> None:
    started = []
    thread = threading.Thread(target=lambda: started.append(worker.call(job("well"), about=FILE)))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert worker.call(job("well"), about=FILE) == started[0]


def test_threads_share_a_child(worker: Worker) -> None:
    found: list[int] = []

    def ask() -> None:
        found.extend(worker.call(job("well"), about=FILE) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert len(set(found)) == 1


def test_nothing_is_left_behind(worker: Worker) -> None:
    pid = worker.call(job("well"), about=FILE)
    worker.close()
    assert gone(pid)
    forgotten = Worker(LIMITS, PATH)
    pid = forgotten.call(job("well"), about=FILE)
    del forgotten
    assert gone(pid)


ORPHAN = """
import sys, threading, time
from kagent.isolation import Job, Subject, Worker
worker, about = Worker(path={path!r}), Subject("a", "a.ko")
print(worker.call(Job("drgn", "support.misbehaving:well", int), about=about), flush=True)
hang = Job("drgn", "support.misbehaving:{what}", int, 600)
worker.call(hang, about=about)
time.sleep(600)
"""


@pytest.mark.parametrize("what", ["hang", "well"])
def test_no_orphan_after_the_parent_was_killed(what: str) -> None:
    program = ORPHAN.format(path=PATH, what=what)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATH)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    assert soon(lambda: gone(child) or Path(f"/proc/{child}/stat").read_text().split()[2] == "Z")


UNDER_LIMITS = """
import resource
for kind, limit in ((resource.RLIMIT_AS, 2 << 30), (resource.RLIMIT_NOFILE, 100),
                    (resource.RLIMIT_CPU, 20)):
    resource.setrlimit(kind, (limit, limit))
from kagent.isolation import Job, Subject, Worker
well = Job("drgn", "support.misbehaving:well", int)
print(Worker(path={path!r}).call(well, about=Subject("a", "a.ko")))
"""


def test_the_child_lives_with_lower_limits_of_its_user() -> None:
    """A process may not raise a hard limit that a shell or a batch system gave it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATH)}
    done = subprocess.run(
        [sys.executable, "-c", UNDER_LIMITS.format(path=PATH)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.stdout.strip().isdecimal(), done.stderr


def test_a_fork_leaves_its_parents_child_alone(worker: Worker) -> None:
    pid = worker.call(job("well"), about=FILE)
    program = f"""
import os, sys
from kagent.isolation import Job, Subject, Worker
worker, about = Worker(path={PATH!r}), Subject("a", "a.ko")
well = Job("drgn", "support.misbehaving:well", int)
first = worker.call(well, about=about)
fork = os.fork()
if not fork:
    assert worker.call(well, about=about) != first
    sys.exit(0)
assert os.waitpid(fork, 0)[1] == 0
assert worker.call(well, about=about) == first
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATH)}
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, env=environment)
    assert worker.call(job("well"), about=FILE) == pid


def test_two_cases_do_not_share_a_child(tmp_path: Path) -> None:
    """Who took over the child of one case says nothing about another."""
    well: Job[int] = Job("x", "posix:getpid", int)  # called with the session: fails, but there
    with isolated(("a", tmp_path)), pytest.raises(NativeCodeError, match="TypeError"):
        current().call(well, about=FILE)
    with isolated(("b", tmp_path)), pytest.raises(NativeCodeError, match="TypeError") as other:
        current().call(well, about=FILE)
    assert "not tried" not in str(other.value)


# Trees that a child made up ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns",
    [
        Columns(["a"], [0, 0], [-1, -1], [True] * 2, [-1, 1], [0, 0], [1, 1]),  # its own parent
        Columns(["a"], [0], [-1], [True], [-1], [0], [99]),
        Columns(["a"], [0], [-1], [True], [-1], [3], [1]),
        Columns(["a"], [7], [-1], [True], [-1], [0], [1]),
        Columns(["a"], [-1], [-1], [True], [-1], [0], [1]),
        Columns(["a"], [0, 0], [-1], [True], [-1], [0], [1]),
    ],
)
def test_a_tree_out_of_shape_is_refused(columns: Columns) -> None:
    with pytest.raises(CorruptDataError, match="no tree"):
        tree_of(b"int x;", columns)


# Trust --------------------------------------------------------------------------------------------


def test_only_what_root_installed_is_read_in_this_process(tmp_path: Path) -> None:
    installed = Path(shutil.which("env") or "/usr/bin/env").resolve()
    assert DebugFiles(installed.parent).trusts(installed)
    assert not DebugFiles(tmp_path).trusts(installed)
    own = tmp_path / "vmlinux"
    own.write_bytes(b"")
    own.chmod(0o644)
    assert not DebugFiles(tmp_path).trusts(own)  # others may write to a directory above it
    (tmp_path / "link").symlink_to(installed)
    assert not DebugFiles(tmp_path).trusts(tmp_path / "link")
    assert not DebugFiles(tmp_path).trusts(tmp_path / "nothing")


# The analysis -------------------------------------------------------------------------------------


class Attacked:
    """A runner whose child misbehaves on one library, as a hostile file would make it."""

    def __init__(self, part: str, what: str) -> None:
        self.part, self.what = part, what
        self.worker = Worker(LIMITS, PATH)
        self.attacks = 0

    def call(self, job: Job[Any], *arguments: Any, about: Subject) -> Any:
        if job.part == self.part:
            self.attacks += 1
            function = f"support.misbehaving:{self.what}"
            job = Job(job.part, function, job.answer, 1 if self.what == "hang" else 30)
        return self.worker.call(job, *arguments, about=about)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A log and the modules that crashed in it, sources beside them."""
    data = TESTS / "data" / "faults" / "debian61"
    folder = tmp_path_factory.mktemp("case")
    for packed in data.glob("*.ko.xz"):
        (folder / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    for source in (TESTS / "lab" / "faults").glob("*.[ch]"):
        shutil.copy(source, folder)
    logs = sorted(data.glob("nulls-*.log"))
    return logs[0].read_text(), folder


@pytest.mark.parametrize("what", ["segfault", "hang", "nonsense", "flood"])
@pytest.mark.parametrize("part", ["drgn", "capstone", "tree-sitter"])
def test_an_attack_costs_its_part(part: str, what: str, case: tuple[str, Path]) -> None:
    log, modules = case
    settings = Settings(modules=modules)
    whole = kagent.analyze(log, settings=settings)
    assert not whole.incomplete
    assert whole.fault is not None
    assert whole.fault.instruction
    attacked = Attacked(part, what)
    with using(attacked):
        found = kagent.analyze(log, settings=settings)
    attacked.worker.close()
    assert attacked.attacks
    assert found.incomplete
    assert {failure.part for failure in found.failures} == {part}
    assert found.failures[0].error.startswith(f"{part} ")
    assert found.fault is not None
    assert found.reports[0].title == whole.reports[0].title
    if part != "drgn":
        assert (found.fault.file, found.fault.line) == (whole.fault.file, whole.fault.line)
    if part != "capstone":
        assert found.fault.instruction == whole.fault.instruction


@pytest.mark.parametrize("what", ["damaged", "powerpc", "empty", "text"])
def test_a_module_file_of_any_kind_never_ends_the_run(
    what: str, case: tuple[str, Path], tmp_path: Path
) -> None:
    log, modules = case
    for module in modules.glob("*.ko"):
        if what == "powerpc":
            need("clang")
            source = tmp_path / "x.c"
            source.write_text("struct s { int a; } *p; int nulls_f(void) { return p->a; }\n")
            run("clang", "--target=powerpc-linux-gnu", "-g", "-c", source,
                "-o", tmp_path / module.name)  # fmt: skip
        else:
            content = bytearray(module.read_bytes())
            content[len(content) // 3 : len(content) // 2] = os.urandom(1 << 12)
            made = {"damaged": bytes(content), "empty": b"", "text": b"#!/bin/sh\n"}[what]
            (tmp_path / module.name).write_bytes(made)
    for allow in (False, True):
        found = kagent.analyze(log, settings=Settings(modules=tmp_path, allow_mismatch=allow))
        assert found.reports
        assert found.summary


@pytest.mark.parametrize(("triple", "machine"), [("powerpc", "EM_PPC"), ("mips", "EM_MIPS")])
def test_a_sound_module_of_a_machine_drgn_does_not_know_is_not_called_damaged(
    triple: str, machine: str, tmp_path: Path
) -> None:
    build_foreign_module(tmp_path / "fan.ko", triple)
    with Symbolizer.open(None, tmp_path) as symbolizer:
        (found,) = symbolizer.symbolize([Frame("fan_apply", 8, 16, "fan")])
    assert found.note is not None
    assert f"drgn relocates no modules of its machine ({machine})" in found.note
    assert "damaged" not in found.note


def test_names_of_sections_beyond_all_memory(tmp_path: Path) -> None:
    module = build_module(tmp_path)
    data = bytearray(module.read_bytes())
    (headers,) = struct.unpack_from("<Q", data, 0x28)
    (names,) = struct.unpack_from("<H", data, 0x3E)
    head = headers + 64 * names
    struct.pack_into("<I", data, head + 4, 8)  # SHT_NOBITS, which takes no room in the file
    struct.pack_into("<Q", data, head + 24, 2**64 - 1)
    module.write_bytes(data)
    with Symbolizer.open(None, tmp_path) as symbolizer, pytest.raises(MismatchError):
        symbolizer.symbolize([Frame("fan_apply", 8, 16, module.stem)])


def test_a_compressed_section_that_claims_to_be_huge(tmp_path: Path) -> None:
    need("objcopy")
    module = build_module(tmp_path)
    run("objcopy", "--compress-debug-sections=zlib", module)
    data = bytearray(module.read_bytes())
    heads = [at for at in range(0, len(data) - 24, 8)
             if struct.unpack_from("<IIQ", data, at)[:2] == (1, 0)
             and data[at + 24 : at + 25] == b"\x78"]  # fmt: skip
    assert heads  # Elf64_Chdr: type, reserved, size, alignment
    for at in heads:
        struct.pack_into("<Q", data, at + 8, 1 << 40)
    module.write_bytes(data)
    frame = Frame("fan_apply", 8, None, "fan_ctl")
    with using(worker := Worker(LIMITS)), Symbolizer.open(None, tmp_path) as symbolizer:
        (found,) = symbolizer.symbolize([frame])
        assert symbolizer.struct_layout("struct fan_curve", module="fan_ctl") == []
    worker.close()
    assert not found.chain
    assert found.note


def test_a_packed_module_that_unpacks_to_the_thousandfold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kagent.symbols.unpack._ANY_PACKING", 1 << 20)
    bomb = lzma.compress(b"\x7fELF" + bytes(16 << 20), preset=0)
    (tmp_path / "fan.ko.xz").write_bytes(bomb)
    with Symbolizer.open(None, tmp_path) as symbolizer:
        (found,) = symbolizer.symbolize([Frame("fan_apply", 8, None, "fan")])
    assert "unpacks to more than" in (found.note or "")


def test_a_packed_vmlinux_that_asks_for_much_memory(tmp_path: Path) -> None:
    greedy = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 768 << 20}]
    (tmp_path / "vmlinux.xz").write_bytes(lzma.compress(b"\x7fELF", filters=greedy))
    with pytest.raises((InputError, CorruptDataError), match="cannot be unpacked"):
        Symbolizer.open(tmp_path / "vmlinux.xz")


@pytest.mark.parametrize(
    "text",
    [
        "int f(void)\n{\n\treturn " + "(" * 50_000 + "1" + ")" * 50_000 + ";\n}\n",
        "int f(void)\n" + "{" * 50_000,
        "int f(int " + "*" * 50_000 + "p)\n{\n}\n",
        "#if 1\n" * 50_000,
        "x" * 1_000_000,
        "\0" * 10_000,
        "int f(void)\n{\n" + "\tp" + "->q" * 20_000 + ";\n}\n",
    ],
    ids=["parentheses", "braces", "stars", "conditions", "word", "NUL", "members"],
)
def test_a_source_made_to_hurt_the_parser(text: str, tmp_path: Path) -> None:
    (tmp_path / "evil.c").write_text(text)
    (tmp_path / "good.c").write_text("int good(void)\n{\n\treturn 1;\n}\n")
    with using(worker := Worker(LIMITS)):
        CSource(text).calls(3)
        assert CSource(text).tree.type
        tree = SourceTree.open(tmp_path)
        tree.lookup(["f"])
        assert tree.lookup(["good"])["good"][0].path == "good.c"
    worker.close()


@pytest.mark.parametrize(
    ("kind", "depth"),
    [
        ("pointer", 100),
        ("pointer", 100_000),
        ("array", 100_000),
        ("pointer-own", 1),
        ("array-own", 1),
        ("typedef-own", 1),
        ("struct-own", 1),
    ],
)
def test_types_without_end(kind: str, depth: int, tmp_path: Path) -> None:
    build_evil_module(tmp_path, kind, depth)
    frame = Frame("evil", 1, None, "evil", exact=True)
    with using(worker := Worker(LIMITS)), Symbolizer.open(None, tmp_path) as symbolizer:
        assert len(symbolizer.symbolize([frame])) == 1
        members = symbolizer.struct_layout("struct evil", module="evil")
        symbolizer.member_at("struct evil", 4, module="evil")
        symbolizer.variables(frame, {"rip": 1})
    worker.close()
    assert bool(members) is (depth == 100 or kind == "struct-own")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (int, "true"),
        (int, '"1"'),
        (int, "1.0"),
        (int, "9" * 5000),
        (bool, "1"),
        (str, "null"),
        (Word, "-1"),
        (Word, str(1 << 64)),
        (list[int], '{"0": 1}'),
        (list[int], "[1, null]"),
        (tuple[int, str], '[1, "a", 2]'),
        (Member | None, "[]"),
        (Member, '{"struct": "s"}'),
        (Member, '{"struct":"s","member":"m","offset":0,"size":1,"type_name":"t","bits":0,"x":1}'),
        (list[Member], '[{"__class__": "os.system"}]'),
        (str, "[" * 100_000),
        (str, ""),
    ],
)
def test_an_answer_is_of_its_type_or_none(kind: Any, data: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        Job("x", "x:y", kind).checked(data.encode())


def test_answers_come_as_their_types() -> None:
    member = '{"struct":"s","member":"m","offset":8,"size":4,"type_name":"int","bits":null}'
    found = Job[Any]("x", "x:y", list[Member | None]).checked(f"[{member}, null]".encode())
    assert found == [Member("s", "m", 8, 4, "int"), None]
    assert Job[Any]("x", "x:y", tuple[tuple[int, ...], Word]).checked(b"[[1, 2], 3]") == ((1, 2), 3)
