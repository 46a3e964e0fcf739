"""Whether lock graphs name what lockdep's reports name, over a directory of reports.

::

    python tests/benchmarks/lockdep_family.py ../shared/logs/syzkaller-dev/report [--verbose]

The truth is read off the report's own words by a few expressions of this file, not by kagent: the
classes of the ``-> #N (class)`` chain in their order, of the ``-> (class)`` lists of dependencies
and of the ``lock(class)`` scenario; of reports that have none of these, the class that they
complain about. A report agrees when the cycle (or the interrupt's path) names these and no others.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kagent import Settings, analyze
from kagent.errors import KagentError
from kagent.resolution import Deadlock

_HEADERS = {
    "circular": "possible circular locking dependency detected",
    "recursive": "possible recursive locking detected",
    "inconsistent state": "inconsistent lock state",
    "irq order": "-unsafe lock order detected",
    "irq inversion": "possible irq lock inversion dependency detected",
    "invalid wait context": "Invalid wait context",
    "bad unlock": "bad unlock balance",
    "held lock freed": "held lock freed!",
    "held at return": "lock held when returning to user space",
    "held at exit": "still has locks held",
    "suspicious RCU": "suspicious RCU usage",
    "nest lock": "Nested lock was not taken",
}
_OTHER = "no lockdep report"
"""Reports of other checks in the family: a cycle must not be claimed."""
_CHAIN = re.compile(r"-> #(\d+) \((.+)\)\{")
_LISTED = re.compile(r"-> \((.+)\)\{")
_SCENARIO = re.compile(r"^ *lock\((.+)\);")
_SUBJECT = re.compile(
    r"(?:release lock|contend lock) \((.+)\) at|^ *(?:[0-9a-f(_ptrval)]+ )?\((.+)\)\{[^}]*\}.*, at:"
)
_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[ *[\d.]+\] ?)?(?:\[ *[CT]\d+\] ?)?")


@dataclass
class Stated:
    """What a report says in its own words."""

    variant: str
    chain: list[str] = field(default_factory=list)
    """``#N`` first."""
    listed: list[str] = field(default_factory=list)
    scenario: list[str] = field(default_factory=list)
    subject: str | None = None

    @property
    def classes(self) -> set[str]:
        """All classes of the cycle."""
        return set(self.chain) or set(self.listed) | set(self.scenario)


def stated(text: str) -> Stated | None:
    """Read the first lockdep report of `text`; None when it has none."""
    lines = [_PREFIX.sub("", line) for line in text.split("\n")]
    for at, line in enumerate(lines):
        variant = next((name for name, words in _HEADERS.items() if words in line), None)
        if variant:
            return _read(variant, lines[at + 1 :])
    return None


def _read(variant: str, lines: list[str]) -> Stated:
    found = Stated(variant)
    for line in lines:
        if any(words in line for words in _HEADERS.values()):
            break
        if match := _CHAIN.search(line):
            found.chain.append(_plain(match[2]))
        elif match := _LISTED.search(line):
            found.listed.append(_plain(match[1]))
        elif match := _SCENARIO.match(line):
            found.scenario.append(_plain(match[1]))
        elif found.subject is None and (match := _SUBJECT.search(line)):
            found.subject = _plain(match[1] or match[2])
    return found


def _plain(name: str) -> str:
    """A class without address-of, subclass and our address."""
    name = re.sub(r" \(0x[0-9a-f]+\)$", "", name)
    return re.sub(r"/\d+$", "", name).lstrip("&")


def judge(truth: Stated, deadlock: Deadlock | None) -> tuple[bool, str]:
    """Whether the lock graph says the same, and what it says."""
    if deadlock is None:
        return truth.variant == _OTHER, "no lock graph"
    cycle = deadlock.cycles[0] if deadlock.cycles else []
    named = {_plain(lock) for m in cycle for lock in (*m.holds[:1], m.waits_for or "?")}
    if truth.classes:
        if named != truth.classes:
            return False, f"{sorted(named)}, should be {sorted(truth.classes)}"
        held = [_plain(member.holds[0]) for member in cycle]
        wanted = [truth.chain[0], *reversed(truth.chain[1:])] if truth.chain else []
        if truth.chain and held != wanted:
            return False, f"order {held}, should be {wanted}"
        return True, ""
    if truth.subject is not None:
        return truth.subject in deadlock.reason, f"{deadlock.reason!r} / {truth.subject}"
    return not cycle, f"{sorted(named)}, though the report names no class"


def reports(directory: Path) -> Iterator[tuple[str, str]]:
    """Every file of the family, without the header that says what to expect."""
    for path in sorted(directory.iterdir(), key=lambda p: (len(p.name), p.name)):
        text = path.read_bytes().decode("utf-8", "replace").replace("\r", "")
        head, _, body = text.partition("\n\n")
        if "TYPE: LOCKDEP" in head.split("\n"):
            yield path.name, body


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--verbose", action="store_true", help="print what differs")
    options = parser.parse_args()
    settings = Settings()
    totals: dict[str, list[bool]] = defaultdict(list)
    for name, text in reports(options.directory):
        truth = stated(text) or Stated(_OTHER)
        try:
            right, why = judge(truth, analyze(text, settings=settings).deadlock)
        except KagentError as error:
            right, why = False, str(error)
        totals[truth.variant].append(right)
        if options.verbose and not right:
            print(f"{name} ({truth.variant}): {why}")
    for variant, results in totals.items():
        print(f"{variant:28}{sum(results):>4} of {len(results)}")
    every = [right for results in totals.values() for right in results]
    print(f"{'all':28}{sum(every):>4} of {len(every)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
