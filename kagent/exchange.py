"""What the far end of an HTTP exchange may take: so much time in all, and so many bytes.

A client's timeouts are for silence: who sends a byte now and then, an endless header or one
interim answer after the other, holds it for ever. Here they are a deadline from the first byte
sent to the last one received. Nor does a client limit what it gathers before anybody looks at it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

__all__ = ["Limits", "async_bounded", "bounded"]

_deadline: ContextVar[float | None] = ContextVar("kagent_exchange", default=None)


class Limits:
    """The limits of one exchange, from when it is made."""

    def __init__(self, request: httpx.Request, largest: int | None) -> None:
        """The request's read timeout is the time for all of it, `largest` the bytes of the body.

        None leaves the body to the caller: then the deadline is for the head of the answer.
        A compressed answer is not asked for, as a small one may hold any number of bytes.
        """
        seconds = request.extensions.get("timeout", {}).get("read")
        self._end = None if seconds is None else time.monotonic() + seconds
        self._largest = largest
        request.headers["Accept-Encoding"] = "identity"

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Within the block, the network has what is left of the time."""
        token = _deadline.set(self._end)
        try:
            yield
        finally:
            _deadline.reset(token)

    def body(self, answer: httpx.Response) -> Any:
        """The stream of the answer within the limits.

        Raises:
            httpx.DecodingError: it is compressed; or, while it is read, larger than allowed.
        """
        coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("identity", ""):
            raise httpx.DecodingError("it is compressed, which was not asked for")
        if self._largest is None:
            return answer.stream
        if isinstance(answer.stream, httpx.SyncByteStream):
            return _Body(answer.stream, self, self._largest)
        return _AsyncBody(answer.stream, self, self._largest)


def bounded(transport: httpx.HTTPTransport) -> httpx.HTTPTransport:
    """The transport, with its network bound to `Limits.counting`."""
    # httpx has no public way to hand its pool a network; httpcore, whose pool it is, has.
    transport._pool._network_backend = _Network(transport._pool._network_backend)
    return transport


def async_bounded(transport: httpx.AsyncHTTPTransport) -> httpx.AsyncHTTPTransport:
    """`bounded` for asynchronous callers."""
    transport._pool._network_backend = _AsyncNetwork(transport._pool._network_backend)
    return transport


def _left(timeout: float | None) -> float | None:
    end = _deadline.get()
    if end is None:
        return timeout
    left = end - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("it took longer in all than it was given")
    return left if timeout is None else min(left, timeout)


class _Body(httpx.SyncByteStream):
    def __init__(self, inner: httpx.SyncByteStream, limits: Limits, largest: int) -> None:
        self._inner, self._limits, self._largest = inner, limits, largest

    def __iter__(self) -> Iterator[bytes]:
        pieces, room = iter(self._inner), self._largest
        while True:
            with self._limits.counting():
                piece = next(pieces, None)
            if piece is None:
                return
            room = _after(piece, room, self._largest)
            yield piece

    def close(self) -> None:
        self._inner.close()


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, inner: Any, limits: Limits, largest: int) -> None:
        self._inner, self._limits, self._largest = inner, limits, largest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces, room = aiter(self._inner), self._largest
        while True:
            with self._limits.counting():
                piece = await anext(pieces, None)
            if piece is None:
                return
            room = _after(piece, room, self._largest)
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


def _after(piece: bytes, room: int, largest: int) -> int:
    if len(piece) > room:
        raise httpx.DecodingError(f"it is larger than {largest >> 20} MiB")
    return room - len(piece)


class _Network(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(self, *where: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.connect_tcp(*where, **options))

    def connect_unix_socket(self, *where: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.connect_unix_socket(*where, **options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, *how: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(*how, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _AsyncNetwork(httpcore.AsyncNetworkBackend):
    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(self, *where: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _AsyncStream(await self._inner.connect_tcp(*where, **options))

    async def connect_unix_socket(self, *where: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _AsyncStream(await self._inner.connect_unix_socket(*where, **options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _AsyncStream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max_bytes, _left(timeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, _left(timeout))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(self, *how: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _AsyncStream(await self._inner.start_tls(*how, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
