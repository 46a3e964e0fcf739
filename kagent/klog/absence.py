"""What to say of a log in which no report was found."""

from __future__ import annotations

import re

__all__ = ["hint_without_report"]

_FRAME = re.compile(rb"[\w.]{1,200}\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}")
_ENOUGH = 2


def hint_without_report(log: str | bytes) -> str:
    """What to give instead. A stack alone is none: what happened stands in the line above it."""
    raw = log.encode("utf-8", "replace") if isinstance(log, str) else log
    frames = sum(1 for _, _ in zip(range(_ENOUGH), _FRAME.finditer(raw), strict=False))
    wanted = "give it the console log from its first BUG:, WARNING:, INFO: or Oops line on"
    if frames < _ENOUGH:
        return wanted
    return f"there is a stack but no line that says what happened: {wanted} (or kagent decode it)"
