"""``kagent source``: questions to the kernel's source, at the version that crashed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagent.boundary import attempt, collecting, nothing
from kagent.cli.options import AllowMismatch, KernelSrc, Modules, SourceMap, Vmlinux
from kagent.cli.output import emit
from kagent.errors import CorruptDataError, InputError, KagentError
from kagent.isolation import isolated
from kagent.sources import is_true, listed, lookup

if TYPE_CHECKING:
    from kagent.source import SourceTree
    from kagent.source.answers import Answer
    from kagent.source.tools import SourceTools
    from kagent.symbols import Symbolizer

__all__ = ["SCHEMA", "app"]

SCHEMA = "kagent-source/1"
"""Version of ``--json``: within it, keys are only added."""

_MAX_TEXT = 200_000
_AROUND = 10
_READS = ("kernel_src", "vmlinux", "modules", "source_map", "allow_mismatch")
"""Settings that are options here."""
_LAST = 1 << 30
_PLACE = re.compile(r"(?P<path>.+?)(?::(?P<start>\d{1,9})(?:-(?P<end>\d{1,9}))?)?\Z", re.DOTALL)

app = typer.Typer(
    help="Ask the kernel's source, at the version that crashed: functions, types, callers, paths.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Function = Annotated[
    str, typer.Argument(metavar="FUNCTION", help="A name, or a frame: 'vfs_write+0x2a3/0x550'.")
]
TypeName = Annotated[
    str, typer.Argument(metavar="TYPE", help="'struct file', 'enum x', atomic_t, or a bare tag.")
]
Place = Annotated[
    str, typer.Argument(metavar="FILE[:LINE[-END]]", help="Relative to the tree: mm/rmap.c:100.")
]
Offset = Annotated[int, typer.Option(min=0, help="Item to begin with.")]
Limit = Annotated[int, typer.Option(min=1, max=200, help="How many items.")]


def _where(
    kernel_src: KernelSrc = None,
    rev: Annotated[
        str | None, typer.Option(metavar="REV", help="Read this tag or commit of the repository.")
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(metavar="REL", help="Read the tag of this kernel, as `uname -r` names it."),
    ] = None,
    modules: Modules = None,
    source_map: SourceMap = None,
) -> list[SourceTree]:
    """The trees that the options every command has in common ask for."""
    from kagent.source import SourceTree

    if rev and release:
        raise typer.BadParameter("choose one of --rev and --release")
    if (rev or release) and not kernel_src:
        raise InputError("--rev and --release choose a version of --kernel-src, which is missing")
    trees = [SourceTree.mapped(mapping) for mapping in source_map or ()]
    if kernel_src:
        spec = f"{kernel_src}@{rev}" if rev else kernel_src
        trees.append(SourceTree.for_crash(spec, release, exact=True))
    if modules:
        trees.append(SourceTree.open(modules))
    return trees


def _types(
    vmlinux: Vmlinux = None, allow_mismatch: AllowMismatch = None
) -> Callable[[Path | None, str | None], Symbolizer | None]:
    """Debug info, once the modules' directory and the release are known.

    Without --vmlinux that of the release is taken, if it is installed.
    """
    from kagent.cli.debug_info import debug_files
    from kagent.symbols import Symbolizer

    def opened(modules: Path | None, release: str | None) -> Symbolizer | None:
        files = debug_files() if release else None
        symbolizer = Symbolizer.open(
            vmlinux, modules, release=release, allow_mismatch=bool(allow_mismatch), files=files
        )
        return symbolizer if symbolizer.has_files else None

    return opened


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    # What only type checkers import here is named in no option.
    unknown = dict.fromkeys(("Answer", "SourceTools", "SourceTree", "Symbolizer"), Any)
    found = inspect.signature(function, locals=unknown, eval_str=True).parameters
    return {name: one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, one in found.items()}


def _flag(name: str, text: str) -> inspect.Parameter:
    kind = Annotated[bool, typer.Option(f"--{name}", help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)


def _command(
    name: str, *examples: str, types: bool = False
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Make a command of a function whose first parameter are the `SourceTools`.

    It gets the options of `_where`, and with `types` those of `_types`, beside its own.
    """

    def register(ask: Callable[..., Answer]) -> Callable[..., Answer]:
        where, info = _parameters(_where), _parameters(_types) if types else {}
        own = {key: one for key, one in _parameters(ask).items() if key != "tools"}

        def command(json: bool = False, **given: Any) -> None:
            from kagent.source.tools import SourceTools

            _configured(given)
            trees = _where(**{key: given[key] for key in where})
            known = None
            with isolated(tuple(str(given.get(key)) for key in _READS)):
                if types:
                    opened = _types(**{key: given[key] for key in info})
                    known = opened(given["modules"], given["release"])
                tools = SourceTools(trees, known, max_text=_MAX_TEXT)
                answer = _answered(lambda: ask(tools, **{key: given[key] for key in own}))
            emit(_as_json(answer) if json else _as_text(answer))

        everything = [*own.values(), *where.values(), *info.values(), _flag("json", "Print JSON.")]
        command.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
        epilog = "\n\n".join(("[bold]Examples[/]", *examples))
        app.command(name, help=inspect.getdoc(ask), epilog=epilog)(command)
        return ask

    return register


def _configured(given: dict[str, Any]) -> None:
    """Fill in what the user's environment or file sets and no option does."""
    for name in _READS:
        if name in given and not given[name] and (value := lookup(name)):
            given[name] = value
    for name in ("vmlinux", "modules"):
        given[name] = Path(given[name]) if given.get(name) else None
    given["source_map"] = listed(given["source_map"])
    given["allow_mismatch"] = is_true(given.get("allow_mismatch"))


def _answered(ask: Callable[[], Answer]) -> Answer:
    """The answer; one line where a parser or library fails on what it was given to read.

    Raises:
        KagentError: the question cannot be answered.
    """
    with collecting() as failures:
        answer: Answer | None = attempt("source", ask, nothing, passing=(KagentError,))
    if answer is None:
        raise CorruptDataError(f"the source could not be read: {failures[0].error}")
    return answer


def _as_json(answer: Answer) -> str:
    import json

    return json.dumps({"schema": SCHEMA, **answer.model_dump()}, indent=2) + "\n"


def _as_text(answer: Answer) -> str:
    from kagent.source.wording import as_text
    from kagent.text import strip_control

    return strip_control(as_text(answer))


def _split(place: str, default: tuple[int, int] | None) -> tuple[str, int, int]:
    """Path, first and last line; `default` where only a path was given."""
    found = _PLACE.match(place)
    assert found is not None
    if found["start"] is None:
        if default is None:
            raise InputError(f"{place} has no line number", hint=f"give it as {place}:100")
        return found["path"], *default
    start = int(found["start"])
    return found["path"], start, int(found["end"] or start)


@_command(
    "function",
    "kagent source function tide_station_push --kernel-src case/tidelink",
    "kagent source function 'tide_frame_consume+0xa8/0x100' --kernel-src case/tidelink --rev HEAD",
)
def _function(
    tools: SourceTools,
    name: Function,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Only the definition in this file.")
    ] = None,
    offset: Offset = 0,
    limit: Limit = 10,
) -> Answer:
    """Print the definitions of a function, whatever macro spells it."""
    return tools.lookup_function(name, file=file, offset=offset, limit=limit)


@_command("lines", "kagent source lines tidelink.h:1-12 --kernel-src case/tidelink")
def _lines(tools: SourceTools, place: Place) -> Answer:
    """Print lines of a file: those named, those around one line, or from the top (400 at most)."""
    path, start, end = _split(place, (1, _LAST))
    if start == end:
        start, end = max(1, start - _AROUND), end + _AROUND
    return tools.read_lines(path, start, end)


@_command("type", "kagent source type 'struct tide_datum' --kernel-src case/tidelink")
def _type(tools: SourceTools, name: TypeName, offset: Offset = 0, limit: Limit = 10) -> Answer:
    """Print the definitions of a struct, union, enum or typedef."""
    return tools.find_type(name, offset=offset, limit=limit)


@_command(
    "struct",
    "kagent source struct 'struct tide_datum' --kernel-src case/tidelink",
    "kagent source struct tide_datum --modules case/modules --module tidelink",
    types=True,
)
def _struct(
    tools: SourceTools,
    name: TypeName,
    module: Annotated[
        str | None, typer.Option(metavar="NAME", help="Prefer this module's definition.")
    ] = None,
    offset: Offset = 0,
    limit: Limit = 200,
) -> Answer:
    """List the members of a type: offsets and sizes with debug info, else what the source says."""
    return tools.struct_layout(name, module=module, offset=offset, limit=limit)


@_command("callers", "kagent source callers tide_station_push --kernel-src case/tidelink")
def _callers(
    tools: SourceTools,
    name: Function,
    under: Annotated[
        str | None, typer.Option(metavar="DIR", help="Only below this folder of the tree.")
    ] = None,
    offset: Offset = 0,
    limit: Limit = 50,
) -> Answer:
    """List the places that call a function, then those that take its address."""
    return tools.find_callers(name, under=under, offset=offset, limit=limit)


@_command("callees", "kagent source callees tide_station_push --kernel-src case/tidelink")
def _callees(
    tools: SourceTools,
    name: Function,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="The definition in this file.")
    ] = None,
    offset: Offset = 0,
    limit: Limit = 100,
) -> Answer:
    """List the calls in the body of a function, in source order."""
    return tools.find_callees(name, file=file, offset=offset, limit=limit)


@_command(
    "path", "kagent source path tide_frame_consume tide_station_push --kernel-src case/tidelink"
)
def _path(
    tools: SourceTools,
    start: Annotated[str, typer.Argument(metavar="CALLER", help="The lower frame of a trace.")],
    end: Annotated[str, typer.Argument(metavar="CALLED", help="The frame printed above it.")],
) -> Answer:
    """Explain how one frame of a trace reaches the next: calls, inlines, macros, pointers."""
    return tools.call_path(start, end)


@_command("blame", "kagent source blame tidelink.h:10 --kernel-src case/tidelink")
def _blame(tools: SourceTools, place: Place) -> Answer:
    """Name the commit that last changed a line."""
    path, line, _ = _split(place, None)
    return tools.blame(path, line)


@_command("subsystem", "kagent source subsystem tidelink.h --kernel-src case/tidelink")
def _subsystem(tools: SourceTools, place: Place) -> Answer:
    """Name the subsystem, maintainers and lists of a file, by MAINTAINERS."""
    return tools.subsystem_of(_split(place, (1, 1))[0])
