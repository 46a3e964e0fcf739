"""Logs of tasks that hang, with any number of bystanders."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["hung_log"]

_TIME = "[  {:11.6f}] "


def hung_log(bystanders: int, *, circle_at: int = 0, lockdep: bool = False) -> str:
    """Two tasks that hold one mutex each and want the other's, among others that only queue.

    `circle_at` bystanders stand before the two. The kernel says who owns a mutex itself (6.16 on,
    kernel/hung_task.c), or with `lockdep` lists who holds what at the end.
    """
    waiting = [(f"queue{n}", 1000 + n, "vol_read", 0x10) for n in range(bystanders)]
    pair = [("left", 11, "vol_left", 0x10), ("right", 12, "vol_right", 0x10)]
    tasks = [*waiting[:circle_at], *pair, *waiting[circle_at:]]
    owners = {"left": ("right", 12), "right": ("left", 11)}
    lines: list[str] = []
    for number, (comm, pid, function, offset) in enumerate(tasks):
        owner = None if lockdep else owners.get(comm, ("left", 11))
        stamp = _TIME.format(200 + number * 0.001)
        lines += (stamp + text for text in _hung(comm, pid, function, offset, owner))
    if lockdep:
        stamp = _TIME.format(200 + len(tasks) * 0.001)
        lines += (stamp + text for text in _held([task[:3] for task in tasks]))
    return "\n".join(lines) + "\n"


def _hung(
    comm: str, pid: int, function: str, offset: int, owner: tuple[str, int] | None
) -> Iterator[str]:
    yield f"INFO: task {comm}:{pid} blocked for more than 120 seconds."
    yield "      Not tainted 6.17.0-1-amd64 #1 Debian 6.17.2-1"
    yield '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.'
    yield f"task:{comm:<15} state:D stack:0     pid:{pid:<5} tgid:{pid:<5} ppid:2      flags:0x0"
    yield "Call Trace:"
    yield " <TASK>"
    names = ("__schedule", "schedule", "schedule_preempt_disabled", "__mutex_lock.constprop.0")
    yield from (f" {name}+{0x20 + at:#x}/0x400" for at, name in enumerate(names))
    yield f" {function}+{offset:#x}/0x80 [vol]"
    yield " vfs_read+0xa1/0x340"
    yield " ksys_read+0x6b/0xf0"
    yield " do_syscall_64+0x5d/0xb0"
    yield " </TASK>"
    if owner is not None:
        who = "{}:{}".format(*owner)
        yield f"INFO: task {comm}:{pid} is blocked on a mutex likely owned by task {who}."


_LEFT = "ffff888004000100 (&v->left){+.+.}-{4:4}"
_RIGHT = "ffff888004000200 (&v->right){+.+.}-{4:4}"


def _held(tasks: list[tuple[str, int, str]]) -> Iterator[str]:
    """debug_show_all_locks(): a lock is listed before it is taken; the awaited one is the last."""
    yield "Showing all locks held in the system:"
    for comm, pid, function in tasks:
        locks = {"left": (_LEFT, _RIGHT), "right": (_RIGHT, _LEFT)}.get(comm, (_LEFT,))
        yield f"{len(locks)} lock{'s' * (len(locks) > 1)} held by {comm}/{pid}:"
        for number, lock in enumerate(locks):
            last = number == len(locks) - 1
            yield f" #{number}: {lock}, at: {function}+{0x10 if last else 0x8:#x}/0x80 [vol]"
    yield ""
    yield "============================================="
