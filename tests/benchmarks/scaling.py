"""How time and memory grow with what a log is full of.

::

    PYTHONPATH=tests python tests/benchmarks/scaling.py [--max-mb 2] [--analysis-mb 1] [--only NAME]

Doubles the size of a log along one dimension at a time, up to `--max-mb`, and prints for the
largest one the CPU seconds, the peak of memory besides the log itself, and the exponent that fits
the last three doublings: 1.0 is linear, 2.0 quadratic; the goal is at most 1.1. `parse` is the log
parser alone, `analysis` everything that happens without a model, views included.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator

from support.hangs import hung_log

from kagent import Settings, analyze
from kagent.errors import NoReportError
from kagent.klog import parse_log


def _stamped(lines: Iterator[str], caller: str = "") -> str:
    return "".join(f"[{100 + n * 1e-4:12.6f}]{caller} {line}\n" for n, line in enumerate(lines))


def _letters(number: int) -> str:
    """A word without a digit, another one for each number."""
    word = ""
    while number:
        number, rest = divmod(number, 26)
        word += chr(ord("a") + rest)
    return word or "zero"


def _oops(name: str, frames: int = 8) -> Iterator[str]:
    yield "BUG: kernel NULL pointer dereference, address: 0000000000000008"
    yield "#PF: supervisor read access in kernel mode"
    yield "Oops: 0000 [#1] PREEMPT SMP NOPTI"
    yield "CPU: 1 PID: 77 Comm: worker Not tainted 6.1.0-1-amd64 #1  Debian 6.1.4-1"
    yield f"RIP: 0010:{name}_apply+0x1e/0x70 [widget]"
    yield "RAX: 0000000000000000 RBX: ffff8a5e01a2b400 RCX: 0000000000000000"
    yield "Call Trace:"
    yield " <TASK>"
    yield from (f" {name}_{_letters(n)}+0x{16 + n % 64:x}/0x400" for n in range(frames))
    yield " </TASK>"
    yield "---[ end trace 0000000000000000 ]---"


def _reports(count: int) -> str:
    return _stamped(line for n in range(count) for line in _oops(_letters(n)))


def _alike(count: int) -> str:
    return _stamped(line for _ in range(count) for line in _oops("widget"))


def _remarks(count: int) -> str:
    return _stamped(f"BUG: {_letters(n)} went wrong" for n in range(count))


def _frames(count: int) -> str:
    return _stamped(_oops("deep", count))


def _chain(count: int) -> str:
    def lines() -> Iterator[str]:
        yield "======================================================"
        yield "WARNING: possible circular locking dependency detected"
        yield "6.1.0-1-amd64 #1 Not tainted"
        yield "------------------------------------------------------"
        yield "worker/100 is trying to acquire lock:"
        yield "ffff888004000000 (&first->lock){+.+.}-{3:3}, at: take_first+0x10/0x40"
        yield ""
        yield "but task is already holding lock:"
        yield f"ffff888004000100 (&c{count}->lock){{+.+.}}-{{3:3}}, at: take_last+0x10/0x40"
        yield ""
        yield "which lock already depends on the new lock."
        yield "the existing dependency chain (in reverse order) is:"
        for n in range(count, -1, -1):
            yield f"-> #{n} (&c{n}->lock){{+.+.}}-{{3:3}}:"
            yield "       __mutex_lock+0x10/0x40"
            yield f"       take_{_letters(n)}+0x20/0x80"
        yield "stack backtrace:"
        yield "CPU: 0 PID: 100 Comm: worker Not tainted 6.1.0-1-amd64 #1"
        yield "Call Trace:"
        yield " <TASK>"
        yield " mutex_lock+0x1/0x30"
        yield " worker_fn+0x1/0x40"
        yield " </TASK>"

    return _stamped(lines())


def _irq_chain(count: int) -> str:
    def lines() -> Iterator[str]:
        yield "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected"
        yield "worker/100 [HC0[0]:SC0[2]:HE1:SE0] is trying to acquire:"
        yield "ffff888004000000 (&first->lock){+.+.}-{3:3}, at: take_first+0x10/0x40"
        yield "and this task is already holding:"
        yield "ffff888004000100 (&last->lock){+.-.}-{3:3}, at: take_last+0x10/0x40"
        yield "the dependencies between SOFTIRQ-irq-safe lock and the holding lock:"
        for n in range(count):
            yield f"-> (&c{n}->lock){{+.-.}}-{{3:3}} {{"
            yield "   ... acquired at:"
            yield f"       take_{_letters(n)}+0x20/0x80"
        yield "stack backtrace:"
        yield "Call Trace:"
        yield " <TASK>"
        yield " worker_fn+0x1/0x40"
        yield " </TASK>"

    return _stamped(lines())


def _held(count: int) -> str:
    def lines() -> Iterator[str]:
        yield "INFO: task worker:100 blocked for more than 120 seconds."
        yield "task:worker          state:D stack:0     pid:100   ppid:2      flags:0x00004000"
        yield "Call Trace:"
        yield " __mutex_lock+0x10/0x40"
        yield " vol_update+0x10/0x40 [vol]"
        yield "Showing all locks held in the system:"
        yield f"{count} locks held by worker/100:"
        for n in range(count):
            yield f" #{n}: ffff8880{n:08x} (&c{n}->lock){{+.+.}}-{{3:3}}, at: take_{n}+0x10/0x40"

    return _stamped(lines())


def _one_lock_many_readers(count: int) -> str:
    """Every task lists the lock that every other one waits for."""

    def lines() -> Iterator[str]:
        yield "sysrq: Show Blocked State"
        for n in range(count):
            yield f"task:reader{n:<9} state:D stack:0     pid:{1000 + n:<5} ppid:2      flags:0x0"
            yield "Call Trace:"
            yield " rwsem_down_write_slowpath+0x10/0x400"
            yield " down_write+0x10/0x40"
            yield " vol_update+0x10/0x40 [vol]"
        yield "Showing all locks held in the system:"
        for n in range(count):
            yield f"1 lock held by reader{n}/{1000 + n}:"
            yield " #0: ffff888000000100 (&v->sem){++++}-{3:3}, at: vol_other+0x10/0x40"

    return _stamped(line for line in ("INFO: task reader0:1000 blocked for more than 120 seconds.",
                                      *lines()))  # fmt: skip


def _ring(count: int) -> str:
    """Each task holds one lock and waits for that of the next one."""

    def lines() -> Iterator[str]:
        yield "INFO: task ring0:1000 blocked for more than 120 seconds."
        for n in range(count):
            yield f"task:ring{n:<11} state:D stack:0     pid:{1000 + n:<5} ppid:2      flags:0x0"
            yield "Call Trace:"
            yield " __mutex_lock.constprop.0+0x10/0x400"
            yield f" take_{n}+0x10/0x40 [vol]"
        yield "Showing all locks held in the system:"
        for n in range(count):
            yield f"2 locks held by ring{n}/{1000 + n}:"
            yield f" #0: ffff8880{n:08x} (&c->lock){{+.+.}}-{{3:3}}, at: take_{n}+0x8/0x40"
            after = (n + 1) % count
            yield f" #1: ffff8880{after:08x} (&c->lock){{+.+.}}-{{3:3}}, at: take_{n}+0x10/0x40"

    return _stamped(lines())


def _different_hangs(count: int) -> str:
    def lines() -> Iterator[str]:
        for n in range(count):
            yield f"INFO: task w{n}:{1000 + n} blocked for more than 120 seconds."
            yield f"task:w{n:<14} state:D stack:0     pid:{1000 + n:<5} ppid:2      flags:0x0"
            yield "Call Trace:"
            yield " <TASK>"
            yield " __mutex_lock.constprop.0+0x10/0x400"
            yield f" take_{_letters(n)}+0x10/0x40 [vol]"
            yield " </TASK>"

    return _stamped(lines())


def _oom(count: int) -> str:
    def lines() -> Iterator[str]:
        yield "hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"
        yield "Tasks state (memory values in pages):"
        yield "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name"
        for n in range(count):
            yield f"[{n:7}]     0 {n:5} {n + 7:8} {n % 977:8}    45056        0    0 task{n}"
        yield "Out of memory: Killed process 7 (hog) total-vm:9kB, anon-rss:1kB, file-rss:0kB"

    return _stamped(lines())


def _oom_kills(count: int) -> str:
    """Memory cgroups that run out beside each other: contexts, kills and reapers interleave."""

    def lines() -> Iterator[str]:
        for n in range(count):
            yield f"[  {n}.1][T{n + 10}] hog{n} invoked oom-killer: gfp_mask=0xcc0, order=0"
            yield f"[  {n}.2][T{n + 10}] Memory cgroup out of memory: Killed process {n} (hog{n}) "
            yield f"[  {n}.3][   T2] oom_reaper: reaped process {n} (hog{n}), now anon-rss:0kB"

    return "\n".join(lines()) + "\n"


def _modules(count: int) -> str:
    def lines() -> Iterator[str]:
        yield from _oops("widget")
        for at in range(0, count, 90):
            names = " ".join(f"mod_{n}" for n in range(at, min(at + 90, count)))
            yield f"Modules linked in: {names}"

    return _stamped(lines())


def _contexts(count: int) -> str:
    """Every task oopses at once: each line comes from another one than the line before."""
    oops = list(_oops("widget"))
    rows = [f"[   10.{n:06}][T{n + 10}] {{}}\n" for n in range(count)]
    return "".join(row.format(line) for line in oops for row in rows)


def _stalls(count: int) -> str:
    """CPUs that ask all others for their backtraces, over and over."""

    def lines() -> Iterator[str]:
        for n in range(count):
            me = f"[{n:5}.000000][C{n % 64}]"
            yield f"{me} rcu: INFO: rcu_preempt self-detected stall on CPU"
            yield f"{me} Sending NMI from CPU {n % 64} to CPUs {(n + 1) % 64}:"
            other = f"[{n:5}.000001][C{(n + 1) % 64}]"
            yield f"{other} NMI backtrace for cpu {(n + 1) % 64}"
            yield f"{other} RIP: 0010:spin_{_letters(n)}+0x1/0x20"
            yield f"{other} Call Trace:"
            yield f"{other}  busy_{_letters(n)}+0x1/0x20"

    return "\n".join(lines()) + "\n"


def _prefixes(count: int) -> str:
    report = _stamped(_oops("widget"))
    prefix = "Nov 29 05:00:00 host kernel: "
    return "".join(f"{prefix}{line}\n" for _ in range(count) for line in report.splitlines())


def _quoted(count: int) -> str:
    report = "".join(f"{line}\n" for line in _oops("widget"))
    return "".join(f"{'> ' * count}{line}\n" for line in report.splitlines())


def _shadow(count: int) -> str:
    def lines() -> Iterator[str]:
        yield "BUG: KASAN: slab-use-after-free in widget_get+0x1/0x20"
        yield "Read of size 8 at addr ffff888000000100 by task worker/77"
        yield "Call Trace:"
        yield " widget_get+0x1/0x20"
        yield "Memory state around the buggy address:"
        for n in range(count):
            yield f" ffff8880{n:08x}: fb fb fb fb fb fb fb fb fb fb fb fb fb fb fb fb"

    return _stamped(lines())


def _user_noise(count: int) -> str:
    oops = _stamped(_oops("widget"))
    noise = "systemd[1]: Started Session {n} of user root: WARNING: all is well, INFO: so far\n"
    return "".join(noise.format(n=n) for n in range(count)) + oops


_DIMENSIONS: dict[str, tuple[Callable[[int], str], int]] = {
    "reports, all different": (_reports, 200),
    "reports, all alike": (_alike, 200),
    "one-line reports": (_remarks, 1000),
    "hung tasks, one stack": (hung_log, 200),
    "hung tasks, all different": (_different_hangs, 200),
    "frames of a stack": (_frames, 2000),
    "links of a lock chain": (_chain, 500),
    "links of an irq path": (_irq_chain, 500),
    "locks held by one task": (_held, 500),
    "tasks on one lock": (_one_lock_many_readers, 200),
    "tasks in one circle": (_ring, 200),
    "rows of an OOM table": (_oom, 1000),
    "OOM kills side by side": (_oom_kills, 500),
    "modules linked in": (_modules, 5000),
    "tasks interleaved": (_contexts, 200),
    "CPUs that stall": (_stalls, 300),
    "log prefixes": (_prefixes, 100),
    "levels of quoting": (_quoted, 5000),
    "rows of KASAN's shadow": (_shadow, 1000),
    "one long line": (lambda n: "BUG: " + "A" * n + "\n", 100_000),
    "many short lines": (lambda n: "BUG: foo\n" + "x\n" * n, 50_000),
    "blanks of a mail client": (lambda n: _alike(n).replace(" ", "\u00a0"), 100),
    "user-space noise": (_user_noise, 1000),
}


def _analysed(text: str, settings: Settings) -> None:
    with contextlib.suppress(NoReportError):  # a line may hide its report too deep
        analyze(text, settings=settings)


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.process_time()
    work()
    return time.process_time() - started


def _peak(work: Callable[[], object]) -> float:
    """MB at the peak of the memory that `work` takes."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def _exponent(points: list[tuple[float, float]]) -> float:
    """Of the power of the size that fits the last three doublings."""
    logs = [(math.log(x), math.log(max(y, 1e-4))) for x, y in points[-4:]]
    if len(logs) < 2:
        return math.nan
    mean_x, mean_y = (sum(axis) / len(logs) for axis in zip(*logs, strict=True))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return slope / sum((x - mean_x) ** 2 for x, _ in logs)


def _measure(
    name: str, make: Callable[[int], str], count: int, limit: float, work: Callable[[str], object]
) -> str:
    times: list[tuple[float, float]] = []
    peaks: list[tuple[float, float]] = []
    while True:
        text = make(count)
        size = len(text.encode())
        if times and size > limit:
            break
        best = min(_seconds(lambda text=text: work(text)) for _ in range(2))  # type: ignore[misc]
        times.append((size, best))
        peaks.append((size, _peak(lambda text=text: work(text))))  # type: ignore[misc]
        if best > 60:
            break
        count *= 2
    size, seconds = times[-1]
    return (
        f"{name:28} {size / 1e6:7.2f} MB {seconds:8.2f} s ^{_exponent(times):5.2f}"
        f" {peaks[-1][1]:8.1f} MB ^{_exponent(peaks):5.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--max-mb", type=float, default=2, help="of log for the parser")
    parser.add_argument("--analysis-mb", type=float, default=1, help="of log for the analysis")
    parser.add_argument("--only", help="a part of the names of dimensions to measure")
    args = parser.parse_args()
    settings = Settings()
    analyze(_reports(1), settings=settings)  # imports
    steps: list[tuple[str, float, Callable[[str], object]]] = [
        ("parse", args.max_mb, parse_log),
        ("analysis", args.analysis_mb, lambda text: _analysed(text, settings)),
    ]
    for step, limit, work in steps:
        if not limit:
            continue
        print(f"{step:28} {'log':>10} {'CPU':>10} {'exp.':>6} {'memory':>11} {'exp.':>6}")
        for name, (make, count) in _DIMENSIONS.items():
            if not args.only or args.only in name:
                print(_measure(name, make, count, limit * 1e6, work), flush=True)


if __name__ == "__main__":
    main()
