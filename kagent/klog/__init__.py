"""Kernel log text → typed reports. Pure functions: no files, processes or network."""

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
from kagent.klog.reformat import reformat

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
