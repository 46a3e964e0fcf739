"""An HTTP server on loopback that answers anything and keeps what it was sent."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Sink", "sink", "tracing_variables"]


@dataclass
class Sink:
    """Where it listens, and the (method, path, body) of every request."""

    url: str
    got: list[tuple[str, str, bytes]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All bodies, unpacked, as one text."""
        return "\n".join(_unpacked(body) for _, _, body in self.got)


def _unpacked(body: bytes) -> str:
    try:
        import zstandard

        if body[:4] == b"\x28\xb5\x2f\xfd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    except ImportError:
        pass
    if body[:2] == b"\x1f\x8b":
        body = gzip.decompress(body)
    return body.decode("utf-8", "replace")


@contextmanager
def sink() -> Iterator[Sink]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            kept.got.append((self.command, self.path, self._body()))
            answer = b"{}"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PATCH = do_PUT = do  # noqa: N815 - as the base calls them

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    kept = Sink(f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def tracing_variables(url: str) -> dict[str, str]:
    """Every variable by which LangChain and LangSmith are told to send runs to `url`."""
    return {
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_TRACING_V2": "true",
        "LANGCHAIN_TRACING_V2": "true",
        "LANGCHAIN_TRACING": "true",
        "LANGSMITH_ENDPOINT": url,
        "LANGCHAIN_ENDPOINT": url,
        "LANGSMITH_API_KEY": "lsv2_pt_not_a_key",
        "LANGCHAIN_API_KEY": "lsv2_pt_not_a_key",
        "LANGSMITH_PROJECT": "leak",
        "LANGCHAIN_PROJECT": "leak",
        "LANGCHAIN_CALLBACKS_BACKGROUND": "false",
    }
