"""The kernel's blocking primitives: as stacks show them, and as source spells them.

Sources: kernel/locking/, kernel/sched/completion.c, kernel/workqueue.c, kernel/time/timer.c,
kernel/kthread.c, kernel/rcu/, include/linux/cleanup.h.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kagent.diagnosis.helpers import bare_name

__all__ = [
    "Kind",
    "Primitive",
    "acquires",
    "guards",
    "is_spin",
    "released",
    "signals",
    "waits_in",
    "wrapped",
]

Kind = Literal["lock", "event", "handler", "grace-period", "io", "sleep"]
"""lock: has an owner; event: somebody must signal it; handler: some function must return first
(work item, timer, thread, interrupt); grace-period: all readers must leave; io; sleep: a timeout.
"""


@dataclass(frozen=True, slots=True)
class Primitive:
    """What a task waits in or takes."""

    type: str
    kind: Kind = "lock"
    mode: Literal["", "read", "write"] = ""


_MUTEX = Primitive("mutex")
_RT_MUTEX = Primitive("rt_mutex")
_SOCKET = Primitive("socket lock")
_SPIN = Primitive("spinlock")
_SEM = Primitive("semaphore")
_COMPLETION = Primitive("completion", "event")

# Stack symbols, without suffixes and leading underscores. The outermost one that matches names
# the wait: flush_work() waits in wait_for_completion(), but for a work item.
_STACK: tuple[tuple[str, Primitive], ...] = (
    (r"(?:ww_)?mutex_lock\w*", _MUTEX),
    (r"rt_mutex_(?:lock|slowlock)\w*", _RT_MUTEX),
    (r"rt_spin_lock\w*|rtlock_\w+", _SPIN),
    (r"lock_sock\w*", _SOCKET),
    (r"(?:call_)?(?:rwsem_)?down_read(?!_trylock)\w*", Primitive("rwsem", mode="read")),
    (r"(?:call_)?(?:rwsem_)?down_write(?!_trylock)\w*", Primitive("rwsem", mode="write")),
    (r"percpu_(?:down_read|rwsem_wait)\w*", Primitive("percpu_rwsem", mode="read")),
    (r"percpu_down_write\w*", Primitive("percpu_rwsem", mode="write")),
    (r"down|down_(?:common|interruptible|killable|timeout)\w*", _SEM),
    (r"(?:native_|pv_)?queued_spin_lock_slowpath|(?:do_)?raw_spin_lock\w*|spin_lock\w*", _SPIN),
    (r"kvm_wait|pv_wait\w*|arch_spin_lock_wait\w*", _SPIN),
    (r"queued_read_lock_slowpath|(?:do_)?raw_read_lock\w*", Primitive("rwlock", mode="read")),
    (r"queued_write_lock_slowpath|(?:do_)?raw_write_lock\w*", Primitive("rwlock", mode="write")),
    (r"(?:do_)?wait_for_com(?:mon|pletion)\w*", _COMPLETION),
    (r"flush_(?:delayed_|rcu_)?work|(?:cancel|disable)_(?:delayed_)?work\w*|cancel_sync",
     Primitive("work", "handler")),
    (r"tasklet_(?:kill|disable|unlock_wait)\w*", Primitive("tasklet", "handler")),
    (r"(?:flush|drain|destroy)_workqueue", Primitive("workqueue", "handler")),
    (r"kthread_(?:stop|park)|kthread_flush_w\w+", Primitive("kthread", "handler")),
    (r"(?:try_to_)?(?:del_timer|timer_delete|timer_shutdown)_sync|del_timer_wait_running",
     Primitive("timer", "handler")),
    (r"hrtimer_cancel\w*", Primitive("hrtimer", "handler")),
    (r"synchronize_irq|disable_irq|free_irq", Primitive("irq", "handler")),
    (r"synchronize_(?:s?rcu|sched|net)\w*|rcu_barrier\w*|wait_rcu_gp\w*",
     Primitive("rcu", "grace-period")),
    (r"(?:folio|lock)_(?:lock|page)\w*|folio_wait_bit\w*", Primitive("page lock", "io")),
    (r"wait_on_buffer|lock_buffer|sync_dirty_buffer|submit_bio_wait|blk_execute_rq\w*"
     r"|wait_on_page_\w+|folio_wait_(?:writeback|stable)\w*", Primitive("io", "io")),
    (r"wait_on_bit\w*|out_of_line_wait_on_bit\w*|bit_wait\w*", Primitive("bit", "event")),
    (r"io_schedule\w*", Primitive("io", "io")),
    (r"msleep\w*|usleep_range\w*|schedule_(?:hr)?timeout\w*|do_nanosleep",
     Primitive("sleep", "sleep")),
)  # fmt: skip
_STACK_PATTERNS = tuple((re.compile(pattern), primitive) for pattern, primitive in _STACK)

_VARIANT = r"(?:_(?:nested|nest_lock|interruptible|killable|io|timeout|bh|irq|irqsave|trylock))*"
# Calls in source that take a lock or wait, by name; the first argument says which one.
_ACQUIRE: tuple[tuple[str, Primitive], ...] = (
    (rf"(?:ww_)?mutex_(?:try)?lock{_VARIANT}", _MUTEX),
    (rf"rt_mutex_(?:try)?lock{_VARIANT}", _RT_MUTEX),
    (rf"(?:raw_)?spin_(?:try)?lock{_VARIANT}", _SPIN),
    (rf"read_(?:try)?lock{_VARIANT}", Primitive("rwlock", mode="read")),
    (rf"write_(?:try)?lock{_VARIANT}", Primitive("rwlock", mode="write")),
    (rf"down_read{_VARIANT}", Primitive("rwsem", mode="read")),
    (rf"down_write{_VARIANT}", Primitive("rwsem", mode="write")),
    (r"percpu_down_read", Primitive("percpu_rwsem", mode="read")),
    (r"percpu_down_write", Primitive("percpu_rwsem", mode="write")),
    (rf"down{_VARIANT}", _SEM),
    (r"wait_for_completion\w*", _COMPLETION),
    (r"wait_event\w*|prepare_to_wait\w*", Primitive("wait queue", "event")),
    (
        r"flush_(?:delayed_|rcu_)?work|(?:cancel|disable)_(?:delayed_)?work_sync",
        Primitive("work", "handler"),
    ),
    (r"(?:flush|drain|destroy)_workqueue", Primitive("workqueue", "handler")),
    (r"kthread_(?:stop|park)", Primitive("kthread", "handler")),
    (r"(?:del_timer|timer_delete|timer_shutdown)_sync", Primitive("timer", "handler")),
    (r"hrtimer_cancel", Primitive("hrtimer", "handler")),
    (r"free_irq|disable_irq|synchronize_irq", Primitive("irq", "handler")),
)
_ACQUIRE_PATTERNS = tuple((re.compile(pattern), primitive) for pattern, primitive in _ACQUIRE)
_RELEASE = re.compile(
    r"(?:ww_|rt_)?mutex_unlock|(?:raw_)?spin_unlock(?:_bh|_irq|_irqrestore)?"
    r"|(?:read|write)_unlock(?:_bh|_irq|_irqrestore)?|up(?:_read|_write)?(?:_non_owner)?"
    r"|percpu_up_(?:read|write)"
)
_SIGNAL: tuple[tuple[str, Primitive], ...] = (
    (r"complete(?:_all|_with_flags)?", _COMPLETION),
    (r"up", _SEM),
    (r"wake_up\w*|swake_up\w*", Primitive("wait queue", "event")),
)
_SIGNAL_PATTERNS = tuple((re.compile(pattern), primitive) for pattern, primitive in _SIGNAL)
_GUARDS = {
    "mutex": _MUTEX, "mutex_intr": _MUTEX, "spinlock": _SPIN, "spinlock_irq": _SPIN,
    "spinlock_bh": _SPIN, "spinlock_irqsave": _SPIN, "raw_spinlock": _SPIN,
    "raw_spinlock_irq": _SPIN, "raw_spinlock_irqsave": _SPIN,
    "rwsem_read": Primitive("rwsem", mode="read"), "rwsem_write": Primitive("rwsem", mode="write"),
    "read_lock": Primitive("rwlock", mode="read"), "write_lock": Primitive("rwlock", mode="write"),
}  # fmt: skip


# Wrappers that the whole kernel uses: lock, the lock's expression, and the call that ends it.
_WRAPPERS: dict[str, tuple[Primitive, str, str]] = {
    "inode_lock": (Primitive("rwsem", mode="write"), "&{0}->i_rwsem", "inode_unlock"),
    "inode_lock_shared": (Primitive("rwsem", mode="read"), "&{0}->i_rwsem", "inode_unlock_shared"),
    "inode_lock_nested": (Primitive("rwsem", mode="write"), "&{0}->i_rwsem", "inode_unlock"),
    "mmap_read_lock": (Primitive("rwsem", mode="read"), "&{0}->mmap_lock", "mmap_read_unlock"),
    "mmap_write_lock": (Primitive("rwsem", mode="write"), "&{0}->mmap_lock", "mmap_write_unlock"),
    "mmap_write_lock_killable": (Primitive("rwsem", mode="write"), "&{0}->mmap_lock",
                                 "mmap_write_unlock"),
    "mmap_read_lock_killable": (Primitive("rwsem", mode="read"), "&{0}->mmap_lock",
                                "mmap_read_unlock"),
    "filemap_invalidate_lock": (Primitive("rwsem", mode="write"), "&{0}->invalidate_lock",
                                "filemap_invalidate_unlock"),
    "filemap_invalidate_lock_shared": (Primitive("rwsem", mode="read"), "&{0}->invalidate_lock",
                                       "filemap_invalidate_unlock_shared"),
    "i_mmap_lock_read": (Primitive("rwsem", mode="read"), "&{0}->i_mmap_rwsem",
                         "i_mmap_unlock_read"),
    "i_mmap_lock_write": (Primitive("rwsem", mode="write"), "&{0}->i_mmap_rwsem",
                          "i_mmap_unlock_write"),
    "device_lock": (_MUTEX, "&{0}->mutex", "device_unlock"),
    "lock_sock": (_SOCKET, "&{0}->sk_lock", "release_sock"),
    "lock_sock_nested": (_SOCKET, "&{0}->sk_lock", "release_sock"),
    "bh_lock_sock": (_SPIN, "&{0}->sk_lock.slock", "bh_unlock_sock"),
    "rtnl_lock": (_MUTEX, "rtnl_mutex", "rtnl_unlock"),
    "genl_lock": (_MUTEX, "genl_mutex", "genl_unlock"),
    "console_lock": (_SEM, "console_sem", "console_unlock"),
    "flush_scheduled_work": (Primitive("workqueue", "handler"), "system_wq", ""),
    "cgroup_lock": (_MUTEX, "cgroup_mutex", "cgroup_unlock"),
    "cpus_read_lock": (Primitive("percpu_rwsem", mode="read"), "cpu_hotplug_lock",
                       "cpus_read_unlock"),
    "cpus_write_lock": (Primitive("percpu_rwsem", mode="write"), "cpu_hotplug_lock",
                        "cpus_write_unlock"),
}  # fmt: skip
_WRAPPERS_END = {end: text for _, text, end in _WRAPPERS.values() if end}


def waits_in(symbol: str) -> Primitive | None:
    """What a task with this function on top of its stack waits in."""
    return _look_up(_STACK_PATTERNS, bare_name(symbol))


def is_spin(primitive: Primitive) -> bool:
    """Whether waiting for it burns the CPU."""
    return primitive.type in ("spinlock", "rwlock", "timer", "hrtimer")


def acquires(call: str) -> Primitive | None:
    """What a call in source takes or waits for."""
    return _look_up(_ACQUIRE_PATTERNS, call.lstrip("_"))


def released(call: str, arguments: Sequence[str]) -> str | None:
    """The lock that a call in source releases, as an expression."""
    name = call.lstrip("_")
    if name in _WRAPPERS_END:
        return _WRAPPERS_END[name].format(*(arguments or ("",)))
    return arguments[0] if arguments and _RELEASE.fullmatch(name) else None


def wrapped(call: str) -> tuple[Primitive, str] | None:
    """The lock behind a well-known wrapper, with a format for the call's first argument."""
    entry = _WRAPPERS.get(call.lstrip("_"))
    return entry[:2] if entry else None


def signals(call: str) -> Primitive | None:
    """What a call in source lets others go on from."""
    return _look_up(_SIGNAL_PATTERNS, call.lstrip("_"))


def guards(name: str) -> Primitive | None:
    """The lock behind ``guard(name)`` or ``scoped_guard(name, ...)``."""
    return _GUARDS.get(name)


def _look_up(table: tuple[tuple[re.Pattern[str], Primitive], ...], name: str) -> Primitive | None:
    return next((primitive for pattern, primitive in table if pattern.fullmatch(name)), None)
