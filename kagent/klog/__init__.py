"""Kernel log text → typed reports. Pure functions: no files, processes or network.

Names load on first use: the tables of formats take longer to compile than a trace to decode.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kagent.klog.canonical import reformat
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


_ROOMS = {"parse_log": "parser", "reformat": "canonical"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'model')}"), name)
