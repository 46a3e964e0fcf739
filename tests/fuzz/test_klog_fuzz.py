"""The fuzzer for some seconds, and that its invariants can fail at all."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import klog_invariants
import pytest
from klog_invariants import BrokenInvariantError, check, check_parse, check_reformat

from kagent.klog import parse_log

HERE = Path(__file__).resolve().parent
SEEDS = sorted((HERE / "seeds").glob("*.log"))


@pytest.mark.fuzz
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install it"
)
def test_fuzzing_finds_nothing(tmp_path: Path) -> None:
    seconds = int(os.environ.get("KAGENT_FUZZ_SECONDS", "5"))
    # One seed, so that a change is judged by what it did; other seeds are for runs by hand.
    done = subprocess.run(
        [sys.executable, HERE / "klog_fuzz.py", f"-max_total_time={seconds}", "-seed=1"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        cwd=tmp_path,  # where libFuzzer leaves the input that broke something
        capture_output=True,
        timeout=seconds + 120,
    )
    log = done.stderr.decode("utf-8", "replace")
    assert done.returncode == 0, log[-4000:]
    runs = re.search(r"Done (\d+) runs", log)
    assert runs is not None, log[-4000:]
    assert int(runs[1]) > len(SEEDS)


@pytest.mark.parametrize("path", SEEDS, ids=[path.stem for path in SEEDS])
def test_a_seed_holds_a_report_and_every_invariant(path: Path) -> None:
    data = path.read_bytes()
    check(data)
    assert parse_log(data).reports or b"+0x" in data


def test_every_word_of_the_dictionary_is_in_its_syntax() -> None:
    lines = (HERE / "kernel.dict").read_text("ascii").splitlines()
    for line in lines:
        assert re.fullmatch(r'#.*|"(?:[^"\\]|\\\\|\\"|\\x[0-9a-f]{2})+"', line), line
    assert len(set(lines)) == len(lines) > 150


OOPS = b"""\
BUG: kernel NULL pointer dereference, address: 0
RIP: 0010:f+0x1/0x2
Call Trace:
 g+0x1/0x2"""


def test_a_span_that_is_too_short_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    def cut(data: bytes) -> object:
        log = parse_log(data)
        short = [dataclasses.replace(r, span=(r.span[0], r.span[0] + 9)) for r in log.reports]
        return dataclasses.replace(log, reports=tuple(short))

    check_parse(OOPS)
    monkeypatch.setattr(klog_invariants, "parse_log", cut)
    with pytest.raises(BrokenInvariantError, match="span holds its report"):
        check_parse(OOPS)


FOLDABLE = b"""\
%sBUG: memory leak
unreferenced object 0xffff888001020300 (size 64):
[    1.000000]   comm "hoard", pid 12, jiffies 4294940000, 12 s ago
backtrace (crc 1234abcd):
    stash+0x20/0x40
"""


def test_only_a_span_that_alone_looks_folded_may_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    log = FOLDABLE % (b"[    0.900000] " + b"long " * 20 + b"\n")
    start, end = parse_log(log).reports[0].span
    assert parse_log(log[start:end]).reports[0].title != parse_log(log).reports[0].title
    check_parse(log)
    check_parse(FOLDABLE % b"")
    monkeypatch.setattr(klog_invariants, "_folds_otherwise", lambda *_: False)
    with pytest.raises(BrokenInvariantError, match="span holds its report"):
        check_parse(log)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("same line count", lambda text: text.replace("\n", "\n\n")),
        ("only trace lines change", lambda text: text.replace("BUG", "bug")),
        ("a trace line keeps its frame", lambda text: text.replace(" g+0x1", " h+0x1")),
        ("idempotent", lambda text: text.replace(" g+0x1", " [1.0] g+0x1")),
        ("line ends stay", lambda text: text.replace(" g+0x1/0x2", "  g+0x1/0x2\r")),
    ],
)
def test_a_reformat_that_damages_a_log_is_noticed(
    name: str, change: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_reformat(OOPS.decode())
    monkeypatch.setattr(klog_invariants, "reformat", change)
    with pytest.raises(BrokenInvariantError, match=name):
        check_reformat(OOPS.decode())
