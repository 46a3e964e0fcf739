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

from kagent.commits.history import git_call, open_repository
from kagent.commits.mail import Posting, newest_versions
from kagent.errors import InputError

__all__ = ["Inbox", "is_inbox"]


def is_inbox(path: Path) -> bool:
    """Say whether `path` is a public-inbox archive, or an epoch of one."""
    if (path / "git" / "0.git").is_dir():
        return True
    if not ((path / "HEAD").is_file() or (path / ".git").exists()):
        return False
    try:
        names = git_call(open_repository(path), "ls-tree", "--name-only", "HEAD")
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
        self._epochs = {epoch.name: open_repository(epoch) for epoch in epochs}

    def heads(self) -> dict[str, str]:
        """The newest commit of each epoch that has one."""
        found = {}
        for name, repository in self._epochs.items():
            try:
                found[name] = git_call(repository, "rev-parse", "--verify", "HEAD^{commit}")
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
            text = git_call(
                self._epochs[name], "log", "--reverse", "--no-mailmap", "--no-show-signature",
                "--format=%H%x00%ae%x00%at%x00%s", *span, "--", timeout=3600,
            )  # fmt: skip
            for line in text.splitlines():
                hash, sender, time, subject = (*line.split("\0", 3), "", "", "")[:4]
                places.append((name, hash))
                seconds = float(time) if time.isdecimal() else 0.0
                postings.append(Posting(subject, sender.lower(), seconds))
        return [places[number] for number in newest_versions(postings)]

    def mails(self, places: list[tuple[str, str]]) -> Iterator[bytes]:
        """The mails at some of `patches`; an empty one for what was deleted since."""
        for name, hash in places:
            git: Any = self._epochs[name].git
            try:
                _, kind, _, data = git.get_object_data(f"{hash}:m")
            except ValueError:  # GitPython's word for a missing object
                kind, data = b"", b""
            yield data if kind in ("blob", b"blob") else b""
