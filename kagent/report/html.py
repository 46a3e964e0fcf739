"""The Error Resolution Summary as one self-contained HTML page, or as a fragment of one.

The template is autoescaped and nothing is marked safe; the page loads nothing and runs no script.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from kagent.report.facts import authorship
from kagent.report.summary import summarise
from kagent.resolution import Resolution

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["to_fragment", "to_html"]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("kagent.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _render(template: str, res: Resolution) -> str:
    summary = summarise(res)
    known = {item.id for item in summary.evidence}
    return (
        _environment().get_template(template).render(s=summary, known=known, authorship=authorship)
    )


def to_html(res: Resolution) -> str:
    """A whole page that reads well on paper and on dark and light screens."""
    return _render("page.html", res)


def to_fragment(res: Resolution) -> str:
    """A ``<div class="kagent">`` with its own style, for a page that exists already."""
    return _render("fragment.html", res)
