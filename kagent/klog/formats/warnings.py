"""What begins with ``WARNING:``: WARN() by source file, lockdep, RCU, unwinder."""

from __future__ import annotations

import re

from kagent.klog.formats.shape import (
    AT,
    CIRCULAR,
    INVERSION,
    LOCK_SOCK,
    RECURSIVE,
    RETURN_WITH_LOCK,
    STACK,
    TRACE,
    UNLOCK,
    USB_TRANSFER,
    Format,
    any_of,
    rx,
    trace,
    warning,
    way,
)

__all__ = ["WARNING"]


def _warn_in(source: str, function: str) -> re.Pattern[str]:
    """``WARNING: CPU: 1 PID: 2 at lib/refcount.c:28 refcount_warn+0x..`` of one source file."""
    return rx(rf"WARNING: .*{source}.* (?:{function}|at)")


_AT_NAMED = rx(r"at: (?:<PC> +)?(?P<frame>[A-Za-z0-9_]+)[.+]")

WARNING = (
    Format(
        _warn_in(r"lib/debugobjects\.c", "debug_print|debug_check"),
        "WARNING: ODEBUG bug in {frame}",
        blame=warning(
            "debug_ rcu hrtimer_ timer_ work_ percpu_ vunmap vfree __free_ debug_check kobject_"
        ),
    ),
    Format(
        _warn_in(r"mm/usercopy\.c", "usercopy_warn"),
        "WARNING: bad usercopy in {frame}",
        blame=warning("usercopy __check"),
    ),
    Format(
        _warn_in(r"lib/kobject\.c", "kobject_"),
        "WARNING: kobject bug in {frame}",
        blame=warning("kobject_"),
    ),
    Format(
        _warn_in(r"fs/proc/generic\.c", "proc_register"),
        "WARNING: proc registration bug in {frame}",
        blame=warning("proc_"),
    ),
    Format(
        _warn_in(r"lib/refcount\.c", "refcount_"),
        "WARNING: refcount bug in {frame}",
        blame=warning("refcount kobject_"),
    ),
    Format(
        rx(r"WARNING: .*kernel/locking/lockdep\.c.*lock_"),
        "WARNING: locking bug in {frame}",
        blame=warning(LOCK_SOCK),
    ),
    Format(
        rx(r"WARNING: .*still has locks held!"),
        "WARNING: still has locks held in {frame}",
        details=(
            rx(r"WARNING: .*still has locks held!"),
            rx(r"at: (?P<frame>[A-Za-z0-9_]+)[.+]"),
        ),
    ),
    Format(
        rx(r"WARNING: Nested lock was not taken"),
        "WARNING: nested lock was not taken in {frame}",
        blame=warning(),
    ),
    Format(
        rx(r"WARNING: lock held when returning to user space"),
        "WARNING: lock held when returning to user space in {frame}",
        details=(rx(r"WARNING: lock held when returning to user space"), *RETURN_WITH_LOCK),
        stackless=True,
    ),
    Format(
        rx(r"WARNING: .{0,200}?mm/[^ ]{0,64}\.c.{0,96}? k?.?malloc"),
        "WARNING: kmalloc bug in {frame}",
        blame=warning("kmalloc krealloc slab kmem"),
    ),
    Format(
        rx(r"WARNING: .*mm/vmalloc.c.*__vmalloc_node"),
        "WARNING: zero-size vmalloc in {frame}",
        blame=warning(),
    ),
    Format(
        rx(r"WARNING: .* usb_submit_urb"),
        "WARNING in {frame}/usb_submit_urb",
        blame=warning(USB_TRANSFER),
    ),
    Format(  # since 6.19: "WARNING: file.c:12 at 0x0, CPU#0: comm/pid"
        rx(r"WARNING: <SRC> at 0x[0-9]+, CPU#[0-9]+"), "WARNING in {frame}", blame=warning()
    ),
    Format(
        any_of(
            r"WARNING: .* at <SRC> <FUNC>",
            r"WARNING: (?:\[.*\] )?<SRC> at <FUNC>",
        ),
        "WARNING in {frame}",
        blame=warning(),
    ),
    Format(  # quoted without the function
        rx(r"WARNING: CPU: [0-9]+ PID: [0-9]+ at <SRC>$"), "WARNING in {frame}", blame=warning()
    ),
    Format(
        rx(r"WARNING: " + CIRCULAR),
        "possible deadlock in {frame}",
        details=(rx(r"WARNING: " + CIRCULAR), rx(r"is trying to acquire lock")),
        blame=way(
            AT,
            AT,
            STACK,
            # They take the lock that stands for the work item: its owner is to blame.
            skip="process_one_work flush_workqueue drain_workqueue destroy_workqueue",
        ),
    ),
    Format(
        rx(r"WARNING: " + INVERSION),
        "possible deadlock in {frame}",
        details=(
            rx(r"WARNING: " + INVERSION),
            rx(r"just changed the state of lock"),
            _AT_NAMED,
        ),
    ),
    Format(
        rx(r"WARNING: .*-safe -> .*-unsafe lock order detected"),
        "possible deadlock in {frame}",
        blame=way(rx(r"which became (?:.*) at:"), STACK),
    ),
    Format(
        rx(r"WARNING: " + RECURSIVE),
        "possible deadlock in {frame}",
        details=(rx(r"WARNING: " + RECURSIVE), rx(r"is trying to acquire lock"), _AT_NAMED),
    ),
    Format(
        rx(r"WARNING: inconsistent lock state"),
        "inconsistent lock state in {frame}",
        details=(rx(r"WARNING: inconsistent lock state"), rx(r"takes"), AT),
        blame=TRACE,
    ),
    Format(
        rx(r"WARNING: suspicious RCU usage"),
        "WARNING: suspicious RCU usage in {frame}",
        details=(rx(r"WARNING: suspicious RCU usage"), rx(r"<SRC>")),
        blame=trace("rcu kmem slab"),
    ),
    Format(
        rx(r"WARNING: kernel stack regs at [0-9a-f]+ in [^ ]* has bad '(?P<what>[^']+)' value"),
        "WARNING: kernel stack regs has bad '{what}' value",
        stackless=True,
    ),
    Format(
        rx(r"WARNING: kernel stack frame pointer at [0-9a-f]+ in [^ ]* has bad value"),
        "WARNING: kernel stack frame pointer has bad value",
        stackless=True,
    ),
    Format(
        rx(r"WARNING: bad unlock balance detected!"),
        "WARNING: bad unlock balance in {frame}",
        blame=UNLOCK,
    ),
    Format(
        rx(r"WARNING: held lock freed!"),
        "WARNING: held lock freed in {frame}",
        details=(
            rx(r"WARNING: held lock freed!"),
            rx(r"at:(?: <PC>)? +(?P<frame>[A-Za-z0-9_]+)[.+]"),
        ),
    ),
    Format(  # 4.x, without an address
        any_of(
            r"WARNING: kernel stack regs .* has bad 'bp' value",
            r"WARNING: kernel stack frame pointer .* has bad value",
        ),
        "WARNING: kernel stack regs has bad value",
        stackless=True,
    ),
    Format(rx(r"WARNING:\s*$"), "WARNING: corrupted", broken=True),
)
