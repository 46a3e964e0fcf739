"""Where results go: standard output, a file, or nowhere when the reader has left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kagent.boundary import collecting, expert
from kagent.cli.files import write_file
from kagent.errors import IncompleteError, InputError, KagentError
from kagent.text import strip_control

if TYPE_CHECKING:
    from kagent.resolution import Failure, Resolution

__all__ = [
    "FORMATS",
    "emit",
    "emit_bytes",
    "pick_format",
    "render",
    "say",
    "say_incomplete",
    "show_error",
    "write_resolution",
]

FORMATS = {".json": "json", ".md": "markdown", ".markdown": "markdown", ".html": "html"}
"""File name endings that choose a format when no option does."""

_PIPED_WIDTH = 100
_MAX_WIDTH = 130
_FAILURES = 3


def emit(text: str) -> None:
    """Write to standard output as UTF-8, whatever the locale says."""
    emit_bytes(text.encode("utf-8", "replace"))


def emit_bytes(data: bytes) -> None:
    """Write `data`, byte for byte."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


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


def write_resolution(
    res: Resolution,
    form: str,
    output: Path | None,
    *,
    strict: bool = False,
    model: str | None = None,
) -> None:
    """Render `res` and write it to `output`, or to standard output.

    What is incomplete is said first, on standard error. With `strict` it is an error, once all is
    written; and so it is when `model`, which was asked for, did not speak. Without, that is said.

    Raises:
        InputError: the file cannot be written.
        OutputError: there is no room for it, or standard output is closed.
        IncompleteError: `strict`, and there are gaps.
    """
    with collecting() as failures:
        text = render(res, form, output)
    incomplete = say_incomplete([*res.failures, *failures]) or res.incomplete
    if incomplete and not (res.failures or failures):
        say("kagent: incomplete: something that was asked for was not done; the notes say what")
    if output is None:
        emit(text)
    else:
        write_file(output, text.encode("utf-8", "replace"))
    if strict and incomplete:
        raise IncompleteError("the result is incomplete, which --strict does not accept")
    if model and res.engine.kind != "model":
        why = _why_silent(res)
        silent = f"the model {model} was asked for, and did not speak{why}"
        if strict:
            raise IncompleteError(silent)
        if why:
            say(f"kagent: {silent}")


def _why_silent(res: Resolution) -> str:
    """Empty where a failure has said it already."""
    from kagent.resolution import NO_MODEL_ANSWER as BEGIN

    return "".join(f": {note.removeprefix(BEGIN)}" for note in res.notes if note.startswith(BEGIN))


def say_incomplete(failures: Sequence[Failure]) -> bool:
    """One line on what failed, if anything did: the first few, and how many more."""
    if not failures:
        return False
    told = [f"{one.part} failed ({one.error})" for one in failures[:_FAILURES]]
    if (more := len(failures) - _FAILURES) > 0:
        told.append(f"{more} more")
    say(f"kagent: incomplete: {', '.join(told)}; the rest stands")
    return True


def _plain(res: Resolution, form: str, _output: Path | None) -> str:
    """The same without the view that failed."""
    from kagent.report import plain

    views = {"json": plain.to_json, "markdown": plain.to_markdown, "html": plain.to_html}
    return views.get(form, plain.to_text)(res)


@expert("view", otherwise=_plain)
def render(res: Resolution, form: str, output: Path | None) -> str:
    """`res` in the form that was asked for, or plainly where that view fails."""
    return _rendered(res, form, output)


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
