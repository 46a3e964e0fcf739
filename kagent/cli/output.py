"""Where results go: standard output, a file, or nowhere when the reader has left."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kagent.errors import InputError, KagentError
from kagent.text import strip_control

if TYPE_CHECKING:
    from kagent.resolution import Resolution

__all__ = [
    "FORMATS",
    "check_output",
    "emit",
    "emit_bytes",
    "pick_format",
    "say",
    "show_error",
    "write_resolution",
]

FORMATS = {".json": "json", ".md": "markdown", ".markdown": "markdown", ".html": "html"}
"""File name endings that choose a format when no option does."""

_SIGPIPE_EXIT = 128 + 13
_PIPED_WIDTH = 100
_MAX_WIDTH = 130


def emit(text: str) -> None:
    """Write to standard output as UTF-8, whatever the locale says."""
    emit_bytes(text.encode("utf-8", "replace"))


def emit_bytes(data: bytes) -> None:
    """Write `data`, byte for byte; end like any Unix filter when the pipe is closed."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The interpreter flushes again at exit; give it something to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_SIGPIPE_EXIT)


def say(text: str) -> None:
    """A line for the person at the terminal, on standard error."""
    print(strip_control(text), file=sys.stderr, flush=True)


def show_error(error: KagentError) -> None:
    """``kagent: error: ...`` and, where there is one, ``hint: ...``."""
    say("kagent: error: " + " ".join(str(error).split()))
    if error.hint:
        say("hint: " + " ".join(error.hint.split()))


def pick_format(*, json: bool, markdown: bool, html: bool, output: Path | None) -> str:
    """``text``, ``json``, ``markdown`` or ``html``; an option wins over the file's ending."""
    chosen = [name for name, on in (("json", json), ("markdown", markdown), ("html", html)) if on]
    if len(chosen) > 1:
        raise InputError(f"choose one of --{' and --'.join(chosen)}")
    if chosen:
        return chosen[0]
    return FORMATS.get(output.suffix.lower(), "text") if output else "text"


def check_output(output: Path | None) -> None:
    """Fail before the work is done rather than after it.

    Raises:
        InputError: `output` can be no file.
    """
    if output is None:
        return
    if output.is_dir():
        raise InputError(f"{output} is a directory", hint="name a file in it")
    if not output.parent.is_dir():
        raise InputError(f"{output} cannot be written: no directory {output.parent}")


def write_resolution(res: Resolution, form: str, output: Path | None) -> None:
    """Render `res` and write it to `output`, or to standard output.

    Raises:
        InputError: the file cannot be written.
    """
    text = _rendered(res, form, output)
    if output is None:
        emit(text)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from error


def _rendered(res: Resolution, form: str, output: Path | None) -> str:
    match form:
        case "json":
            from kagent.report.json import to_json

            return to_json(res)
        case "markdown":
            from kagent.report.markdown import to_markdown

            return to_markdown(res)
        case "html":
            from kagent.report.html import to_html

            return to_html(res)
        case _:
            from kagent.report.terminal import to_text

            width, color = _terminal(output)
            return to_text(res, width=width, color=color)


def _terminal(output: Path | None) -> tuple[int, bool]:
    """Width and colours: those of the terminal, plain and of fixed width elsewhere."""
    from rich.console import Console

    console = Console()
    if output is not None or not console.is_terminal:
        return _PIPED_WIDTH, False
    color = console.color_system is not None and not console.no_color
    return min(console.width, _MAX_WIDTH), color
