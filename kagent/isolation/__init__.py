"""Native code on data that came with a log runs in a child process: a crash costs its part.

drgn, capstone and tree-sitter are C and C++. Fed with a module file, code bytes or a source that
an attacker wrote, they may crash, hang, eat memory, or in the worst case do the attacker's will.
So they run in one lean child a run, with limits of time and memory, without this process's
environment and descriptors. Messages are JSON in both directions, bounded in size, and what comes
back is checked against the type that was asked for.

This contains crashes, hangs and wrong shapes; it is no sandbox: code that takes the child over
still has the user's rights.
"""

from __future__ import annotations

from kagent.isolation.scope import (
    InProcess,
    Runner,
    current,
    isolated,
    on_failure,
    tell,
    using,
)
from kagent.isolation.worker import Job, Limits, Subject, Worker

__all__ = [
    "InProcess",
    "Job",
    "Limits",
    "Runner",
    "Subject",
    "Worker",
    "current",
    "isolated",
    "on_failure",
    "tell",
    "using",
]
