r"""How the kernel announces each kind of report, and the title syzbot gives it. A table to read.

A :class:`Family` is a literal that betrays a report anywhere in a line, with the lines that only
look alike. Its :class:`Format`\ s say: the header's regex → the title → which stack to blame. The
first format whose `header` matches earliest, and whose `details` follow, names the report.

Titles are templates over the named groups of `header` and `details` and over ``{frame}``, the
function the `blame` picks (``{origin}``: the one of its second stack).

Regexes may use ``<FUNC>`` (``symbol`` before ``+0x..`` or ``.isra``), ``<SRC>`` (``file.c:12``)
and ``<PC>`` (``[<ffffffff81000000>]``). Header spellings come from the kernel's own printk()
calls, the older ones from releases back to 3.x; title spellings from syzbot's dashboard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Literal

__all__ = [
    "FAMILIES",
    "STACK",
    "Before",
    "Blame",
    "Family",
    "Format",
    "Stack",
    "Step",
    "family_of",
]

Picker = Literal["first", "stall", "hung"]


class Stack(Enum):
    """Step of a :class:`Blame`: take the frames up to the next step's line or the next stack."""

    HERE = 0


STACK = Stack.HERE


@dataclass(frozen=True, slots=True)
class Before:
    """Step of a :class:`Blame`: as a regex step, but given up at a line that matches `barrier`."""

    pattern: re.Pattern[str]
    barrier: re.Pattern[str]


Step = re.Pattern[str] | Before | Stack


@dataclass(frozen=True, slots=True)
class Blame:
    """Which stack names the culprit.

    A way is a list of steps from the header on. A regex step moves on to the line it matches, and
    its groups are frames; ``STACK`` takes a whole stack. The first way that yields a frame counts.
    """

    ways: tuple[tuple[Step, ...], ...]
    skip: str = ""
    """Names to pass over here besides :mod:`kagent.klog.blameless`; blank-separated regexes."""
    pick: Picker = "first"


@dataclass(frozen=True, slots=True)
class Format:
    """One header and its title."""

    header: re.Pattern[str]
    title: str
    alt: tuple[str, ...] = ()
    details: tuple[re.Pattern[str], ...] = ()
    """Must match, in order; the first from the header line on, the others further down."""
    blame: Blame | None = None
    stackless: bool = False
    """True where such a report may have no stack and still be whole."""
    broken: bool = False
    """True where this header alone proves that the better one was lost."""
    kind: str | None = None
    """For what :mod:`kagent.klog.kinds` cannot tell from the title."""
    kernel_bug: bool = True
    """False where user space or an operator is to blame."""


@dataclass(frozen=True, slots=True)
class Family:
    """All formats that share a literal."""

    marker: str
    formats: tuple[Format, ...]
    lookalikes: re.Pattern[str] | None = None
    strict: bool = False
    """True where the marker proves nothing without a format's header."""
    weak: bool = False
    """True for lines that usually go on with a report whose header stands above."""
    dump: bool = False
    """True for lists of tasks that somebody asked for: no report."""


_MACROS = {
    "<FUNC>": r"([A-Za-z0-9_]+)[.+]",
    "<SRC>": r"[A-Za-z0-9\-_/.]+\.[a-z]+:[0-9]+",
    "<PC>": r"\[<?(?:0x)?[0-9a-f]+>?\]",
}


def _rx(pattern: str) -> re.Pattern[str]:
    for macro, text in _MACROS.items():
        pattern = pattern.replace(macro, text)
    return re.compile(pattern, re.ASCII)


def _any(*patterns: str) -> re.Pattern[str]:
    return _rx("|".join(patterns))


# ── where to look for the culprit ────────────────────────────────────────────────────────────

_CALL_TRACE = _rx(r"Call [Tt]race:|Backtrace:")
_TRAPPING_PC = _any(
    r"(?:IP|NIP|pc |PC is at):? (?:[0-9]+:)?(?:<PC> +){0,2}<FUNC>",
    r"(?:IP|NIP|pc |PC is at):? (?:[0-9]+:)?(?:0x[0-9a-f]+|<PC> +\[< *\(null\)>\] +\(null\))",
    r"(?:IP|NIP|pc |PC is at):? [0-9]+: +\(null\)",
    r"(?:epc|ERA) *: [0-9a-f]{8,16} <FUNC>",  # mips, loongarch
    r"Krnl PSW : [0-9a-f]{16} [0-9a-f]{16} \(<FUNC>",  # s390
)
_AT = _rx(r"at: (?:<PC> +)?<FUNC>")


def _way(*steps: Step, skip: str = "", pick: Picker = "first") -> Blame:
    return Blame((steps,), skip, pick)


_FAULT = _way(_TRAPPING_PC, _CALL_TRACE, STACK)
_TRACE = _way(_CALL_TRACE, STACK)
_PC_ONLY = _way(_TRAPPING_PC)


def _trace(skip: str) -> Blame:
    return _way(_CALL_TRACE, STACK, skip=skip)


def _warning(skip: str = "") -> Blame:
    # WARN() traps: the PC and the stack below it. Where it is a call, only the stack is printed.
    warn_pc = _any(_TRAPPING_PC.pattern, r"--- interrupt: [0-9]+ at <FUNC>")
    return Blame(((warn_pc, STACK), (_CALL_TRACE, STACK)), skip)


def _after(header: str) -> Blame:
    """The function in the header itself, then the stack right below it."""
    return _way(_rx(header), STACK)


# ── sanitizers ───────────────────────────────────────────────────────────────────────────────

_BAD_ACCESS = ("bad-access in {frame}",)
_BAD_FREE = r"BUG: KASAN: (?:double-free or invalid-free|double-free|invalid-free) in <FUNC>"
_KMSAN_BIRTH = _rx(r"Local variable .* created at:|Uninit was created at:")
_USB_TRANSFER = "usb_submit_urb usb_start_wait_urb usb_bulk_msg usb_interrupt_msg usb_control_msg"

_KASAN = (
    Format(
        _rx(r"BUG: KASAN:"),
        "KASAN: {what} {access} in {frame}",
        _BAD_ACCESS,
        details=(
            _rx(r"BUG: KASAN: (?P<what>[a-z\-]+) in <FUNC>"),
            _rx(r"(?P<access>Read|Write) (?:of size|at addr) [0-9a-f]+"),
        ),
        blame=_way(
            _rx(r"BUG: KASAN: [a-z\-]+ in <FUNC>"),
            _CALL_TRACE,
            STACK,
            # How arm64's tag-check faults get to KASAN_HW_TAGS.
            skip="kernel_fault tag_check mem_abort ^el1_ ^el1h_",
        ),
    ),
    Format(
        _rx(r"BUG: KASAN:"),
        "KASAN: invalid-free in {frame}",
        ("invalid-free in {frame}",),
        details=(_rx(_BAD_FREE),),
        blame=_way(
            _rx(_BAD_FREE),
            _CALL_TRACE,
            STACK,
            skip="slab_ kfree vunmap vfree",
        ),
    ),
    Format(  # before 4.9
        _rx(r"BUG: KASAN: [a-z\-]+ on address"),
        "KASAN: {what} {access}",
        details=(
            _rx(r"BUG: KASAN: (?P<what>[a-z\-]+) on address"),
            _rx(r"(?P<access>Read|Write) of size [0-9]+"),
        ),
    ),
    Format(_rx(r"BUG: KASAN: (?P<words>.*)"), "KASAN: {words}", broken=True),
)
_KMSAN = (
    Format(
        _rx(r"BUG: KMSAN: kernel-usb-infoleak"),
        "KMSAN: kernel-usb-infoleak in {frame}",
        ("KMSAN origin in {origin}",),
        details=(_rx(r"BUG: KMSAN: kernel-usb-infoleak in <FUNC>"),),
        blame=_way(STACK, _KMSAN_BIRTH, STACK, skip=f"alloc_skb {_USB_TRANSFER}"),
        stackless=True,
    ),
    Format(
        _rx(r"BUG: KMSAN:"),
        "KMSAN: {what} in {frame}",
        _BAD_ACCESS,
        details=(_rx(r"BUG: KMSAN: (?P<what>[a-z\-]+) in <FUNC>"),),
        blame=_way(
            STACK,
            _KMSAN_BIRTH,
            STACK,
            # Ciphers mix what they are given; whoever gave it is to blame.
            skip="alloc_skb netlink_ack netlink_rcv_skb _encrypt$ ^(?:crypto|cipher|drbg|rng)_",
        ),
        stackless=True,
    ),
)
_KFENCE_AT = r"BUG: KFENCE: [a-z\- ]+ in <FUNC>"
_KFENCE = (
    Format(
        _rx(
            r"BUG: KFENCE: (?P<what>use-after-free|out-of-bounds) (?P<access>read|write) in <FUNC>"
        ),
        "KFENCE: {what} {access} in {frame}",
        _BAD_ACCESS,
        blame=_after(_KFENCE_AT),
        stackless=True,  # its stacks have headings of their own
    ),
    Format(
        _rx(r"BUG: KFENCE: invalid free in <FUNC>"),
        "KFENCE: invalid free in {frame}",
        ("invalid-free in {frame}",),
        blame=_after(_KFENCE_AT),
        stackless=True,
    ),
    Format(
        _rx(r"BUG: KFENCE: invalid (?P<access>read|write) in <FUNC>"),
        "KFENCE: invalid {access} in {frame}",
        _BAD_ACCESS,
        blame=_after(_KFENCE_AT),
        stackless=True,
    ),
    Format(
        _rx(r"BUG: KFENCE: memory corruption in <FUNC>"),
        "KFENCE: memory corruption in {frame}",
        blame=_after(_KFENCE_AT),
        stackless=True,
    ),
)
_UBSAN_SKIP = "ubsan overflow"
_UBSAN = (
    Format(  # before 5.11
        _rx(r"UBSAN: Undefined behaviour in"),
        "UBSAN: undefined-behaviour in {frame}",
        blame=_trace(_UBSAN_SKIP),
    ),
    Format(
        _rx(r"UBSAN: array-index-out-of-bounds in"),
        "UBSAN: array-index-out-of-bounds in {frame}",
        _BAD_ACCESS,
        blame=_trace(_UBSAN_SKIP),
    ),
    Format(
        _rx(r"UBSAN: (?P<what>.*?) in"),
        "UBSAN: {what} in {frame}",
        blame=_trace(_UBSAN_SKIP),
    ),
    # arch/*/traps.c with CONFIG_UBSAN_TRAP: the PC follows directly.
    Format(_rx(r"UBSAN: (?P<what>.+)"), "UBSAN: {what} in {frame}", blame=_FAULT),
)

# ── BUG: ─────────────────────────────────────────────────────────────────────────────────────

_RETURN_WITH_LOCK = (
    _rx(r"leaving the kernel with locks still held"),
    _rx(r"at: (?:<PC> +)?(?P<frame>[A-Za-z0-9_]+)[.+]"),
)
_HELD_FRAME = _rx(r"(?:at: |<PC> +)(?P<frame>[A-Za-z0-9_]+)[.+]")
_UNLOCK = _way(_rx(r"<PC> +<FUNC>"), _CALL_TRACE, STACK)
_LOCK_SOCK = "lock_sock release_sock"

_LEAK = _way(
    _rx(r"backtrace(?: \(crc [0-9a-fA-F]*\))?:"),
    STACK,
    skip="kmemleak mmap kmem slab alloc create_object idr_get list_lru_init kasprintf "
    "kvasprintf pcpu_create strdup strndup memdup",
)

_BUG = (
    *_KASAN,
    *_KMSAN,
    Format(_rx(r"BUG: KCSAN: (?P<words>.*)"), "KCSAN: {words}", stackless=True),
    *_KFENCE,
    Format(
        _any(
            r"BUG: unable to handle kernel paging request",
            r"BUG: unable to handle page fault for address",
            r"BUG: Unable to handle kernel (?:data access|instruction fetch)",
        ),
        "BUG: unable to handle kernel paging request in {frame}",
        _BAD_ACCESS,
        blame=_FAULT,
    ),
    Format(
        _rx(r"BUG: (?:unable to handle )?[kK]ernel NULL pointer dereference"),
        "BUG: unable to handle kernel NULL pointer dereference in {frame}",
        _BAD_ACCESS,
        blame=_FAULT,
    ),
    Format(  # two printk() calls: the second one was lost
        _rx(r"BUG: [uU]nable to handle kernel"), "BUG: unable to handle kernel", broken=True
    ),
    Format(
        _any(
            r"BUG: (?P<lock>spinlock|rwlock) (?P<what>lockup suspected|already unlocked|recursion"
            r"|cpu recursion|bad magic|wrong owner|wrong CPU|trylock failure on UP)"
        ),
        "BUG: {lock} {what} in {frame}",
        blame=_trace("spin_ _lock _unlock"),
    ),
    Format(
        _rx(r"BUG: soft lockup"),
        "BUG: soft lockup in {frame}",
        ("stall in {frame}",),
        blame=_way(_TRAPPING_PC, _CALL_TRACE, STACK, pick="stall"),
    ),
    Format(
        _rx(r"BUG: .*still has locks held!"),
        "BUG: still has locks held in {frame}",
        details=(_rx(r"BUG: .*still has locks held!"), _HELD_FRAME),
    ),
    Format(
        _rx(r"BUG: scheduling while atomic"),
        "BUG: scheduling while atomic in {frame}",
        blame=_trace("schedule"),
    ),
    Format(
        _rx(r"BUG: lock held when returning to user space"),
        "BUG: lock held when returning to user space in {frame}",
        details=(_rx(r"BUG: lock held when returning to user space"), *_RETURN_WITH_LOCK),
        stackless=True,
    ),
    Format(
        _rx(r"BUG: bad unlock balance detected!"),
        "BUG: bad unlock balance in {frame}",
        blame=_UNLOCK,
    ),
    Format(
        _rx(r"BUG: held lock freed!"),
        "BUG: held lock freed in {frame}",
        details=(_rx(r"BUG: held lock freed!"), _rx(r"<PC> +(?P<frame>[A-Za-z0-9_]+)[.+]")),
    ),
    Format(_rx(r"BUG: Bad rss-counter state"), "BUG: Bad rss-counter state", stackless=True),
    Format(
        _rx(r"BUG: non-zero (?P<what>nr_ptes|nr_pmds) on freeing mm"),
        "BUG: non-zero {what} on freeing mm",
        stackless=True,
    ),
    Format(
        _rx(r"BUG: Dentry .* still in use"),
        "BUG: Dentry still in use in {where}",
        ("BUG: Dentry still in use [{where} of {what}]",),
        details=(
            _rx(
                r"BUG: Dentry .* still in use \([0-9]+\) \[(?P<where>unmount) of (?P<what>[^\]]+)\]"
            ),
        ),
    ),
    Format(
        _rx(r"BUG: Bad page (?P<what>state|cache)"),
        "BUG: Bad page {what} in {frame}",
        blame=_way(
            # Whoever notices is innocent; whoever allocated the page (page_owner) knows more.
            _rx(r"page last allocated"),
            STACK,
            skip="(?:free|put|get|update|release)_page free_unref ^_*folio truncate_inode_pages "
            "page_frag_free alloc vmap page_owner",
        ),
    ),
    Format(_rx(r"BUG: Bad page map"), "BUG: Bad page map"),
    Format(_rx(r"BUG: workqueue lockup"), "BUG: workqueue lockup", stackless=True),
    Format(
        _rx(r"BUG: sleeping function called from invalid context at .*"),
        "BUG: sleeping function called from invalid context in {frame}",
        blame=_TRACE,
    ),
    Format(
        _rx(r"BUG: using (?P<what>[a-z_]+)\(\) in preemptible"),
        "BUG: using {what}() in preemptible code in {frame}",
        blame=_trace("dump_stack preemption preempt debug_ processor_id this_cpu"),
    ),
    Format(
        _rx(r"BUG: workqueue leaked lock or atomic"),
        "BUG: workqueue leaked lock or atomic in {frame}",
        details=(
            _rx(r"BUG: workqueue leaked lock or atomic"),
            _rx(r"last function: (?P<frame>[A-Za-z0-9_]+)$"),
        ),
        stackless=True,
    ),
    Format(
        _rx(r"BUG: memory leak"),
        "memory leak in {frame}",
        blame=_LEAK,
    ),
    Format(
        _rx(r"BUG: .*stack guard page was hit at"),
        "BUG: stack guard page was hit in {frame}",
        ("stack-overflow in {frame}",),
        blame=_way(_TRAPPING_PC, _CALL_TRACE, STACK, pick="stall"),
    ),
    Format(
        _rx(r"BUG: Invalid wait context"),
        "WARNING: locking bug in {frame}",
        blame=_trace(_LOCK_SOCK),
    ),
    Format(_rx(r"BUG:\s*$"), "BUG: corrupted", broken=True),
)

# ── WARNING: ─────────────────────────────────────────────────────────────────────────────────


def _warn_in(source: str, function: str) -> re.Pattern[str]:
    """``WARNING: CPU: 1 PID: 2 at lib/refcount.c:28 refcount_warn+0x..`` of one source file."""
    return _rx(rf"WARNING: .*{source}.* (?:{function}|at)")


_CIRCULAR = r"possible circular locking dependency detected"
_INVERSION = r"possible irq lock inversion dependency detected"
_RECURSIVE = r"possible recursive locking detected"
_AT_NAMED = _rx(r"at: (?:<PC> +)?(?P<frame>[A-Za-z0-9_]+)[.+]")

_WARNING = (
    Format(
        _warn_in(r"lib/debugobjects\.c", "debug_print|debug_check"),
        "WARNING: ODEBUG bug in {frame}",
        blame=_warning(
            "debug_ rcu hrtimer_ timer_ work_ percpu_ vunmap vfree __free_ debug_check kobject_"
        ),
    ),
    Format(
        _warn_in(r"mm/usercopy\.c", "usercopy_warn"),
        "WARNING: bad usercopy in {frame}",
        blame=_warning("usercopy __check"),
    ),
    Format(
        _warn_in(r"lib/kobject\.c", "kobject_"),
        "WARNING: kobject bug in {frame}",
        blame=_warning("kobject_"),
    ),
    Format(
        _warn_in(r"fs/proc/generic\.c", "proc_register"),
        "WARNING: proc registration bug in {frame}",
        blame=_warning("proc_"),
    ),
    Format(
        _warn_in(r"lib/refcount\.c", "refcount_"),
        "WARNING: refcount bug in {frame}",
        blame=_warning("refcount kobject_"),
    ),
    Format(
        _rx(r"WARNING: .*kernel/locking/lockdep\.c.*lock_"),
        "WARNING: locking bug in {frame}",
        blame=_warning(_LOCK_SOCK),
    ),
    Format(
        _rx(r"WARNING: .*still has locks held!"),
        "WARNING: still has locks held in {frame}",
        details=(
            _rx(r"WARNING: .*still has locks held!"),
            _rx(r"at: (?P<frame>[A-Za-z0-9_]+)[.+]"),
        ),
    ),
    Format(
        _rx(r"WARNING: Nested lock was not taken"),
        "WARNING: nested lock was not taken in {frame}",
        blame=_warning(),
    ),
    Format(
        _rx(r"WARNING: lock held when returning to user space"),
        "WARNING: lock held when returning to user space in {frame}",
        details=(_rx(r"WARNING: lock held when returning to user space"), *_RETURN_WITH_LOCK),
        stackless=True,
    ),
    Format(
        _rx(r"WARNING: .{0,200}?mm/[^ ]{0,64}\.c.{0,96}? k?.?malloc"),
        "WARNING: kmalloc bug in {frame}",
        blame=_warning("kmalloc krealloc slab kmem"),
    ),
    Format(
        _rx(r"WARNING: .*mm/vmalloc.c.*__vmalloc_node"),
        "WARNING: zero-size vmalloc in {frame}",
        blame=_warning(),
    ),
    Format(
        _rx(r"WARNING: .* usb_submit_urb"),
        "WARNING in {frame}/usb_submit_urb",
        blame=_warning(_USB_TRANSFER),
    ),
    Format(  # since 6.19: "WARNING: file.c:12 at 0x0, CPU#0: comm/pid"
        _rx(r"WARNING: <SRC> at 0x[0-9]+, CPU#[0-9]+"), "WARNING in {frame}", blame=_warning()
    ),
    Format(
        _any(
            r"WARNING: .* at <SRC> <FUNC>",
            r"WARNING: (?:\[.*\] )?<SRC> at <FUNC>",
        ),
        "WARNING in {frame}",
        blame=_warning(),
    ),
    Format(
        _rx(r"WARNING: " + _CIRCULAR),
        "possible deadlock in {frame}",
        details=(_rx(r"WARNING: " + _CIRCULAR), _rx(r"is trying to acquire lock")),
        blame=_way(
            _AT,
            _AT,
            STACK,
            # They take the lock that stands for the work item: its owner is to blame.
            skip="process_one_work flush_workqueue drain_workqueue destroy_workqueue",
        ),
    ),
    Format(
        _rx(r"WARNING: " + _INVERSION),
        "possible deadlock in {frame}",
        details=(
            _rx(r"WARNING: " + _INVERSION),
            _rx(r"just changed the state of lock"),
            _AT_NAMED,
        ),
    ),
    Format(
        _rx(r"WARNING: .*-safe -> .*-unsafe lock order detected"),
        "possible deadlock in {frame}",
        blame=_way(_rx(r"which became (?:.*) at:"), STACK),
    ),
    Format(
        _rx(r"WARNING: " + _RECURSIVE),
        "possible deadlock in {frame}",
        details=(_rx(r"WARNING: " + _RECURSIVE), _rx(r"is trying to acquire lock"), _AT_NAMED),
    ),
    Format(
        _rx(r"WARNING: inconsistent lock state"),
        "inconsistent lock state in {frame}",
        details=(_rx(r"WARNING: inconsistent lock state"), _rx(r"takes"), _AT),
        blame=_TRACE,
    ),
    Format(
        _rx(r"WARNING: suspicious RCU usage"),
        "WARNING: suspicious RCU usage in {frame}",
        details=(_rx(r"WARNING: suspicious RCU usage"), _rx(r"<SRC>")),
        blame=_trace("rcu kmem slab"),
    ),
    Format(
        _rx(r"WARNING: kernel stack regs at [0-9a-f]+ in [^ ]* has bad '(?P<what>[^']+)' value"),
        "WARNING: kernel stack regs has bad '{what}' value",
        stackless=True,
    ),
    Format(
        _rx(r"WARNING: kernel stack frame pointer at [0-9a-f]+ in [^ ]* has bad value"),
        "WARNING: kernel stack frame pointer has bad value",
        stackless=True,
    ),
    Format(
        _rx(r"WARNING: bad unlock balance detected!"),
        "WARNING: bad unlock balance in {frame}",
        blame=_UNLOCK,
    ),
    Format(
        _rx(r"WARNING: held lock freed!"),
        "WARNING: held lock freed in {frame}",
        details=(
            _rx(r"WARNING: held lock freed!"),
            _rx(r"at:(?: <PC>)? +(?P<frame>[A-Za-z0-9_]+)[.+]"),
        ),
    ),
    Format(  # 4.x, without an address
        _any(
            r"WARNING: kernel stack regs .* has bad 'bp' value",
            r"WARNING: kernel stack frame pointer .* has bad value",
        ),
        "WARNING: kernel stack regs has bad value",
        stackless=True,
    ),
    Format(_rx(r"WARNING:\s*$"), "WARNING: corrupted", broken=True),
)

# ── INFO: ────────────────────────────────────────────────────────────────────────────────────

_TICK = _rx(r"apic_timer_interrupt")
_AT_PC = _rx(r"at: <PC> +(?P<frame>[A-Za-z0-9_]+)[.+]")


def _old_lockdep(header: str, *then: str) -> tuple[re.Pattern[str], ...]:
    """Before 4.11 lockdep said ``[ INFO: ... ]`` and printed addresses."""
    return (_rx(rf"INFO: {header} \]"), *(_rx(step) for step in then), _AT_PC)


_INFO = (
    Format(
        _rx(r"INFO: " + _CIRCULAR),
        "possible deadlock in {frame}",
        details=_old_lockdep(_CIRCULAR, r"is trying to acquire lock"),
    ),
    Format(
        _rx(r"INFO: " + _INVERSION),
        "possible deadlock in {frame}",
        details=_old_lockdep(_INVERSION, r"just changed the state of lock"),
    ),
    Format(
        _rx(r"INFO: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected"),
        "possible deadlock in {frame}",
        details=_old_lockdep(
            r"SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", r"is trying to acquire"
        ),
    ),
    Format(
        _rx(r"INFO: " + _RECURSIVE),
        "possible deadlock in {frame}",
        details=_old_lockdep(_RECURSIVE, r"is trying to acquire lock"),
    ),
    Format(
        _rx(r"INFO: inconsistent lock state"),
        "inconsistent lock state in {frame}",
        details=_old_lockdep("inconsistent lock state", r"takes"),
    ),
    Format(
        _rx(r"INFO: rcu_(?:preempt|sched|bh|tasks) (?:self-)?detected(?: expedited)? stall"),
        "INFO: rcu detected stall in {frame}",
        ("stall in {frame}",),
        blame=Blame(
            (
                (_TICK, _TRAPPING_PC, STACK),
                (_rx(r"apic_timer_interrupt|Exception stack|el1h_64_irq"), STACK),
                # Since 6.1 the stalled CPU's registers come without the interrupt's frames.
                (Before(_TRAPPING_PC, _rx(r"task:|Call Trace:")), _CALL_TRACE, STACK),
            ),
            skip="apic_timer_interrupt rcu",
            pick="stall",
        ),
    ),
    Format(
        _rx(r"INFO: trying to register non-static key"),
        "INFO: trying to register non-static key in {frame}",
        blame=_trace("stack lock IRQ"),
    ),
    Format(
        _rx(r"INFO: suspicious RCU usage"),
        "INFO: suspicious RCU usage in {frame}",
        details=(_rx(r"INFO: suspicious RCU usage"), _rx(r"<SRC>")),
        blame=_trace("rcu kmem slab"),
    ),
    Format(
        _rx(r"INFO: task .{0,100}? blocked (?:in I/O wait )?for more than [0-9]+ seconds"),
        "INFO: task hung in {frame}",
        ("hang in {frame}",),
        blame=_way(_CALL_TRACE, STACK, pick="hung"),
    ),
    Format(
        _rx(r"INFO: task .{0,100}? can't die for more than .* seconds"),
        "INFO: task can't die in {frame}",
        ("hang in {frame}",),
        blame=_trace("schedule"),
    ),
    Format(  # SLUB's details without their header
        _rx(r"INFO: (?P<what>Freed|Allocated) in (?P<where>.*)"),
        "INFO: {what} in {where}",
        broken=True,
    ),
    Format(_rx(r"INFO:\s*$"), "INFO: corrupted", broken=True),
)

# ── panics ───────────────────────────────────────────────────────────────────────────────────

_NOT_SYNCING = r"Kernel panic - not syncing: "
_PANIC = (
    Format(
        _rx(_NOT_SYNCING + r"stack-protector:"),
        "kernel panic: stack is corrupted in {frame}",
        details=(
            _rx(r"stack-protector: Kernel stack is corrupted in: (?P<frame>[A-Za-z0-9_]+)[.+]"),
        ),
        stackless=True,
    ),
    Format(
        _rx(_NOT_SYNCING + r"stack-protector:"),
        "kernel panic: stack is corrupted in {frame}",
        details=(_rx(r"stack-protector: Kernel stack is corrupted in: [0-9a-f]+"),),
        blame=_trace("stack_chk"),
    ),
    Format(
        _rx(_NOT_SYNCING + r"corrupted stack end"),
        "kernel panic: corrupted stack end in {frame}",
        ("stack-overflow in {frame}",),
        details=(_rx(r"corrupted stack end detected inside scheduler"),),
        blame=_way(_CALL_TRACE, STACK, skip="schedule retint_kernel", pick="stall"),
    ),
    Format(
        _rx(_NOT_SYNCING + r"kernel stack overflow"),
        "kernel stack overflow in {frame}",
        ("stack-overflow in {frame}",),
        blame=_way(_CALL_TRACE, STACK, skip="bad_stack", pick="stall"),
    ),
    Format(_rx(_NOT_SYNCING + r"Attempted to kill init!"), "kernel panic: Attempted to kill init!"),
    Format(
        _rx(_NOT_SYNCING + r"Couldn't open N_TTY ldisc for [^ ]+ --- error -[0-9]+"),
        "kernel panic: Couldn't open N_TTY ldisc",
    ),
    # These follow a report. Where one stands alone, that report was lost.
    Format(_rx(_NOT_SYNCING + r"Fatal exception"), "kernel panic: Fatal exception", broken=True),
    Format(
        _rx(_NOT_SYNCING + r"panic_on_warn set"), "kernel panic: panic_on_warn set", broken=True
    ),
    Format(
        _rx(_NOT_SYNCING + r"hung_task: blocked tasks"),
        "kernel panic: hung_task: blocked tasks",
        broken=True,
    ),
    Format(
        _rx(_NOT_SYNCING + r"sysrq triggered crash"),
        "kernel panic: sysrq triggered crash",
        kernel_bug=False,
    ),
    Format(_rx(_NOT_SYNCING + r"(?P<words>.*)"), "kernel panic: {words}"),
)

# ── the rest ─────────────────────────────────────────────────────────────────────────────────


def _single(marker: str, *formats: Format, lookalikes: str | None = None) -> Family:
    return Family(marker, formats, _rx(lookalikes) if lookalikes else None)


def _strict(marker: str, *formats: Format) -> Family:
    return Family(marker, formats, strict=True)


def _pc_fault(marker: str, title: str, blame: Blame = _FAULT, *alt: str) -> Family:
    return _single(marker, Format(_rx(re.escape(marker)), title, alt, blame=blame))


FAMILIES: tuple[Family, ...] = (
    Family(
        "BUG:",
        _BUG,
        _rx(r"ODEBUG:|Boot_DEBUG:|xlog_status:|DEBUG:|BUG: no syscalls can create resource"),
    ),
    Family(
        "WARNING:",
        _WARNING,
        _any(
            r"WARNING: /etc/ssh/moduli does not exist",
            r"WARNING: workqueue cpumask: online intersect > possible intersect",
            r"WARNING: [Tt]he mand mount option",
            r"WARNING: Unsupported flag value\(s\) of 0x",
            r"WARNING: Unprivileged eBPF is enabled with eIBRS",
            r"WARNING: fbcon: Driver '.*' missed to adjust virtual screen size",
            r"WARNING: See https.* for mitigation options\.",
            r"WARNING: kernel not compiled with CPU_SRSO",
            r"EXT4-[Ff][Ss](?: \(.*\))?:",
            r"WARNING: .* uses (?:deprecated v2 capabilities|wireless extensions)",
            r"XFS \(\w+\): WARNING",
        ),
    ),
    Family(
        "INFO:",
        _INFO,
        _any(
            r"INFO: lockdep is turned off",
            r"INFO: Stall ended before state dump start",
            r"INFO: NMI handler",
            r"INFO: task .{1,80} blocked on an? ",
            r"INFO: recovery required on readonly filesystem",
            r"(?:handler|interrupt).*took too long",
            r"INFO: sys_.* is not present in /proc/kallsyms",
            r"INFO: no syscalls can create resource",
            r"\w_?INFO:|rmt_storage:INFO:",
        ),
    ),
    _single(
        "Unable to handle kernel",
        Format(
            _rx(
                r"Unable to handle kernel "
                r"(?P<what>paging request|NULL pointer dereference|access to user memory)"
            ),
            "BUG: unable to handle kernel {what} in {frame}",
            _BAD_ACCESS,
            blame=_FAULT,
        ),
        Format(  # s390
            _rx(r"Unable to handle kernel pointer dereference in virtual"),
            "BUG: unable to handle kernel paging request in {frame}",
            _BAD_ACCESS,
            blame=_FAULT,
        ),
    ),
    _single(
        "general protection fault",
        Format(
            _rx(r"general protection fault.*:"),
            "general protection fault in {frame}",
            _BAD_ACCESS,
            blame=_FAULT,
        ),
        # arch/x86/kernel/traps.c, show_signal(): a user task's.
        lookalikes=r"general protection fault .* error:[0-9]+ in |general protection fault ip:",
    ),
    _pc_fault("stack segment: ", "stack segment fault in {frame}"),
    Family("Kernel panic", _PANIC),
    _pc_fault("PANIC: double fault", "PANIC: double fault in {frame}", _PC_ONLY),
    _single(
        "rust_kernel: panicked",
        Format(
            _rx(r"rust_kernel: panicked"),
            "{words} in {frame}",
            details=(_rx(r"rust_kernel: panicked at "), _rx(r"^(?P<words>.+)$")),
            blame=_trace("__rustc::rust_begin_unwind"),
        ),
    ),
    _single(
        "kernel BUG",
        Format(
            _rx(r"kernel BUG at mm/usercopy\.c"),
            "BUG: bad usercopy in {frame}",
            blame=_trace("usercopy __check"),
        ),
        Format(
            _rx(r"kernel BUG at lib/list_debug\.c"),
            "BUG: corrupted list in {frame}",
            _BAD_ACCESS,
            blame=_TRACE,
        ),
        Format(
            _rx(r"kernel BUG at .*"),
            "kernel BUG in {frame}",
            # skb_put() and friends check for their caller.
            blame=_way(_TRAPPING_PC, _CALL_TRACE, STACK, skip="^skb_"),
        ),
    ),
    _single("Kernel BUG", Format(_rx(r"Kernel BUG (?P<words>.*)"), "kernel BUG {words}")),
    _single(
        "BUG kmalloc-",
        Format(_rx(r"BUG kmalloc-.*: Object already free"), "BUG: Object already free"),
    ),
    _pc_fault("divide error:", "divide error in {frame}", _PC_ONLY),
    _pc_fault("divide_error:", "divide error in {frame}", _PC_ONLY),  # 5.8 to 5.10
    _pc_fault("invalid opcode:", "invalid opcode in {frame}", _PC_ONLY),
    _pc_fault("int3:", "int3 in {frame}"),
    Family("UBSAN:", _UBSAN),
    _single(
        "Booting the kernel.",
        Format(_rx(r"^Booting the kernel"), "unexpected kernel reboot", stackless=True),
        lookalikes=r"Parsing ELF|Decompressing Linux|Unknown parameter '",
    ),
    _single(
        "unregister_netdevice: waiting for",
        Format(
            _rx(r"unregister_netdevice: waiting for .* to become free"),
            "unregister_netdevice: waiting for DEV to become free",
            stackless=True,
        ),
    ),
    _single(
        "VFS: Close: file count is 0",
        Format(
            _rx(r"VFS: Close: file count is 0"),
            "VFS: Close: file count is zero (use-after-free)",
            stackless=True,
        ),
    ),
    _single(
        "VFS: Busy inodes after unmount",
        Format(
            _rx(r"VFS: Busy inodes after unmount"),
            "VFS: Busy inodes after unmount (use-after-free)",
            stackless=True,
        ),
    ),
    _pc_fault("Internal error:", "Internal error in {frame}", _FAULT, *_BAD_ACCESS),
    _pc_fault("Unhandled fault:", "Unhandled fault in {frame}", _FAULT, *_BAD_ACCESS),
    _pc_fault("Alignment trap:", "Alignment trap in {frame}"),
    _single(
        "trusty: panic",
        Format(
            _rx(r"trusty: panic.* ASSERT FAILED"),
            "trusty: ASSERT FAILED: {words}",
            details=(
                _rx(r"trusty: panic \(.*?\):(?: DEBUG)? ASSERT FAILED at \(.*?\): (?P<words>.+)"),
            ),
            stackless=True,
        ),
        Format(
            _rx(r"trusty: panic.* ASSERT FAILED.*: *(?P<words>.*)"),
            "trusty: ASSERT FAILED: {words}",
            broken=True,
        ),
        Format(
            _rx(r"trusty: panic"),
            "trusty: panic: {words}",
            details=(_rx(r"trusty: panic \(.*?\): (?P<words>.+)"),),
            stackless=True,
        ),
    ),
    _single(
        "fatal error:",
        Format(_rx(r"fatal error:"), "go runtime error", stackless=True, kernel_bug=False),
        lookalikes=r"ALSA|fatal error: cannot create timer",
    ),
    # A fuzzer's own failures, found in its consoles.
    _single(
        "SYZFAIL:",
        Format(_rx(r"SYZFAIL:(?P<words>.*)"), "SYZFAIL:{words}", stackless=True, kernel_bug=False),
    ),
    _single(
        "SYZFATAL:",
        Format(
            _rx(r"SYZFATAL:(?P<words>.*)"),
            "SYZFATAL:{words}",
            ("SYZFATAL",),
            stackless=True,
            kernel_bug=False,
        ),
    ),
    _single(
        "panic:",
        Format(
            _rx(r"panic: Sentry detected .* stuck task"),
            "panic: Sentry detected stuck tasks",
            stackless=True,
            kernel_bug=False,
        ),
        Format(_rx(r"panic:(?P<words>.*)"), "panic:{words}", stackless=True, kernel_bug=False),
        lookalikes=r"_panic:|xlog_status:|ddb\.onpanic:|evtlog_status:",
    ),
    # What syzbot has no name for. Last, so that its names come first.
    _strict(
        "unreferenced object 0x",  # as /sys/kernel/debug/kmemleak lists them
        Format(_rx(r"unreferenced object 0x"), "memory leak in {frame}", blame=_LEAK),
    ),
    _strict(
        "hard LOCKUP on cpu",
        Format(
            _rx(r"Watchdog detected hard LOCKUP on cpu"),
            "hard LOCKUP in {frame}",
            ("stall in {frame}",),
            blame=_way(_TRAPPING_PC, _CALL_TRACE, STACK, pick="stall"),
        ),
    ),
    _strict(
        "ainted): ",  # mm/slub.c, slab_bug()
        Format(
            _rx(
                r"BUG (?P<cache>[\w-]{1,64}) \((?:Not tainted|Tainted: [A-Z ]{1,40})\): (?!kasan:)(?P<what>.*)"
            ),
            "slab corruption in {cache}: {what}",
            kind="MEMORY_SAFETY_BUG",
            blame=_TRACE,
        ),
    ),
    _strict(
        "Kernel bug detected[#",  # mips, loongarch
        Format(_rx(r"Kernel bug detected\[#"), "kernel BUG in {frame}", blame=_FAULT),
    ),
    _strict(
        "segfault at ",
        Format(
            _rx(r"(?P<comm>[^\[\]]{1,32})\[[0-9]+\]: segfault at [0-9a-f]+ ip"),
            "segfault in {comm}",
            stackless=True,
            kernel_bug=False,
        ),
    ),
    _strict(
        "traps: ",
        Format(
            _rx(r"traps: (?P<comm>[^\[\]]{1,32})\[[0-9]+\] (?P<what>[a-z][a-z ]{3,40}) ip:"),
            "user {what} in {comm}",
            stackless=True,
            kernel_bug=False,
        ),
    ),
    Family(  # die() of any architecture, where its first line was lost or is this one
        " [#",
        (
            Format(
                _rx(
                    r"(?P<what>[A-Za-z][A-Za-z ,()/-]{2,80}?):?(?: [0-9a-f]{4,16})?(?: ilc:[0-9])?"
                    r" \[#[0-9]{1,4}\]"
                ),
                "{what} in {frame}",
                _BAD_ACCESS,
                kind="DoS",
                blame=_FAULT,
            ),
        ),
        strict=True,
        weak=True,
    ),
    Family("sysrq: Show ", (), _rx(r"sysrq: Show (?:Regs|Memory|clockevent)"), dump=True),
    Family("SysRq : Show ", (), _rx(r"SysRq : Show (?:Regs|Memory|clockevent)"), dump=True),
)


def family_of(line: str) -> Family | None:
    """The family whose report a line announces."""
    return next(_families(line), None)


def _families(line: str) -> Iterator[Family]:
    for family in FAMILIES:
        if family.marker not in line or (family.lookalikes and family.lookalikes.search(line)):
            continue
        if not family.strict or any(form.header.search(line) for form in family.formats):
            yield family
