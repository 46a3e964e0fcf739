"""A chat-completions endpoint on loopback, so that the real client speaks real HTTP in tests.

The test decides what the "model" answers by giving a function from the request to an answer.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Endpoint", "chat_endpoint", "text", "tool_call"]

Answer = dict[str, Any] | int
"""A message, or an HTTP status to fail with."""


def text(content: str | dict[str, Any]) -> Answer:
    """A message with this content; a dict becomes JSON."""
    body = content if isinstance(content, str) else json.dumps(content)
    return {"role": "assistant", "content": body}


def tool_call(name: str, **arguments: Any) -> Answer:
    """A message that calls one tool."""
    call = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"call_{name}", "type": "function", "function": call}],
    }


class Endpoint:
    """The running server: its address, and every request it got."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer], delay: float) -> None:
        self.requests: list[dict[str, Any]] = []
        self.at_once = 0
        """The most requests that were being answered at the same time."""
        self._busy = 0
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with endpoint._answering():
                    endpoint.requests.append(request)
                    time.sleep(delay)
                reply = answer(request)
                if isinstance(reply, int):
                    self._send(reply, {"error": {"message": "out of order", "type": "server"}})
                    return
                finish = "tool_calls" if reply.get("tool_calls") else "stop"
                choice = {"index": 0, "message": reply, "finish_reason": finish}
                usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
                head = {"id": "c1", "object": "chat.completion", "created": 0, "model": "scripted"}
                self._send(200, {**head, "choices": [choice], "usage": usage})

            def _send(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):
                    self.wfile.write(data)

            def log_message(self, *_args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        with self._lock:
            self._busy += 1
            self.at_once = max(self.at_once, self._busy)
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    @contextlib.contextmanager
    def running(self) -> Iterator[Endpoint]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def chat_endpoint(
    answer: Callable[[dict[str, Any]], Answer], *, delay: float = 0.0
) -> contextlib.AbstractContextManager[Endpoint]:
    """An endpoint that answers each request with ``answer(request)`` after `delay` seconds."""
    return Endpoint(answer, delay).running()
