"""``kagent parse`` and ``kagent reformat``: what the log parser alone makes of a log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from kagent.cli.options import Log, MaxLogBytes
from kagent.cli.output import emit, emit_bytes
from kagent.cli.reading import DEFAULT_MAX_BYTES, read_log, read_log_bytes
from kagent.errors import NoReportError

if TYPE_CHECKING:
    from kagent.klog.model import KernelLog, Report

__all__ = ["parse", "reformat"]


def parse(
    log: Log = "-",
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    max_log_bytes: MaxLogBytes = DEFAULT_MAX_BYTES,
) -> None:
    """List the kernel reports of a log: titles, kinds, spans and frames."""
    from kagent.klog import parse_log

    found = parse_log(read_log(log, max_bytes=max_log_bytes))
    emit(_as_json(found) if json else "".join(f"{line}\n" for line in _lines(found)))
    if not found.reports:
        raise NoReportError("no kernel report was found in the log")


def reformat(log: Log = "-", max_log_bytes: MaxLogBytes = DEFAULT_MAX_BYTES) -> None:
    """Print the log with its call traces in canonical form; other lines stay as they are."""
    from kagent.klog import reformat as canonical

    text = read_log_bytes(log, max_bytes=max_log_bytes).decode("utf-8", "surrogateescape")
    emit_bytes(canonical(text).encode("utf-8", "surrogateescape"))


def _as_json(found: KernelLog) -> str:
    import dataclasses
    import json

    content = {"primary": found.primary, **dataclasses.asdict(found)}
    return json.dumps(content, indent=2) + "\n"


def _lines(found: KernelLog) -> Iterator[str]:
    for number, report in enumerate(found.reports):
        yield from _report_lines(number, report, primary=number == found.primary)


def _report_lines(number: int, report: Report, *, primary: bool) -> Iterator[str]:
    from kagent.text import strip_control

    context = report.context
    yield strip_control(f"{'▶' if primary else ' '} {number + 1}  {report.title}")
    facts = [report.kind, f"bytes {report.span[0]}–{report.span[1]}"]
    if context.task is not None:
        facts.append(f"{context.task}[{context.pid}]" if context.pid is not None else context.task)
    facts += [fact for fact in (context.kernel, context.arch) if fact]
    if report.caused_by is not None:
        facts.append(f"consequence of {report.caused_by + 1}")
    if report.repeats:
        facts.append(f"repeated {report.repeats}×")
    if report.corrupted:
        facts.append(f"damaged: {report.corrupted_reason}")
    yield "     " + strip_control(", ".join(facts))
    role = None
    for at, frame in report.all_frames():
        if at != role:
            yield f"     {at}:"
            role = at
        yield "       " + strip_control(f"{'' if frame.reliable else '? '}{frame}")
    yield ""
