"""Views of `kagent.resolution.Resolution`: terminal, Markdown, HTML, JSON and notebook.

Every view is a pure function of the resolution and loads on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kagent.report.html import to_html
    from kagent.report.json import to_json
    from kagent.report.markdown import to_markdown
    from kagent.report.notebook import display
    from kagent.report.terminal import to_text

__all__ = ["display", "to_html", "to_json", "to_markdown", "to_text"]

_HOME = {
    "display": "kagent.report.notebook",
    "to_html": "kagent.report.html",
    "to_json": "kagent.report.json",
    "to_markdown": "kagent.report.markdown",
    "to_text": "kagent.report.terminal",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
