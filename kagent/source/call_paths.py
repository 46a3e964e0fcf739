"""How one frame of a trace reaches the next, where the source shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kagent.source.call_search import Search, Uses
from kagent.source.names import is_syscall, source_names
from kagent.source.sites import CallSite
from kagent.source.union import SourceUnion

if TYPE_CHECKING:
    from kagent.source.tree import SourceTree

__all__ = ["CallKind", "CallPath", "call_path"]

CallKind = Literal[
    "direct", "through", "pointer", "callback", "entry", "compiler", "registered", "unknown"
]
_MAX_DEFINITIONS = 4
_MAX_REFERENCES = 8
# What interrupts a function rather than being called by it: arch/x86/include/asm/idtentry.h and
# entry_64.S before 5.8; kernel/entry.S of arm64 and riscv; arch/arm/kernel/entry-armv.S.
_ENTRY = re.compile(
    r"asm_(?:exc|sysvec|common_interrupt|spurious|fred|load_gs|xen|iret)\w*|asm_\w*interrupt"
    r"|(?:async_)?page_fault|general_protection|divide_error|invalid_op|double_fault|nmi"
    r"|error_entry|xen_\w+_entry|(?:apic_timer|reschedule|call_function(?:_single)?|irq_work"
    r"|common|spurious)_interrupt|ret_from_intr|common_interrupt|end_repeat_nmi"
    r"|el[01]h?_(?:sync|irq|fiq|error|inv)|el[01][th]?_(?:64|32)_(?:sync|irq|fiq|error)"
    r"|__(?:irq|dabt|pabt|und)_(?:svc|usr)|handle_exception|ret_from_exception|do_trap_\w+"
)
# What gcc and clang insert: stack protector, sanitizers, coverage, tracing, thunks, and copies.
_COMPILER = re.compile(
    r"__stack_chk_fail|__(?:k|hw)?asan_\w+|__asan\w+|__kcsan_\w+|__tsan_\w+|__msan_\w+"
    r"|__ubsan_handle_\w+|__sanitizer_cov_\w+|__fentry__|_?mcount|ftrace_caller"
    r"|kasan_(?:report|check_range)|__x86_(?:indirect|return)_\w+|mem(?:cpy|set|move|cmp)|__(?:memcpy|memset|memmove)"
)

# arch/x86/entry/common.c and syscall_64.c, arch/arm64/kernel/syscall.c, arch/riscv/kernel/traps.c
_SYSCALL_TABLE = re.compile(r"sys_?call_(?:table|fn)|x(?:64|32)_sys_call|ia32_sys_call")


@dataclass(frozen=True, slots=True)
class CallPath:
    """How `start` reaches `end`."""

    start: str
    end: str
    kind: CallKind
    """direct: it calls it. through: by way of inlined functions, macros, or tail calls.
    pointer: through a member, table or parameter that is set to `end`. callback: `start` calls
    through a pointer and the address of `end` is taken, but not visibly for that pointer.
    entry: `end` is where the processor enters the kernel, so that `start` was interrupted.
    compiler: the compiler inserts calls of `end`. registered: the address of `end` is taken, but
    `start` shows no call through a pointer. unknown: nothing was found."""
    steps: tuple[CallSite, ...] = ()
    """In the order of the calls; of a pointer, the place that sets it comes after its use."""
    note: str = ""
    truncated: bool = False
    """Whether a bound was met, so that a better answer may exist."""


def call_path(
    tree: SourceTree,
    start: str,
    end: str,
    *,
    files: Mapping[str, str] | None = None,
    others: Sequence[SourceTree] = (),
) -> CallPath:
    """Explain why `end` stands below `start` in a stack: `start` is the caller's frame.

    Names may be symbols as traces print them; `files` says where debug info puts them, `others`
    are the sources of modules, whose frames mix with the kernel's. Looks for a direct call, for
    one by way of functions and macros that leave no frame, then for a function pointer. Never
    raises for names that are nowhere: the answer is ``unknown`` then.
    """
    names = source_names(end)
    if names and _ENTRY.fullmatch(names[0]):
        note = f"{end} is an entry of the processor: {start} was interrupted there"
        return CallPath(start, end, "entry", note=note)
    trees = (tree, *others)
    found = SourceUnion(trees).lookup([start], files).get(start, [])[:_MAX_DEFINITIONS]
    if not names or not found:
        missing = end if not names else start
        return CallPath(start, end, "unknown", note=f"{missing} has no definition in the tree")
    uses = Uses(trees)
    best: tuple[int, CallPath] | None = None
    for function in found:
        kind, steps, note = _explain(Search(uses, names[0], function), start, end)
        rank = _RANK[kind]
        if best is None or rank < best[0]:
            best = rank, CallPath(start, end, kind, tuple(steps), note, uses.cut)
        if rank == 0:
            break
    assert best is not None
    return best[1]


_RANK: dict[CallKind, int] = {
    "direct": 0,
    "through": 0,
    "pointer": 0,
    "entry": 0,
    "compiler": 1,
    "callback": 1,
    "registered": 2,
    "unknown": 3,
}
_Found = tuple[CallKind, Sequence[CallSite], str]


def _explain(search: Search, start: str, end: str) -> _Found:
    if is_syscall(end) and source_names(start)[1:] == source_names(end)[1:]:
        return "through", (), "SYSCALL_DEFINE makes one a wrapper of the other"
    if steps := search.way_down():
        return ("direct" if len(steps) == 1 else "through"), steps, _folding(search, steps[1:])
    if _COMPILER.fullmatch(search.end):
        return "compiler", (), f"the compiler inserts calls of {end}"
    return _by_table(search, end) or _by_pointer(search, start, end)


def _folding(search: Search, steps: Sequence[CallSite]) -> str:
    words = {
        "macro": "a macro",
        "inline": "inlined",
        "static": "static, the compiler may inline it",
    }
    said = []
    for site in steps:
        tail = site.caller_kind == "function" and search.uses.is_tail(site)
        other = "may end in a tail call" if tail else "the compiler may inline it"
        said.append(f"{site.caller}: {words.get(site.caller_kind, other)}")
    return "; ".join(said)


def _by_table(search: Search, end: str) -> _Found | None:
    """System calls are called through a table, or a switch, that macros generate."""
    below = [name for name, link in search.below.items() if is_syscall(name) and link.tail]
    if not is_syscall(end) and not below:
        return None
    used = search.calls_to(_SYSCALL_TABLE)
    if not used and not _SYSCALL_TABLE.search(search.function.name):
        return None
    if is_syscall(end):
        return "pointer", used, "through the table of system calls"
    steps = search.below[below[0]].steps
    note = f"through the table of system calls; {_folding(search, steps)}"
    return "pointer", [*used, *steps], note


def _by_pointer(search: Search, start: str, end: str) -> _Found:
    taken = search.addresses()
    stored = {name: (site, *rest) for site, rest in reversed(taken) for name in _members(site)}
    if stored and (steps := search.way_to(search.reads_of(stored))):
        member = steps[-1].callee
        return "pointer", [*steps, *stored[member]], f"through the member {member}"
    for site, rest in taken:
        if way := _handed(search, site):
            return "pointer", [*way, site, *rest], f"{site.callee} is handed to it"
    tied = {name: (site, *rest) for site, rest in reversed(taken) for name in _hooks(site)}
    places = {name: steps[0].path for name, steps in tied.items()}
    if tied and (steps := search.way_to(search.names_of(places))):
        hook = steps[-1].callee
        return "pointer", [*steps, *tied[hook]], f"through the hook {hook}"
    if taken and search.indirect:
        site, rest = taken[0]
        note = "it is not visible whether this pointer holds this address"
        return "callback", [*search.indirect[0], site, *rest], note
    if taken:
        note = f"the address of {end} is taken; the pointer's way is not visible"
        return "registered", [site for site, _ in taken[:_MAX_REFERENCES]], note
    return "unknown", (), f"no use of {end} leads to {start} without another frame between"


def _members(site: CallSite) -> Iterator[str]:
    """Members that a line sets to the function: ``.write = f``, ``ops->write = f``."""
    name = re.escape(site.callee)
    for found in re.finditer(rf"(?:\.|->)\s*(\w{{1,128}})\s*=\s*&?\s*{name}\b", site.text):
        yield found[1]


def _handed(search: Search, site: CallSite) -> list[CallSite]:
    """The call through a pointer, where the start itself is given the function as argument."""
    given = rf"\b{re.escape(search.function.name)}\s*\(.{{0,200}}\b{re.escape(site.callee)}\b"
    if not search.indirect or not re.search(given, site.text):
        return []
    return list(search.indirect[0])


def _hooks(site: CallSite) -> Iterator[str]:
    """What a macro ties to the function: ``LSM_HOOK_INIT(name, f)``, ``static_call_update``."""
    name = re.escape(site.callee)
    for found in re.finditer(rf"\b[A-Za-z_]\w*\(\s*(\w{{3,128}})\s*,\s*&?{name}\s*[,)]", site.text):
        yield found[1]
    if data := re.match(r"SYM_DATA\w*\((\w+),", site.text):
        yield data[1]
