"""Boots and panics of a log: facts that stand far from the reports they matter to."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace

from kagent.klog.blanks import plain
from kagent.klog.lines import MAX_LINE
from kagent.klog.model import Context, Report
from kagent.klog.scan import Landmarks
from kagent.text import strip_control

__all__ = ["Completion", "share_foreign"]

_BANNER = re.compile(
    rb"Linux version (\d[\w.+~-]{0,96})(?: [^\n\r]{0,600}?\) (#\d[^\n\r]{0,120}))?"
)


class Completion:
    """Adds to each report what its boot's banner says, and whether the kernel panicked later."""

    def __init__(self, data: bytes, landmarks: Landmarks) -> None:
        self._boots = landmarks.boots
        self._panics = landmarks.panics
        self._cut = bool(landmarks.cuts)
        # The kernel says it of the first one only: then it is tainted.
        self._foreign = {self.boot_of(at): name for at, name in reversed(landmarks.foreign)}
        self._banners = [_banner(data, at) for at in self._boots]

    def boot_of(self, at: int) -> int:
        """How many boot banners stand before byte `at` of the log."""
        return bisect_right(self._boots, at)

    def complete(self, report: Report) -> Report:
        """Return `report` with these facts."""
        start, _ = report.span
        following = bisect_left(self._panics, start)
        next_boot = bisect_right(self._boots, start)
        panicked = following < len(self._panics) and (
            next_boot == len(self._boots) or self._panics[following] < self._boots[next_boot]
        )
        reason = "the console was cut off" if self._cut else None
        return replace(
            report,
            corrupted=report.corrupted or self._cut,
            corrupted_reason=report.corrupted_reason or reason,
            panicked=report.panicked or panicked,
            context=self._complete_context(report.context, next_boot),
        )

    def _complete_context(self, context: Context, next_boot: int) -> Context:
        if foreign := self._foreign.get(next_boot):
            names = dict.fromkeys((*context.out_of_tree, foreign))
            context = replace(context, out_of_tree=tuple(names))
        if context.kernel is not None or not next_boot:
            return context
        kernel, build = self._banners[next_boot - 1]
        return replace(context, kernel=kernel, build=build)


def share_foreign(reports: Sequence[Report], boots: Sequence[int]) -> list[Report]:
    """Let each report know the modules that others of its boot mark as built outside of the tree.

    A module is what it is for as long as the machine is up, and many reports list no modules.
    `boots` has the boot of each report.
    """
    marked: dict[int, dict[str, None]] = {}
    for report, boot in zip(reports, boots, strict=True):
        marked.setdefault(boot, {}).update(dict.fromkeys(report.context.out_of_tree))
    return [
        report
        if len(names := marked[boot]) == len(report.context.out_of_tree)
        else replace(report, context=replace(report.context, out_of_tree=tuple(names)))
        for report, boot in zip(reports, boots, strict=True)
    ]


def _banner(data: bytes, at: int) -> tuple[str | None, str | None]:
    raw = data[at : at + MAX_LINE]
    smooth = plain(raw)
    match = _BANNER.match(smooth.data if smooth else raw)
    if match is None:
        return None, None
    build = strip_control(match[2].decode("utf-8", "replace")).strip() if match[2] else None
    return match[1].decode("ascii", "replace"), build
