"""A debuginfod server of a few files, over real HTTP on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Server", "debuginfod"]


@dataclass
class Server:
    """Where it listens, and which paths were asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def debuginfod(files: Mapping[str, bytes], *, status: int = 200) -> Iterator[Server]:
    """Serve ``/buildid/ID/debuginfo`` for the build-ids in `files`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            build_id = self.path.removeprefix("/buildid/").removesuffix("/debuginfo")
            data = files.get(build_id)
            self.send_response(404 if data is None else status)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
