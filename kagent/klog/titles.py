"""From a report's lines to its title, alternative titles, guilty function and integrity.

The conventions are syzbot's, so that titles found elsewhere (dashboards, ``Reported-by:`` tags,
commit messages) can be compared with ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kagent.klog.blameless import (
    SYSCALL_PREFIXES,
    blameless,
    is_dispatcher,
    is_waiting,
    strip_syscall,
)
from kagent.klog.formats import STACK, Before, Blame, Family, Format, Step
from kagent.klog.kinds import kind_of
from kagent.klog.rust import demangle

__all__ = ["Title", "make_title", "starts_stack"]

MAX_TITLE = 120
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


@dataclass(frozen=True, slots=True)
class _Culprit:
    name: str
    """As the title has it: without system call prefix."""
    raw: str


_NOBODY = _Culprit("corrupted", "corrupted")

# ── reading stacks ───────────────────────────────────────────────────────────────────────────

_PC = r"\[<?(?:0x)?[0-9a-f]{1,16}>?\]"
_STACK_LINES = (
    re.compile(rf"^ *(?:{_PC} ){{0,2}}([a-zA-Z0-9_]+)[.+]", re.ASCII),
    # arm: callee and caller on a line; the innermost callee stands nowhere else.
    re.compile(rf"^ *{_PC} \(([a-zA-Z0-9_.]+)\) from {_PC} \(([a-zA-Z0-9_]+)[.+]", re.ASCII),
)
_RISCV_REGS = re.compile(r"status: [0-9a-f]{16} badaddr: [0-9a-f]{16} cause: [0-9a-f]{16}")
_STACK_STARTS = (
    re.compile(r"Call [Tt]race"),
    re.compile(r"Allocated:"),
    re.compile(r"Allocated by task [0-9]+:"),
    re.compile(r"Freed:"),
    re.compile(r"Freed by task [0-9]+:"),
    re.compile(r"[^k] backtrace(?: \(crc [0-9a-fA-F]*\))?:"),
    re.compile(r"Backtrace:"),
    re.compile(r"Uninit was stored to memory at"),
    _RISCV_REGS,  # its show_regs() dumps the stack without announcing it
)
_STACK_WORDS = ("all", "llocated", "reed", "acktrace:", "backtrace", "Uninit", "badaddr")
_INJECTED = re.compile(rf"^( {_PC})? should_fail(slab)?(\.[a-z0-9.]+)?\+0x")


def starts_stack(text: str) -> bool:
    """Whether `text` announces a stack."""
    return any(start.search(text) for start in _STACK_STARTS)


def _stack_names(text: str) -> tuple[str, ...]:
    if "+0x" not in text and "." not in text and "+" not in text:
        return ()
    for line in _STACK_LINES:
        if match := line.match(text):
            return match.groups()
    return ()


def _walk(
    lines: Sequence[str], steps: Sequence[Step], skip: re.Pattern[str]
) -> tuple[list[list[str]], bool]:
    """Return the names of each stack `steps` lead to, and whether no foreign stack was met."""
    found: list[list[str]] = []
    names: list[str] = []
    clean, in_stacks, at, step = True, False, 0, 0

    def add(groups: Sequence[str | None]) -> None:
        for raw in groups:
            if raw and not skip.search(name := demangle(raw)):
                names.append(name)

    while step < len(steps):
        now = steps[step]
        if now is STACK:
            if in_stacks:
                found.append(names)
                names = []
            in_stacks = True
        after = steps[step + 1] if now is STACK and step + 1 < len(steps) else None
        wanted = now.pattern if isinstance(now, Before) else now
        barrier = now.barrier if isinstance(now, Before) else None
        while at < len(lines):
            text = lines[at]
            at += 1
            if _INJECTED.match(text):  # a FAULT_INJECTION stack got mixed in
                clean = False
                break
            if isinstance(wanted, re.Pattern):
                if match := wanted.search(text):
                    add(match.groups())
                    break
                if barrier is not None and barrier.search(text):
                    at = len(lines)
                continue
            if starts_stack(text):
                break
            if isinstance(after, re.Pattern) and (match := after.search(text)):
                add(match.groups())
                step += 1
                break
            add(_stack_names(text))
        step += 1
    found.append(names)
    return found, clean


# ── picking the culprit ──────────────────────────────────────────────────────────────────────


def _first(names: list[str]) -> tuple[str, int]:
    return names[0], 0


def _stalled(names: list[str]) -> tuple[str, int]:
    """The callee of the innermost dispatcher: what the CPU keeps being busy with."""
    for index, name in enumerate(names):
        if is_dispatcher(name):
            at = max(index - 1, 0)
            if "smp_call_function" in name:
                return "smp_call_function", index
            return names[at], at
    return "", -1


def _hung(names: list[str]) -> tuple[str, int]:
    """Who waits, unless all wait for the same: grace periods and rtnl_lock get one title each."""
    for index, name in enumerate(names):
        if "rtnl_lock" in name:
            return name, index
        if re.search(r"synchronize_(?:s?rcu|net|sched)", name):
            return "synchronize_rcu", index
    for index, name in enumerate(names):
        if not is_waiting(name):
            return name, index
    return "", -1


_PICKERS: dict[str, Callable[[list[str]], tuple[str, int]]] = {
    "first": _first,
    "stall": _stalled,
    "hung": _hung,
}


def _culprits(lines: Sequence[str], blame: Blame) -> tuple[list[_Culprit], bool]:
    result: list[_Culprit] = []
    ok = False
    for steps in blame.ways:
        stacks, ok = _walk(lines, steps, blameless(blame.skip))
        result = []
        for names in stacks:
            stripped = [strip_syscall(name) for name in names]
            name, index = _PICKERS[blame.pick](stripped) if names else ("", -1)
            result.append(_Culprit(name, names[index]) if name else _NOBODY)
            ok = ok and bool(name)
        if ok:
            break
    return result, ok


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


@dataclass(frozen=True, slots=True)
class _Match:
    format: Format
    index: int
    groups: dict[str, str]


def _find_format(lines: Sequence[str], family: Family) -> tuple[_Match | None, bool]:
    """The format that names the report; and whether any header matched at all."""
    for index, line in enumerate(lines):
        if family.marker not in line:
            continue
        text = line[:_HEADER_CAP]
        matches = [(m.start(), f, m) for f in family.formats if (m := f.header.search(text))]
        if not matches:
            continue
        first = min(start for start, _, _ in matches)
        for start, format_, match in matches:
            if start != first:
                continue
            groups = match.groupdict()
            if _details(lines, index, format_, groups):
                return _Match(format_, index, groups), True
        return None, True
    return None, False


def _details(lines: Sequence[str], at: int, format_: Format, groups: dict[str, str]) -> bool:
    for pattern in format_.details:
        while at < len(lines):
            match = pattern.search(lines[at][:_HEADER_CAP])
            at += 1
            if match:
                groups.update({k: v for k, v in match.groupdict().items() if v is not None})
                break
        else:
            return False
    return True


def make_title(lines: Sequence[str], family: Family, whole: Sequence[str]) -> Title:
    """Name the report that `lines` begin with.

    `lines` end where another report begins; `whole` goes on to the log's end. Both hold text
    without prefixes, of the report's own context, without unreliable frames.
    """
    match, announced = _find_format(lines, family)
    if match is None:
        header = lines[0][max(lines[0].find(family.marker), 0) :]
        reason = "the header matches, but not what must follow it" if announced else None
        text = _clean(header[:_HEADER_CAP]) or family.marker
        return Title(text, (), _frame_of(text), reason or _mixed(text), kind_of(text))
    format_, groups = match.format, match.groups
    culprits: list[_Culprit] = []
    reason = None
    if format_.blame:
        culprits, ok = _culprits(lines[match.index :], format_.blame)
        reason = None if ok else "no frame to blame was found"
    frames = dict(zip(("frame", "origin"), culprits, strict=False))
    text = format_.title.format_map(groups | {key: c.name for key, c in frames.items()})
    if format_.broken:
        reason = reason or "only a part of the report's header is there"
    reason = reason or _mixed(text)
    if reason is None and not format_.stackless:
        reason = _broken_stacks(whole)
    title = _clean(text) or family.marker
    alt = tuple(a for a in _alternatives(format_, groups, frames, text) if a != title)
    kind = format_.kind or kind_of(title)
    return Title(title, alt, _frame_of(title), reason, kind, format_.kernel_bug)


def _frame_of(title: str) -> str | None:
    frame = _FRAME_IN_TITLE.match(title)
    return frame[1] if frame and frame[1] != "corrupted" else None


def _mixed(title: str) -> str | None:
    return "a time stamp stands inside the title" if _MIXED_IN.search(title) else None


def _alternatives(
    format_: Format, groups: dict[str, str], frames: dict[str, _Culprit], title: str
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


# ── integrity ────────────────────────────────────────────────────────────────────────────────

_LOOK_AHEAD = 15


def _broken_stacks(lines: Sequence[str]) -> str | None:
    """Every kind of stack that is announced must come with a frame soon."""
    announced: dict[re.Pattern[str], int] = {}
    for index, text in enumerate(lines):
        if any(word in text for word in _STACK_WORDS):
            for start in _STACK_STARTS:
                if start not in announced and start.search(text):
                    announced[start] = index
    any_frame = False
    for start in _STACK_STARTS:
        if start not in announced:
            continue
        index = announced[start]
        if len(lines) - index < 3:
            return "the log ends where a stack begins"
        if _has_frame(lines[index + 1 : index + 1 + _LOOK_AHEAD]):
            any_frame = True
        elif start is not _RISCV_REGS:
            return "a stack is announced but has no frames"
    return None if any_frame else "it has no stack"


def _has_frame(lines: Sequence[str]) -> bool:
    for text in lines:
        if starts_stack(text):
            return False
        if "(stack is not available)" in text or any(f.search(text) for f in _STACK_LINES):
            return True
    return False
