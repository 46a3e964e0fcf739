"""What each view shows of a resolution."""

from __future__ import annotations

import json
import re

import pytest

from kagent.report.facts import percent
from kagent.report.html import to_fragment, to_html
from kagent.report.json import to_json
from kagent.report.markdown import to_markdown
from kagent.report.notebook import mimebundle
from kagent.report.summary import summarise
from kagent.report.terminal import to_text
from kagent.resolution import NO_INDEX, Engine, Evidence, FrameView, Missing, Resolution

TEXT_VIEWS = (to_markdown, to_html, to_text)


@pytest.mark.parametrize(
    ("name", "view"), [("md", to_markdown), ("html", to_html), ("txt", to_text), ("json", to_json)]
)
def test_views_of_an_oops_are_as_recorded(resolution, golden, name, view):
    golden(f"report/oops.{name}", view(resolution))


@pytest.mark.parametrize(("name", "view"), [("md", to_markdown), ("txt", to_text)])
def test_views_of_a_deadlock_are_as_recorded(deadlocked, golden, name, view):
    golden(f"report/deadlock.{name}", view(deadlocked))


@pytest.mark.parametrize("view", TEXT_VIEWS)
def test_every_view_has_the_facts_an_engineer_looks_for(resolution, view):
    text = view(resolution)
    for fact in (
        "KASAN: null-ptr-deref Read in relay_switch",
        "Found 2 kernel reports",
        "drivers/misc/relayctl.c:48",
        "relay_bank_has",
        "struct relay_bank.count",
        "4f0d1c9a7be2",
        "misc: relayctl: skip channels without a bank",
        "upstream since v6.13",
        "If you cannot patch",
        "kagent 0.1.0, expert rules",
    ):
        assert fact in text


@pytest.mark.parametrize("primary", [0, 399])
def test_a_flood_of_reports_is_listed_to_a_length_that_can_be_read(resolution, primary):
    one = resolution.reports[0]
    resolution.reports = [
        one.model_copy(update={"title": f"WARNING in rx_{i}", "primary": i == primary})
        for i in range(400)
    ]
    shown = summarise(resolution)
    assert [row.number for row in shown.reports if row.primary] == [primary + 1]
    assert len(shown.reports) == 100 + (primary > 99)
    for view in TEXT_VIEWS:
        text = " ".join(view(resolution).split())
        assert f"number {primary + 1} is the primary one" in text
        assert "The first 100 are listed here, all of them in JSON." in text
        assert "WARNING in rx_99" in text
        assert "WARNING in rx_100" not in text
    assert len(json.loads(to_json(resolution))["reports"]) == 400


def test_json_is_the_contract_and_reads_back(resolution):
    text = to_json(resolution)
    content = json.loads(text)
    assert content["schema"] == "kagent/1"
    assert content["fault"]["pointer"] == {"register": "rbx", "value": 0, "meaning": "NULL"}
    assert list(content)[:3] == ["schema", "engine", "reports"]
    assert Resolution.model_validate(content) == resolution
    assert text.endswith("}\n")


def test_json_is_ascii_so_no_terminal_can_be_steered(resolution):
    resolution.summary = "caf\u00e9 \u202e \u009b31m"
    assert to_json(resolution).isascii()
    assert json.loads(to_json(resolution))["summary"] == resolution.summary


def test_the_excerpt_marks_the_faulting_line(resolution):
    code = summarise(resolution).code
    assert code is not None
    assert [row for row in code.numbered() if row[2]] == [
        (48, "        for (i = 0; i < b->count; i++) {", True)
    ]


def test_an_excerpt_with_line_numbers_in_it_is_not_numbered_twice(resolution):
    rows = resolution.evidence[0].content.splitlines()
    numbered = "\n".join(f"{'>' if n == 48 else ' '}{n}  {row}" for n, row in enumerate(rows, 44))
    bare = summarise(resolution).code
    resolution.evidence[0] = resolution.evidence[0].model_copy(update={"content": numbered})
    assert summarise(resolution).code == bare


def test_source_of_another_file_or_place_is_no_excerpt_of_the_fault(resolution):
    for origin in ("mm/rmap.c:44-53", "drivers/misc/relayctl.c:440-449@v6.12.9", "somewhere"):
        resolution.evidence[0] = resolution.evidence[0].model_copy(update={"origin": origin})
        assert summarise(resolution).code is None


def test_a_long_function_is_cut_to_the_lines_around_the_fault(resolution):
    long = "\n".join(f"line {n}" for n in range(1, 101))
    resolution.evidence[0] = resolution.evidence[0].model_copy(
        update={"content": long, "origin": "drivers/misc/relayctl.c:1-100"}
    )
    code = summarise(resolution).code
    assert code is not None
    assert (code.lines[0], code.lines[-1]) == ("line 41", "line 55")


def test_inlined_functions_stand_above_their_frame_and_the_innermost_is_marked(resolution):
    stack = summarise(resolution).stacks[0]
    assert [(line.text, line.inlined, line.mark) for line in stack.lines[:3]] == [
        ("relay_bank_has", True, "fault"),
        ("relay_switch+0x5c/0x1e0 [relayctl]", False, ""),
        ("relayctl_write+0x141/0x200 [relayctl]", False, ""),
    ]
    assert stack.remarks == ("unreliable entries left out: 1",)


def test_without_lines_the_fault_is_marked_by_its_symbol(resolution):
    assert resolution.fault is not None
    resolution.fault.file = resolution.fault.line = None
    for frame in resolution.reports[0].frames:
        frame.inline, frame.file, frame.line = [], None, None
    stack = summarise(resolution).stacks[0]
    assert [line.text for line in stack.lines if line.mark] == [
        "relay_switch+0x5c/0x1e0 [relayctl]"
    ]


def test_stacks_of_other_kinds_get_their_own_heading(resolution):
    resolution.reports[0].frames += [
        FrameView(symbol="kmalloc_trace", trace="alloc"),
        FrameView(symbol="kfree", trace="free"),
    ]
    titles = [stack.title for stack in summarise(resolution).stacks]
    assert titles == ["Call trace", "Allocated by", "Freed by"]


def test_a_stack_of_hundreds_of_frames_is_cut_and_says_so(resolution):
    frames = [FrameView(symbol=f"level_{n}", offset=4, size=8) for n in range(300)]
    resolution.reports[0].frames = frames
    stack = summarise(resolution).stacks[0]
    assert len(stack.lines) == 60
    assert stack.remarks == ("outer functions left out: 240",)


def test_every_cited_id_resolves_to_the_ledger(resolution):
    html = to_html(resolution)
    targets = set(re.findall(r'id="(E\d+)"', html))
    links = set(re.findall(r'href="#(E\d+)"', html))
    assert links == targets == {"E1", "E2", "E3"}
    markdown = to_markdown(resolution)
    headings = {line[4:].lower() for line in markdown.splitlines() if line.startswith("### E")}
    assert set(re.findall(r"\]\(#(\w+)\)", markdown)) == headings == {"e1", "e2", "e3"}


@pytest.mark.parametrize("view", [to_text, to_markdown, to_html])
def test_no_fix_is_not_said_to_be_found_where_none_was_looked_for(deadlocked, view):
    searched = deadlocked.model_copy(update={"fixes": [], "missing": []})
    lacking = [Missing(what=NO_INDEX, how="kagent index build")]
    blind = searched.model_copy(update={"missing": lacking})
    assert "No candidate fix was found." in view(searched)
    assert "No candidate fix was found." not in view(blind)
    assert "No commit index was given to search." in view(blind)


def test_an_id_that_is_not_in_the_ledger_is_no_link(resolution):
    resolution.summary = "It is so [E99]."
    assert 'href="#E99"' not in to_html(resolution)
    assert "(#e99)" not in to_markdown(resolution)


@pytest.mark.parametrize("view", TEXT_VIEWS)
def test_an_empty_resolution_is_still_a_page(view):
    empty = Resolution(engine=Engine(kind="rules", version="0.1.0"), reports=[])
    assert "No kernel report was found in the log." in view(empty)


def test_the_page_is_self_contained(resolution):
    html = to_html(resolution)
    assert "<script" not in html
    assert re.findall(r"""(?:src|href)\s*=\s*["']?[^#"']""", html) == []
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html


def test_plain_text_has_no_colours_and_fits_its_width(resolution):
    resolution.summary = "word " * 200
    for width in (60, 100):
        text = to_text(resolution, width=width)
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) <= width


def test_a_narrow_terminal_folds_but_never_cuts_symbols(resolution):
    text = to_text(resolution, width=70)
    assert "relayctl_write+0x141/0x200 [relayctl]" in text
    assert "drivers/misc/relayctl.c:97" in text


def test_colours_are_sgr_sequences_only(resolution):
    text = to_text(resolution, color=True)
    assert "\x1b[1;31m" in text
    assert "\x1b" not in re.sub(r"\x1b\[[\d;]*m", "", text)


def test_only_the_faulting_lines_are_red(resolution):
    red = [line for line in to_text(resolution, color=True).splitlines() if "\x1b[1;31m" in line]
    bare = [re.sub(r"\x1b\[[\d;]*m", "", line).split() for line in red]
    assert [words[:2] for words in bare] == [
        ["KASAN:", "null-ptr-deref"],
        ["▶", "48"],
        ["▶", "relay_bank_has"],
    ]


def test_a_notebook_gets_html_markdown_and_text(resolution):
    bundle = mimebundle(resolution)
    assert set(bundle) == {"text/html", "text/markdown", "text/plain"}
    assert bundle["text/html"] == to_fragment(resolution)
    assert "<html" not in bundle["text/html"]


def test_a_cell_that_ends_in_a_resolution_shows_the_page(resolution):
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(resolution)
    assert data == mimebundle(resolution)


def test_the_repr_of_a_resolution_is_one_short_line(resolution):
    assert repr(resolution) == (
        "Resolution(title='KASAN: null-ptr-deref Read in relay_switch', engine='rules', "
        f"reports=2, findings={len(resolution.findings)}, fixes={len(resolution.fixes)})"
    )


def test_the_style_of_a_fragment_outweighs_that_of_the_page_around(resolution):
    fragment = to_fragment(resolution)
    style = fragment[fragment.index("<style>") + 7 : fragment.index("</style>")]
    style = re.sub(r"/\*.*?\*/", "", style)
    for rule in re.findall(r"[^{}]+(?=\{[^{}]*\})", style):
        for selector in re.split(r",(?![^(]*\))", rule):
            assert ":is(#kagent, .kagent)" in selector, selector


def test_the_evidence_with_most_context_is_chosen(resolution):
    line = Evidence(
        id="E9", kind="source", content="for (...)", origin="drivers/misc/relayctl.c:48@v6.12.9"
    )
    resolution.evidence.insert(0, line)
    code = summarise(resolution).code
    assert code is not None
    assert code.origin == "drivers/misc/relayctl.c:44-53@v6.12.9"


def test_a_file_named_by_its_build_directory_is_found_in_the_tree(resolution):
    assert resolution.fault is not None
    resolution.fault.file = "/build/linux/drivers/misc/relayctl.c"
    code = summarise(resolution).code
    assert code is not None
    assert code.mark == 48
    resolution.fault.file = "/build/linux/other-drivers/misc/relayctl.c"
    assert summarise(resolution).code is None


@pytest.mark.parametrize("basis", ["as the kernel printed it", "inferred from source and types"])
@pytest.mark.parametrize("view", [to_markdown, to_html])
def test_an_edge_of_the_wait_graph_says_once_what_it_rests_on(resolution, view, basis):
    edge = Evidence(id="E1", kind="lock-edge", content="a waits", origin=f"wait graph, {basis}")
    resolution.evidence = [edge]
    text = view(resolution)
    assert text.count(basis) == 1
    assert text.count("as the kernel printed it") == (basis == "as the kernel printed it")


def test_the_terminal_lists_the_evidence_that_is_cited(resolution):
    resolution.evidence += [
        Evidence(id=f"E{n}", kind="frame", content=f"frame {n}", origin="log 1-2")
        for n in range(4, 60)
    ]
    text = to_text(resolution)
    ledger = text[text.index("\nEvidence ") :]
    assert re.findall(r"^ (E\d+) ", ledger, re.MULTILINE) == ["E1", "E2", "E3"]
    assert "and 56 more" in ledger
    assert "frame 59" in to_markdown(resolution)
    assert "frame 59" in to_html(resolution)


def test_a_note_of_many_lines_is_said_once(resolution):
    resolution.reports[0].frames = [
        FrameView(symbol=f"f{n}", note="no vmlinux given" if n else "odd") for n in range(5)
    ]
    stack = summarise(resolution).stacks[0]
    assert [line.note for line in stack.lines] == ["odd", "", "", "", ""]
    assert stack.remarks == ("no vmlinux given: 4 functions",)


@pytest.mark.parametrize(("share", "words"), [(0.0, "0%"), (0.001, "<1%"), (0.834, "83%")])
def test_a_small_confidence_is_not_none(share, words):
    assert percent(share) == words
