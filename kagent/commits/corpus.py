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

__all__ = ["is_corpus", "read_corpus"]

_MAX_LINE = 16 << 20


def is_corpus(path: Path) -> bool:
    """Say whether the name is one of a JSON Lines file."""
    return path.name.endswith((".jsonl", ".jsonl.gz"))


def read_corpus(path: Path) -> Iterator[Commit]:
    """Yield the changes of `path`, each hash once, in its order.

    Raises:
        MissingDataError: there is no such file.
        InputError: a line is not a change; says which.
    """
    if not path.is_file():
        raise MissingDataError(f"no such file: {path}")
    opener = gzip.open if path.name.endswith(".gz") else open
    seen: set[str] = set()
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8", errors="replace", newline="\n") as lines:
            while line := lines.readline(_MAX_LINE):
                number += 1
                if not line.strip():
                    continue
                commit = _commit(json.loads(line))
                if commit.hash not in seen:
                    seen.add(commit.hash)
                    yield commit
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: line {number} is not a change: {error}",
            hint="each line is a JSON object with hash, subject, author, date and message",
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path} after line {number}: {error}") from error


def _commit(row: dict[str, Any]) -> Commit:
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
