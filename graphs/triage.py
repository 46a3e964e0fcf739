"""The whole state machine: reformat, classify, analyse, verify, summarise."""

from __future__ import annotations

from kagent import Settings, build_graph

__all__ = ["graph"]

graph = build_graph(settings=Settings())
