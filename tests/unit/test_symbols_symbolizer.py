"""Frames to lines, sizes to builds, offsets to members, on ELF files compiled here."""

from __future__ import annotations

import gzip
import lzma
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.kernel_elf import RELEASE, build_module, build_vmlinux, need, run

from kagent.errors import InputError, MismatchError, MissingDataError
from kagent.klog.model import Frame
from kagent.symbols import NO_VMLINUX, Location, Symbolizer
from kagent.symbols.dwarf import drgn_available
from kagent.symbols.elf import ElfImage
from kagent.symbols.files import ModuleDirectory, open_image_file
from kagent.symbols.model import UNNAMED
from kagent.symbols.symbolizer import _named
from kagent.symbols.tools import ToolDwarf

needs_drgn = pytest.mark.skipif(not drgn_available(), reason="drgn has no wheel here")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``vmlinux`` and ``modules/extra/fan-ctl.ko``."""
    root = tmp_path_factory.mktemp("build")
    build_vmlinux(root)
    build_module(root / "modules" / "extra")
    return root


@pytest.fixture
def symbolizer(build: Path) -> Symbolizer:
    return Symbolizer.open(build / "vmlinux", build / "modules", release=RELEASE)


@contextmanager
def image_of(path: Path) -> Iterator[ElfImage]:
    with open_image_file(path) as stream:
        image = ElfImage(stream, path)
        yield image
        image.close()


def frame_of(
    image: ElfImage, symbol: str, offset: int, *, module: str | None = None, exact: bool = False
) -> Frame:
    """A frame as a trace of this very build would print it."""
    found = image.find(symbol)[0]
    size = found.extent or found.size
    return Frame(symbol, offset, size, module, exact=exact)


@pytest.fixture(scope="module")
def kernel(build: Path) -> Iterator[ElfImage]:
    with image_of(build / "vmlinux") as image:
        yield image


@pytest.fixture(scope="module")
def module(build: Path) -> Iterator[ElfImage]:
    with image_of(build / "modules" / "extra" / "fan-ctl.ko") as image:
        yield image


def line_of(text: str, file: Path) -> int:
    return next(n for n, line in enumerate(file.read_text().splitlines(), 1) if text in line)


@needs_drgn
def test_a_trapping_instruction_has_its_inline_chain_innermost_first(
    symbolizer: Symbolizer, module: ElfImage, build: Path
) -> None:
    source = build / "modules" / "extra" / "fan.c"
    load = module.find("fan_apply")[0].size - 1  # the ret; what precedes it is c->nr
    chains = [
        symbolizer.symbolize([frame_of(module, "fan_apply", o, module="fan_ctl", exact=True)])[0]
        for o in range(load)
    ]
    inlined = [c.chain for c in chains if len(c.chain) == 2]
    assert inlined
    assert [at.function for at in inlined[0]] == ["lookup", "fan_apply"]
    assert inlined[0][0].line == line_of("return c->nr;", source)
    assert inlined[0][1].line == line_of("return lookup(ch->curve)", source)
    assert all(at.file.endswith("fan.c") for at in inlined[0])


@needs_drgn
def test_a_return_address_is_looked_up_one_byte_before(
    symbolizer: Symbolizer, kernel: ElfImage, build: Path
) -> None:
    """The call to other() is the third of start_kernel; what follows it is the addition."""
    start = kernel.find("start_kernel")[0]
    code = kernel.read(start.address, start.size)
    after_calls = [
        i + 5 for i, byte in enumerate(code) if byte == 0xE8 and _calls(kernel, start.address + i)
    ]
    frame = frame_of(kernel, "start_kernel", after_calls[-1])
    (found,) = symbolizer.symbolize([frame])
    assert found.chain[0].function == "start_kernel"
    assert found.chain[0].file == "init/main.c"
    assert found.chain[0].line == line_of("return widget_poll", build / "init/main.c")


def _calls(image: ElfImage, address: int) -> bool:
    distance = int.from_bytes(image.read(address + 1, 4), "little", signed=True)
    target = (address + 5 + distance) % (1 << 64)
    return any(
        s.address == target for n in ("type_show", "widget_poll", "other") for s in image.find(n)
    )


@needs_drgn
def test_of_two_functions_of_one_name_the_printed_size_decides(
    symbolizer: Symbolizer, kernel: ElfImage
) -> None:
    small, large = kernel.find("type_show")
    assert small.extent != large.extent
    frames = [Frame("type_show", 0, s.extent) for s in (small, large)]
    first, second = symbolizer.symbolize(frames)
    assert {first.chain[0].file, second.chain[0].file} == {"init/main.c", "lib/other.c"}


@needs_drgn
def test_without_a_size_a_doubtful_name_gets_no_line(symbolizer: Symbolizer) -> None:
    (found,) = symbolizer.symbolize([Frame("type_show", 1)])
    assert found.chain == ()
    assert found.note == "2 functions of this name have this size"


def test_frames_without_their_file_say_which_is_missing(build: Path) -> None:
    with Symbolizer.open(None, build / "modules") as symbolizer:
        a, b, c = symbolizer.symbolize(
            [Frame("vfs_read", 1, 2), Frame("do_it", 3, 4, "nosuch"), Frame("ksys_read", 1, 2)]
        )
    assert a.note == c.note == NO_VMLINUX
    assert b.note is not None
    assert "nosuch.ko not found" in b.note


def test_inline_and_generated_frames_pass_through(build: Path) -> None:
    with Symbolizer.open(build / "vmlinux") as symbolizer:
        inline, bpf = symbolizer.symbolize(
            [
                Frame("helper", inline=True, file="mm/x.c", line=7),
                Frame("bpf_prog_6deef7357e7b4530_sys", 0x22, 0x30),
            ]
        )
    assert inline.chain == (Location("helper", "mm/x.c", 7),)
    assert bpf.note == "code generated at run time"
    assert symbolizer.mismatches == ()


@needs_drgn
def test_module_names_fold_and_extent_reaches_the_end_of_memory(
    symbolizer: Symbolizer, module: ElfImage
) -> None:
    last = module.find("fan_write")[0]
    assert last.extent is None  # nothing follows it in the module
    (found,) = symbolizer.symbolize([Frame("fan_write", 5, 0xFE0, "fan_ctl", exact=True)])
    assert found.chain[-1].function == "fan_write"


# Builds ---------------------------------------------------------------------------------------


def test_a_vmlinux_of_another_release_is_refused(build: Path) -> None:
    with pytest.raises(MismatchError, match=rf"{RELEASE}.*6\.1\.0") as caught:
        Symbolizer.open(build / "vmlinux", release="6.1.0")
    assert "--allow-mismatch" in (caught.value.hint or "")


def test_a_vmlinux_of_another_build_is_refused(build: Path, kernel: ElfImage) -> None:
    own, other = kernel.build_id, "0" * 40
    assert own is not None
    Symbolizer.open(build / "vmlinux", release=RELEASE, build_id=own).close()
    with pytest.raises(MismatchError, match="build-id"):
        Symbolizer.open(build / "vmlinux", release=RELEASE, build_id=other)
    allowed = Symbolizer.open(build / "vmlinux", build_id=other, allow_mismatch=True)
    (reason,) = allowed.mismatches
    assert "build-id" in reason


@pytest.mark.parametrize(
    ("release", "build_id", "words"),
    [
        (RELEASE, "a" * 40, None),
        (RELEASE, None, None),
        (None, None, None),
        ("5.10.7", None, f"of kernel 5.10.7, not of {RELEASE}"),
        (RELEASE, "b" * 40, "of build bbbbbbbbbbbb, not of aaaaaaaaaaaa"),
    ],
)
def test_what_another_kernel_of_the_log_says_of_itself(
    release: str | None, build_id: str | None, words: str | None
) -> None:
    opened = Symbolizer(None, release=RELEASE, build_id="a" * 40)
    found = opened.foreign(release, build_id)
    assert found is None if words is None else words in (found or "")


@needs_drgn
def test_allowed_mismatch_labels_lines_approximate(build: Path, kernel: ElfImage) -> None:
    symbolizer = Symbolizer.open(build / "vmlinux", release="6.1.0", allow_mismatch=True)
    (found,) = symbolizer.symbolize([frame_of(kernel, "widget_poll", 1, exact=True)])
    assert found.chain
    assert found.approximate
    assert found.note is not None
    assert "6.1.0" in found.note


def test_most_sizes_off_means_another_build(symbolizer: Symbolizer) -> None:
    frames = [Frame("widget_poll", 1, 0x999), Frame("start_kernel", 1, 0x888)]
    with pytest.raises(MismatchError, match="2 of 2 functions"):
        symbolizer.symbolize(frames)


@needs_drgn
def test_one_size_off_costs_only_that_frame(symbolizer: Symbolizer, kernel: ElfImage) -> None:
    frames = [
        frame_of(kernel, "widget_poll", 1, exact=True),
        frame_of(kernel, "other", 1, exact=True),
        Frame("start_kernel", 1, 0x888),
    ]
    good, other, odd = symbolizer.symbolize(frames)
    assert good.chain
    assert other.chain
    assert odd.chain == ()
    assert odd.note is not None
    assert "0x888 in the log" in odd.note


@needs_drgn
def test_a_module_of_another_build_id_costs_only_its_frames(
    symbolizer: Symbolizer, kernel: ElfImage, module: ElfImage
) -> None:
    good = frame_of(kernel, "widget_poll", 1, exact=True)
    size = module.find("fan_apply")[0].extent
    wrong = Frame("fan_apply", 1, size, "fan_ctl", build_id="0" * 40, exact=True)
    first, second = symbolizer.symbolize([good, wrong])
    assert first.chain
    assert second.chain == ()
    assert second.note is not None
    assert "build-id" in second.note
    assert len(symbolizer.mismatches) == 1


def test_a_module_alone_and_of_another_release_is_refused(build: Path) -> None:
    symbolizer = Symbolizer.open(None, build / "modules", release="5.10.0")
    with pytest.raises(MismatchError, match=r"fan-ctl\.ko is of kernel"):
        symbolizer.symbolize([Frame("fan_write", 1, 0x20, "fan_ctl")])


def test_the_module_of_the_right_build_is_picked(tmp_path: Path) -> None:
    need("gcc", "ld")
    build_module(tmp_path / "a", release="5.0.0")
    wanted = build_module(tmp_path / "b", release="6.0.0")
    symbolizer = Symbolizer.open(None, tmp_path, release="6.0.0")
    symbolizer.symbolize([Frame("fan_apply", 1, None, "fan_ctl")])
    assert symbolizer.mismatches == ()
    assert [p.parent.name for p in ModuleDirectory(tmp_path).candidates("fan_ctl")] == ["a", "b"]
    assert wanted.is_file()


# Types ----------------------------------------------------------------------------------------


@needs_drgn
@pytest.mark.parametrize(
    ("offset", "path", "start"),
    [
        (0, "node.next", 0),
        (8, "node.prev", 8),
        (16, "raw", 16),
        (20, "hi", 20),
        (24, "slots[0].kind", 24),
        (34, "slots[2].len", 34),
        (35, "slots[2].len", 34),
        (40, "ready", 40),
        (48, "name", 48),
    ],
)
def test_member_at_an_offset(symbolizer: Symbolizer, offset: int, path: str, start: int) -> None:
    member = symbolizer.member_at("struct widget", offset)
    assert member is not None
    assert (member.struct, member.member, member.offset) == ("widget", path, start)
    assert symbolizer.member_offset("widget", path) == member


@needs_drgn
def test_padding_the_end_and_unknown_types_hold_no_member(symbolizer: Symbolizer) -> None:
    assert symbolizer.member_at("widget", 44) is None
    assert symbolizer.member_at("widget", 56) is None
    assert symbolizer.member_at("widget", -8) is None
    assert symbolizer.member_at("nosuch", 0) is None
    assert symbolizer.member_at("widget; drop", 0) is None
    assert symbolizer.member_offset("widget", "slots[9].len") is None
    assert symbolizer.member_offset("widget", "slots..len") is None


@needs_drgn
def test_layout_lists_members_of_anonymous_ones_too(symbolizer: Symbolizer) -> None:
    names = [m.member for m in symbolizer.struct_layout("widget")]
    assert names == ["node", "raw", "lo", "hi", "slots", "ready", "name"]
    curve = symbolizer.member_offset("fan_channel", "curve", module="fan_ctl")
    assert curve is not None
    assert curve.type_name == "struct fan_curve *"


@needs_drgn
def test_a_type_is_sought_in_every_given_module_when_they_are_few(build: Path) -> None:
    """Nobody said which module, and no frame has been looked up yet."""
    with Symbolizer.open(None, build / "modules", release=RELEASE) as modules_only:
        found = modules_only.member_at("fan_curve", 28)
    assert found is not None
    assert found.member == "nr"


def test_code_is_read_from_the_file_around_a_frame(build: Path, kernel: ElfImage) -> None:
    """For logs without code bytes: what stands at the function is what the file has there."""
    frame = frame_of(kernel, "widget_poll", 4, exact=True)
    with Symbolizer.open(build / "vmlinux", release=RELEASE) as symbolizer:
        around = symbolizer.code_at(frame)
    start = kernel.find("widget_poll")[0].address
    assert around is not None
    code, at = around
    assert at == 4
    assert code == kernel.read(start, len(code))


@pytest.mark.parametrize("symbol", ["no_such_function", "type_show"])
def test_code_of_what_is_not_one_place_is_not_read(symbolizer: Symbolizer, symbol: str) -> None:
    assert symbolizer.code_at(Frame(symbol, 1, None)) is None


@needs_drgn
def test_variables_of_the_inlined_and_the_outer_function(
    symbolizer: Symbolizer, module: ElfImage
) -> None:
    chains = range(module.find("fan_apply")[0].size)
    frames = [frame_of(module, "fan_apply", o, module="fan_ctl", exact=True) for o in chains]
    inside = next(f for f in frames if len(symbolizer.symbolize([f])[0].chain) == 2)
    variables = {(v.function, v.name): v for v in symbolizer.variables(inside)}
    assert variables["lookup", "c"].type_name == "const struct fan_curve *"
    assert variables["fan_apply", "ch"].type_name == "struct fan_channel *"
    assert variables["lookup", "c"].depth == 0
    assert variables["fan_apply", "ch"].depth == 1
    assert all(v.value is None for v in variables.values())


@needs_drgn
def test_printed_registers_give_variables_their_values(
    symbolizer: Symbolizer, module: ElfImage
) -> None:
    """At the first instruction the parameters are where the calling convention puts them."""
    names = ["rax", "rbx", "rcx", "rdx", "rbp", "rsp", *(f"r{n:02}" for n in range(8, 16))]
    registers = dict.fromkeys(names, 1) | {"rdi": 0xFFFF888001234500, "rsi": 42}
    entry = frame_of(module, "fan_apply", 0, module="fan_ctl", exact=True)
    values = {v.name: v.value for v in symbolizer.variables(entry, registers)}
    assert values["ch"] == 0xFFFF888001234500
    assert values["mdeg"] == 42
    partial = {v.name: v.value for v in symbolizer.variables(entry, {"rdi": 1})}
    assert partial["ch"] is None


# Files ----------------------------------------------------------------------------------------


@needs_drgn
@pytest.mark.parametrize("packing", ["xz", "gz", "zst"])
def test_compressed_files_open_and_leave_nothing_behind(
    build: Path, kernel: ElfImage, tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / f"vmlinux.{packing}"
    plain = (build / "vmlinux").read_bytes()
    if packing == "zst":
        need("zstd")
        run("zstd", "-q", build / "vmlinux", "-o", packed)
    else:
        packed.write_bytes(lzma.compress(plain) if packing == "xz" else gzip.compress(plain))
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with Symbolizer.open(packed, release=RELEASE) as symbolizer:
        (found,) = symbolizer.symbolize([frame_of(kernel, "widget_poll", 1, exact=True)])
        assert found.chain[-1].function == "widget_poll"
        assert list(scratch.iterdir()) == []


def test_zstd_without_a_decompressor_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vmlinux.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(40))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingDataError, match="Zstandard"):
        Symbolizer.open(path)


@needs_drgn
def test_the_second_trace_of_a_build_is_fast(build: Path, kernel: ElfImage) -> None:
    frames = [frame_of(kernel, "start_kernel", 1 + i % 30) for i in range(19)]
    Symbolizer.open(build / "vmlinux").symbolize(frames)
    begin = time.perf_counter()
    Symbolizer.open(build / "vmlinux").symbolize(frames)
    assert time.perf_counter() - begin < 0.05


def test_a_changed_file_is_opened_anew(tmp_path: Path) -> None:
    need("gcc", "ld")
    path = build_vmlinux(tmp_path)
    assert Symbolizer.open(path).vmlinux_release == RELEASE
    build_vmlinux(tmp_path, release="6.9.1-longer-name")
    assert Symbolizer.open(path).vmlinux_release == "6.9.1-longer-name"


def test_a_module_directory_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a directory"):
        Symbolizer.open(None, tmp_path / "none")


# Without drgn ---------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["llvm-symbolizer", "addr2line"])
def test_fallback_tools_agree_on_the_chain(build: Path, kernel: ElfImage, program: str) -> None:
    need(program)
    with open_image_file(build / "vmlinux") as stream:
        lines = ToolDwarf(kernel, stream, shutil.which(program) or "")
        poll = kernel.find("widget_poll")[0].address
        (chain,) = lines.chains([poll])
    assert chain[-1].function == "widget_poll"
    assert chain[-1].file == "init/main.c"
    first = line_of("int widget_poll", build / "init/main.c")
    assert first <= chain[-1].line <= first + 3


def test_addr2line_reads_modules_by_section(build: Path, module: ElfImage) -> None:
    need("addr2line")
    with open_image_file(build / "modules/extra/fan-ctl.ko") as stream:
        lines = ToolDwarf(module, stream, shutil.which("addr2line") or "")
        (chain,) = lines.chains([module.find("fan_write")[0].address])
    assert chain[-1].function == "fan_write"
    assert chain[-1].file.endswith("fan.c")


def test_the_trace_names_what_debug_info_does_not() -> None:
    frame = Frame("frob_widget.isra.0", 0x10, 0x20)
    chain = (Location("inner", "f.c", 3), Location(UNNAMED, "f.c", 9))
    assert [link.function for link in _named(chain, frame)] == ["inner", "frob_widget"]
    assert _named(chain[:1], frame) == chain[:1]


def test_of_too_many_frames_those_that_matter_come_first(
    monkeypatch: pytest.MonkeyPatch, build: Path
) -> None:
    monkeypatch.setattr("kagent.symbols.symbolizer.MAX_FRAMES", 3)
    doubtful = [Frame("widget_poll", n, None, reliable=False) for n in range(1, 5)]
    sound = Frame("widget_poll", 8, None)
    trap = Frame("widget_poll", 9, None, exact=True)
    frames = [*doubtful, sound, trap, trap]
    with Symbolizer.open(build / "vmlinux") as symbolizer:
        found = symbolizer.symbolize(frames)
        assert symbolizer.left_out == 3
    assert [item.frame for item in found] == frames
    known = [bool(item.chain) for item in found]
    assert known == [True, False, False, False, True, True, True]
    assert "too many different frames" in (found[1].note or "")
