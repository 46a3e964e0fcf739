"""How the deadlock route scales: a dump of thousands of tasks, and sub-agents beside each other.

::

    PYTHONPATH=tests python tests/benchmarks/deadlock_scale.py [--tasks 2000]

Prints the seconds for a sysrq-t dump without a model; the cost of one more sub-agent, with rules
alone and with a scripted model that answers at once; and the wall time of eight sub-agents whose
model takes a second. The scripted model is an object in this process for the graph's own cost, and
an HTTP endpoint on loopback where its client is to be in the figures. CPU time stands beside wall
time: the former tells more on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

from langchain_core.messages import AIMessage
from support.chat_endpoint import chat_endpoint, text

from kagent import Settings, analyze

_WAITS = (
    ("__mutex_lock.constprop.0", "mutex_lock", "vol{n}_update"),
    ("rwsem_down_read_slowpath", "down_read", "vol{n}_lookup"),
    ("__wait_for_common", "wait_for_completion", "vol{n}_sync"),
    ("do_nanosleep", "hrtimer_nanosleep", "__x64_sys_nanosleep"),
    ("schedule_hrtimeout_range_clock", "ep_poll", "do_epoll_wait"),
    ("do_wait", "kernel_wait4", "__do_sys_wait4"),
)
_TAIL = ("vfs_write", "ksys_write", "do_syscall_64", "entry_SYSCALL_64_after_hwframe")


def sysrq_dump(tasks: int, stacks: int) -> str:
    """What `echo t > /proc/sysrq-trigger` prints (kernel/sched/core.c, sched_show_task)."""
    return "\n".join(_lines(tasks, stacks)) + "\n"


def _lines(tasks: int, stacks: int) -> Iterator[str]:
    chance = random.Random(1)
    yield "[  100.000000] INFO: task worker0:1000 blocked for more than 120 seconds."
    yield "[  100.000000]       Not tainted 6.1.0-56-amd64 #1 Debian 6.1.192-2"
    yield from _task(chance, 0, 0)
    yield "[  101.000000] sysrq: Show State"
    for number in range(tasks):
        yield from _task(chance, number, number % stacks)


def _task(chance: random.Random, number: int, stack: int) -> Iterator[str]:
    functions = [name.format(n=stack) for name in _WAITS[stack % len(_WAITS)]]
    state = "D" if stack % len(_WAITS) < 3 else "S"
    when, pid = f"[  101.{number:06}]", 1000 + number
    yield (
        f"{when} task:worker{number:<9} state:{state} stack:0     pid:{pid:<5} ppid:2      "
        "flags:0x00004000"
    )
    yield f"{when} Call Trace:"
    yield f"{when}  <TASK>"
    for depth, name in enumerate(("__schedule", "schedule", *functions, *_TAIL)):
        offset = 0x10 + 8 * depth + stack % 7
        yield f"{when}  {name}+{offset:#x}/{chance.randrange(0x200, 0x900):#x}"
    yield f"{when}  </TASK>"


class _AtOnce:
    """A chat model that has nothing to say, without delay."""

    def with_structured_output(self, shape: type[Any], **_more: Any) -> _AtOnce:
        self.shape = shape
        return _Structured(shape)

    def bind_tools(self, _tools: Any) -> _AtOnce:
        return self

    def invoke(self, _messages: Any) -> Any:
        return AIMessage("")


class _Structured(_AtOnce):
    def __init__(self, shape: type[Any]) -> None:
        self.shape = shape

    def invoke(self, _messages: Any) -> Any:
        return {"raw": AIMessage(""), "parsed": self.shape()}


@contextlib.contextmanager
def _in_process() -> Iterator[None]:
    with (
        mock.patch("kagent.agents.deadlock.chat_model", return_value=_AtOnce()),
        mock.patch("kagent.agents.analyst.chat_model", return_value=_AtOnce()),
    ):
        yield


def _seconds(log: str, settings: Settings) -> tuple[float, float]:
    """Wall and CPU seconds of one analysis."""
    wall, cpu = time.perf_counter(), time.process_time()
    analyze(log, settings=settings)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--tasks", type=int, default=2000)
    given = arguments.parse_args()
    dump, small = sysrq_dump(given.tasks, 300), sysrq_dump(8, 8)
    plain = Settings()
    _seconds(small, plain)  # imports
    runs = [_seconds(dump, plain) for _ in range(3)]
    wall, cpu = min(wall for wall, _ in runs), min(cpu for _, cpu in runs)
    print(f"sysrq-t, {given.tasks} tasks, 300 stacks, no model: {wall:.2f} s, {cpu:.2f} s CPU")
    print(f"one more sub-agent, rules alone: {_one_more(plain)}")
    with _in_process():
        cost = _one_more(_with_model("http://127.0.0.1:9"))
    print(f"one more sub-agent, a model that answers at once, in this process: {cost}")
    with chat_endpoint(lambda _request: text({"claims": []})) as at_once:
        cost = _one_more(_with_model(at_once.url))
    print(f"one more sub-agent, the same over HTTP: {cost} (client and server)")
    with chat_endpoint(lambda _request: text({"claims": []}), delay=1.0) as slow:
        whole, _ = _seconds(small, _with_model(slow.url))
        synthesis = len(slow.requests) - 8
    print(
        f"eight sub-agents, model 1 s: {whole - synthesis:.2f} s ({slow.at_once} at once); with "
        f"the {synthesis} calls before and after them {whole:.2f} s"
    )


def _one_more(settings: Settings) -> str:
    """Milliseconds that each of seven further sub-agents costs."""
    figures = []
    for clock in (0, 1):
        one, eight = (
            statistics.median(_seconds(sysrq_dump(8, stacks), settings)[clock] for _ in range(9))
            for stacks in (1, 8)
        )
        figures.append((eight - one) / 7 * 1000)
    return f"{figures[0]:.1f} ms, {figures[1]:.1f} ms CPU"


def _with_model(url: str) -> Settings:
    return Settings(model="scripted", base_url=url, api_key="none")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
