r"""Commits as Markdown, one document each, divided by lines of three dashes.

The layout is that of "Decoding Kernel Callstacks with MCP Tools" (slide "Commit template"), made
unambiguous: a line of a message or diff that reads as a divider or as a heading of the template
gets a leading backslash (Markdown's own escape; further backslashes stack), so cutting the file at
``\n---\n`` gives whole documents whatever a commit says, and `parse_documents` gives every text
back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from kagent.commits.model import Commit
from kagent.errors import InputError

__all__ = [
    "Document",
    "git_date",
    "git_show",
    "parse_documents",
    "render_document",
    "write_markdown",
]

DIVIDER = "---"
_ESCAPED = re.compile(r"^(\\*)(?=-{3}[ \t\r]*$|#{2,3} )", re.M)
_UNESCAPED = re.compile(r"^\\(\\*)(?=-{3}[ \t\r]*$|#{2,3} )", re.M)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_DOCUMENT = re.compile(
    r"""\#\#\ Commit\ (?P<number>\d+)\n
\#\#\#\ Metadata\n
-\ \*\*Commit\ Hash:\*\*\ `(?P<hash>[^\n]*)`\n
-\ \*\*Author:\*\*\ (?P<author>[^\n]*)\n
-\ \*\*Date:\*\*\ (?P<date>[^\n]*)\n
-\ \*\*Subject:\*\*\ (?P<subject>[^\n]*)\n
\n\#\#\#\ Commit\ Message\n\n(?P<message>.*?)\n
\n\#\#\#\ Diff\n\n```diff\n(?P<diff>.*?)\n```\n
\n\#\#\#\ Full\ Content\n\n(?P<full>.*)\n\Z""",
    re.X | re.S,
)


@dataclass(frozen=True, slots=True)
class Document:
    """One commit as the Markdown states it."""

    number: int
    hash: str
    author: str
    date: str
    """As ``git show`` prints it."""
    subject: str
    message: str
    diff: str
    full: str


def git_date(date: str) -> str:
    """ISO 8601 to git's default form, ``Fri Apr 25 18:38:59 2025 +0800``; else unchanged."""
    try:
        when = datetime.fromisoformat(date)
    except ValueError:
        return date
    return (
        f"{_DAYS[when.weekday()]} {_MONTHS[when.month - 1]} {when.day} {when:%H:%M:%S} "
        f"{when.year:04} {when:%z}"
    ).rstrip()


def git_show(commit: Commit) -> str:
    """The commit as ``git show`` prints it."""
    body = f"{commit.subject}\n\n{commit.message}" if commit.message else commit.subject
    indented = "\n".join(f"    {line}" if line else "" for line in body.split("\n"))
    head = f"commit {commit.hash}\nAuthor: {commit.author}\nDate:   {git_date(commit.date)}"
    text = f"{head}\n\n{indented}"
    return f"{text}\n\n{commit.diff}" if commit.diff else text


def render_document(commit: Commit, number: int) -> str:
    """One commit in the template, without dividers."""
    return f"""## Commit {number}
### Metadata
- **Commit Hash:** `{_line(commit.hash)}`
- **Author:** {_line(commit.author)}
- **Date:** {_line(git_date(commit.date))}
- **Subject:** {_line(commit.subject)}

### Commit Message

{_escape(commit.message)}

### Diff

```diff
{_escape(commit.diff)}
```

### Full Content

{_escape(git_show(commit))}
"""


def write_markdown(commits: Iterable[Commit]) -> Iterator[str]:
    """The whole Markdown file in pieces; documents are numbered from 1."""
    for number, commit in enumerate(commits, 1):
        yield f"{DIVIDER}\n{render_document(commit, number)}\n"
    yield f"{DIVIDER}\n"


def parse_documents(markdown: str) -> Iterator[Document]:
    """Read back what `write_markdown` wrote.

    Raises:
        InputError: a piece between dividers is not in the template.
    """
    for piece in f"\n{markdown}".split(f"\n{DIVIDER}\n"):
        text = piece.strip("\n")
        if not text:
            continue
        # Exactly the blank line that stands before a divider; a commit's own ones remain.
        match = _DOCUMENT.match(piece if piece.endswith("\n") else f"{piece}\n")
        if match is None:
            raise InputError(f"not a commit document: {text[:60]!r}")
        yield Document(
            number=int(match["number"]),
            hash=match["hash"],
            author=match["author"],
            date=match["date"],
            subject=match["subject"],
            message=_unescape(match["message"]),
            diff=_unescape(match["diff"]),
            full=_unescape(match["full"]),
        )


def _line(text: str) -> str:
    return " ".join(text.splitlines())


def _escape(text: str) -> str:
    return _ESCAPED.sub(r"\1\\", text)


def _unescape(text: str) -> str:
    return _UNESCAPED.sub(r"\1", text)
