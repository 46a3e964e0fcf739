"""What leaves the machine: nothing that the user's own settings do not name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.runnables import RunnableLambda
from support.chat_endpoint import chat_endpoint, text
from support.sink import sink, tracing_variables
from support.trust_page import table
from typer.main import get_command

from kagent import Settings, analyze, build_graph
from kagent.agents.model import chat_model, endpoint_of
from kagent.agents.restore import damaged_region
from kagent.cli.app import app
from kagent.commits.embeddings import make_embedder
from kagent.egress import HUB, Destination, Gate, Purpose, async_client, client, gate_of, proxies
from kagent.errors import EgressError, MissingDataError, NoReportError
from kagent.klog import parse_log
from kagent.symbols.debuginfod import Debuginfod

ROOT = Path(__file__).resolve().parents[2]
LOG_FILE = ROOT / "kagent/demo/data/cve-2025-37958/trace.log"
LOG = LOG_FILE.read_text()
DAMAGED = LOG.replace("BUG:", "B U G :").replace("RIP:", "R|P :").replace("+0x", " + 0x")
ROWS = table("purpose")
FAR = "https://far.example"
OPENS: dict[str, dict[str, Any]] = {
    "model": {"model": "m", "base_url": FAR},
    "base_url": {"base_url": FAR},
    "debuginfod_urls": {"debuginfod_urls": FAR},
    "hub": {"hub": True},
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("KAGENT_", "OPENAI_", "LANG", "HTTP_", "HTTPS_", "ALL_PROXY")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KAGENT_DEBUG_DIR", str(tmp_path / "nothing"))


# The gate


def test_the_page_has_a_row_for_every_purpose() -> None:
    assert [row["purpose"] for row in ROWS] == list(Purpose)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["purpose"])
def test_a_way_out_is_opened_by_its_setting_and_closed_by_offline(row: dict[str, str]) -> None:
    purpose = Purpose(row["purpose"])
    url = HUB if purpose is Purpose.HUB else FAR
    for setting, values in OPENS.items():
        opened = gate_of(Settings(**values)).allows(purpose, url)
        also = (setting, purpose) == ("model", Purpose.EMBEDDING)  # it names base_url, too
        assert opened is (setting == row["opened by"] or also)
    chosen = OPENS[row["opened by"]]
    assert not gate_of(Settings(**chosen, offline=True)).allows(purpose, url)
    assert not gate_of(Settings()).allows(purpose, url)


@pytest.mark.parametrize(
    ("named", "asked", "open_"),
    [
        ("https://a.example/v1", "https://a.example/other?q", True),
        ("https://a.example", "https://A.example:443/", True),
        ("http://a.example", "https://a.example", True),
        ("http://a.example", "https://a.example:8443", False),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://b.a.example", False),
        ("https://a.example", "https://a.example.evil", False),
        ("https://a.example", "https://a.example@evil.example", False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8081", False),
    ],
)
def test_only_what_is_named_is_open(named: str, asked: str, open_: bool) -> None:
    assert Gate({Purpose.MODEL: [named]}).allows(Purpose.MODEL, asked) is open_
    assert not Gate({Purpose.MODEL: [named]}).allows(Purpose.DEBUGINFOD, asked)


@pytest.mark.parametrize("url", ["ftp://a.example", "file:///etc/shadow", "nonsense", "http://[x"])
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(EgressError):
        Gate().ask(Purpose.MODEL, url)


@pytest.mark.parametrize(
    "url", ["ftp://me:s3cret@a.example", "https://me:s3cret@a.example:99999/", "http://s3cret@[x"]
)
def test_a_refused_address_keeps_its_password(url: str) -> None:
    with pytest.raises(EgressError, match="is not an http or https URL") as caught:
        Destination.of(url)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


def test_loopback_is_known_by_address_alone() -> None:
    for host in ("localhost", "127.9.9.9", "[::1]"):
        assert Destination.of(f"http://{host}").loopback
    for host in ("localhost.evil.example", "127.0.0.1.evil.example", "128.0.0.1", "0.0.0.0"):
        assert not Destination.of(f"http://{host}").loopback


def test_the_gate_counts_what_went_out() -> None:
    with chat_endpoint(lambda _request: text({"summary": "x"})) as endpoint:
        settings = Settings(model="m", base_url=endpoint.url, model_retries=0)
        resolution = analyze(LOG, settings=settings)
        (sent,) = gate_of(settings).sent
    assert sent.purpose is Purpose.MODEL
    assert sent.requests == len(endpoint.requests) > 0
    assert sent.bytes > 1000
    assert resolution.engine.endpoint == str(sent.destination) == endpoint.url.removesuffix("/v1")


def test_the_named_endpoint_shows_neither_user_nor_path() -> None:
    settings = Settings(model="m", base_url="https://ada:secret@models.example/v1/path?key=x")
    assert endpoint_of(settings) == "https://models.example:443"


@contextlib.contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_GET  # noqa: N815 - as the base calls it

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def redirecting(target: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(307)
        request.send_header("Location", target)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def test_a_redirect_elsewhere_is_not_followed() -> None:
    with sink() as elsewhere, answering(redirecting(elsewhere.url)) as url:
        gate = Gate({purpose: [url] for purpose in Purpose})
        with pytest.raises(EgressError):
            client(gate, Purpose.MODEL).post(url, content=b"a log")

        async def ask() -> None:
            async with async_client(gate, Purpose.MODEL) as http:
                await http.post(url, content=b"a log")

        with pytest.raises(EgressError):
            asyncio.run(ask())
        settings = Settings(model="m", base_url=url, model_retries=0)
        resolution = analyze(LOG, settings=settings)
        assert resolution.engine.kind == "rules"
        assert any("which no setting names" in note for note in resolution.notes)
        with pytest.raises(MissingDataError, match="no setting names"):
            Debuginfod(url).debug_info("ab" * 20)
        assert not elsewhere.got


def test_every_client_of_a_model_passes_the_gate() -> None:
    model = chat_model(Settings(model="m", base_url=FAR, offline=True, model_retries=5))
    assert model is not None
    for call in (lambda: model.invoke("x"), lambda: asyncio.run(_aclosing(model))):
        started = time.monotonic()
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the client's own
            call()
        assert EgressError in (type(caught.value), type(caught.value.__cause__))
        assert time.monotonic() - started < 5


async def _aclosing(model: Any) -> None:
    try:
        await model.ainvoke("x")
    finally:
        await model.http_async_client.aclose()


def test_an_offline_run_with_a_model_says_why_it_did_not_speak() -> None:
    resolution = analyze(LOG, settings=Settings(model="m", base_url=FAR, offline=True))
    assert resolution.engine.kind == "rules"
    assert resolution.engine.endpoint is None
    assert any("offline" in note for note in resolution.notes)


def test_a_withheld_key_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", FAR)
    with chat_endpoint(lambda _request: text({"summary": "x"})) as endpoint:
        resolution = analyze(LOG, settings=Settings(model="m", base_url=endpoint.url))
    assert any("OPENAI_API_KEY was not used" in note for note in resolution.notes)


def test_a_proxy_is_never_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    assert proxies(Destination.of("http://far.example")) == "http://proxy.example:3128"
    assert proxies(Destination.of("http://127.0.0.1:8080")) is None
    monkeypatch.setenv("no_proxy", "far.example")
    assert proxies(Destination.of("http://far.example")) is None


def test_an_index_cannot_choose_to_embed_over_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with pytest.raises(EgressError, match="embedding texts"):
        make_embedder("openai:m", asked=False)
    assert make_embedder("openai:m").id == "openai:m"
    monkeypatch.setenv("KAGENT_OFFLINE", "1")
    with pytest.raises(EgressError, match="offline"):
        make_embedder("openai:m")
    monkeypatch.setenv("KAGENT_HUB", "1")
    with pytest.raises(EgressError, match="offline"):
        make_embedder("huggingface:some/model")


def test_a_trickling_debuginfod_ends(tmp_path: Path) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(200):
                request.wfile.write(b"x")
                request.wfile.flush()
                time.sleep(0.05)

    with answering(trickle) as url:
        asking = Debuginfod(url, cache=tmp_path, seconds=0.5)
        started = time.monotonic()
        with pytest.raises(MissingDataError, match="took longer"):
            asking.debug_info("ab" * 20)
        assert time.monotonic() - started < 5
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _head(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()


def drips_its_body(request: BaseHTTPRequestHandler) -> None:
    _head(request)
    for_ever(request, b"1\r\n \r\n")


def drips_its_head(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for_ever(request, b"X: y\r\n")


def is_always_about_to_answer(request: BaseHTTPRequestHandler) -> None:
    for_ever(request, b"HTTP/1.1 100 Continue\r\n\r\n")


def sends_without_end(request: BaseHTTPRequestHandler) -> None:
    _head(request)
    for_ever(request, b"100000\r\n" + b" " * (1 << 20) + b"\r\n", pause=0)


def sends_a_bomb(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Encoding", "gzip, gzip")
    request.send_header("Content-Length", "1")
    request.end_headers()
    request.wfile.write(b"x")


def for_ever(request: BaseHTTPRequestHandler, piece: bytes, *, pause: float = 0.05) -> None:
    with contextlib.suppress(OSError):
        for _ in range(400):
            request.wfile.write(piece)
            request.wfile.flush()
            time.sleep(pause)


@pytest.mark.parametrize("purpose", [Purpose.MODEL, Purpose.EMBEDDING])
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (drips_its_head, httpx.ReadTimeout, ""),
        (drips_its_body, httpx.ReadTimeout, ""),
        (is_always_about_to_answer, httpx.ReadTimeout, ""),
        (sends_without_end, httpx.DecodingError, "larger than"),
        (sends_a_bomb, httpx.DecodingError, "compressed"),
    ],
)
def test_an_answer_ends_in_time_and_size(
    answer: Callable[[BaseHTTPRequestHandler], None],
    error: type[Exception],
    words: str,
    purpose: Purpose,
) -> None:
    with answering(answer) as url:
        gate = Gate({purpose: [url]})
        # What drips would drip for twenty seconds, what is endless be 400 MB.
        seconds = 0.5 if error is httpx.ReadTimeout else 15
        with pytest.raises(error, match=words or None):
            client(gate, purpose).post(url, content=b"x", timeout=seconds)

        async def ask() -> None:
            async with async_client(gate, purpose) as http:
                await http.post(url, content=b"x", timeout=seconds)

        with pytest.raises(error, match=words or None):
            asyncio.run(ask())


def test_a_run_outlasts_a_model_that_does_not_end() -> None:
    with answering(drips_its_body) as url:
        slow = Settings(model="m", base_url=url, model_retries=0, model_timeout=0.5)
        resolution = analyze(LOG, settings=slow)
    assert resolution.engine.kind == "rules"
    assert any("did not answer in time" in note for note in resolution.notes)
    with answering(sends_without_end) as url:
        resolution = analyze(LOG, settings=Settings(model="m", base_url=url, model_retries=0))
    assert any("answer was not read: it is larger than" in note for note in resolution.notes)


def refuses_and_says_the_key(request: BaseHTTPRequestHandler) -> None:
    said = {"error": {"message": f"bad key {request.headers['Authorization']}"}}
    body = json.dumps(said).encode()
    request.send_response(400)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def test_a_key_that_a_server_says_back_is_not_shown() -> None:
    with answering(refuses_and_says_the_key) as url:
        settings = Settings(model="m", base_url=url, api_key="sk-hunter2", model_retries=0)
        resolution = analyze(LOG, settings=settings)
    assert any("(the key)" in note for note in resolution.notes)
    assert "hunter2" not in resolution.model_dump_json()


def test_who_the_user_is_goes_to_no_other_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "hunter2")
    with chat_endpoint(lambda _: text("x")) as endpoint:
        seen: list[str] = []
        settings = Settings(model="m", base_url=endpoint.url, model_retries=0)
        model = chat_model(settings)
        assert model is not None
        http = client(gate_of(settings), Purpose.MODEL)
        http.event_hooks["response"] = [lambda got: seen.append(str(got.request.headers))]
        model.invoke("x")
    assert seen
    assert not any("hunter2" in headers for headers in seen)


def test_the_password_of_a_debuginfod_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"//127\.0\.0\.1:1/x does not") as caught:
        Debuginfod("http://ada:hunter2@127.0.0.1:1/x", cache=tmp_path).debug_info("ab" * 20)
    assert "ada" not in str(caught.value)


def test_a_step_of_a_chain_may_leave_the_context_out() -> None:
    chain = RunnableLambda(lambda log: {"log": log}) | build_graph() | RunnableLambda(dict)
    assert chain.invoke(LOG)["resolution"].reports


def test_offline_asks_no_debuginfod() -> None:
    with pytest.raises(MissingDataError, match="offline"):
        Debuginfod(FAR, offline=True).debug_info("ab" * 20)


# Damaged logs


def test_a_damaged_log_goes_nowhere_without_consent() -> None:
    secret = "my password is hunter2\n" * 500
    with pytest.raises(NoReportError) as caught:
        analyze(secret + DAMAGED, settings=Settings(model="m", base_url=FAR, model_retries=0))
    assert "--restore" in str(caught.value.hint)
    assert "far.example" in str(caught.value.hint)


@pytest.mark.parametrize("consent", [{}, {"restore": True}], ids=["loopback", "--restore"])
def test_no_more_than_the_damaged_lines_are_sent(consent: dict[str, Any]) -> None:
    secret = "my password is hunter2\n" * 500
    with chat_endpoint(lambda _request: text({"report": LOG})) as endpoint:
        settings = Settings(model="m", base_url=endpoint.url, **consent)
        resolution = analyze(secret + DAMAGED + "\n" * 9 + secret, settings=settings)
        sent = str(endpoint.requests[0])
    assert resolution.reports[0].frames[0].symbol == "split_huge_pmd_locked"
    assert sent.count("hunter2") <= 2
    assert any("and saw no others" in note for note in resolution.notes)


def test_a_text_without_marks_of_a_report_is_not_sent() -> None:
    with chat_endpoint(lambda _request: text({"report": ""})) as endpoint:
        with pytest.raises(NoReportError):
            analyze("dear diary\n" * 100, settings=Settings(model="m", base_url=endpoint.url))
        assert not endpoint.requests


def test_the_damaged_region_is_bounded() -> None:
    assert not parse_log(DAMAGED).reports
    assert "split_huge_pmd_locked" in damaged_region(DAMAGED)
    many = "\n".join(f" f{i} + 0x1/0x2 {'x' * 5000}" for i in range(10_000))
    assert len(damaged_region(many)) <= 16_000
    assert damaged_region("nothing\n" * 10) == ""


# Tracing

_EMBEDDED = """
import asyncio, sys
from langchain_core.tracers.langchain import wait_for_all_tracers
from langgraph.graph import END, START, StateGraph
from langsmith import traceable
from langsmith.run_helpers import tracing_context
from langchain_core.tracers.context import tracing_v2_enabled
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from kagent import Settings, analyze, aanalyze, build_graph
import os

before = dict(os.environ)
log, way = open(sys.argv[1]).read(), sys.argv[2]
graph = build_graph(checkpointer=InMemorySaver())
given = {"log": log}
thread = {"configurable": {"thread_id": "t"}}

async def everything(stream):
    return [part async for part in stream]

class State(dict): pass

def host(node):
    from typing import TypedDict
    class Host(TypedDict, total=False):
        question: str
        answer: str
    builder = StateGraph(Host)
    builder.add_node("hosts_own_step", node)
    builder.add_edge(START, "hosts_own_step")
    builder.add_edge("hosts_own_step", END)
    return builder.compile(name="hosts_own_graph")

def sync_step(state):
    graph.invoke(given, thread)
    return {"answer": "after"}

def implicit_stream(state):
    for _ in graph.stream(given, thread, stream_mode="updates"):
        hosts_own_function()
    return {"answer": "after"}

async def async_step(state):
    await graph.ainvoke(given, thread)
    return {"answer": "after"}

def passing_step(state, config):
    build_graph().invoke(given, config)
    return {"answer": "after"}

@traceable(name="hosts_own_function")
def hosts_own_function():
    return "still here"

async def interleaved():
    async for _ in graph.astream(given, thread):
        hosts_own_function()

match way:
    case "analyze": analyze(log)
    case "aanalyze": asyncio.run(aanalyze(log))
    case "invoke": graph.invoke(given, thread)
    case "ainvoke": asyncio.run(graph.ainvoke(given, thread))
    case "stream": list(graph.stream(given, thread, stream_mode=["messages", "updates", "custom"]))
    case "astream": asyncio.run(everything(graph.astream(given, thread)))
    case "astream_events":
        asyncio.run(everything(graph.astream_events(given, thread, version="v2")))
    case "batch": graph.batch([given, given], [thread, {"configurable": {"thread_id": "u"}}])
    case "update_state":
        graph.invoke(given, thread)
        graph.update_state(thread, given)
    case "enabled by context":
        with tracing_v2_enabled(), tracing_context(enabled=True): graph.invoke(given, thread)
    case "given a tracer": graph.invoke(given, {**thread, "callbacks": [LangChainTracer()]})
    case "host invoke": host(sync_step).invoke({"question": "hosts_own_question"})
    case "host stream": host(implicit_stream).invoke({"question": "hosts_own_question"})
    case "host ainvoke": asyncio.run(host(async_step).ainvoke({"question": "hosts_own_question"}))
    case "host config": host(passing_step).invoke({"question": "hosts_own_question"})
    case "host function":
        for _ in graph.stream(given, thread): hosts_own_function()
    case "host coroutine": asyncio.run(interleaved())
    case "tracing on": graph.invoke(given, thread, context=Settings(tracing=True))
    case _: raise SystemExit(f"no way {way}")
assert dict(os.environ) == before
wait_for_all_tracers()
from langsmith import run_trees
if run_trees._CLIENT: run_trees._CLIENT.flush()
"""


def traced(way: str, *, without: tuple[str, ...] = ()) -> str:
    """What arrives at a tracing server while a program embeds the graph in this way."""
    with sink() as receiving:
        variables = tracing_variables(receiving.url)
        done = subprocess.run(
            [sys.executable, "-c", _EMBEDDED, str(LOG_FILE), way],
            env={**os.environ, **{k: v for k, v in variables.items() if k not in without}},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return receiving.text


@pytest.mark.parametrize(
    "way",
    [
        "analyze",
        "aanalyze",
        "invoke",
        "ainvoke",
        "stream",
        "astream",
        "astream_events",
        "batch",
        "update_state",
        "enabled by context",
        "given a tracer",
    ],
)
def test_nothing_of_our_runs_is_traced(way: str) -> None:
    assert traced(way) == ""


@pytest.mark.parametrize(
    ("way", "hosts"),
    [
        ("host invoke", "hosts_own_step"),
        ("host stream", "hosts_own_function"),
        ("host ainvoke", "hosts_own_step"),
        ("host config", "hosts_own_step"),
        ("host function", "hosts_own_function"),
        ("host coroutine", "hosts_own_function"),
    ],
)
def test_the_runs_around_ours_stay_traced(way: str, hosts: str) -> None:
    arrived = traced(way)
    assert hosts in arrived
    assert "split_huge_pmd_locked" not in arrived
    assert "kagent-triage" not in arrived
    assert "general_analyzer" not in arrived


def test_our_own_setting_turns_tracing_on() -> None:
    """So that the tests above would see what arrives."""
    arrived = traced("tracing on")
    assert "kagent-triage" in arrived
    assert "split_huge_pmd_locked" in arrived


def test_the_oldest_variable_alone_breaks_nothing() -> None:
    newer = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2")
    assert traced("invoke", without=newer) == ""


# Every command, without a network


def commands() -> list[tuple[str, ...]]:
    """The path of every command, groups entered."""
    found: list[tuple[str, ...]] = []

    def walk(group: Any, path: tuple[str, ...]) -> None:
        for name in group.list_commands(None):
            command = group.get_command(None, name)
            if hasattr(command, "list_commands"):
                walk(command, (*path, name))
            else:
                found.append((*path, name))

    walk(get_command(app), ())
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's case with its index."""
    from kagent.commits import CommitIndex
    from kagent.demo.runner import SAMPLES, unpack

    (place := tmp_path_factory.mktemp("demo") / "case").mkdir()
    case = unpack(SAMPLES["tidelink"], place)
    assert case.repository
    assert case.index
    CommitIndex.build(case.repository, case.index).close()
    return case.log.parent


SRC = ("--kernel-src", "case/tidelink@71f309d72bed")
GIVEN: dict[tuple[str, ...], tuple[str, ...]] = {
    ("analyze",): (
        "case/console.log", "--modules", "case/modules", "--kernel-src", "case/tidelink",
        "--index", "case/index",
    ),
    ("decode",): ("case/console.log", "--modules", "case/modules"),
    ("fix-status",): ("f9eb570aa5b1", "--kernel-src", "case/tidelink"),
    ("mcp",): ("--kernel-src", "case/tidelink", "--index", "case/index"),
    ("source", "function"): ("tide_frame_consume", *SRC),
    ("source", "lines"): ("tidelink.h:54", *SRC),
    ("source", "type"): ("tide_datum", *SRC),
    ("source", "struct"): ("tide_datum", "--modules", "case/modules"),
    ("source", "callers"): ("tide_frame_consume", *SRC),
    ("source", "callees"): ("tide_frame_consume", *SRC),
    ("source", "path"): ("tidelink_write", "tide_frame_consume", *SRC),
    ("source", "blame"): ("tidelink.h:54", *SRC),
    ("source", "subsystem"): ("tidelink.h", *SRC),
    ("index", "build"): ("case/tidelink", "-o", "{tmp}/built"),
    ("index", "merge"): ("case/index", "case/index", "-o", "{tmp}/merged"),
    ("index", "search"): ("case/index", "surge check"),
    ("index", "update"): ("case/index",),
    ("index", "verify"): ("case/index",),
    ("index", "stats"): ("case/index",),
}  # fmt: skip
"""Arguments with which a command does its work; any other command gets the log as its input."""
WORKS_WITHOUT_ARGUMENTS = {("parse",), ("reformat",), ("demo",), ("version",)}
DOCUMENTED = {0, 1, 2, 3, 4}


@pytest.mark.integration
@pytest.mark.parametrize("variables", [False, True], ids=["plain", "LangChain's variables"])
@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_command_opens_no_socket(
    command: tuple[str, ...], variables: bool, demo: Path, tmp_path: Path
) -> None:
    tried = tmp_path / "tried"
    arguments = [part.format(tmp=tmp_path) for part in GIVEN.get(command, ())]
    paths = [str(ROOT / "tests/support/no_sockets"), str(ROOT)]
    done = subprocess.run(
        [sys.executable, "-m", "kagent", *command, *arguments],
        cwd=demo.parent,
        input=LOG if command != ("mcp",) else "",
        env={
            **os.environ,
            **(tracing_variables("http://127.0.0.1:9") if variables else {}),
            "PYTHONPATH": os.pathsep.join(paths),
            "NO_SOCKETS_LOG": str(tried),
            "NO_COLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert not tried.exists(), tried.read_text()
    assert done.returncode in DOCUMENTED, done.stderr
    if command in GIVEN or command in WORKS_WITHOUT_ARGUMENTS:
        assert done.returncode == 0, done.stderr


def test_the_test_itself_would_see_a_socket(tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    script = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    environment = {"PYTHONPATH": str(ROOT / "tests/support/no_sockets")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment, "NO_SOCKETS_LOG": str(tried)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "socket" in tried.read_text()
