"""KASAN, KMSAN, KFENCE (mm/*/report.c) and UBSAN (lib/ubsan.c)."""

from __future__ import annotations

from kagent.klog.formats.shape import (
    BAD_ACCESS,
    CALL_TRACE,
    FAULT,
    STACK,
    USB_TRANSFER,
    Before,
    Blame,
    Format,
    Step,
    after,
    rx,
    trace,
    way,
)

__all__ = ["KASAN", "KFENCE", "KMSAN", "UBSAN"]

_BAD_FREE = r"BUG: KASAN: (?:double-free or invalid-free|double-free|invalid-free) in <FUNC>"
_KMSAN_BIRTH = rx(r"Local variable .* created at:|Uninit was created at:")


def _kmsan(skip: str, *rest: Step) -> Blame:
    """Where the value was used, and where it came from: `rest` leads there in older reports."""
    # Out of tree, before 6.1, dump_stack() printed the first one.
    announced = Before(CALL_TRACE, rx(r"created at:|Kernel panic|^ [A-Za-z0-9_.]+\+0x"))
    ways = ((STACK, _KMSAN_BIRTH, STACK),)
    return Blame(ways, rescue=(announced, STACK, *rest), skip=skip)


KASAN = (
    Format(
        rx(r"BUG: KASAN:"),
        "KASAN: {what} {access} in {frame}",
        BAD_ACCESS,
        details=(
            rx(r"BUG: KASAN: (?P<what>[a-z\-]+) in <FUNC>"),
            rx(r"(?P<access>Read|Write) (?:of size|at addr) [0-9a-f]+"),
        ),
        blame=way(
            rx(r"BUG: KASAN: [a-z\-]+ in <FUNC>"),
            CALL_TRACE,
            STACK,
            # How arm64's tag-check faults get to KASAN_HW_TAGS.
            skip="kernel_fault tag_check mem_abort ^el1_ ^el1h_",
        ),
    ),
    Format(
        rx(r"BUG: KASAN:"),
        "KASAN: invalid-free in {frame}",
        ("invalid-free in {frame}",),
        details=(rx(_BAD_FREE),),
        blame=way(
            rx(_BAD_FREE),
            CALL_TRACE,
            STACK,
            skip="slab_ kfree vunmap vfree",
        ),
    ),
    Format(  # before 4.9
        rx(r"BUG: KASAN: [a-z\-]+ on address"),
        "KASAN: {what} {access}",
        details=(
            rx(r"BUG: KASAN: (?P<what>[a-z\-]+) on address"),
            rx(r"(?P<access>Read|Write) of size [0-9]+"),
        ),
    ),
    Format(rx(r"BUG: KASAN:(?: |$)(?P<words>.*)"), "KASAN: {words}", broken=True),
)
KMSAN = (
    Format(
        rx(r"BUG: KMSAN: kernel-usb-infoleak"),
        "KMSAN: kernel-usb-infoleak in {frame}",
        ("KMSAN origin in {origin}",),
        details=(rx(r"BUG: KMSAN: kernel-usb-infoleak in <FUNC>"),),
        blame=_kmsan(f"alloc_skb {USB_TRANSFER}", _KMSAN_BIRTH, STACK),
        stackless=True,
    ),
    Format(
        rx(r"BUG: KMSAN:"),
        "KMSAN: {what} in {frame}",
        BAD_ACCESS,
        details=(rx(r"BUG: KMSAN: (?P<what>[a-z\-]+) in <FUNC>"),),
        # Ciphers mix what they are given; whoever gave it is to blame.
        blame=_kmsan(
            "alloc_skb netlink_ack netlink_rcv_skb _encrypt$ ^(?:crypto|cipher|drbg|rng)_"
        ),
        stackless=True,
    ),
)
_KFENCE_AT = r"BUG: KFENCE: [a-z\- ]+ in <FUNC>"
KFENCE = (
    Format(
        rx(r"BUG: KFENCE: (?P<what>use-after-free|out-of-bounds) (?P<access>read|write) in <FUNC>"),
        "KFENCE: {what} {access} in {frame}",
        BAD_ACCESS,
        blame=after(_KFENCE_AT),
        stackless=True,  # its stacks have headings of their own
    ),
    Format(
        rx(r"BUG: KFENCE: invalid free in <FUNC>"),
        "KFENCE: invalid free in {frame}",
        ("invalid-free in {frame}",),
        blame=after(_KFENCE_AT),
        stackless=True,
    ),
    Format(
        rx(r"BUG: KFENCE: invalid (?P<access>read|write) in <FUNC>"),
        "KFENCE: invalid {access} in {frame}",
        BAD_ACCESS,
        blame=after(_KFENCE_AT),
        stackless=True,
    ),
    Format(
        rx(r"BUG: KFENCE: memory corruption in <FUNC>"),
        "KFENCE: memory corruption in {frame}",
        blame=after(_KFENCE_AT),
        stackless=True,
    ),
)
_UBSAN_SKIP = "ubsan overflow"
UBSAN = (
    Format(  # before 5.11
        rx(r"UBSAN: Undefined behaviour in"),
        "UBSAN: undefined-behaviour in {frame}",
        blame=trace(_UBSAN_SKIP),
    ),
    Format(
        rx(r"UBSAN: array-index-out-of-bounds in"),
        "UBSAN: array-index-out-of-bounds in {frame}",
        BAD_ACCESS,
        blame=trace(_UBSAN_SKIP),
    ),
    Format(
        rx(r"UBSAN: (?P<what>.*?) in"),
        "UBSAN: {what} in {frame}",
        blame=trace(_UBSAN_SKIP),
    ),
    Format(rx(r"UBSAN:\s*$"), "UBSAN:", broken=True),
    # arch/*/traps.c with CONFIG_UBSAN_TRAP: the PC follows directly.
    Format(rx(r"UBSAN: (?P<what>.+)"), "UBSAN: {what} in {frame}", blame=FAULT),
)
