r"""Functions a title never blames: they report, check, lock, copy or allocate for their caller.

Each entry is a regular expression searched for in a symbol's name (without ``.isra`` and the
like), so a bare word also covers its variants: ``kasan`` means ``kasan_report`` and
``__kasan_check_read``. Adding a name changes the titles of every report through that function.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["SYSCALL_PREFIXES", "blameless", "is_dispatcher", "is_waiting", "strip_syscall"]

# Sanitizers and the entry points the compiler calls (mm/kasan, mm/kmsan, kernel/kcsan, lib/ubsan).
_SANITIZERS = (
    "kasan hwasan kmsan __asan __msan __sanitizer kcsan_setup_watchpoint check_memory_region "
    "check_heap_object check_object read_word_at_a_time (?:read|write)_once_.*nocheck "
    "print_address_description print_report stack_trace_consume_entry stack_trace_save "
    "arch_stack_walk __fortify_report __phys_addr"
)
# What turns a condition into a report: panic(), WARN(), BUG(), traps, stack dumps.
_REPORTING = (
    "panic invalid_op report_bug fixup_bug do_error _trap$ do_trap show_stack dump_stack "
    "walk_stack dump_backtrace warn_slowpath warn_alloc warn_bogus __warn print_tainted "
    "^get_taint$ assertfail program_check_exception program_check_common "
    "do_(?:kernel|translation)_fault do_mem_abort el1_abort el1h_64_sync(?:_handler)?"
)
_PRINTING = (
    "printk string pointer snprintf scnprintf kasprintf kvasprintf va_format hex_dump_to_buffer "
    "print_hex_dump dev_(?:info|notice|warn|err|alert|crit|emerg)"
)
# Lock debugging and the locks themselves: the caller took the wrong lock, or waits for it.
_LOCKING = (
    "lockdep print_usage_bug print_unlock imbalance_bug lock_acquire lock_release lock_class "
    "mark_lock (?:reacquire|mark)_held_locks (?:trace|lockdep)_(?:hard|soft)irq raw_spin_rq "
    "spin_(?:lock|trylock|unlock) (?:read|write)_(?:lock|trylock|unlock) ^down$ down_read "
    "down_write down_trylock up_read up_write ^(?:__)?mutex_ ^rt_mutex_ owner_on_cpu "
    "osq_(?:lock|unlock) bh_enable bh_disable seqprop_assert might_fault might_sleep "
    "__might_resched perf_trace ^(?:un)?lock_page"
)
# Helpers a bad pointer is handed to: atomics, bit operations, refcounts, lists, trees.
_PRIMITIVES = (
    "atomic(?:64)?_(?:dec|inc|read|set|or|xor|and|add|sub|fetch|xchg|cmpxchg|try) "
    "(?:set|clear|change|test)_bit ^refcount_ ^kref_ ref_tracker "
    "list_(?:add|del|replace|move|splice) ^(?:__)?rb_ ^klist_ xas_(?:start|load|find) "
    "rhashtable_lookup ida_free _indirect_thunk_ __wake_up ^complete$ wait_for_completion "
    "finish_wait"
)
_COPYING = (
    "mem(?:cpy|cmp|set|chr|move|dup) str(?:cmp|ncmp|cpy|lcpy|ncpy|scpy|len|str|nstr|nlen|chr) "
    "str(?:dup|ndup) copy_(?:to|from)_(?:user|iter) copy_page_(?:to|from)_iter copy_folio_to_iter "
    "^copyin$ ^copyout$ (?:put|get)_user extract_(?:user|iter)_to_sg ^crc\\d+ crc_itu_t "
    "(?:read|write)[bwlq]$ logic_(?:in|out)"
)
_MEMORY = (
    "alloc_page k?v?[mzc]alloc krealloc kmem_cache allocate_slab slab_ "
    "__alloc_frozen_pages_noprof ^kv?free$ kfree_skb folio_(?:alloc|unlock) "
    "filemap_alloc_folio __filemap_get_folio find_or_create_page do_read_cache_folio "
    "read_cache_page pagecache_get_page grab_cache_page_write_begin find_lock_entries "
    "truncate_inode_pages_range mark_buffer_dirty"
)
# Teardown and queueing services: what they trip over was left behind by somebody else.
_OBJECTS = (
    "debug_object (?:timer|work)_is_static_object kobject_ add_uevent_var get_device_parent "
    "device_(?:add|del|unregister|destroy|release|for_each_child|remove_file) "
    "devres_release_all ^put_device$ sysfs_remove tty_unregister_device hwrng_unregister "
    "i2c_del_adapter __unregister_client rollback_registered unregister_netdev ^iput$ "
    "^iput_final$ ^ihold$ dput drop_nlink cleanup_srcu_struct kthread_stop"
)
_DEFERRED = (
    "del_timer lock_timer_base __timer_delete_sync sk_stop_timer_sync __mod_timer flush_work "
    "__cancel_work_timer cancel_work_sync try_to_grab_pending (?:flush|drain|destroy)_workqueue "
    "queue_work insert_work __queue_delayed_work queue_delayed_work_on"
)
_USB = (
    "dummy_urb_enqueue usb_kill_urb usb_kill_anchored_urbs usb_control_msg usb_hcd_submit_urb "
    "usb_submit_urb"
)

_ALWAYS = tuple(
    " ".join(
        (
            _SANITIZERS,
            _REPORTING,
            _PRINTING,
            _LOCKING,
            _PRIMITIVES,
            _COPYING,
            _MEMORY,
            _OBJECTS,
            _DEFERRED,
            _USB,
        )
    ).split()
)

SYSCALL_PREFIXES = (
    "____sys_",
    "___sys_",
    "__arm64_",
    "__do_sys_",
    "__ia32_",
    "__se_",
    "__se_sys_",
    "__sys_",
    "__x64_",
    "SYSC_",
    "SyS_",
    "compat_SYSC_",
    "compat_SyS_",
    "ksys_",
    "sys_",
)
"""What SYSCALL_DEFINE and the architectures put before a system call's name."""


def strip_syscall(name: str) -> str:
    """`name` without the longest wrapper prefix it has."""
    return min((name.removeprefix(prefix) for prefix in SYSCALL_PREFIXES), key=len)


@lru_cache(maxsize=64)
def blameless(extra: str = "") -> re.Pattern[str]:
    """The pattern of skipped names, with a report format's own (blank-separated) additions."""
    return re.compile("|".join((*_ALWAYS, *extra.split())), re.ASCII)


_WAITING = re.compile(
    r"sched|_lock|_slowlock|down|rwsem|completion|kthread|wait|synchronize|context_switch"
    r"|__switch_to|cancel_delayed_work|rcu_barrier"
)


def is_waiting(name: str) -> bool:
    """Whether `name` puts its caller to sleep: the innermost frames of every hung task."""
    return _WAITING.search(name) is not None


# Where a loop is dispatched from. In a stall any function of the loop may be on top, so reports
# are told apart by the function called from the deepest of these.
_DISPATCHERS = re.compile(
    "|".join(
        (
            # system call entry
            "do_syscall_|do_fast_syscall_|sysenter_dispatch|tracesys_phase2|el0_svc_handler",
            "invoke_syscall|ret_fast_syscall",
            # softirq, timers, workers, idle
            "netif_receive_skb|do_softirq|call_timer_fn|_run_timers|run_timer_softirq|hrtimer_run",
            "run_ksoftirqd|tasklet_action|tasklet_hi_action|process_one_work|smpboot_thread_fn",
            "^kthread$|ret_from_fork|start_secondary|cpu_startup_entry|smp_call_function",
            # file operations
            "vfs_(?:write|read|iter_read|iter_write|ioctl|open)|do_iter_(?:read|write)",
            "call_(?:read|write)_iter|new_sync_(?:read|write)|do_iter_readv_writev|ksys_ioctl",
            "compat_ioctl|compat_sys_ioctl|blkdev_(?:driver_)?ioctl|do_dentry_open|__fput",
            "^call_mmap|mmap_region|do_mmap",
            # socket operations
            "^sock_(?:sendmsg|recvmsg|release|mmap|ioctl|do_ioctl)|^__sock_release",
            "^compat_sock_ioctl|^setsockopt$|kernel_setsockopt|sock_common_setsockopt",
            "^listen$|kernel_listen|^accept$|kernel_accept|sk_common_release",
            "^nfnetlink_rcv_msg|^rtnetlink_rcv_msg|^netlink_dump",
            "^(?:sys_)?(?:socketpair|connect|ioctl)",
            # faults and the way back to user space
            "__do_fault|do_page_fault|^page_fault$|task_work_run|exit_to_usermode",
        )
    ),
    re.ASCII,
)


def is_dispatcher(name: str) -> bool:
    """Whether `name` dispatches work, so that its callee is what a stalled CPU is busy with."""
    return _DISPATCHERS.search(name) is not None
