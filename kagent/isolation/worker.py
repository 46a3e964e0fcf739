"""The parent's side: a child that is started when needed, watched, and ended with its process."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from kagent.errors import CorruptDataError, NativeCodeError
from kagent.isolation.child import ANSWERED, DAMAGED, FRAME, NO_MEMORY
from kagent.isolation.shape import checker
from kagent.text import strip_control

__all__ = ["Job", "Limits", "Subject", "Worker"]

A = TypeVar("A")
_PACKAGES = ("kagent", "drgn", "elftools", "capstone", "tree_sitter", "tree_sitter_c")
_CHILD = Path(__file__).with_name("child.py")
_KEPT, _KEPT_BYTES = 48, 64 << 20
_MAX_WORDS = 300


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may use."""

    memory: int = 6 << 30
    """Bytes of address space; mapped debug info counts."""
    answer: int = 32 << 20
    """Bytes of one answer."""
    crashes: int = 4
    """After so many, nothing more is tried."""


@dataclass(frozen=True)
class Job(Generic[A]):
    """One kind of request."""

    part: str
    """The library, as errors name it: ``drgn``."""
    function: str
    """``module:function``, called with the child's session and the arguments."""
    answer: Any
    """The type that the answer must have."""
    seconds: int = 30
    """Wall time for one request, and CPU time of each of up to four cores."""

    def checked(self, data: bytes) -> A:
        """The answer as that type; raises `ValueError` for any other."""
        try:
            answer: A = checker(self.answer)(json.loads(data))
        except RecursionError:
            raise ValueError("nested too deeply") from None
        return answer


_WORDS = Job[str]("", "", str)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a request is about: a file or a text of the user's, which the child is given once."""

    key: str
    """Equal for equal content."""
    name: str
    """As errors name it."""
    descriptor: int | None = None
    text: str = ""


@dataclass(slots=True)
class _Process:
    """A running child. `channel` carries requests; the child dies when `lifeline` closes."""

    popen: subprocess.Popen[bytes]
    channel: socket.socket
    lifeline: int
    given: OrderedDict[str, int]
    number: int = 0
    owner: int = field(default_factory=os.getpid)

    def end(self) -> None:
        """Kill and reap it. In a fork of the process that started it, only let go of it."""
        self.channel.close()
        os.close(self.lifeline)
        if os.getpid() == self.owner:
            self.popen.kill()
            self.popen.wait()


class _TroubleError(Exception):
    """A request failed in words that go behind the library's name; the child is of no use."""


class Worker:
    """One child and its successors, should it crash. Safe to share between threads.

    What made a child crash, hang or answer nonsense is not given to the next one.
    """

    def __init__(self, limits: Limits | None = None, path: Sequence[str] | None = None) -> None:
        """`path` is where the child imports from; by default where this process did."""
        self._limits = limits or Limits()
        self._path = path
        self._lock = threading.RLock()
        self._process: _Process | None = None
        self._finalizer: weakref.finalize[[], Worker] | None = None
        self._crashes = 0
        self._refused: dict[str, str] = {}

    @property
    def pid(self) -> int | None:
        """Of the running child."""
        return self._process.popen.pid if self._process else None

    def call(self, job: Job[A], *arguments: Any, about: Subject) -> A:
        """Have a request answered.

        Raises:
            NativeCodeError: the library crashed, hung, or gave no sound answer.
            CorruptDataError: the data is damaged, as the library or its caller found.
        """
        with self._lock:
            if words := self._refused.get(about.key):
                raise NativeCodeError(words, part=job.part)
            if self._crashes >= self._limits.crashes:
                raise NativeCodeError(
                    f"{job.part} was not tried on {about.name}: native code failed "
                    f"{self._crashes} times in this run",
                    part=job.part,
                )
            try:
                status, data = self._ask(job, arguments, about)
                if status == NO_MEMORY:
                    raise _TroubleError(
                        f"needed more than {self._limits.memory >> 20} MiB of memory"
                    )
                try:
                    if status == ANSWERED:
                        return job.checked(data)
                    words = " ".join(strip_control(_WORDS.checked(data)).split())[:_MAX_WORDS]
                except ValueError:
                    raise _TroubleError(
                        "gave an answer of another kind than was asked for"
                    ) from None
                if status == DAMAGED:
                    raise CorruptDataError(words)
                raise _TroubleError(f"failed ({words})")
            except _TroubleError as trouble:
                self.close()
                self._crashes += 1
                words = f"{job.part} {trouble} reading {about.name}"
                self._refused[about.key] = words
                raise NativeCodeError(words, part=job.part) from None

    def close(self) -> None:
        """End the child. A later call starts another."""
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._process = None

    # ------------------------------------------------------------------------------------------

    def _ask(self, job: Job[A], arguments: Sequence[Any], about: Subject) -> tuple[int, bytes]:
        deadline = time.monotonic() + job.seconds
        while True:
            child = self._running()
            fresh = child.number == 0
            try:
                self._send(child, job, arguments, about, deadline)
                return self._receive(child, deadline)
            except TimeoutError:
                raise _TroubleError(f"took longer than {job.seconds} s") from None
            except (EOFError, OSError):
                status = self._status(child)
                self.close()
                if status == 0 and not fresh:
                    continue  # it had been idle for long and ended itself
                raise _TroubleError(_death(status)) from None

    def _running(self) -> _Process:
        if self._process is not None and self._process.owner != os.getpid():
            self.close()  # forked: the child is our parent's
        if self._process is None:
            self._process = _start(self._limits, self._path)
            self._finalizer = weakref.finalize(self, self._process.end)
        return self._process

    def _send(
        self,
        child: _Process,
        job: Job[A],
        arguments: Sequence[Any],
        about: Subject,
        deadline: float,
    ) -> None:
        new: dict[str, str | None] = {}
        files: list[int] = []
        if about.key not in child.given:
            if about.descriptor is not None:
                files.append(about.descriptor)
            new[about.key] = about.text if about.descriptor is None else None
            child.given[about.key] = len(about.text)
        child.given.move_to_end(about.key)
        forget = []
        while len(child.given) > 1 and (
            len(child.given) > _KEPT or sum(child.given.values()) > _KEPT_BYTES
        ):
            forget.append(child.given.popitem(last=False)[0])
        request = {
            "call": job.function,
            "arguments": arguments,
            "seconds": job.seconds,
            "new": new,
            "forget": forget,
        }
        body = json.dumps(request, separators=(",", ":")).encode()
        child.number += 1
        child.channel.settimeout(max(deadline - time.monotonic(), 0.001))
        socket.send_fds(child.channel, [FRAME.pack(len(body), child.number, 0)], files)
        child.channel.sendall(body)

    def _receive(self, child: _Process, deadline: float) -> tuple[int, bytes]:
        size, number, status = FRAME.unpack(_exactly(child, FRAME.size, deadline))
        if number != child.number:
            raise _TroubleError("answered another question than the one asked")
        if size > self._limits.answer:
            raise _TroubleError(f"answered with more than {self._limits.answer >> 20} MiB")
        return status, _exactly(child, size, deadline)

    def _status(self, child: _Process) -> int:
        """How it ended; one that only closed its socket ends here."""
        try:
            return child.popen.wait(0.5)
        except subprocess.TimeoutExpired:
            child.popen.kill()
            child.popen.wait()
            return 1


def _start(limits: Limits, path: Sequence[str] | None) -> _Process:
    ours, theirs = socket.socketpair()
    read_end, lifeline = os.pipe()
    threads = str(min(os.cpu_count() or 1, 4))
    try:
        popen = subprocess.Popen(
            [
                sys.executable,
                *("-I", "-S", str(_CHILD)),
                *(str(theirs.fileno()), str(read_end), str(limits.memory)),
                "\n".join(path or _import_path()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), read_end),
            env={"OMP_NUM_THREADS": threads, "MALLOC_ARENA_MAX": "2", "LC_ALL": "C.UTF-8"},
            cwd="/",
            start_new_session=True,  # Ctrl-C is for us
        )
    except OSError as error:
        ours.close()
        os.close(lifeline)
        raise _TroubleError(f"could not be started ({error.strerror})") from None
    finally:
        theirs.close()
        os.close(read_end)
    return _Process(popen, ours, lifeline, OrderedDict())


@cache
def _import_path() -> tuple[str, ...]:
    """The directories that hold the packages the child needs, and no others."""
    found = (importlib.util.find_spec(name) for name in _PACKAGES)
    origins = (spec.origin for spec in found if spec is not None and spec.origin)
    return tuple(dict.fromkeys(str(Path(origin).resolve().parents[1]) for origin in origins))


def _exactly(child: _Process, size: int, deadline: float) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        child.channel.settimeout(max(deadline - time.monotonic(), 0.001))
        count = child.channel.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(data)


def _death(status: int) -> str:
    if status >= 0:
        return f"ended (status {status})"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return "used up its CPU time" if name == "SIGXCPU" else f"crashed ({name})"
