"""What one run may look things up in, opened from the settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent.agents.experts import BoundedSource, BoundedTypes
from kagent.boundary import expert, nothing, unexpected
from kagent.errors import InputError, KagentError
from kagent.isolation import isolated
from kagent.klog.model import Context
from kagent.resolution import FixStatus
from kagent.settings import Settings
from kagent.source.tools import SourceTools
from kagent.source.union import SourceUnion

if TYPE_CHECKING:
    from kagent.commits import CommitIndex, CommitUnion
    from kagent.commits.landed import OnBranch
    from kagent.source import SourceTree
    from kagent.symbols import Symbolizer

__all__ = ["Toolbox", "check_settings", "fix_statuses", "open_toolbox"]


_MAX_EXCERPT = 6_000


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Open resources; None where the user gave nothing."""

    symbolizer: Symbolizer
    tools: SourceTools
    """Questions to the sources below and to the debug info."""
    tree: SourceTree | None = None
    """The kernel's source."""
    source: SourceUnion | None = None
    """The same, and the sources that lie beside the modules."""
    index: CommitIndex | CommitUnion | None = None
    notes: tuple[str, ...] = ()
    """Choices and fallbacks, in words."""

    @property
    def types(self) -> BoundedTypes:
        """The debug info, as the rules ask it."""
        return BoundedTypes(self.symbolizer)

    @property
    def lines(self) -> BoundedSource | None:
        """The sources, as the rules ask them."""
        return BoundedSource(self.source) if self.source else None


def check_settings(settings: Settings) -> None:
    """Fail early on what cannot be right, before anything is computed.

    Raises:
        InputError: a path does not exist or is of the wrong kind.
        KagentError: the debug info, source tree or index cannot be used.
    """
    if settings.vmlinux and not settings.vmlinux.exists():
        raise InputError(f"--vmlinux {settings.vmlinux}: no such file")
    if settings.modules and not settings.modules.is_dir():
        raise InputError(f"--modules {settings.modules}: no such directory")
    for index in settings.index:
        if not index.is_dir():
            raise InputError(
                f"--index {index}: no such directory", hint="kagent index build REPO -o DIR"
            )
    try:
        with open_toolbox(settings, Context()):
            pass
    except KagentError:
        raise
    except BaseException as error:
        if not unexpected(error):
            raise
        # A bug in opening it: the run meets that again, and goes on without.


@contextmanager
def open_toolbox(settings: Settings, crashed: Context) -> Iterator[Toolbox]:
    """Everything the settings name, for the kernel that crashed.

    Opening again is cheap: the rooms below keep what they parsed, keyed by the files' content.
    What can be opened no more, in a run that had it, fails alone. Native code reads what came with
    the log in the child that is kept for these files.
    """
    given = (settings.vmlinux, settings.modules, settings.kernel_src, settings.source_map)
    with isolated(given), _opened(settings, crashed) as box:
        yield box


@contextmanager
def _opened(settings: Settings, crashed: Context) -> Iterator[Toolbox]:
    tree, notes = _kernel_tree(settings.kernel_src, crashed)
    trees = _other_trees(settings)
    if tree:  # after what is mapped, before what lies beside the modules
        trees.insert(len(settings.source_map), tree)
    with _symbolizer(settings, crashed) as symbolizer:
        yield Toolbox(
            symbolizer=symbolizer,
            tools=SourceTools(trees, symbolizer, max_text=_MAX_EXCERPT),
            tree=tree,
            source=SourceUnion(trees) if trees else None,
            index=_index(settings),
            notes=(*notes, *symbolizer.notes),
        )


def _no_debug_info(_settings: Settings, _crashed: Context) -> Symbolizer:
    from kagent.symbols import Symbolizer

    return Symbolizer.open(None, None)


@expert("debug info", otherwise=_no_debug_info)
def _symbolizer(settings: Settings, crashed: Context) -> Symbolizer:
    from kagent.symbols import DebugFiles, Symbolizer

    return Symbolizer.open(
        settings.vmlinux,
        settings.modules,
        release=crashed.kernel,
        build_id=crashed.build_id,
        allow_mismatch=settings.allow_mismatch,
        files=DebugFiles(
            settings.debug_dir, servers=settings.debuginfod_urls, offline=settings.offline
        ),
    )


def _no_trees(_settings: Settings) -> list[SourceTree]:
    return []


@expert("source map", otherwise=_no_trees)
def _other_trees(settings: Settings) -> list[SourceTree]:
    """The sources that a setting maps, then those beside the modules."""
    from kagent.source import SourceTree

    trees = [SourceTree.mapped(mapping) for mapping in settings.source_map]
    if settings.modules:
        trees.append(SourceTree.open(settings.modules))
    return trees


def _no_statuses(*_args: Any) -> dict[str, FixStatus]:
    return {}


@expert("fix status", otherwise=_no_statuses)
def fix_statuses(
    settings: Settings, hashes: Sequence[str], crashed: Context
) -> dict[str, FixStatus]:
    """Where each commit has landed, and whether the revision read as source has it."""
    from kagent.commits.packing import is_posted

    hashes = [hash for hash in hashes if not is_posted(hash)]
    if not settings.kernel_src or not hashes:
        return {}
    from kagent.commits.landed import fix_status
    from kagent.klog.release import read_release

    tree, _ = _kernel_tree(settings.kernel_src, crashed)
    repository = Path(settings.kernel_src)
    asked_for = not repository.is_dir()
    if asked_for:
        repository = Path(settings.kernel_src.rpartition("@")[0])
    try:
        landings = fix_status(repository, hashes, tree.kernel_revision if tree else None)
    except KagentError:
        return {}  # a plain tree, or a repository without that history, shows nothing
    # A distribution's bare number names where its kernel started, not what was merged since.
    sound = asked_for or read_release(crashed.kernel or "", crashed.build).exact
    return {
        hash: FixStatus(
            upstream_tag=landing.first_tag,
            in_kernel=_in_kernel(landing.kernel, sound),
            branches_with=[on.branch for on in landing.branches if on.state == "has"],
            branches_without=[on.branch for on in landing.branches if on.state == "lacks"],
        )
        for hash, landing in zip(hashes, landings, strict=True)
        if landing.known
    }


def _in_kernel(on: OnBranch | None, sound: bool) -> bool | None:
    if on is None:
        return None
    return True if on.state == "has" else False if sound else None


def _no_tree(*_args: Any) -> tuple[SourceTree | None, tuple[str, ...]]:
    return None, ()


@expert("kernel source", otherwise=_no_tree)
def _kernel_tree(spec: str | None, crashed: Context) -> tuple[SourceTree | None, tuple[str, ...]]:
    """The tree a spec names; a repository without a revision is read at the crash's own tag."""
    if not spec:
        return None, ()
    from kagent.source import SourceTree

    tree = SourceTree.for_crash(spec, crashed.kernel, build=crashed.build)
    chosen = crashed.kernel and Path(spec).is_dir()
    return tree, (f"source: {tree.note}",) if chosen else ()


@expert("index", otherwise=nothing)
def _index(settings: Settings) -> CommitIndex | CommitUnion | None:
    if not settings.index:
        return None
    files = (file for directory in settings.index for file in directory.iterdir())
    stamp = max((file.stat().st_mtime_ns for file in files), default=0)
    return _open_indexes(settings.index, stamp)


@lru_cache(maxsize=4)
def _open_indexes(directories: tuple[Path, ...], _stamp: int) -> CommitIndex | CommitUnion:
    from kagent.commits import open_indexes

    return open_indexes(directories)
