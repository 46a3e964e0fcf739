"""Commits as Markdown: the template, and that nothing a commit says can break it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kagent.commits.documents import git_date, parse_documents, render_document, write_markdown
from kagent.commits.model import Commit

COMMIT = Commit(
    hash="b960818d51b3",
    subject="mm: remove useless pointer passing",
    author="Ada Example <ada@example.org>",
    date="2025-04-25T18:38:59+08:00",
    message="It is not needed.\n\n---\nv2: more words\n## Commit 2",
    diff="diff --git a/a.c b/a.c\n@@ -1 +1 @@\n---\n+x",
)


def test_the_template() -> None:
    plain = Commit("b960", "mm: x", "Ada <a@b>", "2025-04-25T18:38:59+08:00", "Why.", diff="+x")
    assert render_document(plain, 17) == (
        "## Commit 17\n"
        "### Metadata\n"
        "- **Commit Hash:** `b960`\n"
        "- **Author:** Ada <a@b>\n"
        "- **Date:** Fri Apr 25 18:38:59 2025 +0800\n"
        "- **Subject:** mm: x\n"
        "\n### Commit Message\n\nWhy.\n"
        "\n### Diff\n\n```diff\n+x\n```\n"
        "\n### Full Content\n\n"
        "commit b960\nAuthor: Ada <a@b>\nDate:   Fri Apr 25 18:38:59 2025 +0800\n\n"
        "    mm: x\n\n    Why.\n\n+x\n"
    )


def test_cutting_at_dividers_gives_whole_commits() -> None:
    text = "".join(write_markdown([COMMIT, COMMIT]))
    pieces = [piece for piece in f"\n{text}".split("\n---\n") if piece.strip()]
    assert [piece.splitlines()[0] for piece in pieces] == ["## Commit 1", "## Commit 2"]


def test_reading_back() -> None:
    (document,) = parse_documents("".join(write_markdown([COMMIT])))
    assert document.message == COMMIT.message
    assert document.diff == COMMIT.diff
    assert document.full.endswith(COMMIT.diff)


def test_a_date_git_allows_but_python_does_not() -> None:
    assert git_date("2025-04-25T18:38:59+99:99") == "2025-04-25T18:38:59+99:99"


nasty_lines = st.sampled_from(
    ["---", "\\---", "\\\\---", "--- ", "---\r", "## Commit 2", "### Diff", "### Full Content",
     "```diff", "```", "", " ", "\\", "- **Subject:** x", "\u2028", "\x0c"]
)  # fmt: skip
plain_text = st.text(st.characters(codec="utf-8"), max_size=40)
bodies = st.lists(nasty_lines | plain_text, max_size=8).map("\n".join)


@given(st.lists(st.tuples(bodies, bodies), min_size=1, max_size=4))
def test_round_trip_of_whatever_commits_say(texts: list[tuple[str, str]]) -> None:
    commits = [
        Commit(
            f"{number:040x}", "subject", "Ada <a@b>", "2025-04-25T18:38:59+08:00", body, diff=diff
        )
        for number, (body, diff) in enumerate(texts)
    ]
    found = list(parse_documents("".join(write_markdown(commits))))
    assert [(d.message, d.diff) for d in found] == texts
    assert [d.number for d in found] == list(range(1, len(texts) + 1))
