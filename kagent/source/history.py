"""Who wrote a line, out of a git repository."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from kagent.errors import InputError, MissingDataError
from kagent.repository import GitError, Repository, is_repository
from kagent.source.store import confined

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree

__all__ = ["Blame", "blame"]

_SECONDS = 60.0
_MAX_OUTPUT = 1 << 20
_HEAD = re.compile(r"(?P<commit>[0-9a-f]{40,64}) (?P<original>\d{1,9}) (?P<line>\d{1,9})")


@dataclass(frozen=True, slots=True)
class Blame:
    """The commit that last changed a line."""

    path: str
    line: int
    text: str
    commit: str
    """Full hash."""
    author: str
    """``Name <address>``."""
    date: datetime
    """Of authorship, in the author's time zone."""
    subject: str
    original_path: str
    """What the file was called in that commit."""
    original_line: int
    boundary: bool = False
    """True when the history ends there (first commit, shallow clone): the line may be older."""


def blame(tree: SourceTree, path: str, line: int, *, seconds: float = _SECONDS) -> Blame:
    """Who last changed a line of the tree's revision; of ``HEAD`` for a plain checkout.

    Raises `InputError` for names outside the tree and lines outside the file, `MissingDataError`
    for a plain tree, a file git does not know, a line changed since ``HEAD``, and when `seconds`
    do not suffice.
    """
    path = confined(path)
    expected = tree.read_lines(path, line, line).text
    if not is_repository(tree.root):
        raise MissingDataError(
            f"{tree.root} is no git repository: it has no history",
            hint="give a git repository as kernel source, PATH@REV",
        )
    repository = Repository(tree.root)
    commit = repository.resolve(tree.revision or "HEAD")
    options = ("--porcelain", "--no-textconv", "-L", f"{line},{line}")
    try:
        found = repository.run(
            "blame", *options, revisions=[commit], paths=[path], seconds=seconds, limit=_MAX_OUTPUT
        )
    except GitError as error:
        raise MissingDataError(f"{path}:{line} has no history: {error}") from None
    if found.truncated:
        raise MissingDataError(f"git did not finish the history of {path} in {seconds:g} s")
    result = _read(path, found.data.decode("utf-8", "replace"))
    if result.text != expected:
        raise MissingDataError(
            f"{path}:{line} has changed since {tree.revision or 'HEAD'}",
            hint="give the revision that was built: PATH@REV",
        )
    return result


def _read(path: str, output: str) -> Blame:
    """One entry of the porcelain format (git-blame(1))."""
    first, *rows = output.split("\n")
    head = _HEAD.match(first)
    text = next((row[1:] for row in rows if row.startswith("\t")), None)
    if head is None or text is None:
        raise InputError(f"{path}: git gave no answer")
    fields = dict(row.partition(" ")[::2] for row in rows if not row.startswith("\t"))
    return Blame(
        path=path,
        line=int(head["line"]),
        text=text.rstrip("\r"),
        commit=head["commit"],
        author=f"{fields.get('author', '')} {fields.get('author-mail', '')}".strip(),
        date=_date(fields.get("author-time", "0"), fields.get("author-tz", "+0000")),
        subject=fields.get("summary", ""),
        original_path=fields.get("filename", path),
        original_line=int(head["original"]),
        boundary="boundary" in fields,
    )


def _date(seconds: str, zone: str) -> datetime:
    minutes = int(zone[1:3]) * 60 + int(zone[3:5]) if re.fullmatch(r"[+-]\d{4}", zone) else 0
    shift = timedelta(minutes=-minutes if zone.startswith("-") else minutes)
    try:
        return datetime.fromtimestamp(int(seconds), timezone(shift))
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
