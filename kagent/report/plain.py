"""A resolution in plain lines: what is shown when a view fails.

It uses no library and no layout, only the values that the other views are made of.
"""

from __future__ import annotations

import html
from collections.abc import Iterator

from kagent.resolution import Resolution
from kagent.text import strip_control

__all__ = ["to_html", "to_json", "to_markdown", "to_text"]


def to_text(res: Resolution) -> str:
    """One fact a line."""
    return "".join(f"{strip_control(line)}\n" for line in _lines(res))


def to_markdown(res: Resolution) -> str:
    """The same as an indented block, in which nothing is markup."""
    return "".join(f"    {line}\n" for line in to_text(res).splitlines())


def to_html(res: Resolution) -> str:
    """The same as a page of preformatted text."""
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>kagent</title>\n'
        f"<pre>\n{html.escape(to_text(res))}</pre>\n</html>\n"
    )


def to_json(res: Resolution) -> str:
    """The contract, written by pydantic itself."""
    return res.model_dump_json(by_alias=True) + "\n"


def _lines(res: Resolution) -> Iterator[str]:
    if res.incomplete:
        yield "Incomplete."
    yield from (f"failed: {one.part}: {one.error}" for one in res.failures)
    for left in res.left_out:
        total = "an unknown number" if left.total is None else left.total
        yield f"not all {left.what}: {left.kept} of {total} kept ({left.why})"
    for report in res.reports:
        yield f"{'> ' if report.primary else '  '}{report.title}"
    yield from res.summary.splitlines()
    if fault := res.fault:
        yield f"fault: {fault.function or fault.symbol} {fault.file or ''}:{fault.line or '?'}"
        if fault.struct:
            yield f"member: {fault.struct}.{fault.member}"
    if res.deadlock:
        yield f"verdict: {res.deadlock.verdict}: {res.deadlock.reason}"
    yield from res.explanation.splitlines()
    for fix in res.fixes:
        yield f"fix: {fix.hash} {fix.subject} (confidence {fix.confidence:.2f}, {fix.verdict})"
    for kind, steps in (
        ("fix", res.actions.fix),
        ("verify", res.actions.verify),
        ("mitigate", res.actions.mitigate),
    ):
        yield from (f"to {kind}: {step}" for step in steps)
    yield from (f"missing: {one.what}: {one.how}" for one in res.missing)
    yield from (f"note: {note}" for note in res.notes)
