"""File names as DWARF records them."""

from __future__ import annotations

import posixpath

__all__ = ["tidy_path"]


def tidy_path(path: str, root: str = "") -> str:
    """Normalise a DWARF file name and make it relative to `root`, the build directory."""
    path = posixpath.normpath(path) if path else ""
    root = root.rstrip("/")
    return path[len(root) + 1 :] if root and path.startswith(root + "/") else path
