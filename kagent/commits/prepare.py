"""Taking commits apart into what an index stores; what the processes of a build do.

Records are read by what their source wrote: ``git`` (`history`), ``jsonl`` (`corpus`), ``mail``
(`mail`) and ``index`` (`store`). Posting lists are gathered over a whole frame, as the process
that writes the index would otherwise see every name of every commit.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np

from kagent.commits.corpus import parse_line
from kagent.commits.history import parse_record
from kagent.commits.mail import parse_mail
from kagent.commits.mentions import reverted_commits
from kagent.commits.model import Commit
from kagent.commits.names import base_symbol, named_symbols, words
from kagent.commits.packing import (
    day_of,
    pack_body,
    patch_key,
    subject_key,
    unpack_commit,
)
from kagent.commits.quoted import Quote, pack_quotes, quotes_in, references
from kagent.commits.traits import traits
from kagent.commits.workers import Frame
from kagent.errors import InputError

__all__ = [
    "KINDS",
    "SUPERSEDED",
    "TRUNCATED",
    "WEIGHT_UNIT",
    "PostingKind",
    "clean",
    "pack_postings",
    "pack_record",
    "posting_terms",
    "prepare",
    "prepare_frame",
    "unpack_record",
]

SUPERSEDED, TRUNCATED = 1 << 8, 1 << 9
"""Bits of ``commits.flags`` beside those of `traits`: a newer version of the same posted patch is
in; the patch was cut.
"""

PostingKind = Literal[
    "word",
    "function",
    "file",
    "directory",
    "identifier",
    "mention",
    "fixes",
    "reverts",
    "quoted",
    "reference",
]
KINDS: dict[str, int] = {kind: number for number, kind in enumerate(get_args(PostingKind))}
"""As the database has them."""

WEIGHT_UNIT = 0.1
"""What one step of a word's stored weight is worth."""
_COLUMN_WEIGHTS = (30, 10, 7)
"""Of a word in subject, message and names, in steps."""
_MAX_WORDS = 4000


def prepare_frame(header: dict[str, Any], records: Sequence[bytes]) -> Frame:
    """Parse ``header["kind"]`` records and take them apart.

    The answer is that of `prepare`.

    Raises:
        InputError: a record is not what its source should have; says where.
    """
    parsers: dict[str, Callable[[bytes], Commit | None]] = {
        "git": parse_record,
        "jsonl": parse_line,
        "mail": parse_mail,
        "index": unpack_record,
    }
    parse = parsers[header["kind"]]
    commits = []
    for number, record in enumerate(records, header["first"]):
        try:
            commit = parse(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{header['source']}: line {number} is not a change: {error}",
                hint="each line is a JSON object with hash, subject, author, date and message",
            ) from error
        if commit is not None:
            commits.append(commit)
    return prepare(commits)


def prepare(commits: Iterable[Commit]) -> Frame:
    """Rows, postings and bodies of some commits, 65,536 at most.

    The JSON has ``rows``, each (hash, subject, day, flags, breadth, files, fixes, subject key,
    patch key, quotes, count of words), the lists as JSON; and ``terms`` of `pack_postings`. The
    byte strings are the rows' bodies and those of `pack_postings`.
    """
    rows: list[Any] = []
    bodies: list[bytes] = []
    postings: dict[str, defaultdict[str, list[int]]] = {kind: defaultdict(list) for kind in KINDS}
    by_word = postings["word"]
    for number, commit in enumerate(commits):
        counted, length = _weigh(commit)
        for word, weight in counted.items():
            by_word[word].append(number << 8 | (weight if weight < 255 else 255))
        quotes = quotes_in(commit.message)
        for kind, terms in posting_terms(commit, quotes):
            lists = postings[kind]
            for term in terms:
                lists[term if term.isascii() else clean(term)].append(number)
        bodies.append(pack_body(commit))
        rows.append(
            (
                clean(commit.hash),
                clean(commit.subject),
                day_of(commit.date),
                traits(commit) | (TRUNCATED if commit.truncated else 0),
                min(len(commit.files), 1000),
                json.dumps(commit.files, separators=(",", ":")),
                json.dumps(commit.fixes, separators=(",", ":")),
                subject_key(commit.subject),
                None if commit.truncated else patch_key(commit.diff),
                clean(pack_quotes(quotes)) if quotes else "",
                length,
            )
        )
    names, packed = pack_postings(postings)
    return {"rows": rows, "terms": names}, [*bodies, *packed]


def pack_postings(
    postings: Mapping[str, Mapping[str, Sequence[int]]],
) -> tuple[list[list[str]], list[bytes]]:
    """The terms of each of `KINDS`, and their posting lists as byte strings.

    `postings` has for each kind and term the numbers of its rows; for a word, 256 times the number
    plus the word's weight there. Of each kind, the byte strings are how many rows each term is in
    and the numbers of those rows, term after term (native uint16); last come the weights of words
    in the order of their row numbers (uint8).
    """
    packed: list[bytes] = []
    weights = b""
    for kind, lists in postings.items():
        numbers = np.fromiter(chain.from_iterable(lists.values()), dtype=np.uint32)
        if kind == "word":
            weights = numbers.astype(np.uint8).tobytes()
            numbers >>= 8
        packed.append(np.fromiter(map(len, lists.values()), dtype=np.uint16).tobytes())
        packed.append(numbers.astype(np.uint16).tobytes())
    return [list(lists) for lists in postings.values()], [*packed, weights]


def clean(text: str) -> str:
    """Without lone surrogates, which UTF-8 cannot store."""
    return text.encode("utf-8", "replace").decode()


def _weigh(commit: Commit) -> tuple[dict[str, int], int]:
    """The weight of each word, and how many words there are."""
    code = " ".join((*commit.files, *commit.functions, *commit.identifiers))
    total: dict[str, int] = {}
    length = 0
    texts = (commit.subject, commit.message, code)
    for text, worth in zip(texts, _COLUMN_WEIGHTS, strict=True):
        found = words(text)[:_MAX_WORDS]
        length += len(found)
        for word, count in Counter(found).items():
            total[word] = total.get(word, 0) + worth * count
    return total, min(length, 65535)


def posting_terms(
    commit: Commit, quotes: Sequence[Quote]
) -> Iterator[tuple[PostingKind, Iterable[str]]]:
    """What a commit is found under, but for its words."""
    yield "function", dict.fromkeys(base_symbol(name) for name in commit.functions)
    yield "file", dict.fromkeys(commit.files)
    yield "directory", dict.fromkeys(path.rpartition("/")[0] for path in commit.files)
    yield "identifier", dict.fromkeys(commit.identifiers)
    yield "mention", named_symbols(f"{commit.subject}\n{commit.message}")[:400]
    yield "fixes", dict.fromkeys(hash[:12] for hash in commit.fixes)
    yield "reverts", dict.fromkeys(hash[:12] for hash in reverted_commits(commit.message))
    yield "quoted", dict.fromkeys(name for quote in quotes for name in quote.symbols)
    yield "reference", references(commit.message)


def pack_record(row: Sequence[Any]) -> bytes:
    """A stored commit as a record: (hash, subject, files, fixes, body) of the database."""
    *texts, body = row
    head = json.dumps(texts).encode()
    return len(head).to_bytes(4, "little") + head + bytes(body)


def unpack_record(record: bytes) -> Commit:
    """The commit that `pack_record` packed."""
    size = int.from_bytes(record[:4], "little")
    return unpack_commit((*json.loads(record[4 : 4 + size]), record[4 + size :]))
