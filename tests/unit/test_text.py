"""Text of strangers, made fit to be seen: checked over all of Unicode."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagent.text import clip, strip_control, strip_values

EVERYTHING = [chr(point) for point in range(sys.maxunicode + 1)]
UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


def test_no_code_point_of_unicode_stays_unseen():
    lone = [char for char in EVERYTHING if char not in "\n\x1b"]
    shown = strip_control("\n".join(f"a{char}." for char in lone)).split("\n")
    for char, line in zip(lone, shown, strict=True):
        left = line.removeprefix("a").removesuffix(".")
        bad = [c for c in left if unicodedata.category(c) in UNSEEN and c != "\t"]
        assert not bad, f"U+{ord(char):04X}"
        if unicodedata.category(char) == "Zs":
            assert left == " "
        elif left != char and unicodedata.category(char) != "Cc":
            assert left == f"\\u{{{ord(char):x}}}", "it is made visible, not removed"


def test_letters_digits_marks_and_symbols_stay():
    kept = "Zażółć gęślą — naïve e\u0301 日本語 한국어 العربية हिन्दी ✓ 🐧 ½ 中\u0300"
    assert strip_control(kept) == kept


def test_doing_it_again_changes_nothing():
    once = strip_control("".join(EVERYTHING))
    assert strip_control(once) == once


@given(st.text())
def test_the_same_for_any_text(text):
    assert strip_control(strip_control(text)) == strip_control(text)


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("a\x00\x07\x9bb", "ab"),
        ("sys\u200btemd", "sys\\u{200b}temd"),
        ("user\u202etxt.exe", "user\\u{202e}txt.exe"),
        ("x\U000e0041\U000e0042", "x\\u{e0041}\\u{e0042}"),
        ("soft\u00adhyphen", "soft\\u{ad}hyphen"),
        ("a\ufe0fb\U000e0100", "a\\u{fe0f}b\\u{e0100}"),
        ("no\u00a0break\u2003em\u3000wide", "no break em wide"),
        ("fill\u3164er\u2800", "fill\\u{3164}er\\u{2800}"),
        ("lone\ud800", "lone\\u{d800}"),
        ("one\u2028two\u2029", "one\\u{2028}two\\u{2029}"),
        ("line\r\nnext\ttab", "line\nnext\ttab"),
    ],
)
def test_what_cannot_be_seen_is_named(given_text, shown):
    assert strip_control(given_text) == shown


def test_marks_are_not_piled_up():
    shown = strip_control("z" + "\u0301" * 1000 + "a\u0308")
    assert shown.startswith("z" + "\u0301" * 4 + "\\u{301}")
    assert shown.count("\u0301") == 4
    assert shown.endswith("a\u0308")


def test_nested_values_are_treated_one_by_one():
    assert strip_values({"a\u200b": ["\x1b[1mb", ("\u202e", 3, None)]}) == {
        "a\\u{200b}": ["b", ["\\u{202e}", 3, None]]
    }


def test_clip_says_whether_it_cut():
    assert clip("abc", 3) == ("abc", False)
    assert clip("abc", 2) == ("ab", True)
