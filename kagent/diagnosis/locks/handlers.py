"""Which function must finish before a flush, a timer deletion or a thread stop returns.

Read from where the object is set up: ``INIT_WORK(&d->work, fn)``, ``timer_setup()``,
``d->thread = kthread_run(fn, ...)``, ``alloc_workqueue("name", ...)``.
"""

from __future__ import annotations

import re

from kagent.diagnosis.code import CFunction
from kagent.diagnosis.locks.primitives import Primitive
from kagent.diagnosis.reader import Reader

__all__ = ["handlers_of", "started_with"]

_SETUP: dict[str, re.Pattern[str]] = {
    "work": re.compile(
        r"(?:INIT(?:_DELAYED|_DEFERRABLE)?_WORK(?:_ONSTACK)?|DECLARE(?:_DELAYED)?_WORK)"
        r"\s*\(\s*(?P<object>[^,;]{1,120}?)\s*,\s*(?P<function>\w{1,120})\s*\)"
    ),
    "timer": re.compile(
        r"(?:timer_setup(?:_on_stack)?|setup_timer|__?TIMER_INITIALIZER|DEFINE_TIMER)"
        r"\s*\(\s*(?P<object>[^,;]{1,120}?)\s*,\s*(?P<function>\w{1,120})\b"
    ),
    "hrtimer": re.compile(
        r"(?:hrtimer_setup\s*\(\s*(?P<object>[^,;]{1,120}?)\s*,\s*(?P<function>\w{1,120})"
        r"|(?P<object2>[\w.>\-]{1,120})\.function\s*=\s*(?P<function2>\w{1,120}))"
    ),
    "kthread": re.compile(
        r"(?P<object>[\w.>\-\[\]]{1,120})\s*=\s*kthread_(?:run|create)\w{0,16}"
        r"\s*\(\s*(?P<function>\w{1,120})"
    ),
    "irq": re.compile(
        r"request_(?:threaded_)?irq\s*\(\s*(?P<object>[^,;]{1,120}?)\s*,\s*(?P<function>\w{1,120})"
    ),
}
_QUEUE = re.compile(
    r"(?P<object>[\w.>\-\[\]]{1,120})\s*=\s*(?:alloc|create)_\w{0,32}workqueue\s*"
    r"\(\s*\"(?P<name>[^\"%]{1,64})\""
)
_SYSTEM_QUEUES = {
    "system_wq": "events",
    "system_percpu_wq": "events",
    "system_highpri_wq": "events_highpri",
    "system_long_wq": "events_long",
    "system_unbound_wq": "events_unbound",
    "system_dfl_wq": "events_unbound",
    "system_freezable_wq": "events_freezable",
    "system_power_efficient_wq": "events_power_efficient",
}
"""workqueue_init_early() of kernel/workqueue.c."""
_THREAD = r"kthread_(?:run|create)\w{{0,16}}\s*\(\s*{name}\s*,\s*(?P<argument>[^,;]{{1,120}}?)\s*,"


def handlers_of(
    reader: Reader, function: CFunction, primitive: Primitive, argument: str
) -> tuple[str, ...]:
    """Functions behind the object `argument` that `function` waits for."""
    if primitive.kind != "handler":
        return ()
    text = reader.file_text(function.path)
    if primitive.type == "workqueue":
        if argument in _SYSTEM_QUEUES:
            return (f"workqueue:{_SYSTEM_QUEUES[argument]}",)
        wanted = [m for m in _QUEUE.finditer(text) if _same(m["object"], argument)]
        return tuple(dict.fromkeys(f"workqueue:{m['name']}" for m in wanted))
    pattern = _SETUP.get(primitive.type)
    found = []
    for match in pattern.finditer(text) if pattern else ():
        groups = match.groupdict()
        target = groups.get("object") or groups.get("object2") or ""
        if _same(target, argument):
            found.append(groups.get("function") or groups.get("function2") or "")
    return tuple(dict.fromkeys(found))


def started_with(reader: Reader, function: CFunction) -> str | None:
    """What the handler `function` is handed by the code that started it, if that is one object.

    A thread's argument; a pointer to the work item or timer.
    """
    if not function.path or not re.fullmatch(r"\w{1,120}", function.name):
        return None
    text = reader.file_text(function.path)
    if function.name not in text:
        return None
    pattern = re.compile(_THREAD.format(name=re.escape(function.name)))
    given = {m["argument"] for m in pattern.finditer(text)}
    for kind in ("work", "timer", "hrtimer"):
        for match in _SETUP[kind].finditer(text):
            groups = match.groupdict()
            if function.name in (groups.get("function"), groups.get("function2")):
                given.add(groups.get("object") or groups.get("object2") or "")
    return given.pop() if len(given) == 1 else None


def _same(left: str, right: str) -> bool:
    """Whether two expressions end in the same member or name."""
    return _last(left) == _last(right)


def _last(expression: str) -> str:
    return re.split(r"->|\.", expression.strip("&() "))[-1].strip("&()[] ")
