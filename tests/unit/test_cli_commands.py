"""The program as a user meets it: output, errors, exit codes, cost of starting it."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from kagent import __version__
from kagent.cli.files import check_output
from kagent.cli.main import main
from kagent.cli.options import make_settings, size
from kagent.cli.output import pick_format, write_resolution
from kagent.errors import InputError

OOPS = """\
[   42.118400][  T311] BUG: kernel NULL pointer dereference, address: 0000000000000018
[   42.118450][  T311] #PF: supervisor read access in kernel mode
[   42.118460][  T311] #PF: error_code(0x0000) - not-present page
[   42.118470][  T311] Oops: 0000 [#1] PREEMPT SMP
[   42.118501][  T311] CPU: 1 PID: 311 Comm: relayd Tainted: G           O       6.12.9 #1
[   42.119002][  T311] RIP: 0010:relay_switch+0x5c/0x1e0 [relayctl]
[   42.121310][  T311] Call Trace:
[   42.121344][  T311]  <TASK>
[   42.121390][  T311]  relayctl_write+0x141/0x200 [relayctl]
[   42.121520][  T311]  vfs_write+0x22d/0xf10
[   42.121790][  T311]  </TASK>
[   42.121900][  T311] ---[ end trace 0000000000000000 ]---
"""
ROOT = Path(__file__).parents[2]
HEAVY = (
    "langgraph",
    "langchain",
    "langchain_core",
    "openai",
    "numpy",
    "scipy",
    "faiss",
    "git",
    "networkx",
    "drgn",
    "pydantic_settings",
    "jinja2",
    "mcp",
    "tree_sitter",
)


class Done(NamedTuple):
    """What a run of the program left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def kagent(monkeypatch, capfdbinary) -> Callable[..., Done]:
    """Run the program in this process; its stdin is never a terminal."""
    for name in list(os.environ):
        if name.startswith(("KAGENT_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["kagent", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capfdbinary.readouterr()
        return Done(code, out.decode(), err.decode())

    return run


def program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the program as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "kagent", *arguments], capture_output=True, timeout=120, **options
    )


@pytest.fixture
def oops(tmp_path: Path) -> Path:
    path = tmp_path / "console.log"
    path.write_text(OOPS)
    return path


def test_help_names_every_command_and_the_exit_codes(kagent):
    done = kagent("--help")
    assert done.returncode == 0
    for word in ("analyze", "parse", "reformat", "demo", "index", "mcp", "version"):
        assert re.search(rf"^│ {word} ", done.stdout, re.MULTILINE), word
    assert "0 analysed · 1 no kernel report found · 2 bad usage or input" in done.stdout


@pytest.mark.parametrize("command", ["analyze", "parse", "reformat", "demo", "index", "mcp"])
def test_every_command_explains_itself(kagent, command):
    done = kagent(command, "--help")
    assert done.returncode == 0
    assert f"Usage: kagent {command}" in done.stdout
    assert done.stderr == ""


def test_starting_the_program_imports_nothing_heavy():
    code = "import sys, kagent.cli.app, kagent.cli.index; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint(HEAVY)


def test_help_costs_little():
    assert min(_cpu_seconds("--help") for _ in range(3)) < 0.5  # 0.24 s on a quiet machine


def _cpu_seconds(*arguments: str) -> float:
    """Of the child alone, so that a busy machine changes nothing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program(*arguments, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_version_is_printed_two_ways(kagent):
    assert kagent("--version").stdout == f"kagent {__version__}\n"
    rows = dict(line.split(maxsplit=1) for line in kagent("version").stdout.splitlines())
    assert rows["kagent"] == __version__
    assert set(rows) >= {"python", "langgraph", "drgn"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-such-option",),
        ("no-such-command",),
        ("analyze", "--no-such-option"),
        ("analyze", "a.log", "b.log"),
        ("analyze", "--json", "--html", "-"),
        ("analyze", "--vmlinux", "/no/such/vmlinux", "-"),
        ("analyze", "--max-log-bytes", "lots", "-"),
        ("analyze", "/no/such/file"),
        ("analyze", "--restore", "-"),
        ("parse", "/"),
        ("demo", "--sample", "no-such-sample"),
        ("mcp", "--transport", "telegraph"),
        ("mcp", "--port", "0"),
    ],
)
def test_bad_usage_and_bad_input_exit_with_2(kagent, arguments):
    done = kagent(*arguments, stdin=OOPS)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_one_line_and_a_hint(kagent):
    done = kagent("analyze", "/")
    assert done.stderr == "kagent: error: / is a directory\nhint: name the log file in it\n"


def test_an_error_cannot_steer_the_terminal(kagent, tmp_path):
    done = kagent("parse", str(tmp_path / "\x1b[31mred\nline"))
    assert "\x1b" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_bug_shows_its_calls_and_is_not_taken_for_no_report(kagent, oops, monkeypatch):
    monkeypatch.setattr("kagent.klog.parse_log", None)
    done = kagent("parse", str(oops))
    assert done.returncode == 70
    first, *calls, _ = done.stderr.splitlines()
    assert first == "kagent: bug: TypeError: 'NoneType' object is not callable"
    assert re.fullmatch(r"  at cli/inspect.py:\d+ parse", calls[-1])
    assert str(ROOT) not in done.stderr


@pytest.mark.parametrize("command", ["parse", "analyze"])
def test_a_log_without_a_report_exits_with_1(kagent, command):
    done = kagent(command, "-", stdin="[    1.0] usb 1-1: new device\n")
    assert done.returncode == 1
    assert done.stderr.startswith("kagent: error: no kernel report")
    assert "give it the console log from its first BUG:" in done.stderr


@pytest.mark.parametrize("command", ["parse", "analyze"])
def test_a_stack_alone_is_asked_for_the_line_above_it(kagent, command):
    done = kagent(command, "-", stdin="Call Trace:\n a_b+0x1/0x2\n c_d+0x3/0x4\n")
    assert done.returncode == 1
    assert "there is a stack but no line that says what happened" in done.stderr


def test_parse_lists_reports_and_frames(kagent, oops):
    done = kagent("parse", str(oops))
    assert done.returncode == 0
    assert (
        "▶ 1  BUG: unable to handle kernel NULL pointer dereference in relay_switch" in done.stdout
    )
    assert "relayctl_write+0x141/0x200 [relayctl]" in done.stdout


def test_parse_gives_everything_as_json(kagent, oops):
    content = json.loads(kagent("parse", "--json", str(oops)).stdout)
    (report,) = content["reports"]
    assert content["primary"] == 0
    assert report["context"]["task"] == "relayd"
    assert report["pc"]["symbol"] == "relay_switch"
    start, end = report["span"]
    assert OOPS.encode()[start:end].lstrip().startswith(b"[   42.118400]")


def test_reformat_passes_other_bytes_through_untouched():
    noise = b"caf\xe9 \xff\x80 no trace here\r\nnext line without an end"
    assert program("reformat", input=noise, check=True).stdout == noise


def test_reformat_prints_what_the_library_returns(kagent, oops):
    from kagent.klog import reformat

    assert kagent("reformat", str(oops)).stdout == reformat(OOPS)


@pytest.mark.parametrize("arguments", [("reformat", "-"), ("version",), ("demo", "--list")])
def test_a_reader_that_has_left_ends_it_like_any_filter(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "kagent", *arguments],
            input=OOPS.encode(),
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr == b""


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what a process does in its own time."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)


def test_an_interrupt_exits_with_130_and_no_traceback():
    child = subprocess.Popen(
        [sys.executable, "-m", "kagent", "reformat", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until(lambda: "pipe_read" in Path(f"/proc/{child.pid}/wchan").read_text())
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert b"Traceback" not in errors


def test_text_is_utf8_whatever_the_locale(oops):
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    assert "▶ 1  BUG" in program("parse", str(oops), env=ascii_only, check=True).stdout.decode()


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("20k", 20_480), ("200M", 209_715_200), ("1g", 1 << 30)]
)
def test_sizes_may_have_a_unit(text, number):
    assert size(text) == number


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5M", "M", "12T", "9" * 40])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(typer.BadParameter):
        size(text)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.json", "json"),
        ("a.MD", "markdown"),
        ("a.html", "html"),
        ("a.txt", "text"),
        ("a", "text"),
    ],
)
def test_the_file_name_chooses_the_format(name, form):
    assert pick_format(json=False, markdown=False, html=False, output=Path(name)) == form


def test_an_option_wins_over_the_file_name():
    assert pick_format(json=True, markdown=False, html=False, output=Path("a.md")) == "json"


@pytest.mark.parametrize("name", [".", "no/such/directory/a.html"])
def test_an_output_that_cannot_be_written_fails_before_the_work(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        check_output(Path(name))
    check_output(Path("fine.html"))
    check_output(None)


@pytest.mark.parametrize("form", ["text", "json", "markdown", "html"])
def test_a_file_gets_what_standard_output_would(resolution, tmp_path, capfdbinary, form):
    write_resolution(resolution, form, tmp_path / "out")
    write_resolution(resolution, form, None)
    assert (tmp_path / "out").read_bytes() == capfdbinary.readouterr().out


@pytest.mark.parametrize(("setting", "coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_colours_obey_the_usual_variables(resolution, monkeypatch, capfd, setting, coloured):
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(setting, "1")
    write_resolution(resolution, "text", None)
    assert ("\x1b[" in capfd.readouterr().out) is coloured


def test_settings_come_from_flags_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAGENT_MODEL", "from-env")
    monkeypatch.setenv("KAGENT_BASE_URL", "http://127.0.0.1:1/v1")
    settings = make_settings(model="from-flag", base_url=None)
    assert settings.model == "from-flag"
    assert settings.base_url == "http://127.0.0.1:1/v1"


def test_a_bad_setting_is_an_input_error(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAGENT_MODEL_TIMEOUT", "soon")
    with pytest.raises(InputError, match="setting model_timeout") as caught:
        make_settings()
    assert "KAGENT_MODEL_TIMEOUT" in str(caught.value.hint)
