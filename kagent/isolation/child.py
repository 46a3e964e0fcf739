"""What runs in the child: requests from a socket, one after another, within limits.

A request is a frame (`FRAME`: length of the body, number, status) and a JSON body
``{"call": "module:function", "arguments": [...], "seconds": S, "new": {key: text or null},
"forget": [key]}``. For each new key without text, an open file comes with the frame. The function
is called as ``function(session, *arguments)``; its answer goes back under the same number.

This file is run as a script. Of the package it imports the modules that requests name and what
those import, but no package's own ``__init__``, which would load many times as much.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from importlib.machinery import PathFinder
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "ANSWERED",
    "DAMAGED",
    "FAILED",
    "FRAME",
    "NO_MEMORY",
    "Session",
    "invoke",
    "main",
    "plain_fields",
]

FRAME = struct.Struct(">IQB")
ANSWERED, DAMAGED, FAILED, NO_MEMORY = range(4)
_MAX_FILES = 16
_IDLE_SECONDS = 60.0


class Session:
    """What the child has been given, and what functions made of it, by key."""

    def __init__(self) -> None:
        self.given: dict[str, int | str] = {}
        """Open files as descriptors, texts as they are."""
        self.made: dict[str, Any] = {}

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` returned when it was first called for this key."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def forget(self, key: str) -> None:
        """Let go of a file or text and of what was made of it."""
        self.made.pop(key, None)
        given = self.given.pop(key, None)
        if isinstance(given, int):
            os.close(given)


def main() -> None:
    """Serve until the other side is gone or silent for a minute.

    Arguments: descriptors of socket and lifeline, bytes of memory, where to import from.
    """
    sock, lifeline, memory, path = sys.argv[1:]
    sys.path[:0] = path.split("\n")
    _confine(int(memory))
    _die_with_the_parent(int(lifeline))
    with socket.socket(fileno=int(sock)) as channel:
        channel.settimeout(_IDLE_SECONDS)
        session = Session()
        while request := _receive(channel):
            channel.settimeout(None)
            channel.sendall(_answer(session, *request))
            channel.settimeout(_IDLE_SECONDS)


def invoke(session: Session, function: str, arguments: list[Any]) -> Any:
    """Call ``module:function``."""
    module, _, name = function.partition(":")
    __import__(module)
    return getattr(sys.modules[module], name)(session, *arguments)


def _bare_packages(module: str) -> None:
    """Have the packages of a module in place, with nothing in them."""
    path: list[str] | None = None
    for end in (at for at, char in enumerate(module) if char == "."):
        name = module[:end]
        if name not in sys.modules:
            spec = PathFinder.find_spec(name, path)
            package = ModuleType(name)
            package.__path__ = list(spec.submodule_search_locations or ()) if spec else []
            sys.modules[name] = package
        path = list(sys.modules[name].__path__)


def _confine(memory: int) -> None:
    import resource

    limits = (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_FSIZE, 1 << 20),
    )
    for kind, limit in limits:
        lowest = _at_most(limit, resource.getrlimit(kind)[1])
        resource.setrlimit(kind, (lowest, lowest))
    try:  # where memory runs out all the same, this process goes first
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return
    os.write(score, b"1000")
    os.close(score)


def _at_most(limit: int, hard: int) -> int:
    """The limit, or the lower one that this process was started with and may not raise."""
    import resource

    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)


def _die_with_the_parent(lifeline: int) -> None:
    """Have the kernel kill this process, whatever it does, when the parent is gone.

    The parent alone holds the other end of a pipe. When that closes, SIGIO comes, whose default
    is to terminate. (``PR_SET_PDEATHSIG`` would come when the *thread* ends that made this child.)
    """
    import fcntl

    os.set_blocking(lifeline, False)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    try:
        os.read(lifeline, 1)  # the end of the file: it was gone before the signal was asked for
    except BlockingIOError:
        return
    os._exit(0)


def _receive(channel: socket.socket) -> tuple[int, bytes, list[int]] | None:
    """Number, body and files of a request; None when none will come."""
    try:
        head, files, _, _ = socket.recv_fds(channel, FRAME.size, _MAX_FILES)
    except TimeoutError:
        return None
    while head and len(head) < FRAME.size:
        head += channel.recv(FRAME.size - len(head))
    if not head:
        return None
    size, number, _ = FRAME.unpack(head)
    body = bytearray(size)
    view = memoryview(body)
    while view:
        count = channel.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return number, bytes(body), files


def _answer(session: Session, number: int, body: bytes, files: list[int]) -> bytes:
    request = json.loads(body)
    for key in request["forget"]:
        session.forget(key)
    for key, text in request["new"].items():
        session.given[key] = files.pop(0) if text is None else text
    _allow_cpu(request["seconds"])
    try:
        _bare_packages(request["call"].partition(":")[0])
        status, found = ANSWERED, invoke(session, request["call"], request["arguments"])
        text = json.dumps(found, default=plain_fields, ensure_ascii=False, separators=(",", ":"))
    except MemoryError:
        status, text = NO_MEMORY, "null"
    except Exception as error:  # noqa: BLE001 - it goes to the parent
        damaged = any(kind.__name__ == "CorruptDataError" for kind in type(error).__mro__)
        words = str(error) if damaged else f"{type(error).__name__}: {error}"
        status, text = (DAMAGED if damaged else FAILED), json.dumps(words[:500])
    data = text.encode("utf-8", "replace")
    return FRAME.pack(len(data), number, status) + data


def _allow_cpu(seconds: int) -> None:
    """So much more, over all threads, and then SIGXCPU."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds * min(os.cpu_count() or 1, 4)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_at_most(limit, hard), hard))


def plain_fields(value: Any) -> dict[str, Any]:
    """A dataclass as JSON has it."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


if __name__ == "__main__":
    main()
