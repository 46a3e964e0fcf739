"""The real `langgraph dev` server on loopback, driven by the real client."""

from __future__ import annotations

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

from kagent import CommitIndex, analyze
from kagent.demo.runner import SAMPLES, run, unpack

langgraph_sdk = pytest.importorskip("langgraph_sdk")
pytest.importorskip("langgraph_api", reason="needs the [studio] extra")

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
LOG = (ROOT / "kagent/demo/data/cve-2025-37958/trace.log").read_text()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that serves this checkout's graphs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = tmp_path_factory.mktemp("studio") / "server.log"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("KAGENT_", "OPENAI_"))},
        "LANGGRAPH_STRICT_MSGPACK": "true",
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    }
    with output.open("w") as sink:
        command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"]
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=sink,
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


async def test_the_server_says_what_the_library_says(client: Any) -> None:
    values = await client.runs.wait(None, "triage", input={"log": LOG})
    here = analyze(LOG).model_dump(mode="json")
    assert without_volatile(values["resolution"]) == without_volatile(here)


async def test_the_demo_crash_pasted_as_a_message_is_resolved_as_by_the_demo(
    client: Any, tmp_path: Path
) -> None:
    case = unpack(SAMPLES["tidelink"], tmp_path)
    assert case.repository
    assert case.index
    CommitIndex.build(case.repository, case.index).close()
    context = {
        "modules": str(case.modules),
        "kernel_src": case.kernel_src,
        "index": str(case.index),
    }
    log = case.log.read_text("utf-8", "replace")
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


async def test_a_second_log_in_one_thread_is_a_new_case(client: Any) -> None:
    thread = await client.threads.create()
    await client.runs.wait(thread["thread_id"], "triage", input=chat(LOG))
    other = LOG.replace("split_huge_pmd_locked", "frob_widget").replace("rmap", "xmap")
    values = await client.runs.wait(thread["thread_id"], "triage", input=chat(other))
    assert "frob_widget" in values["messages"][-1]["content"]
    assert "split_huge_pmd_locked" not in str(values["resolution"])


async def test_small_talk_is_answered_with_what_to_paste(client: Any) -> None:
    values = await client.runs.wait(None, "triage", input=chat("hello, what can you do?"))
    assert "No kernel report was found" in values["messages"][-1]["content"]
    assert not values.get("resolution")


async def test_each_analyser_is_a_graph_of_its_own(client: Any) -> None:
    for graph in ("general", "deadlock"):
        values = await client.runs.wait(None, graph, input={"log": LOG})
        assert values["resolution"]["route"] == graph
