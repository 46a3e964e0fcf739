"""Cutting a commit into pieces of a size that an embedding model reads whole."""

from __future__ import annotations

from collections.abc import Iterator

from kagent.commits.model import Commit

__all__ = ["MAX_CHUNKS", "chunk_commit"]

MAX_CHUNKS = 6
"""Per commit: what a long patch says beyond them, its file and function names say as well."""
_NAMES = 24


def chunk_commit(commit: Commit, size: int) -> Iterator[str]:
    """Yield one or more texts of at most `size` characters: names, message, then the diff.

    Every chunk opens with the subject, so that it makes sense alone; the first also lists the
    files and functions touched. Cuts fall on line ends where lines are short enough.
    """
    names = " ".join((*commit.files[:_NAMES], *commit.functions[:_NAMES]))
    head = f"{commit.subject}\n{names}\n\n"[: size // 2]
    text = "\n\n".join(part for part in (commit.message, commit.diff) if part)
    start = 0
    for _ in range(MAX_CHUNKS):
        end = _cut(text, start, size - len(head))
        yield head + text[start:end]
        if end == len(text):
            return
        start, head = end, f"{commit.subject}\n\n"[: size // 4]


def _cut(text: str, start: int, size: int) -> int:
    end = start + size
    if end >= len(text):
        return len(text)
    newline = text.rfind("\n", start + size // 2, end)
    return newline + 1 if newline > 0 else end
