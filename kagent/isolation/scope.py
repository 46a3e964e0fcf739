"""Which child answers: one for what a run was given to read, shared with nobody else's run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from threading import Lock
from typing import Any, Protocol, TypeVar

from kagent.errors import CorruptDataError, NativeCodeError
from kagent.isolation.child import Session, invoke
from kagent.isolation.worker import Job, Subject, Worker

__all__ = ["InProcess", "Runner", "current", "isolated", "on_failure", "tell", "using"]

A = TypeVar("A")
_MAX_CHILDREN = 8
_IDLE_SECONDS = 120.0


class Runner(Protocol):
    """Answers requests; a `Worker` is one."""

    def call(self, job: Job[A], *arguments: Any, about: Subject) -> A:
        """Have a request answered."""


class InProcess:
    """Runs native code right here, for what is trusted, and to compare results with a child's."""

    def __init__(self) -> None:
        self._session = Session()

    def call(self, job: Job[A], *arguments: Any, about: Subject) -> A:
        """Have a request answered, its answer passed through JSON as a child's is.

        Raises:
            CorruptDataError: the data is damaged.
        """
        import json
        import os

        from kagent.isolation.child import plain_fields

        if about.key not in self._session.given:
            given = about.text if about.descriptor is None else os.dup(about.descriptor)
            self._session.given[about.key] = given
        found = invoke(self._session, job.function, list(arguments))
        return job.checked(json.dumps(found, default=plain_fields).encode())

    def close(self) -> None:
        """Let go of all files."""
        for key in list(self._session.given):
            self._session.forget(key)


_runner: ContextVar[Runner | None] = ContextVar("kagent_native_code", default=None)
_listeners: list[Callable[[str, CorruptDataError], None]] = []
_workers: dict[Hashable, tuple[Worker, float]] = {}
_lock = Lock()


class _Told:
    """A runner whose failures are told to who listens."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner

    def call(self, job: Job[A], *arguments: Any, about: Subject) -> A:
        try:
            return self._inner.call(job, *arguments, about=about)
        except NativeCodeError as error:
            tell(error.part, error)
            raise


def current() -> Runner:
    """What runs native code here: that of the innermost `isolated` or `using`."""
    return _Told(_runner.get() or _worker(None))


def on_failure(listener: Callable[[str, CorruptDataError], None]) -> None:
    """Have `listener` called with the library and its error whenever one fails.

    Who asked goes on without the answer; the listener is how a run knows that it lacks something.
    """
    if listener not in _listeners:
        _listeners.append(listener)


def tell(part: str, error: CorruptDataError) -> None:
    """Call the listeners."""
    for listener in _listeners:
        listener(part, error)


@contextlib.contextmanager
def isolated(key: Hashable) -> Iterator[Runner]:
    """Have a child for `key` run native code inside the block.

    `key` names what may be read, such as the paths a run was given: whoever wrote one of these
    can only falsify what is said of these. A child stays for the next block of the same key.
    Where `using` says what runs native code, that holds.
    """
    if _runner.get() is not None:
        yield current()
        return
    with using(_worker(key)):
        yield current()


@contextlib.contextmanager
def using(runner: Runner) -> Iterator[None]:
    """Have `runner` run native code inside the block."""
    token = _runner.set(runner)
    try:
        yield
    finally:
        _runner.reset(token)


def _worker(key: Hashable) -> Worker:
    """The worker of a key. Those that were long not asked for are ended, and what they refused
    may be tried again.
    """
    now = time.monotonic()
    with _lock:
        found = _workers.pop(key, None)
        worker = found[0] if found and now - found[1] < _IDLE_SECONDS else Worker()
        if found and worker is not found[0]:
            found[0].close()
        _workers[key] = (worker, now)
        for old in list(_workers):
            if len(_workers) > _MAX_CHILDREN or now - _workers[old][1] > _IDLE_SECONDS:
                _workers.pop(old)[0].close()
    return worker
