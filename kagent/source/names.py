"""From the symbol a trace prints to the text that defines it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kagent.errors import InputError
from kagent.source.annotations import strip_suffixes

__all__ = [
    "asked_symbol",
    "asked_type",
    "definition_patterns",
    "is_syscall",
    "names_module",
    "source_names",
]

_FEW = 3
_MAX_NAME = 300
# A frame as a trace prints it: offset, size and module behind the symbol are of no use here.
_FRAME = re.compile(
    r"(?P<symbol>[\w.]+)(?:\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?)?(?: \[[\w -]+\])?\Z", re.ASCII
)
_TYPE = re.compile(r"(?:(?:struct|union|enum) )?[A-Za-z_]\w{0,255}\Z", re.ASCII)

_IDENTIFIER = re.compile(r"[A-Za-z_]\w{0,255}\Z", re.ASCII)
# arch/*/include/asm/syscall_wrapper.h and include/linux/syscalls.h: what SYSCALL_DEFINEx emits.
_SYSCALL = re.compile(
    r"(?:__(?:x64|ia32|arm64|arm|riscv|s390|s390x|powerpc|loongarch|se|do)_)?"
    r"(?:compat_)?sys_(?P<name>[a-z]\w{0,100})\Z",
    re.ASCII,
)


def source_names(symbol: str) -> tuple[str, ...]:
    """Names to look for, best first; empty for what is no C symbol (``0xffffffff...``).

    ``__x64_sys_write`` is spelled ``SYSCALL_DEFINE3(write, ...)``, hence the second name ``write``,
    which counts only inside such a macro.
    """
    name = strip_suffixes(symbol)
    if not _IDENTIFIER.match(name):
        return ()
    syscall = _SYSCALL.match(name)
    return (name, syscall["name"]) if syscall else (name,)


def is_syscall(symbol: str) -> bool:
    """Whether a symbol is one of those that ``SYSCALL_DEFINEx`` emits."""
    return len(source_names(symbol)) > 1


def definition_patterns(names: Iterable[tuple[str, ...]]) -> list[str]:
    """Expressions, for PCRE and GNU's POSIX dialect alike, that the first lines of the names'
    definitions match; what starts in another column than the first is none.

    For a few names the column is not asked for: PCRE finds bare words several times as fast.
    """
    spelled = [found for found in names if found]
    plain = sorted({found[0] for found in spelled})
    syscalls = "|".join(sorted({found[1] for found in spelled if len(found) > 1}))
    patterns = []
    if plain:
        column = "" if len(plain) <= _FEW else "^([A-Za-z_].*)?"
        patterns.append(rf"{column}\b({'|'.join(plain)})\b[[:space:]]*[(,)]")
    if syscalls:
        patterns.append(rf"^[A-Z_]*SYSCALL[A-Z_]*DEFINE[0-6]\(({syscalls})[,)]")
    return patterns


def asked_symbol(name: str) -> str:
    """The symbol of what somebody asks for: a function's name, or a frame copied from a trace.

    Raises:
        InputError: it cannot be either.
    """
    found = _FRAME.match(name.strip()) if len(name) <= _MAX_NAME else None
    if found is None or not source_names(found["symbol"]):
        raise InputError(
            f"{name[:80]!r} is not a function name", hint="give it as the trace prints it"
        )
    return found["symbol"]


def names_module(name: str) -> bool:
    """Whether a frame says that its function is a module's: ``push+0x1/0x2 [tidelink]``."""
    return " [" in name


def asked_type(name: str) -> str:
    """``struct foo``, ``union foo``, ``enum foo`` or a bare name, with single blanks.

    Raises:
        InputError: it is none of these.
    """
    spelled = " ".join(name[: _MAX_NAME + 1].split())
    if len(name) > _MAX_NAME or not _TYPE.match(spelled):
        raise InputError(
            f"{name[:80]!r} is not the name of a type",
            hint="give struct NAME, union NAME, enum NAME, or a typedef",
        )
    return spelled
