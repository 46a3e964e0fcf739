"""What begins with ``BUG:``: page faults, lockups, lock debugging, memory management."""

from __future__ import annotations

from kagent.klog.formats.sanitizers import KASAN, KFENCE, KMSAN
from kagent.klog.formats.shape import (
    BAD_ACCESS,
    CALL_TRACE,
    FAULT,
    LOCK_SOCK,
    RETURN_WITH_LOCK,
    STACK,
    TRACE,
    TRAPPING_PC,
    UNLOCK,
    Format,
    any_of,
    rx,
    trace,
    way,
)

__all__ = ["BUG", "LEAK"]

_HELD_FRAME = rx(r"(?:at: |<PC> +)(?P<frame>[A-Za-z0-9_]+)[.+]")

LEAK = way(
    rx(r"backtrace(?: \(crc [0-9a-fA-F]*\))?:"),
    STACK,
    skip="kmemleak mmap kmem slab alloc create_object idr_get list_lru_init kasprintf "
    "kvasprintf pcpu_create strdup strndup memdup",
)

BUG = (
    *KASAN,
    *KMSAN,
    Format(rx(r"BUG: KCSAN:(?: |$)(?P<words>.*)"), "KCSAN: {words}", stackless=True),
    *KFENCE,
    Format(
        any_of(
            r"BUG: unable to handle kernel paging request",
            r"BUG: unable to handle page fault for address",
            r"BUG: Unable to handle kernel (?:data access|instruction fetch)",
        ),
        "BUG: unable to handle kernel paging request in {frame}",
        BAD_ACCESS,
        blame=FAULT,
    ),
    Format(
        rx(r"BUG: (?:unable to handle )?[kK]ernel NULL pointer dereference"),
        "BUG: unable to handle kernel NULL pointer dereference in {frame}",
        BAD_ACCESS,
        blame=FAULT,
    ),
    Format(  # two printk() calls: the second one was lost
        rx(r"BUG: [uU]nable to handle kernel"), "BUG: unable to handle kernel", broken=True
    ),
    Format(
        any_of(
            r"BUG: (?P<lock>spinlock|rwlock) (?P<what>lockup suspected|already unlocked|recursion"
            r"|cpu recursion|bad magic|wrong owner|wrong CPU|trylock failure on UP)"
        ),
        "BUG: {lock} {what} in {frame}",
        blame=trace("spin_ _lock _unlock"),
    ),
    Format(
        rx(r"BUG: soft lockup"),
        "BUG: soft lockup in {frame}",
        ("stall in {frame}",),
        blame=way(TRAPPING_PC, CALL_TRACE, STACK, pick="stall"),
    ),
    Format(
        rx(r"BUG: .*still has locks held!"),
        "BUG: still has locks held in {frame}",
        details=(rx(r"BUG: .*still has locks held!"), _HELD_FRAME),
    ),
    Format(
        rx(r"BUG: scheduling while atomic"),
        "BUG: scheduling while atomic in {frame}",
        blame=trace("schedule"),
    ),
    Format(
        rx(r"BUG: lock held when returning to user space"),
        "BUG: lock held when returning to user space in {frame}",
        details=(rx(r"BUG: lock held when returning to user space"), *RETURN_WITH_LOCK),
        stackless=True,
    ),
    Format(
        rx(r"BUG: bad unlock balance detected!"),
        "BUG: bad unlock balance in {frame}",
        blame=UNLOCK,
    ),
    Format(
        rx(r"BUG: held lock freed!"),
        "BUG: held lock freed in {frame}",
        details=(rx(r"BUG: held lock freed!"), rx(r"<PC> +(?P<frame>[A-Za-z0-9_]+)[.+]")),
    ),
    Format(rx(r"BUG: Bad rss-counter state"), "BUG: Bad rss-counter state", stackless=True),
    Format(
        rx(r"BUG: non-zero (?P<what>nr_ptes|nr_pmds) on freeing mm"),
        "BUG: non-zero {what} on freeing mm",
        stackless=True,
    ),
    Format(
        rx(r"BUG: Dentry .* still in use"),
        "BUG: Dentry still in use in {where}",
        ("BUG: Dentry still in use [{where} of {what}]",),
        details=(
            rx(
                r"BUG: Dentry .* still in use \([0-9]+\) \[(?P<where>unmount) of (?P<what>[^\]]+)\]"
            ),
        ),
    ),
    Format(
        rx(r"BUG: Bad page (?P<what>state|cache)"),
        "BUG: Bad page {what} in {frame}",
        blame=way(
            # Whoever notices is innocent; whoever allocated the page (page_owner) knows more.
            rx(r"page last allocated"),
            STACK,
            skip="(?:free|put|get|update|release)_page free_unref ^_*folio truncate_inode_pages "
            "page_frag_free alloc vmap page_owner",
        ),
    ),
    Format(rx(r"BUG: Bad page map"), "BUG: Bad page map"),
    Format(rx(r"BUG: workqueue lockup"), "BUG: workqueue lockup", stackless=True),
    Format(
        rx(r"BUG: sleeping function called from invalid context at .*"),
        "BUG: sleeping function called from invalid context in {frame}",
        blame=TRACE,
    ),
    Format(
        rx(r"BUG: using (?P<what>[a-z_]+)\(\) in preemptible"),
        "BUG: using {what}() in preemptible code in {frame}",
        blame=trace("dump_stack preemption preempt debug_ processor_id this_cpu"),
    ),
    Format(
        rx(r"BUG: workqueue leaked lock or atomic"),
        "BUG: workqueue leaked lock or atomic in {frame}",
        details=(
            rx(r"BUG: workqueue leaked lock or atomic"),
            rx(r"last function: (?P<frame>[A-Za-z0-9_]+)$"),
        ),
        stackless=True,
    ),
    Format(
        rx(r"BUG: memory leak"),
        "memory leak in {frame}",
        blame=LEAK,
    ),
    Format(
        rx(r"BUG: .*stack guard page was hit at"),
        "BUG: stack guard page was hit in {frame}",
        ("stack-overflow in {frame}",),
        blame=way(TRAPPING_PC, CALL_TRACE, STACK, pick="stall"),
    ),
    Format(
        rx(r"BUG: Invalid wait context"),
        "WARNING: locking bug in {frame}",
        blame=trace(LOCK_SOCK),
    ),
    Format(rx(r"BUG:\s*$"), "BUG: corrupted", broken=True),
)
