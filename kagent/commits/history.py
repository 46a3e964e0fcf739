"""Commits of a git repository, streamed out of one ``git log -p`` process."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from kagent.commits.message import parse_fixes, parse_trailers
from kagent.commits.model import Commit
from kagent.commits.patch import read_patch
from kagent.errors import InputError, KagentError
from kagent.repository import MAX_ERRORS, Repository, arguments

__all__ = ["MAX_DIFF", "GitHistory", "parse_record"]

MAX_DIFF = 64 * 1024
"""Bytes of a commit's diff that are kept and read; longer ones are cut and marked."""
MAX_MESSAGE = 64 * 1024
_BLOCK = 1 << 20
# A commit's text is buffered no further than this; what follows is dropped up to the next one.
_MAX_RECORD = 4 << 20

_LOG_OPTIONS = (
    "--no-merges",
    "--patch",
    "--find-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-show-signature",
    "--no-notes",
    "--no-mailmap",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--submodule=short",
    "--encoding=UTF-8",
)


class GitHistory:
    """The non-merge commits that some revisions of a repository reach, newest first."""

    def __init__(
        self,
        path: Path,
        *,
        since: str | None = None,
        paths: Sequence[str] = (),
        revisions: Sequence[str] = ("HEAD",),
    ) -> None:
        self.repository = Repository(path)
        self.location = os.fspath(path.resolve())
        self.paths = tuple(paths)
        self.since = self.resolve(since) if since is not None else None
        self.revisions = tuple(revisions) or ("HEAD",)

    def resolve(self, revision: str) -> str:
        """The full hash of the commit that `revision` names.

        Raises:
            InputError: there is no such commit.
        """
        try:
            return self.repository.resolve(revision)
        except InputError as error:
            raise InputError(
                f"no such revision in {self.location}: {revision}",
                hint="see `git tag` and `git branch -a`; a shallow clone may lack it",
            ) from error

    def heads(self) -> dict[str, str]:
        """Each revision and the hash that it points to now."""
        try:
            return {revision: self.resolve(revision) for revision in self.revisions}
        except InputError as error:
            if self.revisions == ("HEAD",):
                raise InputError(f"{self.location} has no commits yet") from error
            raise

    def head(self) -> str:
        """The hash that the first revision points to."""
        return next(iter(self.heads().values()))

    def reaches(self, ancestor: str, head: str) -> bool:
        """Say whether `ancestor` still exists and `head` descends from it."""
        try:
            found = self.repository.run(
                "merge-base", "--is-ancestor", revisions=[ancestor, head], ok=(0, 1)
            )
        except KagentError:  # one of them is gone
            return False
        return found.code == 0 and not found.truncated

    def grown(self, before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
        """The first of the heads `before` that those `now` do not descend from."""
        for revision, hash in before.items():
            if revision not in now or not self.reaches(hash, now[revision]):
                return hash
        return None

    def count(self, heads: str | Sequence[str], *, after: str | Sequence[str] = ()) -> int:
        """How many commits `commits` will yield."""
        counted = self.repository.text(
            "rev-list", "--count", "--no-merges",
            revisions=self._range(heads, after), paths=self.paths, seconds=3600,
        )  # fmt: skip
        return int(counted)

    def commits(
        self, heads: str | Sequence[str], *, after: str | Sequence[str] = ()
    ) -> Iterator[Commit]:
        """Stream the commits from `heads` back to `since` (and not those `after` reaches).

        One process, constant memory; it ends with the iterator, however that ends. Text that is
        not UTF-8 is decoded with replacement characters.

        Raises:
            InputError: git failed in the middle, e.g. on a damaged repository.
            MissingDataError: it is a partial clone.
        """
        with contextlib.closing(self.records(heads, after=after)) as records:
            yield from map(parse_record, records)

    def records(
        self, heads: str | Sequence[str], *, after: str | Sequence[str] = (), skip: int = 0
    ) -> Generator[bytes]:
        """The same for `parse_record` to read, without the first `skip`."""
        # Nothing in a commit can imitate a mark drawn after the commit was made.
        mark = secrets.token_hex(16)
        fields = "%x00".join(("%H", "%an <%ae>", "%aI", "%B", ""))
        options = [*_LOG_OPTIONS, f"--format=format:{mark}{fields}"]
        options += [f"--skip={skip}"] if skip else []
        command = arguments("log", options, self._range(heads, after), self.paths)
        with (
            tempfile.TemporaryFile() as errors,
            self.repository.start(command, errors=errors) as process,
        ):
            # The last one is whole only if git ended well.
            last: bytes | None = None
            for record in _records(cast("IO[bytes]", process.stdout), mark.encode()):
                if last is not None:
                    yield last
                last = record
            if (code := process.wait()) != 0:
                errors.seek(0)
                raise self.repository.failed("log", code, errors.read(MAX_ERRORS))
            if last is not None:
                yield last

    def _range(self, heads: str | Sequence[str], after: str | Sequence[str]) -> list[str]:
        wanted = [heads] if isinstance(heads, str) else heads
        known = [after] if isinstance(after, str) else after
        return [*wanted, *(f"^{revision}" for revision in (self.since, *known) if revision)]


def _records(stream: IO[bytes], mark: bytes) -> Iterator[bytes]:
    """Cut `stream` at lines that start with `mark`; bound what is kept of each piece.

    Each piece begins with 1 when something of it was left out, else with 0.
    """
    separator = b"\n" + mark
    buffer = bytearray(b"\n")
    start_seen = cut = False
    while True:
        block = stream.read(_BLOCK)
        start, searched = 0, max(0, len(buffer) - len(separator))
        buffer += block
        while (end := buffer.find(separator, searched)) >= 0:
            if start_seen:
                yield _record(buffer, start, end, cut)
            start = searched = end + len(separator)
            start_seen, cut = True, False
        del buffer[:start]
        if not block:
            break
        if len(buffer) > _MAX_RECORD:
            # The tail stays, as it may hold the start of the next mark.
            del buffer[_MAX_RECORD // 2 : -len(separator)]
            cut = True
    if start_seen:
        yield _record(buffer, 0, len(buffer), cut)


def _record(buffer: bytearray, start: int, end: int, cut: bool) -> bytes:
    # What `parse_record` would drop need not travel to another process.
    most = start + MAX_MESSAGE + 4 * MAX_DIFF
    return b"%d" % (cut or end > most) + buffer[start : min(end, most)]


def parse_record(record: bytes) -> Commit:
    """The commit in one of `GitHistory.records`."""
    # A message so long that the record was cut within it has no end.
    sha, author, date, body, rest = (*record[1:].split(b"\0", 4), b"")[:5]
    diff_bytes = rest.strip(b"\n")
    truncated = record[:1] == b"1" or len(diff_bytes) > MAX_DIFF or len(body) > MAX_MESSAGE
    if len(diff_bytes) > MAX_DIFF:
        diff_bytes = diff_bytes[: diff_bytes.rfind(b"\n", 0, MAX_DIFF) + 1 or MAX_DIFF]
    subject, _, message = body[:MAX_MESSAGE].decode("utf-8", "replace").strip("\n").partition("\n")
    message = message.strip("\n")
    diff = diff_bytes.decode("utf-8", "replace").strip("\n")
    patch = read_patch(diff)
    return Commit(
        hash=sha.decode("ascii"),
        subject=subject.strip(),
        author=author.decode("utf-8", "replace"),
        date=date.decode("ascii", "replace"),
        message=message,
        files=patch.files,
        functions=patch.functions,
        diff=diff,
        fixes=parse_fixes(message),
        trailers=parse_trailers(message),
        identifiers=patch.identifiers,
        truncated=truncated,
    )
