"""Commits of a JSON Lines file, plain or gzip: one change a line.

Fields: ``hash`` or ``id``, ``subject``, ``author``, ``date``, ``message``, and where known
``files``, ``functions``, ``called`` (names on changed lines) and ``diff``.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kagent.commits.message import parse_fixes, parse_trailers
from kagent.commits.model import Commit
from kagent.commits.patch import read_patch
from kagent.errors import InputError, MissingDataError

__all__ = ["is_corpus", "parse_line", "read_lines"]

_MAX_LINE = 16 << 20


def is_corpus(path: Path) -> bool:
    """Say whether the name is one of a JSON Lines file."""
    return path.name.endswith((".jsonl", ".jsonl.gz"))


def read_lines(path: Path, skip: int = 0) -> Iterator[bytes]:
    """The lines of `path` after the first `skip`.

    Raises:
        MissingDataError: there is no such file.
        InputError: it cannot be read to its end.
    """
    if not path.is_file():
        raise MissingDataError(f"no such file: {path}")
    opener = gzip.open if path.name.endswith(".gz") else open
    number = 0
    try:
        with opener(path, "rb") as lines:
            while line := lines.readline(_MAX_LINE):
                number += 1
                if number > skip:
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path} after line {number}: {error}") from error


def parse_line(line: bytes) -> Commit | None:
    """The change in one line; None for an empty one.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not a change.
    """
    text = line.decode("utf-8", "replace")
    if not text.strip():
        return None
    row: dict[str, Any] = json.loads(text)
    message = str(row["message"])
    diff = str(row.get("diff") or "")
    patch = read_patch(diff)
    return Commit(
        hash=str(row.get("hash") or row["id"]),
        subject=str(row["subject"]).replace("\n", " "),
        author=str(row["author"]).replace("\n", " "),
        date=str(row["date"]),
        message=message,
        files=tuple(row.get("files") or patch.files),
        functions=tuple(row.get("functions") or patch.functions),
        diff=diff,
        fixes=parse_fixes(message),
        trailers=parse_trailers(message),
        identifiers=tuple(row.get("called") or patch.identifiers),
    )
