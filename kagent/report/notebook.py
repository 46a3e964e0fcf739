"""A resolution as the rich output of a notebook cell.

A cell that ends in a resolution shows it; ``display(resolution)`` does so from anywhere else.
"""

from __future__ import annotations

from kagent.report.html import to_fragment
from kagent.report.markdown import to_markdown
from kagent.report.terminal import to_text
from kagent.resolution import Resolution

__all__ = ["display", "mimebundle"]


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
