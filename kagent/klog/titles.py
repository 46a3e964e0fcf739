"""From a report's lines to its title, alternative titles, guilty function and integrity.

The conventions are syzbot's, so that titles found elsewhere (dashboards, ``Reported-by:`` tags,
commit messages) can be compared with ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kagent.klog.blameless import SYSCALL_PREFIXES
from kagent.klog.culprit import Culprit, culprits
from kagent.klog.formats import Family, Format
from kagent.klog.integrity import broken_stacks
from kagent.klog.kinds import kind_of
from kagent.klog.views import View

__all__ = ["NOBODY", "Title", "make_title"]

MAX_TITLE = 120
NOBODY = "no frame to blame was found"
"""Why a report is called damaged that may be whole: its title has nobody to name."""
"""Characters, as syzbot's: `Report.header` has the line in full."""
_HEADER_CAP = 600
"""Characters of a line that formats look at: several carry more than one ``.*``."""


@dataclass(frozen=True, slots=True)
class Title:
    """What :func:`make_title` found out."""

    text: str
    alt: tuple[str, ...]
    frame: str | None
    corrupted: str | None
    """Why the report cannot be whole."""
    kind: str
    kernel_bug: bool = True
    header: int = 0
    """Index of the line that names the report: not the first, where no format knows that one."""
    last: int = 0
    """Index of the last line that the title depends on."""


# ── titles ───────────────────────────────────────────────────────────────────────────────────

# What differs between two occurrences of one bug.
_VARIABLE = (
    (re.compile(r"syz-executor\.?[0-9]+(?:[/:][0-9]+)?"), "syz-executor"),
    (re.compile(r"syzkaller[0-9]+(?:[/:][0-9]+)?"), "syzkaller"),
    (re.compile(r"(?<=[^a-zA-Z0-9])(?:0x)?[0-9a-f]{6,}"), "ADDR"),
    (re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", re.ASCII), "IP"),
    (re.compile(r"(\.\w+)(?::[0-9]+)+", re.ASCII), r"\1:LINE"),
    (re.compile(r"([a-zA-Z][a-zA-Z0-9_.]+)\+0x[0-9a-z]+/0x[0-9a-z]+"), r"\1"),
    (re.compile(r"CPU#[0-9]+"), "CPU"),
    (re.compile(r"(?<=\W)\d+(?=\W|$)", re.ASCII), "NUM"),
    (re.compile(r"\d{7,}", re.ASCII), "NUM"),
)
_MIXED_IN = re.compile(r"\[ *[0-9]+\.[0-9]+\]")
_FRAME_IN_TITLE = re.compile(r".* in ((?:<[a-zA-Z0-9_: ]+>)?[a-zA-Z0-9_:]+)")


def _clean(title: str) -> str:
    for pattern, replacement in _VARIABLE:
        title = pattern.sub(replacement, title)
    printable = (char for char in title[:MAX_TITLE].replace("\t", " ") if " " <= char < "\x7f")
    return re.sub(r" {2,}", " ", "".join(printable)).strip()


_NAMES_A_TASK = re.compile(r"INFO: task (?!.*(?: blocked | can't die ))")
_COMM_LINES = 3
"""Line breaks that a task's name is given credit for."""


@dataclass(frozen=True, slots=True)
class _Match:
    format: Format
    index: int
    groups: dict[str, str]
    last: int
    """Index of the last line that `groups` come from."""


def _find_format(lines: Sequence[str], family: Family) -> tuple[_Match | None, bool]:
    """The format that names the report; and whether any header matched at all."""
    for index, line in enumerate(lines):
        if family.marker not in line:
            continue
        text = line[:_HEADER_CAP]
        if _NAMES_A_TASK.search(text):
            text = "\n".join((text, *lines[index + 1 : index + 1 + _COMM_LINES]))[:_HEADER_CAP]
        matches = [(m.start(), f, m) for f in family.formats if (m := f.header.search(text))]
        if not matches:
            continue
        first = min(start for start, _, _ in matches)
        for start, format_, match in matches:
            if start != first:
                continue
            groups = match.groupdict()
            last = _details(lines, index, format_, groups)
            if last is not None:
                last = max(last, index + text.count("\n", 0, match.end()))
                return _Match(format_, index, groups, last), True
        return None, True
    return None, False


def _details(
    lines: Sequence[str], start: int, format_: Format, groups: dict[str, str]
) -> int | None:
    """Add what the lines from `start` on tell; the index of the last one, None if one lacks."""
    at, last = start, start
    for pattern in format_.details:
        while at < len(lines):
            match = pattern.search(lines[at][:_HEADER_CAP])
            at += 1
            if match:
                last = at - 1
                groups.update({k: v for k, v in match.groupdict().items() if v is not None})
                break
        else:
            return None
    return last


def make_title(view: View, family: Family) -> Title:
    """Name the report whose context printed `view`."""
    lines = view.lines
    match, announced = _find_format(lines, family)
    if match is None:
        header = lines[0][max(lines[0].find(family.marker), 0) :]
        reason = "the header matches, but not what must follow it" if announced else None
        text = _clean(header[:_HEADER_CAP]) or family.marker
        return Title(text, (), _frame_of(text), reason or _mixed(header), kind_of(text))
    format_, groups = match.format, match.groups
    blamed: list[Culprit] = []
    reason = None
    last = match.last
    if format_.blame:
        blamed, ok, read = culprits(lines[match.index :], format_.blame)
        reason = None if ok else NOBODY
        last = max(last, match.index + read)
    frames = dict(zip(("frame", "origin"), blamed, strict=False))
    text = format_.title.format_map(groups | {key: c.name for key, c in frames.items()})
    if format_.broken:
        reason = reason or "only a part of the report's header is there"
    reason = reason or _mixed(text)
    if reason is None and not format_.stackless:
        reason = broken_stacks(view.whole)
    title = _clean(text) or family.marker
    alt = tuple(a for a in _alternatives(format_, groups, frames, text) if a != title)
    kind = format_.kind or kind_of(title)
    return Title(title, alt, _frame_of(title), reason, kind, format_.kernel_bug, match.index, last)


def _frame_of(title: str) -> str | None:
    frame = _FRAME_IN_TITLE.match(title)
    return frame[1] if frame and frame[1] != "corrupted" else None


def _mixed(title: str) -> str | None:
    return "a time stamp stands inside the title" if _MIXED_IN.search(title) else None


def _alternatives(
    format_: Format, groups: dict[str, str], frames: dict[str, Culprit], title: str
) -> tuple[str, ...]:
    """Titles of the same bug from kernels that spell the system call's wrapper differently."""
    variants = [{key: c.name for key, c in frames.items()}, {k: c.raw for k, c in frames.items()}]
    for prefix in SYSCALL_PREFIXES:
        trimmed = {key: c.raw.removeprefix(prefix) for key, c in frames.items()}
        if trimmed != variants[1]:
            variants.append(trimmed)
    found: dict[str, None] = {}
    for number, variant in enumerate(variants):
        names = groups | variant
        if number and (other := format_.title.format_map(names)) != title:
            found[_clean(other)] = None
        for template in format_.alt:
            found[_clean(template.format_map(names))] = None
    return tuple(found)
