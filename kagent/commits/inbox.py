"""A public-inbox archive: mailing-list mail in git, read by one process an epoch.

An archive is a directory with ``git/0.git``, ``git/1.git``, ... (public-inbox-v2-format(5)), or
one such repository. Each commit adds one mail as the file ``m``; the commit has the mail's subject,
author and date, so that versions of a series are told apart without reading the mails.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kagent.commits.mail import Posting, newest_versions
from kagent.errors import InputError
from kagent.repository import Repository, is_repository

__all__ = ["Inbox", "is_inbox"]

_MAX_MAIL = 4 << 20


def is_inbox(path: Path) -> bool:
    """Say whether `path` is a public-inbox archive, or an epoch of one."""
    if (path / "git" / "0.git").is_dir():
        return True
    if not is_repository(path):
        return False
    try:
        repository = Repository(path)
        names = repository.text("ls-tree", "--name-only", revisions=[repository.resolve("HEAD")])
    except InputError:
        return False
    return names in ("m", "d")


class Inbox:
    """The patches of an archive."""

    def __init__(self, path: Path) -> None:
        self.location = os.fspath(path.resolve())
        folder = path / "git"
        if folder.is_dir():
            numbered = [p for p in folder.glob("*.git") if p.name.removesuffix(".git").isdecimal()]
            epochs = sorted(numbered, key=lambda p: int(p.name.removesuffix(".git")))
        else:
            epochs = [path]
        self._epochs = {epoch.name: Repository(epoch) for epoch in epochs}

    def heads(self) -> dict[str, str]:
        """The newest commit of each epoch that has one."""
        found = {}
        for name, repository in self._epochs.items():
            try:
                found[name] = repository.resolve("HEAD")
            except InputError:  # an epoch that was begun but holds no mail yet
                continue
        if not found:
            raise InputError(f"{self.location} holds no mail")
        return found

    def patches(self, heads: Mapping[str, str], after: Mapping[str, str]) -> list[tuple[str, str]]:
        """(epoch, commit) of the newest version of each patch, oldest first."""
        places: list[tuple[str, str]] = []
        postings: list[Posting] = []
        for name, head in heads.items():
            span = [head, *([f"^{after[name]}"] if name in after else [])]
            text = self._epochs[name].text(
                "log", "--reverse", "--no-mailmap", "--no-show-signature",
                "--format=%H%x00%ae%x00%at%x00%s", revisions=span, paths=(), seconds=3600,
            )  # fmt: skip
            for line in text.splitlines():
                hash, sender, time, subject = (*line.split("\0", 3), "", "", "")[:4]
                places.append((name, hash))
                seconds = float(time) if time.isdecimal() else 0.0
                postings.append(Posting(subject, sender.lower(), seconds))
        return [places[number] for number in newest_versions(postings)]

    def mails(self, places: list[tuple[str, str]]) -> Iterator[bytes]:
        """The mails at some of `patches`; an empty one for what was deleted since.

        Of a mail of more than 4 MiB, more than any list takes, the rest is left out.
        """
        for name, hash in places:
            git: Any = self._epochs[name].objects.git
            try:
                _, kind, _, content = git.stream_object_data(f"{hash}:m")
            except ValueError:  # GitPython's word for a missing object
                yield b""
                continue
            data: bytes = content.read(_MAX_MAIL)
            content.read()
            yield data if kind in ("blob", b"blob") else b""
