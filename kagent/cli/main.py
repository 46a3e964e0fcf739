"""The program ``kagent``: where it starts, how it reports errors, and its exit codes."""

from __future__ import annotations

import gc
import sys
import traceback

from kagent.cli.output import show_error
from kagent.errors import KagentError

__all__ = ["main"]

_BUG = 70  # EX_SOFTWARE of sysexits.h


def main() -> None:
    """Run the program and exit.

    Errors raised on purpose become one line and a hint; anything else is a bug and shows its
    traceback. Ctrl-C exits with 130.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        _run()
    except KagentError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001 - Python would exit with 1, which means "no report" here
        traceback.print_exc()
        sys.exit(_BUG)


def _run() -> None:
    if sys.argv[1:2] == ["decode"]:
        # A filter: loading all other commands takes longer than it needs for a trace, and so does
        # looking for garbage among the modules it loads.
        gc.set_threshold(50_000)
        from kagent.cli.decode import run

        run(sys.argv[2:])
        return
    from kagent.cli.app import app

    app(prog_name="kagent")
