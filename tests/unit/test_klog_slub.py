"""What slub's own checks print; and beside an oops: code of user space, modules that are gone."""

from __future__ import annotations

from kagent.diagnosis import memory_facts
from kagent.klog import parse_log

SLUB = """\
=============================================================================
BUG kmalloc-192 (Tainted: G           OE     ): {what}
-----------------------------------------------------------------------------

{more}Allocated in item_new+0x1e/0x40 [objs] age=3 cpu=0 pid=167
 kmalloc_trace+0x26/0x90
 item_new+0x1e/0x40 [objs]
 objs_write+0x86/0x70a [objs]
 vfs_write+0xc7/0x3f0
Freed in item_drop+0xe/0x20 [objs] age=1 cpu=1 pid=170
 objs_write+0x541/0x70a [objs]
 vfs_write+0xc7/0x3f0
Slab 0xfffff79500933d80 objects=13 used=8 fp=0xffff8efca4cf6820 flags=0xfffffc0000200(slab|node=0)
Object 0xffff8efca4cf6820 @offset=2080 fp=0x0000000000000000

CPU: 0 PID: 167 Comm: objsd Tainted: G    B      OE      6.1.0-56-amd64 #1  Debian 6.1.192-2
Call Trace:
 <TASK>
 dump_stack_lvl+0x44/0x5c
 object_err+0x8a/0xb6
 free_to_partial_list.cold+0x82/0x106
 objs_write+0x541/0x70a [objs]
 vfs_write+0xc7/0x3f0
 </TASK>
"""

OOPS = """\
BUG: unable to handle page fault for address: ffffffffc03de100
#PF: supervisor instruction fetch in kernel mode
#PF: error_code(0x0010) - not-present page
Oops: 0010 [#1] PREEMPT SMP
CPU: 0 PID: 9 Comm: objsd Tainted: G           OE      6.1.0-56-amd64 #1  Debian 6.1.192-2
RIP: 0010:0xffffffffc03de100
Code: Unable to access opcode bytes at 0xffffffffc03de0d6.
RSP: 0018:ffffd2ec803f7d70 EFLAGS: 00000246
RAX: 0000000000000000 RBX: 000000000000cb20 RCX: ffffffffc03ea087
Call Trace:
 <TASK>
 call_timer_fn+0x27/0x130
 vfs_write+0xc7/0x3f0
 entry_SYSCALL_64_after_hwframe+0x6e/0xd8
RIP: 0033:0x431260
Code: 40 00 48 c7 c2 b8 ff ff ff f7 d8 64 89 02 b8 01 00 00 00 0f 05 <48> 3d 00 f0 ff ff 77 58
 </TASK>
Modules linked in: fuse loop [last unloaded: gone(OE)]
---[ end trace 0000000000000000 ]---
"""


def test_who_allocated_and_freed_is_in_the_introducing_line() -> None:
    """The stack of a kfree() begins above its caller, that of an allocation with the allocator."""
    report = parse_log(SLUB.format(what="Object already free", more="")).reports[0]
    alloc, free = report.trace("alloc"), report.trace("free")
    assert alloc is not None
    assert free is not None
    assert [f.symbol for f in alloc.frames][:2] == ["kmalloc_trace", "item_new"]
    assert [f.symbol for f in free.frames][:2] == ["item_drop", "objs_write"]
    assert (alloc.pid, free.pid) == (167, 170)


def test_a_bad_free_is_on_the_stack_and_old_damage_is_not() -> None:
    """Poison is looked at by whoever allocates next: its stack touched nothing."""
    bad = parse_log(SLUB.format(what="Object already free", more="")).reports[0]
    damage = "0xffff8efca4cf9068-0xffff8efca4cf9071 @offset=104. First byte 0x75 instead of 0x6b\n"
    late = parse_log(SLUB.format(what="Poison overwritten", more=damage)).reports[0]
    first, second = memory_facts(bad), memory_facts(late)
    assert first is not None
    assert second is not None
    assert first.memory.access is not None
    assert first.memory.access.function == "objs_write"
    assert first.memory.alloc is not None
    assert (first.memory.alloc.function, first.memory.alloc.task) == ("item_new", "objsd")
    assert second.memory.access is None
    assert second.memory.free is not None
    assert (second.memory.free.function, second.memory.free.task) == ("item_drop", None)


def test_code_of_user_space_is_not_the_kernels() -> None:
    report = parse_log(OOPS).reports[0]
    assert report.code is None
    assert report.context.unloaded == "gone"
    assert report.context.modules == ("fuse", "loop")
