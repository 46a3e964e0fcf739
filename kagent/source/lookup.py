"""Function definitions out of a file's text, whatever way the kernel spells them."""

from __future__ import annotations

import re

from kagent.source.c_source import CSource
from kagent.source.c_syntax import FunctionSpan
from kagent.source.model import rows
from kagent.source.names import source_names

__all__ = ["OUTSIDE_KERNEL", "definitions_in", "rank_path"]

OUTSIDE_KERNEL = 3
"""Rank of programs and documents that live in the tree but never in a kernel trace."""

# include/linux/linkage.h: SYM_FUNC_START(x) ... SYM_FUNC_END(x), SYM_CODE_START_LOCAL, ENTRY ...
_ASM_BEGIN = re.compile(r"\s*(?:SYM_\w*START\w*|ENTRY|WEAK|__?ENTRY)\((\w+)")
_ASM_END = re.compile(r"\s*(?:SYM_\w*END\w*|END|ENDPROC)\((\w+)")
_ASM_LABEL = re.compile(r"\s*SYM_INNER_LABEL\w*\((\w+)")
_MAX_ASM_LINES = 4000
_DRIVERS = ("drivers/", "sound/")
_FAR_ROOTS = ("tools/", "samples/", "Documentation/", "scripts/", "arch/um/", "lib/tests/")


def definitions_in(path: str, text: str, parsed: CSource | None, symbol: str) -> list[FunctionSpan]:
    """All definitions of `symbol` in one file; `parsed` is None for assembler."""
    names = source_names(symbol)
    if not names:
        return []
    if parsed is None:
        return _assembled(text, names[0]) if path.endswith(".S") else []
    found = [f for f in parsed.functions if f.name == names[0] and not _is_syscall(f)]
    if not found and len(names) > 1:
        compat = "compat_" in symbol
        found = [
            f
            for f in parsed.functions
            if f.name == names[1] and _is_syscall(f) and ("COMPAT" in (f.macro or "")) is compat
        ]
    return found


def rank_path(path: str) -> tuple[int, int, int, str]:
    """Generic code first, then x86, other architectures, and what is not the kernel last.

    Of generic code what every kernel has comes before drivers, of x86 64 bits before 32.
    """
    if path.startswith(_FAR_ROOTS):
        group = OUTSIDE_KERNEL
    elif path.startswith("arch/"):
        group = 1 if path.startswith("arch/x86/") else 2
    else:
        group = 0
    aside = path.startswith(_DRIVERS) or "_32." in path
    return group, int(path.endswith(".h")), int(aside), path


def _is_syscall(span: FunctionSpan) -> bool:
    return "SYSCALL" in (span.macro or "")


def _assembled(text: str, name: str) -> list[FunctionSpan]:
    """The routine that starts with, or has an inner label of, that name."""
    spans: list[FunctionSpan] = []
    begin: tuple[int, str] | None = None
    holds = False
    for number, line in enumerate(rows(text), 1):
        if found := _ASM_BEGIN.match(line):
            begin, holds = (number, found[1]), found[1] == name
        elif begin is None:
            continue
        elif found := _ASM_LABEL.match(line):
            holds = holds or found[1] == name
        elif (found := _ASM_END.match(line)) or number - begin[0] > _MAX_ASM_LINES:
            if holds and found:
                spans.append(FunctionSpan(name, begin[0], number))
            begin, holds = None, False
    return spans
