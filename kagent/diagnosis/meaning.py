"""What a pointer value says about its own history.

Constants are those of the kernel's ``include/linux/poison.h``, ``include/linux/err.h`` and
``CONFIG_KASAN_SHADOW_OFFSET``; they are part of no ABI, but have not changed for many years.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Literal

__all__ = ["PointerMeaning", "Verdict", "in_modules_area", "pointer_meaning", "shadow_range"]

Verdict = Literal[
    "null", "errptr", "list-poison", "freed", "uninitialised", "redzone", "poison", "shadow",
    "text", "user", "non-canonical", "kernel",
]  # fmt: skip

_PAGE = 4096
_MAX_ERRNO = 4095
_POISON_DELTA = 0xDEAD000000000000  # CONFIG_ILLEGAL_POINTER_VALUE of 64-bit kernels
_LIST_POISON = {
    0x100: "LIST_POISON1 (next of an entry that was deleted)",
    0x122: "LIST_POISON2 (prev/pprev of an entry that was deleted)",
    0x200: "LIST_POISON2 (prev/pprev of an entry that was deleted)",
    0x300: "TIMER_ENTRY_STATIC",
    0x400: "PAGE_POOL/ring poison",
}
_FILL: dict[int, tuple[Verdict, str]] = {
    0x6B: ("freed", "slab free poison 0x6b: read from memory that was already freed"),
    0x5A: ("uninitialised", "slab poison 0x5a: read from an object that was never initialised"),
    0xA5: ("redzone", "slab end poison 0xa5: read past the end of a slab object"),
    0xBB: ("redzone", "slab red zone 0xbb (inactive object): read outside of an object"),
    0xCC: ("redzone", "red zone 0xcc (slab red zone, freed init memory or int3 padding)"),
    0xAA: ("freed", "page poison 0xaa: read from a page that was already freed"),
    0x22: ("poison", "MUTEX_DEBUG_FREE 0x22"),
    0xBD: ("poison", "KEY_DESTROY 0xbd: read from a destroyed key"),
}
_MAGIC = {
    0xDEAD4EAD: "SPINLOCK_MAGIC",
    0xDEAF1EED: "RWLOCK_MAGIC",
    0x57AC6E9D: "STACK_END_MAGIC",
}
_SHADOW_OFFSET = {
    "x86_64": 0xDFFFFC0000000000,
    "arm64": 0xDFFF800000000000,
    "riscv64": 0xDFFFFFFF00000000,
}
_SHADOW_SPAN = 1 << 44  # shadow of the user half; the other half is mapped and cannot fault so
_KERNEL_ERRNO = {
    512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK", 517: "EPROBE_DEFER", 518: "EOPENSTALE", 519: "ENOPARAM",
    521: "EBADHANDLE", 524: "ENOTSUPP", 529: "EIOCBQUEUED",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PointerMeaning:
    """A reading of a pointer value; `kind` for rules, `text` for people."""

    kind: Verdict
    text: str


def pointer_meaning(value: int, arch: str | None = "x86_64") -> PointerMeaning | None:
    """Say what `value`, used as a kernel pointer, most likely is; None for nothing to remark."""
    bits = 32 if arch in ("i386", "arm") else 64
    value &= (1 << bits) - 1
    negative = (1 << bits) - value
    if value < _PAGE:
        return PointerMeaning("null", "NULL" if not value else f"NULL + {value:#x}")
    if negative <= _MAX_ERRNO:
        name = _KERNEL_ERRNO.get(negative) or errno.errorcode.get(negative)
        return PointerMeaning("errptr", f"ERR_PTR(-{name or negative}): an error code as pointer")
    if bits == 32:
        return None
    return _meaning64(value, arch)


def _meaning64(value: int, arch: str | None) -> PointerMeaning | None:
    delta = value - _POISON_DELTA
    if -_PAGE < delta < 2 * _PAGE:
        near = max((base for base in _LIST_POISON if base <= delta), default=0x100)
        plus = f" {delta - near:+#x}" if delta != near else ""
        return PointerMeaning("list-poison", f"{_LIST_POISON[near]}{plus}")
    fill = (value >> 56) & 0xFF
    if fill in _FILL and all((value >> shift) & 0xFF == fill for shift in (16, 24, 32, 40, 48)):
        return PointerMeaning(*_FILL[fill])
    if shadow := shadow_range(value, arch):
        low, high = shadow
        what = f"NULL + {low:#x}..{high:#x}" if low < _PAGE else f"{low:#x}..{high:#x}"
        return PointerMeaning("shadow", f"KASAN shadow of {what}")
    if text := _ascii(value):
        return PointerMeaning("text", f"ASCII text {text!r}: a pointer overwritten by a string")
    for half in (value >> 32, value & 0xFFFFFFFF):
        if half in _MAGIC:
            return PointerMeaning(
                "poison", f"contains {_MAGIC[half]}: the inside of a lock or stack"
            )
    top = value >> 47
    if top == 0:
        return PointerMeaning("user", "a user-space address")
    if top != 0x1FFFF and arch == "x86_64":
        return PointerMeaning("non-canonical", "not a canonical address: no valid pointer at all")
    return None


def shadow_range(
    address: int, arch: str | None = "x86_64", *, kasan: bool = False
) -> tuple[int, int] | None:
    """The eight bytes whose KASAN shadow byte lies at `address`, for shadow that is not mapped.

    In general only shadow of the user half is taken for such. Where it is known that `kasan` was
    compiled in and the processor refused `address` as not canonical, it is the shadow of anything
    (mm/kasan/report.c, kasan_non_canonical_hook()).
    """
    offset = _SHADOW_OFFSET.get(arch or "x86_64")
    span = 1 << 61 if kasan else _SHADOW_SPAN
    if offset is None or not offset <= address < offset + span:
        return None
    low = (address - offset) << 3 & (1 << 64) - 1
    return low, low + 7


def in_modules_area(address: int, arch: str | None = "x86_64") -> bool:
    """Whether only modules have code and data at `address` (arch/x86/x86_64/mm.rst, with KASLR)."""
    return arch == "x86_64" and 0xFFFFFFFFC0000000 <= address < 0xFFFFFFFFFF000000


def _ascii(value: int) -> str | None:
    raw = value.to_bytes(8, "little").rstrip(b"\0")
    if len(raw) >= 6 and all(0x20 <= byte < 0x7F for byte in raw):
        return raw.decode("ascii")
    return None
