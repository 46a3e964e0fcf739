"""Standard input, output and error as a command may rely on them, whatever it was started with.

A write to standard output that fails ends the command from wherever it is, with one line: the
reader that left with the exit code a shell gives for it, a full disk or a closed output with an
`OutputError`. What goes to standard error is for a person; where nobody can read it, it is lost.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kagent.errors import ExitCode, OutputError

__all__ = ["checked_streams"]


@contextmanager
def checked_streams() -> Iterator[None]:
    """Have checked streams in the places of `sys.stdin`, `sys.stdout` and `sys.stderr`.

    The block has to flush standard output itself, so that it can answer for a failure.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    closed = [fd for fd in (0, 1, 2) if not _is_open(fd)]
    for _ in closed:  # in ascending order, so that no file of ours takes the number of a stream
        os.open(os.devnull, os.O_RDWR)
    if 0 in closed or sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout = _text(_Output(1, closed=1 in closed))
    sys.stderr = _text(_Messages(2, closed=False), by_lines=True)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _text(raw: io.RawIOBase, *, by_lines: bool = False) -> io.TextIOWrapper:
    # As Python sets up its own: results by lines for a person only.
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(sys.stdout, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=by_lines or raw.isatty(),
    )


class _Stream(io.RawIOBase):
    def __init__(self, fd: int, *, closed: bool) -> None:
        super().__init__()
        self._fd = fd
        self._refuses = closed

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return not self._refuses and os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def _silence(self) -> None:
        """Let what is still buffered go nowhere; the interpreter flushes again at exit."""
        self._refuses = False
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._fd)
            os.close(null)


class _Output(_Stream):
    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self._refuses:
            self._silence()
            raise OutputError("standard output is closed", hint="redirect it to a file: > FILE")
        try:
            return os.write(self._fd, data)
        except BrokenPipeError:
            self._silence()
            sys.exit(ExitCode.READER_LEFT)
        except OSError as error:
            self._silence()
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error


class _Messages(_Stream):
    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return os.write(self._fd, data)
        except OSError:
            self._silence()
            return len(data)
