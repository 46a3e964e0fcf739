"""What an out-of-memory report states, with the unit in every name.

The kernel counts memory in pages (task table, ``Mem-Info``), in kB (zones, limits, the killed
process) and in bytes (page tables, a memory cgroup's statistics). Nothing is converted here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["OomCounter", "OomFacts", "OomSlab", "OomTask", "OomVictim", "OomZone"]


@dataclass(frozen=True, slots=True)
class OomTask:
    """A row of ``Tasks state (memory values in pages)``; columns vary by kernel version."""

    pid: int
    comm: str
    uid: int | None = None
    tgid: int | None = None
    total_vm_pages: int | None = None
    rss_pages: int | None = None
    anon_pages: int | None = None
    """This and the next two: since 6.9."""
    file_pages: int | None = None
    shmem_pages: int | None = None
    pgtables_bytes: int | None = None
    """Since 4.15."""
    swap_pages: int | None = None
    oom_score_adj: int | None = None


@dataclass(frozen=True, slots=True)
class OomVictim:
    """A killed process with the accounting of its ``Killed process`` line."""

    pid: int
    comm: str
    uid: int | None = None
    total_vm_kb: int | None = None
    anon_rss_kb: int | None = None
    file_rss_kb: int | None = None
    shmem_rss_kb: int | None = None
    pgtables_kb: int | None = None
    """As printed: 5.4 states bytes and calls them kB."""
    oom_score_adj: int | None = None
    reaped_anon_rss_kb: int | None = None
    """What ``oom_reaper`` left of its anonymous memory; None where no such line was printed."""
    span: tuple[int, int] = (0, 0)

    @property
    def rss_kb(self) -> int | None:
        """Resident memory in kB, as far as it was printed."""
        parts = (self.anon_rss_kb, self.file_rss_kb, self.shmem_rss_kb)
        known = [part for part in parts if part is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class OomZone:
    """Free memory of a zone and its watermarks, in kB."""

    zone: str
    node: int | None = None
    free_kb: int | None = None
    min_kb: int | None = None
    low_kb: int | None = None
    high_kb: int | None = None
    managed_kb: int | None = None


@dataclass(frozen=True, slots=True)
class OomCounter:
    """A page counter of the memory cgroup: ``memory: usage 24576kB, limit 24576kB, failcnt 81``."""

    usage_kb: int
    limit_kb: int | None
    """None: no limit is set (PAGE_COUNTER_MAX is printed)."""
    failures: int
    """How often the limit was hit."""


@dataclass(frozen=True, slots=True)
class OomSlab:
    """A slab cache that cannot be reclaimed, in kB."""

    cache: str
    used_kb: int
    total_kb: int


@dataclass(frozen=True, slots=True)
class OomFacts:
    """Who asked for memory, what was exhausted, who used it and who was killed."""

    scope: Literal["system", "memcg"] | None = None
    """memcg: a memory cgroup reached its limit; the system may have had plenty."""
    invoker: str | None = None
    """The task whose allocation failed; its pid is the report's, where a CPU line was printed."""
    gfp_mask: int | None = None
    gfp_flags: tuple[str, ...] = ()
    order: int | None = None
    """2**order contiguous pages were asked for; -1: somebody pressed sysrq-f."""
    oom_score_adj: int | None = None
    """Of the invoker."""
    constraint: str | None = None
    """NONE, CPUSET, MEMORY_POLICY or MEMCG: what confined the allocation."""
    nodemask: str | None = None
    cpuset: str | None = None
    mems_allowed: str | None = None
    memcg: str | None = None
    """The cgroup whose limit was reached."""
    task_memcg: str | None = None
    """The cgroup of the victim."""
    counters: dict[str, OomCounter] = field(default_factory=dict)
    """By name: memory, swap, memory+swap, kmem."""
    memcg_stat: dict[str, int] = field(default_factory=dict)
    """As in memory.stat: bytes, but for counters of events (``workingset_*``, ``pg*``)."""
    pages: dict[str, int] = field(default_factory=dict)
    """``Mem-Info:`` of the whole system, in pages: active_anon, slab_unreclaimable, free, ..."""
    page_kb: int | None = None
    """Size of a page, from the smallest block of the free lists."""
    ram_pages: int | None = None
    reserved_pages: int | None = None
    free_swap_kb: int | None = None
    total_swap_kb: int | None = None
    zones: tuple[OomZone, ...] = ()
    slabs: tuple[OomSlab, ...] = ()
    """The largest, if the kernel found them worth printing; largest first."""
    task_count: int = 0
    """Rows of the task table."""
    tasks: tuple[OomTask, ...] = ()
    """The largest by resident memory, largest first."""
    victims: tuple[OomVictim, ...] = ()
    """In the order of their death: more than one where ``memory.oom.group`` is set."""
