"""``kagent analyze``: a log in, the Error Resolution Summary out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kagent.cli.files import check_output
from kagent.cli.options import (
    AllowMismatch,
    EnvFile,
    KernelSrc,
    Log,
    MaxLogBytes,
    Modules,
    Offline,
    SourceMap,
    Strict,
    Vmlinux,
    make_settings,
)
from kagent.cli.output import pick_format, write_resolution
from kagent.cli.reading import DEFAULT_MAX_BYTES, read_log
from kagent.errors import InputError

__all__ = ["Progress", "analyze", "progress"]

Progress = Callable[[str, str], None]
"""Called with a node's name and what it does."""


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress | None]:
    """A status line on standard error for as long as the block runs; None without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.text import Text

    from kagent.text import strip_control

    with Console(stderr=True).status(Text("starting")) as status:

        def show(node: str, detail: str) -> None:
            words = f"{node.replace('_', ' ')}: {detail}" if detail else node.replace("_", " ")
            status.update(Text(" ".join(strip_control(words).split()), overflow="ellipsis"))

        yield show


def analyze(
    log: Log = "-",
    vmlinux: Vmlinux = None,
    modules: Modules = None,
    kernel_src: KernelSrc = None,
    source_map: SourceMap = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Commit index to search for fixes; several are searched as one.",
            rich_help_panel="Data",
        ),
    ] = None,
    allow_mismatch: AllowMismatch = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Chat model; none: expert rules alone.", rich_help_panel="Model"
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="OpenAI-compatible endpoint; its key is read from KAGENT_API_KEY.",
            rich_help_panel="Model",
        ),
    ] = None,
    restore: Annotated[
        bool | None,
        typer.Option(
            "--restore",
            help="Let the model repair a damaged log; the damaged lines go to its endpoint.",
            rich_help_panel="Model",
        ),
    ] = None,
    offline: Offline = None,
    env_file: EnvFile = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON (kagent/1).", rich_help_panel="Output")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown.", rich_help_panel="Output")
    ] = False,
    html: Annotated[
        bool, typer.Option("--html", help="Print a self-contained page.", rich_help_panel="Output")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write there; .json, .md and .html choose the format.",
            rich_help_panel="Output",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Show no progress.", rich_help_panel="Output")
    ] = False,
    strict: Strict = False,
    max_log_bytes: MaxLogBytes = DEFAULT_MAX_BYTES,
) -> None:
    """Explain a kernel log: what crashed, where, why, and which commit fixes it."""
    form = pick_format(json=json, markdown=markdown, html=html, output=output)
    check_output(output)
    settings = make_settings(
        vmlinux=vmlinux,
        modules=modules,
        kernel_src=kernel_src,
        source_map=source_map or None,
        index=index or None,
        allow_mismatch=allow_mismatch,
        model=model,
        base_url=base_url,
        restore=restore,
        offline=offline,
        env_file=env_file,
        max_log_bytes=max_log_bytes if max_log_bytes != DEFAULT_MAX_BYTES else None,
    )
    if restore and not settings.model:
        raise InputError("--restore needs a model that restores", hint="name one: --model NAME")
    text = read_log(log, max_bytes=settings.max_log_bytes)
    with progress(quiet=quiet) as show:
        from kagent.agents.api import analyze as run

        resolution = run(text, settings=settings, progress=show)
    write_resolution(resolution, form, output, strict=strict, model=settings.model)
