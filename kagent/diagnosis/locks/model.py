"""Locks as tasks use them. Plain values: they travel between agents as JSON or pickles."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kagent.klog.model import TaskState
from kagent.resolution import Evidence, SourcePoint

__all__ = [
    "DIED",
    "INVENTED",
    "LockUse",
    "TaskGroup",
    "TaskLocks",
    "class_label",
    "is_one",
    "likeness",
    "offered",
    "plain_class",
    "same_lock",
    "wanted",
]

DIED = "died in the earlier oops"
INVENTED = re.compile(
    r"rcu_(?:read_)?lock|rcu_callback|fs_reclaim|mmu_notifier|\(&[^()]{1,80}\)$"
    r"|\((?:wq|work|kthread)\w{0,8}_completion\)"
)
"""Classes that lockdep made up to track waits that are no locks."""


@dataclass(frozen=True, slots=True)
class LockUse:
    """A lock, completion, work item ... that a task holds, waits for or will signal."""

    name: str
    """For people: ``q.acct_lock`` or, where the object is unknown, ``volume.data_lock``."""
    type: str
    """mutex, rwsem, spinlock, semaphore, completion, work, rcu, io, ..."""
    kind: str = "lock"
    """See `primitives.Kind`."""
    mode: str = ""
    """``read`` or ``write`` for locks that tell them apart."""
    address: int | None = None
    """Of the lock's ``dep_map``, as lockdep prints it: proves identity."""
    twin: bool = False
    """True where another lock has the same name: only the address tells them apart."""
    lock_class: str | None = None
    """Lockdep's name."""
    members: tuple[str, ...] = ()
    """``volume.data_lock``: struct and member, typed by source and debug info. A lock of an
    embedded struct has several, the innermost struct first: ``ring.lock``, ``port.tx.lock``."""
    instance: str | None = None
    """``q.acct_lock``: a member of one global object; proves identity."""
    path: str | None = None
    """``chip->ports[1].lock``: where the way to it starts from one global pointer."""
    home: str | None = None
    """The file of a static `instance` or `path`: others may have one of that name."""
    origin: str | None = None
    """Tells whether two uses within one task are of one object."""
    beyond: int | None = None
    """Depth of the frame that handed the object to code without source, which handed it on."""
    handlers: tuple[str, ...] = ()
    """Functions that must return before the wait ends (work, timer, thread)."""
    expression: str | None = None
    """As the source spells it."""
    where: SourcePoint | None = None
    context: int = 0
    """0 in the innermost context of the stack, one more below every interrupt."""
    timed: bool = False
    """True when the wait ends by itself after some time."""
    inferred: bool = False
    """True when read from source rather than stated by the kernel."""
    evidence: tuple[str, ...] = ()

    @property
    def member(self) -> str | None:
        """The member of the outermost struct: it says most."""
        return self.members[-1] if self.members else None


@dataclass(frozen=True, slots=True)
class TaskLocks:
    """One task: what it holds, what it waits for, what others may wait for from it."""

    comm: str
    pid: int
    holds: tuple[LockUse, ...] = ()
    waits: LockUse | None = None
    signals: tuple[LockUse, ...] = ()
    """Events it will raise if it ever gets on."""
    runs: tuple[str, ...] = ()
    """Functions on its stack, and ``workqueue:NAME``."""
    sites: tuple[str, ...] = ()
    """``symbol+0xoffset`` of its reliable frames, innermost first."""
    where: SourcePoint | None = None
    """Its first own frame."""
    state: str | None = None
    cpu: int | None = None
    running: bool = False
    fate: str = ""
    """Why it will never release anything: `DIED`, or that it left without unlocking."""
    unlisted: int = 0
    """Locks that lockdep counts but does not list, because the task runs."""
    owner: tuple[str, int] | None = None
    """The lock's owner that the kernel itself named."""
    last_owner: bool = False
    """True when that one only held it last."""
    reads_rcu: str = ""
    """Why it holds up RCU grace periods, if it does."""
    blocked_seconds: int | None = None
    unread: int = 0
    """Frames of its stack, the outermost, in which no lock was looked for."""
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """Work for one sub-agent: stacks, each with all tasks that share it."""

    stacks: tuple[tuple[TaskState, ...], ...]

    @property
    def tasks(self) -> tuple[TaskState, ...]:
        """All tasks of the group."""
        return tuple(task for stack in self.stacks for task in stack)


def offered(use: LockUse) -> set[str]:
    """Keys under which who wants a lock may find this one; see `wanted`."""
    found = _names(use)
    found |= {f"class tail {_tail(plain_class(use.lock_class))}"} if use.lock_class else set()
    found |= {f"member tail {_tail(use.member)}"} if use.member else set()
    return found


def wanted(use: LockUse) -> set[str]:
    """Keys that every use shares one of with `use` if `same_lock` can take the two for one.

    Addresses are left to the caller: where both are known, they alone decide.
    """
    found = _names(use)
    found |= {f"member tail {_tail(plain_class(use.lock_class))}"} if use.lock_class else set()
    found |= {f"class tail {_tail(use.member)}"} if use.member else set()
    return found


def likeness(use: LockUse) -> tuple[object, ...]:
    """All that `same_lock` looks at, but for the address."""
    return (use.kind, use.type, use.instance, use.home, use.lock_class, use.path, use.members)


def _names(use: LockUse) -> set[str]:
    found = {f"member {name}" for name in use.members}
    for name in (use.instance, plain_class(use.lock_class) if use.lock_class else None):
        if name:
            found.add(f"name {name}")
    if use.path:
        found.add(f"path {use.path}")
    return found


def class_label(lock_class: str) -> str:
    """Lockdep's class as people say it: ``&q->lock/1`` → ``q->lock``."""
    return lock_class.lstrip("&").split("/")[0]


def same_lock(left: LockUse, right: LockUse) -> tuple[bool, bool]:
    """Whether two uses are of one lock, and whether that is proven rather than likely.

    Addresses prove it, and so do members of one global object. A common struct member or lock
    class alone makes it likely: there may be several objects of that type.
    """
    if left.address is not None and right.address is not None:
        return left.address == right.address, True
    if left.kind != right.kind or (left.type != right.type and "" not in (left.type, right.type)):
        return False, False
    if left.instance and right.instance:
        apart = left.home and right.home and left.home != right.home
        return left.instance == right.instance and not apart, True
    for one, other in ((left.instance, right.lock_class), (right.instance, left.lock_class)):
        if one and other and one == plain_class(other):
            return True, True
    if left.path and right.path and (known := _same_path(left, right)) is not None:
        return known, not known
    if left.members and right.members:
        return _same_member(left.members, right.members), False
    if left.lock_class and right.lock_class:
        return plain_class(left.lock_class) == plain_class(right.lock_class), False
    for one, other in ((left.member, right.lock_class), (right.member, left.lock_class)):
        if one and other:
            return _tail(one) == _tail(plain_class(other)), False
    return False, False


def is_one(left: LockUse, right: LockUse) -> bool:
    """Whether two uses name one object: its address, its global name, or one way to it."""
    if left.home and right.home and left.home != right.home:
        return False
    pairs = ((left.address, right.address), (left.instance, right.instance),
             (left.path, right.path))  # fmt: skip
    return any(one is not None and one == other for one, other in pairs)


def _same_path(left: LockUse, right: LockUse) -> bool | None:
    """Two ways from one global pointer: alike, or apart by a constant index; None if unlike."""
    if left.home and right.home and left.home != right.home:
        return None
    if left.path == right.path:
        return True
    apart = {re.sub(r"\[\d+\]", "[]", use.path or "") for use in (left, right)}
    return False if len(apart) == 1 else None


def _same_member(left: tuple[str, ...], right: tuple[str, ...]) -> bool:
    """Whether two locks are the same member of every struct that both are known to lie in."""
    mine, other = (dict(name.split(".", 1) for name in names) for names in (left, right))
    common = mine.keys() & other.keys()
    return bool(common) and all(mine[struct] == other[struct] for struct in common)


def plain_class(lock_class: str) -> str:
    """Lockdep's class name without address-of, subclass and version (``&q->lock/1`` …)."""
    return lock_class.lstrip("&").split("/")[0].split("#")[0]


def _tail(name: str) -> str:
    return name.replace("->", ".").rsplit(".", 1)[-1]
