"""Kernel log in, proven Error Resolution Summary out.

Importing this package is cheap: LangGraph, langchain and faiss load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kagent.agents.api import aanalyze, analyze, build_graph
    from kagent.commits import CommitIndex
    from kagent.klog import parse_log
    from kagent.klog.model import Report
    from kagent.report.notebook import mimebundle
    from kagent.resolution import Resolution
    from kagent.settings import Settings
    from kagent.source import SourceTree
    from kagent.symbols import Symbolizer

__all__ = [
    "CommitIndex",
    "Report",
    "Resolution",
    "Settings",
    "SourceTree",
    "Symbolizer",
    "__version__",
    "aanalyze",
    "analyze",
    "build_graph",
    "mimebundle",
    "parse_log",
]

__version__ = "0.1.0"

_HOME = {
    "CommitIndex": "kagent.commits",
    "Report": "kagent.klog.model",
    "Resolution": "kagent.resolution",
    "Settings": "kagent.settings",
    "SourceTree": "kagent.source",
    "Symbolizer": "kagent.symbols",
    "aanalyze": "kagent.agents.api",
    "analyze": "kagent.agents.api",
    "build_graph": "kagent.agents.api",
    "mimebundle": "kagent.report.notebook",
    "parse_log": "kagent.klog",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
