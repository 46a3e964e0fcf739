"""Tasks as hung-task reports, sysrq dumps, lockups and lists of held locks show them."""

from __future__ import annotations

import re

from kagent.klog.draft import Block, Draft
from kagent.klog.lines import Line
from kagent.klog.model import LockRef, TaskState

__all__ = ["freeze_tasks", "merge_tasks", "read_header", "read_tasks"]

_HUNG = re.compile(
    r"INFO: task (?P<comm>.{1,64}):(?P<pid>\d{1,10}) blocked (?:in I/O wait )?for more than "
    r"(?P<secs>\d{1,9}) seconds"
)
_CANT_DIE = re.compile(
    r"INFO: task (?P<comm>.{1,64}):(?P<pid>\d{1,10}) can't die for more than (?P<secs>\d{1,9})"
)
# kernel/hung_task.c, debug_show_blocker(): mutexes since 6.16, then semaphores and rwsems
_OWNER = re.compile(
    r"INFO: task .{1,64}:\d{1,10} (?:<\w{1,16}> )?(?:is )?blocked on an? \S{1,24} likely "
    r"(?P<last>last )?(?:owned|held) by (?:task )?(?P<comm>.{1,64}):(?P<pid>\d{1,10})"
    r"(?: <(?P<as>\w{1,16})>)?"
)
_LOCKUP = re.compile(
    r"BUG: soft lockup - CPU#(?P<cpu>\d{1,5}) stuck for (?P<secs>\d{1,9})s!"
    r" \[(?P<comm>.{1,64}):(?P<pid>\d{1,10})\]"
)
_HARD = re.compile(r"hard LOCKUP on cpu (?P<cpu>\d{1,5})")
_SLEEPING = re.compile(r"scheduling while atomic: (?P<comm>.{1,64})/(?P<pid>\d{1,10})/0x")
_PREEMPTIBLE = re.compile(r"in preemptible \[\w{1,16}\] code: (?P<comm>.{1,64})/(?P<pid>\d{1,10})")
# WARNING: drivers/foo.c:12 at bar+0x1/0x2, CPU#0: comm/123 (6.19)
_WARN = re.compile(r"WARNING: .{1,300}, CPU#(?P<cpu>\d{1,5}): (?P<comm>.{1,64})/(?P<pid>\d{1,10})")
_WARN_CPU = re.compile(r"WARNING: CPU: (?P<cpu>\d{1,5}) PID: (?P<pid>\d{1,10}) at ")
_LEAKER = re.compile(r"comm \"(?P<comm>.{1,64})\", pid (?P<pid>\d{1,10}), jiffies")
_SEGFAULT = re.compile(
    r"(?:traps: )?(?P<comm>[^\s\[][^\[]{0,63})\[(?P<pid>\d{1,10})\]:? (?:segfault at|trap "
    r"|general prot)"
)
_TASK_DETAIL = re.compile(
    r"in_atomic\(\): .{1,80}, pid: (?P<pid>\d{1,10}), name: (?P<comm>.{1,64})$"
)

# kernel/sched/core.c, sched_show_task(): named fields since 5.14, columns before.
_SHOW = re.compile(
    r"task:(?P<comm>.{1,64}?) {1,20}state:(?P<state>\S)(?: {1,4}running task)? {1,8}"
    r"stack: {0,8}\d{1,8} {1,8}pid:"
    r" {0,8}(?P<pid>\d{1,10}) "
)
_SHOW_OLD = re.compile(
    r"(?P<comm>\S.{0,63}?) {1,20}(?P<state>[RSDTtXZPIKW])"
    r"(?: {1,2}running task| [0-9a-f]{16}| [0-9a-f]{8})? {0,20}(?P<stack>\d{1,8})"
    r" {1,8}(?P<pid>\d{1,10}) {1,8}\d{1,10} 0x[0-9a-f]{8}$"
)
_NMI = re.compile(r"NMI backtrace for cpu (?P<cpu>\d{1,5})(?P<idle> skipped: idling)?")
_DUMP_CPU = re.compile(r"Task dump for CPU (?P<cpu>\d{1,5}):")
_NOISE = re.compile(
    r"(?:Workqueue|Sending NMI from CPU|rcu: |\s{0,4}\(t=\d|\s{0,4}\(detected by|sending NMI to"
    r"|\s{1,4}\d{1,4}-[.?!OoNHID]{1,8}: \(|Showing busy workqueues|workqueue |pool \d|\s{2}pwq "
    r"|\s{4}(?:in-flight|pending|inactive)"
    r"|Unless you get another|RCU grace-period kthread|rcu_\w{1,16} kthread|\s{1,8}(?:Not tainted"
    r"|Tainted)"
    r"|sysrq: Show|sysrq: SysRq|SysRq : Show|\s{2}task {5,}PC stack|Sched Debug Version"
    r"|blocking rcu_node)"
)


def read_header(draft: Draft, line: Line) -> None:
    """Take what the report's first line says about its task."""
    text, own = line.text, draft.own
    for pattern in (
        _HUNG,
        _CANT_DIE,
        _LOCKUP,
        _HARD,
        _SLEEPING,
        _PREEMPTIBLE,
        _WARN,
        _WARN_CPU,
        _SEGFAULT,
    ):
        match = pattern.search(text)
        if match is None:
            continue
        groups = match.groupdict()
        own.comm = groups.get("comm") or own.comm
        own.pid = int(groups["pid"]) if groups.get("pid") else own.pid
        own.cpu = int(groups["cpu"]) if groups.get("cpu") else own.cpu
        if pattern in (_HUNG, _CANT_DIE):
            own.source, own.blocked_seconds = "hung-task", int(groups["secs"])
        elif pattern in (_LOCKUP, _HARD):
            own.source, own.running = "lockup", True
        return
    if text.startswith(("sysrq: ", "SysRq : ")):
        own.source = "sysrq"
    elif "rcu" in text and "stall" in text:
        own.source, own.running = "rcu-stall", True


def read_tasks(draft: Draft, line: Line) -> bool:
    """Take a line that introduces a task, a CPU's backtrace or says who owns a lock."""
    text = line.text.lstrip()
    if text.startswith("task:") and (match := _SHOW.match(text)):
        _open_task(draft, line, match)
        return True
    if text.endswith(tuple("0123456789abcdef")) and (match := _SHOW_OLD.match(text)):
        _open_task(draft, line, match)
        return True
    if "NMI backtrace for" in text and (match := _NMI.search(text)):
        if match["idle"] is None:
            block = Block("cpu", cpu=int(match["cpu"]), running=True, source="lockup")
            if draft.own.source == "rcu-stall":
                block.source = "rcu-stall"
            draft.open_block(block, line)
        return True
    if match := _DUMP_CPU.search(text):
        return True
    if "likely" in text and (match := _OWNER.search(text)):
        draft.own.owner = (match["comm"], int(match["pid"]))
        draft.own.last_owner = match["last"] is not None or match["as"] == "reader"
        return True
    if match := _TASK_DETAIL.search(text) or _LEAKER.match(text):
        draft.own.comm, draft.own.pid = match["comm"], int(match["pid"])
        return True
    return _NOISE.match(text) is not None


def _open_task(draft: Draft, line: Line, match: re.Match[str]) -> None:
    comm, pid, state = match["comm"].strip(), int(match["pid"]), match["state"]
    own = draft.own
    if own.source == "hung-task" and own.pid == pid and own.state is None:
        own.state = state
        draft.block = own
        draft.stack = None
        return
    source = "sysrq" if own.source == "oops" else own.source
    draft.open_block(Block("task", comm, pid, state=state, source=source), line)


def _state_of(
    block: Block, held: dict[tuple[str, int], list[LockRef]], counted: dict[tuple[str, int], int]
) -> TaskState | None:
    if block.pid is None or block.comm is None:
        return None
    if block.kind in ("self", "panic") and block.source == "oops":
        return None
    locks = held.pop((block.comm, block.pid), None)
    return TaskState(
        comm=block.comm,
        pid=block.pid,
        state=block.state,
        cpu=block.cpu,
        blocked_seconds=block.blocked_seconds,
        running=block.running,
        pc=block.pc,
        frames=tuple(block.frames),
        held=tuple(locks or ()),
        unlisted=0 if locks else counted.get((block.comm, block.pid), 0),
        owner=block.owner,
        last_owner=block.last_owner,
        workqueue=block.workqueue,
        source=block.source,
        span=(block.start, block.end),
    )


def freeze_tasks(draft: Draft) -> tuple[TaskState, ...]:
    """All tasks of a report; those that only appear as holders of locks come last."""
    held = dict(draft.held)
    counted = draft.counted
    blocks = (draft.own, *draft.blocks)
    tasks = [t for b in blocks if (t := _state_of(b, held, counted)) is not None]
    for (comm, pid), locks in held.items():
        unlisted = 0 if locks else counted.get((comm, pid), 0)
        tasks.append(
            TaskState(
                comm,
                pid,
                held=tuple(locks),
                unlisted=unlisted,
                running=unlisted > 0,
                source="held-locks",
            )
        )
    return tuple(tasks)


def merge_tasks(tasks: list[TaskState]) -> tuple[TaskState, ...]:
    """One entry per task: the first stack seen, the largest blocking time, the locks held."""
    merged: dict[tuple[str, int], TaskState] = {}
    for task in tasks:
        key = (task.comm, task.pid)
        known = merged.get(key)
        merged[key] = task if known is None else _join(known, task)
    return tuple(merged.values())


def _join(known: TaskState, later: TaskState) -> TaskState:
    first, second = (known, later) if known.frames or not later.frames else (later, known)
    seconds = [s for s in (known.blocked_seconds, later.blocked_seconds) if s is not None]
    return TaskState(
        comm=first.comm,
        pid=first.pid,
        state=first.state or second.state,
        cpu=first.cpu if first.cpu is not None else second.cpu,
        blocked_seconds=max(seconds, default=None),
        running=first.running or second.running,
        pc=first.pc or second.pc,
        frames=first.frames,
        held=first.held or second.held,
        unlisted=first.unlisted or second.unlisted,
        owner=first.owner or second.owner,
        last_owner=first.last_owner if first.owner else second.last_owner,
        workqueue=first.workqueue or second.workqueue,
        source=first.source,
        span=first.span,
    )
