"""Reading a git repository that nobody vouches for.

Argument lists only, no shell, no prompts, no network, no hooks or helpers of the repository's
own configuration; every call has a time limit and a cap on its output.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from kagent.errors import InputError, KagentError, MissingDataError

__all__ = ["GitError", "GitOutput", "GitRepository"]

_SECONDS = 120.0
_MAX_OUTPUT = 64 * 1024 * 1024
_CHUNK = 1 << 16
_REVISION = re.compile(r"[A-Za-z0-9_][\w./+~^{}-]{0,199}\Z", re.ASCII)
_SETTINGS = (
    "safe.directory=*",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.quotePath=false",
    "grep.fallbackToNoIndex=false",
    "color.ui=never",
)


class GitError(KagentError):
    """A git command failed; the message is git's own first line."""


@dataclass(frozen=True, slots=True)
class GitOutput:
    """What a command printed; `truncated` when the cap or the time limit cut it."""

    data: bytes
    code: int
    truncated: bool = False


class GitRepository:
    """A repository or, with ``no_index``, just a directory to grep in."""

    def __init__(self, root: Path) -> None:
        program = shutil.which("git")
        if program is None:
            raise MissingDataError("git is not installed", hint="install git to read source trees")
        self.root = root
        self._command = [program, "--no-pager", "--no-replace-objects", "-C", str(root)]
        for setting in _SETTINGS:
            self._command += ["-c", setting]

    def run(
        self,
        arguments: Sequence[str],
        *,
        stdin: bytes = b"",
        ok: Sequence[int] = (0,),
        seconds: float = _SECONDS,
        limit: int = _MAX_OUTPUT,
    ) -> GitOutput:
        """Run one command; raises `GitError` for an exit code not in `ok`."""
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as errors:
            source.write(stdin)
            source.seek(0)
            with subprocess.Popen(
                [*self._command, *arguments],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
            ) as child:
                timer = threading.Timer(seconds, child.kill)
                timer.start()
                try:
                    data, full = _read(cast("IO[bytes]", child.stdout), limit)
                    if full:
                        child.kill()
                    code = child.wait()
                finally:
                    expired = not timer.is_alive()
                    timer.cancel()
            errors.seek(0)
            words = errors.read(4096).decode("utf-8", "replace").strip().splitlines()
        if full or (expired and code < 0):
            return GitOutput(data, code, True)
        if code not in ok:
            raise GitError(words[0][:200] if words else f"git ended with status {code}")
        return GitOutput(data, code)

    def resolve(self, revision: str) -> str:
        """The commit id of a tag, branch or commit expression.

        Raises `InputError` for what cannot be one (a leading ``-`` above all) and for unknown
        ones.
        """
        if not _REVISION.match(revision) or ".." in revision:
            raise InputError(
                f"{revision!r} is not a revision", hint="give a tag, branch or commit id"
            )
        try:
            found = self.run(["rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"])
        except GitError:
            raise InputError(
                f"{self.root} has no revision {revision}",
                hint="list what there is with `git tag`; a shallow clone lacks most of it",
            ) from None
        return found.data.decode("ascii", "replace").strip()

    def grep(
        self,
        patterns: Sequence[str],
        globs: Sequence[str],
        *,
        options: Sequence[str] = (),
        commit: str | None = None,
        limit: int,
    ) -> GitOutput:
        """``git grep`` for lines; each is path, NUL, line number, NUL, text.

        PCRE is twenty times as fast as the C library here; where git lacks it, patterns that
        mean the same in both dialects still work.
        """
        shape = ["-z", "-n", "-I", "--no-color", "--no-column", *options]
        words = [word for pattern in patterns for word in ("-e", pattern)]
        place = [commit] if commit else []
        command = [*shape, *words, *place, "--", *globs]
        try:
            return self.run(["grep", "-P", *command], ok=(0, 1), limit=limit)
        except GitError as error:
            if "Perl" not in str(error):
                raise
            return self.run(["grep", "-E", *command], ok=(0, 1), limit=limit)

    def is_repository(self) -> bool:
        """Whether the root itself is the top of a working tree or a bare repository."""
        try:
            found = self.run(["rev-parse", "--is-bare-repository", "--show-prefix"])
        except GitError:
            return False
        lines = found.data.decode("utf-8", "replace").splitlines()
        return lines[:1] == ["true"] or lines == ["false", ""]


def _read(pipe: IO[bytes], limit: int) -> tuple[bytes, bool]:
    chunks: list[bytes] = []
    total = 0
    while total <= limit and (chunk := pipe.read(_CHUNK)):
        chunks.append(chunk)
        total += len(chunk)
    return b"".join(chunks)[:limit], total > limit


def _environment() -> dict[str, str]:
    """Nothing of the caller's git settings; no prompts, locks, lazy fetches or global config."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_LITERAL_PATHSPECS": "0",
        "GIT_ALLOW_PROTOCOL": "",
    }
