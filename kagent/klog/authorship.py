"""Who chose what a kernel line says: the kernel, or somebody whose words it only repeats.

The kernel prints names that others gave: a program names itself (``prctl(PR_SET_NAME)``), a device
has a product string, a machine its DMI strings, a control group a path. Such text may read like a
report's header or a command, and proves nothing but that it was printed.

Two tables say so once. `FIELDS` is for the typed model; `PRINTED` for lines before they are
understood, so that a header inside somebody's name is no header.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kagent.klog.lines import USER, Line
from kagent.klog.model import (
    Access,
    Context,
    Frame,
    KernelLog,
    LockdepFacts,
    LockRef,
    MemoryObject,
    Report,
    TaskState,
    Trace,
)
from kagent.klog.oom_model import OomFacts, OomSlab, OomTask, OomVictim

__all__ = [
    "FIELDS",
    "PRINTED",
    "Chooser",
    "Field",
    "Printed",
    "chooser_of",
    "kernel_text",
    "user_chosen",
]

Chooser = Literal["kernel", "program", "device", "firmware", "module", "administrator", "mixed"]
"""Who chooses a value.

program: any process, without privileges, by its own name or those of its files; device: whoever
plugs it in; firmware: whoever made or runs the (virtual) machine; module: whoever wrote a kernel
module; administrator: whoever may create control groups, which users may be allowed to; mixed: the
kernel's sentence with values of the others in it.
"""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the model."""

    owner: type
    name: str
    chooser: Chooser
    source: str
    """The file of the kernel that prints it."""


FIELDS: tuple[Field, ...] = (
    Field(Context, "task", "program", "lib/dump_stack.c"),
    Field(Trace, "task", "program", "lib/dump_stack.c"),
    Field(TaskState, "comm", "program", "kernel/sched/core.c"),
    Field(TaskState, "owner", "program", "kernel/hung_task.c"),
    Field(Access, "task", "program", "mm/kasan/report.c"),
    Field(LockdepFacts, "task", "program", "kernel/locking/lockdep.c"),
    Field(OomFacts, "invoker", "program", "mm/oom_kill.c"),
    Field(OomTask, "comm", "program", "mm/oom_kill.c"),
    Field(OomVictim, "comm", "program", "mm/oom_kill.c"),
    Field(OomFacts, "memcg", "administrator", "mm/memcontrol.c"),
    Field(OomFacts, "task_memcg", "administrator", "mm/memcontrol.c"),
    Field(OomFacts, "cpuset", "administrator", "kernel/cgroup/cpuset.c"),
    Field(Context, "hardware", "firmware", "drivers/firmware/dmi_scan.c"),
    # Named after devices and volumes by those who allocate them.
    Field(Context, "workqueue", "module", "kernel/workqueue.c"),
    Field(TaskState, "workqueue", "module", "kernel/workqueue.c"),
    Field(Context, "modules", "module", "kernel/module/main.c"),
    Field(Context, "unloaded", "module", "kernel/module/main.c"),
    Field(Context, "out_of_tree", "module", "kernel/module/main.c"),
    Field(Frame, "symbol", "module", "kernel/kallsyms.c"),
    Field(Frame, "module", "module", "kernel/kallsyms.c"),
    Field(Frame, "file", "module", "kernel/kallsyms.c"),
    Field(LockRef, "name", "module", "kernel/locking/lockdep.c"),
    Field(MemoryObject, "cache", "module", "mm/slab_common.c"),
    Field(OomSlab, "cache", "module", "mm/slab_common.c"),
    Field(Report, "title", "mixed", "kernel/printk/printk.c"),
    Field(Report, "header", "mixed", "kernel/printk/printk.c"),
    Field(Report, "message", "mixed", "kernel/printk/printk.c"),
    Field(Report, "alt_titles", "mixed", "kernel/printk/printk.c"),
    Field(MemoryObject, "description", "mixed", "mm/kasan/report.c"),
    Field(Trace, "title", "mixed", "kernel/printk/printk.c"),
)
"""Fields that are not here state what the kernel itself found."""

_BY_FIELD = {(field.owner, field.name): field for field in FIELDS}
_BPF = re.compile(r"bpf_prog_[0-9a-f]{16}(?:_\w|$)")
"""kernel/bpf/core.c, bpf_get_prog_name(): whoever loads a program names it."""
_OUTSIDE = frozenset({"program", "device", "firmware", "administrator"})


def chooser_of(owner: type, name: str) -> Chooser:
    """Who chooses the value of field `name` of the model's class `owner`."""
    field = _BY_FIELD.get((owner, name))
    return field.chooser if field else "kernel"


def user_chosen(value: Report | KernelLog | TaskState) -> frozenset[str]:
    """Every string in `value` that neither the kernel nor a module chose.

    Where evidence or prose repeats one of them, that part is somebody's own words.
    """
    return frozenset(text for text in _chosen(value) if text)


def _chosen(value: object) -> Iterator[str]:
    if isinstance(value, tuple):
        for item in value:
            yield from _chosen(item)
    elif isinstance(value, Frame):
        if _BPF.match(value.symbol):
            yield value.symbol
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if chooser_of(type(value), field.name) in _OUTSIDE:
                yield from (item for item in _as_tuple(inner) if isinstance(item, str))
            else:
                yield from _chosen(inner)


def _as_tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


# ── lines ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Printed:
    """A line with somebody's words in it: the group ``user`` of `shape`."""

    shape: re.Pattern[str]
    chooser: Chooser
    source: str


_NAME = r"(?P<user>.{1,64}?)"
_TAINT = r"(?:Not tainted|Tainted: |Kdump: loaded )"
_SHAPES: tuple[tuple[str, Chooser, str], ...] = (
    (rf"Comm: {_NAME}(?= {_TAINT}|$)", "program", "lib/dump_stack.c"),
    # A name with a line break in it: the rest of the CPU line, without its beginning.
    (rf"^(?P<user>.{{1,16}}?) {{1,2}}{_TAINT}.{{0,64}}?\d\.\d", "program", "lib/dump_stack.c"),
    (rf"INFO: task {_NAME}:\d{{1,10}} (?=blocked |can't die |is blocked |<)", "program",
     "kernel/hung_task.c"),
    (rf"INFO: task .{{1,64}}:\d{{1,10}} .{{0,48}}(?:owned|held) by (?:task )?{_NAME}:\d",
     "program", "kernel/hung_task.c"),
    (rf"task:{_NAME} {{1,20}}state:", "program", "kernel/sched/core.c"),
    (rf"stuck for \d{{1,9}}s! \[{_NAME}:\d{{1,10}}\]$", "program", "kernel/watchdog.c"),
    (rf"locks? held by {_NAME}/\d{{1,10}}[:./]", "program", "kernel/locking/lockdep.c"),
    (rf"^{_NAME}/\d{{1,10}} (?:\[HC.{{1,80}}\] )?(?:is trying to |just changed |takes"
     r"|is freeing|is exiting|is leaving)", "program", "kernel/locking/lockdep.c"),
    (rf"by task {_NAME}/\d{{1,10}}$", "program", "mm/kasan/report.c"),
    (rf"comm \"{_NAME}\", pid \d", "program", "mm/kmemleak.c"),
    (rf"scheduling while atomic: {_NAME}/\d{{1,10}}/0x", "program", "kernel/sched/core.c"),
    (rf"in preemptible \[\w{{1,16}}\] code: {_NAME}/\d{{1,10}}$", "program",
     "lib/smp_processor_id.c"),
    (rf"in_atomic\(\): .{{1,80}}, name: {_NAME}$", "program", "kernel/sched/core.c"),
    (rf", CPU#\d{{1,5}}: {_NAME}/\d{{1,10}}$", "program", "kernel/panic.c"),
    (rf"^note: {_NAME}\[\d{{1,10}}\] exited with ", "program", "kernel/exit.c"),
    (rf"^(?:traps: )?{_NAME}\[\d{{1,10}}\]:? (?=segfault at |trap |general prot)", "program",
     "arch/x86/mm/fault.c"),
    (rf"^{_NAME} (?=invoked oom-killer:)", "program", "mm/oom_kill.c"),
    (rf"Killed process \d{{1,10}}(?:, UID \d{{1,10}},)? \({_NAME}\),? (?:UID|total-vm)",
     "program", "mm/oom_kill.c"),
    (rf"oom_reaper: reaped process \d{{1,10}} \({_NAME}\)", "program", "mm/oom_kill.c"),
    (r"^\[ {0,9}\d{1,10}\](?: {1,20}-?\d{1,20}){5,10} {1,4}(?P<user>.{1,64})$", "program",
     "mm/oom_kill.c"),
    (r"^oom-kill:constraint=(?P<user>.{1,4000})$", "administrator", "mm/oom_kill.c"),
    (r"^Memory cgroup stats for (?P<user>.{1,1000}):", "administrator", "mm/memcontrol.c"),
    (rf"[( ]comm {_NAME}: ", "program", "fs/ext4/super.c"),
    (r"^process '(?P<user>.{1,4000})' started with executable stack", "program", "fs/exec.c"),
    (r"^usb \S{1,16}: (?:Product|Manufacturer|SerialNumber): (?P<user>.{1,400})$", "device",
     "drivers/usb/core/hub.c"),
    (r"^input: (?P<user>.{1,400}) as /devices/", "device", "drivers/input/input.c"),
    (r"^\S{1,64} \S{1,32}: .{0,64}\[(?P<user>.{1,255})\] on \S", "device",
     "drivers/hid/hid-core.c"),
    (r"^scsi \d\S{0,16}: [A-Z]\S{1,31} {1,24}(?P<user>.{1,64}?) PQ: ", "device",
     "drivers/scsi/scsi_scan.c"),
    (r"^(?:DMI|Hardware name): (?P<user>.{1,400})$", "firmware", "drivers/firmware/dmi_scan.c"),
    (r"^(?:Kernel command|Command) line: (?P<user>.{1,4000})$", "administrator", "init/main.c"),
    (r"^Unknown kernel command line parameters (?P<user>.{1,4000})$", "administrator",
     "init/main.c"),
)  # fmt: skip
PRINTED = tuple(Printed(re.compile(shape), chooser, source) for shape, chooser, source in _SHAPES)
"""Formats of the kernel's own printk() calls; each is searched for in a line without its prefix."""

_PROGRAM = re.compile(
    r"[A-Za-z][\w@.()/-]{0,63}\[\d{1,10}\]: (?!segfault at |trap |bad |unhandled )"
)
"""What programs put before lines that they write to /dev/kmsg (``systemd[1]: ``)."""


def kernel_text(line: Line) -> str:
    """The line's text with everybody else's words blanked out; empty for lines of user space.

    Of as many characters as the text, so that positions in one are positions in the other.
    """
    text = line.text.lstrip(" ")
    if line.context == USER or _PROGRAM.match(text):
        return ""
    indent = len(line.text) - len(text)
    for printed in PRINTED:
        if match := printed.shape.search(text):
            start, end = match.span("user")
            text = f"{text[:start]}{'_' * (end - start)}{text[end:]}"
    return " " * indent + text
