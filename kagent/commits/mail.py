"""Patches as they were posted: mails of an mbox file or of a public-inbox archive.

Sources of the forms: RFC 4155 and `mboxrd` for mbox, public-inbox-v2-format(5) for archives
(repositories ``git/0.git``, ``git/1.git``, ..., whose commits each hold one mail as the file
``m``), and Documentation/process/submitting-patches.rst for how a patch stands in a mail.
"""

from __future__ import annotations

import email
import email.header
import email.utils
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import IO, cast

from kagent.commits.message import parse_fixes, parse_trailers
from kagent.commits.model import Commit
from kagent.commits.packing import plain_subject, subject_key
from kagent.commits.patch import read_patch
from kagent.errors import InputError, MissingDataError

__all__ = ["Posting", "is_mbox", "newest_versions", "parse_mail", "read_mbox", "read_posting"]

MAX_MAIL = 1 << 20
"""Bytes of a mail that are read."""
_MAX_DIFF = 64 * 1024
_MAX_MESSAGE = 64 * 1024
_PATCH_TAG = re.compile(r"^\s{0,4}(?:\[[^\]\n]{0,80}\]\s{0,4}){0,3}\[[^\]\n]{0,80}\bPATCH\b", re.I)
_VERSION = re.compile(r"\[[^\]\n]{0,80}?\bv(\d{1,3})\b", re.I)
_IN_BODY = re.compile(r"(From|Subject|Date): (\S.{0,500})")
_DIFF = re.compile(r"^(?:diff --git |--- \S[^\n]{0,4000}\n\+\+\+ \S|Index: )", re.M)
# As for `patch -p1`: the first directory is the tree's.
_QUILT = re.compile(
    r"^--- (?:[^/\s]{1,200}/)?(\S{1,4000}).*\n\+\+\+ (?:[^/\s]{1,200}/)?(\S{1,4000})", re.M
)
_FROM_LINE = re.compile(rb"From \S+.{0,200}\d")
_SIGNATURE = re.compile(r"\n-- ?(?:\n[^\n]{0,80}){0,2}\Z")
_ID = re.compile(r"<\s{0,4}([^<>\s]{1,250})\s{0,4}>")


@dataclass(frozen=True, slots=True)
class Posting:
    """A mail that may carry a patch, by its headers."""

    subject: str
    sender: str
    """Mail address, lower case."""
    time: float
    """Seconds since 1970."""

    @property
    def is_patch(self) -> bool:
        """Whether the subject says that a patch is inside: ``[PATCH ...]``, and no reply."""
        return _PATCH_TAG.match(self.subject) is not None

    @property
    def version(self) -> int:
        """2 of ``[PATCH v2 1/3]``; 1 where no version is stated."""
        found = _VERSION.search(self.subject)
        return int(found[1]) if found else 1


def newest_versions(postings: Iterable[Posting]) -> list[int]:
    """Numbers, in order, of the patches of which no newer version is among `postings`."""
    best: dict[tuple[int, str], tuple[int, float, int]] = {}
    for number, posting in enumerate(postings):
        if posting.is_patch:
            key = (subject_key(posting.subject), posting.sender)
            rank = (posting.version, posting.time, number)
            best[key] = max(best.get(key, rank), rank)
    return sorted(number for _, _, number in best.values())


def is_mbox(path: Path) -> bool:
    """Say whether `path` is a file of mails, by its name or its first line."""
    if path.name.endswith((".mbox", ".mbox.gz", ".mbx")):
        return True
    try:
        with path.open("rb") as file:
            return _FROM_LINE.match(file.read(300)) is not None
    except OSError:
        return False


def read_mbox(path: Path) -> Iterator[bytes]:
    """The mails of an mbox file, plain or gzip, each cut at `MAX_MAIL`.

    Raises:
        MissingDataError: there is no such file.
        InputError: it cannot be read to its end, or does not begin as an mbox does.
    """
    if not path.is_file():
        raise MissingDataError(f"no such file: {path}")
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            yield from _mails(cast(IO[bytes], file), path)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _mails(lines: IO[bytes], path: Path) -> Iterator[bytes]:
    held: list[bytes] = []
    size, blank, begun = 0, True, False
    while line := lines.readline(1 << 16):
        if blank and line.startswith(b"From ") and _FROM_LINE.match(line):
            if begun:
                yield b"".join(held)
            held, size, begun = [], 0, True
        elif not begun:
            raise InputError(f"{path} is no mbox: it does not begin with a line 'From '")
        elif size < MAX_MAIL:
            # mboxrd: a line of the mail that begins so has one more '>' in front.
            quoted = line.startswith(b">") and line.lstrip(b">").startswith(b"From ")
            held.append(line[1:] if quoted else line)
            size += len(line)
        blank = line in (b"\n", b"\r\n")
    if begun:
        yield b"".join(held)


def read_posting(mail: bytes) -> Posting:
    """The headers of a mail that tell versions apart."""
    head = mail[: _head_end(mail)]
    parsed = email.message_from_bytes(head[:65536])
    name, address = email.utils.parseaddr(_header(parsed, "From"))
    when = _when(_header(parsed, "Date"))
    return Posting(
        _header(parsed, "Subject"), (address or name).lower(), when.timestamp() if when else 0.0
    )


def _head_end(mail: bytes) -> int:
    ends = (mail.find(b"\n\n"), mail.find(b"\r\n\r\n"))
    return min((end for end in ends if end >= 0), default=len(mail))


def parse_mail(mail: bytes) -> Commit | None:
    """The patch that a mail posts; None where it has none.

    Its hash is the mail's Message-ID, without the brackets; ``patch:`` and a sum of the text where
    there is none, as in what ``git format-patch`` writes.
    """
    parsed = email.message_from_bytes(mail[:MAX_MAIL])
    identity = _ID.search(_header(parsed, "Message-ID") or _header(parsed, "Message-Id"))
    text = _text(parsed)
    found = _DIFF.search(text)
    if found is None:
        return None
    stated_id = identity[1] if identity is not None and "@" in identity[1] else ""
    stated, message = _in_body(text[: found.start()])
    message = re.split(r"^---[ \t]*$", message, maxsplit=1, flags=re.M)[0]
    subject = plain_subject(stated.get("Subject") or _header(parsed, "Subject"))
    author = stated.get("From") or _header(parsed, "From")
    when = _when(_header(parsed, "Date"))
    diff, truncated = _diff(text[found.start() :])
    message = message.strip("\n")[:_MAX_MESSAGE]
    patch = read_patch(diff)
    return Commit(
        hash=stated_id or _sum(subject, message, diff),
        subject=" ".join(subject.split()),
        author=" ".join(author.split()),
        date=when.isoformat() if when else "",
        message=message,
        files=patch.files,
        functions=patch.functions,
        diff=diff,
        fixes=parse_fixes(message),
        trailers=parse_trailers(message),
        identifiers=patch.identifiers,
        truncated=truncated,
    )


def _sum(*texts: str) -> str:
    data = "\0".join(texts).encode("utf-8", "replace")
    return f"patch:{hashlib.blake2b(data, digest_size=10).hexdigest()}"


def _header(parsed: Message, name: str) -> str:
    """A header as text, encoded words decoded, folded lines joined."""
    raw = str(parsed.get(name, ""))[:4096]
    try:
        pieces = email.header.decode_header(raw)
    except (email.errors.HeaderParseError, ValueError):
        pieces = [(raw, None)]
    text = "".join(
        _decode(piece, charset) if isinstance(piece, bytes) else piece for piece, charset in pieces
    )
    return " ".join(text.split())


def _decode(data: bytes, charset: str | None) -> str:
    try:
        return data.decode(charset or "utf-8", "replace")
    except LookupError:  # a charset that nobody knows
        return data.decode("utf-8", "replace")


def _text(parsed: Message) -> str:
    """The mail's plain text and the patches attached to it."""
    pieces = []
    for part in parsed.walk():
        if part.get_content_maintype() == "text" and part.get_content_subtype() != "html":
            data = part.get_payload(decode=True)
            if isinstance(data, bytes):
                pieces.append(_decode(data, part.get_content_charset()).replace("\r\n", "\n"))
    return "\n".join(pieces)


def _in_body(text: str) -> tuple[dict[str, str], str]:
    """Headers that stand at the head of the text for those of the mail, and the rest."""
    stated: dict[str, str] = {}
    rest = text.lstrip("\n")
    while match := _IN_BODY.match(rest):
        stated[match[1]] = match[2]
        rest = rest[match.end() :].lstrip(" \t\n")
    return stated, rest


def _diff(text: str) -> tuple[str, bool]:
    """The diff without the mail's signature, as git writes it; whether it was cut."""
    text = _SIGNATURE.sub("", text.rstrip()).strip("\n")
    if not text.startswith("diff --git "):
        text = _QUILT.sub(_git_header, text)
    if len(text) <= _MAX_DIFF:
        return text, False
    return text[: text.rfind("\n", 0, _MAX_DIFF) + 1 or _MAX_DIFF], True


def _git_header(match: re.Match[str]) -> str:
    old, new = match[1], match[2]
    old = new if old == "/dev/null" else old
    new = old if new == "/dev/null" else new
    return f"diff --git a/{old} b/{new}\n{match[0]}"


def _when(date: str) -> datetime | None:
    try:
        when = email.utils.parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return when if 1990 <= when.year <= 2100 else None
