"""Making untrusted text safe to show: a kernel log carries what attackers name their files."""

from __future__ import annotations

import re

__all__ = ["clip", "strip_control"]

# CSI, OSC/DCS/APC/PM/SOS strings (bounded, so that an unterminated one cannot eat the log),
# two-character escapes, then every other C0/C1 control but tab and newline. ECMA-48.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)"
    r"|\x1b[ -/]{0,4}[0-~]"
    r"|\r(?=\n)"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


def strip_control(text: str) -> str:
    r"""Return `text` without terminal escapes, control characters and bidi overrides.

    Tabs and newlines stay; ``\r\n`` becomes ``\n``. Runs in linear time.
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def clip(text: str, limit: int) -> tuple[str, bool]:
    """Cut `text` to at most `limit` characters; also say whether anything was cut."""
    return (text, False) if len(text) <= limit else (text[:limit], True)
