"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagent.cli.reading import byte_size
from kagent.errors import InputError

if TYPE_CHECKING:
    from kagent.settings import Settings

__all__ = [
    "AllowMismatch",
    "KernelSrc",
    "Log",
    "MaxLogBytes",
    "Modules",
    "SourceMap",
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
AllowMismatch = Annotated[
    bool | None,
    typer.Option(
        "--allow-mismatch",
        envvar="KAGENT_ALLOW_MISMATCH",
        help="Use debug info of another build; lines become approximate.",
        **_DATA,
    ),
]


def make_settings(**flags: Any) -> Settings:
    """`Settings` from the environment, overridden by every flag that was given.

    Raises:
        InputError: a value is out of its range or of the wrong type.
    """
    from pydantic import ValidationError

    from kagent.settings import Settings

    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise InputError(
            f"setting {name}: {first['msg']}",
            hint=f"check the option or the variable KAGENT_{name.upper()}",
        ) from error
