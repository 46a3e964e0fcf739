"""What clients may see: the trees, the debug info and the indexes the server was started with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from kagent.confine import allowed_index, granted
from kagent.errors import InputError, MismatchError, MissingDataError

if TYPE_CHECKING:
    from kagent.commits import CommitIndex, CommitUnion
    from kagent.source import SourceTree
    from kagent.source.tools import SourceTools
    from kagent.symbols import DebugFiles, Symbolizer

__all__ = ["Roots"]

_OPEN_TREES = 8


class Roots:
    """Source trees as ``PATH`` or ``PATH@REV``, one kernel's debug info, and commit indexes.

    Raises what opening them raises, so that a server with a wrong path does not start.
    """

    def __init__(
        self,
        kernel_src: Sequence[str] = (),
        indexes: Sequence[Path] = (),
        *,
        vmlinux: Path | None = None,
        modules: Path | None = None,
        files: DebugFiles | None = None,
    ) -> None:
        """Where no vmlinux is given, that of a crash's release is sought among `files`."""
        self._specs = tuple(kernel_src)
        self._indexes = {str(path.resolve()): path for path in indexes}
        self._vmlinux = vmlinux
        self._modules = modules
        self._files = files
        self._lock = Lock()
        self._trees: dict[tuple[str, str | None, str | None, bool], SourceTree] = {}
        self._opened: dict[str, CommitIndex] = {}
        for spec in self._specs:
            self._tree(spec)
        for path in self._indexes.values():
            self._index(path)
        self._types(None)

    @property
    def given(self) -> tuple[object, ...]:
        """What native code reads for this server, as `kagent.isolation` tells runs apart."""
        return (self._vmlinux, self._modules, self._specs)

    @property
    def has_source(self) -> bool:
        """Whether any source tree was given."""
        return bool(self._specs)

    def source(
        self, asked: str | None, release: str | None = None, *, build: str | None = None
    ) -> SourceTree:
        """The tree a client asks for; None means the first one.

        A repository without a revision is read at the tag of `release` (`build` is the rest of
        the log's banner), if it has that. A tree allowed at one revision is allowed at no other;
        one without a revision at all.

        Raises:
            MissingDataError: the server has no tree.
            InputError: the path lies outside of every allowed one.
        """
        return self._tree(self._allowed(asked), release, build)

    def tools(self, asked: str | None = None, release: str | None = None) -> SourceTools:
        """The source tools over the tree a client asks for, at the release it asks for.

        Raises:
            MissingDataError: the server has no tree, or the repository no such release.
            InputError: the path lies outside of every allowed one.
        """
        from kagent.source.tools import SourceTools

        trees = [self._tree(self._allowed(asked), release, exact=True)]
        if self._modules:
            trees.append(self._tree(str(self._modules)))
        try:
            return SourceTools(trees, self._types(release))
        except MismatchError as error:
            return SourceTools(trees, notes=[f"debug info was refused: {error}"])

    def index(self, asked: str | None) -> CommitIndex | CommitUnion:
        """The index a client asks for; None means all of them as one.

        Raises:
            MissingDataError: the server has no index.
            InputError: it is none of the allowed ones.
        """
        if not self._indexes:
            raise MissingDataError(
                "this server has no commit index", hint="start it with --index DIR"
            )
        if asked is None:
            from kagent.commits import CommitUnion

            opened = [self._index(path) for path in self._indexes.values()]
            return opened[0] if len(opened) == 1 else CommitUnion(opened)
        found = allowed_index(tuple(self._indexes.values()), asked)
        if found is None:
            raise InputError("index is none of those this server may read")
        return self._index(found)

    def _allowed(self, asked: str | None) -> str:
        if not self._specs:
            raise MissingDataError(
                "this server has no kernel source", hint="start it with --kernel-src PATH"
            )
        if asked is None:
            return self._specs[0]
        if (found := granted(self._specs, asked)) is not None:
            return found
        raise InputError("that kernel source is outside of the trees this server may read")

    def _tree(
        self,
        spec: str,
        release: str | None = None,
        build: str | None = None,
        *,
        exact: bool = False,
    ) -> SourceTree:
        """With `exact` a release that the repository lacks is an error."""
        from kagent.source import SourceTree

        with self._lock:
            key = (spec, release, build, exact)
            if key not in self._trees:
                while len(self._trees) >= _OPEN_TREES:
                    del self._trees[next(iter(self._trees))]
                found = SourceTree.for_crash(spec, release, build=build, exact=exact)
                self._trees[key] = found
            return self._trees[key]

    def _types(self, release: str | None) -> Symbolizer | None:
        if self._vmlinux is None and self._modules is None and self._files is None:
            return None
        from kagent.symbols import Symbolizer

        opened = Symbolizer.open(self._vmlinux, self._modules, release=release, files=self._files)
        return opened if opened.has_files else None

    def _index(self, path: Path) -> CommitIndex:
        from kagent.commits import CommitIndex

        key = str(path.resolve())
        with self._lock:
            if key not in self._opened:
                self._opened[key] = CommitIndex.open(path)
            return self._opened[key]
