"""Words that GitHub, GitLab or Bugzilla would act on, found so that they can stand as code.

A backslash or an entity does not stop them: mentions, references and addresses are searched for in
the rendered text, where neither is left. All three leave code alone, and code shows the same
characters. Knows: GitHub Flavored Markdown 6.9 (autolinks), GitHub's "Autolinked references and
URLs" and "Basic writing and formatting syntax", GitLab's "GitLab Flavored Markdown" and
"Quick actions", Bugzilla's "Auto-linkification", and what linkify-it takes for a bare host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["pieces"]

# Several words that mean something together. Bugzilla links "bug 12", "comment 3" and so on,
# without a blank too, and whatever follows the number (Bugzilla::Template, quoteUrls).
_PHRASES = re.compile(
    r"(?<![^\W\d])(?:bug|comment|attachment)s? {0,3}(?:id |no\.? )?#? {0,3}\d{1,12}"
    r"|\b(?:patch|revision|issue|review|job|task)s? {1,3}(?:id |no\.? )?#?\d{1,12}\b",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\S+")
_ACTIVE = re.compile(
    r"[@#$]"  # mentions, issues, snippets, mathematics; addresses
    r"|//|\bwww\.|\b(?:mailto|xmpp|tel|callto|skype):"
    r"|[^\s./][.][^\W\d_]{2}"  # a bare host name
    r"|[!~%^&][\w\"{*]"  # GitLab: !12 ~label %1 ^alert &2
    r"|\*\w+:"  # *iteration:1
    r"|:[\w+-]{1,40}:|^\W{0,2}::"  # emoji, ::include
    r"|(?<![^\W_])[0-9a-f]{7,64}(?![^\W_])"  # commits
    r"|[0-9a-f]{4}\.{2,3}[0-9a-f]{4}"  # ranges of commits
    r"|\b(?-i:[A-Z][A-Z0-9_]+)-\d"  # GH-12, CVE-2024-1, keys of a tracker
    r"|\[\[|\]\]|\[\w+:|\[_{0,2}toc_{0,2}\]|\[\^"
    r"|[\[{][+-]|[+-][\]}]"  # GitLab's inline diffs
    r"|\br\d{2,9}\b",  # revisions
    re.IGNORECASE,
)
_QUICK_ACTION = re.compile(r"\W{0,3}/\w")  # GitLab, at the start of a line: /close
_HULL = re.compile(r"([(\"'“‘\[]*)(.*?)([)\"'”’\].,;!?]*)", re.DOTALL)


def pieces(text: str) -> Iterator[tuple[bool, str]]:
    """`text` in parts, in order; with each, whether it would do more than be read."""
    done = 0
    for start, end in _active(text):
        if start > done:
            yield False, text[done:start]
        yield True, text[start:end]
        done = end
    if done < len(text):
        yield False, text[done:]


def _active(text: str) -> Iterator[tuple[int, int]]:
    """Where the active parts are, in order."""
    done, first = 0, len(text) - len(text.lstrip())
    for phrase in [*_PHRASES.finditer(text), None]:
        end = phrase.start() if phrase else len(text)
        for word in _WORDS.finditer(text, done, end):
            if _ACTIVE.search(word[0]):
                yield _core(word)
            elif word.start() == first and _QUICK_ACTION.match(word[0]):
                yield word.span()
        if phrase:
            yield phrase.span()
            done = phrase.end()


def _core(token: re.Match[str]) -> tuple[int, int]:
    """The token without the punctuation around it, where that is not part of what makes it act."""
    hull = _HULL.fullmatch(token[0])
    if hull is None or not _ACTIVE.search(hull[2]):
        return token.span()
    rest = hull[1] + " " + hull[3]
    if _ACTIVE.search(rest):
        return token.span()
    return token.start() + len(hull[1]), token.end() - len(hull[3])
