#!/usr/bin/env python3
"""Draw .assets/demo.svg again: what `kagent demo` shows in a terminal of 112 columns."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from kagent.demo.runner import run
from kagent.report.terminal import render

PICTURE = Path(__file__).resolve().parents[2] / ".assets" / "demo.svg"
COLUMNS = 112


def main() -> None:
    """Analyse the bundled crash and write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(render(run("tidelink")))
    PICTURE.write_text(console.export_svg(title="kagent demo"), encoding="utf-8")


if __name__ == "__main__":
    main()
