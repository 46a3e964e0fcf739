"""Every way out of this machine asks here first.

One `Gate` knows which destinations the user's own settings name, and for what. Everything else
is closed: what a server answers, a repository or an index says cannot open it. It counts what
goes through. The transports below put it into the HTTP client itself, so that retries and
redirects ask as well.
"""

from __future__ import annotations

import ipaddress
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from kagent.errors import EgressError
from kagent.text import clip

if TYPE_CHECKING:
    import httpx

    from kagent.settings import Settings

__all__ = [
    "HUB",
    "Destination",
    "Gate",
    "Purpose",
    "Sent",
    "async_client",
    "client",
    "gate_of",
    "proxies",
]

HUB = "https://huggingface.co"
_PORTS = {"http": 80, "https": 443}


class Purpose(StrEnum):
    """Why something leaves; the value is the words for it."""

    MODEL = "asking a model"
    EMBEDDING = "embedding texts"
    DEBUGINFOD = "fetching debug info"
    HUB = "fetching an embedding model"


_LARGEST = {Purpose.MODEL: 8 << 20, Purpose.EMBEDDING: 64 << 20}
"""Bytes of an answer that is gathered in memory; the others are counted by who stores them."""

_ACCOUNT_HOST, _ACCOUNT = "api.openai.com", ("OpenAI-Organization", "OpenAI-Project")
"""What the client adds from the environment about the user's account, and who may know it."""

_OPENED_BY = {
    Purpose.MODEL: "--model, and KAGENT_BASE_URL for another endpoint than the default",
    Purpose.EMBEDDING: "KAGENT_BASE_URL",
    Purpose.DEBUGINFOD: "KAGENT_DEBUGINFOD_URLS",
    Purpose.HUB: "KAGENT_HUB=1",
}


_USER = re.compile(r"//.*@", re.DOTALL)
"""Name and password in a URL, also in one that urlsplit() does not take."""


class Destination(NamedTuple):
    """Where something goes."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Destination:
        """Of an http or https URL.

        Raises:
            EgressError: it is none.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme)
        except ValueError:
            parts, port = urlsplit(""), None
        if not parts.hostname or port is None:
            hint = "check --base-url (KAGENT_BASE_URL)"
            shown = clip(_USER.sub("//", url), 200)[0]
            raise EgressError(f"{shown!r} is not an http or https URL", hint=hint)
        return cls(parts.scheme, parts.hostname.rstrip("."), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it is this machine, by its name or address alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def covers(self, other: Destination) -> bool:
        """Whether who names this one also means `other`: the same, or the same over TLS."""
        upgraded = ("https", self.host, 443)
        return other == self or (self.scheme == "http" and self.port == 80 and other == upgraded)


@dataclass
class Sent:
    """What went to one destination for one purpose."""

    purpose: Purpose
    destination: Destination
    requests: int = 0
    bytes: int = 0


class Gate:
    """Lets through what the settings name, and counts it. Safe to share between threads."""

    def __init__(
        self, named: Mapping[Purpose, Iterable[str]] | None = None, *, offline: bool = False
    ) -> None:
        """`named` are the URLs open for a purpose; with `offline` only loopback stays open."""
        self._open: dict[Purpose, set[Destination]] = {}
        self._offline = offline
        self._sent: dict[tuple[Purpose, Destination], Sent] = {}
        self.lock = threading.Lock()
        self.clients: dict[tuple[Purpose, str], Any] = {}
        """HTTP clients that ask this gate, kept for their open connections."""
        for purpose, urls in (named or {}).items():
            self.open(purpose, *urls)

    def open(self, purpose: Purpose, *urls: str) -> None:
        """Let `purpose` go to these, as the user said; `offline` still counts."""
        for url in urls:
            self._open.setdefault(purpose, set()).add(Destination.of(url))

    def ask(self, purpose: Purpose, url: str) -> Destination:
        """The destination of `url`, if it is open.

        Raises:
            EgressError: it is not.
        """
        destination = Destination.of(url)
        if self._offline and not destination.loopback:
            raise EgressError(
                f"{purpose} would go to {destination}, and the run is offline",
                hint="leave --offline (KAGENT_OFFLINE) out",
            )
        if not any(one.covers(destination) for one in self._open.get(purpose, ())):
            raise EgressError(
                f"{purpose} would go to {destination}, which no setting names",
                hint=f"it is opened by {_OPENED_BY[purpose]}",
            )
        return destination

    def allows(self, purpose: Purpose, url: str) -> bool:
        """Whether `ask` would let it through."""
        try:
            self.ask(purpose, url)
        except EgressError:
            return False
        return True

    def count(self, purpose: Purpose, destination: Destination, size: int) -> None:
        """Note one request with a body of `size` bytes."""
        with self.lock:
            key = (purpose, destination)
            entry = self._sent.setdefault(key, Sent(purpose, destination))
            entry.requests += 1
            entry.bytes += size

    @property
    def sent(self) -> list[Sent]:
        """What went out, by purpose and destination."""
        with self.lock:
            return list(self._sent.values())


def gate_of(settings: Settings) -> Gate:
    """The gate of a run; the same one for as long as its settings do not change."""
    servers = (settings.debuginfod_urls or "").split()
    # One who only exports a key has named no place for texts of commits to go to.
    embedding = [settings.base_url] if settings.base_url else []
    key = (settings.endpoint, settings.model, *servers, settings.hub, settings.offline)
    known: tuple[Any, Gate] | None = settings._gate
    if known is None or known[0] != key:
        named = {
            Purpose.MODEL: [settings.endpoint] if settings.model else [],
            Purpose.EMBEDDING: embedding,
            Purpose.DEBUGINFOD: [url for url in servers if re.match(r"https?://", url)],
            Purpose.HUB: [HUB] if settings.hub else [],
        }
        known = settings._gate = (key, Gate(named, offline=settings.offline))
    return known[1]


def proxies(destination: Destination) -> str | None:
    """The proxy that the user's environment names for a destination; never one for loopback."""
    from urllib.request import getproxies, proxy_bypass

    if destination.loopback or proxy_bypass(destination.host):
        return None
    found = getproxies()
    return found.get(destination.scheme) or found.get("all")


def client(gate: Gate, purpose: Purpose) -> httpx.Client:
    """The HTTP client of a gate for one purpose, of which every request asks the gate.

    The read timeout of a request is the time for all of it, and no answer is larger than its
    purpose needs (`kagent.exchange`).
    """
    import httpx

    from kagent.exchange import Limits, bounded

    class Guarded(httpx.BaseTransport):
        def __init__(self) -> None:
            self._inner: dict[str | None, httpx.HTTPTransport] = {}
            self._lock = threading.Lock()

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            destination = _passed(gate, purpose, request)
            proxy = proxies(destination)
            with self._lock:
                if proxy not in self._inner:
                    self._inner[proxy] = bounded(httpx.HTTPTransport(proxy=proxy))
            limits = Limits(request, _LARGEST.get(purpose))
            with limits.counting():
                answer = self._inner[proxy].handle_request(request)
            try:
                answer.stream = limits.body(answer)
            except httpx.DecodingError:
                answer.close()
                raise
            return answer

        def close(self) -> None:
            for inner in self._inner.values():
                inner.close()

        def __del__(self) -> None:
            self.close()

    with gate.lock:
        if (purpose, "sync") not in gate.clients:
            made = httpx.Client(transport=Guarded(), follow_redirects=True)
            gate.clients[purpose, "sync"] = made
        found: httpx.Client = gate.clients[purpose, "sync"]
    return found


def async_client(gate: Gate, purpose: Purpose) -> httpx.AsyncClient:
    """`client` for asynchronous callers; each event loop needs its own, so none is kept."""
    import httpx

    from kagent.exchange import Limits, async_bounded

    class Guarded(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            self._inner: dict[str | None, httpx.AsyncHTTPTransport] = {}

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            destination = _passed(gate, purpose, request)
            proxy = proxies(destination)
            if proxy not in self._inner:
                self._inner[proxy] = async_bounded(httpx.AsyncHTTPTransport(proxy=proxy))
            limits = Limits(request, _LARGEST.get(purpose))
            with limits.counting():
                answer = await self._inner[proxy].handle_async_request(request)
            try:
                answer.stream = limits.body(answer)
            except httpx.DecodingError:
                await answer.aclose()
                raise
            return answer

        async def aclose(self) -> None:
            for inner in self._inner.values():
                await inner.aclose()

    return httpx.AsyncClient(transport=Guarded(), follow_redirects=True)


def _passed(gate: Gate, purpose: Purpose, request: httpx.Request) -> Destination:
    destination = gate.ask(purpose, str(request.url))
    if destination.host != _ACCOUNT_HOST:
        for name in _ACCOUNT:
            request.headers.pop(name, None)
    told = request.headers.get("Content-Length", "")
    gate.count(purpose, destination, int(told) if told.isdigit() else 0)
    return destination
