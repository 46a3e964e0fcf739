"""Options that several commands share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kagent.errors import InputError

if TYPE_CHECKING:
    from kagent.settings import Settings

__all__ = ["Log", "MaxLogBytes", "make_settings", "size"]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(text: str) -> int:
    """Bytes, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"([1-9]\d{0,15})([kmg]?)", str(text).strip().lower())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a size such as 200M")
    return int(match[1]) * _UNITS[match[2]]


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
