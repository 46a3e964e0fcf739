"""The actions that may be proposed, as templates with typed slots.

Rules and models choose from the same table: whoever proposes a command, its words are those of
`TEMPLATES`, and what is put into it has the shape of its slot. Nothing is quoted from a log, a
commit or a model into a command.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from kagent.diagnosis.commandlike import command_like
from kagent.text import strip_control

__all__ = ["SLOTS", "TEMPLATES", "Known", "SlotError", "Template", "choose", "clean", "render"]

Part = Literal["fix", "verify", "mitigate"]


class SlotError(ValueError):
    """A value that does not have the shape of its slot, or is not known to the analysis."""


@dataclass(frozen=True, slots=True)
class Template:
    """An action: its part of the summary, and its words with ``{slot}`` for each value."""

    part: Part
    text: str
    slot: str = ""
    """What a model fills in, a key of `SLOTS`; with none it chooses the action as it is."""
    offered: bool = True
    """Whether a model may choose it; the others need what only the rules know."""


def _shape(pattern: str) -> Callable[[str], str | None]:
    shape = re.compile(pattern, re.ASCII)
    return lambda value: shlex.quote(value) if shape.fullmatch(value) else None


def _words(limit: int, otherwise: str) -> Callable[[str], str]:
    """Words to read, not to run: one line, or `otherwise` where they read like a command."""

    def words(value: str) -> str:
        line = " ".join(strip_control(value).split())
        if len(line) > limit or command_like(line, code=True):
            return otherwise
        return f" {line}" if value.startswith(" ") else line

    return words


_PLACE = re.compile(r" at [\w./+@~-]{1,4096}\.(?:[chlsSy]|inc|rs):\d{1,9}", re.ASCII)
"""A line of source; what ends so is no program, wherever it lies."""


def _place(value: str) -> str:
    return value if _PLACE.fullmatch(value) else ""


_CONFIGS = (
    "DEBUG_ATOMIC_SLEEP|DEBUG_KMEMLEAK|DEBUG_LIST|DEBUG_OBJECTS|DEBUG_PAGEALLOC|DEBUG_VM|"
    "DETECT_HUNG_TASK|KASAN|KCSAN|KFENCE|KMSAN|LOCKDEP|PRINTK_CALLER|PROVE_LOCKING|PROVE_RCU|"
    "SLUB_DEBUG|UBSAN"
)

SLOTS: Mapping[str, Callable[[str], str | None]] = {
    "hash": _shape(r"[0-9a-f]{7,40}"),
    "tag": _shape(r"v\d{1,3}(?:\.\d{1,4}){1,3}(?:-rc\d{1,2})?"),
    "message-id": _shape(r"\w[\w.+=%-]{0,127}@\w[\w.-]{0,127}"),
    "module": _shape(r"\w[\w-]{0,63}"),
    "config": _shape(rf"CONFIG_(?:{_CONFIGS})"),
    "release": _shape(r"\d[\w.+~-]{0,127}"),
    "revision": _shape(r"\w[\w.+~-]{0,127}"),
    "cgroup": _words(256, "the control group"),
    "subject": _words(400, "its subject reads like a command"),
    "expression": _words(400, "the value"),
    "function": _words(512, "the function"),
    "place": _place,
    "name": _words(512, "it"),
}
"""The types of slots: what a value becomes in a text; None where it must not stand there."""

_APPLY = 'apply {hash} ("{subject}"): git cherry-pick -x {hash}'
_RERUN = "re-run the same workload"
TEMPLATES: Mapping[str, Template] = {
    # Fixes: where they have landed decides how to get one.
    "cherry-pick": Template("fix", _APPLY, "hash"),
    "upgrade": Template("fix", "upgrade to {tag} or later", "tag"),
    "upgrade-or-pick": Template("fix", f"upgrade to {{tag}} or later, or {_APPLY}", offered=False),
    "follow-up": Template(
        "fix", '{hash} ("{subject}") is already in this kernel: look for a follow-up to it', "hash"
    ),
    "posted": Template("fix", 'try the posted patch "{subject}"', offered=False),
    "shazam": Template(
        "fix", 'try the posted patch "{subject}": b4 shazam {message-id}', "message-id"
    ),
    "check-value": Template(
        "fix",
        "without a known fix: check `{expression}` before its use in {function}(){place}, and find "
        "who left it so",
        offered=False,
    ),
    "report-module": Template(
        "fix",
        "report it to whoever ships {module}: it is not part of the kernel tree",
        offered=False,
    ),
    "not-the-kernel": Template(
        "fix", "nothing in the kernel: look at the program or person that did this", offered=False
    ),
    # Memory that ran out.
    "more-memory": Template(
        "fix", "add memory or swap, or find out why the largest tasks need that much"
    ),
    "more-memory-cgroup": Template(
        "fix",
        "raise memory.max of {cgroup}, or find out why the largest tasks need that much",
        offered=False,
    ),
    "watch-memory": Template(
        "verify",
        "run the workload again and watch memory.current or /proc/meminfo while it grows",
    ),
    "limit-memory": Template(
        "mitigate", "lower oom_score_adj of what must survive; limit the others by memory.high"
    ),
    # Options that would catch the same bug earlier or say more.
    "debug-heap": Template(
        "verify",
        f"{_RERUN} on a kernel with CONFIG_KASAN=y, or boot with slub_debug=FZPU: both must stay "
        "silent",
    ),
    "debug-refcount": Template(
        "verify", "re-run with CONFIG_KASAN=y: neither it nor refcount_t may warn"
    ),
    "debug-locks": Template(
        "verify",
        "re-run on a kernel with CONFIG_PROVE_LOCKING=y and CONFIG_DETECT_HUNG_TASK=y: lockdep and "
        "the hung-task detector must stay silent",
    ),
    "debug-atomic": Template(
        "verify", "re-run with CONFIG_DEBUG_ATOMIC_SLEEP=y and CONFIG_PROVE_LOCKING=y"
    ),
    "debug-values": Template(
        "verify", "re-run with CONFIG_UBSAN=y and feed the boundary values again"
    ),
    "debug-races": Template("verify", "re-run with CONFIG_KCSAN=y under the same load"),
    "debug-leaks": Template(
        "verify",
        "re-run with CONFIG_DEBUG_KMEMLEAK=y, then: echo scan > /sys/kernel/debug/kmemleak; "
        "cat /sys/kernel/debug/kmemleak",
    ),
    "debug-pointers": Template(
        "verify", f"{_RERUN}; with CONFIG_KASAN=y a bad pointer is caught at its first use"
    ),
    "rerun-with": Template("verify", f"{_RERUN} on a kernel with {{config}}=y", "config"),
    "rerun": Template(
        "verify",
        "re-run the workload that triggered the report and watch dmesg: it must not come back",
    ),
    # Until it is fixed.
    "blacklist": Template(
        "mitigate",
        "until it is fixed, do not load it: echo 'blacklist {module}' > "
        "/etc/modprobe.d/{module}.conf && modprobe -r {module}",
        "module",
    ),
    "without-foreign": Template(
        "mitigate",
        "run the workload without out-of-tree modules{name}: they taint this kernel, and may have "
        "damaged what it met here",
        offered=False,
    ),
    "reboot-on-hang": Template(
        "mitigate",
        "to get out of a hang by itself: sysctl kernel.hung_task_panic=1 "
        "kernel.softlockup_panic=1 kernel.panic=10 (reboots the machine)",
    ),
    "panic-on-oops": Template(
        "mitigate",
        "not to go on with damaged data: sysctl kernel.panic_on_oops=1 kernel.panic=10 "
        "(reboots the machine)",
    ),
    "avoid": Template("mitigate", "avoid the workload named by the task and the top of the trace"),
}
_SLOT = re.compile(r"\{([a-z-]+)\}")


@dataclass(frozen=True, slots=True)
class Known:
    """What the analysis found: the only values that a model may put into a slot."""

    commits: Mapping[str, str]
    """Subject by hash, or by message id where a change was only posted."""
    modules: Iterable[str] = ()
    tags: Iterable[str] = ()


def clean(slot: str, value: str) -> str:
    """What `value` becomes where a slot of this type stands.

    Raises:
        SlotError: it must not stand there.
    """
    shown = SLOTS[slot](value)
    if shown is None:
        raise SlotError(f"{value[:80]!r} is no {slot.replace('-', ' ')}")
    return shown


def render(name: str, values: Mapping[str, str] | None = None) -> str:
    """The words of template `name` with `values` by type of slot.

    Raises:
        SlotError: a value does not have the shape of its slot.
    """
    given = values or {}
    return _SLOT.sub(lambda slot: clean(slot[1], given[slot[1]]), TEMPLATES[name].text)


def choose(name: str, value: str, known: Known) -> tuple[Part, str]:
    """The action that a model chose, with the part of the summary it belongs to.

    Raises:
        SlotError: there is no such action, or its value was not among what was found.
    """
    template = TEMPLATES.get(name)
    if template is None or not template.offered:
        raise SlotError("no such action")
    if not template.slot:
        return template.part, template.text
    return template.part, render(name, _found(template.slot, value.strip(), known))


def _found(slot: str, value: str, known: Known) -> dict[str, str]:
    match slot:
        case "hash":
            value = value.lower()
            full = [one for one in known.commits if len(value) >= 7 and one.startswith(value)]
            if len(full) == 1 and "@" not in full[0]:
                return {"hash": full[0][:12], "subject": known.commits[full[0]]}
        case "message-id":
            if value in known.commits and "@" in value:
                return {slot: value, "subject": known.commits[value]}
        case "tag":
            if value in known.tags:
                return {slot: value}
        case "module":
            if value in known.modules:
                return {slot: value}
        case "config":
            return {slot: value}
    raise SlotError(f"{value[:80]!r} was not among what was found")
