"""What may rest on a piece of evidence, by who wrote it.

The kernel's words prove what the kernel saw. A name that a program gave itself, or a commit's
message, is somebody's word: it proves that it was said. `TABLE` says for each author what kinds of
statement its words can carry; `said` gives the very words that may carry one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kagent.resolution import Author, Evidence

__all__ = ["TABLE", "Chosen", "Matter", "Standing", "said", "strip_comments"]

Matter = Literal["claim", "code", "hash", "number", "place", "quote"]
"""claim: evidence of this author alone may carry a claim; code: a quotation shown as code; hash: a
commit; number: an address or value; place: ``file.c:123``; quote: a name or words in backticks."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What words of one author prove."""

    author: Author
    proves: frozenset[Matter]
    why: str


TABLE: tuple[Standing, ...] = (
    Standing(
        "kernel",
        frozenset({"claim", "code", "hash", "number", "place", "quote"}),
        "it prints what it saw; names that others chose within are taken out first",
    ),
    Standing(
        "debug-info",
        frozenset({"claim", "code", "number", "place", "quote"}),
        "the compiler wrote it of this very build",
    ),
    Standing(
        "source",
        frozenset({"claim", "code", "number", "place", "quote"}),
        "code does what it says; comments and strings in it are taken out first",
    ),
    Standing(
        "commit",
        frozenset({"claim", "hash", "quote"}),
        "its author's word: of hashes only its own and those of its trailers",
    ),
    Standing("user", frozenset({"quote"}), "it proves that it was printed"),
    Standing("model", frozenset(), "what a model says proves nothing"),
)
_PROVES = {row.author: row.proves for row in TABLE}

# git-cherry-pick(1), -x; Documentation/process/submitting-patches.rst, stable-kernel-rules.rst.
_TRAILER = re.compile(
    r"^[ \t]*(?:fixes:[ \t]*|\[?[ \t]*upstream commit[ \t]+|commit[ \t]+"
    r"|\(cherry picked from commit[ \t]+|this reverts commit[ \t]+)([0-9a-f]{7,40})\b",
    re.IGNORECASE | re.MULTILINE,
)
_COMMENT_OR_STRING = re.compile(
    r"/\*.*?(?:\*/|\Z)|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL
)  # each alternative runs to its own end: linear
_INSIDE = re.compile(r"\A(?:(?!/\*).)*?\*/", re.DOTALL)
_KERNEL_DOC = re.compile(r"^[ \t]*\*(?:[ \t].*|/?)$", re.MULTILINE)
_MIXED = frozenset({"lock-edge", "log", "memory"})
"""Kinds of evidence in which the kernel repeats names that others chose."""


class Chosen:
    """Names that somebody chose, to be taken out of what the kernel printed."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        # A name without a digit proves no number, hash or place.
        telling = {word for word in words if re.search(r"\d", word)}
        longest = sorted(map(re.escape, telling), key=len, reverse=True)
        self._shape = re.compile(rf"(?<!\w)(?:{'|'.join(longest)})(?!\w)") if longest else None

    def removed_from(self, text: str) -> str:
        """`text` with a blank in place of each name."""
        return self._shape.sub(" ", text) if self._shape else text


def said(item: Evidence, matter: Matter, chosen: Chosen) -> str:
    """The words of `item` that may prove `matter`; empty where its author's prove none."""
    if matter not in _PROVES[item.author]:
        return ""
    if item.author == "commit" and matter == "hash":
        own = item.origin.removeprefix("commit ")
        return " ".join([own, *_TRAILER.findall(item.content)])
    if item.author == "source" and matter != "quote":
        return strip_comments(item.content)
    if item.author == "source":
        return f"{strip_comments(item.content, strings=True)} {item.origin}"
    if item.kind in _MIXED and matter != "quote":
        return chosen.removed_from(item.content)
    return f"{item.content} {item.origin}"


def strip_comments(code: str, *, strings: bool = False) -> str:
    """C or Rust without its comments and, unless `strings`, without what stands in strings.

    The text may begin or end within a comment.
    """
    start = _INSIDE.match(code)
    if start and "/*" not in start[0]:
        code = code[start.end() :]
    code = _COMMENT_OR_STRING.sub(
        lambda m: (m[0] if strings else '""') if m[0].startswith('"') else " ", code
    )
    return _KERNEL_DOC.sub("", code)
