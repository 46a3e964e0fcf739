"""``kagent mcp``: the expert as tools of the Model Context Protocol."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kagent.cli.options import EnvFile, Modules, Offline, Vmlinux, make_settings

__all__ = ["Transport", "mcp"]


class Transport(StrEnum):
    """How a client reaches the server."""

    stdio = "stdio"
    http = "http"


def mcp(
    transport: Annotated[
        Transport, typer.Option(help="Standard input and output, or streamable HTTP.")
    ] = Transport.stdio,
    host: Annotated[str, typer.Option(help="Address for HTTP.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port for HTTP.")] = 8765,
    kernel_src: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH[@REV]", help="A source tree that clients may read; may be repeated."
        ),
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="A commit index that clients may search; may be repeated."
        ),
    ] = None,
    vmlinux: Vmlinux = None,
    modules: Modules = None,
    offline: Offline = None,
    env_file: EnvFile = None,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Let HOST be other than loopback. There is no login."),
    ] = False,
) -> None:
    """Serve the callstack and source tools to an MCP client."""
    from kagent.mcp_server import serve

    settings = make_settings(
        index=index or None,
        vmlinux=vmlinux,
        modules=modules,
        offline=offline,
        env_file=env_file,
    )
    serve(
        transport=transport.value,
        host=host,
        port=port,
        kernel_src=tuple(kernel_src or ()),
        settings=settings,
        allow_remote=allow_remote,
    )
