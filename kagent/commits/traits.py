"""What kind of change a commit is, as bits that an index keeps beside its date.

The symptom bits say which misbehaviour a text speaks of. They are read alike from a crash's title
and from a commit's subject and message, so that the two can be compared.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from kagent.commits.model import Commit

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick

__all__ = [
    "FIX_TAG",
    "OUTSIDE",
    "POSTED",
    "REPORTED",
    "REVERT",
    "STABLE",
    "SYMPTOMS",
    "SYZBOT",
    "symptom_names",
    "symptoms",
    "traits",
]

FIX_TAG, REPORTED, SYZBOT, STABLE, REVERT, OUTSIDE, POSTED = (1 << n for n in range(7))
"""Has a ``Fixes:`` tag; somebody's report behind it; syzbot's report; is meant for stable; takes
another change back; touches no code that runs in the kernel; was posted, but is in no repository.
"""
_FIRST_SYMPTOM = 16

# Lower case, anything but letters and digits a blank; a blank at an end is a word's end.
_PHRASES: dict[str, str] = {
    "use after free": "use after free|use after scope| uaf |double free|invalid free|dangling"
    "|stale pointer|refcount",
    "out of bounds": "out of bound| oob |overflow|overrun|overread|past the end|beyond end"
    "|beyond the end|out of range",
    "null pointer": " null |non canonical|general protection",
    "leak": " leak|unreferenced object|memleak",
    "uninitialised": "uninit|kmsan|infoleak|info leak|information leak",
    "race": " race | races | racy | racing |kcsan|concurrent",
    "deadlock": "deadlock|dead lock|circular|lockdep|recursi|inversion|inconsistent lock|abba"
    "| ab ba |lock order|unsafe locking",
    "hang": " hung | hang | hangs |stall|soft lockup|softlockup|hard lockup|infinite|endless"
    "|livelock|blocked for more| stuck ",
    "arithmetic": "ubsan|shift out|shift exponent|divide error|division by|divide by|div by zero"
    "|underflow|overflow",
    "sleeping": "sleeping function|sleep in |sleeping in |sleep while|sleeping while"
    "|scheduling while|atomic context|invalid context|might sleep",
    "RCU use": "suspicious rcu|rcu usage|rcu dereference|rcu read lock",
    "unregistered key": "non static key| lock key|init trace|spin lock init|mutex init",
    "assertion": " bug on|kernel bug| assert|invalid opcode",
    "warning": " warn | warning| warn on|splat",
    "list corruption": "list add|list del|list corruption|corrupted list",
    "debug object": " odebug|debugobject|debug object",
}
SYMPTOMS = tuple(_PHRASES)
"""Bit ``_FIRST_SYMPTOM + n`` of `symptoms` stands for the n-th."""
_PATTERNS = [
    (phrase, 1 << _FIRST_SYMPTOM + n)
    for n, phrases in enumerate(_PHRASES.values())
    for phrase in phrases.split("|")
]
_BITS = [bit for _, bit in _PATTERNS]
_PLAIN = bytes(c if chr(c).isalnum() and c < 128 else 32 for c in range(256))

_SYZBOT = re.compile(r"syzbot|syzkaller", re.I)
_REPORTERS = frozenset(
    ("reported-by", "reported-and-tested-by", "reported-and-bisected-by", "closes")
)
_NO_CODE = re.compile(
    r"(?:Documentation|tools|samples|scripts|LICENSES|usr)/|(?:.*/)?(?:MAINTAINERS|Kconfig|Makefile"
    r"|\.[\w.]+)$|.*\.(?:rst|txt|yaml|dtsi?|json|py|sh)$"
)
_HASH = re.compile(r"[0-9a-f]{7,64}")


def symptoms(text: str) -> int:
    """The bits of every symptom that `text` names."""
    plain = text.lower().encode("ascii", "replace").translate(_PLAIN)
    found = 0
    for index, _, _ in _matcher().find_matches_as_indexes(b" " + plain + b" ", overlapping=True):
        found |= _BITS[index]
    return found


def symptom_names(bits: int) -> list[str]:
    """The symptoms that bits stand for, in words."""
    return [name for n, name in enumerate(SYMPTOMS) if bits >> _FIRST_SYMPTOM + n & 1]


@lru_cache(maxsize=1)
def _matcher() -> BytesAhoCorasick:
    from ahocorasick_rs import BytesAhoCorasick

    return BytesAhoCorasick([phrase.encode() for phrase, _ in _PATTERNS])


def traits(commit: Commit) -> int:
    """All bits of a commit."""
    found = symptoms(f"{commit.subject}\n{commit.message}")
    if commit.fixes:
        found |= FIX_TAG
    if commit.subject.startswith("Revert "):
        found |= REVERT
    if commit.files and all(_NO_CODE.match(path) for path in commit.files):
        found |= OUTSIDE
    if not _HASH.fullmatch(commit.hash):
        found |= POSTED
    for key, value in commit.trailers:
        name = key.lower()
        if name in _REPORTERS:
            found |= REPORTED
        if name.startswith("reported") and _SYZBOT.search(value):
            found |= SYZBOT
        if "stable@" in value or (name == "cc" and value.startswith("stable")):
            found |= STABLE
    return found
