"""From an argument to log text, and every way in which that can fail."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import sys
import threading

import pytest

from kagent.cli.reading import read_log, read_log_bytes
from kagent.errors import CorruptDataError, InputError

OOPS = b"BUG: kernel NULL pointer dereference, address: 0000000000000018\r\n"


class Stdin(io.TextIOWrapper):
    def __init__(self, data: bytes, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data))
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_a_file_is_read_byte_for_byte(tmp_path):
    path = tmp_path / "console.log"
    path.write_bytes(OOPS + b"\xff\x1b[31m\n")
    assert read_log_bytes(str(path)) == OOPS + b"\xff\x1b[31m\n"
    assert read_log(str(path)).endswith("�\x1b[31m\n")


def test_a_dash_reads_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Stdin(OOPS))
    assert read_log_bytes("-") == OOPS


def test_a_pipe_with_a_name_is_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(OOPS,))
    writer.start()
    assert read_log_bytes(str(path)) == OOPS
    writer.join()


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_compressed_logs_are_unpacked(tmp_path, pack):
    path = tmp_path / "console.packed"
    path.write_bytes(pack(OOPS * 100))
    assert read_log_bytes(str(path)) == OOPS * 100


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_a_truncated_compressed_log_is_corrupt(tmp_path, pack):
    path = tmp_path / "console.packed"
    path.write_bytes(pack(os.urandom(3000))[:-1000])
    with pytest.raises(CorruptDataError, match="damaged"):
        read_log(str(path))


def test_a_bomb_is_refused_by_its_unpacked_size(tmp_path):
    path = tmp_path / "bomb.xz"
    path.write_bytes(lzma.compress(b"a" * 3_000_000))
    with pytest.raises(InputError, match="larger than 1,000,000 bytes"):
        read_log(str(path), max_bytes=1_000_000)


def test_windows_captures_in_utf16_are_read(tmp_path):
    path = tmp_path / "putty.log"
    path.write_bytes(OOPS.decode().encode("utf-16"))
    assert read_log_bytes(str(path)) == OOPS


def test_padding_of_flash_logs_is_dropped(tmp_path):
    path = tmp_path / "dmesg-ramoops-0"
    path.write_bytes(OOPS + b"\0" * 60_000)
    assert read_log_bytes(str(path)) == OOPS


def test_a_few_stray_bytes_do_not_make_a_log_binary(tmp_path):
    path = tmp_path / "serial.log"
    path.write_bytes(b"\0\0\x01" + OOPS * 10 + b"\0" + OOPS)
    assert OOPS in read_log_bytes(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \r\n\n\t", "is empty"),
        (b"\0" * 500, "is empty"),
        (bytes(range(256)) * 40, "is binary data"),
        (b"\x7fELF\x02\x01\x01" + bytes(500), "is an ELF file"),
        (b"KDUMP   " + bytes(500), "is a compressed crash dump"),
        (b"\x28\xb5\x2f\xfd" + bytes(99), "zstd"),
    ],
)
def test_what_is_no_log_is_named(tmp_path, content, message):
    path = tmp_path / "input"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_log(str(path))
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_a_directory_and_a_missing_file_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="is a directory"):
        read_log(str(tmp_path))
    with pytest.raises(InputError, match="does not exist"):
        read_log(str(tmp_path / "absent.log"))
    with pytest.raises(InputError, match="cannot be read"):
        read_log("bad\0name")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_says_so(tmp_path):
    path = tmp_path / "secret.log"
    path.write_bytes(OOPS)
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        read_log(str(path))


def test_a_large_log_is_refused_with_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "a log.txt"
    path.write_bytes(OOPS * 1000)
    with pytest.raises(InputError, match="larger than 1,024 bytes") as caught:
        read_log(str(path), max_bytes=1024)
    assert f"kagent analyze <(tail -c 20M '{path}')" in str(caught.value.hint)
    monkeypatch.setattr(sys, "stdin", Stdin(OOPS * 1000))
    with pytest.raises(InputError) as caught:
        read_log("-", max_bytes=1024)
    assert "tail -c 20M | kagent analyze -" in str(caught.value.hint)


def test_no_more_is_read_than_is_needed_to_refuse(monkeypatch):
    raw = io.BytesIO(b"x" * 10_000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    with pytest.raises(InputError):
        read_log("-", max_bytes=100)
    assert raw.tell() == 101


def test_a_terminal_as_input_asks_for_a_log(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Stdin(b"", terminal=True))
    with pytest.raises(InputError, match="no log was given"):
        read_log("-")
