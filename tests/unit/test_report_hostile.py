"""Nothing a log or a model says may act on a terminal, a browser or a Markdown reader."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support.resolutions import deadlock_resolution, oops_resolution

from kagent.report.html import to_html
from kagent.report.markdown import to_markdown
from kagent.report.prose import inline, parse_markdown, plain
from kagent.report.terminal import to_text
from kagent.resolution import Evidence, Resolution

PIECES = st.sampled_from(
    [
        "\x1b[31m",
        "\x1b]0;title\x07",
        "\x1b]8;;http://evil.example/\x1b\\",
        "\x9b2J",
        "\u202e",
        "[bold red]",
        "[/]",
        "[link=http://evil.example]",
        ":smile:",
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "</pre></div>",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "![x](http://evil.example/p.png)",
        "[click](javascript:alert(1))",
        "<http://evil.example>",
        "[x]: http://evil.example",
        "```",
        "`````",
        "~~~",
        "`",
        "# heading",
        "\n# heading",
        "\n---\n",
        "\n| a | b |\n|---|---|\n",
        "> quote",
        "- item",
        "1. item",
        "    indented",
        "**bold**",
        "_x_",
        "__x64_sys_write",
        "&amp;",
        "&lt;b&gt;",
        "|",
        "\\",
        "\\|",
        "$x$",
        "[E1]",
        "@someone",
        "\t",
        "\n",
        " ",
        "x",
        "\x00",
        "\r",
    ]
)
HOSTILE = st.lists(PIECES | st.text(max_size=6), max_size=8).map("".join)
LIMITED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def poisoned(evil: str) -> Resolution:
    """A resolution that says `evil` wherever a log, a commit or a model could."""
    res = oops_resolution().model_copy(update={"deadlock": deadlock_resolution().deadlock})
    report, fault, fix = res.reports[0], res.fault, res.fixes[0]
    assert fault is not None
    assert res.memory is not None
    assert res.deadlock is not None
    report.title = report.task = report.hardware = report.kernel = report.taint = evil
    report.alt_titles = [evil]
    report.frames[0].symbol = report.frames[1].note = report.frames[3].file = evil
    report.frames[0].inline[0].function = evil
    fault.instruction = fault.expression = fault.struct = evil
    res.memory.cache = res.memory.object = evil
    res.deadlock.reason = evil
    res.deadlock.cycles[0][0].holds = [evil]
    res.deadlock.victims[0].task = evil
    fix.subject = fix.author = evil
    fix.why, fix.status.branches_with = [evil], [evil]
    res.summary = res.reformatted = evil
    res.explanation = f"{evil}\n\n- {evil}\n\n{evil}"
    res.findings[0].claim = res.missing[0].how = evil
    res.actions.fix, res.unverified, res.notes = [evil], [evil], [evil]
    res.evidence.append(Evidence(id="E4", kind="log", content=evil, origin=evil))
    return Resolution.model_validate(res.model_dump())


class Tags(HTMLParser):
    """Every element and attribute of a page, and the text outside of style sheets."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[tuple[str, ...]] = set()
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.add((tag, *(name for name, _ in attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)
        for name, value in attrs:
            assert name != "href" or value.startswith("#E")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


TAGS = Tags(to_html(poisoned("x"))).seen


@given(HOSTILE)
@LIMITED
def test_html_has_only_the_elements_of_its_template(evil):
    page = Tags(to_html(poisoned(evil)))
    assert page.open == []
    extra = {one[0] for one in page.seen} - {one[0] for one in TAGS}
    # What Markdown of an explanation may become, and nothing else.
    assert extra <= {"strong", "em", "code", "h3", "pre", "p"}
    assert not any(name[:2] == "on" for one in page.seen for name in one[1:])


@given(HOSTILE)
@LIMITED
def test_the_terminal_gets_text_and_colours_only(evil):
    bare = re.sub(r"\x1b\[[\d;]*m", "", to_text(poisoned(evil), color=True))
    bad = {c for c in bare if unicodedata.category(c) == "Cc" and c not in "\n\t"}
    assert not bad
    assert not set(bare) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2028\u2029")


@given(HOSTILE)
@LIMITED
def test_markdown_keeps_hostile_text_as_text(evil):
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = parser.parse(to_markdown(poisoned(evil)))
    inner = [child for token in tokens for child in token.children or ()]
    kinds = {token.type for token in (*tokens, *inner)}
    assert not kinds & {"html_block", "html_inline", "image", "hr", "blockquote_open", "lheading"}
    links = {token.attrGet("href") for token in inner if token.type == "link_open"}
    assert links <= {"#e1", "#e2", "#e3", "#e4"}
    headings = [
        tokens[i + 1].content
        for i, token in enumerate(tokens)
        if token.tag in ("h1", "h2") and token.type == "heading_open"
    ]
    assert headings[1:] == [
        "1. Issue identification and reformatted trace",
        "2. Decoded stack and faulting code",
        "3. Fixes found",
        "4. Bug comprehension",
        "5. Solution",
        "What is missing",
        "Evidence",
        "Engine",
    ]


@given(st.lists(st.sampled_from(["`", "``", "```", "````", "~~~", "\n", " ", "a"])).map("".join))
@LIMITED
def test_a_listing_comes_out_of_its_fence_unchanged(text):
    res = oops_resolution()
    res.evidence[1] = Evidence(id="E2", kind="log", content=text, origin="log 0-9")
    fences = [
        t.content for t in MarkdownIt("commonmark").parse(to_markdown(res)) if t.type == "fence"
    ]
    assert f"{text}\n" in fences


@given(st.text(alphabet="ab`*_[]<>|~#+-.!&$\\ 1", max_size=30))
@LIMITED
def test_escaped_prose_reads_as_it_was_written(text):
    res = oops_resolution()
    res.reports[0].title = text
    _, heading, *_ = MarkdownIt("commonmark", {"html": True}).parse(to_markdown(res))
    kinds = {child.type for child in heading.children or ()}
    assert kinds <= {"text", "text_special", "code_inline"}
    assert "".join(c.content for c in heading.children or ()) == " ".join(text.split())


def test_rich_markup_and_emoji_codes_stay_literal(resolution):
    resolution.summary = "[bold]not bold[/bold] :smile:"
    assert "[bold]not bold[/bold] :smile:" in to_text(resolution, color=False)


def test_template_syntax_in_a_log_is_not_run(resolution):
    resolution.summary = "{{ 7 * 7 }} {% include 'x' %}"
    assert "{{ 7 * 7 }} {% include &#39;x&#39; %}" in to_html(resolution)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("see [this](http://evil.example) now", "see this now"),
        ("![alt](http://evil.example/x.png)", "alt"),
        ("<b>x</b>", "<b>x</b>"),
        ("a `code` and [E1, E2]", "a code and [E1][E2]"),
    ],
)
def test_markdown_of_a_model_keeps_its_words_only(text, words):
    (block,) = parse_markdown(text)
    assert plain(block.spans) == words


def test_lists_headings_and_code_are_kept():
    blocks = parse_markdown("# A\n\n1. one\n   - deep\n2. two\n\n```c\nint x;\n```\n")
    assert [(b.kind, b.depth, b.marker, plain(b.spans) or b.code) for b in blocks] == [
        ("heading", 0, "", "A"),
        ("item", 0, "1.", "one"),
        ("item", 1, "-", "deep"),
        ("item", 0, "2.", "two"),
        ("code", 0, "", "int x;"),
    ]


def test_code_and_references_are_found_in_one_line():
    assert [(s.style, s.text) for s in inline("read\n`b->n` [E1, E12] and [not] `")] == [
        ("text", "read "),
        ("code", "b->n"),
        ("text", " "),
        ("ref", "E1"),
        ("ref", "E12"),
        ("text", " and [not] `"),
    ]


@pytest.mark.parametrize("piece", ["`", "[E1,", "``` ", "[", "**", "<", "_", "- ", "> ", "\\"])
def test_large_hostile_text_takes_linear_time(piece, resolution):
    import time

    resolution.summary = resolution.explanation = resolution.reformatted = piece * 8_000
    started = time.monotonic()
    to_markdown(resolution)
    to_text(resolution)
    to_html(resolution)
    assert time.monotonic() - started < 10
