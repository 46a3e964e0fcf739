"""Nobody attacks: something breaks. Every expert fails in turn, the disk is full, files vanish.

There is a result each time, which says what it lacks, or one clear line and the right exit code.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kagent
import kagent.agents.graph
import kagent.cli.output
import kagent.decoding
from kagent.boundary import EXPERTS, attempt, collecting, describe, expert, nothing
from kagent.cli.main import main
from kagent.demo.runner import SAMPLES, Unpacked, unpack
from kagent.errors import EXIT_CODES, InputError, MissingDataError, OutputError
from kagent.resolution import Resolution
from kagent.settings import Settings

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "tests" / "fuzz" / "seeds"
SECRET = "what the log says"


def _panic() -> BaseException:
    """As a library in Rust throws it, past `Exception`."""
    kind = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    found = kind("index out of bounds")
    assert isinstance(found, BaseException)
    return found


ERRORS: dict[str, Callable[[], BaseException]] = {
    "value": lambda: ValueError(f"bad \x1b[31mvalue\nin {SECRET}"),
    "memory": MemoryError,
    "recursion": lambda: RecursionError("maximum recursion depth exceeded"),
    "panic": _panic,
}
WORDS = {"summary", "explanation", "findings", "evidence", "actions"}
DECODED = {"fault", "memory", "deadlock", "fixes", "subsystem", "missing", "reports"} | WORDS
DEPENDENTS: dict[str, set[str]] = {
    "reformat": {"reformatted"},
    "debug info": DECODED | {"notes"},
    "kernel source": DECODED | {"notes"},
    "source map": DECODED,
    "index": {"fixes"} | WORDS,
    "symbols": DECODED,
    "subsystem": {"subsystem", "actions"},
    "functions": {"evidence", "findings"},
    "fault": {"fault", "fixes"} | WORDS,
    "memory": {"memory", "fixes"} | WORDS,
    "locks": {"deadlock"} | WORDS,
    "query": {"fixes"} | WORDS,
    "blame": {"fixes"} | WORDS,
    "explanation": {"summary", "explanation", "findings", "evidence"},
    "fix status": {"fixes", "actions"},
    "advice": {"actions"},
    "missing data": {"missing"},
    "markdown view": set(),
    "view": set(),
}
"""What may change when a part fails. A new expert fails its test until it stands here."""


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """A crash with its module, source, history and commit index."""
    from kagent.commits import CommitIndex

    found = unpack(SAMPLES["tidelink"], tmp_path_factory.mktemp("case"))
    assert found.repository is not None
    assert found.index is not None
    CommitIndex.build(found.repository, found.index).close()
    return found


@pytest.fixture(params=["oops", "lockdep", "hung"])
def log(request: pytest.FixtureRequest, case: Unpacked) -> Path:
    return case.log if request.param == "oops" else SEEDS / f"{request.param}.log"


def settings_of(case: Unpacked) -> Settings:
    return Settings(modules=case.modules, kernel_src=case.kernel_src, index=case.index)


def facts(res: Resolution) -> dict[str, Any]:
    found = res.model_dump(mode="json")
    return {key: found[key] for key in found if key not in ("usage", "failures", "incomplete")}


@pytest.fixture(scope="module")
def undisturbed(case: Unpacked) -> Callable[[Path], dict[str, Any]]:
    """The facts of a run in which nothing fails, by log."""
    known: dict[Path, dict[str, Any]] = {}

    def run(log: Path) -> dict[str, Any]:
        if log not in known:
            res = kagent.analyze(log, settings=settings_of(case))
            assert (res.incomplete, res.failures) == (False, [])
            known[log] = facts(res)
        return known[log]

    return run


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[str]]:
    """``broken(part, error)`` makes an expert raise; the list grows by each call of it."""

    def make(part: str, error: str) -> list[str]:
        calls: list[str] = []

        def raising(*_args: Any, **_kwargs: Any) -> Any:
            calls.append(part)
            raise ERRORS[error]()

        monkeypatch.setattr(EXPERTS[part], "function", raising)
        return calls

    return make


CALLED: dict[str, int] = {}


@pytest.mark.parametrize("part", sorted(EXPERTS))
def test_an_expert_that_fails_costs_its_part(part, log, case, undisturbed, broken):
    before = undisturbed(log)
    calls = broken(part, "value")
    res = kagent.analyze(log, settings=settings_of(case))
    CALLED[part] = CALLED.get(part, 0) + len(calls)
    after = facts(res)
    changed = {key for key in before if before[key] != after[key]}
    if not calls:
        assert (changed, res.incomplete, res.failures) == (set(), False, [])
        return
    assert changed <= DEPENDENTS[part]
    assert res.incomplete
    (failure,) = res.failures
    assert failure.part == part
    assert failure.error == f"ValueError: bad value in {SECRET}"
    assert failure.trace
    assert not any(SECRET in call or str(ROOT) in call for call in failure.trace)


def test_every_expert_was_called_by_one_of_the_logs():
    """Runs after the ones above; a view of the command line has its own test."""
    if set(CALLED) != set(EXPERTS):
        pytest.skip("only some of the tests above were run here")
    assert [part for part, count in CALLED.items() if not count] == ["view"]


@pytest.mark.parametrize("error", sorted(set(ERRORS) - {"value"}))
@pytest.mark.parametrize("part", sorted(EXPERTS))
def test_whatever_it_raises(part, error, case, broken):
    calls = broken(part, error)
    res = kagent.analyze(case.log, settings=settings_of(case))
    assert [failure.part for failure in res.failures] == ([part] if calls else [])
    assert res.incomplete == bool(calls)
    assert res.reports


@pytest.mark.parametrize("part", ["fault", "symbols", "index", "advice"])
def test_an_asynchronous_run_is_bounded_too(part, case, broken):
    calls = broken(part, "value")
    res = asyncio.run(kagent.aanalyze(case.log, settings=settings_of(case)))
    assert calls
    assert [failure.part for failure in res.failures] == [part]


NODES = {
    "kagent.agents.classify.classify_report": ("classify node", "oops"),
    "kagent.agents.case.frames_of": ("general_analyzer node", "oops"),
    "kagent.agents.tools.source_evidence": ("lookup_source", "oops"),
    "kagent.agents.tools.commit_evidence": ("search_commits", "oops"),
    "kagent.agents.deadlock.fold_tasks": ("split_tasks node", "hung"),
    "kagent.agents.deadlock.analyse_stack": ("task_analyzer node", "hung"),
    "kagent.agents.deadlock.build_wait_graph": ("wait_graph node", "hung"),
    "kagent.agents.synthesizer.report_views": ("synthesizer node", "oops"),
    "kagent.agents.reformat.parse_log": ("reformat node", "oops"),
}


@pytest.mark.parametrize("target", NODES)
def test_a_node_or_tool_that_fails_as_a_whole_still_leads_to_a_resolution(
    target, case, monkeypatch
):
    part, name = NODES[target]
    log = case.log if name == "oops" else SEEDS / f"{name}.log"
    expected = kagent.analyze(log, settings=settings_of(case))

    def raising(*_args: Any, **_kwargs: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(target, raising)
    res = kagent.analyze(log, settings=settings_of(case))
    assert res.incomplete
    assert part in [failure.part for failure in res.failures]
    if part != "reformat node":
        assert [r.title for r in res.reports] == [r.title for r in expected.reports]


def test_a_deadlock_is_not_denied_when_tasks_could_not_be_read(case, monkeypatch):
    expected = kagent.analyze(SEEDS / "hung.log").deadlock
    assert expected is not None
    assert expected.verdict == "not-a-deadlock"
    for target in ("fold_tasks", "analyse_stack"):
        with monkeypatch.context() as patch:
            patch.setattr(f"kagent.agents.deadlock.{target}", None)
            res = kagent.analyze(SEEDS / "hung.log")  # the whole log is read at once then
            assert res.incomplete
            assert res.deadlock == expected
            patch.setattr("kagent.agents.case.wait_facts", None)
            res = kagent.analyze(SEEDS / "hung.log")
            assert res.incomplete
            assert res.deadlock is None


def test_one_report_that_cannot_be_read_costs_that_report(monkeypatch):
    from kagent.klog import parser

    log = "".join((SEEDS / f"{name}.log").read_text() for name in ("null", "atomic", "warn"))
    expected = [report.title for report in kagent.parse_log(log).reports]
    assert len(expected) > 2
    freeze = parser.freeze
    count = iter(range(100))

    def second_fails(*args: Any, **named: Any) -> Any:
        if next(count) == 1:
            raise IndexError("list index out of range")
        return freeze(*args, **named)

    monkeypatch.setattr(parser, "freeze", second_fails)
    res = kagent.analyze(log)
    assert [report.title for report in res.reports] == [expected[0], *expected[2:]]
    assert [failure.part for failure in res.failures] == ["parse"]


def test_what_a_model_said_is_dropped_when_it_cannot_be_checked():
    from langgraph.runtime import Runtime

    from kagent.agents.verify import verify

    update = verify({"draft": object(), "model": "m"}, Runtime(context=Settings()))
    assert (update["draft"], update["model"]) == (None, "")
    assert update["failures"][0].part == "verify node"


def test_a_failure_goes_to_the_log_with_all_of_its_traceback(case, broken, caplog):
    broken("advice", "value")
    with caplog.at_level(logging.ERROR, "kagent"):
        kagent.analyze(SEEDS / "null.log")
    (record,) = caplog.records
    assert record.name == "kagent"
    assert record.exc_info is not None
    assert any(isinstance(one, logging.NullHandler) for one in logging.getLogger("kagent").handlers)


def test_a_failure_prints_nothing_by_itself(broken, capfd):
    broken("advice", "value")
    kagent.analyze(SEEDS / "null.log")
    assert capfd.readouterr() == ("", "")


# The boundary itself -----------------------------------------------------------------------------


@pytest.fixture
def declared() -> Iterator[None]:
    before = dict(EXPERTS)
    yield
    EXPERTS.clear()
    EXPERTS.update(before)


@pytest.mark.usefixtures("declared")
def test_where_nobody_collects_an_expert_raises_as_any_function():
    @expert("test", otherwise=nothing)
    def fails() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        fails()
    with collecting() as failures:
        assert fails() is None
    assert [failure.error for failure in failures] == ["KeyError: 'x'"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_wants_out_gets_out(error):
    def leaves() -> None:
        raise error

    with collecting() as failures, pytest.raises(error):
        attempt("test", leaves, nothing)
    assert failures == []


def test_what_is_raised_on_purpose_keeps_its_words_and_has_no_trace():
    found = describe("source", MissingDataError("no such revision", hint="fetch it"))
    assert (found.error, found.trace) == ("no such revision (fetch it)", [])


def test_a_trace_names_our_last_call_below_a_library_of_many():
    def deep(count: int) -> Any:
        return json.loads("[" * 100_000) if not count else deep(count - 1)

    with pytest.raises(RecursionError) as caught:
        deep(3)
    found = describe("test", caught.value)
    assert len(found.trace) <= 6
    assert not any(call.startswith("/") for call in found.trace)

    with pytest.raises(TypeError) as ours:
        kagent.parse_log(7)  # type: ignore[arg-type]
    assert any(call.startswith("klog/") for call in describe("test", ours.value).trace)


# The command line --------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """Exit code, output and messages of the program in this process."""
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kagent", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def data_of(case: Unpacked) -> list[object]:
    return ["--modules", case.modules, "--kernel-src", case.kernel_src, "--index", case.index]


@pytest.mark.parametrize("part", sorted(set(EXPERTS) - {"view", "locks"}))
def test_the_command_prints_what_stands_and_says_first_what_failed(part, case, run, broken):
    calls = broken(part, "value")
    code, out, err = run("analyze", case.log, *data_of(case), "--json")
    found = json.loads(out)
    assert code == 0
    assert calls
    assert found["incomplete"] is True
    assert [failure["part"] for failure in found["failures"]] == [part]
    line = f"kagent: incomplete: {part} failed (ValueError: bad value in {SECRET}); the rest stands"
    assert err.splitlines()[0] == line


@pytest.mark.parametrize("form", ["--json", "--markdown", "--html", "-q"])
def test_a_view_that_fails_falls_back_to_a_plain_one(form, run, broken):
    log = SEEDS / "null.log"
    title = kagent.analyze(log).reports[0].title
    broken("view", "value")
    code, out, err = run("analyze", log, form)
    assert code == 0
    assert title in out
    assert err.startswith("kagent: incomplete: view failed (")
    if form == "--json":
        assert json.loads(out)["schema"] == "kagent/1"


def test_strict_turns_gaps_into_an_error_after_all_is_written(run, broken):
    log = SEEDS / "null.log"
    assert run("analyze", log, "--strict", "--json")[0] == 0
    broken("advice", "value")
    code, out, err = run("analyze", log, "--strict", "--json")
    assert (code, json.loads(out)["incomplete"]) == (4, True)
    assert err.splitlines()[-1].startswith("kagent: error: the result is incomplete")


def test_strict_wants_the_model_that_was_asked_for(run):
    log, nobody = SEEDS / "null.log", "http://127.0.0.1:9/v1"
    model = ("--model", "m", "--base-url", nobody)
    told = (
        "the model m was asked for, and did not speak: the model endpoint http://127.0.0.1:9 "
        "cannot be reached (check --base-url (KAGENT_BASE_URL), or leave --model out)\n"
    )
    assert run("analyze", log, "-q", *model)[::2] == (0, f"kagent: {told}")
    assert run("analyze", log, "-q", "--strict", *model)[::2] == (4, f"kagent: error: {told}")


def test_an_endpoint_that_is_no_url_is_named_once(run):
    code, _, err = run("analyze", SEEDS / "null.log", "-q", "--model", "m", "--base-url", "foo")
    assert code == 0
    assert err == (
        "kagent: incomplete: model failed ('foo' is not an http or https URL "
        "(check --base-url (KAGENT_BASE_URL))); the rest stands\n"
    )


def test_decode_passes_the_log_on_when_it_cannot_decode(case, run, broken, monkeypatch):
    asked = ("decode", case.log, "--modules", case.modules)
    code, decoded, _ = run(*asked)
    log = case.log.read_bytes().decode("utf-8", "replace")
    assert code == 0
    assert decoded != log
    monkeypatch.setattr("kagent.symbols.Symbolizer.symbolize", None)
    code, out, err = run(*asked)
    assert (code, out) == (0, log)
    assert err.startswith("kagent: incomplete: symbols failed (TypeError: ")
    assert run(*asked, "--strict")[0] == 4


def test_a_module_that_cannot_be_read_costs_its_own_frames(case, monkeypatch):
    from kagent.symbols import Symbolizer

    real = Symbolizer.symbolize

    def fails(self: Symbolizer, frames: Any) -> Any:
        if any(frame.module is None for frame in frames):
            raise IndexError("damaged")
        return real(self, frames)

    monkeypatch.setattr(Symbolizer, "symbolize", fails)
    res = kagent.analyze(case.log, settings=settings_of(case))
    assert [failure.part for failure in res.failures] == ["symbols"]
    notes = {(f.module is None, f.note) for r in res.reports for f in r.frames if not f.line}
    assert (True, "decoding failed") in notes
    assert any(f.line and f.module == "tidelink" for r in res.reports for f in r.frames)


def test_an_mcp_tool_that_fails_says_so_in_one_line(monkeypatch):
    pytest.importorskip("mcp")
    from mcp.server.fastmcp.exceptions import ToolError

    from kagent.mcp_tools import run

    def find() -> None:
        raise ValueError("bad\nvalue")

    with pytest.raises(ToolError, match=r"^find failed at .*: ValueError: bad value$"):
        asyncio.run(run(find))


# Exit codes --------------------------------------------------------------------------------------


def test_the_exit_codes_of_help_are_those_of_the_table(run):
    _, out, _ = run("--help")
    shown = " ".join(out.split())
    told = " ".join(run("decode", "--help")[1].split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code:d} {meaning}" in shown
        assert f"{code:d} {meaning}" in told


def test_the_readme_names_the_exit_codes_of_the_table():
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    for code, meaning in EXIT_CODES.items():
        assert f"| {code:d} | {meaning} |" in readme


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["analyze", "{log}"], 0),
        (["parse", "{log}"], 0),
        (["reformat", "{log}"], 0),
        (["decode", "{log}", "--modules", "{modules}"], 0),
        (["demo", "--list"], 0),
        (["source", "lines", "tidelink.h:1", "--kernel-src", "{src}"], 0),
        (["index", "stats", "{index}"], 0),
        (["analyze", "{empty}"], 1),
        (["parse", "{empty}"], 1),
        (["index", "search", "{index}", "--log", "{empty}"], 1),
        (["analyze", "--no-such-option"], 2),
        (["decode", "--no-such-option"], 2),
        (["decode", "/no/such/log"], 2),
        (["reformat", "/no/such/log"], 2),
        (["demo", "--sample", "none"], 2),
        (["mcp", "--transport", "carrier-pigeon"], 2),
        (["index", "stats", "{modules}"], 2),
        (["decode", "{log}"], 3),
        (["source", "lines", "no/such/file.c:1", "--kernel-src", "{src}"], 3),
        (["fix-status", "0123456789ab", "--kernel-src", "{repository}"], 3),
    ],
)
def test_every_command_keeps_to_the_table(arguments, code, case, run, tmp_path):
    empty = tmp_path / "no-report.log"
    empty.write_text("[    1.0] usb 1-1: new device\n")
    given = {
        "log": case.log,
        "modules": case.modules,
        "src": case.kernel_src,
        "index": case.index,
        "repository": case.repository,
        "empty": empty,
    }
    found, _, err = run(*(word.format(**given) for word in arguments))
    assert (found, "Traceback" in err) == (code, False)


# Where the output goes ---------------------------------------------------------------------------


def program(command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command line with its redirections, as a process of its own."""
    line = re.sub(r"(?<![\w/])kagent ", f"{sys.executable} -m kagent ", command, count=1)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **{"cwd": ROOT, **options},
    )


COMMANDS = [
    "analyze {log} -q",
    "analyze {log} --json",
    "parse {log}",
    "parse --schema",
    "reformat {log}",
    "decode {log} --modules {modules}",
    "source lines tidelink.h:1 --kernel-src {src}",
    "index search {index} tide_frame_consume",
    "index export {index} --markdown",
    "index stats {index} --json",
    "version",
    "--version",
    "--help",
    "analyze --help",
    "decode --help",
]


def spelled(command: str, case: Unpacked) -> str:
    return "kagent " + command.format(
        log=case.log, modules=case.modules, src=case.kernel_src, index=case.index
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_or_closed_output_is_one_line(command, case):
    full = program(f"{spelled(command, case)} > /dev/full")
    assert full.returncode == 3
    said = [line for line in full.stderr.splitlines() if line.startswith("kagent: error: ")]
    assert said == ["kagent: error: standard output cannot be written: No space left on device"]
    closed = program(f"{spelled(command, case)} >&-")
    assert closed.returncode == 3
    assert "kagent: error: standard output is closed" in closed.stderr
    assert "Traceback" not in full.stderr + closed.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_left_ends_it_as_any_filter(command, case):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", *spelled(command, case).split()],
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 128 + signal.SIGPIPE
    assert "error" not in done.stderr


def test_a_result_with_nobody_to_hear_of_it(case):
    done = program(f"{spelled('decode {log} --modules {modules}', case)} 2>/dev/full")
    assert done.returncode == 0
    assert done.stdout
    assert program(f"{spelled('parse {log}', case)} 2>&-").returncode == 0


@pytest.mark.parametrize("form", ["out.json", "out.md", "out.html", "out.txt"])
def test_no_half_written_file_is_left(form, case, run, tmp_path, monkeypatch):
    """A file that no longer fits leaves what stood there before."""
    target = tmp_path / form
    target.write_text("before")
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))\n"
        "from kagent.cli.main import main\n"
        f"sys.argv = ['kagent', 'analyze', {str(SEEDS / 'null.log')!r}, '-o', {str(target)!r}]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 3
    *_, last = done.stderr.splitlines()
    assert last == f"kagent: error: {target} cannot be written: File too large"
    assert [path.name for path in tmp_path.iterdir()] == [form]
    assert target.read_text() == "before"


@pytest.mark.parametrize(
    "command",
    ["analyze {log}", "decode {log} --modules {modules}", "index export {index} --markdown"],
)
def test_an_output_file_on_a_full_device(command, case, tmp_path):
    done = program(f"{spelled(command, case)} -o /dev/full")
    assert done.returncode == 3
    assert "kagent: error: /dev/full cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert Path("/dev/full").is_char_device()


def test_a_file_keeps_its_mode_and_a_link_its_place(case, run, tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.touch(0o640)
    link.symlink_to(real)
    assert run("analyze", SEEDS / "null.log", "-o", link)[0] == 0
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert json.loads(real.read_text())["schema"] == "kagent/1"


def test_a_file_that_is_busy_is_written_in_place(tmp_path, monkeypatch):
    """As a file that is a mount point: nothing can be put beside it or in its place."""
    from kagent.cli.files import open_output, write_file

    target = tmp_path / "out"
    target.write_bytes(b"before")
    real = Path.open

    def no_neighbour(self: Path, *args: Any, **named: Any) -> Any:
        if self.name.endswith(".part"):
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **named)

    monkeypatch.setattr(Path, "open", no_neighbour)
    write_file(target, b"after")
    assert target.read_bytes() == b"after"

    def half() -> None:
        with open_output(target) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError):
        half()
    assert target.read_bytes() == b""
    with pytest.raises(InputError):
        write_file(tmp_path / "new", b"x")


# The machine -------------------------------------------------------------------------------------


def bare(**more: str) -> dict[str, str]:
    """An environment with next to nothing in it."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **more}


@pytest.mark.parametrize(
    "environment",
    [
        bare(),  # no HOME
        bare(HOME="/proc/nowhere"),
        bare(HOME="/no/such/home", XDG_CONFIG_HOME="/no/such", XDG_CACHE_HOME="/no/such"),
        bare(HOME="/", TMPDIR="/no/such/place"),
        bare(HOME="/", LANG="C", LC_ALL="C"),
        bare(HOME="/", LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"),
    ],
    ids=["no-home", "home-that-cannot-be", "no-such-home", "no-tmpdir", "lang-c", "ascii"],
)
def test_a_poor_environment_changes_no_fact(environment, case, undisturbed):
    line = " ".join(map(str, ["kagent analyze", case.log, *data_of(case), "--json"]))
    done = program(line, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert not found["incomplete"]
    assert found["fault"] == undisturbed(case.log)["fault"]


def test_closed_input_is_bad_input():
    done = program("kagent parse - <&-")
    assert done.returncode == 2
    assert done.stderr.startswith("kagent: error: standard input is empty")


def test_everything_closed_still_ends_by_the_table():
    assert program("kagent analyze - <&- >&- 2>&-").returncode == 2


def test_a_working_directory_that_is_gone(tmp_path):
    place = tmp_path / "gone"
    place.mkdir()
    done = program(f"cd {place} && rmdir {place} && PYTHONPATH={ROOT} kagent "
                   f"analyze {SEEDS / 'null.log'} --json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["incomplete"] is False


@pytest.mark.parametrize("what", ["modules", "repository", "index"])
def test_files_that_vanish_while_it_runs(what, case, tmp_path):
    """Each was there when the run began; from the first node on it is gone."""
    copied = tmp_path / "case"
    shutil.copytree(case.log.parent, copied)
    moved = Unpacked(
        log=copied / case.log.name,
        modules=copied / "modules",
        repository=copied / "tidelink",
        kernel_src=f"{copied / 'tidelink'}@{SAMPLES['tidelink'].revision}",
        index=copied / "index",
    )

    def vanish(node: str, _does: str) -> None:
        if node == "classify":
            shutil.rmtree(getattr(moved, what))

    res = kagent.analyze(moved.log, settings=settings_of(moved), progress=vanish)
    assert res.reports
    assert res.summary
    assert res.incomplete
    assert all("Traceback" not in failure.error for failure in res.failures)


def test_memory_that_runs_out_is_one_line(run, monkeypatch):
    def exhausted(*_args: Any, **_named: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("kagent.cli.inspect.read_log_bytes", exhausted)
    assert run("parse", "x")[::2] == (3, "kagent: error: out of memory\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("can't start new thread"), "can't start new thread: memory or processes"),
        (ModuleNotFoundError("No module named 'x'", name="x.y"), "the package x.y is missing"),
    ],
)
def test_what_the_machine_or_the_installation_lacks_is_one_line(run, monkeypatch, error, words):
    def lacking(*_args: Any, **_named: Any) -> None:
        raise error

    monkeypatch.setattr("kagent.cli.inspect.read_log_bytes", lacking)
    code, _, err = run("parse", "x")
    assert code == 3
    assert words in err
    assert "bug" not in err


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), ModuleNotFoundError("No module named 'kagent.x'", name="kagent.x")]
)
def test_a_bug_stays_one(run, monkeypatch, error):
    def wrong(*_args: Any, **_named: Any) -> None:
        raise error

    monkeypatch.setattr("kagent.cli.inspect.read_log_bytes", wrong)
    assert run("parse", "x")[0] == 70


def test_without_docstrings_it_says_what_is_needed(case):
    ended = program(f"kagent analyze -q {case.log}", env={**os.environ, "PYTHONOPTIMIZE": "2"})
    assert ended.returncode == 3
    assert "PYTHONOPTIMIZE=2" in ended.stderr


def test_a_temporary_directory_that_is_full_is_one_line(run, monkeypatch):
    def full(*_args: Any, **_named: Any) -> None:
        raise OSError(28, "No space left on device", "/tmp/kagent-demo-x/console.log")

    monkeypatch.setattr("kagent.demo.runner.unpack", full)
    code, _, err = run("demo", "-q")
    assert code == 3
    assert err == ("kagent: error: /tmp/kagent-demo-x/console.log: No space left on device\n")


_LITTLE_ROOM = """
import resource
from kagent.commits.vectors import load_faiss
from kagent.errors import MissingDataError
pages = int(open("/proc/self/statm").read().split()[0])
room = pages * resource.getpagesize() + {room}
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    load_faiss()
except MissingDataError as error:
    print("refused:", error)
else:
    print("loaded")
"""


@pytest.mark.parametrize(("room", "said"), [(150 << 20, "refused: "), (8 << 30, "loaded")])
def test_a_limit_of_address_space_does_not_crash_faiss(room: int, said: str) -> None:
    code = _LITTLE_ROOM.format(room=room)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(said)
