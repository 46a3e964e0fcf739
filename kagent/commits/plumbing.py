"""Functions that say how a report was raised or reached, not what went wrong.

They stand in most stacks. A change that touches one of them is hardly ever the fix for a crash
above it, so a search leaves out the worst (`is_plumbing`), and gives little weight to the ways
into a subsystem that every object of its kind takes (`is_pathway`).
"""

from __future__ import annotations

import re

__all__ = ["is_pathway", "is_plumbing", "is_plumbing_file"]

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
    kvmalloc kvmalloc_node kvfree __kmalloc_track_caller kmalloc_reserve __kmalloc_reserve
    check_region_inline atomic_long_set arch_atomic64_set kvasprintf kvasprintf_const
    kobject_set_name_vargs __refcount_dec refcount_dec __refcount_sub_and_test
"""
# How stalls, debug objects and NMIs are reported, and the interrupt paths below them
# (kernel/rcu/tree_stall.h, lib/debugobjects.c, kernel/time, kernel/irq, arch/*/kernel/irq*.c).
_INTERRUPTS = """
    dump_backtrace dump_backtrace_log_lvl rcu_check_callbacks rcu_sched_clock_irq rcu_pending
    check_cpu_stall print_cpu_stall print_other_cpu_stall rcu_check_gp_kthread_starvation
    update_process_times tick_sched_handle tick_sched_timer tick_nohz_handler
    tick_nohz_highres_handler hrtimer_interrupt __hrtimer_run_queues __run_hrtimer
    local_apic_timer_interrupt nmi_cpu_backtrace nmi_trigger_cpumask_backtrace
    arch_trigger_cpumask_backtrace trigger_all_cpu_backtrace trigger_single_cpu_backtrace
    trigger_allbutself_cpu_backtrace watchdog watchdog_timer_fn debug_print_object
    __debug_check_no_obj_freed debug_check_no_obj_freed debug_object_activate debug_object_init
    __debug_object_init debug_object_assert_init debug_object_free debug_timer_assert_init
    common_interrupt __common_interrupt do_IRQ __handle_domain_irq generic_handle_domain_irq
    generic_handle_irq generic_handle_irq_desc handle_domain_irq handle_irq handle_irq_desc
    handle_irq_event handle_irq_event_percpu __handle_irq_event_percpu handle_edge_irq
    handle_fasteoi_irq handle_level_irq gic_handle_irq do_softirq_own_stack run_on_irqstack_cond
    __run_on_irqstack run_on_irqstack __run_sysvec_on_irqstack_cond call_on_irqstack el1_irq
    el1_interrupt el1h_64_irq el0_sync_handler ret_fast_syscall do_notify_resume
    exit_to_usermode_loop tasklet_action tasklet_action_common check_memory_region_inline
    register_lock_class assign_lock_key __switch_to down_read_nested down_write_nested
    rcu_dump_cpu_stacks check_hung_uninterruptible_tasks debug_show_all_locks lock_is_held
    lock_is_held_type arch_local_irq_restore exiting_irq native_safe_halt arch_cpu_idle
    cpuidle_idle_call handle_signal_work console_unlock do_initcall_level check_preemption_disabled
    __flush_work flush_work __cancel_work_timer cancel_work_sync flush_workqueue insert_work
    set_work_data set_work_pool_and_clear_pending
"""
# Ways that every device, socket message, mount, open file or page of memory goes: driver core and
# USB enumeration, netlink delivery, the VFS down to the file system, module loading, the page
# allocator, object teardown.
_PATHWAYS = """
    really_probe driver_probe_device __driver_probe_device bus_for_each_drv bus_for_each_dev
    __device_attach_driver __device_attach device_add bus_probe_device device_initial_probe
    device_driver_attach __driver_attach driver_attach bus_add_driver driver_register
    device_register device_release_driver device_release_driver_internal __device_release_driver
    bus_remove_device bus_remove_driver driver_detach driver_unregister device_del device_release
    device_unregister put_device local_pci_probe pci_device_probe pci_device_remove platform_probe
    platform_drv_probe async_run_entry_fn
    hub_event hub_port_connect hub_port_connect_change port_event usb_new_device
    usb_set_configuration usb_probe_device usb_probe_interface generic_probe
    usb_generic_driver_probe usb_disconnect usb_disable_device usb_unbind_interface
    usb_hcd_giveback_urb __usb_hcd_giveback_urb dummy_timer usb_submit_urb
    netlink_unicast netlink_unicast_kernel netlink_sendmsg netlink_rcv_skb genl_rcv genl_rcv_msg
    genl_family_rcv_msg genl_family_rcv_msg_doit rtnetlink_rcv rtnetlink_rcv_msg nfnetlink_rcv
    nfnetlink_rcv_msg nfnetlink_rcv_batch rdma_nl_rcv rdma_nl_rcv_msg rdma_nl_rcv_skb
    net_rx_action __napi_poll napi_poll __netif_receive_skb __netif_receive_skb_one_core
    netif_receive_skb_internal netif_receive_skb process_backlog
    vfs_get_tree do_mount path_mount do_new_mount vfs_kern_mount legacy_get_tree fc_mount mount_bdev
    get_tree_bdev deactivate_super deactivate_locked_super generic_shutdown_super kill_anon_super
    kill_block_super cleanup_mnt __cleanup_mnt path_openat do_filp_open do_sys_open do_sys_openat2
    do_dentry_open do_open lookup_open open_last_lookups vfs_open
    kernfs_fop_write kernfs_fop_write_iter sysfs_kf_write sysfs_kf_seq_show seq_read seq_read_iter
    do_init_module load_module
    __alloc_pages __alloc_pages_noprof __alloc_pages_nodemask __alloc_pages_node
    alloc_pages alloc_pages_noprof alloc_pages_mpol get_page_from_freelist prep_new_page
    __alloc_pages_slowpath free_pcp_prepare free_unref_page free_unref_page_prepare
    free_pages_prepare reset_page_owner set_page_owner post_alloc_hook __kmalloc_node_track_caller
    __do_kmalloc __do_kmalloc_node __kmem_cache_alloc_node __kmem_cache_free kmalloc_node
    kmem_cache_alloc_node_trace kvmalloc_node __alloc_skb alloc_skb kstrdup
    kobject_put kobject_cleanup kobject_release kref_put
    notifier_call_chain call_netdevice_notifiers call_netdevice_notifiers_info
    call_netdevice_notifiers_extack __queue_work queue_work_on work_for_cpu_fn copy_process
    dev_attr_show dev_attr_store kernfs_seq_show dpm_run_callback execute_in_process_context
    evict iput dispose_list do_writepages wb_workfn wb_writeback writeback_sb_inodes
    __writeback_inodes_wb __writeback_single_inode __filemap_fdatawrite_range vfs_fsync_range
    do_fsync do_sendfile do_splice_direct splice_direct_to_actor iter_file_splice_write
    do_splice_from generic_perform_write generic_file_read_iter vfs_setxattr __vfs_setxattr
    __vfs_setxattr_noperm setxattr path_setxattr do_unlinkat do_mkdirat vfs_mkdir do_renameat2
    vfs_fallocate ksys_fallocate super_cache_scan prune_icache_sb shrink_slab do_shrink_slab
    shrink_node handle_mm_fault __handle_mm_fault read_pages
    submit_bio submit_bio_noacct generic_make_request bio_endio blk_update_request
    blk_mq_dispatch_rq_list blk_mq_sched_dispatch_requests __blk_mq_sched_dispatch_requests
    blk_mq_run_hw_queue __blk_mq_run_hw_queue __blk_mq_delay_run_hw_queue blk_finish_plug
    blk_mq_flush_plug_list blk_mq_sched_insert_requests
    __dev_queue_xmit dev_hard_start_xmit __dev_open __dev_close_many dev_close_many dev_close
    dev_change_flags __dev_change_flags nf_hook_slow unregister_netdevice_queue cleanup_net
    ops_exit_list pci_unregister_driver sysfs_remove_group kernfs_remove_by_name_ns
"""
_PATHWAY = frozenset(_PATHWAYS.split())
_PLUMBING = frozenset((_REPORTING + _ENTRY + _LOCKING + _INTERRUPTS + _DISPATCH + _HELPERS).split())
_PLUMBING_PREFIX = re.compile(
    r"_{0,4}(?:kasan_|asan_|msan_|tsan_|kmsan_|kcsan_|ubsan_|hwasan_|exc_|asm_|sysvec_|pfx_|cfi_|"
    r"do_syscall_|entry_SYSCALL|entry_SYSENTER|do_fast_syscall|do_int80|syscall_enter|"
    r"sanitizer_cov|lockdep_|rcu_lockdep|trace_hardirqs|invalid_op|"
    r"el[01]h?t?_\d|ret_to_|system_call_|irqentry_)"
)
# The files of such functions, and headers, whose inline functions stand everywhere.
_PLUMBING_FILE = re.compile(
    r"include/|arch/\w+/(?:entry|include|kernel/(?:traps|irq|process|apic|dumpstack|stacktrace)|"
    r"mm/fault)|mm/(?:kasan|kmsan|kfence|sl[aou]b|page_alloc|util|kmemleak)|lib/(?:dump_stack|bug|"
    r"ubsan|debugobjects|fault-inject|nmi_backtrace|refcount|list_debug)|kernel/(?:panic|softirq|"
    r"workqueue|kthread|fork|exit|signal|module|locking/|sched/|time/|irq/|rcu/|entry/|kcsan/|"
    r"task_work)|drivers/base/|fs/(?:read_write|ioctl|open|namei|namespace|super|fs_context)\.c|"
    r"net/socket\.c|net/netlink/|drivers/usb/core/|init/main\.c|fs/file_table\.c|lib/kobject\.c|"
    r"lib/string\.c|mm/mempolicy\.c|kernel/(?:hung_task|notifier|task_work)\.c|security/security\.c|"
    r"arch/\w+/kernel/(?:signal|syscall|entry)"
)


def is_plumbing(symbol: str) -> bool:
    """Say whether a frame tells how the kernel got or reported here, not what went wrong."""
    return symbol in _PLUMBING or _PLUMBING_PREFIX.match(symbol) is not None


def is_pathway(symbol: str) -> bool:
    """Say whether everything of some kind passes here, whatever goes wrong with it."""
    return symbol in _PATHWAY or symbol.startswith("sys_")


def is_plumbing_file(path: str) -> bool:
    """Say whether a file of a trace is one that most traces pass."""
    return _PLUMBING_FILE.match(path) is not None
