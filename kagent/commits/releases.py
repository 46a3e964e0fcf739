"""When a kernel version came out: the fix for a crash is rarely older than the crash."""

from __future__ import annotations

import re
from datetime import date, timedelta

__all__ = ["release_date"]

_WEEK = timedelta(weeks=1)
# Dates of Linus Torvalds' tags vX.Y, as `git log -1 --format=%cs vX.Y` prints them.
_MAINLINE = {
    (4, 0): "2015-04-12", (4, 1): "2015-06-21", (4, 2): "2015-08-30", (4, 3): "2015-11-01",
    (4, 4): "2016-01-10", (4, 5): "2016-03-13", (4, 6): "2016-05-15", (4, 7): "2016-07-24",
    (4, 8): "2016-10-02", (4, 9): "2016-12-11", (4, 10): "2017-02-19", (4, 11): "2017-04-30",
    (4, 12): "2017-07-02", (4, 13): "2017-09-03", (4, 14): "2017-11-12", (4, 15): "2018-01-28",
    (4, 16): "2018-04-01", (4, 17): "2018-06-03", (4, 18): "2018-08-12", (4, 19): "2018-10-22",
    (4, 20): "2018-12-23", (5, 0): "2019-03-03", (5, 1): "2019-05-05", (5, 2): "2019-07-07",
    (5, 3): "2019-09-15", (5, 4): "2019-11-24", (5, 5): "2020-01-26", (5, 6): "2020-03-29",
    (5, 7): "2020-05-31", (5, 8): "2020-08-02", (5, 9): "2020-10-11", (5, 10): "2020-12-13",
    (5, 11): "2021-02-14", (5, 12): "2021-04-25", (5, 13): "2021-06-27", (5, 14): "2021-08-29",
    (5, 15): "2021-10-31", (5, 16): "2022-01-09", (5, 17): "2022-03-20", (5, 18): "2022-05-22",
    (5, 19): "2022-07-31", (6, 0): "2022-10-02", (6, 1): "2022-12-11", (6, 2): "2023-02-19",
    (6, 3): "2023-04-23", (6, 4): "2023-06-25", (6, 5): "2023-08-27", (6, 6): "2023-10-29",
    (6, 7): "2024-01-07", (6, 8): "2024-03-10", (6, 9): "2024-05-12", (6, 10): "2024-07-14",
    (6, 11): "2024-09-15", (6, 12): "2024-11-17", (6, 13): "2025-01-19", (6, 14): "2025-03-24",
    (6, 15): "2025-05-25", (6, 16): "2025-07-27", (6, 17): "2025-09-28", (6, 18): "2025-11-30",
    (6, 19): "2026-02-08",
}  # fmt: skip
_CADENCE = timedelta(weeks=9)
"""Between two releases; rc1 follows a release after two weeks, then one rc a week."""
_RELEASE = re.compile(r"(\d{1,2})\.(\d{1,3})(?:\.(\d{1,4}))?(?:-?rc(\d{1,2}))?")
# What scripts/setlocalversion appends to a tree past its tag, syzbot's name for its builds.
_UNRELEASED = re.compile(r"-(?:syzkaller\b|\d{5}-g[0-9a-f]{7,}|g?[0-9a-f]{12}\b)")
_NEXT = re.compile(r"-next-(20\d\d)(\d\d)(\d\d)")


def release_date(release: str) -> tuple[date, bool] | None:
    """Day of a ``uname -r`` string, and whether it is of the development line.

    ``6.1.0-rc3``, ``6.1.0`` and ``6.1.0-00123-g0123456789ab`` are of mainline; ``6.1.57`` and
    distribution kernels are of a stable branch: a fix may be in mainline already when they come
    out. None when unknown.

    >>> release_date("5.15.0-rc2-next-20210921")
    (datetime.date(2021, 9, 21), True)
    """
    daily = _NEXT.search(release)
    if daily:
        try:
            return date(int(daily[1]), int(daily[2]), int(daily[3])), True
        except ValueError:
            return None
    match = _RELEASE.match(release)
    if match is None:
        return None
    base = _tag_date(int(match[1]), int(match[2]))
    if base is None:
        return None
    if match[4]:
        # rc7 comes a week before the release, rc1 seven weeks before.
        return base - _WEEK * max(0, 8 - int(match[4])), True
    point = int(match[3] or 0)
    if point:
        return base + _WEEK * min(point, 300), False
    rest = release[match.end() :]
    return base, "-" not in rest or _UNRELEASED.match(rest) is not None


def _tag_date(major: int, minor: int) -> date | None:
    known = _MAINLINE.get((major, minor))
    if known:
        return date.fromisoformat(known)
    last = max(_MAINLINE)
    if (major, minor) <= last:
        return None
    # x.19 is followed by (x+1).0 since 4.20.
    steps = (major - last[0]) * 20 + minor - last[1]
    return date.fromisoformat(_MAINLINE[last]) + _CADENCE * steps if steps < 200 else None
