"""syzbot's type names (``KASAN-USE-AFTER-FREE-READ``, ``HANG`` ...), by the title's beginning."""

from __future__ import annotations

__all__ = ["LEAK", "LOCKUPS", "UNKNOWN", "kind_of"]

UNKNOWN = "UNKNOWN"
"""A report whose title no type claims."""
LEAK = "LEAK"
LOCKUPS = frozenset({"HANG"})

# Longest matching beginning wins.
_KINDS: dict[str, tuple[str, ...]] = {
    "KASAN-USE-AFTER-FREE-WRITE": (
        "KASAN: slab-use-after-free Write",
        "KASAN: use-after-free Write",
    ),
    "KASAN-USE-AFTER-FREE-READ": ("KASAN: slab-use-after-free Read", "KASAN: use-after-free"),
    "KASAN-NULL-POINTER-DEREFERENCE-WRITE": ("KASAN: null-ptr-deref Write",),
    "KASAN-NULL-POINTER-DEREFERENCE-READ": ("KASAN: null-ptr-deref Read",),
    "KASAN-INVALID-FREE": ("KASAN: invalid-free", "KASAN: double-free or invalid-free"),
    "KASAN-WRITE": (
        "KASAN: global-out-of-bounds Write",
        "KASAN: out-of-bounds Write",
        "KASAN: slab-out-of-bounds Write",
        "KASAN: stack-out-of-bounds Write",
        "KASAN: user-memory-access Write",
        "KASAN: vmalloc-out-of-bounds Write",
        "KASAN: wild-memory-access Write",
    ),
    "KASAN-READ": (  # without the direction it is a read at least
        "KASAN: global-out-of-bounds Read",
        "KASAN: invalid-access Read",
        "KASAN: out-of-bounds Read",
        "KASAN: slab-out-of-bounds",
        "KASAN: stack-out-of-bounds",
        "KASAN: unknown-crash Read",
        "KASAN: user-memory-access Read",
        "KASAN: vmalloc-out-of-bounds Read",
        "KASAN: wild-memory-access",
    ),
    "KASAN-UNKNOWN": ("KASAN:",),
    "KFENCE-USE-AFTER-FREE-WRITE": ("KFENCE: use-after-free write",),
    "KFENCE-USE-AFTER-FREE-READ": ("KFENCE: use-after-free",),
    "KFENCE-WRITE": ("KFENCE: invalid write", "KFENCE: out-of-bounds write"),
    "KFENCE-READ": ("KFENCE: invalid read", "KFENCE: out-of-bounds"),
    "KFENCE-INVALID-FREE": ("KFENCE: invalid free",),
    "KFENCE-MEMORY-CORRUPTION": ("KFENCE: memory corruption",),
    "KFENCE-UNKNOWN": ("KFENCE:",),
    "KMSAN-UNINIT-VALUE": ("KMSAN: uninit-value",),
    "KMSAN-USE-AFTER-FREE-READ": (
        "KMSAN: kernel-infoleak-after-free",
        "KMSAN: kernel-usb-infoleak-after-free",
        "KMSAN: use-after-free",
    ),
    "KMSAN-INFO-LEAK": ("KMSAN: kernel-infoleak", "KMSAN: kernel-usb-infoleak"),
    "KMSAN-UNKNOWN": ("KMSAN:",),
    "KCSAN-DATARACE": ("KCSAN: data-race",),
    "KCSAN-ASSERT": ("KCSAN: assert: race in",),
    "KCSAN-UNKNOWN": ("KCSAN:",),
    "MEMORY_SAFETY_UBSAN": ("UBSAN: array-index-out-of-bounds",),
    "UBSAN": ("UBSAN:",),
    "NULL-POINTER-DEREFERENCE": ("BUG: unable to handle kernel NULL pointer dereference in",),
    "MEMORY_SAFETY_BUG": ("BUG: corrupted list", "BUG: unable to handle kernel paging request"),
    "REFCOUNT_WARNING": ("WARNING: refcount bug",),
    "LOCKDEP": (
        "BUG: bad unlock balance in",
        "BUG: held lock freed in",
        "BUG: rwlock",
        "BUG: spinlock",
        "BUG: still has locks held in",
        "BUG: using",
        "WARNING: bad unlock balance in",
        "WARNING: held lock freed in",
        "WARNING: lock held",
        "WARNING: locking bug in",
        "WARNING: nested lock was not taken in",
        "WARNING: still has locks held in",
        "WARNING: suspicious RCU usage in",
        "inconsistent lock state in",
        "possible deadlock in",
    ),
    "ATOMIC_SLEEP": (
        "BUG: scheduling while atomic in",
        "BUG: sleeping function called from invalid context in",
    ),
    LEAK: ("memory leak in",),
    "BUG": ("BUG: bad usercopy in", "kernel BUG"),
    "WARNING": ("WARNING in", "WARNING:"),
    "HANG": (
        "BUG: soft lockup in",
        "INFO: rcu detected stall in",
        "INFO: task can't die in",
        "INFO: task hung in",
        "hard LOCKUP in",
    ),
    "DoS": (
        "Alignment trap in",
        "BUG: Object already free",
        "Internal error in",
        "PANIC: double fault",
        "Unhandled fault in",
        "VFS: Busy inodes after unmount (use-after-free)",
        "VFS: Close: file count is zero (use-after-free)",
        "divide error in",
        "general protection fault in",
        "go runtime error",
        "int3 in",
        "invalid opcode in",
        "kernel panic:",
        "kernel stack overflow",
        "panic:",
        "rust_kernel panicked",
        "stack segment fault in",
        "trusty:",
        "unregister_netdevice: waiting for DEV to become free",
    ),
    "REBOOT": ("unexpected kernel reboot",),
    "SYZ_FAILURE": ("SYZFAIL", "SYZFATAL:"),
    "USER-FAULT": ("segfault in", "user "),
    UNKNOWN: (  # printed by printk() alone, no defect class behind it
        "BUG: stack guard page was hit in",
        "WARNING: corrupted",
        "WARNING: kernel stack frame pointer has bad value",
        "WARNING: kernel stack regs has bad",
    ),
}
_BY_LENGTH = sorted(
    ((start, kind) for kind, starts in _KINDS.items() for start in starts),
    key=lambda entry: -len(entry[0]),
)


def kind_of(title: str) -> str:
    """The type of a report titled `title`; :data:`UNKNOWN` when no type claims it."""
    return next((kind for start, kind in _BY_LENGTH if title.startswith(start)), UNKNOWN)
