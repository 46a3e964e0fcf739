"""Child processes for what takes time and needs no order: parsing, taking apart, embedding.

They are started as ``python -m kagent.commits.workers TASK`` and talk over their standard streams
in frames of JSON and byte strings; the program that builds an index needs no guard around its main
part, as `multiprocessing` would have it, and nothing is unpickled.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from kagent import errors
from kagent.errors import KagentError

__all__ = ["TASKS", "Frame", "Workers", "run_task"]

Frame = tuple[Any, Sequence[bytes]]
"""A JSON value and byte strings."""
Task = Callable[[Any, Sequence[bytes]], Frame]

TASKS = {
    "prepare": "kagent.commits.prepare:prepare_frame",
    "count": "kagent.commits.embedding_task:count_frame",
    "embed": "kagent.commits.embedding_task:embed_frame",
}
"""Name of a task → module and function that does it, frame in, frame out."""
_MOST = 8
_WORTH_IT = 6
"""Frames: fewer are done before the processes have started."""
_LENGTHS = struct.Struct("<II")


def run_task(name: str) -> Task:
    """The function behind a task."""
    module, _, function = TASKS[name].partition(":")
    task: Task = getattr(importlib.import_module(module), function)
    return task


class Workers:
    """Runs one task over frames; results come in the order of the frames.

    With one processor, or a few frames, everything happens in this process.
    """

    def __init__(self, task: str, processes: int | None = None) -> None:
        self._task = task
        self._count = min(_MOST, _processors()) if processes is None else processes
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._children: list[_Child] = []
        self._lock = threading.Lock()

    def map(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the task's result for each frame.

        Raises:
            KagentError: the task raised it.
            RuntimeError: a child died, or the task failed by a mistake in it.
        """
        source = iter(frames)
        first = list(itertools.islice(source, _WORTH_IT))
        if self._count < 2 or len(first) < _WORTH_IT:
            task = run_task(self._task)
            for frame in (*first, *source):
                yield task(*frame)
            return
        pending: deque[Future[Frame]] = deque()
        with ThreadPoolExecutor(self._count) as pool:
            try:
                for frame in (*first, *source):
                    pending.append(pool.submit(self._ask, frame))
                    if len(pending) > 2 * self._count:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
                self._stop()

    def _ask(self, frame: Frame) -> Frame:
        try:
            child = self._idle.get_nowait()
        except queue.Empty:
            child = _Child(self._task)
            with self._lock:
                self._children.append(child)
        answer = child.ask(frame)
        self._idle.put(child)
        return answer

    def _stop(self) -> None:
        with self._lock:
            for child in self._children:
                child.stop()


class _Child:
    def __init__(self, task: str) -> None:
        package = Path(__file__).resolve().parents[2]
        paths = (os.fspath(package), os.environ.get("PYTHONPATH"))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kagent.commits.workers", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OPENBLAS_NUM_THREADS": "1"},
        )

    def ask(self, frame: Frame) -> Frame:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            _write(self._process.stdin, frame)
            found = _read(self._process.stdout)
        except (OSError, ValueError) as error:
            raise RuntimeError("a worker process of the build ended early") from error
        if found is None:
            raise RuntimeError(
                f"a worker process of the build ended early, status {self._process.wait()}"
            )
        header, blobs = found
        if isinstance(header, dict) and "error" in header:
            raise _raised(header)
        return header, blobs

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was buffered for a dead child
                    continue


def _raised(header: dict[str, Any]) -> Exception:
    kind = getattr(errors, str(header["error"]), None)
    if isinstance(kind, type) and issubclass(kind, KagentError):
        return kind(header["message"], hint=header.get("hint"))
    return RuntimeError(header["message"])


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _write(stream: IO[bytes], frame: Frame) -> None:
    header, blobs = frame
    text = json.dumps([header, [len(blob) for blob in blobs]]).encode()
    stream.write(_LENGTHS.pack(len(text), sum(map(len, blobs))))
    stream.write(text)
    stream.write(b"".join(blobs))
    stream.flush()


def _read(stream: IO[bytes]) -> Frame | None:
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    size, total = _LENGTHS.unpack(lengths)
    text, data = stream.read(size), memoryview(stream.read(total))
    if len(text) < size or len(data) < total:
        return None
    header, sizes = json.loads(text)
    blobs, at = [], 0
    for length in sizes:
        blobs.append(bytes(data[at : at + length]))
        at += length
    return header, blobs


def _serve(name: str) -> None:
    """Answer frames until the other side has none left, or is gone."""
    # Ctrl-C is for the process that builds; it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A frame makes many objects and hardly a cycle: looking for those takes a tenth of the time.
    gc.set_threshold(200_000, 20, 20)
    task = run_task(name)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while (frame := _read(stdin)) is not None:
        answer: Frame
        try:
            answer = task(*frame)
        except KagentError as error:
            answer = {"error": type(error).__name__, "message": str(error), "hint": error.hint}, ()
        except Exception:  # noqa: BLE001 - told to the process that asked
            answer = {"error": "", "message": traceback.format_exc()}, ()
        try:
            _write(stdout, answer)
        except BrokenPipeError:
            os._exit(1)


if __name__ == "__main__":
    _serve(sys.argv[1])
