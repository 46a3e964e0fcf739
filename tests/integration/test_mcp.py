"""The MCP server, spoken to by the SDK's own client over both transports."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("mcp")

import httpx
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.fastmcp.exceptions import ToolError

from kagent import __version__
from kagent.commits import CommitIndex
from kagent.demo.runner import SAMPLES, Unpacked, unpack
from kagent.errors import InputError, MissingDataError
from kagent.mcp_server import make_server, serve
from kagent.mcp_tools import Roots, analyze_callstack, find_source

pytestmark = pytest.mark.integration

SOURCE_TOOLS: dict[str, dict[str, Any]] = {
    "lookup_function": {"name": "tide_station_push+0x9e/0x100 [tidelink]"},
    "read_lines": {"path": "tidelink.h", "start": 1, "end": 5},
    "find_type": {"name": "struct tide_datum"},
    "struct_layout": {"name": "struct tide_datum"},
    "find_callers": {"name": "tide_station_push"},
    "find_callees": {"name": "tide_station_push"},
    "call_path": {"start": "tide_frame_consume", "end": "tide_station_push"},
    "blame": {"path": "tidelink.h", "line": 1},
    "subsystem_of": {"path": "tidelink.h"},
}
"""Each of them with arguments that it answers."""
OPTIONAL: dict[str, dict[str, Any]] = {
    "lookup_function": {"file": "tidelink.h"},
    "find_callees": {"file": "tidelink.h"},
    "find_callers": {"under": "drivers"},
}
BARE_TRACE = """\
tide_station_push+0x9e/0x100 [tidelink]
? tidelink_noise+0x1/0x2 [tidelink]
tide_frame_consume+0xa8/0x100 [tidelink]
"""


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Unpacked:
    """The bundled driver's log, repository and commit index."""
    unpacked = unpack(SAMPLES["tidelink"], tmp_path_factory.mktemp("tidelink"))
    assert unpacked.repository
    assert unpacked.index
    CommitIndex.build(unpacked.repository, unpacked.index).close()
    return unpacked


def command(case: Unpacked, *more: str) -> list[str]:
    source = ["--kernel-src", str(case.kernel_src), "--index", str(case.index)]
    return ["-m", "kagent", "mcp", *source, *more]


@contextlib.asynccontextmanager
async def over_stdio(case: Unpacked) -> AsyncIterator[ClientSession]:
    server = StdioServerParameters(command=sys.executable, args=command(case), env=environment())
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        greeting = await session.initialize()
        assert (greeting.serverInfo.name, greeting.serverInfo.version) == ("kagent", __version__)
        yield session


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("KAGENT_", "OPENAI_"))}


@dataclass(frozen=True)
class HttpServer:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


@pytest.fixture(scope="module")
def http_server(case) -> Iterator[HttpServer]:
    port = free_port()
    arguments = command(case, "--transport", "http", "--port", str(port))
    with subprocess.Popen(
        [sys.executable, *arguments], env=environment(), stderr=subprocess.PIPE
    ) as child:
        try:
            wait_for(port, child)
            assert child.stderr
            told = child.stderr.readline().decode()
            assert told == f"kagent: serving MCP at http://127.0.0.1:{port}/mcp\n"
            yield HttpServer(port)
        finally:
            child.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_for(port: int, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert child.poll() is None, "the server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise TimeoutError("the server did not listen")


async def check_tools(session: ClientSession, case: Unpacked) -> None:
    tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert set(tools) == {"analyze_kernel_stack", "lookup_source", "search_commits", *SOURCE_TOOLS}
    assert "coredump_message" in tools["analyze_kernel_stack"].inputSchema["required"]
    for tool in tools.values():
        assert tool.annotations
        assert tool.annotations.readOnlyHint
        assert tool.annotations.title
        assert tool.outputSchema
        assert tool.description
        assert "    " not in tool.description

    log = case.log.read_text("utf-8", "replace")
    found = await session.call_tool("analyze_kernel_stack", {"coredump_message": log})
    assert not found.isError
    content = found.structuredContent
    assert content is not None
    assert content["faulting_function"] == "tide_station_push"
    sources = {one["name"]: one for one in content["functions"]}
    push = sources["tide_station_push"]
    assert push["path"] == "tidelink_station.c"
    assert push["start"] <= 130 <= push["end"]
    assert "tide_surge_check(st, s->raw_mm);" in push["text"].splitlines()[130 - push["start"]]
    assert "vfs_write" in content["not_found"]

    for name, arguments in SOURCE_TOOLS.items():
        found = await session.call_tool(name, arguments)
        assert not found.isError, (name, found.content)
        assert found.structuredContent is not None
        assert "truncated" in found.structuredContent
        assert "revision" in found.structuredContent
    found = await session.call_tool("call_path", SOURCE_TOOLS["call_path"])
    assert found.structuredContent is not None
    assert found.structuredContent["kind"] in ("direct", "through")
    assert found.structuredContent["steps"][0]["caller"] == "tide_frame_consume"

    found = await session.call_tool("lookup_source", {"function": "tide_datum_level"})
    assert found.structuredContent is not None
    (definition,) = found.structuredContent["results"]
    assert definition["path"] == "tidelink.h"
    assert "d->gain_ppm" in definition["text"]

    question = {"question": "NULL datum dereferenced in the surge check of a station", "k": 2}
    found = await session.call_tool("search_commits", question)
    assert found.structuredContent is not None
    subjects = [commit["subject"] for commit in found.structuredContent["commits"]]
    assert "tidelink: skip the surge check for stations without a datum" in subjects
    assert len(subjects) == 2


async def test_the_tools_answer_over_stdio(case):
    async with over_stdio(case) as session:
        await check_tools(session, case)


async def test_the_tools_answer_over_http(case, http_server):
    async with (
        streamable_http_client(http_server.url) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        await check_tools(session, case)


async def test_a_path_outside_of_the_roots_is_an_error_not_an_answer(case):
    async with over_stdio(case) as session:
        for path in ("/etc", "/", f"{case.repository}/..", f"{case.repository}@HEAD", "~", "a\0b"):
            found = await session.call_tool(
                "analyze_kernel_stack", {"coredump_message": BARE_TRACE, "kernel_src_path": path}
            )
            assert found.isError, path
            assert "outside of the trees" in found.content[0].text
        for path in ("/etc/passwd", "../console.log", "a/../../console.log"):
            found = await session.call_tool("lookup_source", {"path": path})
            assert found.isError, path
            assert "root:" not in found.content[0].text
        found = await session.call_tool("search_commits", {"question": "x", "index": "/etc"})
        assert found.isError


HOSTILE = [
    "/etc/passwd",
    "../console.log",
    "a/../../console.log",
    "-rf",
    "--output=x",
    ":(top)tidelink.h",
    ":!tidelink.h",
    "~root/x",
    ".git/config",
    "tidelink.h\0.c",
    "tidelink.h\nx",
]
"""Names that would lead out of a tree, or mean something else to git."""
NAMED = [
    (tool, argument)
    for tool, known in SOURCE_TOOLS.items()
    for argument in [*known, "file", "under"]
    if argument in {**known, **OPTIONAL.get(tool, {})} and argument not in ("line", "end", "start")
] + [("call_path", "start"), ("call_path", "end")]
LINES = ("read_lines", "blame", "lookup_function")
"""Those that read a file they are told; a link out of the tree is refused as well."""


@pytest.mark.parametrize("kind", ["plain", "repository"])
async def test_every_tool_refuses_names_that_leave_the_tree(case, tmp_path, kind):
    secret = "s3cret"
    (tmp_path / "secret.h").write_text(f"struct {secret} {{ int x; }};\n")
    root = tmp_path / "tree"
    shutil.copytree(case.repository, root)
    (root / "link").symlink_to(tmp_path / "secret.h")
    spec = str(root)
    if kind == "repository":
        git = ("git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=b")
        subprocess.run([*git, "add", "link"], check=True)
        subprocess.run([*git, "commit", "-qm", "add a link"], check=True)
        spec += "@HEAD"
    server = make_server(Roots([spec]))
    for tool, argument in NAMED:
        links = ["link"] if tool in LINES and argument in ("path", "file") else []
        for name in [*HOSTILE, *links]:
            arguments = {**SOURCE_TOOLS[tool], argument: name}
            with pytest.raises(ToolError) as refused:
                await server.call_tool(tool, arguments)
            told = str(refused.value)
            assert secret not in told, (tool, argument, name)
            assert "root:" not in told
            assert "\n" not in told


async def test_bad_arguments_are_refused_and_the_server_lives_on(case):
    async with over_stdio(case) as session:
        for arguments in ({}, {"function": "f", "path": "p"}, {"path": "tidelink.h", "start": 0}):
            assert (await session.call_tool("lookup_source", arguments)).isError
        found = await session.call_tool("read_lines", {"path": "tidelink.h", "start": "x"})
        assert found.isError
        told = found.content[0].text
        assert told.startswith("bad arguments for read_lines: start: ")
        assert "end: Field required" in told
        assert "\n" not in told
        assert (await session.call_tool("search_commits", {"question": "x", "k": 999})).isError
        lines = {"path": "tidelink.h", "start": 1, "end": 3}
        found = await session.call_tool("lookup_source", lines)
        assert not found.isError


def test_requests_addressed_to_another_host_are_refused(http_server):
    """A page of another site whose name resolves to 127.0.0.1 gets nothing."""
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        answer = httpx.post(http_server.url, headers=header, json={})
        assert answer.status_code in (403, 421)


def test_other_addresses_than_loopback_need_a_word():
    with pytest.raises(InputError, match="not a loopback address"):
        serve(transport="http", host="0.0.0.0", port=1)
    with pytest.raises(InputError, match="not a loopback address"):
        serve(transport="http", host="kernel.example", port=1)


def test_a_port_that_is_taken_is_an_input_error():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InputError, match="cannot listen"),
    ):
        serve(transport="http", port=taken.getsockname()[1])


def test_stdio_prints_nothing_but_protocol(case):
    done = subprocess.run(
        [sys.executable, *command(case)],
        input=b"this is no JSON-RPC\n",
        capture_output=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert all(line.startswith(b"{") for line in done.stdout.splitlines())


def test_bare_frames_without_a_report_are_read(case):
    found = analyze_callstack(Roots([str(case.kernel_src)]), BARE_TRACE, None)
    assert [frame.symbol for frame in found.frames if frame.reliable] == [
        "tide_station_push",
        "tide_frame_consume",
    ]
    assert [source.name for source in found.functions] == [
        "tide_station_push",
        "tide_frame_consume",
    ]
    assert "no kernel report was recognised" in found.notes[0]


def test_without_source_the_frames_are_still_read():
    found = analyze_callstack(Roots(), BARE_TRACE, None)
    assert len(found.frames) == 3
    assert found.functions == []
    with pytest.raises(MissingDataError, match="no kernel source"):
        find_source(Roots(), "f", None, None, None)


def test_a_subdirectory_of_a_plain_root_may_be_asked_for(tmp_path):
    (tmp_path / "drivers").mkdir()
    (tmp_path / "drivers" / "a.c").write_text("int f(int x)\n{\n\treturn x;\n}\n")
    roots = Roots([str(tmp_path)])
    found = find_source(roots, "f", None, None, str(tmp_path / "drivers"))
    assert found.results[0].path == "a.c"
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(InputError, match="outside of the trees"):
        roots.source(str(tmp_path / "link"))


def test_answers_are_bounded_and_say_so(tmp_path):
    body = "\n".join(f"\tcall_{n}();" for n in range(900))
    for n in range(30):
        (tmp_path / f"f{n}.c").write_text(f"void long_{n}(void)\n{{\n{body}\n}}\n")
    trace = "".join(f" long_{n}+0x1/0x2\n" for n in range(60))
    found = analyze_callstack(Roots([str(tmp_path)]), trace, None)
    assert found.truncated
    assert len(found.frames) == 60
    assert 0 < len(found.functions) < 30
    assert len(found.model_dump_json()) < 200_000
