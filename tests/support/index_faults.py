"""Building an index while things go wrong: killed processes, full disks, harmed files."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kagent.commits import CommitIndex

__all__ = ["content", "kill_while", "small_disk", "some_commits"]

# Small steps, so that a short build has many moments to be killed in.
_SCRIPT = """
import sys, time
from pathlib import Path
import kagent.commits.build as build
from kagent.commits import CommitIndex
import faiss, scipy.sparse
build._FRAME_RECORDS, build._SAVE_EVERY, build._EMBED_EVERY = 16, 48, 16
source, out = Path(sys.argv[2]), Path(sys.argv[3])
opened = CommitIndex.open(out) if sys.argv[1] == "update" else None
print("go", flush=True)
if opened:
    opened.update()
else:
    CommitIndex.build(source, out)
"""


def some_commits(count: int, first: int = 0) -> Iterator[str]:
    """Lines of a corpus; any two parts of it overlap in words and names, not in hashes."""
    for number in range(first, first + count):
        dice = random.Random(number)
        names = [f"dev{dice.randrange(40)}_{verb}_ring" for verb in ("get", "put", "reset")]
        row = {
            "hash": f"{number:040x}",
            "subject": f"dev{number % 40}: fix a leak in {names[0]}()",
            "author": "Ada Example <ada@example.org>",
            "date": f"2024-01-{number % 28 + 1:02}T00:00:00+00:00",
            "message": f"Word{dice.randrange(90)} of {names[1]}() was lost.\n\n"
            f"Fixes: {number // 2:012x}",
            "files": [f"drivers/dev{dice.randrange(40)}.c"],
            "functions": names[:2],
            "called": names[1:],
        }
        yield json.dumps(row) + "\n"


def content(index: CommitIndex) -> dict[str, Any]:
    """What two indexes of the same commits have in common, whatever happened on the way."""
    database = sqlite3.connect(index.directory / "commits.sqlite")
    try:
        postings = database.execute("SELECT * FROM postings ORDER BY kind, term").fetchall()
        arrays: dict[str, bytes] = {}
        for name, data in database.execute("SELECT name, data FROM arrays ORDER BY name, start"):
            arrays[name] = arrays.get(name, b"") + data
    finally:
        database.close()
    return {
        "commits": list(index.commits()),
        "postings": postings,
        "arrays": arrays,
        "problems": index.verify(),
        "hits": [hit.hash for hit in index.search("leak in dev7_get_ring", 20)],
        "vectors": index.stats()["vectors"],
    }


def kill_while(command: str, source: Path, out: Path, after: float) -> bool:
    """Start ``build`` or ``update`` and kill it `after` so many seconds; whether it was alive."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, command, source, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[bool]:
    """A file system of `size` at `path`; False where one may not be mounted."""
    path.mkdir()
    mount = shutil.which("mount")
    mounted = (
        mount is not None
        and os.geteuid() == 0
        and subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True
        ).returncode
        == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", path], check=True)
