"""Logs whose blanks are no longer the console's: copied from a web page, a mail, a chat."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kagent.klog import KernelLog, parse_log, reformat

LOGS = sorted((Path(__file__).parents[1] / "data" / "klog").glob("*.log"))
BLANKS = [
    "\xa0",
    "\u1680",
    "\u2000",
    "\u2002",
    "\u2003",
    "\u2007",
    "\u2009",
    "\u200a",
    "\u202f",
    "\u205f",
    "\u3000",
]


def _facts(log: KernelLog) -> list[object]:
    return [
        (r.title, r.kind, r.corrupted, r.context, [str(f) for _, f in r.all_frames()], r.registers)
        for r in log.reports
    ]


@pytest.mark.parametrize("path", LOGS, ids=[path.stem for path in LOGS])
def test_a_log_with_non_breaking_blanks_reads_as_any_other(path: Path) -> None:
    text = path.read_text("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
    spaced = text.replace(" ", "\u00a0")
    assert _facts(parse_log(spaced)) == _facts(parse_log(text))


@pytest.mark.parametrize("blank", BLANKS, ids=[f"U+{ord(one):04X}" for one in BLANKS])
def test_every_blank_of_unicode_is_one(blank: str) -> None:
    text = (LOGS[0].parent / "oops-null.log").read_text()
    assert _facts(parse_log(text.replace(" ", blank))) == _facts(parse_log(text))


def test_blanks_that_alternate_as_html_writers_make_them() -> None:
    text = (LOGS[0].parent / "oops-null.log").read_text()
    mixed = re.sub("  ", " \u00a0", text)
    assert _facts(parse_log(mixed)) == _facts(parse_log(text))


def test_a_latin_1_file_has_them_as_one_byte() -> None:
    raw = (LOGS[0].parent / "oops-null.log").read_bytes()
    assert _facts(parse_log(raw.replace(b" ", b"\xa0"))) == _facts(parse_log(raw))


def test_characters_without_a_width_do_not_count() -> None:
    text = (LOGS[0].parent / "oops-null.log").read_text()
    sprinkled = "\ufeff" + text.replace("+0x", "\u200b+0x")
    assert _facts(parse_log(sprinkled)) == _facts(parse_log(text))


def test_spans_point_into_the_bytes_as_given() -> None:
    text = (LOGS[0].parent / "oops-null.log").read_text().replace(" ", "\u00a0")
    quoted = "".join(f"\u00a0\u00a0{line}\n" for line in text.splitlines())
    data = quoted.encode()
    for report in parse_log(data).reports:
        for _, frame in report.all_frames():
            start, end = frame.span
            assert frame.symbol in data[start:end].decode()  # decodes: no character is cut
            assert data[end : end + 1] in (b"\n", b"\r", b"")


def test_reformat_gives_frames_plain_blanks_and_leaves_the_rest() -> None:
    text = "say\u00a0so\n[\u00a0\u00a01.000000]\u00a0\u00a0do_it+0x1/0x2\u00a0[mod]\n"
    once = reformat(text)
    assert once == "say\u00a0so\n[  1.000000][ T1] do_it+0x1/0x2 [mod]\n"
    assert reformat(once) == once
