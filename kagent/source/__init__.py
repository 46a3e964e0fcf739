"""The source tree at the crash's own version: functions, lines, C syntax, maintainers."""

from __future__ import annotations

from kagent.source.c_syntax import CSource
from kagent.source.model import Excerpt, FunctionSource
from kagent.source.tree import SourceTree

__all__ = ["CSource", "Excerpt", "FunctionSource", "SourceTree"]
