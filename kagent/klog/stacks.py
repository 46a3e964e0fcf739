"""Stacks and trapping PCs: what introduces them, which part of the report they belong to."""

from __future__ import annotations

import re
from dataclasses import replace

from kagent.klog.draft import Draft
from kagent.klog.frames import parse_caller, parse_frame, parse_pc
from kagent.klog.lines import Line
from kagent.klog.model import TraceRole

__all__ = ["read_stacks"]

_CALL = re.compile(r"\s{0,4}(?:Call [Tt]race:|Backtrace: ?$|Trace:|Call Trace \()")
_BY_TASK = r"(?: by task (?P<pid>\d{1,10}))?(?: on cpu (?P<cpu>\d{1,5}))?"
_HISTORY: tuple[tuple[TraceRole, re.Pattern[str]], ...] = (
    ("alloc", re.compile(r"\s{0,2}[Aa]llocated" + _BY_TASK + r"(?: at .{0,60})?:")),
    ("free", re.compile(r"\s{0,2}[Ff]reed" + _BY_TASK + r"(?: at .{0,60})?:")),
    ("free", re.compile(r"\s{0,2}rcu_freeing" + _BY_TASK)),
    (
        "alloc",
        re.compile(
            r"(?:INFO: )?Allocated in .{1,200}?(?: cpu=(?P<cpu>\d{1,5}))? pid=(?P<pid>\d{1,10})"
        ),
    ),
    (
        "free",
        re.compile(
            r"(?:INFO: )?Freed in .{1,200}?(?: cpu=(?P<cpu>\d{1,5}))? pid=(?P<pid>\d{1,10})"
        ),
    ),
    (
        "alloc",
        re.compile(
            r"page last allocated via.{0,400}? pid (?P<pid>\d{1,10})|page last allocated via"
            r"|page allocated via"
        ),
    ),
    (
        "free",
        re.compile(
            r"page last free (?:pid (?P<pid>\d{1,10}) .{0,100})?stack trace:"
            r"|page last free pid (?P<pid2>\d{1,10})"
        ),
    ),
    (
        "work",
        re.compile(r"(?:Second to last|Last) (?:potentially related work creation|call_rcu\(\)):?"),
    ),
    (
        "origin",
        re.compile(
            r"(?:Uninit was created at|Local variable .{1,200}created at"
            r"|Local variable .{1,200}):?$"
        ),
    ),
    ("store", re.compile(r"Uninit was stored to memory at:")),
    ("alloc", re.compile(r"\s{0,4}backtrace(?: \(crc [0-9a-f]{1,16}\))?:")),
    (
        "lock",
        re.compile(
            r"\s{0,12}(?:\{[\w -]{1,40}\} state was registered at:|IN-[\w-]{4,20} at:|(?:HARD"
            r"|SOFT)IRQ-ON-[RW] at:"
            r"|INITIAL (?:READ )?USE at:|\.\.\. (?:which became .{1,80} at|acquired at):"
            r"|the first lock's"
            r"|\.\.\. which became)"
        ),
    ),
)
_KCSAN = re.compile(
    r"(?:race at unknown origin, with )?(?:assert no accesses|assert no writes|read|write"
    r"|read-write)"
    r"(?: \(marked(?:, reordered)?\)| \(reordered\)"
    r"|-noinstr)? to 0x[0-9a-f]{4,16} of \d{1,8} bytes by "
    r"(?:task (?P<pid>\d{1,10})|interrupt) on cpu (?P<cpu>\d{1,5})"
)
_MARKERS = re.compile(
    r"\s{0,8}(?:</?(?:TASK|IRQ|NMI|SOFTIRQ|HARDIRQ|EOI|#?[A-Z]{2,4}\d?|ENTRY_TRAMPOLINE|EOE)>"
    r"|---\[ end|-{12}\[ cut here|={20,}|Exception stack|--- interrupt|Stack:"
    r"|\.\.\.$|\(stack is not available\)|[0-9a-f]{4}: (?:[0-9a-f]{8} ){2}|invalid opcode|<EOI>"
    r"|Process \S|Instruction dump:)"
)
_OWN = ("call", "task", "cpu")
_ASIDES = ("Last Breaking-Event-Address", "Preemption disabled at")
"""Announce a single frame that is no part of the stack."""
_END = re.compile(r"---\[ end ")


def read_stacks(draft: Draft, line: Line) -> bool:
    """Take a frame, a line that introduces a stack, or the PC."""
    text = line.text
    frames = parse_frame(line)
    if frames and draft.lockdep and draft.lockdep.expect == "release":
        released = draft.lockdep.acquiring
        if released is not None:
            draft.lockdep.acquiring = replace(released, at=frames[0])
        draft.lockdep.expect = None
        return True
    if frames:
        stack = draft.stack or draft.open_stack("call", line, titled=False)
        before = stack.frames[-1].symbol if stack.frames else None
        if frames[0].offset is None and frames[0].symbol == before:
            frames = frames[1:]  # arm: "A from B+0x20", then "B from C+0x30"
        stack.frames.extend(frames)
        stack.end = draft.block.end = line.end
        if stack.role in _OWN and stack.block.stacks == 1:
            stack.block.frames.extend(frames)
        return True
    if _take_pc(draft, line):
        return True
    if _CALL.match(text):
        _open_call(draft, line)
        return True
    for role, intro in _HISTORY:
        if match := intro.match(text):
            groups = match.groupdict()
            pid = groups.get("pid") or groups.get("pid2")
            cpu = groups.get("cpu")
            stack = draft.open_stack(
                role, line, pid=int(pid) if pid else None, cpu=int(cpu) if cpu else None
            )
            stack.caller = parse_caller(line)
            return True
    if match := _KCSAN.match(text):
        pid = int(match["pid"]) if match["pid"] else None
        draft.open_stack("call", line, pid=pid, cpu=int(match["cpu"]))
        return True
    if _END.match(text):
        draft.stack = None
    elif text.startswith(_ASIDES):
        draft.stack = draft.unkept_stack(line)
        return True
    return _MARKERS.match(text) is not None


_ROLES: dict[str, TraceRole] = {"self": "call", "cpu": "cpu", "task": "task", "panic": "call"}


def _open_call(draft: Draft, line: Line) -> None:
    stack = draft.open_stack(_ROLES[draft.block.kind], line)
    stack.block.stacks += 1
    draft.user_registers = False


def _take_pc(draft: Draft, line: Line) -> bool:
    text = line.text.lstrip()
    if not text.startswith("Code:"):
        draft.user_pc = False
    if not any(word in text for word in ("IP", "pc", "PC", "ERA", "PSW", "interrupt:")):
        return False
    pc = parse_pc(line)
    if pc is None:
        if re.match(r"(?:RIP|EIP): 00[0-9a-f]{2}:|\s{0,4}IP: |RIP  ?\[", text):
            draft.user_registers = draft.user_pc = text.startswith(
                ("RIP: 0033", "EIP: 0073", "RIP: 0023")
            )
            return True
        return False
    draft.user_registers = False
    block = draft.block
    if draft.stack is not None and draft.stack.frames and "end trace" not in text:
        draft.stack.frames.append(pc)  # an exception in the middle of the stack
        if draft.stack.role in _OWN and draft.stack.block.stacks == 1:
            draft.stack.block.frames.append(pc)
        draft.user_registers = block.pc is not None
    if block.pc is None and not (draft.stack and draft.stack.frames):
        block.pc = pc
    return True
