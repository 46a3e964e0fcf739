"""Where a log may come from: the same report in other clothes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from kagent.klog import Report, parse_log
from kagent.klog.lines import peel

LOGS = sorted((Path(__file__).parents[1] / "data" / "klog").glob("*.log"))
STAMP = re.compile(r"^\[ *(\d+\.\d+)\](\[ *[CT]\d+\])? ?")


def _bare(line: str) -> str:
    return STAMP.sub("", line)


def _kmsg(line: str) -> str:
    match = STAMP.match(line)
    if match is None:
        return line
    caller = f",caller={match[2].strip('[ ]')}" if match[2] else ""
    return f"4,1234,{int(float(match[1]) * 1e6)},-{caller};{line[match.end() :]}"


def _colour(line: str) -> str:
    match = STAMP.match(line)
    return f"\x1b[32m{match[0]}\x1b[0m{line[match.end() :]}\x1b[m\r" if match else line + "\r"


CLOTHES: dict[str, Callable[[str], str]] = {
    "syslog": lambda line: f"Nov 12 10:11:12 box kernel: {line}",
    "journal": lambda line: f"Nov 12 10:11:12 box kernel: {_bare(line)}",
    "iso syslog": lambda line: f"2025-11-12T10:11:12.123456+01:00 box kernel: {line}",
    "openwrt": lambda line: f"Wed Nov 12 10:11:12 2025 kern.warn kernel: {line}",
    "dmesg -T": lambda line: STAMP.sub("[Wed Nov 12 10:11:12 2025] ", line),
    "dmesg -x": lambda line: f"kern  :warn  : {line}" if STAMP.match(line) else line,
    "level": lambda line: f"<4>{line}" if STAMP.match(line) else line,
    "/dev/kmsg": _kmsg,
    "mail quote": lambda line: f"> {line}",
    "deep quote": lambda line: f">> | {line}",
    "no stamps": _bare,
    "indented": lambda line: "    " + _bare(line),
    "terminal": _colour,
}


def _facts(report: Report) -> tuple[object, ...]:
    return (
        report.title,
        report.kind,
        report.corrupted_reason,
        report.message,
        report.access,
        len(report.registers),
        [str(frame) for frame in report.call_frames],
        [(trace.role, len(trace.frames)) for trace in report.traces],
        (report.context.task, report.context.pid, report.context.kernel, report.context.arch),
    )


@pytest.mark.parametrize("clothes", CLOTHES)
@pytest.mark.parametrize("path", LOGS, ids=[path.stem for path in LOGS])
def test_the_same_facts(path: Path, clothes: str) -> None:
    text = path.read_text()
    if clothes in ("journal", "no stamps", "indented") and path.stem == "kasan-uaf":
        text = "".join(line for line in text.splitlines(True) if "unrelated" not in line)
    dressed = "\n".join(CLOTHES[clothes](line) for line in text.split("\n"))
    expected = [_facts(r) for r in parse_log(text).reports]
    assert [_facts(r) for r in parse_log(dressed).reports] == expected


def test_lines_folded_by_a_mail_client() -> None:
    text = (LOGS[0].parent / "oops-null.log").read_text()
    folded = "\n".join(
        "\n".join("> " + part for part in textwrap.wrap(line, 74, break_on_hyphens=False) or [""])
        for line in text.split("\n")
    )
    one, two = parse_log(text).reports[0], parse_log(folded).reports[0]
    assert (one.title, one.context, one.registers) == (two.title, two.context, two.registers)
    assert [str(f) for f in one.call_frames] == [str(f) for f in two.call_frames]


def test_a_folded_header_without_stamps() -> None:
    log = parse_log(
        "BUG: unable to handle page fault for\naddress: ffffc90000000008\nRIP: 0010:f+0x1/0x2\n"
    )
    assert log.reports[0].title.startswith("BUG: unable to handle kernel paging request")
    assert log.reports[0].access is not None
    assert log.reports[0].access.address == 0xFFFFC90000000008


def test_a_folded_header_takes_a_function_only() -> None:
    header = "WARNING: CPU: 0 PID: 1 at drivers/widget/main.c:9\n"
    trace = (
        "RIP: 0010:widget_apply+0x1/0x2\nCall Trace:\n widget_write+0x1/0x2\n vfs_write+0x1/0x2\n"
    )
    folded = parse_log(header + "widget_apply+0x1/0x2 [widget]\n" + trace).reports[0]
    assert folded.header.endswith("main.c:9 widget_apply+0x1/0x2 [widget]")
    whole = parse_log(header + trace).reports[0]
    assert whole.header.endswith("main.c:9")
    assert whole.title == folded.title == "WARNING in widget_apply"
    assert whole.call_frames[0].symbol == "widget_apply"


def test_what_user_space_prints_between_is_not_folded_in() -> None:
    line = "[   60.000001] BUG: no such mode in the widget that was found at boot\n"
    rest = "[   60.000002] ok\n"
    folded = parse_log(line + "time\n" + rest).reports[0]
    assert folded.title == "BUG: no such mode in the widget that was found at boot time"
    mixed = parse_log(line + "time\n" + rest + "executing program\n" + rest).reports[0]
    assert mixed.title == "BUG: no such mode in the widget that was found at boot"


def test_prose_around_a_report() -> None:
    text = (LOGS[0].parent / "arm-oops.log").read_text()
    log = parse_log(
        f"Hello,\n\nour board dies like this:\n\n{text}\nThanks, and best regards\nAnna\n"
    )
    assert [r.title for r in log.reports] == [r.title for r in parse_log(text).reports]
    assert log.reports[0].span[1] < len(text) + 50


@pytest.mark.parametrize(
    ("line", "text", "time", "context"),
    [
        ("[    1.250000] x", "x", 1.25, "console"),
        ("[    1.250000][   T61] x", "x", 1.25, "T61"),
        ("[    1.250000][    C0] x", "x", 1.25, "C0"),
        ("** 12 printk messages dropped ** [    1.250000] x", "x", 1.25, "console"),
        ("box login: [    1.250000] x", "x", 1.25, "console"),
        ("<6>[    1.250000] (CPU:0-pid:7:init) x", "x", 1.25, "T7"),
        ("[    1.250000]  (2)[81:kworker/2:1]x", None, None, ""),
        ("[1234.123][ T1] x", "x", None, ""),
        ("<12>[    1.5][   T61] said", "said", 1.5, "user"),
        ("<12>[    1.5][ T1] said", "said", 1.5, "user"),
        ("[1.0]x", "[1.0]x", None, ""),
        ("11-12 10:11:12.123     0     0 E         : [    1.250000] x", "x", 1.25, "console"),
        ("plain words", "plain words", None, ""),
    ],
)
def test_prefixes(line: str, text: str | None, time: float | None, context: str) -> None:
    raw = line.encode()
    size, stamp, found = peel(raw)
    if text is not None:
        assert (raw[size:].decode(), stamp, found) == (text, time, context)
