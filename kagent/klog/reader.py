"""Reading one report line by line: each section reader gets its chance at every line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from kagent.klog.context import freeze_context, read_context
from kagent.klog.draft import Block, Draft, LockdepDraft
from kagent.klog.fingerprint import fingerprint
from kagent.klog.kinds import LOCKUPS
from kagent.klog.lines import Line
from kagent.klog.lockdep import freeze_lockdep, read_lockdep, variant_of
from kagent.klog.model import Frame, Report, Trace
from kagent.klog.oom import freeze_oom, read_oom, starts_oom
from kagent.klog.registers import note_registers, read_registers
from kagent.klog.sanitizer import freeze_access, freeze_memory, read_access
from kagent.klog.stacks import read_stacks
from kagent.klog.tasks import freeze_tasks, read_header, read_tasks
from kagent.klog.titles import Title

__all__ = ["freeze", "read"]

PATIENCE = 30
"""Foreign lines in a row after which a report is over."""

_LINES_TO_TELL_BY = 4000
"""Kept to tell the architecture by: its words come with the registers and the first stack."""
_READERS: tuple[Callable[[Draft, Line], bool], ...] = (
    read_oom,
    read_stacks,
    read_context,
    read_lockdep,
    read_registers,
    read_tasks,
    read_access,
)
_PANIC = re.compile(r"Kernel panic - not syncing")
_DIED = re.compile(r"\[#\d{1,4}\]|---\[ end trace|Internal error: ")


# Printed just before a report by whoever found the fault, without "cut here".
_FOREWORD = re.compile(
    r"list_(?:add|del) |usercopy: |refcount_t|detected buffer overflow"
    r"|\S{1,64}: detected field-span"
    r"|kmemleak: \d{1,9} new suspected|kernel tried to execute|page dumped because|skbuff: skb_"
    r"|XFS: Assertion failed|assertion failed|[\w-]{1,32}: Assertion|slab error in|cache_from_obj"
    r"|unchecked MSR|VM_BUG_ON|Missing ENDBR|traps: Missing|sysrq: Trigger a crash|kobject: "
    r"|SysRq : Trigger a crash"
)
# Headers whose next line says what happened.
_SPEAKS = re.compile(r"WARNING: .*\.[ch]:\d|UBSAN: |rust_kernel: panicked")
_CUT_HERE = "[ cut here ]"
_FOREWORD_LINES = 6
_MESSAGE_LINES = 4


def foreword(before: Sequence[Line]) -> list[Line]:
    """Those of the lines before a header, nearest last, that belong to its report."""
    taken = 0
    for back, line in enumerate(reversed(before[-2 * _FOREWORD_LINES :]), 1):
        if _CUT_HERE in line.text or _FOREWORD.match(line.text.lstrip()):
            taken = back
        elif back - taken > _FOREWORD_LINES:
            break
    return list(before[len(before) - taken :])


def read(header: Line, lines: Iterable[Line], before: Sequence[Line] = ()) -> Draft:
    """Read the report that `header` announces from the `lines` of its context that follow it.

    `before` are the lines of the same context above the header.
    """
    draft = Draft.of(header)
    for line in foreword(before):
        draft.own.start = min(draft.own.start, line.start)
        if _CUT_HERE not in line.text:
            draft.say(line.text)
    variant = variant_of(header.text)
    if variant:
        draft.lockdep = LockdepDraft(variant)
    read_header(draft, header)
    starts_oom(draft, header)
    for reader in (read_context, read_access):
        reader(draft, header)
    draft.lines.append(header.text)
    foreign = 0
    for line in lines:
        text = line.text
        if not text or text.isspace():
            continue
        if _take(draft, line):
            foreign = 0
            draft.own.end = max(draft.own.end, line.end)
            if len(draft.lines) < _LINES_TO_TELL_BY:
                draft.lines.append(text)
        else:
            if len(draft.lines) == 1 and foreign < _MESSAGE_LINES and _SPEAKS.search(header.text):
                draft.say(text)
            foreign += 1
            if foreign > PATIENCE:
                break
    return draft


def _take(draft: Draft, line: Line) -> bool:
    text = line.text
    if _PANIC.search(text):
        draft.panicked = True
        draft.stack = None
        if draft.own.frames:  # else the panic's stack is the only one the report has
            draft.open_block(Block("panic"), line)
        return True
    if _DIED.search(text):
        draft.died = True
    note_registers(draft, line)
    return any(reader(draft, line) for reader in _READERS)


def _subject(draft: Draft, hanging: bool) -> Block:
    """The block the report is about: for stalls without a state of their own, the first CPU's."""
    own = draft.own
    if hanging and own.pc is None and not own.frames:
        return next((b for b in draft.blocks if b.kind == "cpu" and (b.pc or b.frames)), own)
    return own


def _traces(draft: Draft, subject: Block) -> tuple[Trace, ...]:
    traces = []
    for stack in draft.stacks:
        if not stack.whole():
            continue
        if stack.block is subject and stack.role == "cpu":
            stack.role = "call"
        if stack.block is subject and stack.role == "call" and subject.pc and stack.frames:
            _mark_pc(stack.frames, subject.pc)
        traces.append(stack.freeze())
    return tuple(traces)


def _mark_pc(frames: list[Frame], pc: Frame) -> None:
    """On most architectures the stack begins with the PC itself, not with a return address."""
    first = frames[0]
    if first.symbol != pc.symbol or pc.offset is None:
        return
    if first.offset == pc.offset:
        frames[0] = replace(first, exact=True)
    elif first.offset is None:  # arm: the innermost function by its name alone
        frames[0] = replace(pc, exact=True, span=first.span)


def _telling_frames(draft: Draft, traces: tuple[Trace, ...]) -> tuple[Frame, ...]:
    """The stack that tells one bug from another: none where memory ran out for everybody."""
    if draft.oom is not None:
        return ()
    call = next((t.frames for t in traces if t.role == "call"), ())
    return call or next((t.frames for t in traces), ())


def freeze(draft: Draft, title: Title) -> Report:
    """The finished report."""
    kind = title.kind
    subject = _subject(draft, kind in LOCKUPS)
    traces = _traces(draft, subject)
    pc = subject.pc
    call = next((t.frames for t in traces if t.role == "call"), ())
    if pc is None and kind in LOCKUPS and draft.own.running:
        pc = next((frame for frame in call if frame.exact), None)
    context = freeze_context(draft, subject, (*((pc,) if pc else ()), *call))
    locks = freeze_lockdep(draft, (context.task, context.pid))
    if locks is not None and context.task is None:
        context = replace(context, task=locks.task, pid=locks.pid)
    return Report(
        title=title.text,
        kind=kind,
        header=draft.header.text.strip(),
        span=(draft.own.start, draft.own.end),
        context=context,
        pc=pc,
        traces=traces,
        registers=dict(subject.registers),
        code=subject.code,
        access=freeze_access(draft),
        memory=freeze_memory(draft),
        locks=locks,
        oom=freeze_oom(draft),
        tasks=freeze_tasks(draft),
        alt_titles=title.alt,
        frame=title.frame,
        corrupted=title.corrupted is not None,
        corrupted_reason=title.corrupted,
        panicked=draft.panicked,
        kernel_bug=title.kernel_bug and not (pc and pc.symbol == "sysrq_handle_crash"),
        fingerprint=fingerprint(kind, title.text, pc, _telling_frames(draft, traces)),
        message="\n".join(draft.messages),
    )
