"""Where debug info is found without being told: installed packages, build trees, servers.

What may be *trusted* with native code in this process is told here as well: a file below an
installed debug directory, or below /lib/modules, that only root can have put there. Whatever else
was named, lies beside a log, or came from a server is read in a child: a build-id is a name, not
a signature.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kagent.errors import KagentError, MissingDataError

if TYPE_CHECKING:
    from kagent.symbols.debuginfod import Debuginfod, Progress

__all__ = ["DEBUG_DIR", "DebugFiles"]

DEBUG_DIR = Path("/usr/lib/debug")
"""Where distributions' debug packages put their files."""

_MODULES = Path("/lib/modules")
_OTHERS_WRITE = 0o022
_RELEASE = re.compile(r"[\w+~:-][\w.+~:-]{0,127}\Z", re.ASCII)
_BUILD_ID = re.compile(r"[0-9a-f]{16,64}\Z")
_MODULE = re.compile(r"\w{1,64}\Z", re.ASCII)


class DebugFiles:
    """Finds the debug info of one kernel after another."""

    def __init__(
        self,
        debug_dir: Path = DEBUG_DIR,
        *,
        servers: str | None = None,
        progress: Progress | None = None,
        offline: bool = False,
    ) -> None:
        """`servers` are debuginfod URLs, separated by white space; without, none are asked.

        With `offline` only those on this machine are.
        """
        self._debug_dir = debug_dir
        self._servers = servers
        self._progress = progress
        self._offline = offline
        self.problem: str | None = None
        """Why the last kernel has no vmlinux, where more than its absence is to be told."""

    def trusts(self, path: Path) -> bool:
        """Whether only root can have written a file, and its place is that of debug packages.

        Place: below the debug directory or /lib/modules, symbolic links resolved. Writing: the
        file and all directories above it are root's, and neither group nor others may write. For
        a user who is root the place alone tells apart what was installed and what was unpacked.
        """
        try:
            real = path.resolve(strict=True)
            if not any(real.is_relative_to(p.resolve()) for p in (self._debug_dir, _MODULES)):
                return False
            found = [place.stat() for place in (real, *real.parents)]
        except (OSError, ValueError, RuntimeError):
            return False
        return all(one.st_uid == 0 and not one.st_mode & _OTHERS_WRITE for one in found)

    def vmlinux(self, release: str | None, build_id: str | None = None) -> Path | None:
        """The vmlinux of an installed debug package or build tree, or else of a server.

        Where the log does not print the build-id, and its kernel is the one running here, the
        running kernel's is asked for.
        """
        self.problem = None
        if found := self._installed(release):
            return found
        if build_id is None and release == os.uname().release:
            build_id = _running_build_id(Path("/sys/kernel/notes"))
        if build_id is None:
            if self._servers:
                self.problem = "the log has no build-id of its kernel to ask a server for"
            return None
        try:
            return self.by_build_id(build_id)
        except KagentError as error:
            self.problem = str(error)
            return None

    def _installed(self, release: str | None) -> Path | None:
        if not release or not _RELEASE.match(release):
            return None
        debug = self._debug_dir
        places = (
            debug / "boot" / f"vmlinux-{release}",
            debug / "lib" / "modules" / release / "vmlinux",
            debug / "boot" / f"vmlinux-{release}.debug",
            _MODULES / release / "build" / "vmlinux",
        )
        return next((place for place in places if place.is_file()), None)

    def module_directories(self, release: str | None) -> tuple[Path, ...]:
        """Installed directories with modules of a release, those with debug info first."""
        if not release or not _RELEASE.match(release):
            return ()
        places = (self._debug_dir / "lib" / "modules" / release, _MODULES / release)
        return tuple(place for place in places if place.is_dir())

    def module_build_id(self, name: str, release: str | None) -> str | None:
        """Build-id of a module that is loaded here, if the kernel of that release is running."""
        if release != os.uname().release or not _MODULE.match(name):
            return None
        return _running_build_id(Path("/sys/module", name, "notes", ".note.gnu.build-id"))

    def by_build_id(self, build_id: str) -> Path:
        """The debug file of a build, ``.build-id/ab/cdef.debug`` if installed, or a server's.

        Raises:
            MissingDataError: there is none; why, if a server was asked.
        """
        if not _BUILD_ID.match(build_id):
            raise MissingDataError(f"{build_id[:64]!r} is no build-id")
        path = self._debug_dir / ".build-id" / build_id[:2] / f"{build_id[2:]}.debug"
        if path.is_file():
            return path
        if not self._servers:
            raise MissingDataError(f"no debug info for build-id {build_id[:12]} is installed")
        return _client(self._servers, self._progress, self._offline).debug_info(build_id)


@lru_cache(maxsize=8)
def _client(servers: str, progress: Progress | None, offline: bool) -> Debuginfod:
    """One client for all runs of a process, as it remembers what servers do not have."""
    from kagent.symbols.debuginfod import Debuginfod

    return Debuginfod(servers, progress=progress, offline=offline)


def _running_build_id(notes: Path) -> str | None:
    from kagent.symbols.notes import build_id_in

    try:
        return build_id_in(notes.read_bytes())
    except OSError:
        return None
