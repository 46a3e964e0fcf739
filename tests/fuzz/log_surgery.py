"""Damage to kernel logs: what consoles, mail, chat and hostile users do to their lines.

Every operation takes the lines of a log (bytes, without line ends) and the dice, and returns other
lines. `mutate` says in a few words which were done.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

__all__ = ["MAX_BYTES", "Lines", "mutate"]

MAX_BYTES = 190_000
Lines = list[bytes]
_PREFIXES = (
    *(b"> ", b">> > ", b"| ", b"    ", b"\t", b"# ", b"\xc2\xa0 ", b"- ", b"//", b"\xef\xbb\xbf"),
    *(b"[    1.000000] ", b"[    1.000000][    T7] ", b"[    1.000000][    C1] ", b"[T1] "),
    *(b"<4>", b"<4>[    1.000000] ", b"4,100,1000000,-,caller=T7;", b"[Sat Nov 29 03:00:00 2026] "),
    b"Jan  1 00:00:00 host kernel: [    1.000000] ",
    b"2026-11-29T03:00:00.000000+00:00 host kernel: ",
    *(b"[99999999999999.999999] ", b"<999999999999>", b"[<ffffffff81000000>] ", b"[  1.0] " * 40),
)
_PREFIX = re.compile(rb"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_HOSTILE = (
    *("\x1b[31m", "\x1b]0;title\x07", "\x1b]8;;http://evil.example\x1b\\", "\x9b2J", "\x00", "\r"),
    *("\u202e", "\u2066", "\u200b", "\u200f", "\ufeff", "\u2028", "\u0085", "\u00a0", "\u00ad"),
    *("\U000e0041\U000e0042", "\ufff9", "\ue000", "\U0010ffff", "a" + "\u0301" * 50, "\u3164"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</pre>", "&lt;", "]]>", "<!--"),
    *("`rm -rf /`", "```\n```", "[x](javascript:alert(1))", "![x](http://evil.example)", "@name"),
    *(
        "http://evil.example/x",
        "www.evil.example",
        "#1",
        "|",
        "\\",
        "$(reboot)",
        ";reboot",
        "*" * 9,
    ),
    *("{{7*7}}", "{% raw %}", "%s%n", "../../etc/passwd", "--upload-pack=x", "-h", "/dev/fd/0"),
    *("A" * 5000, "١٢٣", "𝟜𝟚", "ﬀ", "İ", "ß", "\U0001f600", "[E1]", "E1", "x" * 300 + "+0x1/0x2"),
    *("[/]", "[bold red]", ":smile:", "Traceback", "'", '"', "\\u202e", "nan", "inf", "null", "-1"),
)
_NUMBERS = (
    *(
        "0",
        "-1",
        "00000000",
        "ffffffffffffffff",
        "8000000000000000",
        "fffffffffffffffff",
        "7fffffff",
    ),
    *("4294967296", "99999999999999999999", "1" * 5000, "f" * 5000, "1e999", "0x", "0x0", "١"),
)
_NUMBER = re.compile(rb"(?<![A-Za-z])(?:0x)?[0-9a-f]*\d[0-9a-f]*(?![A-Za-z])")
_WORD = re.compile(rb"[A-Za-z_][\w.-]{2,}")
_REPORTING = re.compile(
    rb"BUG|WARNING|INFO:|Oops|panic|Call Trace|RIP:|PC is at|pc :|NIP|Comm:|Modules linked|Code:"
    rb"|Hardware name|\+0x|locked|blocked for|Workqueue:|Tainted|RAX:|x0 :"
)
Operation = Callable[[Lines, random.Random, "list[Lines]"], Lines]


def mutate(lines: Lines, others: list[Lines], dice: random.Random) -> tuple[bytes, str]:
    """A log with a few things done to it, `MAX_BYTES` at most, and what was done."""
    told = []
    for _ in range(dice.choice((1, 1, 2, 2, 3, 4, 8))):
        operation = dice.choice(_OPERATIONS)
        told.append(operation.__name__.lstrip("_"))
        lines = operation(lines, dice, others) or [b""]
    ending = dice.choice((b"\n", b"\n", b"\n", b"\n", b"\r\n", b"\n\r", b"\r"))
    return ending.join(lines)[:MAX_BYTES], " ".join(told)


def _spot(lines: Lines, dice: random.Random) -> int:
    """A line to work on; one that says something, more often than not."""
    if dice.random() < 0.7:
        speaking = [at for at, line in enumerate(lines) if _REPORTING.search(line[:400])]
        if speaking:
            return dice.choice(speaking)
    return dice.randrange(len(lines))


def _hostile(dice: random.Random) -> bytes:
    return dice.choice(_HOSTILE).encode()


# ── lines ────────────────────────────────────────────────────────────────────────────────────


def _lose(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    at = _spot(lines, dice)
    return lines[:at] + lines[at + dice.choice((1, 1, 2, 5, 20)) :]


def _thin(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    share = dice.choice((0.02, 0.1, 0.5, 0.9))
    return [line for line in lines if dice.random() > share]


def _repeat(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    at, length = _spot(lines, dice), dice.choice((1, 1, 4, 30))
    times = dice.choice((1, 2, 10, 300))
    return lines[:at] + lines[at : at + length] * times + lines[at:]


def _whole_again(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    return _fit(lines * dice.choice((2, 3, 8, 40)))


def _move(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    at, length, to = _spot(lines, dice), dice.choice((1, 3, 10)), dice.randrange(len(lines))
    part, rest = lines[at : at + length], lines[:at] + lines[at + length :]
    return rest[:to] + part + rest[to:]


def _shuffle(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    at, length = _spot(lines, dice), dice.choice((3, 10, 40))
    part = lines[at : at + length]
    dice.shuffle(part)
    return lines[:at] + part + lines[at + length :]


def _upside_down(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    return lines[::-1] if dice.random() < 0.2 else _shuffle(lines, dice, others)


def _join(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    at, length = _spot(lines, dice), dice.choice((2, 2, 5, 200))
    glue = dice.choice((b"", b" ", b"\t", b" | "))
    return [*lines[:at], glue.join(lines[at : at + length]), *lines[at + length :]]


def _fold(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    width, indent = dice.choice((20, 72, 76, 80, 120)), dice.choice((b"", b"", b" ", b"> "))
    return [
        (indent if at else b"") + line[at : at + width]
        for line in lines
        for at in range(0, max(1, len(line)), width)
    ]


def _split(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    at = _spot(lines, dice)
    line = lines[at]
    cut = dice.randrange(len(line) + 1)
    return [*lines[:at], line[:cut], line[cut:], *lines[at + 1 :]]


# ── two logs ─────────────────────────────────────────────────────────────────────────────────


def _splice(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    other = dice.choice(others)
    return _fit(lines[: _spot(lines, dice)] + other[_spot(other, dice) :])


def _insert(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    other, at = dice.choice(others), _spot(lines, dice)
    start = _spot(other, dice)
    return _fit(lines[:at] + other[start : start + dice.choice((1, 5, 40, 400))] + lines[at:])


def _interleave(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    """Two CPUs or two consoles at once; a third of the time within lines."""
    streams = [list(lines), list(dice.choice(others))]
    marks = dice.choice(((b"", b""), (b"[    1.0][    C0] ", b"[    1.0][    C1] ")))
    found: Lines = []
    while any(streams):
        which = dice.randrange(2)
        taken = streams[which][: dice.choice((1, 1, 3))]
        del streams[which][: len(taken)]
        found += [marks[which] + line for line in taken]
    return _fit(found)


# ── within lines ─────────────────────────────────────────────────────────────────────────────


def _prefix(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    prefix, share = dice.choice(_PREFIXES), dice.choice((1, 1, 0.5, 0.05))
    return _fit([prefix + line if dice.random() < share else line for line in lines])


def _without_prefix(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    share = dice.choice((1, 1, 0.5))
    return [_PREFIX.sub(b"", line) if dice.random() < share else line for line in lines]


def _mixed_prefixes(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    return _fit([dice.choice(_PREFIXES) + _PREFIX.sub(b"", line) for line in lines])


def _hostile_word(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    """Hostile text for a word, or beside it, wherever that word stands."""
    line = lines[_spot(lines, dice)]
    words = list(_WORD.finditer(line[:2000]))
    if not words:
        return lines
    word, evil = dice.choice(words)[0], _hostile(dice)
    evil = dice.choice((evil, word + evil, evil + word, word[:2] + evil + word[2:]))
    return _fit([one.replace(word, evil, 50) for one in lines])


def _hostile_line(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    at = _spot(lines, dice)
    line = lines[at]
    cut = dice.randrange(len(line) + 1)
    return [*lines[:at], line[:cut] + _hostile(dice) + line[cut:], *lines[at + 1 :]]


def _number(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    at = _spot(lines, dice)
    value = dice.choice(_NUMBERS).encode()
    found = list(_NUMBER.finditer(lines[at][:2000]))
    if not found:
        return lines
    start, end = dice.choice(found).span()
    return [*lines[:at], lines[at][:start] + value + lines[at][end:], *lines[at + 1 :]]


def _every_number(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    value = dice.choice(_NUMBERS)[:20].encode()
    share = dice.choice((0.01, 0.1, 1))
    return _fit(
        [_NUMBER.sub(lambda m: value if dice.random() < share else m[0], line) for line in lines]
    )


def _swap_words(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    one, two = _spot(lines, dice), _spot(lines, dice)
    first, second = _WORD.findall(lines[one][:2000]), _WORD.findall(lines[two][:2000])
    if not first or not second:
        return lines
    changed = list(lines)
    changed[one] = lines[one].replace(dice.choice(first), dice.choice(second))
    return changed


def _blanks(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    blank = dice.choice(
        (b"\t", b"  ", b"", b"\xc2\xa0", b"\xe2\x80\x83", b"+", b"=20", b"\xe3\x80\x80")
    )
    return _fit([line.replace(b" ", blank) for line in lines])


def _marked_up(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    pairs = ((b"<", b"&lt;"), (b">", b"&gt;"), (b"_", b"\\_"), (b"=", b"=3D"), (b"[", b"\\["))
    changed = lines
    for old, new in dice.sample(pairs, dice.randint(1, 3)):
        changed = [line.replace(old, new) for line in changed]
    return _fit(changed)


# ── bytes ────────────────────────────────────────────────────────────────────────────────────


def _noise(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    """A bad serial line."""
    data = bytearray(b"\n".join(lines))
    for _ in range(dice.choice((1, 5, 50, 1000))):
        if data:
            data[dice.randrange(len(data))] = dice.choice((dice.randrange(256), 0x20, 0xFF, 0x00))
    return bytes(data).split(b"\n")


def _cut(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    data = b"\n".join(lines)
    at = dice.randrange(len(data) + 1)
    return (data[at:] if dice.random() < 0.4 else data[:at]).split(b"\n")


def _flood(lines: Lines, dice: random.Random, others: list[Lines]) -> Lines:
    """One line that is very long, or very many that are alike."""
    at = _spot(lines, dice)
    line = lines[at] or b" "
    if dice.random() < 0.5:
        part = line[: dice.choice((1, 3, 20))]
        return [*lines[:at], line + part * (50_000 // len(part)), *lines[at:]]
    return _fit([*lines[:at], *[line] * (60_000 // (len(line) + 1) + 1), *lines[at:]])


def _fit(lines: Lines) -> Lines:
    """No more than `MAX_BYTES` of it: other operations repeat and join what they get."""
    total = 0
    for at, line in enumerate(lines):
        total += len(line) + 1
        if total > MAX_BYTES:
            return [*lines[:at], line[:4096]]
    return lines


_OPERATIONS: tuple[Operation, ...] = (
    *(_lose, _lose, _thin, _repeat, _whole_again, _move, _shuffle, _upside_down, _join, _fold),
    *(_split, _splice, _splice, _insert, _insert, _interleave),
    *(_prefix, _without_prefix, _mixed_prefixes, _hostile_word, _hostile_word, _hostile_word),
    *(_hostile_line, _number, _number, _number, _every_number, _swap_words, _blanks, _marked_up),
    *(_noise, _cut, _flood),
)
