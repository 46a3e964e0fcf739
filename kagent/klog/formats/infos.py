"""What begins with ``INFO:``: hung tasks, RCU stalls, lockdep before 4.11."""

from __future__ import annotations

import re

from kagent.klog.formats.shape import (
    CALL_TRACE,
    CIRCULAR,
    INVERSION,
    RECURSIVE,
    STACK,
    TRAPPING_PC,
    Before,
    Blame,
    Format,
    rx,
    trace,
    way,
)

__all__ = ["INFO"]

_COMM = r"[\s\S]{0,100}?"
"""``comm:pid``. A program may name itself anything, line breaks included."""
_TICK = rx(r"apic_timer_interrupt")
_AT_PC = rx(r"at: <PC> +(?P<frame>[A-Za-z0-9_]+)[.+]")


def _old_lockdep(header: str, *then: str) -> tuple[re.Pattern[str], ...]:
    """Before 4.11 lockdep said ``[ INFO: ... ]`` and printed addresses."""
    return (rx(rf"INFO: {header} \]"), *(rx(step) for step in then), _AT_PC)


INFO = (
    Format(
        rx(r"INFO: " + CIRCULAR),
        "possible deadlock in {frame}",
        details=_old_lockdep(CIRCULAR, r"is trying to acquire lock"),
    ),
    Format(
        rx(r"INFO: " + INVERSION),
        "possible deadlock in {frame}",
        details=_old_lockdep(INVERSION, r"just changed the state of lock"),
    ),
    Format(
        rx(r"INFO: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected"),
        "possible deadlock in {frame}",
        details=_old_lockdep(
            r"SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", r"is trying to acquire"
        ),
    ),
    Format(
        rx(r"INFO: " + RECURSIVE),
        "possible deadlock in {frame}",
        details=_old_lockdep(RECURSIVE, r"is trying to acquire lock"),
    ),
    Format(
        rx(r"INFO: inconsistent lock state"),
        "inconsistent lock state in {frame}",
        details=_old_lockdep("inconsistent lock state", r"takes"),
    ),
    Format(
        rx(r"INFO: rcu_(?:preempt|sched|bh|tasks) (?:self-)?detected(?: expedited)? stall"),
        "INFO: rcu detected stall in {frame}",
        ("stall in {frame}",),
        blame=Blame(
            (
                (_TICK, TRAPPING_PC, STACK),
                (rx(r"apic_timer_interrupt|Exception stack|el1h_64_irq"), STACK),
            ),
            # Since 6.1 the stalled CPU's registers come without the interrupt's frames.
            rescue=(Before(TRAPPING_PC, rx(r"task:|Call Trace:")), CALL_TRACE, STACK),
            skip="apic_timer_interrupt rcu",
            pick="stall",
        ),
    ),
    Format(
        rx(r"INFO: trying to register non-static key"),
        "INFO: trying to register non-static key in {frame}",
        blame=trace("stack lock IRQ"),
    ),
    Format(
        rx(r"INFO: suspicious RCU usage"),
        "INFO: suspicious RCU usage in {frame}",
        details=(rx(r"INFO: suspicious RCU usage"), rx(r"<SRC>")),
        blame=trace("rcu kmem slab"),
    ),
    Format(
        rx(rf"INFO: task {_COMM} blocked (?:in I/O wait )?for more than [0-9]+ seconds"),
        "INFO: task hung in {frame}",
        ("hang in {frame}",),
        blame=way(CALL_TRACE, STACK, pick="hung"),
    ),
    Format(
        rx(rf"INFO: task {_COMM} can't die for more than .* seconds"),
        "INFO: task can't die in {frame}",
        ("hang in {frame}",),
        blame=trace("schedule"),
    ),
    Format(  # SLUB's details without their header
        rx(r"INFO: (?P<what>Freed|Allocated) in (?P<where>.*)"),
        "INFO: {what} in {where}",
        broken=True,
    ),
    Format(rx(r"INFO:\s*$"), "INFO: corrupted", broken=True),
)
