"""What the MCP server's tools do: bounded answers from the trees and indexes it may read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from kagent.errors import InputError, MissingDataError
from kagent.text import clip, strip_control

if TYPE_CHECKING:
    from kagent.commits import CommitIndex
    from kagent.klog.model import Frame, KernelLog, Report
    from kagent.source import SourceTree
    from kagent.source.model import Excerpt

__all__ = [
    "MAX_LINES",
    "CallstackAnalysis",
    "CommitMatch",
    "CommitMatches",
    "Roots",
    "SourceLookup",
    "SourceText",
    "StackEntry",
    "analyze_callstack",
    "find_commits",
    "find_source",
]

_OPEN_TREES = 8
_MAX_TRACE = 40_000
_MAX_FRAMES = 400
_MAX_FUNCTIONS = 40
_MAX_SOURCE = 12_000
_MAX_ALL_SOURCES = 120_000
MAX_LINES = 400
"""Of a file in one answer."""
_MAX_MESSAGE = 3_000
_MAX_DIFF = 6_000


class SourceText(BaseModel):
    """A piece of source."""

    name: str | None = None
    path: str
    start: int
    end: int
    revision: str | None = None
    text: str
    truncated: bool = False


class StackEntry(BaseModel):
    """A frame of a trace."""

    trace: str
    symbol: str
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    reliable: bool = True


class CallstackAnalysis(BaseModel):
    """What analyze_kernel_stack returns."""

    reports: list[str] = Field(description="Titles of the kernel reports in the message.")
    primary: str | None = Field(None, description="Title of the report to look at first.")
    faulting_function: str | None = None
    reformatted: str = Field(description="The message with its call traces in canonical form.")
    frames: list[StackEntry]
    functions: list[SourceText] = Field(description="Source of the functions in the traces.")
    not_found: list[str] = Field(description="Functions without a definition in the tree.")
    notes: list[str] = []
    truncated: bool = Field(False, description="Something was left out to keep the answer short.")


class SourceLookup(BaseModel):
    """What lookup_source returns."""

    results: list[SourceText]
    truncated: bool = False


class CommitMatch(BaseModel):
    """A commit that may answer the question."""

    hash: str
    subject: str
    author: str
    date: str
    confidence: float
    why: list[str]
    message: str
    diff: str
    truncated: bool = False


class CommitMatches(BaseModel):
    """What search_commits returns."""

    commits: list[CommitMatch]


class Roots:
    """What clients may see: source trees as ``PATH`` or ``PATH@REV``, and commit indexes."""

    def __init__(self, kernel_src: Sequence[str] = (), indexes: Sequence[Path] = ()) -> None:
        self._specs = tuple(kernel_src)
        self._indexes = {str(path.resolve()): path for path in indexes}
        self._lock = Lock()
        self._trees: dict[tuple[str, str | None], SourceTree] = {}
        self._opened: dict[str, CommitIndex] = {}
        for spec in self._specs:
            self._tree(spec)
        for path in self._indexes.values():
            self._index(path)

    @property
    def has_source(self) -> bool:
        """Whether any source tree was given."""
        return bool(self._specs)

    def source(self, asked: str | None, release: str | None = None) -> SourceTree:
        """The tree a client asks for; None means the first one.

        A repository without a revision is read at the tag of `release`, if it has that. A tree
        allowed at one revision is allowed at no other; one without a revision at all.

        Raises:
            MissingDataError: the server has no tree.
            InputError: the path lies outside of every allowed one.
        """
        if not self._specs:
            raise MissingDataError(
                "this server has no kernel source", hint="start it with --kernel-src PATH"
            )
        if asked is None:
            return self._tree(self._specs[0], release)
        for spec in self._specs:
            if (granted := _granted(spec, asked)) is not None:
                return self._tree(granted, release)
        raise InputError("kernel_src_path is outside of the trees this server may read")

    def index(self, asked: str | None) -> CommitIndex:
        """The index a client asks for; None means the first one.

        Raises:
            MissingDataError: the server has no index.
            InputError: it is none of the allowed ones.
        """
        if not self._indexes:
            raise MissingDataError(
                "this server has no commit index", hint="start it with --index DIR"
            )
        key = next(iter(self._indexes)) if asked is None else str(Path(asked).resolve())
        if key not in self._indexes:
            raise InputError("index is none of those this server may read")
        return self._index(self._indexes[key])

    def _tree(self, spec: str, release: str | None = None) -> SourceTree:
        with self._lock:
            key = (spec, release)
            if key not in self._trees:
                while len(self._trees) >= _OPEN_TREES:
                    del self._trees[next(iter(self._trees))]
                self._trees[key] = _open_tree(spec, release)
            return self._trees[key]

    def _index(self, path: Path) -> CommitIndex:
        from kagent.commits import CommitIndex

        key = str(path.resolve())
        with self._lock:
            if key not in self._opened:
                self._opened[key] = CommitIndex.open(path)
            return self._opened[key]


def _open_tree(spec: str, release: str | None) -> SourceTree:
    from kagent.source import SourceTree

    path, revision = _split(spec)
    if release and not revision:
        try:
            return SourceTree.for_release(path, release)
        except MissingDataError:
            pass  # no such tag: the files as they lie there, which the tree's note says
    return SourceTree.open(spec)


def _split(spec: str) -> tuple[Path, str]:
    """``PATH@REV`` in two; a path that exists as it stands has no revision."""
    if Path(spec).exists() or "@" not in spec:
        return Path(spec), ""
    path, _, revision = spec.rpartition("@")
    return Path(path), revision


def _granted(spec: str, asked: str) -> str | None:
    """The tree to open for `asked` if `spec` allows it."""
    root, fixed = _split(spec)
    path, revision = _split(asked)
    try:
        real = path.resolve()
        inside = real.is_relative_to(root.resolve())
    except (OSError, ValueError):
        return None
    if not inside or (fixed and revision not in ("", fixed)):
        return None
    revision = revision or fixed
    return f"{real}@{revision}" if revision else str(real)


def analyze_callstack(roots: Roots, message: str, kernel_src: str | None) -> CallstackAnalysis:
    """Normalise the traces of `message` and fetch the source of their functions.

    Raises:
        KagentError: the tree that is asked for is not allowed or cannot be read.
    """
    from kagent.klog import parse_log, reformat

    log = parse_log(message)
    primary = log.reports[log.primary] if log.primary is not None else None
    frames = list(_frames(log, message))
    names = list(dict.fromkeys(frame.symbol for _, frame in frames if frame.reliable))
    notes = [] if primary else ["no kernel report was recognised; frames were read line by line"]
    sources: list[SourceText] = []
    cut = False
    if kernel_src is None and not roots.has_source:
        notes.append("this server has no kernel source: start it with --kernel-src PATH")
    else:
        tree = roots.source(kernel_src, primary.context.kernel if primary else None)
        notes.append(f"source: {tree.note}")
        sources, cut = _definitions(tree, names[:_MAX_FUNCTIONS])
    known = {source.name for source in sources}
    trace, clipped = clip(strip_control(reformat(message)), _MAX_TRACE)
    return CallstackAnalysis(
        reports=[report.title for report in log.reports],
        primary=primary.title if primary else None,
        faulting_function=_faulting(primary, frames),
        reformatted=trace,
        frames=[_entry(role, frame) for role, frame in frames[:_MAX_FRAMES]],
        functions=sources,
        not_found=[name for name in names if name not in known],
        notes=notes,
        truncated=cut or clipped or len(frames) > _MAX_FRAMES or len(names) > _MAX_FUNCTIONS,
    )


def _definitions(tree: SourceTree, names: list[str]) -> tuple[list[SourceText], bool]:
    """The best definition of each name, and whether anything was cut."""
    found = tree.lookup(names)
    best = [_source(found[name][0], name) for name in names if found.get(name)]
    kept, cut = _bounded(best)
    return kept, cut or tree.truncated


def _frames(log: KernelLog, message: str) -> Iterable[tuple[str, Frame]]:
    """The frames of all reports, the primary one's first; bare stack lines where none is."""
    if log.primary is not None:
        order = [log.primary, *(i for i in range(len(log.reports)) if i != log.primary)]
        for index in order:
            yield from log.reports[index].all_frames()
        return
    from kagent.klog.frames import parse_frame, parse_pc
    from kagent.klog.lines import split_lines

    for line in split_lines(message.encode("utf-8", "replace")):
        if pc := parse_pc(line):
            yield "call", pc
        for frame in parse_frame(line):
            yield "call", frame


def _faulting(report: Report | None, frames: list[tuple[str, Frame]]) -> str | None:
    if report and (report.pc or report.frame):
        return report.pc.symbol if report.pc else report.frame
    return next((frame.symbol for _, frame in frames if frame.reliable), None)


def _entry(role: str, frame: Frame) -> StackEntry:
    return StackEntry(
        trace=role,
        symbol=frame.symbol,
        offset=frame.offset,
        size=frame.size,
        module=frame.module,
        reliable=frame.reliable,
    )


def _source(excerpt: Excerpt, name: str | None = None) -> SourceText:
    text, cut = clip(excerpt.text, _MAX_SOURCE)
    return SourceText(
        name=name,
        path=excerpt.path,
        start=excerpt.start,
        end=excerpt.end,
        revision=excerpt.revision,
        text=text,
        truncated=cut or excerpt.truncated,
    )


def _bounded(sources: list[SourceText]) -> tuple[list[SourceText], bool]:
    """As many as fit into one answer, and whether any text was cut or left out."""
    kept: list[SourceText] = []
    size = 0
    for source in sources:
        size += len(source.text)
        if size > _MAX_ALL_SOURCES:
            return kept, True
        kept.append(source)
    return kept, any(source.truncated for source in kept)


def find_source(
    roots: Roots,
    function: str | None,
    path: str | None,
    lines: tuple[int, int] | None,
    kernel_src: str | None,
) -> SourceLookup:
    """Every definition of `function`, or lines of `path`.

    Raises:
        InputError: neither or both are asked for, or the path leaves the tree.
    """
    if (function is None) == (path is None):
        raise InputError("give either a function, or a path with start and end")
    tree = roots.source(kernel_src)
    if function is not None:
        found = [_source(item, function) for item in tree.lookup([function]).get(function, [])]
    else:
        start, end = lines or (1, MAX_LINES)
        last = min(end, start + MAX_LINES - 1)
        excerpt = _source(tree.read_lines(str(path), start, last))
        found = [excerpt.model_copy(update={"truncated": excerpt.truncated or last < end})]
    results, cut = _bounded(found)
    return SourceLookup(results=results, truncated=cut)


def find_commits(roots: Roots, question: str, index: str | None, k: int) -> CommitMatches:
    """The `k` commits that answer `question` best."""
    matches = []
    for hit in roots.index(index).search(question, k):
        message, cut_message = clip(hit.message, _MAX_MESSAGE)
        diff, cut_diff = clip(hit.diff, _MAX_DIFF)
        matches.append(
            CommitMatch(
                hash=hit.hash,
                subject=hit.subject,
                author=hit.author,
                date=hit.date,
                confidence=hit.confidence,
                why=list(hit.why),
                message=message,
                diff=diff,
                truncated=cut_message or cut_diff,
            )
        )
    return CommitMatches(commits=matches)
