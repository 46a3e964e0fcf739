"""What the MCP server's tools do: bounded answers from the trees and indexes it may read."""

from __future__ import annotations

from kagent.mcp_tools.callstack import CallstackAnalysis, StackEntry, analyze_callstack
from kagent.mcp_tools.commits import CommitMatch, CommitMatches, find_commits
from kagent.mcp_tools.roots import Roots
from kagent.mcp_tools.running import one_line, run
from kagent.mcp_tools.source import SourceFace, SourceLookup, find_source

__all__ = [
    "CallstackAnalysis",
    "CommitMatch",
    "CommitMatches",
    "Roots",
    "SourceFace",
    "SourceLookup",
    "StackEntry",
    "analyze_callstack",
    "find_commits",
    "find_source",
    "one_line",
    "run",
]
