r"""Making untrusted text safe to show: a kernel log carries what attackers name their files.

What acts on a terminal is noise of the transport and goes: escape sequences and the other control
characters. What merely cannot be seen stays, and becomes visible as ``\u{200b}``: directional
marks and overrides, zero widths, tags, private, unassigned and lone-surrogate code points, and
combining marks piled on one another. Letters that only look like others are left as they are.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

__all__ = ["clip", "encoded", "strip_control", "strip_values"]

# CSI, OSC/DCS/APC/PM/SOS strings (bounded, so that an unterminated one cannot eat the log),
# two-character escapes, then every other C0/C1 control but tab and newline. ECMA-48.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)"
    r"|\x1b[ -/]{0,4}[0-~]"
    r"|\r(?=\n)"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNSEEN = frozenset({"Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""General categories of what shows nothing of its own, or cannot be known to (UAX #44, 5.7.1)."""
_BLANK_GLYPHS = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, 0xFFFC}.union(
        range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)
    )
)
"""Of other categories and without a glyph: fillers, variation selectors, the blank of Braille."""
_MARKS = frozenset({"Mn", "Me"})
_PILE = 4
"""Combining marks that one character may carry; living scripts need three."""


def strip_control(text: str) -> str:
    r"""Return `text` as it may stand on a terminal, in a page or in a prompt.

    Tabs and newlines stay, ``\r\n`` becomes ``\n``, blanks of any width become U+0020. Doing it
    twice changes nothing more. Runs in linear time.
    """
    text = _CONTROLS.sub("", _ESCAPES.sub("", text))
    if text.isascii():
        return text
    used = set(text)
    shown = {ord(char): seen for char in used if (seen := _shown(char)) is not None}
    if shown:
        text = text.translate(shown)
    marks = "".join(char for char in used if unicodedata.category(char) in _MARKS)
    if marks:
        pile = re.compile(f"([{re.escape(marks)}]{{{_PILE}}})([{re.escape(marks)}]+)")
        text = pile.sub(lambda m: m[1] + "".join(map(_escape, m[2])), text)
    return text


def strip_values(value: Any) -> Any:
    """`strip_control` on every string of nested dicts, lists and tuples (which become lists)."""
    match value:
        case str():
            return strip_control(value)
        case dict():
            return {strip_values(key): strip_values(item) for key, item in value.items()}
        case list() | tuple():
            return [strip_values(item) for item in value]
        case _:
            return value


def clip(text: str, limit: int) -> tuple[str, bool]:
    """Cut `text` to at most `limit` characters; also say whether anything was cut."""
    return (text, False) if len(text) <= limit else (text[:limit], True)


def encoded(text: str) -> tuple[bytes, str]:
    """`text` in UTF-8, and the error handler that takes it back.

    Lone surrogates are the bytes which they stand for (PEP 383), unless one stands for none.
    """
    try:
        return text.encode("utf-8", "surrogateescape"), "surrogateescape"
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass"), "surrogatepass"


def _shown(char: str) -> str | None:
    """What stands for `char`; None where it stands for itself."""
    if char.isascii():
        return None
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    if category in _UNSEEN or ord(char) in _BLANK_GLYPHS:
        return _escape(char)
    return None


def _escape(char: str) -> str:
    return f"\\u{{{ord(char):x}}}"
