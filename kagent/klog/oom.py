"""Out-of-memory reports: mm/oom_kill.c, dump_header() and all that it calls.

The sections come from mm/show_mem.c (``Mem-Info:``), mm/memcontrol.c (limits and statistics of a
memory cgroup), mm/slab_common.c (unreclaimable slab) and dump_tasks(), whose columns are named by
its own heading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kagent.klog.draft import (
    MAX_SLABS,
    MAX_TASKS,
    MAX_VICTIMS,
    MAX_ZONES,
    Draft,
    OomDraft,
)
from kagent.klog.formats.oom import INVOKED, KILLED
from kagent.klog.lines import Line
from kagent.klog.oom_model import OomCounter, OomFacts, OomSlab, OomTask, OomVictim, OomZone

__all__ = ["completes_oom", "freeze_oom", "is_oom", "is_reaper", "read_oom", "starts_oom"]

_NO_LIMIT = 9_007_199_254_740_000
"""kB a little below PAGE_COUNTER_MAX, which is LONG_MAX / PAGE_SIZE pages."""

_HEADER = re.compile(
    r"(?P<comm>.{1,64}?) invoked oom-killer: gfp_mask=(?P<mask>0x[0-9a-f]{1,16})"
    r"(?:\((?P<flags>[^)]{0,600})\))?.{0,200}?, order=(?P<order>-?\d{1,3})"
    r"(?:, oom_(?:score_)?adj=(?P<adj>-?\d{1,5}))?"
)
_VICTIM = re.compile(
    r"(?P<why>.{0,80})Killed process (?P<pid>\d{1,10})(?:, UID (?P<uid>\d{1,10}),)? "
    r"\((?P<comm>.{1,64})\),? (?:UID:\d{1,10},? )?total-vm:"
)
_AMOUNT = re.compile(r"(total-vm|anon-rss|file-rss|shmem-rss|pgtables):(\d{1,18})kB")
_UID = re.compile(r"UID:(\d{1,10})")
_ADJ = re.compile(r"oom_score_adj:(-?\d{1,5})")
_REAPED = re.compile(r"oom_reaper: reaped process (\d{1,10}) .{0,80}?now anon-rss:(\d{1,18})kB")
_GROUP = re.compile(r"Tasks in .{1,1000} are going to be killed due to memory\.oom\.group set")
_COUNTER = re.compile(
    r"(memory|swap|memory\+swap|kmem): usage (\d{1,20})kB, limit (\d{1,20})kB, failcnt (\d{1,20})"
)
_STATS = re.compile(r"Memory cgroup stats for (.{1,1000}?):\s*(.*)$")
_STAT = re.compile(r"([a-z_0-9]{2,40}) (\d{1,20})$")
_OLD_STAT = re.compile(r"([a-z_]{2,40}):(\d{1,18})KB")
_OLD_LIMIT = re.compile(r"Task in (.{1,1000}) killed as a result of limit of (.{1,1000})$")
_PAGES = re.compile(r"(?:[a-z_]{2,40}:\d{1,20}(?: |$)){1,8}$")
_ZONE = re.compile(r"(?:Node (?P<node>\d{1,5}) )?(?P<zone>[A-Z]\w{1,15}) free:\d{1,18}kB ")
_ZONE_KB = re.compile(r" (free|min|low|high|managed):(\d{1,18})kB")
_BUDDY = re.compile(r"(?:Node \d{1,5} )?[A-Z]\w{1,15}: \d{1,18}\*(\d{1,6})kB ")
_TOTAL = re.compile(r"(\d{1,18}) pages (RAM|reserved)$")
_SWAP = re.compile(r"(Free|Total) swap {1,2}= (\d{1,18})kB$")
_SLAB = re.compile(r"(\S.{0,60}?) {1,64}(\d{1,18})KB {1,20}(\d{1,18})KB$")
_TABLE = re.compile(r"\[ {0,3}pid {0,3}\] {1,4}(uid .*)$")
_ROW = re.compile(r"\[ {0,9}(\d{1,10})\] (.*)$")
_QUIET = re.compile(
    r"Mem-Info:|Node \d{1,5} (?:active_anon|hugepages_total)[:=]|lowmem_reserve\[\]:"
    r"|\d{1,18} (?:total pagecache pages|pages )|Swap cache stats: |Unreclaimable slab info:"
    r"|Name {3,40}Used {3,20}Total|Tasks state \(memory|COMPACTION is disabled|Per-node memory"
    r"|Out of memory|oom killer \d|Memory allocations:$"
    r"|.{0,40}OOM victim \d|Memory cgroup|Huh VM_FAULT|(?:\S{1,64} )?cpuset=.{0,200}mems_allowed"
)

# The table's headings, 2.6.36 to today, and the fields they become; others are passed over.
_COLUMNS = {
    "uid": "uid",
    "tgid": "tgid",
    "total_vm": "total_vm_pages",
    "rss": "rss_pages",
    "rss_anon": "anon_pages",
    "rss_file": "file_pages",
    "rss_shmem": "shmem_pages",
    "pgtables_bytes": "pgtables_bytes",
    "swapents": "swap_pages",
    "oom_score_adj": "oom_score_adj",
}
_AMOUNTS = {
    "total-vm": "total_vm_kb",
    "anon-rss": "anon_rss_kb",
    "file-rss": "file_rss_kb",
    "shmem-rss": "shmem_rss_kb",
    "pgtables": "pgtables_kb",
}
# The summary's keys in the order in which dump_oom_victim() prints them.
_KEYS = (
    "nodemask",
    "cpuset",
    "mems_allowed",
    "oom_memcg",
    "global_oom",
    "task_memcg",
    "task",
    "pid",
    "uid",
)


def is_oom(header: str) -> bool:
    """Whether a report's first line says that memory ran out."""
    return INVOKED in header or KILLED in header


def completes_oom(lines: Sequence[Line], at: int, start: int, *, killed: bool) -> bool:
    """Whether line `at` is a kill that belongs to the report which begins at line `start`.

    A report kills one process; then, with ``memory.oom.group``, the rest of its group, line upon
    line. Any other kill is that of a report which the kernel's rate limit kept back. `killed`: the
    report has had its first.
    """
    if KILLED not in lines[at].text or not _same(lines[at], lines[start]):
        return False
    if INVOKED in lines[start].text and not killed:
        return True
    for before in range(at - 1, max(at - 9, start - 1), -1):
        line = lines[before]
        if _same(line, lines[at]) and not is_reaper(line.text):
            return KILLED in line.text or _GROUP.match(line.text) is not None
    return False


def _same(one: Line, other: Line) -> bool:
    return one.context == other.context


def is_reaper(text: str) -> bool:
    """Whether the oom_reaper thread says what it left of a victim."""
    return text.startswith("oom_reaper: ")


def starts_oom(draft: Draft, line: Line) -> None:
    """Begin the section if `line` is the header of such a report."""
    text = line.text.strip()
    if match := _HEADER.match(text):
        draft.oom = OomDraft(
            {
                "invoker": match["comm"],
                "gfp_mask": int(match["mask"], 16),
                "gfp_flags": tuple((match["flags"] or "").split("|")) if match["flags"] else (),
                "order": int(match["order"]),
                "oom_score_adj": int(match["adj"]) if match["adj"] else None,
            }
        )
        draft.own.comm = match["comm"]
    elif INVOKED in text or _VICTIM.match(text):
        draft.oom = OomDraft({})
        _take_victim(draft, draft.oom, line, text)


def read_oom(draft: Draft, line: Line) -> bool:
    """Take a line of an out-of-memory report; False in any other."""
    oom = draft.oom
    if oom is None:
        return False
    text = line.text.strip()
    if any(take(oom, text) for take in _SECTIONS):
        return True
    if KILLED in text and _take_victim(draft, oom, line, text):
        return True
    if match := _REAPED.match(text):
        return _reaped(oom, int(match[1]), int(match[2]))
    return _GROUP.match(text) is not None or _QUIET.match(text) is not None


# ── sections; each returns whether the line is its own ──────────────────────────────────────


def _take_row(oom: OomDraft, text: str) -> bool:
    if text[:1] != "[":
        return False
    if match := _TABLE.match(text):
        oom.columns = match[1].split()[:-1]
        return True
    row = _ROW.match(text) if oom.columns else None
    if row is None:
        return False
    values = row[2].split(None, len(oom.columns))
    numbers = [value for value in values[: len(oom.columns)] if re.fullmatch(r"-?\d{1,20}", value)]
    if len(numbers) < len(oom.columns):
        return False
    known: dict[str, Any] = {
        _COLUMNS[name]: int(value)
        for name, value in zip(oom.columns, numbers, strict=True)
        if name in _COLUMNS
    }
    comm = values[-1] if len(values) > len(oom.columns) else ""
    oom.rows += 1
    oom.tasks.append(OomTask(int(row[1]), comm, **known))
    if len(oom.tasks) >= 4 * MAX_TASKS:
        oom.tasks = _largest(oom.tasks)
    return True


def _take_summary(oom: OomDraft, text: str) -> bool:
    """``oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=...,task=a,pid=1,uid=0``."""
    if not text.startswith("oom-kill:constraint="):
        return False
    at, key = text.index("=") + 1, "constraint"
    found: dict[str, str] = {}
    for following in _KEYS:
        next_at = text.find(f",{following}", at)
        if next_at < 0:
            continue
        found[key] = text[at:next_at].lstrip("=")
        at, key = next_at + 1 + len(following), following
    found[key] = text[at:].lstrip("=")
    oom.facts.update(
        {
            "constraint": found["constraint"].removeprefix("CONSTRAINT_"),
            "scope": "memcg" if "oom_memcg" in found else "system",
            "nodemask": found.get("nodemask"),
            "cpuset": found.get("cpuset"),
            "mems_allowed": found.get("mems_allowed"),
            "memcg": found.get("oom_memcg"),
            "task_memcg": found.get("task_memcg"),
        }
    )
    return True


def _take_cgroup(oom: OomDraft, text: str) -> bool:
    if match := _COUNTER.match(text):
        limit = int(match[3])
        counter = OomCounter(int(match[2]), limit if limit < _NO_LIMIT else None, int(match[4]))
        oom.counters.setdefault(match[1], counter)
        oom.facts.setdefault("scope", "memcg")
    elif match := _STATS.match(text):
        oom.facts.setdefault("memcg", match[1])
        oom.in_stats = True
        for name, value in _OLD_STAT.findall(match[2]):  # before 5.3: "cache:0KB rss:24576KB"
            oom.stats.setdefault(name, int(value) * 1024)
    elif match := _OLD_LIMIT.match(text):
        oom.facts |= {"scope": "memcg", "task_memcg": match[1], "memcg": match[2]}
    elif oom.in_stats and (match := _STAT.match(text)):
        oom.stats.setdefault(match[1], int(match[2]))
    else:
        oom.in_stats = False
        return False
    return True


def _take_memory(oom: OomDraft, text: str) -> bool:
    if _PAGES.match(text):
        for pair in text.split():
            name, _, value = pair.partition(":")
            oom.pages.setdefault(name, int(value))
    elif match := _ZONE.match(text):
        sizes: dict[str, Any] = {f"{name}_kb": int(value) for name, value in _ZONE_KB.findall(text)}
        node = int(match["node"]) if match["node"] else None
        if len(oom.zones) < MAX_ZONES:
            oom.zones.append(OomZone(match["zone"], node, **sizes))
        else:
            oom.more_zones += 1
    elif match := _BUDDY.match(text):
        oom.facts.setdefault("page_kb", int(match[1]))
    elif match := _TOTAL.match(text):
        name = "ram_pages" if match[2] == "RAM" else "reserved_pages"
        oom.facts.setdefault(name, int(match[1]))
    elif match := _SWAP.match(text):
        oom.facts.setdefault(f"{match[1].lower()}_swap_kb", int(match[2]))
    elif text.endswith("KB") and (match := _SLAB.match(text)):
        oom.slabs.append(OomSlab(match[1], int(match[2]), int(match[3])))
    else:
        return False
    return True


_SECTIONS: tuple[Callable[[OomDraft, str], bool], ...] = (
    _take_row,
    _take_summary,
    _take_cgroup,
    _take_memory,
)


# ── the end of the story ────────────────────────────────────────────────────────────────────


def _take_victim(draft: Draft, oom: OomDraft, line: Line, text: str) -> bool:
    match = _VICTIM.match(text)
    if match is None:
        return False
    if len(oom.victims) >= MAX_VICTIMS:
        oom.more_victims += 1
        return True
    amounts: dict[str, Any] = {
        _AMOUNTS[name]: int(value) for name, value in _AMOUNT.findall(text, match.end("comm"))
    }
    uid = match["uid"] or next(iter(_UID.findall(text, match.end("comm"))), None)
    adj = _ADJ.search(text, match.end("comm"))
    victim = OomVictim(
        int(match["pid"]),
        match["comm"],
        uid=int(uid) if uid else None,
        oom_score_adj=int(adj[1]) if adj else None,
        span=line.span,
    )
    # With memory.oom.group the first one is met again when its whole group is killed.
    known = oom.victims.setdefault(victim.pid, victim)
    if known is victim:
        oom.victims[victim.pid] = replace(victim, **amounts)
    if match["why"]:
        scope = "memcg" if "cgroup" in match["why"] else "system"
        oom.facts.setdefault("scope", scope)
    if known is victim:
        draft.messages.append(text[:300])
    else:
        draft.say(text)
    return True


def _reaped(oom: OomDraft, pid: int, anon_rss_kb: int) -> bool:
    victim = oom.victims.get(pid)
    if victim is None:
        return False
    oom.victims[pid] = replace(victim, reaped_anon_rss_kb=anon_rss_kb)
    return True


def _largest(tasks: list[OomTask]) -> list[OomTask]:
    return sorted(tasks, key=lambda task: -(task.rss_pages or 0))[:MAX_TASKS]


def freeze_oom(draft: Draft) -> OomFacts | None:
    """The facts as a value; None for other reports."""
    oom = draft.oom
    if oom is None:
        return None
    slabs = sorted(oom.slabs, key=lambda slab: -slab.total_kb)
    return OomFacts(
        **oom.facts,
        counters=dict(oom.counters),
        memcg_stat=dict(oom.stats),
        pages=dict(oom.pages),
        zones=tuple(oom.zones),
        slabs=tuple(slabs[:MAX_SLABS]),
        task_count=oom.rows,
        tasks=tuple(_largest(oom.tasks)),
        victims=tuple(oom.victims.values()),
    )
