"""A made-up kernel of any size: names, words and functions spread as in the real one.

`World.rows` gives changes as a ``.jsonl`` corpus has them, `World.repository` writes a git
repository whose commits change C files. Both are the same on every run. Frequencies follow Zipf's
law: a few subsystems, files, functions and words make most of the history.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from kagent.commits.lsa import DIMENSION as SEMANTIC
from kagent.commits.lsa import SKETCH
from kagent.commits.names import words
from kagent.commits.packing import day_of, subject_key
from kagent.commits.prepare import KINDS, pack_postings

__all__ = ["DIMENSION", "World"]

DIMENSION = SEMANTIC + SKETCH
"""Of made-up vectors: that of the default embedding."""
_NAMES = re.compile(r"[a-z]+_[a-z]+_\w+")

_VERBS_TEXT = """
    init exit probe remove read write get put alloc free lock unlock start stop open close map unmap
    insert delete find lookup add del set clear enable disable attach detach register unregister
    send recv queue dequeue submit complete handle process update check validate parse commit
    flush sync invalidate prepare finish setup teardown reset resume suspend poll wait wake
"""
_NOUNS_TEXT = """
    page inode dentry extent block buffer queue ring list entry node tree table cache slab pool
    device driver port link channel stream frame packet skb sock conn session request reply event
    irq timer work task thread group context state info data desc header key value name path file
    dir mount volume super segment region range zone bitmap counter stats ref lease quota log
    journal trans chunk stripe mirror target host bus slot lane phy clk reg field bit mask flag
"""
_WORDS_TEXT = """
    fix the a to of in is and that when if for this be it on by not with from are can call use
    function pointer memory null kernel commit error add remove return after before lock race path
    check leak free device driver data buffer size value set case code instead which may will
    because only first then since so there otherwise cause result happen report crash warning
"""
_ROOTS_TEXT = """
    drivers/net drivers/gpu drivers/usb drivers/media fs net sound mm arch/x86 arch/arm64
    drivers/scsi drivers/iio kernel block drivers/hwmon
"""
_VERBS, _NOUNS = _VERBS_TEXT.split(), _NOUNS_TEXT.split()
_WORDS, _ROOTS = _WORDS_TEXT.split(), _ROOTS_TEXT.split()
_EPOCH = int(datetime(2012, 1, 1, tzinfo=UTC).timestamp())
_TRACE_END = ("vfs_write", "ksys_write", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    functions: tuple[str, ...]


class _Zipf:
    """Numbers below `count`, small ones more often."""

    def __init__(self, count: int, exponent: float, rng: np.random.Generator) -> None:
        weights = 1 / np.arange(1, count + 1) ** exponent
        self._sums = np.cumsum(weights) / weights.sum()
        self._rng = rng
        self._drawn: list[int] = []

    def draw(self, count: int) -> list[int]:
        if len(self._drawn) < count:
            more = np.searchsorted(self._sums, self._rng.random(max(1 << 16, count)))
            self._drawn += more.tolist()
        taken = self._drawn[-count:]
        del self._drawn[-count:]
        return taken


class World:
    """`files` source files of about sixteen functions each."""

    def __init__(self, files: int = 40_000, words: int = 60_000, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._dice = random.Random(seed)
        self._syllables = [c + v for c in "bcdfghjklmnprstvwz" for v in "aeiou"]
        self._words = [*_WORDS, *self._made_up(words - len(_WORDS))]
        self._files = list(self._make_files(files))
        self._word = _Zipf(len(self._words), 1.05, self._rng)
        self._file = _Zipf(len(self._files), 0.7, self._rng)
        order = self._rng.permutation(len(self._files))
        self._shuffled = [self._files[i] for i in order]

    def _made_up(self, count: int) -> Iterator[str]:
        lengths = self._rng.integers(2, 5, count)
        picks = self._rng.integers(0, len(self._syllables), (count, 4))
        for length, row in zip(lengths, picks, strict=True):
            yield "".join(self._syllables[i] for i in row[:length])

    def _make_files(self, count: int) -> Iterator[_File]:
        rng = self._rng
        systems = max(20, count // 60)
        prefixes = list(dict.fromkeys(self._made_up(systems)))
        system = _Zipf(len(prefixes), 0.6, rng)
        for number, at in enumerate(system.draw(count)):
            prefix = prefixes[at]
            root = _ROOTS[at % len(_ROOTS)]
            noun = _NOUNS[number % len(_NOUNS)]
            path = f"{root}/{prefix}/{prefix}_{noun}{number // len(_NOUNS)}.c"
            verbs = rng.choice(len(_VERBS), int(rng.integers(6, 27)), replace=False)
            other = rng.integers(0, len(_NOUNS), len(verbs))
            yield _File(
                path,
                tuple(
                    f"{prefix}_{noun}_{_VERBS[v]}_{_NOUNS[n]}"
                    for v, n in zip(verbs, other, strict=True)
                ),
            )

    def _choose(self) -> list[_File]:
        """Files of one change: mostly one, of one directory."""
        count = min(self._few(0.4), 8)
        first = self._file.draw(1)[0]
        return [self._shuffled[(first + i) % len(self._shuffled)] for i in range(count)]

    def _few(self, more: float) -> int:
        """One, or as many more as the dice says yes in a row."""
        count = 1
        while self._dice.random() < more:
            count += 1
        return count

    def prose(self, count: int) -> list[str]:
        """So many words."""
        return [self._words[i] for i in self._word.draw(count)]

    def _functions(self, files: Sequence[_File]) -> list[str]:
        picked = []
        for file in files:
            count = min(self._few(0.5), len(file.functions))
            start = self._dice.randrange(len(file.functions))
            turned = file.functions[start:] + file.functions[:start]
            picked += turned[:count]
        return picked

    def trace(self, functions: Sequence[str]) -> str:
        """A call trace that starts in `functions`."""
        near = self._functions([f for _ in range(4) for f in self._choose()])
        names = (*functions, *near[: self._dice.randrange(4, 12)], *_TRACE_END)
        lines = "\n".join(f"  {name}+0x{len(name):x}/0x{16 * len(name):x}" for name in names)
        title = f"BUG: KASAN: slab-use-after-free in {names[0]}+0x1c/0x70"
        return f"{title}\nCall Trace:\n <TASK>\n{lines}"

    def _message(self, functions: Sequence[str], hashes: Sequence[str]) -> tuple[str, str]:
        dice = self._dice
        words = self.prose(int(dice.lognormvariate(3.6, 0.6)) + 12)
        name = functions[0] if functions else "setup"
        subject = f"{name.split('_')[0]}: fix {' '.join(words[:4])} in {name}()"
        for at in range(6, len(words), 17):
            words[at] = functions[at % len(functions)] + "()" if functions else words[at]
        body = "\n".join(" ".join(words[i : i + 11]) for i in range(4, len(words), 11))
        parts = [body.capitalize() + "."]
        if dice.random() < 0.12:
            parts.append(self.trace(functions))
        tags = []
        if hashes and dice.random() < 0.3:
            old = dice.choice(hashes)
            tags.append(f'Fixes: {old[:12]} ("{" ".join(words[:5])}")')
        who = self.prose(4)
        tags += [f"Reported-by: {who[0]} {who[1]} <{who[0]}@example.org>"] * (dice.random() < 0.2)
        tags.append(f"Reviewed-by: {who[2]} {who[1]} <{who[2]}@example.com>")
        tags.append(f"Signed-off-by: {who[3]} {who[0]} <{who[3]}@example.net>")
        return subject, "\n\n".join((*parts, "\n".join(tags)))

    def rows(self, count: int) -> Iterator[dict[str, Any]]:
        """`count` changes, oldest first, as a corpus file has them."""
        hashes: list[str] = []
        step = 440_000_000 // max(count, 1)
        for number in range(count):
            files = self._choose()
            functions = self._functions(files)
            subject, message = self._message(functions, hashes)
            hash = self._dice.randbytes(20).hex()
            if len(hashes) < 50_000 or number % 7 == 0:
                hashes.append(hash)
            called = self._functions(self._choose())
            when = datetime.fromtimestamp(_EPOCH + number * step, UTC)
            yield {
                "hash": hash,
                "subject": subject,
                "author": f"{hash[:3]} Author <{hash[:3]}@example.org>",
                "date": when.isoformat(),
                "message": message,
                "files": [file.path for file in files],
                "functions": functions,
                "called": [*called, *(f"{n.split('_')[0]}_{n.split('_')[-1]}" for n in called)],
            }

    FRAME = 512
    """Commits that `prepared` gives at once."""

    def prepared(self, count: int) -> Iterator[tuple[dict[str, Any], list[bytes], bytes]]:
        """`count` changes as `kagent.commits.prepare.prepare` makes them, and a vector of each.

        Names are taken apart once instead of in every text, and nothing is parsed.
        """
        centres: dict[str, npt.NDArray[np.float32]] = {}
        rows = self.rows(count)
        while batch := list(itertools.islice(rows, self.FRAME)):
            postings: dict[str, defaultdict[str, list[int]]]
            postings = {kind: defaultdict(list) for kind in KINDS}
            facts: list[Any] = []
            bodies: list[bytes] = []
            for number, row in enumerate(batch):
                message, functions, files = row["message"], row["functions"], row["files"]
                counted: Counter[str] = Counter()
                for text, worth in (
                    (row["subject"], 30),
                    (message, 10),
                    (" ".join((*files, *functions, *row["called"])), 7),
                ):
                    for word in words(text):
                        counted[word] += worth
                for word, weight in counted.items():
                    postings["word"][word].append(number << 8 | min(weight, 255))
                fixes = [tag[:12] for tag in message.split("Fixes: ")[1:]]
                trace = "Call Trace" in message
                for kind, terms in (
                    ("function", functions),
                    ("file", files),
                    ("directory", {path.rpartition("/")[0] for path in files}),
                    ("identifier", row["called"]),
                    ("mention", {*functions[:3], *_NAMES.findall(message)}),
                    ("fixes", fixes),
                    ("quoted", _NAMES.findall(message) if trace else ()),
                ):
                    for term in dict.fromkeys(terms):
                        postings[kind][term].append(number)
                quote = [["KASAN", "KASAN", *_NAMES.findall(message)[:20]]] if trace else []
                facts.append(
                    (row["hash"], row["subject"], day_of(row["date"]), 3 if fixes else 2,
                     len(files), json.dumps(files), json.dumps(fixes),
                     subject_key(row["subject"]), None, json.dumps(quote) if quote else "",
                     sum(counted.values()) // 10)
                )  # fmt: skip
                body = (row["author"], row["date"], message, "", functions, row["called"], 0)
                bodies.append(zlib.compress(json.dumps(body).encode(), 1))
            found = np.stack([self._vector(row["files"][0], centres) for row in batch])
            found /= np.linalg.norm(found, axis=1, keepdims=True)
            terms, lists = pack_postings(postings)
            yield {"rows": facts, "terms": terms}, [*bodies, *lists], found.astype("<f2").tobytes()

    def _vector(
        self, path: str, centres: dict[str, npt.NDArray[np.float32]]
    ) -> npt.NDArray[np.float32]:
        """Near those of the same file, less near those of the same directory."""
        whole = self._rng.standard_normal(DIMENSION, dtype=np.float32) * np.float32(0.8)
        for part, share in ((path.rpartition("/")[0], 0.8), (path, 0.6)):
            if part not in centres:
                centres[part] = self._rng.standard_normal(DIMENSION, dtype=np.float32)
            whole += centres[part] * np.float32(share)
        return whole

    def crashes(self, count: int) -> Iterator[list[str]]:
        """Stacks to search for: functions, innermost first."""
        for _ in range(count):
            near = self._functions([f for _ in range(6) for f in self._choose()])
            yield [*near[:14], *_TRACE_END]

    def repository(self, path: Path, count: int) -> None:
        """A bare repository of `count` commits over all files, written by ``git fast-import``."""
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
        feed = subprocess.Popen(
            ["git", "-C", path, "fast-import", "--quiet"], stdin=subprocess.PIPE
        )
        assert feed.stdin is not None
        with feed.stdin:
            for piece in self._stream(count):
                feed.stdin.write(piece)
        if feed.wait() != 0:
            raise RuntimeError("git fast-import failed")
        subprocess.run(["git", "-C", path, "repack", "-adq", "--window=20"], check=True)

    def extend(self, path: Path, count: int) -> None:
        """`count` more commits on top of what `repository` wrote."""
        feed = subprocess.Popen(
            ["git", "-C", path, "fast-import", "--quiet"], stdin=subprocess.PIPE
        )
        assert feed.stdin is not None
        with feed.stdin:
            self._commits(feed.stdin, count, start="from refs/heads/main^0\n")
        if feed.wait() != 0:
            raise RuntimeError("git fast-import failed")

    def _stream(self, count: int) -> Iterator[bytes]:
        self._bodies = {file.path: _source(file, self._rng) for file in self._files}
        pieces = _Pieces()
        files = "".join(
            f"M 100644 inline {path}\ndata {len(text := self._text(path))}\n{text}\n"
            for path in self._bodies
        )
        pieces.write(_commit(0, "start", files).encode())
        yield from pieces.take()
        for _ in range(0, count - 1, 100):
            self._commits(pieces, min(100, count - 1 - self._made), start="")
            yield from pieces.take()

    _made = 0

    def _commits(self, out: IO[bytes] | _Pieces, count: int, start: str) -> None:
        for _ in range(count):
            self._made += 1
            files = self._choose()
            functions = self._functions(files)
            subject, message = self._message(functions, ())
            changes = []
            for file in files:
                self._edit(file, [f for f in functions if f in file.functions])
                text = self._text(file.path)
                changes.append(f"M 100644 inline {file.path}\ndata {len(text)}\n{text}\n")
            commit = _commit(self._made, f"{subject}\n\n{message}", "".join(changes), start)
            out.write(commit.encode())
            start = ""

    def _edit(self, file: _File, functions: Sequence[str]) -> None:
        rng, bodies = self._rng, self._bodies[file.path]
        for name in functions or file.functions[:1]:
            body = bodies[file.functions.index(name)]
            for _ in range(int(rng.integers(1, 5))):
                at = int(rng.integers(2, max(3, len(body) - 1)))
                line = _line(name.split("_")[0], rng)
                if rng.random() < 0.5 and len(body) > 6:
                    body[at : at + 1] = [line] if rng.random() < 0.7 else []
                else:
                    body[at:at] = [line, _line(name.split("_")[0], rng)]

    def _text(self, path: str) -> str:
        return "\n".join(
            line for body in self._bodies[path] for line in itertools.chain(body, ("",))
        )


class _Pieces:
    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._held.append(data)

    def take(self) -> Iterator[bytes]:
        yield b"".join(self._held)
        self._held.clear()


def _commit(number: int, message: str, changes: str, start: str = "") -> str:
    when = f"Ada Example <ada@example.org> {_EPOCH + 300 * number} +0000"
    return (
        f"commit refs/heads/main\nauthor {when}\ncommitter {when}\n"
        f"data {len(message)}\n{message}\n{start}{changes}\n"
    )


def _source(file: _File, rng: np.random.Generator) -> list[list[str]]:
    return [_function(name, rng) for name in file.functions]


def _function(name: str, rng: np.random.Generator) -> list[str]:
    prefix = name.split("_")[0]
    count = int(rng.integers(8, 30))
    lines = [_line(prefix, rng) for _ in range(count)]
    head = f"static int {name}(struct {prefix}_dev *dev, int arg)"
    return [head, "{", *lines, "\treturn 0;", "}"]


def _line(prefix: str, rng: np.random.Generator) -> str:
    a, b, c, kind = (int(x) for x in rng.integers(0, 1 << 16, 4))
    verb, noun, member = _VERBS[a % len(_VERBS)], _NOUNS[b % len(_NOUNS)], _NOUNS[c % len(_NOUNS)]
    match kind % 5:
        case 0:
            return f"\tif (!dev->{member})\n\t\treturn -EINVAL;"
        case 1:
            return f"\tdev->{member}_{noun} = {prefix}_{verb}_{noun}(dev, arg);"
        case 2:
            return f"\t{prefix}_{verb}_{member}(&dev->{noun}, {a % 100});"
        case 3:
            return f"\tmutex_lock(&dev->{noun}_lock);"
        case _:
            return f"\tlist_{verb}(&dev->{member}_list, &arg->{noun});"
