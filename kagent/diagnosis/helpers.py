"""Functions that work on what others hand them, and frames that every trace has.

A fault inside a helper is the caller's: the bad pointer, count or object came in as an argument.
Names are compared without compiler suffixes (``.constprop.0``), leading underscores and the
``_noprof`` of allocation profiling.
"""

from __future__ import annotations

import re

__all__ = ["bare_name", "base_name", "is_helper", "is_scaffold"]

_SUFFIX = re.compile(r"(?:\.(?:constprop|isra|part|cold|llvm|lto_priv|clone)(?:\.\d{1,20})?)+$")

_FAMILIES: dict[str, str] = {
    "strings and memory": (
        r"mem(?:chr|cmp|cpy|move|set|scan|dup_user)(?:_\w{1,32})?"
        r"|str(?:n?cat|r?chr|n?cmp|[lns]?cpy|n?len|nchr|n?str|sep|c?spn|n?casecmp|im|reverse)"
        r"|sized_strscpy|skip_spaces|kmemdup\w{0,16}|kstrn?dup(?:_const)?|csum_partial\w{0,16}"
        r"|(?:copy|clear)_page(?:_\w{1,16})?|rep_(?:movs|stos)_alternative|fortify_\w{1,32}"
        r"|v?s[cn]{0,2}printf|kv?asprintf|v?sscanf|format_decode|string(?:_nocheck)?|put_dec|number"
        r"|rb_(?:insert_color|erase|next|prev|first|last)\w{0,16}"
    ),
    "user memory": (
        r"copy_(?:from|to|in)_user\w{0,24}|copy_user_\w{1,48}|copy_mc_\w{1,32}|clear_user\w{0,24}"
        r"|(?:get|put)_user_\w{1,16}|strn(?:cpy_from|len)_user|check_(?:object_size|heap_object)"
        r"|usercopy_abort|copy_overflow|might_\w{1,16}"
    ),
    "lists and references": (
        r"list_(?:add|del|move|splice|replace|cut)\w{0,40}|hlist_\w{1,32}|llist_\w{1,32}"
        r"|plist_(?:add|del)|refcount_\w{1,40}|kref_\w{1,32}|u?atomic\w{0,40}|raw_atomic\w{1,40}"
        r"|arch_atomic\w{1,40}|(?:test_and_)?(?:set|clear|change|test)_bit\w{0,16}|xchg|cmpxchg"
        r"|debug_object_\w{1,32}|debug_print_object|debug_check_\w{1,32}"
    ),
    "allocators": (
        r"k[vz]?free\w{0,24}|vfree|kv?[mzc]alloc\w{0,32}|kmem_cache_(?:alloc|free)\w{0,24}"
        r"|kv?realloc\w{0,16}|k[mv]{0,2}alloc_\w{1,32}|vz?m?alloc|do_slab_free|do_kmalloc\w{0,16}"
        r"|slab_(?:alloc|free|post|pre|err|fix|pad|bug|object)\w{0,32}|cache_(?:alloc|free)\w{0,16}"
        r"|kmem_cache_destroy|mempool_\w{1,24}|[gs]et_freepointer|object_err|print_trailer|check_slab|check_bytes_and_report"
        r"|free_to_p\w{1,16}|(?:free|alloc)_debug_processing|allocate_slab|new_slab"
        r"|alloc_pages\w{0,24}|(?:get_)?free_pages?\w{0,16}|get_page_from_freelist|stack_depot_\w{1,32}"
    ),
    "locks": (
        r"(?:ww_|rt_)?mutex_\w{1,40}|(?:raw_|do_raw_)?(?:spin|read|write)_(?:try)?(?:un)?lock\w{0,24}"
        r"|(?:native_|pv_)?queued_(?:spin|read|write)_\w{1,40}|virt_spin_lock|spin_(?:dump|bug)"
        r"|(?:down|up)(?:_(?:read|write|common|interruptible|killable|timeout|trylock)\w{0,24})?"
        r"|downgrade_write|(?:call_)?rwsem_\w{1,40}|percpu_(?:down|up|rwsem)_\w{1,16}|rwlock_bug"
        r"|lock_(?:acquire|release|sync)|check_(?:noncircular|deadlock)|validate_chain|mark_lock\w{0,8}"
        r"|lockdep_\w{1,32}|print_(?:circular|deadlock|usage|irq|bad|lock|unlock)_\w{1,32}"
        r"|lock_acquired|register_lock_class|assign_lock_key|look_up_lock_class|class_\w{1,40}_(?:con|de)structor"
    ),
    "waiting": (
        r"(?:do_)?wait_for_com\w{1,40}|complete(?:_all)?|complete_with_flags|swake_up_\w{1,16}"
        r"|wake_up\w{0,24}|io_schedule\w{0,16}|schedule|schedule_(?:timeout|hrtimeout|preempt|loop)\w{0,24}"
        r"|schedule_(?:bug|debug)|context_switch|sched_text_start|switch_to\w{0,8}|preempt_schedule\w{0,16}|preempt_count_\w{3}"
        r"|(?:dynamic_)?(?:cond|might)_resched\w{0,16}|msleep\w{0,16}|usleep_range\w{0,8}|fsleep|do_nanosleep|(?:const_)?[um]delay|ndelay|delay_\w{1,8}"
        r"|(?:start_)?flush_(?:delayed_)?work|flush_workqueue|(?:drain|destroy)_workqueue"
        r"|cancel_(?:delayed_)?work\w{0,16}|cancel_sync|work_busy|synchronize_(?:s?rcu|sched|irq|net)\w{0,16}"
        r"|rcu_barrier|wait_rcu_gp\w{0,16}|kthread_(?:stop|park|flush_work)"
        r"|(?:try_to_)?(?:del_timer|timer_delete|timer_shutdown)\w{0,12}|hrtimer_\w{1,32}"
        r"|(?:mod|add|init|debug)_timer\w{0,24}|timer_is_static_object|timer_(?:reduce|setup)\w{0,8}"
        r"|queue_(?:delayed_|rcu_)?work\w{0,8}|mod_delayed_work\w{0,8}|insert_work|call_s?rcu\w{0,16}"
        r"|tasklet_\w{1,24}|lookup_object_or_alloc"
        r"|del_timer_wait_running|bit_wait\w{0,16}|(?:out_of_line_)?wait_on_bit\w{0,16}"
        r"|folio_wait_bit\w{0,16}|(?:folio|page)_lock|lock_page|prepare_to_wait\w{0,16}|cpu_relax|rep_nop"
    ),
    "parsing": r"(?:_?kstrto|simple_strto|memparse|get_option|match_|parse_integer)\w{0,24}",
    "containers": (
        r"x(?:a|as)_\w{1,24}|idr_\w{1,24}|ida_\w{1,24}|radix_tree_\w{1,32}|mas_\w{1,24}|mtree_\w{1,24}"
        r"|rhashtable_\w{1,32}|rht_\w{1,24}|kfifo_\w{1,24}|sg_\w{1,24}|find_(?:first|next|last)\w{0,24}"
        r"|bitmap_\w{1,24}|klist_\w{1,24}|kobject_(?:get|put|add|del|init|cleanup|release)\w{0,16}|llist_\w{1,24}"
    ),
    "device registers": (
        r"(?:raw_)?(?:read|write)[bwlq](?:_relaxed)?|io(?:read|write)\d{1,2}\w{0,4}"
    ),
    "reporting": (
        r"k[acm]{1,2}san_\w{1,48}|kcsan_\w{1,48}|kfence_\w{1,48}|kmemleak_\w{1,32}|hwasan_\w{1,48}"
        r"|[akmt]san_\w{1,48}|u?bsan_?\w{0,48}|sanitizer_cov_\w{1,32}|handle_overflow|instrument_\w{1,40}"
        r"|warn(?:_\w{1,24})?|report_bug|find_bug|v?printk\w{0,16}|bad_page|free_page_is_bad|check_new_page\w{0,8}|dump_stack\w{0,8}|show_stack\w{0,8}"
        r"|print_(?:report|address)\w{0,24}|n?m?i?_?panic|stack_chk_fail|die|rcu_lockdep_\w{1,16}"
        r"|debug_smp_processor_id|check_preemption_disabled|x86_indirect_thunk\w{0,8}"
        r"|unwind_next_frame|arch_stack_walk|stack_trace_\w{1,32}"
    ),
}
_HELPER = re.compile("|".join(_FAMILIES.values()))
_FILES = re.compile(
    r"(?:^|/)(?:"
    r"mm/(?:kasan|kmsan|kfence)/|mm/(?:slub|slab|slab_common|usercopy|mempool|kmemleak|util)\.c"
    r"|kernel/(?:locking|kcsan)/|kernel/panic\.c|kernel/printk/|kernel/sched/(?:wait|completion)"
    r"|kernel/time/(?:timer|hrtimer|timer_migration)\.c|kernel/softirq\.c"
    r"|lib/(?:string|string_helpers|list_debug|refcount|usercopy|ubsan|dump_stack|vsprintf|bug"
    r"|kasprintf|debugobjects|strncpy_from_user|strnlen_user|rbtree|llist|stackdepot|xarray|idr"
    r"|radix-tree|maple_tree|rhashtable|kstrtox|ctype|hexdump|cmdline|parser|find_bit|bitmap|klist"
    r"|kobject|kfifo|scatterlist|sort|bsearch|checksum|crc\w{1,12}|iov_iter)\.c"
    r"|arch/[a-z0-9_]{1,12}/lib/|arch/[a-z0-9_]{1,12}/include/)"
    # The kernel's own headers, not those of a driver that has a directory of that name.
    r"|^include/|/include/(?:linux|asm|asm-generic|uapi|net|crypto|trace|vdso|drm|scsi|sound|rdma)/"
)
# How the kernel got where it is, not what went wrong there.
_SCAFFOLD = re.compile(
    r"entry_SYSCALL|do_syscall|x64_sys_call|ret_from_|asm_|exc_|sysvec_|kthread$|worker_thread$"
    r"|process_one_work$|process_scheduled_works$|el[01]t?_|invoke_syscall|do_el0_svc|irqentry_"
    r"|secondary_startup|start_secondary|cpu_startup_entry|do_idle|rest_init|start_kernel"
    r"|common_startup|handle_softirqs|__do_softirq|irq_exit|__irq_exit|syscall_exit_to_user"
    r"|exit_to_user_mode|__?(?:x64|ia32|arm64|riscv|s390x)_sys_|ret_fast_syscall|do_trap|page_fault"
    r"|do_page_fault|no_context|bad_area|__bad_area|dump_backtrace|show_regs|handle_bug"
    r"|(?:__)?do_kernel_fault|die_kernel_fault|do_mem_abort|do_translation_fault|do_tag_\w{1,24}"
)


def base_name(symbol: str) -> str:
    """The C function behind a symbol: ``kfree.part.0`` → ``kfree``."""
    return _SUFFIX.sub("", symbol)


def bare_name(symbol: str) -> str:
    """A function's name without suffixes and underscores: ``__kmalloc_noprof`` → ``kmalloc``."""
    return base_name(symbol).lstrip("_").removesuffix("_noprof")


def is_helper(function: str, file: str | None = None, module: str | None = None) -> bool:
    """Whether `function` only works on what its caller handed it (string, list, lock, slab ...).

    A `module` has its own functions, however they are called: ``mutex_show()`` of a driver is no
    lock primitive. What it inlined from the kernel's headers is known by its file.
    """
    if file and _FILES.search(file):
        return True
    return module is None and bool(_HELPER.fullmatch(bare_name(function)))


def is_scaffold(function: str) -> bool:
    """Whether `function` is entry, exit or dispatch code that every trace of a kind has."""
    return bool(_SCAFFOLD.match(base_name(function)))
