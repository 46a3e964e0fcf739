"""Memory ran out: who asked, what was exhausted, who had it, who was killed for it."""

from __future__ import annotations

from kagent.klog.oom_model import OomFacts, OomTask

__all__ = ["tell"]

_TOP = 3


def tell(oom: OomFacts) -> tuple[str, list[str]]:
    """One sentence, and the reasons."""
    killed = ", ".join(f"{v.comm}/{v.pid}" for v in oom.victims[:8]) or "nobody"
    summary = f"{_exhausted(oom)}; the kernel killed {killed}."
    reasons = [reason for reason in (_asked(oom), _used(oom), _slab(oom)) if reason]
    return summary, reasons


def _exhausted(oom: OomFacts) -> str:
    if oom.scope != "memcg":
        return "The system ran out of memory"
    counter = oom.counters.get("memory")
    limit = f" of {counter.limit_kb} kB" if counter and counter.limit_kb is not None else ""
    return f"The memory cgroup {oom.memcg or '(unnamed)'} reached its limit{limit}"


def _asked(oom: OomFacts) -> str:
    if oom.invoker is None or oom.order is None:
        return ""
    if oom.order < 0:
        return f"Somebody asked for it through sysrq-f, by {oom.invoker}."
    pages = 2**oom.order
    kind = f" ({'|'.join(oom.gfp_flags)})" if oom.gfp_flags else ""
    return f"{oom.invoker} asked for {pages} page{'s' if pages > 1 else ''}{kind} and got none."


def _used(oom: OomFacts) -> str:
    """The largest consumers of the task table."""
    top = [task for task in oom.tasks[:_TOP] if task.rss_pages]
    if not top:
        return ""
    shown = ", ".join(f"{task.comm}/{task.pid} {_size(task, oom)}" for task in top)
    return f"Of {oom.task_count} tasks the largest were: {shown} resident."


def _size(task: OomTask, oom: OomFacts) -> str:
    pages = task.rss_pages or 0
    return f"{pages * oom.page_kb} kB" if oom.page_kb else f"{pages} pages"


def _slab(oom: OomFacts) -> str:
    """The one case that smells of a kernel bug: the kernel's own objects used the memory up.

    It lists their caches only where they outweigh what programs use and the page cache together
    (should_dump_unreclaim_slab() in mm/oom_kill.c).
    """
    if not oom.slabs:
        return ""
    caches = ", ".join(f"{slab.cache} {slab.total_kb} kB" for slab in oom.slabs[:_TOP])
    return (
        "Slab memory that cannot be reclaimed outweighed all that programs and the page cache "
        f"use: the kernel may be leaking. Largest caches: {caches}."
    )
