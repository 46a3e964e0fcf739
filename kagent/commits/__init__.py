"""Git history as a searchable index: find the commit that fixes a crash.

`CommitIndex`, and `open_indexes` for several at once, load on first use: they need numpy, scipy
and FAISS.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kagent.commits.model import Commit, CrashQuery, Hit

if TYPE_CHECKING:
    from kagent.commits.index import CommitIndex
    from kagent.commits.union import CommitUnion, open_indexes

__all__ = ["Commit", "CommitIndex", "CommitUnion", "CrashQuery", "Hit", "open_indexes"]


def __getattr__(name: str) -> Any:
    if name == "CommitIndex":
        return importlib.import_module("kagent.commits.index").CommitIndex
    if name in ("CommitUnion", "open_indexes"):
        return getattr(importlib.import_module("kagent.commits.union"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
