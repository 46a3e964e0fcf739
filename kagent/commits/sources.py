"""Where an index gets its commits from: repositories, mail archives, files, other indexes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kagent.commits.corpus import is_corpus, read_lines
from kagent.commits.history import GitHistory
from kagent.commits.inbox import Inbox, is_inbox
from kagent.commits.mail import is_mbox, newest_versions, read_mbox, read_posting
from kagent.commits.manifest import Source, read_manifest
from kagent.commits.prepare import pack_record
from kagent.errors import InputError, MissingDataError

__all__ = ["Reading", "describe", "describe_index", "grew", "open_reading", "refreshed"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A stretch of a source, as records in an order that stays the same."""

    kind: str
    """Who parses a record: see `kagent.commits.prepare`."""
    source: str
    """For messages."""
    total: int | None
    records: Callable[[int], Iterator[bytes]]
    """The records after so many."""


def describe(
    path: Path,
    *,
    since: str | None = None,
    paths: Sequence[str] = (),
    revisions: Sequence[str] = (),
) -> Source:
    """What `path` is, and how far it goes now.

    Raises:
        MissingDataError: there is nothing at `path`.
        InputError: it is nothing that commits come from, or it has none; or an option was given
            that only a repository can follow.
    """
    if path.is_file() or is_corpus(path):
        if since is not None or paths or revisions:
            raise InputError(
                "--since, --paths and --rev need a git repository", hint="leave them out"
            )
        return _describe_file(path)
    if path.is_dir() and is_inbox(path):
        if since is not None or paths or revisions:
            raise InputError(
                "--since, --paths and --rev need a git repository, this is a mail archive",
                hint="leave them out",
            )
        inbox = Inbox(path)
        return Source(kind="public-inbox", location=inbox.location, heads=inbox.heads())
    history = GitHistory(path, since=since, paths=paths, revisions=revisions or ("HEAD",))
    return Source(
        kind="git",
        location=history.location,
        heads=history.heads(),
        since=history.since,
        paths=list(paths),
    )


def _describe_file(path: Path) -> Source:
    if not path.is_file():
        raise MissingDataError(f"no such file: {path}")
    kind = "jsonl" if is_corpus(path) else "mbox" if is_mbox(path) else ""
    if not kind:
        raise InputError(
            f"not a source of commits: {path}",
            hint="give a git repository, a public-inbox, an mbox, or a .jsonl[.gz] of changes",
        )
    about = path.stat()
    return Source(
        kind=kind, location=str(path.resolve()), stamp=f"{about.st_size} {about.st_mtime_ns}"
    )


def describe_index(path: Path) -> Source:
    """An index as the source of another."""
    manifest = read_manifest(path)
    sums = {name: file.sha256 for name, file in manifest.files.items()}
    return Source(kind="index", location=str(path.resolve()), stamp=json.dumps(sums))


def refreshed(source: Source) -> Source:
    """The same source as it is now.

    Raises:
        MissingDataError: it is not where it was.
    """
    revisions = list(source.heads) if source.kind == "git" else []
    return describe(
        Path(source.location), since=source.since, paths=source.paths, revisions=revisions
    )


def grew(before: Source, now: Source) -> str | None:
    """A head of `before` that `now` no longer stands on; None when it only grew."""
    if now.kind == "git":
        history = GitHistory(Path(now.location), revisions=list(now.heads))
        return history.grown(before.heads, now.heads)
    if now.kind == "public-inbox":
        return next((h for name, h in before.heads.items() if name not in now.heads), None)
    return None


def open_reading(source: Source, after: Mapping[str, str] | None = None) -> Reading:
    """What `source` has up to its heads, and the heads `after` do not reach.

    Raises:
        KagentError: the source cannot be read.
    """
    path = Path(source.location)
    before = dict(after or {})
    match source.kind:
        case "git":
            history = GitHistory(
                path, since=source.since, paths=source.paths, revisions=list(source.heads)
            )
            heads, known = list(source.heads.values()), list(before.values())

            def log(skip: int) -> Iterator[bytes]:
                with closing(history.records(heads, after=known, skip=skip)) as records:
                    yield from records

            return Reading("git", source.location, history.count(heads, after=known), log)
        case "public-inbox":
            inbox = Inbox(path)
            places = inbox.patches(source.heads, before)
            return Reading(
                "mail", source.location, len(places), lambda skip: inbox.mails(places[skip:])
            )
        case "mbox":
            wanted = newest_versions(map(read_posting, read_mbox(path)))
            return Reading(
                "mail", source.location, len(wanted), lambda skip: _chosen(path, wanted[skip:])
            )
        case "index":
            return _index_reading(path)
        case _:
            return Reading("jsonl", source.location, None, lambda skip: read_lines(path, skip))


def _chosen(path: Path, numbers: list[int]) -> Iterator[bytes]:
    wanted = set(numbers)
    for number, mail in enumerate(read_mbox(path)):
        if number in wanted:
            yield mail


def _index_reading(path: Path) -> Reading:
    from kagent.commits.store import Store

    store = Store(path)

    def rows(skip: int) -> Iterator[bytes]:
        return map(pack_record, store.packed(skip + 1))

    return Reading("index", str(path), store.manifest.commits, rows)
