"""Whether a change is material for a stable tree, criterion by criterion.

The criteria are those of Documentation/process/stable-kernel-rules.rst. What a program cannot
judge, it leaves open: the verdict is a reading of the rules, not a decision.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kagent.commits.message import looks_like_fix
from kagent.commits.model import Commit

__all__ = ["Criterion", "StableMaterial", "judge_stable"]

MAX_LINES = 100
"""Lines of a stable patch at most, with context."""
_CC_STABLE = re.compile(r"<?stable@(?:vger\.)?kernel\.org>?", re.I)
_NO_AUTOSEL = re.compile(r"stable\+noautosel@kernel\.org", re.I)
_SEEN = re.compile(
    r"\b(?:BUG:|WARNING:|KASAN|KMSAN|KCSAN|UBSAN|Call Trace|Oops|general protection|"
    r"oops(?:es)?|panic(?:s|ked)?|crash(?:es|ed)?|hangs?|hung|deadlocks?|lockups?|corrupt\w{0,6}|"
    r"leak(?:s|ed)?|use-after-free|out-of-bounds|null[- ]pointer|dereference|double[- ]free|"
    r"CVE-\d{4}|data loss|regression|syzbot|syzkaller|fails? to|stall(?:s|ed)?)\b",
    re.I,
)
_TRIVIAL = re.compile(
    r"\b(?:typos?|spelling|whitespace|coding style|checkpatch|comments?|kernel-?doc|cosmetic|"
    r"cleanups?|clean up|no functional changes?|indent(?:ation)?)\b",
    re.I,
)
_THEORETICAL = re.compile(
    r"\b(?:theoretical(?:ly)?|could (?:potentially|in theory)|in theory|hypothetical)\b", re.I
)
_EVIDENCE = ("tested-by", "reviewed-by", "acked-by")


@dataclass(frozen=True, slots=True)
class Criterion:
    """One rule and how the change stands to it; `met` is None where a person has to judge."""

    rule: str
    met: bool | None
    why: str


@dataclass(frozen=True, slots=True)
class StableMaterial:
    """The sum: ``tagged`` by its author, ``likely``, ``unlikely``, or ``excluded``."""

    verdict: Literal["tagged", "likely", "unlikely", "excluded"]
    why: str
    criteria: tuple[Criterion, ...]


def judge_stable(commit: Commit, upstream_tag: str | None, on_mainline: bool) -> StableMaterial:
    """Weigh `commit` by the rules for stable trees.

    `upstream_tag` is the first mainline tag with it, `on_mainline` whether mainline has it at all.
    """
    text = f"{commit.subject}\n{commit.message}"
    criteria = (
        _in_mainline(upstream_tag, on_mainline),
        _tested(commit),
        _short(commit),
        _real_bug(commit, text),
        _not_trivial(commit, text),
        _names_its_bug(commit),
    )
    tagged = any(key.lower() == "cc" and _CC_STABLE.search(v) for key, v in commit.trailers)
    if _NO_AUTOSEL.search(commit.message):
        why = "its author asks that no tool pick it up (stable+noautosel)"
        return StableMaterial("excluded", why, criteria)
    if tagged:
        return StableMaterial("tagged", "its author asks for it: Cc: stable", criteria)
    failed = [criterion for criterion in criteria if criterion.met is False]
    if not failed and any(c.met for c in criteria[3:]):
        return StableMaterial("likely", "no tag, but it reads like stable material", criteria)
    why = "; ".join(c.why for c in failed) or "nothing in it speaks of a bug that users meet"
    return StableMaterial("unlikely", why, criteria)


def _in_mainline(tag: str | None, on_mainline: bool) -> Criterion:
    rule = "it exists in mainline"
    if tag:
        return Criterion(rule, True, f"released with {tag}")
    if on_mainline:
        return Criterion(rule, True, "merged, not released yet")
    return Criterion(rule, False, "mainline, as this repository has it, lacks the change")


def _tested(commit: Commit) -> Criterion:
    found = sorted({key.lower() for key, _ in commit.trailers} & set(_EVIDENCE))
    why = ", ".join(name.capitalize() for name in found)
    return Criterion(
        "it is obviously correct and tested",
        True if found else None,
        f"it carries {why}" if found else "no review or test is recorded in it",
    )


def _short(commit: Commit) -> Criterion:
    lines = _patch_lines(commit.diff)
    more = " or more" if commit.truncated else ""
    return Criterion(
        f"it has at most {MAX_LINES} lines, with context",
        lines <= MAX_LINES and not commit.truncated,
        f"{lines}{more} lines with context",
    )


def _patch_lines(diff: str) -> int:
    lines, inside = 0, False
    for line in diff.split("\n"):
        if line.startswith("@@ "):
            inside = True
        elif line.startswith("diff --git "):
            inside = False
        elif inside and line[:1] in ("+", "-", " "):
            lines += 1
    return lines


def _real_bug(commit: Commit, text: str) -> Criterion:
    rule = "it fixes a real bug that bothers people"
    seen = _first(_SEEN, text)
    if _THEORETICAL.search(text) and "CVE-" not in text:
        word = _first(_THEORETICAL, text)
        return Criterion(rule, None if seen else False, f"it calls the bug {word!r}")
    if seen:
        return Criterion(rule, True, f"it speaks of {seen!r}")
    if looks_like_fix(commit.subject):
        return Criterion(rule, None, "it calls itself a fix, but names no harm that users meet")
    return Criterion(rule, None, "it names no harm that users meet")


def _not_trivial(commit: Commit, text: str) -> Criterion:
    word = _first(_TRIVIAL, commit.subject)
    trivial = word is not None and not _SEEN.search(text)
    return Criterion(
        "it is no trivial change",
        not trivial,
        f"its subject speaks of {word!r}" if trivial else "its subject is not about style",
    )


def _names_its_bug(commit: Commit) -> Criterion:
    return Criterion(
        "it says which change brought the bug",
        True if commit.fixes else None,
        f"Fixes: {_listed(commit.fixes)}" if commit.fixes else "it has no Fixes: tag",
    )


def _listed(hashes: Sequence[str]) -> str:
    return ", ".join(hash[:12] for hash in hashes[:4])


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found[0] if found else None
