"""Commits of a git repository, streamed out of one ``git log -p`` process."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kagent.commits.message import parse_fixes, parse_trailers
from kagent.commits.model import Commit
from kagent.commits.patch import read_patch
from kagent.errors import InputError, MissingDataError

if TYPE_CHECKING:
    import git

__all__ = ["MAX_DIFF", "GitHistory", "git_call", "open_repository"]

MAX_DIFF = 64 * 1024
"""Bytes of a commit's diff that are kept and read; longer ones are cut and marked."""
MAX_MESSAGE = 64 * 1024
_BLOCK = 1 << 20
# A commit's text is buffered no further than this; what follows is dropped up to the next one.
_MAX_RECORD = 4 << 20

# The user's and the repository's configuration must not change what the diff looks like, start
# programs (external diff, textconv, gpg, lazy fetch of a partial clone) or ask questions.
_ENVIRONMENT = {
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
}
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


def open_repository(path: Path) -> git.Repo:
    """Open a worktree, a bare or a shallow repository.

    Raises:
        MissingDataError: there is no such path.
        InputError: it is not a git repository, or git refuses it.
    """
    import git

    if not path.exists():
        raise MissingDataError(
            f"no such directory: {path}",
            hint="give a clone of the kernel: git clone "
            "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git",
        )
    try:
        repository = git.Repo(path)
        # Said outright, as GitPython takes a bare repository without a config file for a worktree.
        repository.git.update_environment(GIT_DIR=os.fspath(repository.git_dir), **_ENVIRONMENT)
        git_call(repository, "rev-parse", "--git-dir")
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
        raise InputError(
            f"not a git repository: {path}",
            hint="give the directory that holds .git, or a bare one",
        ) from error
    return repository


def git_call(repository: git.Repo, *command: str, timeout: float = 120.0) -> str:
    """Run one git command to its end and return its output.

    Raises:
        InputError: git failed; the message is git's own last line.
    """
    import git

    try:
        out: str = repository.git.execute(["git", *command], kill_after_timeout=timeout)
    except git.GitCommandError as error:
        raise _git_failed(command[0], str(error.stderr)) from error
    return out


def _git_failed(command: str, stderr: str) -> InputError:
    text = stderr.strip().removeprefix("stderr:").strip().strip("'").strip()
    last = text.splitlines()[0] if text else "no message"
    hint = None
    if "dubious ownership" in text:
        hint = "git config --global --add safe.directory <the repository>"
    return InputError(f"git {command} failed: {last}", hint=hint)


class GitHistory:
    """A repository's non-merge commits, reachable from HEAD, newest first."""

    def __init__(self, path: Path, *, since: str | None = None, paths: Sequence[str] = ()) -> None:
        self.repository = open_repository(path)
        self.location = os.fspath(path.resolve())
        self.paths = tuple(paths)
        self.since = self.resolve(since) if since is not None else None

    def resolve(self, revision: str) -> str:
        """The full hash of the commit that `revision` names.

        Raises:
            InputError: there is no such commit.
        """
        spec = f"{revision}^{{commit}}"
        try:
            return git_call(self.repository, "rev-parse", "--verify", "--end-of-options", spec)
        except InputError as error:
            raise InputError(
                f"no such revision in {self.location}: {revision}",
                hint="see `git tag` and `git branch -a`; a shallow clone may lack it",
            ) from error

    def head(self) -> str:
        """The hash HEAD points to."""
        try:
            return self.resolve("HEAD")
        except InputError as error:
            raise InputError(f"{self.location} has no commits yet") from error

    def reaches(self, ancestor: str, head: str) -> bool:
        """Say whether `ancestor` still exists and `head` descends from it."""
        import git

        command = ["git", "merge-base", "--is-ancestor", ancestor, head]
        try:
            self.repository.git.execute(command, kill_after_timeout=120)
        except git.GitCommandError:
            return False
        return True

    def count(self, head: str, *, after: str | None = None) -> int:
        """How many commits `commits` will yield."""
        command = ["rev-list", "--count", "--no-merges", *self._range(head, after)]
        return int(git_call(self.repository, *command, timeout=600))

    def commits(self, head: str, *, after: str | None = None) -> Iterator[Commit]:
        """Stream the commits from `head` back to `since` (and not those `after` reaches).

        One process, constant memory; it ends with the iterator, however that ends. Text that is
        not UTF-8 is decoded with replacement characters.

        Raises:
            InputError: git failed in the middle, e.g. on a damaged repository.
        """
        # Nothing in a commit can imitate a mark drawn after the commit was made.
        mark = secrets.token_hex(16)
        fields = "%x00".join(("%H", "%an <%ae>", "%aI", "%B", ""))
        command = ["git", "log", *_LOG_OPTIONS, f"--format=format:{mark}{fields}"]
        process: Any = self.repository.git.execute(
            [*command, *self._range(head, after)], as_process=True
        )
        with contextlib.closing(process.stdout), contextlib.closing(process.stderr):
            finished = False
            try:
                for record, cut in _records(process.stdout, mark.encode()):
                    yield _parse_record(record, cut=cut)
                finished = True
            finally:
                if not finished:
                    process.proc.kill()
                    process.proc.wait()
            if process.proc.wait() != 0:
                raise _git_failed("log", process.stderr.read().decode("utf-8", "replace"))

    def _range(self, head: str, after: str | None) -> list[str]:
        excluded = [f"^{revision}" for revision in (self.since, after) if revision]
        return [head, *excluded, "--", *self.paths]


def _records(stream: IO[bytes], mark: bytes) -> Iterator[tuple[bytes, bool]]:
    """Cut `stream` at lines that start with `mark`; bound what is kept of each piece."""
    separator = b"\n" + mark
    buffer = bytearray(b"\n")
    start_seen = cut = False
    while True:
        block = stream.read(_BLOCK)
        searched = max(0, len(buffer) - len(separator))
        buffer += block
        while (end := buffer.find(separator, searched)) >= 0:
            if start_seen:
                yield bytes(buffer[:end]), cut
            del buffer[: end + len(separator)]
            start_seen, cut, searched = True, False, 0
        if not block:
            break
        if len(buffer) > _MAX_RECORD:
            # The tail stays, as it may hold the start of the next mark.
            del buffer[_MAX_RECORD // 2 : -len(separator)]
            cut = True
    if start_seen:
        yield bytes(buffer), cut


def _parse_record(record: bytes, *, cut: bool) -> Commit:
    sha, author, date, body, rest = record.split(b"\0", 4)
    diff_bytes = rest.strip(b"\n")
    truncated = cut or len(diff_bytes) > MAX_DIFF or len(body) > MAX_MESSAGE
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
