"""Whoever wrote a name, a message or a subject: what every view makes of it is words to read.

Markdown is rendered the way forges do, with addresses made into links; then the text outside of
code is searched for what GitHub, GitLab and Bugzilla act on.
"""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from support.resolutions import deadlock_resolution, oops_resolution

from kagent.report.html import to_html
from kagent.report.json import to_json
from kagent.report.markdown import to_markdown
from kagent.report.notebook import mimebundle
from kagent.report.terminal import to_text
from kagent.resolution import Evidence, Failure, LeftOut, Resolution

LIMITED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}

# What a forge turns into a link, a notice to somebody, a picture or an action.
ACTIVE = [
    "@torvalds",
    "(@org/team)",
    "@all",
    "#123",
    "owner/name#1",
    "GH-12",
    "!45",
    "group/project!6",
    "~bug",
    '~"two words"',
    "%7.0",
    "$12",
    "&34",
    "^alert#5",
    "[issue:8]",
    "*iteration:3",
    "4f0d1c9a7be2d1c9a7be24f0d1c9a7be24f0d1c9",
    "4f0d1c9",
    "4f0d1c9...5a0d1c9",
    "https://evil.example/x",
    "HTTP://EVIL.EXAMPLE",
    "ftp://evil.example",
    "www.evil.example",
    "evil.com",
    "evil.com/pwn.sh",
    "//evil.example",
    "mailto:a@evil.example",
    "root@evil.example",
    "git@evil.example:x.git",
    ":tada:",
    "CVE-2026-1234",
    "bug 123",
    "Bugs 1",
    "comment 4",
    "attachment 5",
    "bug #77",
    "/close",
    "/assign me",
    "[[_TOC_]]",
    "[TOC]",
    "[^1]",
    "[^1]: note",
    "[ ] task",
    "[x] done",
    "$a$",
    "$$a$$",
    "$`a`$",
    "{+ in +}",
    "[- out -]",
    "::include{file=x}",
    "> [!NOTE]",
    ">>>",
    "---",
    "===",
    "# head",
    "| a | b |",
    "<details open>",
    "<!-- x -->",
    "![x](http://evil.example/x.png)",
    "[x](http://evil.example)",
    "[x]: http://evil.example",
    "```\n/close\n```\n/close",
    "Look!",
    "<http://evil.example>",
]
REFERENCES = re.compile(
    r"(?:^|\W)@[a-z0-9]|#\d|\bGH-\d|(?:^|\W)[!~%$&^]\d|\b[0-9a-f]{7,40}\b"
    r"|:[a-z0-9_+-]+:|\b(?:bug|comment|attachment)s?\s*#?\d|://|\bwww\.|\w@\w|\.com\b"
    r"|\[\[|\[TOC\]|\[issue:|\{\+|\[-|\$",
    re.IGNORECASE,
)
QUICK_ACTION = re.compile(r"^/[a-z]", re.MULTILINE)


def poisoned(evil: str) -> Resolution:
    """A resolution that says `evil` in every field of text that a stranger can reach."""
    res = oops_resolution().model_copy(update={"deadlock": deadlock_resolution().deadlock})
    report, fault, fix = res.reports[0], res.fault, res.fixes[0]
    assert fault is not None
    assert res.memory is not None
    assert res.memory.access is not None
    assert res.deadlock is not None
    report.title = report.task = report.hardware = report.kernel = report.taint = evil
    report.kind = report.corrupted_reason = evil
    report.corrupted, report.alt_titles = True, [evil]
    report.frames[0].symbol = report.frames[1].note = report.frames[3].file = evil
    report.frames[0].inline[0].function = report.frames[2].module = evil
    report.frames[5].trace = evil
    fault.instruction = fault.expression = fault.struct = fault.symbol = evil
    res.memory.cache = res.memory.object = res.memory.access.task = evil
    res.deadlock.reason = evil
    for member in res.deadlock.cycles[0]:
        member.holds, member.task, member.waits_for, member.lock_type = [evil], evil, evil, evil
    for victim in res.deadlock.victims:
        victim.task = victim.waits_for = evil
    assert res.subsystem is not None
    res.subsystem.name = evil
    fix.subject = fix.author = fix.date = fix.hash = evil
    fix.why, fix.status.branches_with, fix.status.upstream_tag = [evil], [evil], evil
    res.summary = res.reformatted = evil
    res.explanation = f"{evil}\n\n- {evil}\n\n{evil}"
    for finding in res.findings:
        finding.claim = finding.by = evil
    for missing in res.missing:
        missing.what = missing.how = evil
    res.actions.fix = res.actions.verify = res.actions.mitigate = [evil]
    res.unverified, res.notes = [evil], [evil]
    res.engine.model = res.engine.endpoint = evil
    res.incomplete = True
    res.failures = [Failure(part=evil, error=evil, trace=[evil])]
    res.left_out = [LeftOut(what=evil, kept=1, total=None, why=evil)]
    res.evidence.append(Evidence(id="E4", kind="log", content=evil, origin=evil, author="user"))
    return Resolution.model_validate(res.model_dump())


def rendered(markdown: str, *, linkify: bool) -> tuple[list[Token], list[Token]]:
    """Block and inline tokens."""
    parser = MarkdownIt("gfm-like" if linkify else "commonmark", {"html": True, "linkify": linkify})
    parser.enable("table")
    tokens = parser.parse(markdown)
    return tokens, [child for token in tokens for child in token.children or ()]


def check_inert(evil: str, *, linkify: bool) -> None:
    markdown = to_markdown(poisoned(evil))
    tokens, inner = rendered(markdown, linkify=linkify)
    kinds = {token.type for token in (*tokens, *inner)}
    assert not kinds & {"html_block", "html_inline", "image", "hr", "blockquote_open", "lheading"}
    links = {str(token.attrGet("href")) for token in inner if token.type == "link_open"}
    assert links <= {"#e1", "#e2", "#e3", "#e4"}
    for token in tokens:
        # Forges search one text node at a time: nothing is found across the edge of a style.
        words = "".join(
            child.content if child.type in ("text", "text_special") else "`"
            for child in token.children or ()
        )
        assert not REFERENCES.search(words), words
    assert not QUICK_ACTION.search(markdown)
    assert not re.search(r"^\s*(?:[-*+]|\d+\.) \[[ x]\] ", markdown, re.MULTILINE)


@pytest.mark.parametrize("evil", ACTIVE)
def test_no_forge_acts_on_markdown(evil: str) -> None:
    check_inert(evil, linkify=False)
    check_inert(f"words {evil} more", linkify=False)
    check_inert(f"({evil}), and [E1]{evil}`x`", linkify=False)


@pytest.mark.parametrize("evil", ACTIVE)
def test_no_address_becomes_a_link(evil: str) -> None:
    pytest.importorskip("linkify_it", reason="needs linkify-it-py")
    check_inert(evil, linkify=True)
    check_inert(f"a {evil}, b {evil}. {evil}", linkify=True)


@given(st.lists(st.sampled_from([*ACTIVE, " ", "**", "`", "_", "\n"]), max_size=6).map("".join))
@LIMITED
def test_no_mixture_of_them_does(evil: str) -> None:
    check_inert(evil, linkify=False)


@pytest.mark.parametrize("evil", ACTIVE)
def test_the_words_can_still_be_read(evil: str) -> None:
    """Marks of Markdown are not lost: what a title says is what is shown."""
    res = oops_resolution()
    res.reports[0].title = evil
    _, inner = rendered(to_markdown(res).split("\n\n")[0], linkify=False)
    assert "".join(child.content for child in inner) == " ".join(evil.split())


def test_the_references_to_evidence_stay_links() -> None:
    _, inner = rendered(to_markdown(oops_resolution()), linkify=False)
    assert {token.attrGet("href") for token in inner if token.type == "link_open"} == {
        "#e1",
        "#e2",
        "#e3",
    }


HIDDEN = "a\u202eb\u200bc\U000e0041d\ue000e\x1b[31mf\x07g\u00adh\ufe0fi\u2028j" + "\u0301" * 99


@pytest.mark.parametrize("view", [to_markdown, to_html, to_text, lambda r: str(mimebundle(r))])
def test_nothing_unseen_reaches_a_view(view) -> None:
    page = view(poisoned(HIDDEN))
    assert not {c for c in page if unicodedata.category(c) in UNSEEN and c not in "\t\n"}
    assert "\u0301" * 5 not in page
    for point in ("202e", "200b", "e0041", "e000", "ad", "fe0f", "2028", "301"):
        assert re.search(rf"\\+u\{{{point}\}}", page), point


def test_json_stays_as_it_was_and_is_ascii() -> None:
    text = to_json(poisoned(HIDDEN))
    assert text.isascii()
    assert Resolution.model_validate_json(text).summary == HIDDEN


@given(st.text(max_size=40))
@LIMITED
def test_no_text_makes_a_view_fail(evil: str) -> None:
    res = poisoned(evil)
    for view in (to_markdown, to_html, to_text, to_json, mimebundle):
        assert view(res)


@pytest.mark.parametrize("size", [0, -1, 2**70])
def test_no_number_makes_a_view_fail(size: int) -> None:
    res = oops_resolution()
    res.reports[0].frames[0].offset = res.reports[0].frames[0].line = size
    res.reports[0].pid = res.reports[0].cpu = size
    assert res.fault is not None
    res.fault.address = res.fault.size = res.fault.line = res.fault.offset = size
    res.evidence[0].origin = f"drivers/misc/relayctl.c:{abs(size)}-{abs(size)}"
    for view in (to_markdown, to_html, to_text, to_json, mimebundle):
        assert view(res)
