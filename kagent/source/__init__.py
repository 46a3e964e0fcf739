"""The source tree at the crash's own version: functions, types, callers, history, maintainers."""

from __future__ import annotations

from kagent.source.c_source import CSource
from kagent.source.call_paths import CallPath, call_path
from kagent.source.callers import find_callees, find_callers
from kagent.source.history import Blame, blame
from kagent.source.model import Excerpt, FunctionSource
from kagent.source.paging import Page
from kagent.source.sites import CallSite
from kagent.source.tree import SourceTree
from kagent.source.types import TypeSource, find_type

__all__ = [
    "Blame",
    "CSource",
    "CallPath",
    "CallSite",
    "Excerpt",
    "FunctionSource",
    "Page",
    "SourceTree",
    "TypeSource",
    "blame",
    "call_path",
    "find_callees",
    "find_callers",
    "find_type",
]
