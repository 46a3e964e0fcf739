"""Text that rules, models and logs wrote, cut into a few kinds of blocks and spans.

Views render these and nothing else. So raw HTML, links, images and whatever else Markdown can
carry never reach an output: they arrive as the plain text they are made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["Block", "Span", "SpanStyle", "inline", "one_line", "parse_markdown", "plain"]

SpanStyle = Literal["text", "code", "strong", "em", "ref"]

_MARKS = re.compile(
    r"(?P<tick>`{1,3})(?P<code>[^`\n]{1,500})(?P=tick)(?!`)"
    r"|\[(?P<refs>E\d{1,6}(?:, ?E\d{1,6}){0,31})\]"
)
_BLANKS = re.compile(r"\s+")


class Span(NamedTuple):
    """A run of text in one style; ``ref`` spans hold a single evidence id such as ``E3``."""

    style: SpanStyle
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, list item, or code block (whose text is `code`)."""

    kind: Literal["paragraph", "heading", "item", "code"]
    spans: tuple[Span, ...] = ()
    depth: int = 0
    """Nesting of a list item, from 0."""
    marker: str = ""
    """``-`` or ``1.`` of a list item; empty for its further paragraphs."""
    code: str = ""


def one_line(text: str) -> str:
    """Fold every run of blanks and newlines to one blank."""
    return _BLANKS.sub(" ", text).strip()


def inline(text: str) -> tuple[Span, ...]:
    """Cut one line of prose into text, `` `code` `` and ``[E3]`` references."""
    return tuple(_split(one_line(text), "text"))


def plain(spans: Sequence[Span]) -> str:
    """The spans' words, references in brackets."""
    return "".join(f"[{span.text}]" if span.style == "ref" else span.text for span in spans)


def _split(text: str, style: SpanStyle) -> Iterator[Span]:
    at = 0
    for mark in _MARKS.finditer(text):
        if mark.start() > at:
            yield Span(style, text[at : mark.start()])
        if mark["refs"] is None:
            yield Span("code", mark["code"])
        else:
            yield from (Span("ref", ref.strip()) for ref in mark["refs"].split(","))
        at = mark.end()
    if at < len(text):
        yield Span(style, text[at:])


def parse_markdown(text: str) -> tuple[Block, ...]:
    """Read CommonMark into blocks. HTML stays literal text; links keep only their words."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 12})
    parser.disable(["html_block", "html_inline", "reference"])
    return tuple(_blocks(parser.parse(text)))


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    numbers: list[int | None] = []
    marker = ""
    heading = False
    for token in tokens:
        match token.type:
            case "bullet_list_open":
                numbers.append(None)
            case "ordered_list_open":
                numbers.append(int(token.attrGet("start") or 1))
            case "bullet_list_close" | "ordered_list_close":
                numbers.pop()
            case "list_item_open":
                number = numbers[-1]
                marker = "-" if number is None else f"{number}."
                if number is not None:
                    numbers[-1] = number + 1
            case "heading_open":
                heading = True
            case "inline":
                spans = tuple(_spans(token.children or []))
                if numbers:
                    yield Block("item", spans, depth=len(numbers) - 1, marker=marker)
                else:
                    yield Block("heading" if heading else "paragraph", spans)
                marker, heading = "", False
            case "fence" | "code_block":
                yield Block("code", code=token.content.rstrip("\n"), depth=len(numbers))
                marker = ""
            case _:
                pass


def _spans(tokens: Sequence[Token]) -> Iterator[Span]:
    style: SpanStyle = "text"
    for token in tokens:
        match token.type:
            case "strong_open":
                style = "strong"
            case "em_open":
                style = "em"
            case "strong_close" | "em_close":
                style = "text"
            case "code_inline":
                yield Span("code", token.content)
            case "softbreak" | "hardbreak":
                yield Span("text", " ")
            case "text" | "image" | "text_special":
                yield from (s for s in _split(token.content, style) if s.text)
            case _:
                pass
