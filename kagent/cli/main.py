"""The program ``kagent``: where it starts, how it reports errors, and its exit codes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from kagent.cli.output import say, show_error
from kagent.cli.streams import checked_streams
from kagent.errors import ExitCode, KagentError, MissingDataError, OutputError

__all__ = ["main"]


def main() -> None:
    """Run the program and exit with a code of `kagent.errors.EXIT_CODES`.

    Errors raised on purpose become one line and a hint, and so does what the machine refuses: a
    disk that is full, memory that ran out. Anything else is a bug, and shows its innermost calls.
    """
    with checked_streams():
        ended = _outcome(_run)
        # A server closes standard output itself when its client hangs up.
        written = _outcome(lambda: None if sys.stdout.closed else sys.stdout.flush())
    sys.exit(ended or written)


def _outcome(call: Callable[[], None]) -> int | str | None:
    try:
        call()
    except SystemExit as asked:
        return asked.code
    except KagentError as error:
        show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - Python would exit with 1, which means "no report" here
        if (refusal := _refused(error)) is None:
            _show_bug(error)
            return ExitCode.BUG
        show_error(refusal)
        return ExitCode.MISSING
    return None


def _refused(error: Exception) -> KagentError | None:
    """What the machine or the installation refuses, in words; None for a bug."""
    match error:
        case OSError():
            named = f"{error.filename}: " if error.filename is not None else ""
            return OutputError(f"{named}{error.strerror or error}")
        case MemoryError():
            return OutputError("out of memory")
        case RuntimeError() if str(error) == "can't start new thread":  # CPython's own words
            return OutputError(f"{error}: memory or processes are limited (ulimit -v, -u)")
        case ModuleNotFoundError() if (error.name or "kagent").partition(".")[0] != "kagent":
            needed = "install kagent again, with what it depends on"
            return MissingDataError(f"the package {error.name} is missing", hint=needed)
    return None


def _show_bug(error: Exception) -> None:
    from kagent.boundary import describe

    bug = describe("kagent", error)
    say(f"kagent: bug: {bug.error}")
    for call in bug.trace:
        say(f"  at {call}")
    say("hint: report it with these lines; the log itself may stay with you")


def _run() -> None:
    if sys.argv[1:2] == ["decode"]:
        # A filter: loading all other commands takes longer than it needs for a trace, and so does
        # looking for garbage among the modules it loads.
        gc.set_threshold(50_000)
        from kagent.cli.decode import run

        run(sys.argv[2:])
        return
    if sys.flags.optimize > 1:
        raise MissingDataError(
            "Python runs without docstrings, which the tools of this command need",
            hint="leave -OO (PYTHONOPTIMIZE=2) out",
        )
    from kagent.cli.app import app

    app(prog_name="kagent")
