"""The state machine without a model: its wiring, its routes, and what a run leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from kagent import Settings, aanalyze, analyze, build_graph
from kagent.agents.reformat import NO_REPORT
from kagent.agents.synthesizer import number_evidence
from kagent.errors import InputError, NoReportError
from kagent.resolution import Finding, evidence

DATA = Path(__file__).resolve().parents[2] / "kagent/demo/data"
OOPS = (DATA / "cve-2025-37958/trace.log").read_text()
HUNG = """\
[   21.418076] INFO: task flusher:98 blocked for more than 10 seconds.
[   21.418381]       Not tainted 6.1.0 #1
[   21.418706] task:flusher         state:D stack:0     pid:98    ppid:2      flags:0x00004000
[   21.419112] Call Trace:
[   21.419412]  <TASK>
[   21.419750]  __schedule+0x34d/0xa00
[   21.425586]  schedule+0x5a/0xd0
[   21.425745]  schedule_preempt_disabled+0x11/0x20
[   21.426120]  __mutex_lock.constprop.0+0x39d/0x720
[   21.426394]  frob_write_back+0x16/0x30 [frob]
[   21.426692]  kthread+0xda/0x100
[   21.426803]  ret_from_fork+0x22/0x30
[   21.426863]  </TASK>
"""


def test_the_nodes_are_those_of_the_design() -> None:
    drawn = build_graph().get_graph()
    assert set(drawn.nodes) == {
        "__start__", "reformat", "classify", "general_analyzer", "tools", "split_tasks",
        "task_analyzer", "wait_graph", "deadlock_synthesis", "deadlock_tools", "verify",
        "synthesizer", "__end__",
    }  # fmt: skip
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    assert {
        ("classify", "general_analyzer"),
        ("classify", "split_tasks"),
        ("general_analyzer", "tools"),
        ("tools", "general_analyzer"),
        ("split_tasks", "task_analyzer"),
        ("task_analyzer", "wait_graph"),
        ("deadlock_synthesis", "deadlock_tools"),
        ("verify", "synthesizer"),
        ("reformat", "__end__"),
    } <= edges


def test_an_oops_takes_the_general_route() -> None:
    resolution = analyze(OOPS, settings=Settings())
    assert resolution.route == "general"
    assert resolution.engine.kind == "rules"
    assert resolution.primary is not None
    assert resolution.primary.frames[0].symbol == "split_huge_pmd_locked"
    assert "[1234.123][ T1] try_to_migrate_one+0x28c/0x3730" in resolution.reformatted
    assert {item.what.split(":")[0] for item in resolution.missing}


def test_a_hung_task_takes_the_deadlock_route() -> None:
    resolution = analyze(HUNG, settings=Settings())
    assert resolution.route == "deadlock"
    assert resolution.deadlock is not None
    assert resolution.deadlock.cycles == []
    assert resolution.usage.seconds.keys() >= {"split_tasks", "task_analyzer", "wait_graph"}


DIED = """\
[   20.100000] BUG: kernel NULL pointer dereference, address: 0000000000000010
[   20.100001] #PF: supervisor read access in kernel mode
[   20.100002] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   20.100003] CPU: 1 PID: 91 Comm: resumed Tainted: G           OE      6.1.0 #1
[   20.100004] RIP: 0010:codec_sync+0xc/0x20 [codec]
[   20.100005] RAX: 0000000000000000 RBX: 0000000000000001 RCX: 0000000000000000
[   20.100006] Call Trace:
[   20.100007]  <TASK>
[   20.100008]  codec_resume+0x17/0x30 [codec]
[   20.100009]  ksys_write+0x6b/0xf0
[   20.100010]  </TASK>
[   20.100011] ---[ end trace 0000000000000000 ]---
[   21.419750] INFO: task flusher:98 is blocked on a mutex likely owned by task resumed:91.
"""


def test_a_crash_also_tells_who_is_stuck_behind_it() -> None:
    oops, owner = DIED.rsplit("[   21.419750]", 1)
    resolution = analyze(oops + HUNG + "[   21.500000]" + owner, settings=Settings())
    assert resolution.route == "general"
    assert resolution.deadlock is not None
    assert resolution.deadlock.verdict == "not-a-deadlock"
    assert resolution.deadlock.culprit is not None
    assert (resolution.deadlock.culprit.task, resolution.deadlock.culprit.kind) == (
        "resumed", "died"
    )  # fmt: skip
    assert [victim.task for victim in resolution.deadlock.victims] == ["flusher"]
    assert any("fix the oops of resumed/91 first" in step for step in resolution.actions.fix)
    assert "Tasks are stuck" in resolution.explanation


@pytest.mark.parametrize("route", ["general", "deadlock"])
def test_a_graph_of_one_analyser_takes_every_report(route: str) -> None:
    graph = build_graph(route=route)  # type: ignore[arg-type]
    assert graph.invoke({"log": OOPS})["resolution"].route == route


def test_chat_and_log_give_the_same_answer() -> None:
    graph = build_graph()
    chat = graph.invoke({"messages": [HumanMessage(OOPS)]})
    log = graph.invoke({"log": OOPS})
    assert chat["messages"][-1].name == "kagent"
    for state in (chat, log):
        state["resolution"].usage.seconds.clear()
    assert chat["resolution"] == log["resolution"]


def test_a_thread_starts_each_case_from_nothing() -> None:
    graph = build_graph(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    graph.invoke({"messages": [HumanMessage(HUNG)]}, thread)
    second = graph.invoke({"messages": [HumanMessage(OOPS)]}, thread)["resolution"]
    alone = analyze(OOPS)
    second.usage.seconds.clear()
    alone.usage.seconds.clear()
    assert second == alone


def test_small_talk_gets_an_answer_and_no_resolution() -> None:
    state = build_graph().invoke({"messages": [HumanMessage("good morning")]})
    assert state["messages"][-1].content == NO_REPORT
    assert state.get("resolution") is None


def test_a_log_beside_a_question_is_the_log() -> None:
    state = build_graph().invoke({"messages": [HumanMessage("what is this?")], "log": OOPS})
    assert state["resolution"].primary.kind


async def test_the_asynchronous_twin_says_the_same() -> None:
    here, there = analyze(OOPS), await aanalyze(OOPS)
    here.usage.seconds.clear()
    there.usage.seconds.clear()
    assert here == there


def test_progress_names_the_nodes_in_order() -> None:
    seen: list[str] = []
    analyze(OOPS, progress=lambda node, _does: seen.append(node))
    assert seen == ["reformat", "classify", "general_analyzer", "verify", "synthesizer"]


def test_a_text_without_a_report_is_an_error_of_its_own() -> None:
    with pytest.raises(NoReportError):
        analyze("all quiet\n")


def test_a_log_may_be_given_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(OOPS.replace("\n", "\r\n").encode())
    data = (tmp_path / "log").read_bytes()
    spans = [analyze(log).reports[0].span for log in (data, data.decode(), tmp_path / "log")]
    assert spans[0] == spans[1] == spans[2]


@pytest.mark.parametrize("log", [None, 7, ["a"]])
def test_what_is_no_log_is_refused_in_words(log: object) -> None:
    with pytest.raises(InputError, match="a log is a str, bytes or a Path, not "):
        analyze(log)  # type: ignore[arg-type]


def test_settings_that_are_none_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="settings are a Settings object, not dict"):
        analyze(OOPS, settings={"fixes": 3})  # type: ignore[arg-type]


def test_a_log_beyond_the_cap_is_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match="at most") as caught:
        analyze(OOPS, settings=Settings(max_log_bytes=100))
    assert caught.value.hint


@pytest.mark.parametrize("field", ["vmlinux", "modules", "index"])
def test_a_path_that_is_not_there_fails_before_anything_runs(field: str) -> None:
    with pytest.raises(InputError, match="no such"):
        analyze(OOPS, settings=Settings(**{field: Path("/nonexistent")}))


def test_source_that_is_given_is_quoted_as_evidence(tmp_path: Path) -> None:
    mm = tmp_path / "mm"
    mm.mkdir()
    (mm / "rmap.c").write_text("void rmap_walk_anon(struct folio *f)\n{\n\twalk(f);\n}\n")
    resolution = analyze(OOPS, settings=Settings(kernel_src=str(tmp_path)))
    quoted = [item for item in resolution.evidence if item.kind == "source"]
    assert [item.origin for item in quoted] == ["mm/rmap.c:1-4"]


def test_evidence_is_numbered_by_first_citation_and_idle_facts_are_dropped() -> None:
    idle = evidence("frame", "schedule+0x1/0x2", "log 0-1")
    source = evidence("source", "int a;", "a.c:1")
    cited = evidence("register", "rax = 0", "log 5-9")
    finding = Finding(claim="NULL", confidence=1, evidence=[cited.id], by="rule:x")
    findings, ledger = number_evidence([finding], [idle, source, cited])
    assert [(item.id, item.content) for item in ledger] == [("E1", "rax = 0"), ("E2", "int a;")]
    assert findings[0].evidence == ["E1"]
