"""Kernel log text → typed reports. Pure functions: no files, processes or network.

The parser loads on first use: its tables of formats take longer to compile than a trace to decode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kagent.klog.model import (
    Access,
    ChainLink,
    Context,
    Frame,
    KernelLog,
    LockdepFacts,
    LockRef,
    MemoryObject,
    Report,
    TaskState,
    Trace,
    TraceRole,
)
from kagent.klog.reformat import reformat

if TYPE_CHECKING:
    from kagent.klog.parser import parse_log

__all__ = [
    "Access",
    "ChainLink",
    "Context",
    "Frame",
    "KernelLog",
    "LockRef",
    "LockdepFacts",
    "MemoryObject",
    "Report",
    "TaskState",
    "Trace",
    "TraceRole",
    "parse_log",
    "reformat",
]


def __getattr__(name: str) -> Any:
    if name == "parse_log":
        from kagent.klog.parser import parse_log

        return parse_log
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
