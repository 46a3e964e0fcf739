"""Reading a commit message: trailers and the hashes it says it repairs."""

from __future__ import annotations

import re

__all__ = ["looks_like_fix", "parse_fixes", "parse_trailers"]

_TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,39}):[ \t]{1,8}(\S.{0,400})")
# Documentation/process/submitting-patches.rst: Fixes: <12 or more digits> ("<subject>").
_FIXES = re.compile(r"^[ \t]{0,8}Fixes:[ \t]{0,8}(?:commit[ \t])?([0-9a-f]{8,40})\b", re.M | re.I)
_FIX_WORDS = re.compile(
    r"\b(?:fix(?:e[sd]|ing|up)?|avoid|prevent|null|leaks?|race|races|use-after-free|uaf|overflow|"
    r"oob|out-of-bounds|out of bounds|deadlocks?|crash|panic|oops|uninit\w{0,12}|double[- ]free|"
    r"hang|hung|warning|splat|lockdep|dereference|missing|check|validate|sanity|bail|reject|don't|"
    r"do not|correct(?:ly)?)\b",
    re.I,
)


def parse_trailers(message: str) -> tuple[tuple[str, str], ...]:
    """``Key: value`` lines of the last paragraphs that hold nothing else, in order.

    Kernel messages put blank lines and ``[name: note]`` lines between trailers, so paragraphs
    are taken from the end as long as they are made of trailers.
    """
    found: list[tuple[str, str]] = []
    for paragraph in reversed(re.split(r"\n[ \t]*\n", message.strip())):
        block: list[tuple[str, str]] = []
        for line in paragraph.split("\n"):
            match = _TRAILER.match(line)
            if match:
                block.append((match[1], match[2].rstrip()))
            elif not line.startswith((" ", "\t", "[", "#", ">")):
                return tuple(found)
        found[:0] = block
    return tuple(found)


def parse_fixes(message: str) -> tuple[str, ...]:
    """Lower-case hashes of ``Fixes:`` tags, each once, in order."""
    return tuple(dict.fromkeys(match.lower() for match in _FIXES.findall(message)))


def looks_like_fix(subject: str) -> bool:
    """Say whether the subject speaks of repairing something."""
    return _FIX_WORDS.search(subject) is not None
