"""Where commands without a graph look for debug info that no option names."""

from __future__ import annotations

import sys
from pathlib import Path

from kagent.cli.output import say
from kagent.sources import is_true, lookup
from kagent.symbols.locate import DEBUG_DIR, DebugFiles

__all__ = ["debug_files"]


def debug_files() -> DebugFiles:
    """Installed files, and the servers that the user's settings name."""
    return DebugFiles(
        Path(lookup("debug_dir") or DEBUG_DIR),
        servers=lookup("debuginfod_urls"),
        progress=_Download().show,
        offline=is_true(lookup("offline")),
    )


class _Download:
    """Says once what is fetched and, on a terminal, how far it has come."""

    def __init__(self) -> None:
        self._percent = -1

    def show(self, server: str, done: int, total: int | None) -> None:
        if self._percent < 0:
            size = f", {total / 1e6:.0f} MB" if total else ""
            say(f"kagent: fetching debug info from {server}{size}")
        percent = 100 * done // total if total else 0
        if sys.stderr.isatty() and percent > max(self._percent, 0):
            end = "\n" if percent >= 100 else "\r"
            print(f"  {percent:3d} %", end=end, file=sys.stderr, flush=True)
        self._percent = percent
