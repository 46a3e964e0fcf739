"""Frames into source lines: debug info that cannot be read costs its own frames alone.

Where all frames at once fail, those of the kernel and of each module are tried by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kagent.boundary import attempt, expert
from kagent.errors import MismatchError
from kagent.symbols.model import Symbolized

if TYPE_CHECKING:
    from kagent.klog.frame_model import Frame
    from kagent.symbols import Symbolizer

__all__ = ["symbolize_frames"]


def _module_by_module(symbolizer: Symbolizer, frames: Sequence[Frame]) -> list[Symbolized]:
    groups: dict[str | None, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.module, []).append(frame)
    found: dict[Frame, Symbolized] = {}
    for own in groups.values() if len(groups) > 1 else ():
        found.update(zip(own, _alone(symbolizer, own), strict=True))
    return [found.get(frame) or _undecoded(frame) for frame in frames]


def _alone(symbolizer: Symbolizer, frames: list[Frame]) -> Sequence[Symbolized]:
    return attempt(
        "symbols",
        lambda: symbolizer.symbolize(frames),
        lambda: [_undecoded(frame) for frame in frames],
        passing=(MismatchError,),
    )


def _undecoded(frame: Frame) -> Symbolized:
    return Symbolized(frame, note="decoding failed")


@expert("symbols", otherwise=_module_by_module, passing=(MismatchError,))
def symbolize_frames(symbolizer: Symbolizer, frames: Sequence[Frame]) -> Sequence[Symbolized]:
    """As `Symbolizer.symbolize`. What is of another build is the caller's to tell."""
    return symbolizer.symbolize(frames)
