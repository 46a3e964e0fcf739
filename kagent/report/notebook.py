"""A resolution as the rich output of a notebook cell.

`Resolution` knows no view, so a notebook says which one it wants: ``display(resolution)`` once, or
``%load_ext kagent.report.notebook`` to show every resolution this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagent.report.html import to_fragment
from kagent.report.markdown import to_markdown
from kagent.report.terminal import to_text
from kagent.resolution import Resolution

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["display", "load_ipython_extension", "mimebundle"]


def mimebundle(res: Resolution) -> dict[str, str]:
    """The views by MIME type, as Jupyter's display protocol wants them."""
    return {
        "text/html": to_fragment(res),
        "text/markdown": to_markdown(res),
        "text/plain": to_text(res),
    }


def display(res: Resolution) -> None:
    """Show `res` below the running cell."""
    from IPython.display import display as ipython_display

    ipython_display(mimebundle(res), raw=True)  # type: ignore[no-untyped-call]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext kagent.report.notebook``: show each `Resolution` that ends a cell."""
    formatter: Any = shell.display_formatter
    formatter.mimebundle_formatter.for_type(Resolution, lambda res, **_: mimebundle(res))
