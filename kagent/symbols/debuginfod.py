"""Debug info by build-id from debuginfod servers, for those who name one.

The protocol is elfutils' (debuginfod(8)): ``GET /buildid/ID/debuginfo``. Servers learn which
build-ids somebody is interested in, and nothing else of a log. The cache is the one that
elfutils' own clients keep, in their layout, so that what gdb has fetched need not come again.

A server may redirect to itself only. One file has 8 GiB and half an hour at most, however
steadily it trickles.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kagent.egress import Destination, Gate, Purpose, client
from kagent.errors import CorruptDataError, KagentError, MissingDataError

if TYPE_CHECKING:
    import httpx

__all__ = ["Debuginfod", "Progress"]

Progress = Callable[[str, int, int | None], None]
"""Called with a server's URL, bytes that came, and bytes in all if the server tells."""

_BUILD_ID = re.compile(r"[0-9a-f]{16,64}\Z")
_URL = re.compile(r"https?://[^\s]{1,500}\Z")
_MAX_BYTES = 8 << 30
_CONNECT_SECONDS, _SILENCE_SECONDS = 10.0, 90.0  # debuginfod's own patience, DEBUGINFOD_TIMEOUT
_TOTAL_SECONDS = 1800.0


class Debuginfod:
    """A client of the servers that ``DEBUGINFOD_URLS`` names.

    Safe to share between threads; what a server does not have is asked for once.
    """

    def __init__(
        self,
        urls: str,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
        offline: bool = False,
        seconds: float = _TOTAL_SECONDS,
    ) -> None:
        """`urls` are separated by white space; what is no http(s) URL among them is left out.

        With `offline` only servers on this machine are asked. One fetch ends after `seconds`.
        """
        self.urls = tuple(url.rstrip("/") for url in urls.split() if _URL.match(url))
        self.gate = Gate({Purpose.DEBUGINFOD: self.urls}, offline=offline)
        self._seconds = seconds
        self._cache = cache if cache is not None else _shared_cache()
        self._progress = progress
        self._refused: dict[str, str] = {}
        self._lock = threading.Lock()

    def debug_info(self, build_id: str) -> Path:
        """The debug file of a build, from the cache or a server.

        Raises:
            MissingDataError: no server has it, or none answers.
        """
        if not _BUILD_ID.match(build_id):
            raise MissingDataError(f"{build_id[:64]!r} is no build-id to ask a debuginfod for")
        path = self._cache / build_id / "debuginfo"
        with self._lock:
            if _holds_data(path):
                return path
            if build_id not in self._refused:
                problems = []
                for url in self.urls:
                    try:
                        return self._fetch(f"{url}/buildid/{build_id}/debuginfo", build_id, path)
                    except KagentError as error:
                        problems.append(str(error))
                self._refused[build_id] = "; ".join(problems) or "no server is named"
        raise MissingDataError(
            f"no debug info for build-id {build_id[:12]}: {self._refused[build_id]}"
        )

    def _fetch(self, url: str, build_id: str, path: Path) -> Path:
        import httpx

        deadline = time.monotonic() + self._seconds
        patience = httpx.Timeout(min(_SILENCE_SECONDS, self._seconds), connect=_CONNECT_SECONDS)
        server = _shown(url)
        try:
            http = client(self.gate, Purpose.DEBUGINFOD)
            with http.stream("GET", url, timeout=patience) as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    raise MissingDataError(f"{server} does not have it")
                answer.raise_for_status()
                return self._keep(answer, server, build_id, path, deadline)
        except httpx.HTTPStatusError as error:
            raise MissingDataError(f"{server} says {error.response.status_code}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            words = str(error) or type(error).__name__
            raise MissingDataError(f"{server} does not answer: {words}") from None

    def _keep(
        self, answer: httpx.Response, server: str, build_id: str, path: Path, deadline: float
    ) -> Path:
        """Write what comes to the cache, where it appears whole and of the right build or never."""
        size = answer.headers.get("X-DEBUGINFOD-SIZE") or answer.headers.get("Content-Length", "")
        total = int(size) if re.fullmatch(r"\d{1,15}", size) else None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
                temporary = Path(part.name)
            try:
                self._receive(answer, temporary, server, total, deadline)
                _require_build(temporary, build_id, server)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise MissingDataError(f"{path} cannot be written: {error.strerror}") from error
        return path

    def _receive(
        self, answer: httpx.Response, target: Path, server: str, total: int | None, deadline: float
    ) -> None:
        done = 0
        with target.open("wb") as file:
            # As it comes: waiting for whole pieces would let a trickle outlast the deadline.
            for piece in answer.iter_bytes():
                if time.monotonic() > deadline:
                    raise MissingDataError(f"{server} took longer than {self._seconds:.0f} seconds")
                done += len(piece)
                if done > _MAX_BYTES:
                    raise MissingDataError(f"{server} sends more than {_MAX_BYTES >> 30} GiB")
                file.write(piece)
                if self._progress is not None:
                    self._progress(server, done, total)


def _shown(url: str) -> str:
    """A server's URL without what is the user's secret: name, password, query."""
    parts = urlsplit(url.partition("/buildid/")[0])
    return f"{Destination.of(url)}{parts.path}"


def _require_build(path: Path, build_id: str, server: str) -> None:
    from kagent.symbols.objects import open_object

    try:
        found = open_object(path).image.build_id
    except KagentError as error:
        words = str(error).replace(str(path), "what came")
        raise CorruptDataError(f"{server} sent no debug info: {words}") from error
    if found != build_id:
        raise CorruptDataError(f"{server} sent another build, {(found or 'of no id')[:12]}")


def _holds_data(path: Path) -> bool:
    """elfutils leaves an empty file where a server had nothing."""
    try:
        return path.stat().st_size > 0 and os.access(path, os.R_OK)
    except OSError:
        return False


def _shared_cache() -> Path:
    """As debuginfod_find_debuginfo(3) chooses it."""
    if own := os.environ.get("DEBUGINFOD_CACHE_PATH"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "debuginfod_client"
