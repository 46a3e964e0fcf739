"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagent.cli.reading import byte_size
from kagent.errors import ExitCode

if TYPE_CHECKING:
    from kagent.settings import Settings

__all__ = [
    "AllowMismatch",
    "EnvFile",
    "KernelSrc",
    "Log",
    "MaxLogBytes",
    "Modules",
    "Offline",
    "SourceMap",
    "Strict",
    "Vmlinux",
    "make_settings",
    "size",
]


def size(text: str) -> int:
    """Bytes, with K, M or G for powers of 1024."""
    try:
        return byte_size(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Log = Annotated[
    str, typer.Argument(metavar="[FILE|-]", help="The log; - or nothing reads standard input.")
]
MaxLogBytes = Annotated[
    int,
    typer.Option(
        metavar="SIZE",
        parser=size,
        envvar="KAGENT_MAX_LOG_BYTES",
        show_default="64M",
        help="Refuse larger logs.",
    ),
]
_DATA: dict[str, Any] = {"rich_help_panel": "Data"}
Vmlinux = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        envvar="KAGENT_VMLINUX",
        help="vmlinux with debug info.",
        **_DATA,
    ),
]
Modules = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", exists=True, envvar="KAGENT_MODULES", help="Where .ko files are.", **_DATA
    ),
]
KernelSrc = Annotated[
    str | None,
    typer.Option(
        metavar="PATH[@REV]",
        envvar="KAGENT_KERNEL_SRC",
        help="Kernel source: a tree, or a git repository at a revision.",
        **_DATA,
    ),
]
SourceMap = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OLD=NEW",
        help="Sources that debug info names below OLD are below NEW; may be repeated.",
        **_DATA,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help=f"Exit with {ExitCode.INCOMPLETE:d} when a part failed, or a model that was asked for "
        "did not speak.",
        rich_help_panel="Output",
    ),
]
AllowMismatch = Annotated[
    bool | None,
    typer.Option(
        "--allow-mismatch",
        envvar="KAGENT_ALLOW_MISMATCH",
        help="Use debug info of another build; lines become approximate.",
        **_DATA,
    ),
]


EnvFile = Annotated[
    Path | None,
    typer.Option(
        "--env-file",
        metavar="FILE",
        help="KAGENT_* lines, weaker than the environment. No .env is read unasked.",
    ),
]
Offline = Annotated[
    bool | None,
    typer.Option("--offline", help="Let nothing leave this machine, whatever else is set."),
]


def make_settings(**flags: Any) -> Settings:
    """`Settings` from what the user configured, overridden by every flag that was given.

    Raises:
        InputError: a name is unknown, or a value is out of its range or of the wrong type.
    """
    from kagent.settings import Settings

    return Settings(**{name: value for name, value in flags.items() if value is not None})
