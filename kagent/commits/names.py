"""Words and names the way kernel people read them.

``ext4_es_insert_extent`` is one name and also the words *ext4*, *es*, *insert*, *extent*. A stack
names functions with what the compiler and the system call macros made of them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import chain

__all__ = ["base_symbol", "named_symbols", "words"]

_MAX_PARTS = 1 << 18
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{1,79}")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{1,79}(?:\(\)|\+0(?=x))?")
_HEX = re.compile(r"[0-9a-f]{8,}")
# Suffixes of gcc and clang clones: constprop.0, isra.0.cold, part.0, llvm.1234.
_CLONE = re.compile(r"\.(?:constprop|isra|part|cold|lto_priv|llvm|localalias|unlikely|\d).*$", re.S)
# SYSCALL_DEFINEx(name) emits these wrappers (include/linux/syscalls.h, asm/syscall_wrapper.h).
_SYSCALL = re.compile(
    r"^(?:__(?:x64|ia32|arm64|riscv|s390x?|powerpc)_(?:compat_)?sys_|__(?:se|do)_(?:compat_)?sys_"
    r"|__loongarch_sys_|compat_sys_)(?=\w)"
)

_STOP_WORDS_TEXT = """
    a about after all also an and any are as at be been before being but by can could did do
    does for from had has have he here how i if in into is it its just may more most must my no
    not now of on one only or other our out over same see set should so some such than that the
    their them then there these they this those to too up us use used uses using was way we were
    what when where which while who will with would you your
    acked acked-by cc co com de developed dev gmail kernel link linux lkml lore message off org
    patch reported reviewed signed stable suggested tested vger https http www net via
"""
_STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())


@lru_cache(maxsize=1 << 16)
def base_symbol(name: str) -> str:
    """Return the name the source has: no clone suffix, ``sys_read`` for every system call wrapper.

    >>> base_symbol("ext4_alloc_file_blocks.isra.0"), base_symbol("__x64_sys_read")
    ('ext4_alloc_file_blocks', 'sys_read')
    """
    return _SYSCALL.sub("sys_", _CLONE.sub("", name, count=1))


def named_symbols(text: str) -> list[str]:
    """Names in prose that look like symbols: ``with_underscores``, ``name()``, ``name+0x10``.

    Each once, in order of appearance.
    """
    found: dict[str, None] = {}
    for name in _SYMBOL.findall(text):
        # Few words of a text get beyond this line.
        if "_" not in name and name[-1] not in ")0":
            continue
        plain = name.removesuffix("()").removesuffix("+0")
        if plain != name or ("_" in name.strip("_") and len(name) > 3):
            found[base_symbol(plain)] = None
    return list(found)


class _Parts(dict[str, tuple[str, ...]]):
    """What each word gives; looked up for every word of every commit, so without a call."""

    def __missing__(self, word: str) -> tuple[str, ...]:
        if len(self) >= _MAX_PARTS:
            self.clear()
        parts = self[word] = _parts(word)
        return parts


_PARTS = _Parts()


def _parts(word: str) -> tuple[str, ...]:
    lower = word.lower()
    if lower in _STOP_WORDS or _HEX.fullmatch(lower):
        return ()
    if "_" not in lower:
        return (lower,)
    parts = [p for p in lower.split("_") if len(p) > 1 and p not in _STOP_WORDS]
    whole = lower.strip("_")
    return (whole, *parts) if len(parts) > 1 else tuple(parts)


def words(text: str) -> list[str]:
    """Lower-case words of `text`; a name gives itself and its parts. Stop words are left out.

    >>> words("Fix the leak in usb_get_dev()")
    ['fix', 'leak', 'usb_get_dev', 'usb', 'get']
    """
    return list(chain.from_iterable(map(_PARTS.__getitem__, _WORD.findall(text))))
