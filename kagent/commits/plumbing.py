"""Functions that say how a report was raised or reached, not what went wrong.

They stand in most stacks. A change that touches one of them is hardly ever the fix for a crash
above it, so a search leaves them out.
"""

from __future__ import annotations

import re

__all__ = ["is_plumbing"]

# How the kernel reports and dies (lib/dump_stack.c, kernel/panic.c, arch/*/kernel/traps.c,
# arch/*/mm/fault.c).
_REPORTING = """
    __dump_stack dump_stack dump_stack_lvl show_stack show_stack_log_lvl print_report
    print_address_description end_report report_bug handle_bug fixup_bug check_memory_region
    check_panic_on_warn panic vpanic die die_addr __die oops_end do_trap do_error_trap do_int3
    no_context bad_area bad_area_nosemaphore page_fault do_page_fault __do_page_fault
    do_user_addr_fault do_kern_addr_fault handle_page_fault page_fault_oops async_page_fault
    exc_page_fault invalid_op general_protection do_general_protection do_invalid_op
    do_mem_abort do_translation_fault
"""
# Entry from user space and interrupts, the bottoms of stacks (arch/*/entry, kernel/softirq.c,
# kernel/workqueue.c).
_ENTRY = """
    el0_svc el0_svc_common el0_svc_handler do_el0_svc invoke_syscall __invoke_syscall
    el0t_64_sync el0t_64_sync_handler el1h_64_sync el1h_64_sync_handler el1_abort el1_sync
    el0_sync ret_from_syscall ret_from_fork ret_from_fork_asm ret_from_kernel_thread kthread
    worker_thread process_one_work process_scheduled_works smpboot_thread_fn run_ksoftirqd
    __do_softirq do_softirq __local_bh_enable_ip __irq_exit_rcu irq_exit irq_exit_rcu
    invoke_softirq handle_softirqs run_timer_softirq __run_timers __run_timer_base
    run_timer_base call_timer_fn expire_timers rcu_core rcu_do_batch rcu_core_si
    smp_apic_timer_interrupt apic_timer_interrupt cpuidle_enter cpuidle_enter_state do_idle
    cpu_startup_entry start_secondary secondary_startup_64 default_idle start_kernel
    x86_64_start_kernel rest_init kernel_init kernel_init_freeable do_one_initcall
    do_initcalls do_basic_setup
"""
# Waiting and locking (kernel/sched, kernel/locking).
_LOCKING = """
    schedule __schedule schedule_timeout schedule_preempt_disabled context_switch io_schedule
    preempt_schedule preempt_schedule_common preempt_schedule_irq schedule_hrtimeout_range
    wait_for_completion __wait_for_common do_wait_for_common wait_for_common lock_acquire
    __lock_acquire lock_release check_prev_add check_prevs_add validate_chain
    check_noncircular print_circular_bug check_deadlock print_deadlock_bug mark_lock
    mark_lock_irq print_usage_bug lock_sock_nested lock_sock mutex_lock mutex_lock_nested
    __mutex_lock __mutex_lock_common __mutex_lock_slowpath mutex_lock_interruptible
    mutex_lock_killable __mutex_lock_interruptible_slowpath mutex_unlock down_read down_write
    __down_read __down_write __down_read_common __down_write_common rwsem_down_read_slowpath
    rwsem_down_write_slowpath down_write_killable down_read_killable _raw_spin_lock
    _raw_spin_lock_irq _raw_spin_lock_irqsave _raw_spin_lock_bh __raw_spin_lock
    __raw_spin_lock_irq __raw_spin_lock_irqsave __raw_spin_lock_bh _raw_spin_unlock
    _raw_spin_unlock_irq _raw_spin_unlock_irqrestore _raw_spin_unlock_bh _raw_read_lock
    _raw_write_lock _raw_write_lock_bh _raw_write_lock_irq spin_lock spin_lock_bh
    spin_lock_irq spin_lock_irqsave spin_unlock do_raw_spin_lock
    native_queued_spin_lock_slowpath queued_spin_lock_slowpath pv_queued_spin_lock_slowpath
    rt_spin_lock might_sleep __might_sleep ___might_sleep __might_resched
"""
# Dispatchers every file or socket call runs through (fs/read_write.c, net/socket.c).
_DISPATCH = """
    vfs_read vfs_write vfs_ioctl do_vfs_ioctl file_ioctl ksys_read ksys_write ksys_ioctl
    new_sync_read new_sync_write call_write_iter call_read_iter __vfs_read __vfs_write
    do_iter_write do_iter_readv_writev vfs_writev do_writev do_iter_read vfs_iter_write
    sock_sendmsg sock_sendmsg_nosec __sock_sendmsg ____sys_sendmsg ___sys_sendmsg
    __sys_sendmsg ___sys_recvmsg ____sys_recvmsg __sys_recvmsg __sys_sendto __sys_recvfrom
    sock_recvmsg sock_recvmsg_nosec __sys_sendmmsg do_recvmmsg __sys_recvmmsg sock_write_iter
    sock_read_iter __sys_setsockopt do_sock_setsockopt __sys_getsockopt do_sock_getsockopt
    sock_ioctl sock_do_ioctl __sys_bind __sys_connect __sys_connect_file __sys_bind_socket
    __sock_release sock_close sock_release __fput ____fput fput task_work_run exit_task_work
    do_exit do_group_exit make_task_dead get_signal arch_do_signal_or_restart do_signal
    exit_to_user_mode_loop exit_to_user_mode_prepare __syscall_exit_to_user_mode_work
    syscall_exit_to_user_mode prepare_exit_to_usermode syscall_return_slowpath
    tracehook_notify_resume resume_user_mode_work syscall_exit_work
"""
# Allocators, sanitizers and the smallest helpers (mm, mm/kasan, lib).
_HELPERS = """
    kmalloc kzalloc kcalloc kfree __kmalloc kmalloc_trace kmalloc_noprof kmem_cache_alloc
    kmem_cache_alloc_trace kmem_cache_alloc_node kmem_cache_free kmalloc_array vmalloc
    __kmalloc_noprof __kmalloc_cache_noprof __kmalloc_node slab_alloc slab_alloc_node
    slab_post_alloc_hook slab_pre_alloc_hook __slab_alloc ___slab_alloc slab_free
    slab_free_hook slab_free_freelist_hook do_slab_free ___cache_free __cache_free new_slab
    allocate_slab alloc_slab_page kmemleak_alloc_recursive kmemleak_alloc poison_slab_object
    poison_kmalloc_redzone set_alloc_info set_track save_stack stack_trace_save
    stack_depot_save unpoison_slab_object instrument_atomic_read instrument_atomic_write
    instrument_atomic_read_write instrument_write instrument_read fail_dump should_fail_ex
    should_failslab should_fail should_fail_alloc_page memcpy memset memmove memcmp strlen
    strcmp strcpy strncpy strscpy __read_once_size __write_once_size read_word_at_a_time
    arch_atomic_read atomic_read test_bit arch_test_bit list_del list_add list_empty
    __list_del_entry __list_del_entry_valid __list_add_valid refcount_warn_saturate
    __refcount_add __refcount_inc __refcount_sub_and_test refcount_inc refcount_dec_and_test
    warn_slowpath_fmt warn_slowpath_null __warn __warn_printk printk _printk vprintk_emit
    copy_from_user copy_to_user _copy_from_user _copy_to_user __might_fault might_fault
    entry_INT80_compat entry_SYSENTER_compat handle_exception ret_from_exception system_call
    rcu_read_lock rcu_read_unlock call_rcu synchronize_rcu __call_rcu_common
"""
_PLUMBING = frozenset((_REPORTING + _ENTRY + _LOCKING + _DISPATCH + _HELPERS).split())
_PLUMBING_PREFIX = re.compile(
    r"_{0,3}(?:kasan_|asan_|msan_|tsan_|kmsan_|kcsan_|ubsan_|hwasan_|exc_|asm_|sysvec_|pfx_|cfi_|"
    r"do_syscall_|entry_SYSCALL|entry_SYSENTER|do_fast_syscall|do_int80|syscall_enter|"
    r"sanitizer_cov|lockdep_|rcu_lockdep|trace_hardirqs|invalid_op|"
    r"el[01]h?t?_\d|ret_to_|system_call_|irqentry_)"
)


def is_plumbing(symbol: str) -> bool:
    """Say whether a frame tells how the kernel got or reported here, not what went wrong."""
    return symbol in _PLUMBING or _PLUMBING_PREFIX.match(symbol) is not None
