"""A client of a server chooses among what the server was started with, and names nothing new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.trust_page import table

from kagent import Settings, build_graph
from kagent.agents.request import Request, settings_for
from kagent.confine import allowed_index, granted
from kagent.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
LOG = (ROOT / "kagent/demo/data/cve-2025-37958/trace.log").read_text()
ROWS = table("setting")


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """Settings of a server with a tree, an index and two models."""
    (tmp_path / "linux" / "mm").mkdir(parents=True)
    (tmp_path / "index").mkdir()
    return Settings(
        kernel_src=str(tmp_path / "linux"),
        index=tmp_path / "index",
        model="small",
        models="large",
        max_task_agents=4,
    )


def asked(own: Settings, **context: Any) -> Settings:
    return settings_for(context, own)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["setting"])
def test_a_request_sets_what_its_row_says(row: dict[str, str], own: Settings) -> None:
    name = row["setting"]
    if row["in a request"] != "no":
        assert name in Request.model_fields
        return
    with pytest.raises(InputError, match=f"may not set {name}"):
        asked(own, **{name: "x"})


def test_every_field_of_a_request_has_a_row() -> None:
    told = {row["setting"] for row in ROWS if row["in a request"] != "no"}
    assert told == set(Request.model_fields)


def test_a_request_chooses_among_the_servers_own(own: Settings, tmp_path: Path) -> None:
    below = asked(own, kernel_src=str(tmp_path / "linux" / "mm"), index=str(tmp_path / "index"))
    assert below.kernel_src == str(tmp_path / "linux" / "mm")
    assert below.index == (tmp_path / "index",)
    assert asked(own, model="large").model == "large"
    assert asked(own, model="none").model is None
    assert asked(own, fixes=9).fixes == 9
    assert asked(own, max_task_agents=1000).max_task_agents == 4
    assert asked(own).model == "small"
    assert own.fixes == Settings().fixes


@pytest.mark.parametrize(
    "context",
    [
        {"kernel_src": "/"},
        {"kernel_src": "/etc/shadow"},
        {"kernel_src": "{tmp}/linux/../index"},
        {"kernel_src": "{tmp}/link"},
        {"index": "{tmp}"},
        {"index": "/nonexistent\0"},
        {"model": "gpt-9"},
        {"fixes": 51},
        {"fixes": -1},
        {"fixed": 1},
    ],
    ids=str,
)
def test_a_request_for_more_is_refused(
    context: dict[str, Any], own: Settings, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("/etc")
    filled = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in context.items()}
    # The LangGraph server hands the words of a ValueError on, and hides all others.
    with pytest.raises(ValueError, match=next(iter(context))) as caught:
        asked(own, **filled)
    assert isinstance(caught.value, InputError)


def test_without_roots_nothing_can_be_named() -> None:
    with pytest.raises(InputError):
        asked(Settings(), kernel_src="/")
    with pytest.raises(InputError):
        asked(Settings(), index="/")


def test_a_settings_object_is_the_processs_own_word(own: Settings) -> None:
    mine = Settings(kernel_src="/")
    assert settings_for(mine, own) is mine


def test_the_context_of_a_graph_around_ours_says_nothing(own: Settings) -> None:
    assert settings_for(object(), own) is own
    assert settings_for(None, own) is own


def test_the_compiled_graph_takes_a_dict_for_a_request(own: Settings) -> None:
    graph = build_graph(settings=own.model_copy(update={"model": None}))
    with pytest.raises(InputError, match="may not set base_url"):
        graph.invoke({"log": LOG}, context={"base_url": "http://127.0.0.1:1"})
    with pytest.raises(InputError, match="outside"):
        next(iter(graph.stream({"log": LOG}, context={"kernel_src": "/"})))


@pytest.mark.parametrize(
    ("root", "named", "opened"),
    [
        ("{t}/linux", "{t}/linux", "{t}/linux"),
        ("{t}/linux", "{t}/linux@v6.1", "{t}/linux@v6.1"),
        ("{t}/linux@v6.1", "{t}/linux", "{t}/linux@v6.1"),
        ("{t}/linux@v6.1", "{t}/linux@v6.1", "{t}/linux@v6.1"),
        ("{t}/linux@v6.1", "{t}/linux@v6.2", None),
        ("{t}/linux", "{t}/linux/mm", "{t}/linux/mm"),
        ("{t}/linux", "{t}/linux/../other", None),
        ("{t}/linux", "{t}/linux-other", None),
        ("{t}/linux", "{t}/linux/out", None),
        ("{t}/alias", "{t}/linux/mm", "{t}/linux/mm"),
        ("{t}/linux", "/", None),
        ("{t}/linux", "nul\0", None),
    ],
)
def test_a_root_or_a_path_below_one(
    root: str, named: str, opened: str | None, tmp_path: Path
) -> None:
    for name in ("linux/mm", "linux-other", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "linux/out").symlink_to(tmp_path / "other")
    (tmp_path / "alias").symlink_to(tmp_path / "linux")
    wanted = opened.format(t=tmp_path) if opened else None
    assert granted([root.format(t=tmp_path)], named.format(t=tmp_path)) == wanted


def test_links_between_roots_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert granted([str(tmp_path / "root")], str(tmp_path / "loop")) is None
    assert allowed_index([tmp_path], str(tmp_path / "loop")) is None


_CHECKPOINTS = """
import json, sys
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from kagent import build_graph
from kagent.agents.state import State

log = sys.stdin.read()
saver = InMemorySaver()
graph = build_graph(checkpointer=saver).copy()
thread = {"configurable": {"thread_id": "1"}}
kinds = []
for text in (log, log.replace("rmap", "xmap"), log):
    state = graph.invoke({"messages": [("user", text)]}, thread)
    kinds.append([type(state["resolution"]).__name__, len(state["messages"])])
kept = graph.get_state(thread).values
fresh = build_graph(checkpointer=InMemorySaver()).invoke({"log": log}, thread)
names = {key: type(value).__name__ for key, value in kept.items()}

class Around(MessagesState, total=False):
    log: str

host = StateGraph(Around)
host.add_node("kagent", build_graph())
host.add_edge(START, "kagent")
host.add_edge("kagent", END)
outer = host.compile(checkpointer=InMemorySaver())
for _ in range(2):
    around = outer.invoke({"messages": [("user", log)]}, thread)
print(json.dumps({"kinds": kinds, "names": names, "around": len(around["messages"])}))
"""


def test_our_types_come_back_from_a_strict_checkpoint() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CHECKPOINTS],
        input=LOG,
        env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    told = json.loads(done.stdout)
    assert told["kinds"] == [["Resolution", 2], ["Resolution", 4], ["Resolution", 6]]
    assert told["around"] == 4
    assert told["names"]["kernel_log"] == "KernelLog"
    assert told["names"]["usage"] == "Usage"


def test_every_type_of_the_state_may_come_back() -> None:
    """A type that no list or union in the state leads to would come back as a dict."""
    script = (
        "import json; from kagent import build_graph;"
        "print(json.dumps(sorted(build_graph()._serde_allowlist)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    allowed = {tuple(one) for one in json.loads(done.stdout)}
    assert {one for one in _reachable() if one not in allowed} == set()


def _reachable() -> set[tuple[str, str]]:
    """Every class of ours that a value of the state can hold, by any annotation."""
    import typing

    from kagent.agents.state import State

    found: set[tuple[str, str]] = set()
    waiting: list[Any] = list(typing.get_type_hints(State).values())
    while waiting:
        kind = waiting.pop()
        waiting.extend(typing.get_args(kind))
        if not isinstance(kind, type) or not kind.__module__.startswith("kagent."):
            continue
        if (kind.__module__, kind.__name__) not in found:
            found.add((kind.__module__, kind.__name__))
            waiting.extend(typing.get_type_hints(kind).values())
    return found


def test_the_studio_server_has_the_same_origins_for_cors() -> None:
    import re

    pytest.importorskip("starlette")
    sys.path.insert(0, str(ROOT / "graphs"))
    try:
        import guard
    finally:
        sys.path.pop(0)
    config = json.loads((ROOT / "langgraph.json").read_text())
    assert config["http"]["cors"]["allow_origin_regex"] == guard.ORIGINS
    assert config["http"]["cors"]["allow_origins"] == []
    assert config["http"]["disable_webhooks"] is True
    for origin in ("null", "http://localhost.evil.example", "https://evilsmith.langchain.com"):
        assert not re.fullmatch(guard.ORIGINS, origin)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:2024"}, 200),
        ({"host": "[::1]:2024"}, 200),
        ({"host": "192.0.2.7:2024"}, 200),
        ({"host": "tunnel.example", "origin": "https://smith.langchain.com"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"host": "evil.example:2024"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:2024"}, 403),
    ],
)
def test_the_guard_turns_pages_of_strangers_away(
    headers: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "graphs"))
    import guard
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    page = Starlette(routes=[Route("/", lambda _: PlainTextResponse("kept"))])
    asked = TestClient(guard.OwnPagesOnly(page), base_url="http://127.0.0.1:2024")
    assert asked.get("/", headers=headers).status_code == status


# ── a client of `kagent mcp` that leaves early ──────────────────────────────────────────────


def test_a_client_that_sends_nonsense_and_leaves_ends_the_server_quietly(tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    ended = subprocess.run(
        [sys.executable, "-m", "kagent", "mcp", "--kernel-src", str(tmp_path)],
        input=b"\xff\xfe\nxxx\n\n\n[]\nnull\n\n\n",
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0
    assert b"kagent: bug" not in ended.stderr
