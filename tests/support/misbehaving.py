"""What a library does that a hostile file has taken over. Runs in the child of a `Worker`."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from typing import Any

FRAME = struct.Struct(">IQB")


def well(_session: Any, *_arguments: Any) -> int:
    return os.getpid()


def environment(_session: Any) -> list[str]:
    return sorted(os.environ)


def modules(_session: Any) -> list[str]:
    return sorted(name for name in sys.modules if name.startswith(("kagent", "langgraph")))


def segfault(_session: Any, *_arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def abort(_session: Any, *_arguments: Any) -> None:
    os.abort()


def leave(_session: Any, *_arguments: Any) -> None:
    os._exit(0)


def hang(_session: Any, *_arguments: Any) -> None:
    """As a native loop would: signals that Python handles come never, and the lock is held."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    while True:
        time.sleep(1)


def eat_memory(_session: Any, *_arguments: Any) -> int:
    kept = []
    while True:
        kept.append(bytearray(64 << 20))


def flood(_session: Any, *_arguments: Any) -> str:
    return "x" * (4 << 20)


def other_type(_session: Any, *_arguments: Any) -> dict[str, str]:
    return {"address": "none"}


def raises(_session: Any, *_arguments: Any) -> None:
    raise RuntimeError("\x1b[2J\x1b]0;owned\x07 of \N{RIGHT-TO-LEFT OVERRIDE}no kind\nsecond line")


def nonsense(_session: Any, *_arguments: Any) -> None:
    _say(b"\xff" * 64)


def not_json(_session: Any, *_arguments: Any) -> None:
    _say(FRAME.pack(4, 1, 0) + b"\x80\x04K\x01")


def deep_json(_session: Any, *_arguments: Any) -> None:
    _say(FRAME.pack(200_000, 1, 2) + b"[" * 200_000)


def other_question(_session: Any, *_arguments: Any) -> None:
    _say(FRAME.pack(2, 7, 0) + b"42")


def half_an_answer(_session: Any, *_arguments: Any) -> None:
    _say(FRAME.pack(100, 1, 0) + b"[")
    time.sleep(60)


def _say(data: bytes) -> None:
    with socket.socket(fileno=os.dup(int(sys.argv[1]))) as channel:
        channel.sendall(data)
