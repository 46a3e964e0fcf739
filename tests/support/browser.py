"""A headless Chromium, steered through the DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE = 120.0


class Page:
    """The one page of a browser."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._numbers = count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a method of the protocol returns."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=_PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def value(self, expression: str) -> Any:
        """What a script comes to, as JSON has it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until a script comes to true."""
        deadline = time.monotonic() + _PATIENCE
        while not self.value(expression):
            assert time.monotonic() < deadline, f"the page never came to {expression}"
            time.sleep(0.2)

    def open(self, url: str) -> None:
        """Go there; nothing is awaited."""
        self.call("Page.navigate", url=url)

    def resize(self, width: int, height: int = 1000) -> None:
        """As if the window had this size, in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """As if the system were set to ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def photograph(self, path: Path) -> None:
        """What is in the window, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def browser(home: Path) -> Iterator[Page]:
    """A browser with its profile in `home`; the test is skipped where none is installed."""
    connect = pytest.importorskip("websockets.sync.client").connect
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    arguments += ["--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={home}"]
    arguments += ["--disable-background-networking", "about:blank"]
    log = home.with_suffix(".log")
    with log.open("wb") as messages:
        process = subprocess.Popen([program, *arguments], stdout=messages, stderr=messages)
    try:
        with connect(_page_socket(home, process, log), max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(30)


def _page_socket(home: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    import urllib.request

    port = home / "DevToolsActivePort"
    deadline = time.monotonic() + _PATIENCE
    while not (port.is_file() and port.read_text("ascii").count("\n")):
        assert process.poll() is None, log.read_text("utf-8", "replace")
        assert time.monotonic() < deadline, "the browser never listened"
        time.sleep(0.1)
    listed = f"http://127.0.0.1:{port.read_text('ascii').split()[0]}/json"
    with urllib.request.urlopen(listed) as answer:
        pages = [one for one in json.load(answer) if one["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
