"""Files that are not what they should be end in one clear error, never in a crash."""

from __future__ import annotations

import gzip
import lzma
import random
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from support.kernel_elf import build_module, build_vmlinux, need, run

from kagent.errors import CorruptDataError, InputError, KagentError, MissingDataError
from kagent.klog.model import Frame
from kagent.symbols import Symbolizer, elf


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vmlinux(tmp_path_factory.mktemp("hostile"))


def test_a_directory_is_not_vmlinux(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        Symbolizer.open(tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Symbolizer.open(tmp_path / "vmlinux")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\necho hello\n", "not an ELF file"),
        (b"MZ" + bytes(0x200) + b"HdrS" + bytes(64), "bootable kernel image"),
        (b"\x7fELF", "damaged ELF"),
        (b"\x7fELF\x02\x01\x01" + bytes(2000), "ELF file"),
        (b"\xfd7zXZ\x00" + bytes(20), "cannot be unpacked"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "cannot be unpacked"),
        (lzma.compress(b"plain text"), "not an ELF file"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (lzma.compress(bytes(100_000))[:-30], "cannot be unpacked"),
    ],
)
def test_other_content(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises((InputError, CorruptDataError), match=words) as caught:
        Symbolizer.open(path)
    assert "\n" not in str(caught.value)


def test_a_core_dump(tmp_path: Path, vmlinux: Path) -> None:
    content = bytearray(vmlinux.read_bytes())
    struct.pack_into("<H", content, 16, 4)
    path = tmp_path / "vmcore"
    path.write_bytes(content)
    with pytest.raises(InputError, match="core dump"):
        Symbolizer.open(path)


def test_a_module_given_as_vmlinux(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="module or object file") as caught:
        Symbolizer.open(build_module(tmp_path))
    assert "--modules" in (caught.value.hint or "")


def test_an_elf_program_that_is_no_kernel(tmp_path: Path) -> None:
    need("gcc")
    (tmp_path / "a.c").write_text("int main(void) { return 0; }\n")
    run("gcc", "-g", "-o", tmp_path / "a.out", "a.c", cwd=tmp_path)
    with pytest.raises(InputError, match="not a Linux kernel"):
        Symbolizer.open(tmp_path / "a.out")


def test_a_stripped_vmlinux(tmp_path: Path, vmlinux: Path) -> None:
    need("strip")
    run("strip", "-g", "-o", tmp_path / "vmlinux", vmlinux)
    with pytest.raises(MissingDataError, match="no debug info") as caught:
        Symbolizer.open(tmp_path / "vmlinux")
    assert "CONFIG_DEBUG_INFO" in (caught.value.hint or "")


def test_a_damaged_module_is_a_note_on_its_frames(tmp_path: Path) -> None:
    (tmp_path / "fan.ko").write_bytes(b"\x7fELF" + bytes(100))
    with Symbolizer.open(None, tmp_path) as symbolizer:
        (found,) = symbolizer.symbolize([Frame("fan_apply", 1, 2, "fan")])
    assert found.note is not None
    assert "fan.ko" in found.note


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_raises_our_errors_only(tmp_path: Path, vmlinux: Path, seed: int) -> None:
    dice = random.Random(seed)
    content = bytearray(vmlinux.read_bytes())
    if seed % 3 == 0:
        del content[dice.randrange(len(content)) :]
    else:
        low = 0 if seed % 3 == 1 else len(content) // 2
        for _ in range(dice.randrange(1, 60)):
            content[dice.randrange(low, len(content))] = dice.randrange(256)
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    frames = [Frame("widget_poll", 8, None), Frame("start_kernel", 20, None)]
    with suppress(KagentError), Symbolizer.open(path, allow_mismatch=True) as symbolizer:
        assert len(symbolizer.symbolize(frames)) == 2
        symbolizer.member_at("widget", 8)
        symbolizer.variables(frames[0])


def test_machines_are_named_as_pyelftools_names_them():
    kernels_own = {"EM_ARCOMPACT", "EM_ARCV2", "EM_HEXAGON"}
    for number, name in elf._MACHINES.items():
        assert name in kernels_own or elf._foreign_machine(number) in {name, str(number)}
    assert elf._foreign_machine(83) == "EM_AVR"
    assert elf._foreign_machine(65_000) == "65000"
