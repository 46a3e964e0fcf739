"""What a log pasted as text shows at first sight: its trace, and when it can have happened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice

__all__ = ["PastedTrace", "earliest_day", "from_syzbot", "read_trace", "stated_release"]

_EPOCH = 719_163
"""`datetime.date.toordinal` of 1970-01-01."""

# ``symbol+0x1c/0x70``, and ``symbol file.c:12 [inline]`` as symbolised logs have it. A ``?`` marks
# what was found on the stack but not by unwinding.
_FRAME = re.compile(
    r"(\?[ \t]{1,4})?\b(?!(?:at|in|by)\b)([A-Za-z_][\w.]{1,127})"
    r"(?:\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}|[ \t]{1,4}\n?[ \t]{0,8}(?=[\w./-]{1,200}\.[chS]:\d))"
)
_SOURCE = re.compile(r"(?<![\w./-])((?:[\w.-]{1,64}/){1,12}[\w.-]{1,64}\.(?:[chS]|rs)):\d")
_RELEASE = re.compile(r"(?:[Tt]ainted:?|Comm:)[^\n]{0,80}?\s(\d{1,2}\.\d{1,3}\.\d{1,4}\S{0,60})")
_HEADLINE = re.compile(
    r"BUG:|WARNING:|INFO:|KASAN|KMSAN|UBSAN|KCSAN|kernel BUG|general protection|Unable to handle|"
    r"unable to handle|Oops|divide error|stack segment|Internal error|memory leak"
)
_MAX_HEADLINES = 3

# syz-executor and syz.0.17 are the processes of the fuzzer, -syzkaller the suffix of its kernels.
_SYZBOT = re.compile(r"-syzkaller\b|\bsyzkaller #\d|\bsyz-executor|\bsyz\.\d{1,4}\.\d")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# The date of the firmware (drivers/firmware/dmi_scan.c), of the build (init/version.c), of a
# distribution's package beside it, and of the system log's own stamps. Mail wraps the first.
_FIRMWARE = re.compile(r"\b(?P<month>\d\d)/(?P<day>\d\d)/(?P<year>20\d\d)\b")
_BUILT = re.compile(
    r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?P<month>[A-Z][a-z]{2}) {1,2}(?P<day>\d{1,2}) [\d:]{8} "
    r"(?:[A-Z+\d]{3,5} )?(?P<year>20\d\d)\b"
)
_PACKAGED = re.compile(r" \((?P<year>20\d\d)-(?P<month>\d\d)-(?P<day>\d\d)\)")
_STAMP = re.compile(r"\s{0,8}(?P<year>20\d\d)-(?P<month>\d\d)-(?P<day>\d\d)[T ]\d\d:\d\d:\d\d")
_MAX_LINE = 400
_MAX_DATES = 256


@dataclass(frozen=True, slots=True)
class PastedTrace:
    """The functions and files of a trace, and the lines that say what went wrong."""

    functions: tuple[str, ...]
    files: tuple[str, ...]
    headlines: tuple[str, ...]


def read_trace(text: str) -> PastedTrace | None:
    """Find a call trace in `text`; None when there is none."""
    symbols = [match[2] for match in _FRAME.finditer(text) if not match[1]]
    functions = dict.fromkeys(symbols)
    if len(functions) < 2:
        return None
    headlines = (line.strip() for line in text.split("\n") if _HEADLINE.search(line))
    return PastedTrace(
        functions=tuple(functions),
        files=tuple(dict.fromkeys(_SOURCE.findall(text))),
        headlines=tuple(dict.fromkeys(headlines))[:_MAX_HEADLINES],
    )


def stated_release(text: str) -> str | None:
    """The kernel release on a line that says who crashed."""
    found = _RELEASE.search(text)
    return found[1] if found else None


def from_syzbot(text: str) -> bool:
    """Whether the log shows signs of syzkaller, whose reports commits credit to syzbot."""
    return _SYZBOT.search(text) is not None


def earliest_day(text: str) -> int | None:
    """The latest day, since 1970-01-01, of those that the crash cannot be older than."""
    return max(_days(text), default=None)


def _days(text: str) -> Iterator[int]:
    for match in islice(_dates(text), _MAX_DATES):
        month = match["month"]
        number = _MONTHS.index(month) + 1 if month in _MONTHS else None
        try:
            day = date(int(match["year"]), number or int(month), int(match["day"]))
        except ValueError:
            continue
        yield day.toordinal() - _EPOCH


def _dates(text: str) -> Iterator[re.Match[str]]:
    wrapped = False
    for whole in text.split("\n"):
        line = whole[:_MAX_LINE]
        here = "Hardware name:" in line
        found = [_STAMP.match(line)]
        if here or wrapped:
            found.append(_FIRMWARE.search(line))
        if "#" in line:
            found += [_BUILT.search(line), _PACKAGED.search(line)]
        wrapped = here
        yield from filter(None, found)
