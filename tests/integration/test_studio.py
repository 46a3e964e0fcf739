"""The real `langgraph dev` server on loopback, driven by the real client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.chat_endpoint import chat_endpoint, text
from support.sink import Sink, sink, tracing_variables

from kagent import CommitIndex, Settings, analyze
from kagent.agents.request import Request
from kagent.demo.runner import SAMPLES, Unpacked, run, unpack

langgraph_sdk = pytest.importorskip("langgraph_sdk")
pytest.importorskip("langgraph_api", reason="needs the [studio] extra")

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
LOG = (ROOT / "kagent/demo/data/cve-2025-37958/trace.log").read_text()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """The demo's crash, with its module, source and index."""
    unpacked = unpack(SAMPLES["tidelink"], tmp_path_factory.mktemp("case"))
    assert unpacked.repository
    assert unpacked.index
    CommitIndex.build(unpacked.repository, unpacked.index).close()
    return unpacked


@pytest.fixture(scope="module")
def traces() -> Iterator[Sink]:
    """Where all of LangChain's variables tell the server to send its runs."""
    with sink() as receiving:
        yield receiving


@pytest.fixture(scope="module")
def studio(case: Unpacked, traces: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that serves this checkout's graphs, with the case's roots."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = tmp_path_factory.mktemp("studio") / "server.log"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("KAGENT_", "OPENAI_"))},
        **tracing_variables(traces.url),
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "KAGENT_MODULES": str(case.modules),
        "KAGENT_KERNEL_SRC": str(case.kernel_src),
        "KAGENT_INDEX": str(case.index),
        "KAGENT_DEBUG_DIR": str(output.parent / "nothing"),
    }
    with output.open("w") as log:
        command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"]
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _await_ready(f"http://127.0.0.1:{port}", server, output)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _await_ready(url: str, server: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"langgraph dev ended:\n{output.read_text()[-3000:]}")
        try:
            if httpx.get(f"{url}/ok", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    pytest.fail(f"langgraph dev did not come up:\n{output.read_text()[-3000:]}")


@pytest.fixture
async def client(studio: str) -> AsyncIterator[Any]:
    """The SDK's own client, closed at the end."""
    async with langgraph_sdk.get_client(url=studio) as opened:
        yield opened


def without_volatile(resolution: dict[str, Any]) -> dict[str, Any]:
    """Without run times, and without notes, which name this machine's directories."""
    return {k: v for k, v in resolution.items() if k not in {"usage", "notes"}}


def chat(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


async def test_a_pasted_log_returns_the_resolution_as_a_message(client: Any) -> None:
    values = await client.runs.wait(None, "triage", input=chat(LOG))
    answer = values["messages"][-1]
    assert answer["type"] == "ai"
    assert "split_huge_pmd_locked" in answer["content"]
    assert values["resolution"]["schema"] == "kagent/1"


async def test_the_server_says_what_the_library_says(client: Any, case: Unpacked) -> None:
    values = await client.runs.wait(None, "triage", input={"log": LOG})
    own = Settings(modules=case.modules, kernel_src=str(case.kernel_src), index=case.index)
    here = analyze(LOG, settings=own).model_dump(mode="json")
    assert without_volatile(values["resolution"]) == without_volatile(here)


async def test_the_demo_crash_pasted_as_a_message_is_resolved_as_by_the_demo(
    client: Any, case: Unpacked
) -> None:
    context = {"kernel_src": str(case.kernel_src), "index": str(case.index)}
    log = case.log.read_bytes().decode("utf-8", "replace")
    values = await client.runs.wait(None, "triage", input=chat(log), context=context)
    served = without_volatile(values["resolution"])
    assert served == without_volatile(run("tidelink").model_dump(mode="json"))
    assert served["fault"]["expression"] == "st->datum->gain_ppm"
    assert served["fixes"][0]["hash"].startswith("f9eb570aa5b1")


@pytest.mark.parametrize("payload", [chat(LOG), {"log": LOG}], ids=["chat", "log"])
async def test_streaming_shows_each_node_and_ends_with_the_message(
    client: Any, payload: dict[str, object]
) -> None:
    nodes, last = [], {}
    async for part in client.runs.stream(None, "triage", input=payload, stream_mode="updates"):
        if part.event == "updates":
            nodes += list(part.data)
            last = part.data
        assert part.event != "error", part.data
    assert nodes[0] == "reformat"
    assert nodes[-1] == "synthesizer"
    assert "split_huge_pmd_locked" in last["synthesizer"]["messages"][-1]["content"]


async def test_every_log_in_one_thread_is_a_new_case(client: Any) -> None:
    thread = await client.threads.create()
    other = LOG.replace("split_huge_pmd_locked", "frob_widget").replace("rmap", "xmap")
    for log, shown, gone in [
        (LOG, "split_huge_pmd_locked", "frob_widget"),
        (other, "frob_widget", "split_huge_pmd_locked"),
        (LOG, "split_huge_pmd_locked", "frob_widget"),
    ]:
        values = await client.runs.wait(thread["thread_id"], "triage", input=chat(log))
        assert shown in values["messages"][-1]["content"]
        assert gone not in str(values["resolution"])
    assert len(values["messages"]) == 6


async def test_a_thread_goes_on_after_small_talk(client: Any) -> None:
    thread = await client.threads.create()
    for words in (LOG, "thank you!"):
        values = await client.runs.wait(thread["thread_id"], "triage", input=chat(words))
    assert "No kernel report was found" in values["messages"][-1]["content"]
    assert not values.get("resolution")
    values = await client.runs.wait(thread["thread_id"], "triage", input=chat(LOG))
    assert values["resolution"]["schema"] == "kagent/1"


async def test_the_form_shows_what_a_request_may_set(client: Any) -> None:
    found = await client.assistants.search(graph_id="triage")
    schemas = await client.assistants.get_schemas(found[0]["assistant_id"])
    assert set(schemas["context_schema"]["properties"]) == set(Request.model_fields)


@pytest.mark.parametrize(
    "context",
    [
        {"kernel_src": "/"},
        {"kernel_src": "/etc"},
        {"index": "/tmp"},
        {"model": "gpt-none"},
        {"fixes": 10_000},
    ],
    ids=lambda context: next(iter(context.items())),
)
async def test_a_request_names_nothing_of_its_own(client: Any, context: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="RequestError"):
        await client.runs.wait(None, "triage", input=chat(LOG), context=context)


async def test_an_endpoint_in_a_request_is_never_asked(client: Any) -> None:
    with chat_endpoint(lambda _request: text("I was asked.")) as endpoint:
        wanted = {"model": "none", "base_url": endpoint.url, "debuginfod_urls": endpoint.url}
        for way in ({"context": wanted}, {"config": {"configurable": wanted}}):
            values = await client.runs.wait(None, "triage", input=chat(LOG), **way)
            assert values["resolution"]["engine"]["kind"] == "rules"
        assert not endpoint.requests


@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
async def test_a_page_of_a_stranger_is_turned_away(studio: str, kind: str) -> None:
    body = json.dumps({"assistant_id": "triage", "input": chat(LOG)})
    with httpx.Client(base_url=studio, timeout=60) as browser:
        for origin, status in [
            ("https://attacker.example", 403),
            ("null", 403),
            ("https://smith.langchain.com.attacker.example", 403),
            ("https://smith.langchain.com", 200),
            ("http://localhost:3000", 200),
        ]:
            headers = {"Content-Type": kind, "Origin": origin}
            assert browser.post("/runs/wait", content=body, headers=headers).status_code == status
        asked = browser.get("/ok", headers={"Origin": "https://attacker.example"})
        assert asked.status_code == 403
        asked = browser.get("/ok", headers={"Origin": "https://smith.langchain.com"})
        assert asked.headers["access-control-allow-origin"] == "https://smith.langchain.com"


def test_the_server_offers_no_webhooks(studio: str) -> None:
    schema = httpx.get(f"{studio}/openapi.json").json()
    fields = schema["components"]["schemas"]["RunCreateStateless"]["properties"]
    assert "input" in fields
    assert "webhook" not in fields


async def test_small_talk_is_answered_with_what_to_paste(client: Any) -> None:
    values = await client.runs.wait(None, "triage", input=chat("hello, what can you do?"))
    assert "No kernel report was found" in values["messages"][-1]["content"]
    assert not values.get("resolution")


async def test_each_analyser_is_a_graph_of_its_own(client: Any) -> None:
    for graph in ("general", "deadlock"):
        values = await client.runs.wait(None, graph, input={"log": LOG})
        assert values["resolution"]["route"] == graph


async def test_nothing_was_traced(client: Any, traces: Sink) -> None:
    await client.runs.wait(None, "triage", input=chat(LOG))
    await asyncio.sleep(2)
    assert "split_huge_pmd_locked" not in traces.text
    assert not [path for _, path, _ in traces.got if "runs" in path]
