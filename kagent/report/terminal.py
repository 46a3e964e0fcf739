"""The Error Resolution Summary for a terminal; without colours where the output is piped.

Everything is built from `rich.text.Text`, never from markup strings, so brackets in the log mean
nothing to rich.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from kagent.commits.packing import short_hash
from kagent.report.decoded import Code, Stack
from kagent.report.facts import Fact
from kagent.report.prose import Block, Span, one_line
from kagent.report.summary import FixEntry, Summary, WaitRow, summarise
from kagent.resolution import Resolution
from kagent.text import clip

__all__ = ["render", "to_text"]

_STYLES = {"text": "", "code": "cyan", "strong": "bold", "em": "italic", "ref": "magenta"}
_FACTS = ("kernel", "debug-info", "source")
_LEDGER_CHARS = 120
_LEDGER_ROWS = 24


def render(res: Resolution) -> RenderableType:
    """The summary as one renderable that fits itself to the console's width."""
    summary = summarise(res)
    parts: list[RenderableType] = [_headline(summary)]
    for title, part in _PARTS:
        body = list(part(summary))
        if body:
            rule = Rule(Text(title, "bold cyan"), align="left", style="cyan")
            parts += [Text(), rule, *(Padding(item, (0, 0, 0, 1)) for item in _trim(body))]
    return Group(*parts)


def _trim(body: list[RenderableType]) -> list[RenderableType]:
    """Without the blank line after the last block."""
    return body[:-1] if isinstance(body[-1], Text) and not body[-1].plain else body


def to_text(res: Resolution, *, width: int = 100, color: bool = False) -> str:
    """The same as a string, `width` columns wide, with ANSI colours if `color`."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        force_jupyter=False,
        color_system="standard" if color else None,
        legacy_windows=False,
    )
    console.print(render(res))
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _headline(summary: Summary) -> RenderableType:
    parts: list[RenderableType] = [
        *_shortcomings(summary),
        Text(summary.title, "bold red", overflow="fold"),
        Text(summary.subtitle, "dim"),
    ]
    if summary.lead:
        parts += [Text(), _prose(summary.lead)]
    if summary.facts:
        parts += [Text(), _facts(summary.facts)]
    return Group(*parts)


def _shortcomings(summary: Summary) -> Iterator[RenderableType]:
    """What the reader must know before anything else: this is not all there is."""
    if summary.incomplete:
        yield Text(summary.incomplete, "bold yellow", overflow="fold")
    for failure in summary.failures:
        yield _bullet((Span("text", f"{failure.part}: {failure.error}"),))
    for words in summary.left_out:
        yield _bullet((Span("text", f"not all {words}"),))
    if summary.incomplete or summary.left_out:
        yield Text()


def _identification(summary: Summary) -> Iterator[RenderableType]:
    yield Text(summary.found)
    if len(summary.reports) > 1 or any(row.notes for row in summary.reports):
        table = _table("#", "Report", "Kind", "Notes")
        for row in summary.reports:
            style = "bold" if row.primary else ""
            number = Text(f"{'▶' if row.primary else ' '}{row.number}", style)
            cells = (_cell(row.title, style), _cell(row.kind), _cell(row.notes, "dim"))
            table.add_row(number, *cells)
        yield table


def _decoded(summary: Summary) -> Iterator[RenderableType]:
    if summary.fault:
        yield _facts(summary.fault)
        yield Text()
    if summary.code:
        yield from (_source(summary.code), Text())
    for stack in summary.stacks:
        yield from (Text(stack.title, "bold"), _stack(stack), Text())
    if summary.memory:
        yield from (Text("Memory", "bold"), _facts(summary.memory), Text())


def _locks(summary: Summary) -> Iterator[RenderableType]:
    if not summary.verdict:
        return
    yield _facts(summary.verdict)
    if summary.tree:
        yield Text()
        yield from (Text(line, overflow="fold") for line in summary.tree)
    for lines in summary.columns:
        yield from (Text(), Text("How it comes about", "bold"))
        yield from (Text(line, no_wrap=True, overflow="ellipsis") for line in lines)


def _source(code: Code) -> RenderableType:
    from rich.syntax import Syntax

    rows = code.numbered()
    width = len(str(rows[-1][0]))
    syntax = Syntax("", "c", theme="ansi_dark", background_color="default")
    bare = "\n".join(row for _, row, _ in rows)
    lines = syntax.highlight(bare).split("\n", allow_blank=True)
    listing = [Text(code.origin, "dim", overflow="fold")]
    for (number, _, marked), line in zip(rows, lines, strict=False):
        style = "bold red" if marked else "dim"
        gutter = Text().append(f"{'▶' if marked else ' '} {number:>{width}} ", style)
        gutter.append("│ ", "dim")
        line.rstrip()
        if marked:
            line.stylize("bold")
        listing.append(gutter.append_text(line))
    return Group(*listing)


def _stack(stack: Stack) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", ratio=None)
    table.add_column(overflow="fold")
    marks = {"fault": ("▶ ", "bold red"), "own": ("▷ ", "bold yellow"), "": ("  ", "")}
    for line in stack.lines:
        sign, style = marks[line.mark]
        name = Text("  " * line.inlined).append(line.text, style or None)
        name = Text().append(sign, style or None).append_text(name)
        if line.inlined:
            name.append(" (inlined)", "dim")
        where = Text(overflow="fold").append(line.where, "green")
        if line.note:
            where.append(f"  {line.note}" if line.where else line.note, "dim")
        table.add_row(name, where)
    for words in stack.remarks:
        table.add_row(Text(f"  … {words}", "dim"), Text())
    return table


def _waits(rows: Sequence[WaitRow]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        task = Text(row.task, "bold")
        facts = (
            ("waits for", _cell(row.waits_for)),
            ("in", _cell(row.where, "green")),
            ("holds", _cell(row.holds)),
        )
        for label, value in facts:
            if value.plain:
                table.add_row(task, label, value)
                task = Text()
    return table


def _fixes(summary: Summary) -> Iterator[RenderableType]:
    if not summary.fixes:
        yield Text(summary.fixes_note, "dim")
        return
    if summary.fixes_note:
        yield Text(summary.fixes_note, "yellow")
    table = _table("Commit", "Sure", "Fix")
    for fix in summary.fixes:
        confidence = Text(fix.confidence, justify="right")
        table.add_row(Text(clip(short_hash(fix.hash), 40)[0], "yellow"), confidence, _fix(fix))
    yield table


def _fix(fix: FixEntry) -> RenderableType:
    whys = (_bullet(why) for why in fix.why)
    return Group(_cell(fix.subject, "bold"), _cell(fix.by, "dim"), _cell(fix.status), *whys)


def _comprehension(summary: Summary) -> Iterator[RenderableType]:
    for block in summary.explanation:
        yield _block(block)
    if summary.explanation:
        yield Text()
    for claim, by in summary.findings:
        yield _bullet((*claim, Span("text", f" ({by})")))
    if summary.findings:
        yield Text()
    if summary.unverified:
        yield Text("Rejected by verification", "bold")
        yield from map(_bullet, summary.unverified)
        yield Text()


def _solution(summary: Summary) -> Iterator[RenderableType]:
    for heading, steps in summary.actions:
        yield Text(heading, "bold green")
        yield from map(_bullet, steps)


def _missing(summary: Summary) -> Iterator[RenderableType]:
    for what, how in summary.missing:
        yield _bullet((*what, Span("text", ": "), *how) if how else what)


def _ledger(summary: Summary) -> Iterator[RenderableType]:
    """What the text cites; a long ledger is for the views one can search in."""
    if not summary.evidence:
        return
    shown = [item for item in summary.evidence if item.id in summary.cited][:_LEDGER_ROWS]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="magenta", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="green", no_wrap=True, max_width=44)
    table.add_column(style="dim")
    for item in shown:
        words, cut = clip(one_line(item.content), _LEDGER_CHARS)
        content = Text(words + "…" * cut, overflow="ellipsis", no_wrap=True)
        kind = item.kind if item.author in _FACTS else f"{item.kind} ({item.author})"
        table.add_row(Text(item.id), Text(kind), Text(one_line(item.origin)), content)
    yield table
    rest = len(summary.evidence) - len(shown)
    if rest:
        yield Text(f"… and {rest} more, with their whole text in --html, --markdown, --json", "dim")


def _colophon(summary: Summary) -> Iterator[RenderableType]:
    yield _facts(summary.engine)
    yield from (_bullet(note, "dim") for note in summary.notes)
    for failure in summary.failures:
        if failure.trace:
            yield Text(f"where {failure.part} failed, for a bug report:", "dim")
            yield from (Text(f"  {row}", "dim", overflow="fold") for row in failure.trace)


_PARTS: tuple[tuple[str, Callable[[Summary], Iterator[RenderableType]]], ...] = (
    ("1 Issue identification", _identification),
    ("2 Decoded stack and faulting code", _decoded),
    ("  Locks", _locks),
    ("3 Fixes found", _fixes),
    ("4 What went wrong", _comprehension),
    ("5 What to do", _solution),
    ("What is missing", _missing),
    ("Evidence", _ledger),
    ("Engine", _colophon),
)


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _cell(text: str, style: str = "") -> Text:
    return Text(text, style, overflow="fold")


def _facts(facts: Iterable[Fact]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in facts:
        table.add_row(Text(label), _cell(value))
    return table


def _prose(spans: Sequence[Span], style: str = "") -> Text:
    text = Text(style=style, overflow="fold")
    for span in spans:
        words = f"[{span.text}]" if span.style == "ref" else span.text
        text.append(words, _STYLES[span.style] or None)
    return text


def _bullet(spans: Sequence[Span], style: str = "", marker: str = "•", depth: int = 0) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text("  " * depth + marker, style or "dim"), _prose(spans, style))
    return table


def _block(block: Block) -> RenderableType:
    match block.kind:
        case "code":
            return Padding(Text(block.code, "cyan", overflow="fold"), (0, 0, 0, 4))
        case "heading":
            return _prose(block.spans, "bold")
        case "item":
            marker = block.marker.replace("-", "•") or " "
            return _bullet(block.spans, marker=marker, depth=block.depth)
        case "paragraph":
            return _prose(block.spans)
