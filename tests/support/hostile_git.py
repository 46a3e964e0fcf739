"""What a git repository can name that runs a program or reads a file, and all that kagent asks it.

From git-config(1), git(1), gitattributes(5), gitrepository-layout(5) and githooks(5).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kagent.commits.fix_report import fix_report
from kagent.commits.history import GitHistory
from kagent.commits.landed import fix_status
from kagent.errors import KagentError
from kagent.source import SourceTree, blame, find_callers, find_type
from support.repository import GitRepository, fan_source

__all__ = [
    "HAZARDS",
    "SECRET",
    "VARIABLES",
    "Hazard",
    "Trap",
    "answers",
    "control",
    "hostile_repository",
]

SECRET = "s3cret-of-the-user"


@dataclass(frozen=True)
class Hazard:
    """One or more variables; ``{run}`` is a program that leaves a mark, ``{secret}`` a file."""

    settings: tuple[tuple[str, str], ...]
    why: str
    control: tuple[str, ...] = ()
    """A plain git command that falls for it: shows that the trap works."""

    @property
    def name(self) -> str:
        return self.settings[0][0]


def _one(name: str, value: str, why: str, *control: str) -> Hazard:
    return Hazard(((name, value),), why, control)


_FETCH = ("fetch", "-q", "evil")
_REMOTE = ("remote.evil.url", "{elsewhere}")
HAZARDS = (
    # Programs that commands which read run.
    _one("core.fsmonitor", "{run}", "asked what changed", "status"),
    _one("core.hooksPath", "{hooks}", "hooks from there", "checkout", "-q", "-f", "HEAD"),
    _one("core.pager", "{run}", "shows output"),
    _one("pager.log", "{run}", "shows output of one command"),
    _one("pager.grep", "{run}", "the same"),
    _one("pager.blame", "{run}", "the same"),
    _one("diff.external", "{run}", "makes diffs", "diff", "HEAD~1"),
    _one("diff.evil.command", "{run}", "makes diffs of some files", "diff", "HEAD~1"),
    _one("diff.evil.textconv", "{run}", "turns files into text", "diff", "HEAD~1"),
    _one("filter.evil.clean", "{run}", "changes files that are read", "hash-object", "fan.c"),
    _one("filter.evil.smudge", "{run}", "written too", "cat-file", "--filters", "HEAD:fan.c"),
    _one("filter.evil.process", "{run}", "does both", "cat-file", "--filters", "HEAD:fan.c"),
    _one("merge.evil.driver", "{run} %A", "merges files"),
    _one("core.editor", "{run}", "edits messages", "commit", "--amend"),
    _one("sequence.editor", "{run}", "edits lists"),
    _one("gpg.program", "{run}", "checks signatures", "log", "-1", "--show-signature", "signed"),
    Hazard(
        (("log.showSignature", "true"), ("gpg.program", "{run}")),
        "checks them unasked",
        ("log", "-1", "signed"),
    ),
    _one("gpg.ssh.program", "{run}", "checks signatures"),
    _one("gpg.x509.program", "{run}", "checks signatures"),
    _one("gpg.openpgp.program", "{run}", "checks signatures", "verify-commit", "signed"),
    _one("gpg.ssh.defaultKeyCommand", "{run}", "finds keys"),
    _one("interactive.diffFilter", "{run}", "colours diffs"),
    _one("trailer.evil.command", "{run}", "fills trailers"),
    _one("trailer.evil.cmd", "{run}", "fills trailers"),
    _one("alias.evil", "!{run}", "a command", "evil"),
    _one("alias.log", "!{run}", "a command of git's own name"),
    _one("tar.evil.command", "{run}", "packs archives", "archive", "--format=evil", "HEAD"),
    _one("hook.evil.command", "{run}", "a hook in the configuration"),
    _one("difftool.evil.cmd", "{run}", "shows differences"),
    _one("mergetool.evil.cmd", "{run}", "solves conflicts"),
    _one("man.evil.cmd", "{run}", "shows help"),
    _one("browser.evil.cmd", "{run}", "shows help"),
    _one("submodule.evil.update", "!{run}", "checks submodules out"),
    _one("gc.recentObjectsHook", "{run}", "keeps objects"),
    _one("sendemail.smtpServer", "{run}", "sends mail"),
    _one("imap.tunnel", "{run}", "sends mail"),
    # Programs and connections of transports, which a lazy fetch starts too.
    Hazard((_REMOTE, ("remote.evil.uploadpack", "{run}")), "serves a fetch", _FETCH),
    Hazard((("remote.evil.url", "ssh://h/x"), ("core.sshCommand", "{run}")), "connects", _FETCH),
    Hazard((("remote.evil.url", "git://h/x"), ("core.gitProxy", "{run}")), "connects", _FETCH),
    Hazard(
        (("remote.evil.url", "ext::{run} x"), ("protocol.ext.allow", "always")),
        "a transport that is a command",
        _FETCH,
    ),
    Hazard(
        (
            ("url.ext::{run} .insteadOf", "nice:"),
            ("protocol.ext.allow", "always"),
            ("remote.evil.url", "nice:x"),
        ),
        "rewrites addresses",
        _FETCH,
    ),
    Hazard((_REMOTE, ("remote.evil.vcs", "evil")), "names a helper"),
    Hazard((("remote.evil.url", "https://h/x"), ("remote.evil.proxy", "http://h")), "connects"),
    _one("credential.helper", "!{run}", "asked for passwords"),
    _one("core.askPass", "{run}", "asked for passwords"),
    _one("core.alternateRefsCommand", "{run}", "lists what an alternate has"),
    _one("uploadpack.packObjectsHook", "{run}", "packs objects"),
    Hazard(
        (
            ("extensions.partialClone", "evil"),
            ("core.repositoryFormatVersion", "1"),
            _REMOTE,
            ("remote.evil.promisor", "true"),
            ("remote.evil.uploadpack", "{run}"),
        ),
        "fetches what is missing, as it is read",
        ("cat-file", "-p", "1234567890123456789012345678901234567890"),
    ),
    # Files that are read.
    _one("blame.ignoreRevsFile", "{secret}", "quoted by an error", "blame", "fan.c"),
    _one("diff.orderFile", "{secret}", "orders files"),
    _one("include.path", "{settings}", "more configuration", "status"),
    _one("includeIf.gitdir:/.path", "{settings}", "the same, with a condition", "status"),
    _one("core.worktree", "{elsewhere}", "files of another directory", "diff", "HEAD"),
    _one("core.attributesFile", "{secret}", "attributes"),
    _one("core.excludesFile", "{secret}", "what to ignore"),
    _one("mailmap.file", "{mailmap}", "names of people", "log", "-1", "--format=%aN"),
    Hazard((("mailmap.file", "{mailmap}"), ("log.mailmap", "true")), "unasked", ("log", "-1")),
    _one("mailmap.blob", "HEAD:mailmap", "names of people"),
    _one("commit.template", "{secret}", "messages"),
    _one("format.signatureFile", "{secret}", "mails"),
    _one("fsck.skipList", "{secret}", "objects not to check", "fsck"),
    _one("receive.fsck.skipList", "{secret}", "objects not to check"),
    _one("gpg.ssh.allowedSignersFile", "{secret}", "keys"),
    _one("gpg.ssh.revocationFile", "{secret}", "keys"),
    _one("init.templateDir", "{hooks}", "new repositories"),
    _one("http.cookieFile", "{secret}", "goes out with a request"),
    _one("bundle.evil.uri", "file://{secret}", "objects"),
    _one("notes.displayRef", "refs/notes/evil", "shown with commits", "log", "-1", "--format=%N"),
    # What changes the answer.
    _one("diff.noprefix", "true", "another form of diffs"),
    _one("diff.mnemonicPrefix", "true", "another form of diffs"),
    _one("color.ui", "always", "control characters"),
    _one("grep.patternType", "fixed", "another meaning of patterns"),
    _one("grep.column", "true", "another form of hits"),
    _one("log.follow", "true", "another history"),
    _one("log.date", "relative", "another form of dates"),
    _one("i18n.logOutputEncoding", "UTF-16", "another form of text"),
    _one("core.commitGraph", "nonsense", "a value that git refuses"),
    _one("gc.auto", "1", "upkeep that writes"),
    _one("submodule.recurse", "true", "other repositories"),
    _one("safe.bareRepository", "explicit", "which repositories count"),
)  # fmt: skip

VARIABLES = (
    ("GIT_EXTERNAL_DIFF", "{run}"),
    ("GIT_PAGER", "{run}"),
    ("PAGER", "{run}"),
    ("GIT_SSH_COMMAND", "{run}"),
    ("GIT_ASKPASS", "{run}"),
    ("GIT_PROXY_COMMAND", "{run}"),
    ("GIT_TRACE", "{mark}"),
    ("GIT_TRACE2", "{mark}"),
    ("GIT_TRACE2_EVENT", "{mark}"),
    ("GIT_TRACE_SETUP", "{mark}"),
    ("GIT_CONFIG_PARAMETERS", "'core.fsmonitor'='{run}'"),
    ("GIT_CONFIG_GLOBAL", "{settings}"),
    ("GIT_CONFIG_SYSTEM", "{settings}"),
    ("GIT_DIR", "{elsewhere}/.git"),
    ("GIT_WORK_TREE", "{elsewhere}"),
    ("GIT_OBJECT_DIRECTORY", "{elsewhere}/.git/objects"),
    ("GIT_COMMON_DIR", "{elsewhere}/.git"),
    ("GIT_INDEX_FILE", "{elsewhere}/.git/index"),
    ("GIT_NAMESPACE", "evil"),
    ("GIT_ATTR_SOURCE", "HEAD"),
    ("GIT_REPLACE_REF_BASE", "refs/evil/"),
    ("GIT_TEMPLATE_DIR", "{hooks}"),
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_ICASE_PATHSPECS", "1"),
    ("GIT_CEILING_DIRECTORIES", "/"),
    ("GIT_DEFAULT_HASH", "sha256"),
    ("HOME", "{home}"),
    ("XDG_CONFIG_HOME", "{home}"),
)
"""Of the environment."""


@dataclass(frozen=True)
class Trap:
    """Programs and files beside a repository that nothing may touch."""

    folder: Path

    @property
    def mark(self) -> Path:
        return self.folder / "mark"

    def fill(self, text: str) -> str:
        names = ("run", "mark", "secret", "settings", "mailmap", "hooks", "elsewhere", "home")
        for name in names:
            text = text.replace(f"{{{name}}}", str(self.folder / name))
        return text

    def sprung(self, said: str) -> bool:
        """Whether a program ran, or a secret came out."""
        found = self.mark.exists() or SECRET in said
        self.mark.unlink(missing_ok=True)
        return found


def _trap(folder: Path) -> Trap:
    trap = Trap(folder)
    script = f"#!/bin/sh\necho ran >> {trap.mark}\nexit 1\n"
    for name in ("run", "hooks/post-checkout", "hooks/post-index-change", "hooks/pre-commit"):
        program = folder / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(script)
        program.chmod(0o755)
    (folder / "secret").write_text(f"{SECRET}\n")
    (folder / "settings").write_text(f"[core]\n\tfsmonitor = {folder}/run\n")
    (folder / "mailmap").write_text(f"{SECRET} <ada@example.org>\n")
    for name in (".gitconfig", "git/config"):
        path = folder / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[include]\n\tpath = {folder}/settings\n")
    other = GitRepository(folder / "elsewhere")
    other.commit(f"{SECRET}\n", {"fan.c": f"int fan_apply(void)\n{{\n\t/* {SECRET} */\n}}\n"})
    return trap


def hostile_repository(folder: Path) -> tuple[GitRepository, Trap]:
    """A repository with attributes, a signed commit and notes, without hostile settings yet."""
    repository = GitRepository(folder / "repo")
    repository.commit(
        "fan: add a driver\n",
        {
            "fan.c": fan_source(),
            "fan.h": "struct fan {\n\tint speed;\n};\n",
            "Makefile": "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\n",
            "MAINTAINERS": "FAN DRIVER\nM:\tAda <ada@example.org>\nF:\tfan.c\n",
            ".gitattributes": "*.c diff=evil filter=evil merge=evil\n* text\n",
            "mailmap": "Mallory <ada@example.org>\n",
        },
    )
    repository.git("tag", "v6.1")
    repository.commit("fan: check\n", {"fan.c": fan_source(lookup_checks=True)})
    repository.git("notes", "--ref=refs/notes/evil", "add", "-m", SECRET)
    text = repository.git("cat-file", "commit", "HEAD") + "\n"
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n"
    signed = text.replace("\n\n", f"\n{signature}\n", 1).encode()
    id = repository.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=signed)
    repository.git("tag", "signed", id)
    return repository, _trap(folder)


def answers(path: Path, fix: str) -> dict[str, str]:
    """All that kagent asks of a repository, with what it said; errors in words too."""
    return dict(_asked(path, fix))


def _asked(path: Path, fix: str) -> Iterator[tuple[str, str]]:
    for spec in (str(path), f"{path}@HEAD", f"{path}@signed"):
        tree: list[SourceTree] = []
        yield _said(f"open {spec}", lambda spec=spec, tree=tree: tree.append(SourceTree.open(spec)))
        for opened in tree:
            for name, question in _SOURCE.items():
                yield _said(f"{name} {spec}", lambda q=question, tree=opened: q(tree))
    yield _said("release", lambda: SourceTree.for_crash(path, "6.1.0").lookup(["fan_apply"]))
    yield _said("history", lambda: _history(path))
    yield _said("status", lambda: fix_status(path, [fix], "HEAD"))
    yield _said("report", lambda: fix_report(path, fix, release="6.1.0"))


_SOURCE = {
    "lookup": lambda tree: tree.lookup(["fan_apply", "speed_store"]),
    "lines": lambda tree: tree.read_lines("fan.c", 1, 20),
    "type": lambda tree: find_type(tree, "struct fan"),
    "callers": lambda tree: find_callers(tree, "fan_apply"),
    "subsystem": lambda tree: tree.subsystem_of("fan.c"),
    "version": lambda tree: tree.version,
    "resolve": lambda tree: tree.resolve("/build/x/fan.c"),
    "blame": lambda tree: blame(tree, "fan.c", 8),
}


def _history(path: Path) -> object:
    history = GitHistory(path)
    head = history.head()
    found = list(history.commits(head))
    return found, history.count(head), history.reaches(found[-1].hash, head)


def _said(name: str, question: object) -> tuple[str, str]:
    try:
        return name, repr(question())  # type: ignore[operator]
    except KagentError as error:
        return name, f"{type(error).__name__}: {error} {error.hint}"


def control(repository: GitRepository, *command: str) -> str:
    """What an unguarded git says in the repository."""
    environment = os.environ | {
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0", "GIT_MERGE_AUTOEDIT": "no",
        "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org",
    }  # fmt: skip
    for name in ("GIT_EDITOR", "VISUAL", "EDITOR"):
        environment.pop(name, None)
    done = subprocess.run(
        ["git", *command], cwd=repository.path, env=environment, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    return (done.stdout + done.stderr).decode("utf-8", "replace")
