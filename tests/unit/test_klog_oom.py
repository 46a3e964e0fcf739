"""Out-of-memory reports: who asked, what was exhausted, who had it, who was killed.

``oom-memcg.log`` and ``oom-system.log`` are consoles of Debian's 6.1 and of a 6.12 kernel whose
programs ate all memory; the other texts follow the printk() calls of mm/oom_kill.c by hand.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kagent.diagnosis import explain
from kagent.klog import parse_log
from kagent.klog.oom_model import OomCounter, OomFacts, OomTask, OomVictim

DATA = Path(__file__).parents[1] / "data" / "klog"


def facts(text: str, number: int = 0) -> OomFacts:
    found = parse_log(text).reports[number].oom
    assert found is not None
    return found


def test_a_memory_cgroup_at_its_limit() -> None:
    log = parse_log((DATA / "oom-memcg.log").read_bytes())
    report = log.reports[0]
    assert report.title == "Memory cgroup out of memory: Killed render thumbs"
    assert (report.kind, report.kernel_bug, report.corrupted) == ("OOM", False, False)
    assert (report.context.task, report.context.pid) == ("render thumbs", 80)
    assert report.context.kernel == "6.1.0-56-amd64"
    oom = report.oom
    assert oom is not None
    assert (oom.scope, oom.invoker, oom.order) == ("memcg", "render thumbs", 0)
    assert (oom.gfp_mask, oom.gfp_flags, oom.oom_score_adj) == (0xCC0, ("GFP_KERNEL",), 0)
    assert (oom.constraint, oom.nodemask, oom.mems_allowed) == ("MEMCG", "(null)", "0")
    assert (oom.memcg, oom.task_memcg) == ("/batch.slice", "/batch.slice/render.service")
    assert oom.counters == {
        "memory": OomCounter(usage_kb=24576, limit_kb=24576, failures=81),
        "swap": OomCounter(usage_kb=0, limit_kb=None, failures=0),
    }
    assert oom.memcg_stat["anon"] == 25_088_000
    assert oom.task_count == 2
    assert [(t.comm, t.rss_pages, t.pgtables_bytes) for t in oom.tasks] == [
        ("render thumbs", 5739, 81920),
        ("idle worker", 591, 40960),
    ]


def test_a_whole_group_dies() -> None:
    data = (DATA / "oom-memcg.log").read_bytes()
    report = parse_log(data).reports[1]
    assert report.oom is not None
    first, second = report.oom.victims
    assert (first.comm, first.pid, first.rss_kb) == ("render thumbs", 81, 22956)
    assert (second.comm, second.pid, second.oom_score_adj) == ("idle worker", 79, -500)
    assert b"Killed process 79 (idle worker)" in data[slice(*second.span)]
    assert report.message.count("Killed process") == 3


def test_the_system_out_of_memory() -> None:
    log = parse_log((DATA / "oom-system.log").read_bytes())
    oom = log.reports[0].oom
    assert oom is not None
    assert (oom.scope, oom.constraint, oom.memcg) == ("system", "NONE", None)
    assert oom.gfp_flags == ("GFP_HIGHUSER_MOVABLE", "__GFP_COMP", "__GFP_ZERO")
    assert (oom.ram_pages, oom.reserved_pages, oom.page_kb) == (179070, 47559, 4)
    assert (oom.free_swap_kb, oom.total_swap_kb) == (0, 0)
    assert oom.pages["inactive_anon"] == 119945
    assert oom.pages["slab_unreclaimable"] == 7478
    dma32 = oom.zones[1]
    assert (dma32.zone, dma32.node) == ("DMA32", None)
    assert (dma32.free_kb, dma32.min_kb, dma32.managed_kb) == (628, 2804, 510684)
    assert oom.tasks[0] == OomTask(
        35, "render thumbs", uid=0, tgid=35, total_vm_pages=119545, rss_pages=119414,
        anon_pages=119264, file_pages=0, shmem_pages=150, pgtables_bytes=995328, swap_pages=0,
        oom_score_adj=0,
    )  # fmt: skip
    (victim,) = oom.victims
    assert (victim.total_vm_kb, victim.anon_rss_kb, victim.pgtables_kb) == (478180, 477056, 972)


INVOKED = "invoked oom-killer: gfp_mask=0x6200ca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0"
KILLED = "total-vm:9000kB, anon-rss:8000kB, file-rss:4kB, shmem-rss:0kB"


def test_what_the_oom_reaper_left_is_told_by_another_task() -> None:
    text = f"""\
[  100.000000][  T510] mill {INVOKED}
[  100.000100][  T510] Out of memory: Killed process 510 (mill) {KILLED}, UID:1000 \
pgtables:60kB oom_score_adj:0
[  100.000200][    T9] unrelated: link up
[  100.000300][   T31] oom_reaper: reaped process 510 (mill), now anon-rss:16kB, file-rss:0kB, \
shmem-rss:0kB
[  100.000400][   T31] oom_reaper: reaped process 99 (other), now anon-rss:8kB, file-rss:0kB, \
shmem-rss:0kB
"""
    (victim,) = facts(text).victims
    assert (victim.pid, victim.uid, victim.reaped_anon_rss_kb) == (510, 1000, 16)


@pytest.mark.parametrize(
    ("heading", "row", "task"),
    [
        (  # 2.6.36
            "[ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name",
            "[  812]     0   812     5678     1234   0       0             0 mysqld",
            OomTask(812, "mysqld", 0, 812, 5678, 1234, oom_score_adj=0),
        ),
        (  # 4.0
            "[ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name",
            "[  812]   106   812   715678    51234     300       6      400          -17 7zip 9",
            OomTask(812, "7zip 9", 106, 812, 715678, 51234, swap_pages=400, oom_score_adj=-17),
        ),
        (  # 4.15
            "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
            "[    812]   106   812   715678    51234     2400256      400             0 a [b]",
            OomTask(812, "a [b]", 106, 812, 715678, 51234, None, None, None, 2400256, 400, 0),
        ),
    ],
    ids=["2.6.36", "4.0", "4.15"],
)
def test_the_heading_names_the_columns(heading: str, row: str, task: OomTask) -> None:
    text = f"[9.0] mill {INVOKED}\n[9.1] {heading}\n[9.2] {row}\n[9.3] Mem-Info:\n"
    assert facts(text).tasks == (task,)


@pytest.mark.parametrize(
    ("line", "victim"),
    [
        (
            "Out of memory: Killed process 83 (bulk (import)) total-vm:240612kB, "
            "anon-rss:238652kB, file-rss:0kB, shmem-rss:324kB, UID:7 pgtables:504kB "
            "oom_score_adj:300",
            OomVictim(83, "bulk (import)", 7, 240612, 238652, 0, 324, 504, 300),
        ),
        (  # 4.x
            "Killed process 83 (mill) total-vm:9000kB, anon-rss:8000kB, file-rss:4kB",
            OomVictim(83, "mill", None, 9000, 8000, 4),
        ),
        (  # 4.19 of some distributions
            "Killed process 83, UID 5, (mill) total-vm:9000kB, anon-rss:8000kB, file-rss:4kB",
            OomVictim(83, "mill", 5, 9000, 8000, 4),
        ),
    ],
)
def test_the_accounting_of_the_killed(line: str, victim: OomVictim) -> None:
    (found,) = facts(f"[9.0] mill {INVOKED}\n[9.1] {line}\n").victims
    assert found.span[1] > found.span[0]
    assert replace(found, span=(0, 0)) == victim


def test_a_long_table_stays_one_report_and_shows_the_largest() -> None:
    rows = "".join(
        f"[9.1] [{pid:7}]     0 {pid:5}     1000 {pid:8}    40960        0             0 t{pid}\n"
        for pid in range(1, 1501)
    )
    text = (
        f"[9.0] mill {INVOKED}\n"
        "[9.1] [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n"
        f"{rows}"
        f"[9.2] Out of memory: Killed process 1500 (t1500) {KILLED}\n"
    )
    (report,) = parse_log(text).reports
    assert report.oom is not None
    assert (report.oom.task_count, len(report.oom.tasks)) == (1500, 64)
    assert [task.pid for task in report.oom.tasks[:2]] == [1500, 1499]
    assert [victim.pid for victim in report.oom.victims] == [1500]


def test_a_kill_whose_report_was_kept_back_stands_alone() -> None:
    kill = f"Killed process {{}} ({{}}) {KILLED}, UID:0 pgtables:60kB oom_score_adj:0\n"
    text = (
        f"[9.0] mill {INVOKED}\n"
        f"[9.1] Out of memory: {kill.format(7, 'mill')}"
        "[9.2] eth0: link up\n"
        f"[9.3] Out of memory: {kill.format(8, 'loom')}"
    )
    log = parse_log(text)
    assert [r.title for r in log.reports] == [
        "Out of memory: Killed mill",
        "Out of memory: Killed loom",
    ]
    assert facts(text, 1).victims[0].pid == 8
    assert facts(text, 1).invoker is None


def test_slab_that_cannot_be_reclaimed_is_told_as_a_possible_leak() -> None:
    text = f"""\
[9.0] mill {INVOKED}
[9.1] Unreclaimable slab info:
[9.1] Name                      Used          Total
[9.1] filp                    1200KB       1280KB
[9.1] my cache              900000KB     900100KB
[9.2] Tasks state (memory values in pages):
[9.3] Out of memory: Killed process 7 (mill) {KILLED}
"""
    oom = facts(text)
    assert [(s.cache, s.used_kb, s.total_kb) for s in oom.slabs] == [
        ("my cache", 900000, 900100),
        ("filp", 1200, 1280),
    ]
    assert (
        "may be leaking. Largest caches: my cache 900100 kB"
        in explain(parse_log(text), 0).explanation
    )


def test_the_explanation_says_who_and_why() -> None:
    told = explain(parse_log((DATA / "oom-memcg.log").read_bytes()), 0)
    assert told.summary == (
        "The memory cgroup /batch.slice reached its limit of 24576 kB; the kernel killed "
        "render thumbs/80."
    )
    assert "render thumbs asked for 1 page (GFP_KERNEL)" in told.explanation
    assert "render thumbs/80 5739 pages, idle worker/79 591 pages" in told.explanation
    assert any("Killed process 80" in item.content for item in told.evidence)


def test_a_crash_in_the_same_log_comes_first() -> None:
    crash = (DATA / "oops-null.log").read_text()
    log = parse_log((DATA / "oom-memcg.log").read_text() + crash)
    assert log.primary is not None
    assert log.reports[log.primary].title == parse_log(crash).reports[0].title
