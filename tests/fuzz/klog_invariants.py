"""What holds for every input of the log parser, whatever bytes it is made of."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator

from kagent.klog import KernelLog, Report, parse_log, reformat
from kagent.klog.frames import parse_frame
from kagent.klog.lines import split_lines
from kagent.klog.scan import scan
from kagent.klog.unwrap import unwrap

__all__ = ["BrokenInvariantError", "check", "check_parse", "check_reformat"]


class BrokenInvariantError(AssertionError):
    """An invariant does not hold; ``args`` are its name and the particulars."""


def _hold(name: str, condition: bool, *particulars: object) -> None:
    if not condition:
        raise BrokenInvariantError(name, *particulars)


def check(data: bytes) -> None:
    """Hold all invariants on `data`.

    Raises:
        BrokenInvariantError: one does not hold.
    """
    check_parse(data)
    check_reformat(data.decode("utf-8", "surrogateescape"))


# ── parse_log ────────────────────────────────────────────────────────────────────────────────


def check_parse(data: bytes) -> None:
    """Spans, titles, links, clean strings, and that a span holds its report."""
    log = parse_log(data)
    _hold("size", log.size == len(data), log.size)
    _check_spans(log)
    for index, report in enumerate(log.reports):
        _check_names(report)
        cause = report.caused_by
        _hold("a cause comes first", cause is None or 0 <= cause < index, cause, index)
    for text in _strings((log.reports, log.tasks)):
        _hold("clean strings", not _controls(text) - {"\t", "\n"}, text)
    reached = 0
    for report in log.reports:
        if report.span[0] >= reached:  # else some of its lines are an earlier report's
            _check_span_holds(data, report)
        reached = max(reached, report.span[1])


def _check_spans(log: KernelLog) -> None:
    position = 0
    for report in log.reports:
        start, end = report.span
        _hold("spans inside, non-empty", 0 <= start < end <= log.size, report.span, log.size)
        _hold("spans in order", position <= start, position, report.span)
        position = start
        for _, frame in report.all_frames():
            first, last = frame.span
            _hold("frame spans inside", 0 <= first <= last <= log.size, frame)


def _check_names(report: Report) -> None:
    _hold("title", report.title.strip() == report.title != "", report.title)
    _hold("kind", bool(report.kind), report.title)
    for name in (report.title, *report.alt_titles, report.kind):
        _hold("clean titles", not _controls(name), name)
    _hold("corrupted has a reason", report.corrupted == bool(report.corrupted_reason), report.title)


def _check_span_holds(data: bytes, report: Report) -> None:
    """The bytes of a span hold the report, unless lines count as folded in one of the two only.

    Whether a mail client folded a log shows in all its lines: some carry stamps, and none is
    longer than a screen's width. A part cut out of it may state something else about itself than
    the log does; that is no fault of the span.
    """
    start, end = report.span
    again = [(r.title, r.kind) for r in parse_log(data[start:end]).reports]
    holds = (report.title, report.kind) in again or _folds_otherwise(data, start, end)
    _hold("span holds its report", holds, report.title, again)


def _folds_otherwise(data: bytes, start: int, end: int) -> bool:
    """Whether a line of the span is joined to another in the log or alone, but not in both."""
    lines = list(split_lines(data[start:end]))
    begins = {start + line.start for line in lines}
    alone = begins - {start + line.start for line in unwrap(lines)}
    in_log = [line for region in scan(data).regions() for line in region.lines]
    apart = {line.start for line in in_log}
    inside = {at for at in begins for line in in_log if line.start < at < line.end}
    return bool(alone & apart) or bool(inside - alone)


def _controls(text: str) -> set[str]:
    if text.isprintable():
        return set()
    return {c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp")}


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _strings(pair)
    elif isinstance(value, tuple):
        for item in value:
            yield from _strings(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _strings(getattr(value, field.name))


# ── reformat ─────────────────────────────────────────────────────────────────────────────────


def check_reformat(text: str) -> None:
    """The line count, all lines but those of a trace, and the frames of those; done once."""
    once = reformat(text)
    before, after = text.split("\n"), once.split("\n")
    _hold("same line count", len(before) == len(after), len(before), len(after))
    for old, new in zip(before, after, strict=True):
        if old != new:
            _check_altered(old, new)
    _hold("idempotent", reformat(once) == once, *_first_difference(once, reformat(once)))


def _check_altered(old: str, new: str) -> None:
    was, now = _frames(old), _frames(new)
    _hold("only trace lines change", bool(was), old, new)
    # arm's "callee from caller" becomes its caller, the one a backtrace lists.
    _hold("a trace line keeps its frame", bool(now) and now == was[-len(now) :], old, new)
    end = len(old) - len(old.rstrip("\r"))
    _hold("line ends stay", new[len(new.rstrip("\r")) :] == old[len(old) - end :], old, new)


def _frames(line: str) -> list[tuple[str, bool]]:
    raw = line.encode("utf-8", "surrogateescape")
    frames = [frame for part in split_lines(raw) for frame in parse_frame(part)]
    return [(str(frame), frame.reliable) for frame in frames]


def _first_difference(one: str, other: str) -> tuple[str, str]:
    pairs = zip(one.split("\n"), other.split("\n"), strict=False)
    return next(((a, b) for a, b in pairs if a != b), ("", ""))
