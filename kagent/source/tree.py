"""The source of the crashed kernel, at its own version: functions, lines, files, maintainers."""

from __future__ import annotations

import posixpath
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from kagent.errors import InputError, MissingDataError
from kagent.klog.release import revision_candidates
from kagent.repository import Repository, is_bare, is_repository
from kagent.source import call_paths, callers, history, types
from kagent.source.c_source import CSource
from kagent.source.c_syntax import FunctionSpan
from kagent.source.lookup import OUTSIDE_KERNEL, definitions_in, rank_path
from kagent.source.maintainers import Maintainers, SubsystemEntry
from kagent.source.model import Excerpt, FunctionSource, rows
from kagent.source.names import definition_patterns, source_names
from kagent.source.store import (
    MAX_FILE_BYTES,
    DirectoryStore,
    GrepHit,
    RevisionStore,
    Store,
    confined,
    readable,
)

__all__ = ["SourceTree"]

MAX_LINES = 400
"""Lines of one excerpt."""
MAX_FUNCTION_LINES = 1200
_MAX_NAMES = 512
_MAX_FILES = 96
_MAX_FILES_OF_NAME = 8
_CACHED_FILES = 64
_CACHED_NAMES = 4096
_C_FILES = ("*.c", "*.h", "*.S")
_MAKEFILE = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)", re.M)


class SourceTree:
    """One version of a source tree. Reads are confined to it; results are cached and bounded."""

    def __init__(self, root: Path, store: Store, note: str) -> None:
        self.root = root
        self.note = note
        """What this is and how it was chosen, in words."""
        self.truncated = False
        """Whether a lookup met a bound and may have missed definitions."""
        self.kernel_revision: str | None = None
        """The git revision that the crashed kernel was built from, as far as that is known: asked
        for, or found by its release. What a repository happens to have checked out is none."""
        self._store = store
        self._stands_for: str | None = None
        self._texts: OrderedDict[str, tuple[str, bool]] = OrderedDict()
        self._parsed: OrderedDict[str, CSource] = OrderedDict()
        self._found: dict[str, tuple[list[FunctionSource], bool]] = {}
        self._maintainers: Maintainers | None = None
        self._lock = threading.RLock()

    @classmethod
    def open(cls, spec: str | Path) -> SourceTree:
        """Open ``PATH`` (the files as they lie there) or ``PATH@REV`` (a git revision).

        Raises `InputError` when there is no such directory, it is no repository, or REV is
        unknown.
        """
        text = str(spec)
        if "\0" in text:
            raise InputError("a path cannot hold a NUL byte")
        if Path(text).is_dir():
            root = Path(text)
            if is_bare(root):
                note = "the newest commit of a bare repository"
                return cls(root, RevisionStore(Repository(root), "HEAD"), note)
            return cls(root, DirectoryStore(root), f"the files in {root} as they are")
        path, at, revision = text.rpartition("@")
        if at and path and Path(path).is_dir():
            return cls._at(
                Repository(Path(path)), revision, f"revision {revision} of {path}, as asked for"
            )
        raise InputError(
            f"{path or text} is not a directory",
            hint="give the path of a kernel tree, or PATH@TAG of a git repository",
        )

    @classmethod
    def mapped(cls, mapping: str) -> SourceTree:
        """Open NEW of ``OLD=NEW`` for files that debug info names below the directory OLD.

        Raises `InputError` when that is no mapping, or NEW is nothing that `open` takes.
        """
        old, equals, new = mapping.partition("=")
        if not (old and equals and new):
            raise InputError(
                f"{mapping!r} is no source map", hint="give OLD=NEW, e.g. /build/driver=driver"
            )
        tree = cls.open(new)
        tree._stands_for = posixpath.normpath(old)
        return tree

    @classmethod
    def for_release(cls, path: str | Path, release: str, *, build: str | None = None) -> SourceTree:
        """Open a repository at the tag or commit that `release` was built from.

        ``6.14.0+`` → ``v6.14``, ``6.1.192`` → ``v6.1.192``; `build` is the rest of the banner.
        `note` says what was chosen and why. A plain tree is opened as it is, with its version
        in the note. Raises `MissingDataError` when the repository has no such tag.
        """
        root = Path(path)
        if not root.is_dir():
            raise InputError(f"{root} is not a directory", hint="give the path of a kernel tree")
        if not is_repository(root):
            return cls.open(root)._compared_with(release)
        try:
            repository = Repository(root)
        except InputError as error:
            tree = cls.open(root)._compared_with(release)
            tree.note += f"; its history is not read: {error}"
            return tree
        tried = []
        for revision, reason in revision_candidates(release, build):
            try:
                return cls._at(repository, revision, f"{revision} of {root}: {reason}")
            except InputError:
                tried.append(revision)
        raise MissingDataError(
            f"{root} has no tag for kernel {release} (tried {', '.join(tried) or 'nothing'})",
            hint="fetch the stable tags, or name the revision yourself: PATH@REV",
        )

    @classmethod
    def for_crash(
        cls,
        spec: str | Path,
        release: str | None,
        *,
        build: str | None = None,
        exact: bool = False,
    ) -> SourceTree:
        """Open `spec`; a repository without ``@REV`` at the tag of a log's `release`, if any.

        Where it lacks that tag the files as they lie there are read, which `note` says; with
        `exact` that raises `MissingDataError`.
        """
        if not release or not Path(spec).is_dir():
            return cls.open(spec)
        try:
            return cls.for_release(spec, release, build=build)
        except MissingDataError as error:
            if exact:
                raise
            tree = cls.open(spec)
            tree.note = f"{error}; the work tree was read instead"
            return tree

    @classmethod
    def _at(cls, repository: Repository, revision: str, note: str) -> SourceTree:
        """At the revision that the kernel was built from, by its user's or its own word."""
        tree = cls(repository.path, RevisionStore(repository, revision), note)
        tree.kernel_revision = revision
        return tree

    def _compared_with(self, release: str) -> SourceTree:
        version = self.version
        if version and not release.startswith(version):
            self.note += f"; its Makefile says {version}, the log is of {release}"
        return self

    @property
    def store(self) -> Store:
        """The place with the tree's files."""
        return self._store

    @property
    def revision(self) -> str | None:
        """The git revision as asked for; None for plain files."""
        return self._store.revision

    @property
    def version(self) -> str | None:
        """The kernel version its Makefile states."""
        if not self.exists("Makefile"):
            return None
        found = _MAKEFILE.finditer(self._text("Makefile")[:4000])
        fields: dict[str, str] = {line[1]: line[2] for line in found}
        numbers = [fields.get(key, "") for key in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
        return ".".join(filter(None, numbers)) + fields.get("EXTRAVERSION", "") or None

    # Files ------------------------------------------------------------------------------------

    def exists(self, path: str) -> bool:
        """Whether the tree has that file. `InputError` for names outside the tree."""
        return self._store.is_file(confined(path))

    def read_lines(self, path: str, start: int, end: int) -> Excerpt:
        """Lines ``start`` to ``end``, at most 400 of them; ``truncated`` when that cut some.

        Raises `InputError` for names outside the tree or lines outside the file, and
        `MissingDataError` for a file that is not there.
        """
        path = confined(path)
        content, large = self._content(path)
        lines = rows(content)
        if start < 1 or end < start or start > len(lines):
            known = f"{MAX_FILE_BYTES >> 20} MiB of it are read, {len(lines)} lines"
            raise InputError(
                f"{path} has no lines {start}-{end}",
                hint=known if large else f"it has {len(lines)} lines",
            )
        last = min(end, start + MAX_LINES - 1, len(lines))
        text = "\n".join(lines[start - 1 : last])
        cut = last < (end if large else min(end, len(lines)))
        return Excerpt(path, start, last, text, self.revision, cut)

    def lines(self, path: str) -> list[str]:
        """All lines of a file, at most 8 MiB of it, for searches; `InputError` and
        `MissingDataError` as for `read_lines`.
        """
        return rows(self._text(confined(path)))

    def resolve(self, dwarf_path: str) -> str | None:
        """The tree's name of a file that DWARF names: its longest suffix that exists here.

        In a directory of module sources, where the build's folders are gone, a file of that
        name anywhere below also counts if it is the only one, or shares most folder names. A
        tree that stands for another directory has exactly what was below that.
        """
        path = posixpath.normpath(dwarf_path)
        parts = [p for p in path.split("/") if p not in ("", ".", "..")]
        if not parts or "\0" in dwarf_path or "\n" in dwarf_path or len(dwarf_path) > 4096:
            return None
        if self._stands_for is not None:
            return self._store.first_file(self._below(self._stands_for, path))
        names = ["/".join(parts[i:]) for i in range(min(len(parts), 64))]
        found = self._store.first_file([name for name in names if readable(name)])
        if found is not None or self._store.is_file("MAINTAINERS"):
            return found
        shared = {
            path: len(set(path.split("/")) & set(parts)) for path in self._store.named(parts[-1])
        }
        best = [path for path, count in shared.items() if count == max(shared.values())]
        return best[0] if len(best) == 1 else None

    @staticmethod
    def _below(folder: str, path: str) -> list[str]:
        """`path` relative to `folder`, if it is below it and no option or pathspec to git."""
        inside = path.startswith(folder.rstrip("/") + "/")
        name = path[len(folder.rstrip("/")) + 1 :]
        return [name] if inside and readable(name) else []

    def _text(self, path: str) -> str:
        return self._content(path)[0]

    def _content(self, path: str) -> tuple[str, bool]:
        """A file as text, and whether it is larger than what is read of one."""
        with self._lock:
            if path not in self._texts:
                content, large = self._store.read(path)
                self._texts[path] = content.decode("utf-8", "replace"), large
                while len(self._texts) > _CACHED_FILES:
                    self._texts.popitem(last=False)
            self._texts.move_to_end(path)
            return self._texts[path]

    # Functions --------------------------------------------------------------------------------

    def syntax(self, path: str) -> CSource:
        """The parsed file, for questions about calls, members and types on its lines."""
        path = confined(path)
        with self._lock:
            if path not in self._parsed:
                self._parsed[path] = CSource(self._text(path), path)
                while len(self._parsed) > _CACHED_FILES:
                    self._parsed.popitem(last=False)
            self._parsed.move_to_end(path)
            return self._parsed[path]

    def functions_in(self, path: str) -> list[FunctionSource]:
        """All functions of a file, in order."""
        return [self._function(confined(path), span) for span in self.syntax(path).functions]

    def enclosing_function(self, path: str, line: int) -> FunctionSource | None:
        """The function whose definition covers a line."""
        span = self.syntax(path).function_at(line)
        return self._function(confined(path), span) if span else None

    def lookup(
        self, names: Sequence[str], files: Mapping[str, str] | None = None
    ) -> dict[str, list[FunctionSource]]:
        """Definitions of all functions of a trace, in one search over the tree.

        `names` are symbols as traces print them (``foo.isra.0``, ``__x64_sys_write``); `files`
        may say where debug info puts some of them, which spares the search. Every name is a key
        of the result; generic code comes before architectures. Bounded: see `truncated`.
        """
        wanted = list(dict.fromkeys(names))
        self.truncated = len(wanted) > _MAX_NAMES
        wanted = wanted[:_MAX_NAMES]
        found: dict[str, list[FunctionSource]] = {name: [] for name in wanted}
        for name in wanted:
            if files and name in files and (path := self.resolve(files[name])):
                found[name] = self._definitions(path, name)
        with self._lock:
            self._search([name for name in wanted if not found[name]])
            for name in wanted:
                if not found[name] and name in self._found:
                    known, cut = self._found[name]
                    found[name] = list(known)
                    self.truncated = self.truncated or cut
        return found

    def _search(self, names: Sequence[str]) -> None:
        """Fill the cache of definitions, by one grep for all names that are not in it yet."""
        open_names = [n for n in names if n not in self._found and source_names(n)]
        patterns = definition_patterns(map(source_names, open_names))
        if not patterns:
            return
        if len(self._found) > _CACHED_NAMES:
            self._found.clear()
        hits, cut = self._store.grep(patterns, _C_FILES)
        opened: set[str] = set()
        for name in open_names:
            paths = _files_of(name, hits)
            kept = [
                path
                for path in paths[:_MAX_FILES_OF_NAME]
                if path in opened or len(opened) < _MAX_FILES
            ]
            opened.update(kept)
            spans = [span for path in kept for span in self._definitions(path, name)]
            self._found[name] = (spans, cut or len(kept) < len(paths))

    def _definitions(self, path: str, symbol: str) -> list[FunctionSource]:
        parsed = None if path.endswith(".S") else self.syntax(path)
        spans = definitions_in(path, self._text(path), parsed, symbol)
        return [self._function(path, span) for span in spans]

    def _function(self, path: str, span: FunctionSpan) -> FunctionSource:
        lines = rows(self._text(path))
        last = min(span.end, span.start + MAX_FUNCTION_LINES - 1)
        text = "\n".join(lines[span.start - 1 : last])
        cut = last < span.end
        return FunctionSource(path, span.start, last, text, self.revision, cut, span.name)

    # Questions about uses, types and people ----------------------------------------------------

    find_callers = callers.find_callers
    find_callees = callers.find_callees
    find_type = types.find_type
    call_path = call_paths.call_path
    blame = history.blame

    def subsystem_of(self, path: str) -> SubsystemEntry | None:
        """Who maintains a file, by the tree's MAINTAINERS; None when it does not say."""
        path = confined(path)
        with self._lock:
            if self._maintainers is None:
                present = self._store.is_file("MAINTAINERS")
                self._maintainers = Maintainers(self._text("MAINTAINERS") if present else "")
        return self._maintainers.subsystem_of(path)


def _files_of(name: str, hits: Sequence[GrepHit]) -> list[str]:
    """Files with a hit for this name that looks like a definition, the kernel's own first."""
    words = "|".join(map(re.escape, source_names(name)))
    spelled = re.compile(rf"(?P<before>.*?)\b(?:{words})\b")
    paths = {
        hit.path for hit in hits if readable(hit.path) and _may_define(hit.text.rstrip(), spelled)
    }
    ranked = sorted(paths, key=rank_path)
    best = rank_path(ranked[0])[0] if ranked else 0
    return [
        path for path in ranked if rank_path(path)[0] < OUTSIDE_KERNEL or best >= OUTSIDE_KERNEL
    ]


def _may_define(text: str, spelled: re.Pattern[str]) -> bool:
    """In the first column; no prototype, and no call inside the arguments of something else."""
    found = spelled.match(text)
    if found is None or text.endswith(";") or not (text[0].isalpha() or text[0] == "_"):
        return False
    before = found["before"]
    macro = re.fullmatch(r"[A-Z_][A-Z0-9_]*\(\s*", before)
    return bool(macro) or before.count("(") == before.count(")")
