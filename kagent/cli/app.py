"""The commands of ``kagent``, and what its help says."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kagent import __version__
from kagent.cli.analyze import analyze
from kagent.cli.demo import demo
from kagent.cli.fix_status import fix_status
from kagent.cli.inspect import parse, reformat
from kagent.cli.output import emit
from kagent.cli.serve import mcp
from kagent.errors import EXIT_CODES
from kagent.sources import check_names

__all__ = ["app"]

_ABOUT = """\
Turn a Linux kernel log into an Error Resolution Summary: what happened, the exact line and \
member, why, which commit fixes it, and what to do. Works offline, with or without a language model.
"""
_EPILOG = """\
[bold]Examples[/]

kagent demo --keep case

kagent analyze case/console.log --modules case/modules --kernel-src case/tidelink --index case/index

dmesg | kagent analyze

[bold]Exit codes[/]

""" + " · ".join(f"{code:d} {meaning}" for code, meaning in EXIT_CODES.items())
_GROUPS = ("source", "index")
_PACKAGES = ("langgraph", "langchain-core", "drgn", "faiss-cpu", "pydantic", "typer")


class _Commands(TyperGroup):
    """Imports a group of commands only when it is listed or run."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        at = names.index("mcp")
        return [*names[:at], *_GROUPS, *names[at:]]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in _GROUPS:
            command = typer.main.get_group(import_module(f"kagent.cli.{cmd_name}").app)
            command.name = cmd_name
            return command
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="kagent",
    cls=_Commands,
    help=_ABOUT,
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        emit(f"kagent {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    if not {"-h", "--help"} & set(sys.argv[1:]):
        check_names()


def version() -> None:
    """Print the versions of kagent, Python and the libraries that matter in a bug report."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    rows = {"kagent": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            rows[name] = installed(name)
        except PackageNotFoundError:
            rows[name] = "not installed"
    emit("".join(f"{name:<10} {number}\n" for name, number in rows.items()))


def decode(context: typer.Context) -> None:
    """Write the source line behind every frame of a log; all else stays byte for byte."""
    from kagent.cli.decode import run

    run(context.args)


def _examples(*lines: str) -> str:
    return "\n\n".join(("[bold]Examples[/]", *lines))


# Every example runs as it stands where `kagent demo --keep case` ran before; a test does that.
app.command(
    epilog=_examples(
        "kagent analyze case/console.log --modules case/modules --kernel-src case/tidelink",
        "kagent analyze case/console.log --index case/index -o case/crash.html",
        "kagent analyze --json < case/console.log",
    )
)(analyze)
app.command(
    epilog=_examples("kagent parse case/console.log", "kagent parse --json case/console.log")
)(parse)
app.command(epilog=_examples("kagent reformat case/console.log"))(reformat)
app.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)(decode)
app.command(
    epilog=_examples("kagent demo", "kagent demo --sample cve-2025-37958", "kagent demo --list")
)(demo)
app.command(
    name="fix-status",
    epilog=_examples(
        "kagent analyze case/console.log --index case/index --json -o case/report.json",
        "kagent fix-status --from-report case/report.json --kernel-src case/tidelink",
    ),
)(fix_status)
app.command(epilog=_examples("kagent mcp --kernel-src case/tidelink --index case/index"))(mcp)
app.command()(version)
