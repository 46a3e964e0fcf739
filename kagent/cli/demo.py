"""``kagent demo``: analyse a crash that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kagent.cli.analyze import progress
from kagent.cli.options import Strict
from kagent.cli.output import emit, pick_format, say, write_resolution

__all__ = ["demo"]


def demo(
    sample: Annotated[
        str, typer.Option(metavar="NAME", help="Which crash; --list names them.")
    ] = "tidelink",
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Unpack there and keep it; DIR must be new or empty."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON (kagent/1).")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Print a self-contained page.")] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Show neither progress nor the commands.")
    ] = False,
    strict: Strict = False,
    list_samples: Annotated[
        bool, typer.Option("--list", help="Name the samples and leave.")
    ] = False,
) -> None:
    """Analyse a bundled crash, offline, and show the commands that do the same by hand."""
    from kagent.demo.runner import SAMPLES, run

    if list_samples:
        emit("".join(f"{one.name:<16} {one.about}\n" for one in SAMPLES.values()))
        return
    form = pick_format(json=json, markdown=markdown, html=html, output=None)
    with progress(quiet=quiet) as show:
        resolution = run(sample, keep=keep, say=None if quiet else say, progress=show)
    write_resolution(resolution, form, None, strict=strict)
