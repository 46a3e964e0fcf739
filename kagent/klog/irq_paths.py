"""The paths of lockdep's interrupt reports: which lock leads to which, and on what stacks.

Sources: print_bad_irq_dependency(), print_irq_inversion_bug(), print_usage_bug() and
print_shortest_lock_dependencies() of kernel/locking/lockdep.c. A list of dependencies starts with
the class farthest from the current acquisition.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from kagent.klog.draft import Draft, LockClassDraft, LockdepDraft, StackDraft
from kagent.klog.model import ChainLink, Frame, IrqProof

__all__ = ["irq_proof"]

_IN = re.compile(r"IN-(?P<irq>[A-Z_]{2,16}?)(?:-[RW])?$")
_ACQUIRED = "... acquired at"


def irq_proof(draft: Draft, facts: LockdepDraft) -> IrqProof | None:
    """The proof of an irq report; None for others, and where its locks were not printed."""
    if facts.variant == "inconsistent-state":
        return _one_lock(draft, facts)
    if facts.variant == "irq-safe-unsafe":
        return _new_order(draft, facts)
    if facts.variant == "irq-inversion":
        return _inversion(draft, facts)
    return None


def _one_lock(draft: Draft, facts: LockdepDraft) -> IrqProof | None:
    """One lock, taken in an interrupt here and outside there, or the other way round."""
    if facts.acquiring is None or facts.states is None:
        return None
    before, now = (_IN.match(state) for state in facts.states)
    seen = next((s for s in draft.stacks if "state was registered at" in s.title), None)
    earlier, here = _frames(seen), _call(draft)
    match = now or before
    return IrqProof(
        irq=match["irq"] if match else "",
        path=(ChainLink(0, facts.acquiring),),
        safe_at=here if now else earlier,
        unsafe_at=earlier if now else here,
        here="safe" if now else "unsafe",
    )


def _new_order(draft: Draft, facts: LockdepDraft) -> IrqProof | None:
    """The new order, prev → next, joins an irq-safe lock before with an irq-unsafe one after."""
    prev = facts.already[-1] if facts.already else None
    path = [
        *_in_order(draft, facts, "safe", backwards=True),
        *reversed(_in_order(draft, facts, "unsafe", backwards=False)),
    ]
    if not path:
        path = [ChainLink(0, ref) for ref in (facts.safe, prev, facts.acquiring, facts.unsafe)
                if ref is not None]  # fmt: skip
    return _proof(
        facts,
        path,
        safe_at=_frames(_became(draft, "safe")),
        unsafe_at=_frames(_became(draft, "unsafe")),
    )


def _inversion(draft: Draft, facts: LockdepDraft) -> IrqProof | None:
    """The lock taken here just became safe or unsafe; the other end of the path is the reverse."""
    this, here = facts.acquiring, _call(draft)
    classes = [entry for entry in facts.classes if entry.part == "short"]
    other = _stacks_of(draft, facts, classes[0]) if classes else []
    if facts.unsafe is not None:
        path = list(reversed(_in_order(draft, facts, "short", backwards=False)))
        path = path or [ChainLink(0, ref) for ref in (this, facts.unsafe) if ref is not None]
        there = next((s for s in other if "-ON-" in s.title), None)
        return _proof(facts, path, safe_at=here, unsafe_at=_frames(there), here="safe")
    path = _in_order(draft, facts, "short", backwards=True)
    path = path or [ChainLink(0, ref) for ref in (facts.safe, this) if ref is not None]
    there = next((s for s in other if s.title.lstrip().startswith("IN-")), None)
    return _proof(facts, path, safe_at=_frames(there), unsafe_at=here, here="unsafe")


def _proof(
    facts: LockdepDraft,
    path: Sequence[ChainLink],
    *,
    safe_at: tuple[Frame, ...],
    unsafe_at: tuple[Frame, ...],
    here: str = "order",
) -> IrqProof | None:
    links: list[ChainLink] = []
    for link in path:
        if not links or links[-1].lock.name != link.lock.name:
            frames = link.frames if links else ()
            links.append(ChainLink(len(links), link.lock, frames))
    if not links:
        return None
    assert here in ("safe", "unsafe", "order")
    return IrqProof(facts.irq or "", tuple(links), safe_at, unsafe_at, here)  # type: ignore[arg-type]


def _in_order(draft: Draft, facts: LockdepDraft, part: str, *, backwards: bool) -> list[ChainLink]:
    """One list of dependencies, as printed: each class with the stack that took it.

    Of a list that leads backwards kernels before 5.11 print, with each class, the stack that took
    the next one.
    """
    classes = [entry for entry in facts.classes if entry.part == part]
    stacks = [_acquired(_stacks_of(draft, facts, entry)) for entry in classes]
    if backwards and stacks and stacks[0]:
        stacks = [(), *stacks[:-1]]
    return [
        ChainLink(at, entry.lock, frames)
        for at, (entry, frames) in enumerate(zip(classes, stacks, strict=True))
    ]


def _stacks_of(draft: Draft, facts: LockdepDraft, entry: LockClassDraft) -> list[StackDraft]:
    """The stacks printed between this class and the next; classes are in the order of printing."""
    first = entry.first
    later = bisect_right(facts.classes, first, key=lambda other: other.first)
    end = facts.classes[later].first if later < len(facts.classes) else None
    stacks = draft.stacks[first:end]
    return [stack for stack in stacks if stack.role == "lock"]


def _acquired(stacks: Iterable[StackDraft]) -> tuple[Frame, ...]:
    return _frames(next((s for s in stacks if s.title.startswith(_ACQUIRED)), None))


def _became(draft: Draft, end: str) -> StackDraft | None:
    """``... which became HARDIRQ-irq-safe at:``"""
    wanted = re.compile(rf"\.\.\. which became .{{1,24}}-{end} at")
    return next((stack for stack in draft.stacks if wanted.match(stack.title)), None)


def _call(draft: Draft) -> tuple[Frame, ...]:
    return _frames(next((stack for stack in draft.stacks if stack.role == "call"), None))


def _frames(stack: StackDraft | None) -> tuple[Frame, ...]:
    return tuple(stack.frames) if stack is not None else ()
