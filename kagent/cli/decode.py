"""``kagent decode``: the log as it was, with the source line behind every frame."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kagent.boundary import attempt, collecting
from kagent.cli.files import check_output, write_file
from kagent.cli.output import emit_bytes, say, say_incomplete
from kagent.cli.reading import DEFAULT_MAX_BYTES, byte_size, read_log_bytes
from kagent.errors import (
    EXIT_CODES,
    ExitCode,
    IncompleteError,
    InputError,
    KagentError,
    MissingDataError,
)
from kagent.sources import check_names, is_true, listed, lookup
from kagent.text import strip_control

if TYPE_CHECKING:
    from kagent.klog.frame_model import Frame
    from kagent.source import SourceTree
    from kagent.symbols import Location, Symbolized, Symbolizer
    from kagent.symbols.annotate import Decoding

__all__ = ["run"]

_MAX_CONTEXT = 100
_REASONS = 5
_ANNOTATION, _MARKED, _DIM, _END = "\x1b[36m", "\x1b[1;31m", "\x1b[2m", "\x1b[0m"


def _arguments() -> argparse.ArgumentParser:
    """The command line. Its own, as Typer alone takes longer to load than a trace to decode."""
    parser = argparse.ArgumentParser(
        prog="kagent decode",
        description="Write the source line behind every frame of a log; all else stays byte for "
        "byte. Innermost function first: `at fanctl.c:12 in lookup, inlined at fanctl.c:23`. Lines "
        "of source begin with a bar. How many frames were decoded, and why others were not, goes "
        "to standard error. On a terminal, escapes in the log itself are not passed on.",
        epilog="example: kagent decode case/console.log --modules case/modules; exit codes: "
        + ", ".join(f"{code:d} {meaning}" for code, meaning in EXIT_CODES.items()),
        allow_abbrev=False,
    )
    add = parser.add_argument
    mismatch = is_true(lookup("allow_mismatch"))
    add("log", nargs="?", default="-", metavar="FILE", help="the log; - or nothing reads stdin")
    add("--vmlinux", type=Path, metavar="FILE", default=_path("vmlinux"),
        help="vmlinux with debug info [$KAGENT_VMLINUX]")  # fmt: skip
    add("--modules", type=Path, metavar="DIR", default=_path("modules"),
        help="where .ko files are [$KAGENT_MODULES]")  # fmt: skip
    add("--kernel-src", metavar="PATH[@REV]", default=lookup("kernel_src"),
        help="kernel source: a tree, or a git repository at a revision "
        "[$KAGENT_KERNEL_SRC]")  # fmt: skip
    add("--source-map", metavar="OLD=NEW", action="append", default=None,
        help="sources that debug info names below OLD are below NEW; may be repeated "
        "[$KAGENT_SOURCE_MAP]")  # fmt: skip
    add("--source", type=int, metavar="N", default=0,
        help=f"show N lines of source (at most {_MAX_CONTEXT}) around the trap, or the frame "
        "that a report without one is about")  # fmt: skip
    add("--allow-mismatch", action="store_true", default=mismatch,
        help="use debug info of another build; lines become approximate")  # fmt: skip
    add("--color", choices=("auto", "always", "never"), default="auto",
        help="colours, and links to files of a plain tree")  # fmt: skip
    add("--strict", action="store_true",
        help=f"exit with {ExitCode.INCOMPLETE:d} when a part of the decoding failed")  # fmt: skip
    add("-o", "--output", type=Path, metavar="FILE", help="write there")
    add("--max-log-bytes", type=byte_size, metavar="SIZE",
        default=str(lookup("max_log_bytes") or DEFAULT_MAX_BYTES),
        help="refuse larger logs (64M) [$KAGENT_MAX_LOG_BYTES]")  # fmt: skip
    return parser


def _path(name: str) -> Path | None:
    value = lookup(name)
    return Path(value) if value else None


def run(arguments: Sequence[str]) -> None:
    """Decode as the command line says.

    Raises:
        KagentError: for what the user can mend, or what is missing.
        SystemExit: the command line itself is wrong, or asks for help.
    """
    given = _arguments().parse_args(arguments)
    check_names()
    if not 0 <= given.source <= _MAX_CONTEXT:
        raise InputError(f"--source {given.source} is not within 0 and {_MAX_CONTEXT}")
    if given.vmlinux is not None and not given.vmlinux.is_file():
        raise InputError(f"--vmlinux {given.vmlinux} is not a file")
    if given.modules is not None and not given.modules.exists():
        raise InputError(f"--modules {given.modules} does not exist")
    _decode(given)


def _decode(given: argparse.Namespace) -> None:
    output: Path | None = given.output
    check_output(output)
    data = read_log_bytes(given.log, max_bytes=given.max_log_bytes)
    release, build_id = _kernel(data, given.vmlinux)
    terminal = output is None and sys.stdout.isatty()
    view = _View(
        _trees(given, release),
        given.source,
        _colored(given.color, terminal),
        _blamed(data) if given.source else frozenset(),
    )
    from kagent.cli.debug_info import debug_files
    from kagent.symbols import Symbolizer

    with (
        collecting() as failures,
        Symbolizer.open(
            given.vmlinux,
            given.modules,
            release=release,
            build_id=build_id,
            allow_mismatch=given.allow_mismatch,
            files=debug_files(),
        ) as symbolizer,
    ):
        _require_files(symbolizer, release)
        decoding = _annotated(data, symbolizer, view)
        mismatches = symbolizer.mismatches
    incomplete = say_incomplete(failures)
    _write(decoding.apply(data, _safe if terminal else None), output)
    for line in _closing(decoding, mismatches if decoding.approximate else ()):
        say(line)
    if incomplete and given.strict:
        raise IncompleteError("the log is not decoded as far as --strict asks")


def _annotated(data: bytes, symbolizer: Symbolizer, view: _View) -> Decoding:
    """Every frame decoded; without sources where those cannot be read, or as the log is."""
    from kagent.decoding import symbolize_frames
    from kagent.symbols.annotate import Decoding, annotate

    def decoded(**look: Any) -> Decoding:
        return annotate(data, symbolizer, symbolize=symbolize_frames, **look)

    return attempt(
        "source view",
        lambda: decoded(position=view.position, style=view.style, below=view.below),
        lambda: attempt("decode", decoded, Decoding, passing=(KagentError,)),
        passing=(KagentError,),
    )


def _kernel(data: bytes, vmlinux: Path | None) -> tuple[str | None, str | None]:
    """Release and build-id of the kernel to decode: the one that vmlinux is of, or else the one
    whose report comes first in importance.
    """
    from kagent.klog.release import stated_kernels

    stated = stated_kernels(data)
    releases = tuple(dict.fromkeys(kernel.release for kernel in stated))
    release = next(iter(releases), None)
    if len(releases) > 1:
        release = _vmlinux_release(vmlinux, releases) or _primary_release(data)
    build_ids = (kernel.build_id for kernel in stated if kernel.release == release)
    return release, next(filter(None, build_ids), None)


def _vmlinux_release(vmlinux: Path | None, among: Sequence[str]) -> str | None:
    if vmlinux is None:
        return None
    from kagent.symbols.objects import open_object

    release = open_object(vmlinux).image.release
    return release if release in among else None


def _primary_release(data: bytes) -> str | None:
    from kagent.klog import parse_log

    found = parse_log(data)
    ranked = sorted(range(len(found.reports)), key=lambda i: i != found.primary)
    kernels = (found.reports[i].context.kernel for i in ranked)
    return next(filter(None, kernels), None)


def _require_files(symbolizer: Symbolizer, release: str | None) -> None:
    if symbolizer.has_files:
        return
    problem = "".join(f"; {note}" for note in symbolizer.notes)
    raise MissingDataError(
        "no debug info was given, and none is installed for kernel "
        f"{release or '(unknown)'}{problem}",
        hint="give --vmlinux FILE and, for modules, --modules DIR",
    )


def _trees(given: argparse.Namespace, release: str | None) -> list[SourceTree]:
    """Where sources are: as mapped, the kernel's tree, and what lies beside the modules."""
    maps = given.source_map or listed(lookup("source_map"))
    if given.kernel_src is None and not maps and not given.source:
        return []
    from kagent.source import SourceTree

    trees = [SourceTree.mapped(mapping) for mapping in maps]
    if given.kernel_src is not None:
        trees.append(_kernel_tree(given.kernel_src, release))
    modules: Path | None = given.modules
    if modules is not None:
        trees.append(SourceTree.open(modules if modules.is_dir() else modules.parent))
    if not trees:
        raise InputError(
            "--source needs sources", hint="give --kernel-src PATH, --source-map or --modules DIR"
        )
    return trees


def _kernel_tree(spec: str, release: str | None) -> SourceTree:
    """A repository without a revision is read at the tag of the crashed kernel, if it has one."""
    from kagent.source import SourceTree

    if release and Path(spec).is_dir():
        try:
            return SourceTree.for_release(spec, release)
        except MissingDataError as error:
            say(f"kagent: {error}; the files as they are were used instead")
    return SourceTree.open(spec)


_Key = tuple[str, str | None, int | None]


def _key(frame: Frame) -> _Key:
    return frame.symbol, frame.module, frame.offset


def _blamed(data: bytes) -> frozenset[_Key]:
    """Of each report without a trapping instruction, the frame that its title is about, or else
    the first that does more than report.
    """
    from kagent.klog import parse_log
    from kagent.klog.blameless import blameless

    reporting = blameless()
    found: set[_Key] = set()
    for report in parse_log(data).reports:
        frames = [frame for _, frame in report.all_frames() if frame.reliable]
        about = [f for f in frames if f.symbol == report.frame]
        about += [f for f in frames if not reporting.search(f.symbol)]
        if report.pc is None and about:
            found.add(_key(about[0]))
    return frozenset(found)


def _colored(color: str, terminal: bool) -> bool:
    if color != "auto":
        return color == "always"
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@dataclass(slots=True)
class _View:
    """How locations look."""

    trees: Sequence[SourceTree]
    context: int
    colored: bool
    blamed: frozenset[_Key] = frozenset()
    """Frames to show the source of, beside trapping instructions."""
    _places: dict[str, tuple[SourceTree, str] | None] = field(default_factory=dict)
    _shown: set[_Key] = field(default_factory=set)

    def _place(self, file: str) -> tuple[SourceTree, str] | None:
        """The tree that has a file as DWARF names it, and its name there."""
        if file not in self._places:
            named = ((tree, tree.resolve(file)) for tree in self.trees)
            self._places[file] = next(((tree, path) for tree, path in named if path), None)
        return self._places[file]

    def position(self, at: Location) -> str:
        """``path:line``, a link where the file can be opened."""
        place = self._place(at.file)
        path = place[1] if place else at.file
        text = " ".join(strip_control(f"{path}:{at.line}").split())
        if not self.colored or place is None or place[0].revision is not None:
            return text
        target = (place[0].root / place[1]).resolve().as_uri()
        return f"\x1b]8;;{target}\x1b\\{text}\x1b]8;;\x1b\\"

    def style(self, text: str) -> str:
        """An annotation as it goes behind a line."""
        return f"{_ANNOTATION}{text}{_END}" if self.colored else text

    def below(self, found: Symbolized) -> Iterator[str]:
        """Source around what a report is about, the first time that it is printed."""
        key = _key(found.frame)
        wanted = found.frame.exact or key in self.blamed
        if not self.context or not wanted or key in self._shown:
            return
        self._shown.add(key)
        for at in found.chain:
            if place := self._place(at.file):
                yield from self._excerpt(*place, at)
                return

    def _excerpt(self, tree: SourceTree, path: str, at: Location) -> Iterator[str]:
        first = max(1, at.line - self.context)
        try:
            excerpt = tree.read_lines(path, first, at.line + self.context)
        except InputError:
            return  # the file is shorter: it is not the one that was compiled
        heading = f"{excerpt.origin} in {at.function}"
        yield self._painted(" ".join(strip_control(heading).split()), _DIM)
        for row in excerpt.numbered(at.line).split("\n"):
            text = strip_control(row).expandtabs(8)
            yield self._painted(text, _MARKED if row.startswith(">") else "")

    def _painted(self, text: str, paint: str) -> str:
        return f"{paint}{text}{_END}" if self.colored and paint else text


def _safe(data: bytes) -> bytes:
    return strip_control(data.decode("utf-8", "replace")).encode("utf-8", "replace")


def _write(data: bytes, output: Path | None) -> None:
    if output is None:
        emit_bytes(data)
        return
    write_file(output, data)


def _closing(decoding: Decoding, mismatches: Sequence[str]) -> Iterator[str]:
    """What came of it, for standard error."""
    if not decoding.frames:
        yield "kagent: the log has no frames that could be decoded"
        return
    yield f"kagent: {decoding.decoded} of {decoding.frames} frames decoded"
    common = decoding.reasons.most_common(_REASONS)
    for reason, count in common:
        yield f"  {count} not: {' '.join(reason.split())}"
    if (rest := decoding.reasons.total() - sum(count for _, count in common)) > 0:
        yield f"  {rest} not, for other reasons"
    if decoding.approximate:
        yield f"  {decoding.approximate} approximate"
    for mismatch in mismatches[:_REASONS]:
        yield f"  {' '.join(mismatch.split())}"
