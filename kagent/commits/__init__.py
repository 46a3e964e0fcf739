"""Git history as a searchable index: find the commit that fixes a crash.

`CommitIndex` loads on first use: it needs numpy, scipy and FAISS.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kagent.commits.model import Commit, CrashQuery, Hit

if TYPE_CHECKING:
    from kagent.commits.index import CommitIndex

__all__ = ["Commit", "CommitIndex", "CrashQuery", "Hit"]


def __getattr__(name: str) -> Any:
    if name == "CommitIndex":
        return importlib.import_module("kagent.commits.index").CommitIndex
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
