"""What JupyterLab shows of a resolution that ends a cell, measured in a browser."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.browser import browser
from support.resolutions import deadlock_resolution, oops_resolution

from kagent.report.json import to_json

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")

pytestmark = pytest.mark.integration

CELL = """
from kagent import Resolution
resolution = Resolution.model_validate_json({json!r})
resolution
"""
SCREENSHOTS = os.environ.get("KAGENT_TEST_SCREENSHOTS")
LABELS = """
[...document.querySelectorAll('.kagent dt, .kagent th')].filter(e => e.innerText.trim()).map(e => {
  const range = document.createRange();
  range.selectNodeContents(e);
  const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
  return {text: e.innerText, words: e.innerText.trim().split(/[\\s/-]+/).length, lines: lines.size};
})
"""
OUTSIDE = """
(() => {
  const frame = document.querySelector('.kagent').getBoundingClientRect();
  return [...document.querySelectorAll('.kagent :is(dt, dd, p, li, h1, h2)')]
    .filter(e => e.getBoundingClientRect().right > frame.right + 1).map(e => e.innerText);
})()
"""
ALIGNED = """
[...document.querySelectorAll('.kagent dt')].every(label => {
  const value = label.nextElementSibling.getBoundingClientRect();
  const box = label.getBoundingClientRect();
  return value.left >= box.right && value.top < box.bottom && value.bottom > box.top;
})
"""
LOOKS = "getComputedStyle(document.querySelector('.kagent')).colorScheme"
BACKGROUNDS = """
[...document.querySelectorAll('.kagent *:not(pre, svg *)')].filter(e =>
  getComputedStyle(e).backgroundColor !== 'rgba(0, 0, 0, 0)').map(e => e.outerHTML)
"""


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_labels_stand_on_lines_of_words(tmp_path, theme):
    (tmp_path / "books").mkdir()
    write_trusted(tmp_path / "books" / "crash.ipynb", tmp_path)
    scheme = theme.lower()
    with jupyterlab(tmp_path, f"JupyterLab {theme}") as url, browser(tmp_path / "profile") as page:
        page.prefer("dark" if scheme == "light" else "light")  # JupyterLab's own theme decides
        page.resize(1500)
        page.open(f"{url}/lab/tree/crash.ipynb?token=")
        page.wait_for("document.querySelectorAll('.kagent dt').length > 4")
        page.value("document.querySelector('.kagent').scrollIntoView()")
        assert page.value(LOOKS) == scheme
        assert page.value(BACKGROUNDS) == []
        for width in (1500, 760):
            page.resize(width)
            time.sleep(1)
            if SCREENSHOTS:
                page.photograph(Path(SCREENSHOTS, f"{scheme}-{width}.png"))
            broken = [one for one in page.value(LABELS) if one["lines"] > one["words"]]
            assert not broken, f"{width} px wide: {broken}"
            assert page.value(OUTSIDE) == []
            assert page.value(ALIGNED)


def write_trusted(path: Path, home: Path) -> None:
    """Run the cells and store them with their outputs, signed as Jupyter signs what one ran."""
    sources = [CELL.format(json=to_json(one)) for one in (oops_resolution(), deadlock_resolution())]
    book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    nbformat.write(book, path)
    environment = {**os.environ, **directories(home)}
    command = [sys.executable, "-m", "jupyter", "trust", str(path)]
    subprocess.run(command, check=True, env=environment, capture_output=True)


def directories(home: Path) -> dict[str, str]:
    """Everything that Jupyter keeps, kept in `home`."""
    return {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }


@contextmanager
def jupyterlab(home: Path, theme: str) -> Iterator[str]:
    """A server on `home`/books; yields its address."""
    chosen = home / "settings" / "@jupyterlab" / "apputils-extension"
    chosen.mkdir(parents=True)
    (chosen / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    log = home / "server.log"
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    options += ["--IdentityProvider.token=", f"--ServerApp.root_dir={home / 'books'}"]
    with log.open("wb") as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env={**os.environ, **directories(home)},
            stdout=messages,
            stderr=messages,
            start_new_session=True,
        )
    try:
        yield address(log, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # asked to end, it waits for kernels and clients
        process.wait(30)


def address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the server says that it listens."""
    deadline = time.monotonic() + 120
    while True:
        said = log.read_text("utf-8", "replace")
        if found := re.search(r"http://127\.0\.0\.1:\d+", said):
            return found[0]
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
