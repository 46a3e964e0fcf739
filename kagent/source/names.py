"""From the symbol a trace prints to the text that defines it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kagent.source.annotations import strip_suffixes

__all__ = ["definition_patterns", "source_names"]

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


def definition_patterns(names: Iterable[tuple[str, ...]]) -> list[str]:
    """Expressions, for PCRE and POSIX alike, that first lines of the names' definitions match.

    Definitions start in the first column; calls are indented, and macros start with ``#``.
    """
    spelled = [found for found in names if found]
    plain = "|".join(sorted({found[0] for found in spelled}))
    syscalls = "|".join(sorted({found[1] for found in spelled if len(found) > 1}))
    patterns = []
    if plain:
        patterns.append(rf"^([A-Za-z_].*[^A-Za-z0-9_])?({plain})[[:space:]]*\(")
        patterns.append(rf"^[A-Z][A-Z0-9_]*\([[:space:]]*({plain})[[:space:]]*[,)]")
    if syscalls:
        patterns.append(rf"^[A-Z_]*SYSCALL[A-Z_]*DEFINE[0-6]\(({syscalls})[,)]")
    return patterns
