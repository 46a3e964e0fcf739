"""The canonical call trace, by example and by property."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagent.klog import parse_log, reformat
from kagent.klog.frames import parse_frame
from kagent.klog.lines import split_lines

LOGS = sorted((Path(__file__).parents[1] / "data" / "klog").glob("*.log"))

PLAIN = """\
BUG: unable to handle page fault for address: ffffea60001db008
  CPU: 0 UID: 0 PID: 2199114 Comm: tee Not tainted 6.14.0+ #4
  RIP: 0010:split_huge_pmd_locked+0x3b5/0x2b60
  Call Trace:
  <TASK>
  try_to_migrate_one+0x28c/0x3730
  ? rmap_walk_anon+0x4f6/0x770 [fanctl]
"""


def test_a_trace_without_stamps_gets_the_constants() -> None:
    assert reformat(PLAIN) == PLAIN.replace(
        "try_to_migrate", "[1234.123][ T1] try_to_migrate"
    ).replace("? rmap_walk", "[1234.123][ T1] ? rmap_walk")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("__schedule+0x1755/0x4f50", "[1234.123][ T1] __schedule+0x1755/0x4f50"),
        (
            "[   57.769352][   T61]        stat_snapshot+0x30/0x40 [portstat]\r",
            "[   57.769352][   T61] stat_snapshot+0x30/0x40 [portstat]\r",
        ),
        (
            "[   33.960660]  __schedule+0x34d/0xa00",
            "[   33.960660][ T1] __schedule+0x34d/0xa00",
        ),
        (
            "[  5.1] [<ffffffff81234567>] ? do_sys_open+0x12/0x34",
            "[  5.1][ T1] ? do_sys_open+0x12/0x34",
        ),
        (
            "Nov 12 10:11:12 box kernel:  vfs_read+0x1/0x2",
            "Nov 12 10:11:12 box kernel: [1234.123][ T1] vfs_read+0x1/0x2",
        ),
        (  # what a program wrote to /dev/kmsg; printk() stamps it as it does its own
            "<12>[   33.960660] vfs_read+0x1/0x2",
            "<12>[   33.960660][ T1] vfs_read+0x1/0x2",
        ),
        (">  vfs_read+0x1/0x2", ">  [1234.123][ T1] vfs_read+0x1/0x2"),
        (
            "([<000003ff8012a0b6>] probe_one+0x36/0xb0 [tool])",
            "[1234.123][ T1] ? probe_one+0x36/0xb0 [tool]",
        ),
        (
            "[<c05d1e10>] (get_value) from [<c05d9a0c>] (event_read+0x94/0xd8)",
            "[1234.123][ T1] event_read+0x94/0xd8",
        ),
        (
            " arm_write from vfs_write+0x10/0x20 fs/read_write.c:7 [portstat]",
            " [1234.123][ T1] vfs_write+0x10/0x20 fs/read_write.c:7 [portstat]",
        ),
        (
            "4,503,9000003,-,caller=T12; doze+0x20/0x40",
            "4,503,9000003,-,caller=T12;[9.000003][   T12] doze+0x20/0x40",
        ),
        ("4,503,9000003,-; doze+0x20/0x40", "4,503,9000003,-;[9.000003][ T1] doze+0x20/0x40"),
        (
            "[    1.250000] (CPU:0-pid:7:init) doze+0x20/0x40",
            "[    1.250000] (CPU:0-pid:7:init) [1.250000][    T7] doze+0x20/0x40",
        ),
        (
            " offline_css kernel/cgroup/cgroup.c:5129 [inline]",
            " [1234.123][ T1] offline_css kernel/cgroup/cgroup.c:5129 [inline]",
        ),
    ],
)
def test_one_line(line: str, expected: str) -> None:
    assert reformat(line) == expected
    assert reformat(expected) == expected


@pytest.mark.parametrize(
    "line",
    [
        "RIP: 0010:__put_user_4+0xd/0x20",
        "pc : spidisp_flush+0x38/0x120 [spidisp]",
        "LR is at gpiod_get_raw_value+0x20/0x3c",
        " #0: ffffffffc004b7d8 (&tbl.port_lock){+.+.}-{2:2}, at: port_reset+0xf/0x40 [portstat]",
        " f kernel/lo+0x191/0x5cking/mutex.c:679 [inline]",
        "PC is at cook arch/arm/pot.c:12 [inline]",
        "hardirqs last  enabled at (157): [<ffffffffa740134a>] asm_sysvec+0x1a/0x20",
        "[<8010a5b0>] (e) from [<8010a5c0>] (k+0x0/0xal)",
        " arm_write from vfs_write+0x10/0x20 [/]",
        "The call to vfs_read+0x1/0x2 looks odd, said the engineer.",
        "WARNING: CPU: 0 PID: 55 at lib/refcount.c:25 refcount_warn_saturate+0x74/0x110",
        "",
    ],
)
def test_other_lines_stay(line: str) -> None:
    assert reformat(line) == line


@pytest.mark.parametrize("path", LOGS, ids=[path.stem for path in LOGS])
def test_the_canonical_form_is_read_the_same(path: Path) -> None:
    text = path.read_text()
    before, after = parse_log(text), parse_log(reformat(text))
    assert [r.title for r in before.reports] == [r.title for r in after.reports]
    assert [r.fingerprint for r in before.reports] == [r.fingerprint for r in after.reports]
    if path.stem != "arm-oops":  # its lines name the callee, too
        for one, two in zip(before.reports, after.reports, strict=True):
            frames = [str(f) for f in one.call_frames]
            assert frames == [str(f) for f in two.call_frames]


@pytest.mark.parametrize("prefix", ["4,503,9000003,-,caller=T12;", "[9.000003] (CPU:0-pid:12:a) "])
def test_time_and_caller_said_again_are_read_the_same(prefix: str) -> None:
    line, again = f"{prefix} doze+0x20/0x40", reformat(f"{prefix} doze+0x20/0x40")
    (one,), (two,) = split_lines(line.encode()), split_lines(again.encode())
    assert (one.time, one.context) == (two.time, two.context) == (9.000003, "T12")
    assert [str(frame) for frame in parse_frame(two)] == ["doze+0x20/0x40"]


@pytest.mark.parametrize("indent", ["\t", " \t", "> \t\t", " " * 32, "\t" * 32])
def test_an_indented_line_keeps_its_frame(indent: str) -> None:
    (line,) = split_lines(reformat(f"{indent}doze+0x20/0x40").encode())
    assert [str(frame) for frame in parse_frame(line)] == ["doze+0x20/0x40"]


def test_a_line_that_a_program_wrote_keeps_its_frame() -> None:
    (line,) = split_lines(reformat("Jun 19 16:23:33 host init[1]: doze+0x20/0x40").encode())
    assert [str(frame) for frame in parse_frame(line)] == ["doze+0x20/0x40"]


def test_bytes_that_are_no_text_are_read_as_in_a_file() -> None:
    blank = b"doze+0x20/0x40 nap\xa0per/core.c:6566".decode("utf-8", "surrogateescape")
    assert reformat(blank) == blank, "U+00A0 of Latin-1 is a blank, and so this is no frame"
    assert reformat("doze+0x20/0x40 nap\ud800per/core.c:66") != "", "what stands for no byte"


_FRAME = st.sampled_from(
    ["foo+0x1/0x2", "? bar.isra.0+0x10/0x20 [mod]", "x+0x", "[inline]", "f c:1"]
)
_PREFIX = st.sampled_from(
    [
        "",
        " ",
        "[ 1.5]",
        "[    1.500000][    T1] ",
        "[1234.123][ T1] ",
        "> ",
        "<4>",
        "\t",
        "[x]",
        "\x1b[m",
    ]
)
_LINES = st.tuples(
    _PREFIX, _PREFIX, st.one_of(_FRAME, st.text(max_size=30)), st.sampled_from(["", "\r"])
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_LINES.map("".join), max_size=8).map("\n".join))
def test_idempotent_and_line_by_line(text: str) -> None:
    once = reformat(text)
    assert reformat(once) == once
    before, after = text.split("\n"), once.split("\n")
    assert len(before) == len(after)
    for one, two in zip(before, after, strict=True):
        if "+0x" not in one and "[inline]" not in one:
            assert one == two
        if one != two:
            assert two.startswith(one[: len(one) - len(one.lstrip())])
            assert two.endswith("\r") == one.endswith("\r")
