"""Which lines of a log state frames, and what is written behind them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.kernel_elf import RELEASE, build_module, build_vmlinux

from kagent.klog.model import Frame
from kagent.symbols import Location, Symbolizer
from kagent.symbols.annotate import MARGIN, Decoding, annotate, frame_lines, spell
from kagent.symbols.dwarf import drgn_available
from kagent.symbols.objects import open_object

pytestmark = pytest.mark.skipif(not drgn_available(), reason="drgn has no wheel here")

ANNOTATION = re.compile(
    rb" at [^\n]*?\.[ch]:\d+(?:(?: in \w+, inlined at| from) [^\n]*?\.[ch]:\d+)*"
    rb"(?: \(approximate\))?(?=\r*(?:\n|\Z))"
)
BELOW = re.compile(rb"\r*\n" + re.escape(MARGIN.encode()) + rb"[^\r\n]*")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("build")
    build_vmlinux(root)
    build_module(root / "modules")
    return root


@pytest.fixture(scope="module")
def symbolizer(build: Path) -> Symbolizer:
    return Symbolizer.open(build / "vmlinux", build / "modules", release=RELEASE)


def place(file: Path, symbol: str, offset: int | None = None) -> str:
    """``symbol+0xoff/0xsize`` as a trace of this very build prints it; its end by default."""
    (found,) = open_object(file).find(symbol)
    size = found.extent or found.size
    return f"{symbol}+{found.size - 1 if offset is None else offset:#x}/{size:#x}"


@pytest.fixture(scope="module")
def fan(build: Path) -> str:
    return place(build / "modules" / "fan-ctl.ko", "fan_apply") + " [fan_ctl]"


@pytest.fixture(scope="module")
def widget(build: Path) -> str:
    return place(build / "vmlinux", "widget_poll")


def decoded(text: str, symbolizer: Symbolizer) -> str:
    data = text.encode()
    return annotate(data, symbolizer).apply(data).decode()


def strip(data: bytes) -> bytes:
    """What a reader does to get the log back."""
    return ANNOTATION.sub(b"", BELOW.sub(b"", data))


def frames(text: str) -> list[Frame]:
    return [frame for line in frame_lines(text.encode()) for frame in line.frames]


def test_the_innermost_function_comes_first(
    symbolizer: Symbolizer, widget: str, build: Path
) -> None:
    text = decoded(f"[    1.000000]  {widget}\n", symbolizer)
    assert re.fullmatch(
        rf"\[    1\.000000\]  {re.escape(widget)} at init/main\.c:(?:\d+ in widget_kind, "
        r"inlined at init/main\.c:)?\d+\n",
        text,
    )


def test_a_chain_reads_from_the_inside_out() -> None:
    chain = [Location("lookup", "a.h", 12), Location("check", "b.h", 3), Location("f", "c.c", 9)]
    words = "a.h:12 in lookup, inlined at b.h:3 in check, inlined at c.c:9"
    assert spell(chain, lambda at: f"{at.file}:{at.line}") == words
    assert spell(chain[-1:], lambda at: f"{at.file}:{at.line}") == "c.c:9"


@pytest.mark.parametrize(
    "line",
    [
        "[    1.000000] RIP: 0010:{}",
        " ? {}",
        "[    1.0] [    T1]  {}",
        "BUG: KASAN: slab-use-after-free in {}",
        "lr : {}",
        "ffffffffc004b818 (&tbl.lock){{+.+.}}-{{2:2}}, at: {}",
        "hardirqs last  enabled at (157): [<ffffffff81000010>] {}",
        "kernel: [    5.1] WARNING: CPU: 1 PID: 9 at init/main.c:7 {}",
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r\r\n"])
def test_every_line_that_ends_with_a_place_is_decoded(
    symbolizer: Symbolizer, fan: str, line: str, end: str
) -> None:
    before = line.format(fan)
    after = decoded(before + end, symbolizer)
    assert re.fullmatch(re.escape(before) + r" at .*fan\.c:\d+" + re.escape(end), after)


@pytest.mark.parametrize(
    "line",
    [
        "initcall {} returned 0 after 3 usecs",
        "RIP: 0033:0x431260",
        " {} at fan.c:13",
        " fan_apply+0x5/0x20 drivers/fan.c:12 [fan_ctl]",
        " fan_lookup drivers/fan.c:7 [inline]",
    ],
)
def test_other_lines_stay(symbolizer: Symbolizer, fan: str, line: str) -> None:
    text = line.format(fan) + "\n"
    assert decoded(text, symbolizer) == text


def test_decoding_again_changes_nothing(symbolizer: Symbolizer, fan: str, widget: str) -> None:
    once = decoded(f"RIP: 0010:{fan}\n {widget}\nlr : {widget}\n", symbolizer)
    assert once.count(" at ") == 3
    assert decoded(once, symbolizer) == once


def test_a_stack_that_begins_with_the_trapping_instruction() -> None:
    text = "pc : a+0x10/0x40\nlr : b+0x4/0x8\nCall trace:\n a+0x10/0x40\n b+0x4/0x8\n"
    assert [(f.symbol, f.exact) for f in frames(text)] == [
        ("a", True),
        ("b", False),
        ("a", True),
        ("b", False),
    ]
    (warned,) = frames("WARNING: CPU: 1 PID: 9 at mm/x.c:7 foo+0x2/0x9\n")
    assert warned.exact


def test_both_frames_of_an_arm_line(symbolizer: Symbolizer, fan: str, widget: str) -> None:
    text = decoded(f" {fan} from {widget}\n", symbolizer)
    assert re.search(r" at .*fan\.c:\d+ from init/main\.c:\d+", text)
    assert strip(text.encode()).decode() == f" {fan} from {widget}\n"


def test_reasons_are_counted_and_repetitions_asked_once(symbolizer: Symbolizer, fan: str) -> None:
    data = f" {fan}\n {fan}\n gone+0x1/0x2\n far+0x1/0x2 [nowhere]\n far+0x1/0x2 [nowhere]\n"
    found = annotate(data.encode(), symbolizer)
    assert (found.frames, found.decoded, found.approximate) == (5, 2, 0)
    assert found.reasons["gone is not in vmlinux"] == 1
    (elsewhere,) = (n for reason, n in found.reasons.items() if "nowhere.ko" in reason)
    assert elsewhere == 2


def test_another_build_is_marked(build: Path, fan: str) -> None:
    data = f" {fan}\n".encode()
    with Symbolizer.open(None, build / "modules", release="9.9", allow_mismatch=True) as other:
        found = annotate(data, other)
    assert (found.decoded, found.approximate) == (1, 1)
    assert found.apply(data).endswith(b" (approximate)\n")


def test_frames_of_the_other_kernel_of_a_log_stay(symbolizer: Symbolizer, fan: str) -> None:
    boots = [f"Linux version {release} (x@y) #1 SMP\n {fan}\n" for release in (RELEASE, "5.10.7")]
    data = "".join([f" {fan}\n", *boots, boots[0]]).encode()
    found = annotate(data, symbolizer)
    assert (found.frames, found.decoded) == (4, 3)
    assert found.reasons == {f"it is of kernel 5.10.7, not of {RELEASE}": 1}
    lines = found.apply(data).decode().splitlines()
    assert [".c:" in line for line in lines] == [True, False, True, False, False, False, True]


def test_lines_below_keep_the_line_ends(symbolizer: Symbolizer, fan: str) -> None:
    data = f"x\r\n {fan}\r\ny".encode()
    found = annotate(data, symbolizer, below=lambda _: ["one", "two"])
    text = found.apply(data)
    assert re.fullmatch(rb"x\r\n .* at .*\r\n    \| one\r\n    \| two\r\ny", text)
    assert strip(text) == data


def test_nothing_to_decode() -> None:
    assert Decoding().apply(b"any\xff text") == b"any\xff text"
    assert frame_lines(b"") == []


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_taking_the_annotations_out_gives_the_log_back(
    data: st.DataObject, build: Path, fan: str, widget: str
) -> None:
    spelled = [f" {fan}", f"RIP: 0010:{widget}", f" ? {widget}", f" {fan} from {widget}"]
    known = st.sampled_from([f"[    1.0] {text}".encode() for text in spelled])
    noise = st.binary(max_size=40) | st.sampled_from([b" gone+0x1/0x2", b"\xff+0x1/0x2"])
    ends = st.sampled_from([b"\n", b"\r\n", b""])
    log = b"".join(data.draw(st.lists(known | noise | ends, max_size=12)))
    assume(b" at" not in log)  # the reader below could not tell whose it is
    with Symbolizer.open(build / "vmlinux", build / "modules", allow_mismatch=True) as symbolizer:
        found = annotate(log, symbolizer, below=lambda _: ["| at x.c:1"])
    assert strip(found.apply(log)) == log
    assert found.frames == found.decoded + found.reasons.total()


def test_a_long_line_costs_linear_time() -> None:
    for text in ("a" * 2_000_000, "a+0x1/" * 300_000, "+0x1/0x1 " * 200_000, "[<" * 900_000):
        assert frame_lines(text.encode() + b"+0x") == []
