"""``Kernel panic - not syncing:`` and its reasons."""

from __future__ import annotations

from kagent.klog.formats.shape import CALL_TRACE, STACK, Format, rx, trace, way

__all__ = ["PANIC"]

_NOT_SYNCING = r"Kernel panic - not syncing: "
PANIC = (
    Format(
        rx(_NOT_SYNCING + r"stack-protector:"),
        "kernel panic: stack is corrupted in {frame}",
        details=(
            rx(r"stack-protector: Kernel stack is corrupted in: (?P<frame>[A-Za-z0-9_]+)[.+]"),
        ),
        stackless=True,
    ),
    Format(
        rx(_NOT_SYNCING + r"stack-protector:"),
        "kernel panic: stack is corrupted in {frame}",
        details=(rx(r"stack-protector: Kernel stack is corrupted in: [0-9a-f]+"),),
        blame=trace("stack_chk"),
    ),
    Format(
        rx(_NOT_SYNCING + r"corrupted stack end"),
        "kernel panic: corrupted stack end in {frame}",
        ("stack-overflow in {frame}",),
        details=(rx(r"corrupted stack end detected inside scheduler"),),
        blame=way(CALL_TRACE, STACK, skip="schedule retint_kernel", pick="stall"),
    ),
    Format(
        rx(_NOT_SYNCING + r"kernel stack overflow"),
        "kernel stack overflow in {frame}",
        ("stack-overflow in {frame}",),
        blame=way(CALL_TRACE, STACK, skip="bad_stack", pick="stall"),
    ),
    Format(rx(_NOT_SYNCING + r"Attempted to kill init!"), "kernel panic: Attempted to kill init!"),
    Format(
        rx(_NOT_SYNCING + r"Couldn't open N_TTY ldisc for [^ ]+ --- error -[0-9]+"),
        "kernel panic: Couldn't open N_TTY ldisc",
    ),
    # These follow a report. Where one stands alone, that report was lost.
    Format(rx(_NOT_SYNCING + r"Fatal exception"), "kernel panic: Fatal exception", broken=True),
    Format(rx(_NOT_SYNCING + r"panic_on_warn set"), "kernel panic: panic_on_warn set", broken=True),
    Format(
        rx(_NOT_SYNCING + r"hung_task: blocked tasks"),
        "kernel panic: hung_task: blocked tasks",
        broken=True,
    ),
    Format(
        rx(_NOT_SYNCING + r"sysrq triggered crash"),
        "kernel panic: sysrq triggered crash",
        kernel_bug=False,
    ),
    Format(rx(r"Kernel panic - not syncing:(?: |$)(?P<words>.*)"), "kernel panic: {words}"),
)
