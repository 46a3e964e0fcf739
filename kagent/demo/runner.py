"""Unpack a bundled crash, make its git history and commit index, and analyse it.

Nothing here is special to the demo: `commands` lists what does the same by hand.
"""

from __future__ import annotations

import lzma
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent.errors import CorruptDataError, InputError, MissingDataError

if TYPE_CHECKING:
    from kagent.resolution import Resolution

__all__ = ["SAMPLES", "Sample", "Unpacked", "commands", "run", "unpack"]

_COMMITTER = {
    "GIT_COMMITTER_NAME": "tidelink tree",
    "GIT_COMMITTER_EMAIL": "tidelink@example.org",
}
"""As in the sample's README: with the authors' dates they make the hashes come out the same."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A crash under ``kagent/demo/data/NAME``."""

    name: str
    about: str
    log: str
    module: str | None = None
    """The crashed module, xz-compressed."""
    series: str | None = None
    """Its history as a mailbox for ``git am``."""
    revision: str | None = None
    """The commit of that history that the module was built from."""


SAMPLES = {
    sample.name: sample
    for sample in (
        Sample(
            "tidelink",
            "a driver's NULL dereference on Debian 6.1, with module, source and history",
            log="console.log",
            module="tidelink.ko.xz",
            series="series.mbox",
            revision="71f309d72bed",
        ),
        Sample(
            "cve-2025-37958",
            "a page fault in split_huge_pmd_locked(), the trace alone",
            log="trace.log",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A sample's files on disk; None for what it does not have."""

    log: Path
    modules: Path | None = None
    repository: Path | None = None
    kernel_src: str | None = None
    index: Path | None = None
    """Where the commit index belongs; `run` builds it."""


def run(
    name: str = "tidelink",
    *,
    keep: Path | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[str, str], None] | None = None,
) -> Resolution:
    """Analyse sample `name`.

    Args:
        name: A key of `SAMPLES`.
        keep: Unpack into this new or empty directory; None: into a temporary one.
        say: Called with each equivalent command before it runs.
        progress: As in `kagent.analyze`.

    Raises:
        InputError: no such sample, or `keep` is not empty.
        MissingDataError: git is not installed.
    """
    if name not in SAMPLES:
        raise InputError(f"no sample {name!r}", hint=f"choose one of {', '.join(SAMPLES)}")
    if keep is not None:
        return _run(SAMPLES[name], _empty(keep), say, progress)
    if say:
        say("# in a temporary directory; kagent demo --keep DIR leaves the files for you")
    with tempfile.TemporaryDirectory(prefix="kagent-demo-") as scratch:
        return _run(SAMPLES[name], Path(scratch), say, progress)


def _run(
    sample: Sample,
    into: Path,
    say: Callable[[str], None] | None,
    progress: Callable[[str, str], None] | None,
) -> Resolution:
    unpacked = unpack(sample, into)
    if say:
        for command in commands(unpacked):
            say(f"$ {command}")
    if unpacked.repository and unpacked.index:
        from kagent.commits import CommitIndex

        CommitIndex.build(unpacked.repository, unpacked.index).close()

    from kagent.agents.api import analyze
    from kagent.settings import Settings

    # Named one by one, also where there is nothing: the user's own paths belong to other crashes.
    data: dict[str, Any] = {
        "vmlinux": None,
        "modules": unpacked.modules,
        "kernel_src": unpacked.kernel_src,
        "index": unpacked.index,
    }
    return analyze(unpacked.log, settings=Settings(**data), progress=progress)


def _empty(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        occupied = any(directory.iterdir())
    except OSError as error:
        raise InputError(f"{directory} cannot be used: {error.strerror}") from error
    if occupied:
        raise InputError(f"{directory} is not empty", hint="name a new directory")
    return directory


def unpack(sample: Sample, into: Path) -> Unpacked:
    """Write the sample's files below `into`, its history as a git repository.

    Raises:
        MissingDataError: git is not installed.
        CorruptDataError: the history does not apply.
    """
    data = files("kagent.demo") / "data" / sample.name
    log = into / sample.log
    log.write_bytes((data / sample.log).read_bytes())
    modules = repository = index = None
    kernel_src = None
    if sample.module:
        modules = into / "modules"
        modules.mkdir()
        packed = (data / sample.module).read_bytes()
        (modules / sample.module.removesuffix(".xz")).write_bytes(lzma.decompress(packed))
    if sample.series:
        repository, index = into / sample.name, into / "index"
        kernel_src = f"{repository}@{sample.revision}" if sample.revision else str(repository)
        _make_repository(data / sample.series, repository)
    return Unpacked(log, modules, repository, kernel_src, index)


def commands(unpacked: Unpacked) -> list[str]:
    """What a user types to get the same result from the unpacked files."""
    lines = []
    analyze = ["kagent", "analyze", str(unpacked.log)]
    if unpacked.modules:
        analyze += ["--modules", str(unpacked.modules)]
    if unpacked.kernel_src:
        analyze += ["--kernel-src", unpacked.kernel_src]
    if unpacked.index:
        build = ["kagent", "index", "build", str(unpacked.repository), "-o", str(unpacked.index)]
        lines.append(shlex.join(build))
        analyze += ["--index", str(unpacked.index)]
    return [*lines, shlex.join(analyze)]


def _make_repository(series: Traversable, repository: Path) -> None:
    repository.mkdir()
    _git(repository, "init", "--quiet", "--template=", "--initial-branch=main")
    mails = series.read_bytes()
    _git(repository, "am", "--quiet", "--committer-date-is-author-date", stdin=mails)


def _git(repository: Path, verb: str, *arguments: str, stdin: bytes = b"") -> None:
    """Run git in `repository`, untouched by the user's configuration and environment."""
    git = shutil.which("git")
    if git is None:
        raise MissingDataError(
            "git is not installed", hint="install it, for example: apt-get install git"
        )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    fixed = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "LC_ALL": "C",
        "TZ": "UTC",
    }
    options = ["-c", "commit.gpgsign=false", "-c", "core.autocrlf=false"]
    done = subprocess.run(
        [git, *options, verb, *arguments],
        cwd=repository,
        input=stdin,
        capture_output=True,
        env={**kept, **fixed, **_COMMITTER},
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise CorruptDataError(f"git {verb} failed: {reason[-1]}")
