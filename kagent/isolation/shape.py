"""Checks that decoded JSON has the shape of a type, and makes it one.

Strict: an integer is no truth value and no text, a dataclass has all of its fields and no others.
It knows the few kinds of types that answers are made of, and needs no time to load; decoding a
trace takes less than importing a library for this would.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

__all__ = ["Word", "checker"]

Word = Annotated[int, range(1 << 64)]
"""An address, a size."""

_Check = Callable[[Any], Any]


@cache
def checker(kind: Any) -> _Check:
    """What turns a value into a `kind`, or raises `ValueError`.

    `kind` is None, bool, int, str, a list, a tuple, a dataclass, ``Annotated[int, range]`` or a
    union of such.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind in (None, NoneType, bool, int, str):
        return _plain(NoneType if kind is None else kind)
    if origin is Annotated:
        return _within(parts[1])
    if origin in (Union, UnionType):
        return _either([checker(part) for part in parts])
    if origin is list or (origin is tuple and parts[1:] == (...,)):
        return _many(origin, checker(parts[0]))
    if origin is tuple:
        return _row([checker(part) for part in parts])
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind, include_extras=True)
        return _record(kind, {f.name: checker(hints[f.name]) for f in dataclasses.fields(kind)})
    raise TypeError(f"answers cannot be of type {kind}")


def _plain(kind: type) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"no {kind.__name__}")
        return value

    return check


def _within(bounds: range) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not int or value not in bounds:
            raise ValueError("a number out of range")
        return value

    return check


def _either(checks: list[_Check]) -> _Check:
    def check(value: Any) -> Any:
        for one in checks:
            try:
                return one(value)
            except ValueError:
                continue
        raise ValueError("none of the types")

    return check


def _many(container: Any, item: _Check) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not list:
            raise ValueError("no list")
        return container([item(one) for one in value])

    return check


def _row(checks: list[_Check]) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError("no such row")
        return tuple([one(part) for one, part in zip(checks, value, strict=True)])

    return check


def _record(kind: Any, checks: dict[str, _Check]) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not dict or value.keys() != checks.keys():
            raise ValueError(f"no {kind.__name__}")
        return kind(**{name: one(value[name]) for name, one in checks.items()})

    return check
