"""A name for a bug that survives rebuilds: no offsets, no addresses, no architecture."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from kagent.klog.blameless import blameless, is_waiting, strip_syscall
from kagent.klog.frame_model import Frame
from kagent.klog.kinds import LOCKUPS

__all__ = ["fingerprint"]

_DEPTH = 4
_SUFFIX = re.compile(r"\.(?:isra|constprop|part|cold|llvm|lto_priv|clone)\b.*$")
# Everything above the system call, interrupt or thread entry is the architecture's own.
_ENTRY = re.compile(
    r"^(?:do_syscall_64|do_int80|entry_|asm_|x64_sys_call|ret_from_fork|el0|el1|invoke_syscall"
    r"|do_el0_svc|system_call|ret_fast_syscall|syscall_|handle_sys|__do_syscall|kthread$)"
)


def _name(frame: Frame) -> str:
    return strip_syscall(_SUFFIX.sub("", frame.symbol))


def fingerprint(kind: str, title: str, pc: Frame | None, frames: Sequence[Frame]) -> str:
    """16 hex digits over the kind and the first significant functions of the stack.

    Where there is no stack the title stands for it.
    """
    stack = [f for f in (*((pc,) if pc else ()), *frames) if f.reliable and f.offset is not None]
    skip = blameless()
    names: list[str] = []
    for frame in stack:
        name = _name(frame)
        if _ENTRY.match(name):
            break
        if skip.search(name) or (kind in LOCKUPS and is_waiting(name)):
            continue
        if name not in names[-1:]:
            names.append(name)
    text = "\n".join([kind, *(names[:_DEPTH] or [title])])
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
