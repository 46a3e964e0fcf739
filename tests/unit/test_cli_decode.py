"""``kagent decode`` as a user meets it."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from support.debuginfod import debuginfod
from support.kernel_elf import RELEASE, build_module, build_vmlinux

from kagent.cli.main import main
from kagent.symbols.dwarf import drgn_available
from kagent.symbols.objects import open_object

pytestmark = pytest.mark.skipif(not drgn_available(), reason="drgn has no wheel here")

OOPS = (
    "[    5.000000] BUG: kernel NULL pointer dereference, address: 000000000000001c\r\n"
    "[    5.000100] CPU: 1 PID: 31 Comm: fancontrol Not tainted {release} #1\r\n"
    "[    5.000200] RIP: 0010:{fan} [fan_ctl]\r\n"
    "[    5.000300] Call Trace:\r\n"
    "[    5.000400]  <TASK>\r\n"
    "[    5.000500]  {widget}\r\n"
    "[    5.000550]  ? gone+0x10/0x20\r\n"
    "[    5.000600]  </TASK>\r\n"
    "[    5.000700] RIP: 0010:{fan} [fan_ctl]\r\n"
    "volume label: \xff \x1b]0;title\x07\r\n"
)


class Done(NamedTuple):
    """What a run of the program left behind."""

    returncode: int
    stdout: bytes
    stderr: str


class Case(NamedTuple):
    """Debug info, sources beside the module, and a log of that build."""

    root: Path
    log: Path

    @property
    def data(self) -> tuple[str, ...]:
        return ("--vmlinux", f"{self.root}/vmlinux", "--modules", f"{self.root}/modules")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp("case")
    vmlinux, module = build_vmlinux(root), build_module(root / "modules")
    places = {}
    for name, file, symbol in (
        ("fan", module, "fan_apply"),
        ("widget", vmlinux, "start_kernel"),
    ):
        (found,) = open_object(file).find(symbol)
        size = found.extent or found.size
        places[name] = f"{symbol}+{found.size - 1:#x}/{size:#x}"
    log = root / "console.log"
    log.write_bytes(OOPS.format(release=RELEASE, **places).encode("latin-1"))
    return Case(root, log)


@pytest.fixture
def kagent(monkeypatch, capfdbinary) -> Callable[..., Done]:
    """Run the program in this process; its stdin is never a terminal."""
    for name in list(os.environ):
        if name.startswith("KAGENT_"):
            monkeypatch.delenv(name)

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["kagent", "decode", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capfdbinary.readouterr()
        return Done(code, out, err.decode())

    return run


def test_only_frame_lines_grow(kagent, case):
    done = kagent(str(case.log), *case.data)
    assert done.returncode == 0
    before, after = case.log.read_bytes().split(b"\r\n"), done.stdout.split(b"\r\n")
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert new.startswith(old)
        added = new[len(old) :].decode()
        expected = r" at .*\.c:\d+" if b"fan_apply" in old or b"start_kernel" in old else ""
        assert re.fullmatch(expected, added), new


def test_the_closing_note_counts_and_says_why(kagent, case):
    done = kagent("-", *case.data, stdin=case.log.read_bytes())
    assert done.stderr.splitlines() == [
        "kagent: 3 of 4 frames decoded",
        "  1 not: gone is not in vmlinux",
    ]


def test_a_log_without_frames_comes_back(kagent, case):
    done = kagent("-", *case.data, stdin=b"all is well\n")
    assert (done.returncode, done.stdout) == (0, b"all is well\n")
    assert "no frames" in done.stderr


def test_source_stands_below_the_trapping_frame_once(kagent, case):
    done = kagent(str(case.log), *case.data, "--source", "2")
    rows = [r.decode() for r in done.stdout.split(b"\r\n") if r.startswith(b"    | ")]
    assert re.fullmatch(r"    \| fan\.c:\d+-\d+ in \w+", rows[0])
    (marked,) = (row for row in rows if row.startswith("    | >"))
    at = re.search(rb"fan_apply\S+ \[fan_ctl\] at \S*fan\.c:(\d+)", done.stdout)
    assert at is not None
    number = int(at[1])
    line = (case.root / "modules" / "fan.c").read_text().splitlines()[number - 1]
    assert marked.split(None, 2)[1].removeprefix(">") == str(number)
    assert marked.endswith(line.expandtabs(8).strip())
    assert len(rows) == 1 + 5 or number < 3
    rest = b"\r\n".join(r for r in done.stdout.split(b"\r\n") if not r.startswith(b"    | "))
    resolved = kagent(str(case.log), *case.data, "--kernel-src", str(case.root))
    assert rest == resolved.stdout.replace(b"modules/fan.c", b"fan.c")


def test_source_of_the_kernel_needs_its_tree(kagent, case):
    done = kagent(str(case.log), "--vmlinux", f"{case.root}/vmlinux", "--source", "2")
    assert done.returncode == 2
    assert "--kernel-src" in done.stderr


def test_colours_and_links_only_when_asked_for(kagent, case):
    plain = kagent(str(case.log), *case.data, "--kernel-src", str(case.root))
    colored = kagent(str(case.log), *case.data, "--kernel-src", str(case.root), "--color", "always")
    assert plain.stdout.count(b"\x1b") == case.log.read_bytes().count(b"\x1b") == 1
    target = (case.root / "init" / "main.c").resolve().as_uri().encode()
    assert b"\x1b]8;;" + target + b"\x1b\\init/main.c:" in colored.stdout
    bare = re.sub(rb"\x1b\]8;;[^\x1b]*\x1b\\|\x1b\[[0-9;]*m", b"", colored.stdout)
    assert bare == plain.stdout


def test_a_terminal_gets_colours_but_no_escapes_of_the_log(kagent, case, monkeypatch):
    monkeypatch.setattr("kagent.cli.streams.os.isatty", lambda fd: fd == 1)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    done = kagent(str(case.log), *case.data)
    assert b"\x1b[36m at " in done.stdout
    assert b"title" not in done.stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b" not in kagent(str(case.log), *case.data).stdout


def test_into_a_file(kagent, case, tmp_path):
    target = tmp_path / "decoded.log"
    done = kagent(str(case.log), *case.data, "-o", str(target))
    assert done.stdout == b""
    assert target.read_bytes() == kagent(str(case.log), *case.data).stdout
    assert kagent(str(case.log), *case.data, "-o", str(tmp_path)).returncode == 2


def test_another_build_is_refused_or_marked(kagent, case):
    other = case.log.read_bytes().replace(RELEASE.encode(), b"6.9.1-other")
    refused = kagent("-", *case.data, stdin=other)
    assert (refused.returncode, refused.stdout) == (3, b"")
    assert "--allow-mismatch" in refused.stderr
    done = kagent("-", *case.data, "--allow-mismatch", stdin=other)
    assert done.returncode == 0
    assert done.stdout.count(b" (approximate)\r\n") == 3
    assert "3 approximate" in done.stderr
    assert "6.9.1-other" in done.stderr


def test_without_debug_info_it_says_what_to_give(kagent, case):
    done = kagent(str(case.log))
    assert (done.returncode, done.stdout) == (3, b"")
    assert RELEASE in done.stderr
    assert "hint: give --vmlinux" in done.stderr


def test_a_revision_is_read_without_links(kagent, case, tmp_path):
    from support.repository import GitRepository

    repository = GitRepository(tmp_path / "src")
    text = (case.root / "init" / "main.c").read_text()
    repository.commit("base", {"init/main.c": text})
    spec = f"{repository.path}@HEAD"
    done = kagent(str(case.log), *case.data, "--kernel-src", spec, "--color", "always")
    assert done.returncode == 0
    assert re.search(rb" at init/main\.c:\d+\x1b\[0m\r\n", done.stdout)


def test_a_repository_without_the_tag_says_what_was_read(kagent, case, tmp_path):
    from support.repository import GitRepository

    repository = GitRepository(tmp_path / "src")
    repository.commit("base", {"init/main.c": "int x;\n"})
    done = kagent(str(case.log), *case.data, "--kernel-src", str(repository.path))
    assert done.returncode == 0
    assert "has no tag" in done.stderr
    assert "the files as they are were used instead" in done.stderr


def test_an_installed_debug_package_is_found(kagent, case, monkeypatch, tmp_path):
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / f"vmlinux-{RELEASE}").symlink_to(case.root / "vmlinux")
    monkeypatch.setenv("KAGENT_DEBUG_DIR", str(tmp_path))
    done = kagent(str(case.log))
    assert "1 of 4 frames decoded" in done.stderr
    installed = tmp_path / "lib" / "modules" / RELEASE
    installed.parent.mkdir(parents=True)
    installed.symlink_to(case.root / "modules")
    assert "3 of 4 frames decoded" in kagent(str(case.log)).stderr


def test_a_server_is_asked_where_the_environment_names_one(kagent, case, monkeypatch, tmp_path):
    build_id = open_object(case.root / "vmlinux").image.build_id
    assert build_id
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "cache"))
    log = tmp_path / "log"
    log.write_bytes(case.log.read_bytes().replace(b" #1\r\n", f" #1 {build_id}\r\n".encode(), 1))
    with debuginfod({build_id: (case.root / "vmlinux").read_bytes()}) as server:
        monkeypatch.setenv("DEBUGINFOD_URLS", server.url)
        done = kagent(str(log))
        assert "1 of 4 frames decoded" in done.stderr
        assert f"kagent: fetching debug info from {server.url}" in done.stderr
        assert "fetching" not in kagent(str(log)).stderr
        none = kagent(str(case.log))
    assert (none.returncode, none.stdout) == (3, b"")
    assert "the log has no build-id of its kernel to ask a server for" in none.stderr


def test_sources_that_were_built_elsewhere(kagent, case, tmp_path):
    """DWARF names what the compiler was given: here a name relative to the build directory."""
    sources = tmp_path / "elsewhere"
    sources.mkdir()
    (sources / "main.c").write_text((case.root / "init" / "main.c").read_text())
    mapped = ("--source-map", f"init={sources}", "--color", "always")
    done = kagent(str(case.log), *case.data, *mapped)
    assert f"file://{sources}/main.c".encode() in done.stdout
    wrong = kagent(str(case.log), *case.data, "--source-map", "nothing")
    assert wrong.returncode == 2
    assert "'nothing' is no source map" in wrong.stderr


def test_source_of_a_report_without_a_trapping_instruction(kagent, case, tmp_path):
    frame = re.search(r"RIP: 0010:(fan_apply\S+ \[fan_ctl\])", case.log.read_text("latin-1"))
    assert frame
    log = tmp_path / "log"
    lines = (
        "INFO: task fanctl:77 blocked for more than 120 seconds.",
        f"      Not tainted {RELEASE} #1",
        "task:fanctl state:D stack:0 pid:77 ppid:1 flags:0x0",
        "Call Trace:",
        " <TASK>",
        f" ? {frame[1]}",
        f" {frame[1]}",
        " </TASK>",
    )
    log.write_text("".join(f"[    9.000000] {line}\n" for line in lines))
    done = kagent(str(log), *case.data, "--source", "1")
    rows = done.stdout.decode().splitlines()
    (at,) = (i for i, row in enumerate(rows) if row.startswith("    | fan.c:"))
    assert rows[at - 1].startswith("[    9.000000]  fan_apply+")
