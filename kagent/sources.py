"""Where settings come from, and in which order they count.

A source is as strong as the user's say in it: the call or command line, then the environment,
then a file named with ``--env-file``, then the user's own configuration file. The working
directory is no source: whoever packs a tarball decides what lies there.

This module knows names and files only; what a setting means is `kagent.settings`' business. It
imports nothing heavy, so that commands without a graph can ask it for single values.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO

from kagent.errors import InputError

__all__ = [
    "ALSO",
    "NAMES",
    "Layer",
    "Setting",
    "Source",
    "check_names",
    "config_file",
    "is_true",
    "listed",
    "lookup",
    "read_layers",
    "unknown",
]

PREFIX = "KAGENT_"
ALSO = {
    "api_key": "OPENAI_API_KEY",
    "base_url": "OPENAI_BASE_URL",
    "debuginfod_urls": "DEBUGINFOD_URLS",
}
"""Variables of other programs that mean the same; ``KAGENT_*`` beside them wins."""

NAMES = frozenset(
    {
        *("allow_mismatch", "api_key", "base_url", "debug_dir", "debuginfod_urls", "env_file"),
        *("fixes", "hub", "index", "kernel_src", "max_log_bytes", "max_model_calls"),
        *("max_model_tokens", "max_task_agents", "model", "model_retries", "model_timeout"),
        *("models", "modules", "offline", "restore", "source_map", "tracing", "vmlinux"),
    }
)
"""Every setting: the fields of `kagent.settings.Settings`, known without loading it."""

_OF_THE_TESTS = ("KAGENT_TEST_", "KAGENT_FUZZ_")
_ONLY_GIVEN_OR_EXPORTED = "env_file"
_PATHS = frozenset({"vmlinux", "modules", "kernel_src", "debug_dir", "index", "source_map"})
_MAX_FILE = 1 << 20


class Source(IntEnum):
    """Who set a value; a greater one is stronger."""

    DEFAULT = 0
    FILE = 1
    ENV_FILE = 2
    ENVIRONMENT = 3
    GIVEN = 4


@dataclass(frozen=True)
class Setting:
    """A value as it was written, where, and under which name."""

    value: Any
    source: Source
    name: str

    @property
    def family(self) -> str:
        """``KAGENT`` or ``OPENAI``: names that a user sets together share it."""
        return self.name.partition("_")[0] if self.name.isupper() else PREFIX.rstrip("_")


@dataclass(frozen=True)
class Layer:
    """What one source sets: for each setting the names it was given under, the chosen one first."""

    source: Source
    settings: Mapping[str, tuple[Setting, ...]]


def unknown(name: str, known: Collection[str], what: str) -> InputError:
    """The error for a name that no setting has."""
    # The prefix, which all have, would make any two variables look alike.
    bare = {one.removeprefix(PREFIX): one for one in known}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), list(bare), n=1)
    hint = f"the settings are: {', '.join(sorted(known))}"
    if near:
        hint = f"did you mean {bare[near[0]]}?"
    return InputError(f"unknown {what}: {name}", hint=hint)


def read_layers(known: Collection[str], *, env_file: Path | None = None) -> list[Layer]:
    """Environment, `env_file` and configuration file, the strongest first.

    Raises:
        InputError: a file cannot be read or is open to others, or a name is unknown.
    """
    return list(_layers(known, env_file))


def _layers(
    known: Collection[str], env_file: Path | None = None, *, strict: bool = True
) -> Iterator[Layer]:
    yield _variables(os.environ, Source.ENVIRONMENT, known, strict=strict)
    named = os.environ.get(PREFIX + _ONLY_GIVEN_OR_EXPORTED.upper())
    if env_file is not None or named:
        yield _env_file(env_file or Path(named or ""), known, strict=strict)
    if (path := config_file()) is not None:
        yield _config(path, known, strict=strict)


def check_names() -> None:
    """So that no command goes on without what was meant by a misspelt name.

    Raises:
        InputError: as for `read_layers`.
    """
    read_layers(NAMES)


def lookup(name: str) -> Any:
    """The raw value of one setting, of the strongest source; None where nobody sets it."""
    found = (layer.settings.get(name) for layer in _layers({name}, strict=False))
    setting = next(filter(None, found), None)
    return setting[0].value or None if setting else None


def listed(value: Any) -> list[str]:
    """A raw value as a list: one of a file, or what a variable has between commas."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value or []


def is_true(value: Any) -> bool:
    """Whether a raw value means yes, as in `Settings`."""
    return value is True or str(value).strip().lower() in {"1", "true", "t", "yes", "y", "on"}


def _variables(
    values: Mapping[str, str | None],
    source: Source,
    known: Collection[str],
    *,
    strict: bool = True,
    file: Path | None = None,
) -> Layer:
    names = {PREFIX + name.upper(): name for name in known}
    if strict:
        for variable in values:
            ours = variable.startswith(PREFIX) and not variable.startswith(_OF_THE_TESTS)
            if ours and variable not in names:
                raise unknown(variable, names, f"setting in {file}" if file else "setting")
    settings = {}
    for variable, name in names.items():
        written = [one for one in (variable, ALSO.get(name)) if one and values.get(one) is not None]
        if written:
            settings[name] = tuple(Setting(values[one], source, one) for one in written)
    return Layer(source, settings)


def _env_file(path: Path, known: Collection[str], *, strict: bool = True) -> Layer:
    from io import StringIO

    from dotenv.parser import parse_stream

    try:
        with path.open("rb") as file:
            lines = list(parse_stream(StringIO(_decoded(file))))
    except (OSError, ValueError) as error:
        raise InputError(f"--env-file {path}: {_reason(error)}") from error
    for line in lines:
        if line.error or (line.value is None and (line.key or "").startswith(PREFIX)):
            raise InputError(f"--env-file {path}: line {line.original.line} is not NAME=VALUE")
    values = {line.key: line.value for line in lines if line.key is not None}
    if PREFIX + _ONLY_GIVEN_OR_EXPORTED.upper() in values:
        raise InputError(f"--env-file {path} names another one")
    return _variables(values, Source.ENV_FILE, known, strict=strict, file=path)


def config_file() -> Path | None:
    """``kagent/config.toml`` in the user's own configuration directory, if it is there.

    The directory is that of the XDG base directory specification, by which a relative
    ``XDG_CONFIG_HOME`` does not count.
    """
    named = os.environ.get("XDG_CONFIG_HOME", "")
    home = os.environ.get("HOME", "")
    if Path(named).is_absolute():
        base = Path(named)
    elif Path(home).is_absolute():
        base = Path(home, ".config")
    else:
        return None
    path = base / "kagent" / "config.toml"
    return path if path.exists() else None


def _config(path: Path, known: Collection[str], *, strict: bool = True) -> Layer:
    import tomllib

    try:
        # Whatever may lie there, opening it does not wait for somebody to write.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise InputError(f"{path} is no regular file")
            _require_own(path, found)
            _require_own_way(path)
            values = tomllib.loads(_decoded(file))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {_reason(error)}") from error
    except RecursionError:
        raise InputError(f"{path}: it is nested too deeply") from None
    settings = {}
    for name, value in values.items():
        if name not in known or name == _ONLY_GIVEN_OR_EXPORTED:
            if strict:
                raise unknown(name, set(known) - {_ONLY_GIVEN_OR_EXPORTED}, f"setting in {path}")
            continue
        if name in _PATHS:
            value = _absolute(value, name, path)
        settings[name] = (Setting(value, Source.FILE, name),)
    return Layer(Source.FILE, settings)


def _decoded(file: BinaryIO) -> str:
    text = file.read(_MAX_FILE + 1)
    if len(text) > _MAX_FILE:
        raise ValueError(f"it is larger than {_MAX_FILE >> 20} MiB")
    return text.decode("utf-8")


def _require_own_way(path: Path) -> None:
    """No directory on the way to a file, or to what it links to, lets others put in another one.

    In a sticky one, as ``/tmp``, others cannot rename what is not theirs. Whoever owns what is
    above the user's home owns that, too.
    """
    above = Path(os.environ.get("HOME", "/")).resolve().parents
    for way in {*path.absolute().parents, *path.resolve().parents}.difference(above):
        found = way.stat()
        if not found.st_mode & stat.S_ISVTX:
            _require_own(way, found)


def _require_own(path: Path, found: os.stat_result) -> None:
    """As ssh asks of its files: the user's own or root's, and nobody else may write."""
    if found.st_uid not in (os.geteuid(), 0):
        raise InputError(f"{path} belongs to another user", hint=f"chown $USER {path}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(f"{path} can be written by others", hint=f"chmod go-w {path}")


def _absolute(value: Any, name: str, path: Path) -> Any:
    """Paths with ``~`` for the home directory; a relative one would depend on where one stands."""
    if isinstance(value, list):
        return [_absolute(one, name, path) for one in value]
    if not isinstance(value, str) or not value:
        return value
    old, equals, target = value.partition("=") if name == "source_map" else ("", "", value)
    target = os.path.expanduser(target)  # noqa: PTH111 - may be PATH@REV
    if not Path(target).is_absolute():
        raise InputError(f"{path}: {name} = {value!r} is not an absolute path")
    return old + equals + target


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return " ".join(str(error).split())[:200]
