"""The deadlock analyser, whatever the report is."""

from __future__ import annotations

from kagent import Settings, build_graph

__all__ = ["graph"]

graph = build_graph(route="deadlock", settings=Settings())
