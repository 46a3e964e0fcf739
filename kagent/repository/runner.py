"""The one way in which git is run, on repositories that nobody vouches for.

A repository's configuration names programs to run (pagers, hooks, diff drivers, filters, monitors,
transports) and files to read (``include.path``, ``blame.ignoreRevsFile``, ``mailmap.file``); many
names hold a wildcard (``diff.*.textconv``), so that no list of ``-c`` overrides is ever whole. Here
git never sees it: it is given a directory of ours as its repository, with our configuration and
attributes, whose objects and references are the repository's own. Only how objects and references
are stored is taken over, from a list of known values. What is not linked there does not exist for
git: hooks, grafts, ``info/attributes``, work tree files, index, reflogs, remotes. Without remotes
nothing is fetched lazily, by whatever version. `kagent.repository.place` sees to it that objects
and references are those of the repository itself.

Processes are started here, not by GitPython: that merges the whole environment of the caller (and
with it ``GIT_EXTERNAL_DIFF``, ``GIT_CONFIG_COUNT``, ``GIT_TRACE``, ...), keeps all output in
memory, and puts git's words into its exceptions. GitPython serves on top, where it spares a process
an object: its ``Repo`` over our directory holds one ``git cat-file --batch`` open for the thousands
of mails of an archive (`Repository.objects`), started by our own `_Commands`.

Names that users or reports give are seen by ``git rev-parse`` alone, behind ``--end-of-options``;
every other command gets full object ids or names below ``refs/``. Paths stand behind ``--``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from kagent.errors import InputError, KagentError, MissingDataError
from kagent.repository.failures import GitError, failure
from kagent.repository.place import Place, locate, read_small

if TYPE_CHECKING:
    import git

__all__ = ["MAX_ERRORS", "Directory", "Output", "Repository", "arguments"]

SECONDS = 120.0
MAX_OUTPUT = 64 << 20
MAX_TEXT = 512 << 20
_MAX_CONFIG = 1 << 20
MAX_ERRORS = 1 << 16
"""What is read of standard error."""
_CHUNK = 1 << 16
_REVISION = re.compile(r"[A-Za-z0-9_][\w./+~^{}-]{0,199}\Z", re.ASCII)
_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_RANGE = re.compile(
    r"\^?(?P<left>[0-9a-f]{40,64}|refs/[^\0-\x20~^:?*\[\\]{1,1000})"
    r"(?:\.\.(?P<right>[0-9a-f]{40,64}|refs/[^\0-\x20~^:?*\[\\]{1,1000}))?\Z"
)
# parse-options.c of these two takes the words for a revision or a file up to git 2.43.
_NO_END_OF_OPTIONS = frozenset({"grep", "blame"})


class _Setting(NamedTuple):
    name: str
    value: str
    why: str


_ENVIRONMENT = (
    _Setting("HOME", os.devnull, "no ~/.gitconfig, no ~/.config/git/attributes and ignore"),
    _Setting("XDG_CONFIG_HOME", os.devnull, "the same, where HOME does not count"),
    _Setting("LC_ALL", "C", "messages that `failures` knows"),
    _Setting("GIT_CONFIG_NOSYSTEM", "1", "no /etc/gitconfig"),
    _Setting("GIT_CONFIG_SYSTEM", os.devnull, "the same, since git 2.32"),
    _Setting("GIT_CONFIG_GLOBAL", os.devnull, "the user's, since git 2.32"),
    _Setting("GIT_ATTR_NOSYSTEM", "1", "no /etc/gitattributes"),
    _Setting("GIT_NO_REPLACE_OBJECTS", "1", "no objects in the place of others"),
    _Setting("GIT_NO_LAZY_FETCH", "1", "no fetch of what a partial clone lacks, since git 2.45"),
    _Setting("GIT_ALLOW_PROTOCOL", "none", "no transport of any kind, whatever asks for one"),
    _Setting("GIT_PROTOCOL_FROM_USER", "0", "the same"),
    _Setting("GIT_TERMINAL_PROMPT", "0", "no questions"),
    _Setting("GIT_ASKPASS", "true", "no questions"),
    _Setting("GIT_SSH_COMMAND", "false", "no connections"),
    _Setting("GIT_PAGER", "cat", "no pager"),
    _Setting("GIT_EDITOR", "false", "no editor"),
    _Setting("GIT_ALLOC_LIMIT", "1g", "no file that is much larger than any source (wrapper.c)"),
    _Setting("GIT_OPTIONAL_LOCKS", "0", "nothing is written"),
    _Setting("GIT_ADVICE", "0", "no advice"),
)
_CONFIGURATION = (
    _Setting("core.bare", "true", "there is no work tree: nothing of one is read"),
    _Setting("core.fsmonitor", "false", "no program that watches files"),
    _Setting("core.hooksPath", os.devnull, "no hooks"),
    _Setting("core.attributesFile", os.devnull, "only our own attributes"),
    _Setting("core.excludesFile", os.devnull, "no rules that hide files"),
    _Setting("core.quotePath", "false", "names as they are"),
    _Setting("core.bigFileThreshold", "64m", "no diff of files larger than any source"),
    _Setting("diff.ignoreSubmodules", "all", "nothing inside of submodules"),
    _Setting("submodule.recurse", "false", "the same"),
    _Setting("protocol.allow", "never", "no transport"),
    _Setting("gc.auto", "0", "no upkeep"),
    _Setting("maintenance.auto", "false", "no upkeep"),
    _Setting("color.ui", "never", "plain text"),
    _Setting("grep.fallbackToNoIndex", "false", "a search of a revision is never one of files"),
)
# Above any .gitattributes of the tree: no driver, filter or encoding of its choosing, no source
# declared binary to hide its changes. C as in the kernel's own file: hunk headers name functions.
_ATTRIBUTES = """\
* !diff !text !eol !filter !merge !ident !whitespace !working-tree-encoding !textconv
*.c diff=cpp
*.h diff=cpp
"""
_FORMATS = {
    "objectformat": ("sha1", "sha256"),
    "refstorage": ("files", "reftable"),
}
"""Extensions (gitrepository-layout(5)) that say how a repository is stored, and values known."""
_IRRELEVANT = {
    "noop", "preciousobjects", "partialclone", "worktreeconfig", "compatobjectformat",
    "relativeworktrees", "submodulepathconfig",
}  # fmt: skip
"""Those that do not matter to who only reads."""
_LINKED = ("refs", "packed-refs", "shallow", "reftable")


@dataclass(frozen=True, slots=True)
class Output:
    """What a command printed."""

    data: bytes
    code: int
    truncated: bool = False
    """The cap or the time limit cut it."""
    errors: bytes = b""
    """Standard error, to be parsed and never shown: at most 64 KiB."""

    @property
    def text(self) -> str:
        """As text; bytes that are not UTF-8 come back by ``surrogateescape``."""
        return self.data.decode("utf-8", "surrogateescape")


class _Git:
    """Starts git with nothing but what is given here."""

    def __init__(self, work_tree: Path | None = None) -> None:
        self._program = _program()
        self._own = Path(tempfile.mkdtemp(prefix="kagent-git-"))
        weakref.finalize(self, shutil.rmtree, self._own, ignore_errors=True)
        for name in ("objects", "refs", "info"):
            (self._own / name).mkdir()
        (self._own / "HEAD").write_bytes(b"ref: refs/heads/none\n")
        (self._own / "info" / "attributes").write_text(_ATTRIBUTES, "ascii")
        self._write_configuration(0, {})
        self._folder = work_tree or self._own
        self._environment = {setting.name: setting.value for setting in _ENVIRONMENT}
        self._environment |= {"PATH": _path(), "GIT_DIR": os.fspath(self._own)}
        if work_tree is not None:
            self._environment["GIT_WORK_TREE"] = os.fspath(work_tree)
        self._partial = False

    def _write_configuration(self, version: int, extensions: Mapping[str, str]) -> None:
        rows = [f"[core]\n\trepositoryFormatVersion = {version}"]
        for setting in _CONFIGURATION:
            section, _, key = setting.name.rpartition(".")
            rows.append(f"[{section}]\n\t{key} = {setting.value}")
        rows += [f"[extensions]\n\t{key} = {value}" for key, value in extensions.items()]
        (self._own / "config").write_text("\n".join(rows) + "\n", "ascii")

    @contextlib.contextmanager
    def start(
        self,
        arguments: Sequence[str],
        *,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        errors: int | IO[Any] = subprocess.DEVNULL,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command while the block lasts; killed when that ends early."""
        with subprocess.Popen(
            [self._program, "--no-pager", *arguments],
            cwd=self._folder,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**self._environment, **(environment or {})},
        ) as child:
            try:
                yield child
            finally:
                if child.poll() is None:
                    child.kill()

    def run(
        self,
        command: str,
        *options: str,
        revisions: Sequence[str] = (),
        paths: Sequence[str] | None = None,
        stdin: bytes = b"",
        ok: Sequence[int] = (0,),
        seconds: float = SECONDS,
        limit: int = MAX_OUTPUT,
        environment: Mapping[str, str] | None = None,
    ) -> Output:
        """Run one command to its end: ``git COMMAND OPTIONS REVISIONS -- PATHS``.

        `revisions` are full ids, names below ``refs/``, or ranges of those; without `paths` there
        is no ``--``.

        Raises:
            GitError: git ended with a code that is not in `ok`.
            MissingDataError: because the repository is a partial clone.
        """
        words = arguments(command, options, revisions, paths)
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as errors:
            source.write(stdin)
            source.seek(0)
            with self.start(words, stdin=source, errors=errors, environment=environment) as child:
                expired = threading.Event()
                timer = threading.Timer(seconds, _expire, (child, expired))
                timer.start()
                try:
                    data, full = _read(cast("IO[bytes]", child.stdout), limit)
                    if full:
                        child.kill()
                    code = child.wait()
                finally:
                    timer.cancel()
            errors.seek(0)
            said = errors.read(MAX_ERRORS)
        if full or (expired.is_set() and code < 0):
            return Output(data, code, True, said)
        if code not in ok:
            raise self.failed(command, code, said)
        return Output(data, code, False, said)

    def failed(self, command: str, code: int, errors: bytes) -> KagentError:
        """The error to raise for a command that ended with `code`."""
        return failure(command, code, errors, partial=self._partial)

    def text(
        self,
        command: str,
        *options: str,
        revisions: Sequence[str] = (),
        paths: Sequence[str] | None = None,
        seconds: float = SECONDS,
    ) -> str:
        """All that a command prints, without the line feeds at its end.

        Raises:
            GitError: as `run`; also when it printed more than 512 MiB, or took too long.
        """
        found = self.run(
            command, *options, revisions=revisions, paths=paths, seconds=seconds, limit=MAX_TEXT
        )
        if found.truncated:
            large = len(found.data) >= MAX_TEXT
            raise GitError(
                f"git {command} "
                + (
                    f"printed more than {MAX_TEXT >> 20} MiB"
                    if large
                    else f"took over {seconds:g} s"
                ),
                reason="size" if large else "time",
            )
        return found.text.rstrip("\n")

    def grep(
        self,
        patterns: Sequence[str],
        globs: Sequence[str],
        *,
        options: Sequence[str] = (),
        commit: str | None = None,
        limit: int = MAX_OUTPUT,
    ) -> Output:
        """``git grep`` for lines; each is path, NUL, line number, NUL, text.

        PCRE is twenty times as fast as the C library here; where git lacks it, patterns that
        mean the same in both dialects still work.
        """
        shape = ["-z", "-n", "-I", "--no-color", "--no-column", "--no-textconv", *options]
        words = [word for pattern in patterns for word in ("-e", pattern)]
        place = [commit] if commit else []
        dialects = ("-P", "-E")
        for dialect in dialects:
            try:
                return self.run(
                    "grep", dialect, *shape, *words,
                    revisions=place, paths=globs, ok=(0, 1), limit=limit,
                )  # fmt: skip
            except GitError as error:
                if error.reason != "dialect" or dialect == dialects[-1]:
                    raise
        raise AssertionError


class Directory(_Git):
    """Any directory, to `grep` in with ``--no-index``."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)


class Repository(_Git):
    """A work tree, a bare or a shallow repository. Methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Open the repository at `path`.

        Raises:
            MissingDataError: there is no such directory, or no git.
            InputError: it is no repository, its format is not known, or it leads out of itself.
        """
        super().__init__()
        self.path = path
        place = locate(path, self._worktree_of)
        self.common = place.common
        self._partial = place.partial
        self._link(place)
        self._take_format(place.common / "config")

    def _link(self, place: Place) -> None:
        (self._own / "refs").rmdir()
        for name in _LINKED:
            if (place.common / name).exists():
                (self._own / name).symlink_to(place.common / name)
        (self._own / "HEAD").write_bytes(place.head)
        self._environment["GIT_OBJECT_DIRECTORY"] = os.fspath(place.common / "objects")

    def _values(self, config: Path, names: str) -> list[tuple[str, str]]:
        """(key, value) of a configuration file, without what it includes."""
        if not config.exists():
            return []
        content = read_small(config, _MAX_CONFIG)
        if content is None:
            raise InputError(f"{config} is no configuration of git")
        options = ("--file", "-", "--no-includes", "--null", "--get-regexp", names)
        try:
            found = self.run("config", *options, stdin=content, ok=(0, 1))
        except GitError as error:
            raise InputError(f"{config} is damaged") from error
        pairs = (row.partition("\n") for row in found.text.split("\0") if row)
        return [(key.lower(), value) for key, _, value in pairs]

    def _worktree_of(self, config: Path) -> str | None:
        return dict(self._values(config, r"^core\.worktree$")).get("core.worktree")

    def _take_format(self, config: Path) -> None:
        """How objects and references are stored, and nothing else of the configuration."""
        taken: dict[str, str] = {}
        for key, value in self._values(config, r"^extensions\."):
            name = key.removeprefix("extensions.")
            if value in _FORMATS.get(name, ()):
                taken[name] = value
            elif name not in _IRRELEVANT:
                raise InputError(
                    f"{self.path} has a format that is not known", hint="use a newer kagent"
                )
        self._write_configuration(1 if taken else 0, taken)

    def resolve(self, revision: str) -> str:
        """The commit id of a tag, branch or commit expression.

        Raises:
            InputError: it cannot be one (a leading ``-`` above all), or the repository has none
                such.
        """
        if not _REVISION.match(revision) or ".." in revision:
            raise InputError(
                f"{revision[:80]!r} is not a revision", hint="give a tag, branch or commit id"
            )
        options = ("--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        try:
            found = self.run("rev-parse", *options).data.decode("ascii", "replace").strip()
        except KagentError:
            found = ""
        if not _ID.match(found):
            raise InputError(
                f"{self.path} has no revision {revision}",
                hint="list what there is with `git tag` and `git branch -a`; a shallow clone "
                "lacks most of it",
            )
        return found

    @cached_property
    def objects(self) -> git.Repo:
        """GitPython's view of the objects, by one process that stays; for one thread at a time."""
        return _objects(self)


def _objects(repository: Repository) -> git.Repo:
    """GitPython over our directory, with processes that are started as all others here."""
    import git

    class _Commands(git.Git):
        def execute(self, command: Sequence[str], *_: Any, **given: Any) -> Any:
            process = subprocess.Popen(
                [repository._program, *command[1:]],
                cwd=repository._folder,
                stdin=given.get("istream", subprocess.DEVNULL),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=repository._environment,
            )
            return self.AutoInterrupt(process, list(command))

    class _Repo(git.Repo):
        GitCommandWrapperType = _Commands

    return _Repo(repository._own)


def arguments(
    command: str, options: Sequence[str], revisions: Sequence[str], paths: Sequence[str] | None
) -> list[str]:
    """A command line as `run` makes it, for `start`."""
    for revision in revisions:
        if not _RANGE.match(revision):
            raise ValueError(f"not a full id or reference: {revision!r}")
    end = ["--end-of-options"] if revisions and command not in _NO_END_OF_OPTIONS else []
    return [command, *options, *end, *revisions, *([] if paths is None else ["--", *paths])]


def _expire(child: subprocess.Popen[bytes], expired: threading.Event) -> None:
    expired.set()
    child.kill()


def _read(pipe: IO[bytes], limit: int) -> tuple[bytes, bool]:
    chunks: list[bytes] = []
    total = 0
    while total <= limit and (chunk := pipe.read(_CHUNK)):
        chunks.append(chunk)
        total += len(chunk)
    return b"".join(chunks)[:limit], total > limit


def _program() -> str:
    program = shutil.which("git", path=_path())
    if program is None:
        raise MissingDataError(
            "git is not installed", hint="install git to read source trees and their history"
        )
    return program


def _path() -> str:
    """Without relative folders: those would be the repository's."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if Path(folder).is_absolute())
