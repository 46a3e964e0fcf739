"""What KASAN, KFENCE, page faults and oops headers say about the access and the object."""

from __future__ import annotations

import re
from typing import Literal

from kagent.klog.draft import Draft
from kagent.klog.lines import Line
from kagent.klog.model import Access, MemoryObject

__all__ = ["freeze_access", "freeze_memory", "read_access"]

_KASAN_ACCESS = re.compile(
    r"(?P<kind>Read|Write|Free) (?:of size (?P<size>\d{1,9}) )?(?:at"
    r"|of) addr (?P<addr>[0-9a-f]{1,16})"
    r"(?: by task (?P<comm>.{1,64})/(?P<pid>\d{1,10}))?"
)
_KASAN_OLD = re.compile(
    r"(?P<kind>Read|Write) of size (?P<size>\d{1,9}) by task (?P<comm>.{1,64})/(?P<pid>\d{1,10})"
)
_KASAN_OLD_ADDR = re.compile(
    r"BUG: KASAN: .{1,200} (?:at addr|on address) (?P<addr>[0-9a-f]{4,16})"
)
_KFENCE = re.compile(
    r"(?P<what>Out-of-bounds|Use-after-free|Invalid|Corrupted memory) ?(?P<kind>read|write|free)? "
    r"(?:at|of) 0x(?P<addr>[0-9a-f]{4,16})"
)
_PF = re.compile(r"#PF: (?:supervisor|user) (?P<kind>read|write|instruction fetch)\b")
_FAULT_ADDRESS = re.compile(
    r"(?:nable to handle (?:kernel )?(?:page fault for address|.{1,60} at(?: virtual address)?)"
    r"|NULL pointer dereference(?:, address|(?: on (?P<how>read|write))? at(?: virtual address)?)"
    r"|(?:page fault for|data access(?: on (?P<how2>read|write))?|access to user memory) ?.{0,40}"
    r"(?:address|at)|non-canonical address|user-memory-access in range|maybe for address)"
    r":? (?:0x)?(?P<addr>[0-9a-f]{8,16})"
)
_ARM_WHEN = re.compile(r"virtual address [0-9a-f]{8} when (?P<how>read|write|execute)")
_ARM64_ESR = re.compile(r"\s{0,4}ESR = 0x(?P<esr>[0-9a-f]{8,16})")
_X86_ERROR = re.compile(r"Oops: (?P<code>[0-9a-f]{4}) \[#\d")
_ARM64_WNR = re.compile(r"\bWnR = (?P<wnr>[01])")
_OOPS = re.compile(
    r"#PF: error_code|PGD |Oops|pgd = |\[[0-9a-f]{8,16}\] (?:pgd|\*pgd|user address|address)"
    r"|Mem abort info|Data abort info|\s{2}(?:EC|SET|FSC|ISV|CM|GCS|TagAccess|FSC) ?=|user pgtable"
    r"|swapper pgtable|Faulting instruction address|KASAN: |BAD\b|LE PAGE_SIZE|invalid opcode: 0000"
    r"|Internal error:|Modules linked|IP: \s*\(null\)|Bad (?:IP|RIP) value|Unable to access opcode"
)

_OBJECT = re.compile(r"The buggy address belongs to the object at (?P<addr>[0-9a-f]{4,16})")
_CACHE = re.compile(
    r"\s{0,2}which belongs to the cache (?P<cache>\S{1,64}) of size (?P<size>\d{1,10})"
)
_WHERE = re.compile(
    r"The buggy address is located (?P<n>\d{1,12}) bytes (?P<side>inside|to the right|to the left)"
    r" of"
)
_WHERE_OBJECT = re.compile(
    r"\s{0,2}(?:allocated |freed )?(?P<size>\d{1,10})-byte region \[(?P<lo>[0-9a-f]{4,16}), "
)
_KFENCE_WHERE = re.compile(r"\((?P<n>\d{1,9})B (?P<side>right|left) of kfence-#")
_KFENCE_OBJECT = re.compile(
    r"kfence-#\d{1,6}: 0x(?P<addr>[0-9a-f]{4,16})-0x[0-9a-f]{4,16}, size=(?P<size>\d{1,8}), "
    r"cache=(?P<cache>\S{1,64})"
)
_SLUB_OLD = re.compile(
    r"Object at (?P<addr>[0-9a-f]{8,16}), in cache (?P<cache>\S{1,64})(?: size: (?P<size>\d{1,8}))?"
)
_LEAKED = re.compile(
    r"unreferenced object (?:percpu )?0x(?P<addr>[0-9a-f]{4,16}) \(size (?P<size>\d{1,12})\)"
)
_STORY = re.compile(
    r"The buggy address(?! belongs to the physical page)|\s{0,2}which belongs to"
    r"|\s{0,2}(?:allocated |freed )?\d{1,10}-byte region"
    r"|This frame has \d|\s\[[\d, ]{1,40}\)? '|The buggy address appears to|belongs to (?:stack"
    r"|variable"
    r"|the variable|the page|a vmap|the physical)|and is located at offset"
)
_DUMP = re.compile(
    r"Memory state around|[> ]?\s{0,2}[0-9a-f]{8,16}: (?:[0-9a-f]{2} ){8}|\s{3,90}\^|page:|head:"
    r"|raw:|flags:"
    r"|page dumped because|page_owner|page last|page has been|page_type|={20,}|-{20,}|anon flags"
    r"|Bytes? \d|Local variable|Uninit was|Reported by Kernel Concurrency|value changed:"
    r"|\s{2}(?:comm \"|hex dump)|\s{2,8}(?:[0-9a-f]{2} ){4}|kmemleak:|mapping:|aops:|order:|memcg:"
)


_STORY_LINES = 12
"""Twice what mm/kasan/report.c needs to describe an object."""


def read_access(draft: Draft, line: Line) -> bool:
    """Take a line about the access, the faulting address or the object."""
    text = line.text
    if _read_access(draft, text):
        if text.startswith("KASAN: "):
            draft.say(text)
        elif "kfence-#" in text:
            _read_object(draft, text)
        return True
    if (
        draft.telling
        and text.startswith("  ")
        and "+0x" not in text
        and len(draft.story) < _STORY_LINES
    ):
        _read_object(draft, text)
        draft.story.append(text.strip())
        return True
    draft.telling = False
    if (
        _STORY.match(text)
        or "kfence-#" in text
        or "nreferenced object" in text
        or "Object at" in text
    ):
        _read_object(draft, text)
        draft.story.append(text.strip())
        draft.telling = _STORY.match(text) is not None
        draft.stack = None
        return True
    return _DUMP.match(text) is not None


def _read_access(draft: Draft, text: str) -> bool:
    for pattern in (_KASAN_ACCESS, _KASAN_OLD, _KASAN_OLD_ADDR, _KFENCE, _PF):
        if match := pattern.search(text):
            for key, value in match.groupdict().items():
                if value is not None:
                    draft.access.setdefault(key, value)
            return pattern is not _KASAN_OLD_ADDR
    taken = False
    for pattern in (_FAULT_ADDRESS, _ARM_WHEN, _ARM64_ESR, _X86_ERROR, _ARM64_WNR):
        if match := pattern.search(text):
            for key, value in match.groupdict().items():
                if value is not None:
                    draft.access.setdefault(key.rstrip("2"), value)
            taken = True
    return taken or _OOPS.match(text) is not None


def _read_object(draft: Draft, text: str) -> None:
    for pattern in (
        _OBJECT,
        _CACHE,
        _WHERE,
        _WHERE_OBJECT,
        _KFENCE_WHERE,
        _KFENCE_OBJECT,
        _SLUB_OLD,
        _LEAKED,
    ):
        if match := pattern.search(text):
            for key, value in match.groupdict().items():
                if value is not None:
                    draft.memory.setdefault(key, value)


_KINDS: dict[str, Literal["read", "write", "exec", "free"]] = {
    "read": "read",
    "write": "write",
    "free": "free",
    "execute": "exec",
    "instruction fetch": "exec",
}


_RISCV_CAUSES: dict[int, Literal["read", "write", "exec", "free"]] = {
    12: "exec",
    13: "read",
    15: "write",
}


def freeze_access(draft: Draft) -> Access | None:
    """The access as a value; None where the report names none."""
    facts = draft.access
    if not facts:
        return None
    kind = _KINDS.get(facts.get("kind", facts.get("how", "")).lower())
    if kind is None and "code" in facts:  # arch/x86/include/asm/trap_pf.h
        code = int(facts["code"], 16)
        if "addr" in facts:
            kind = "exec" if code & 16 else "write" if code & 2 else "read"
    if kind is None and facts.get("wnr"):
        kind = "write" if facts["wnr"] == "1" else "read"
    if kind is None and "esr" in facts:  # ISS.WnR of a data abort, Arm ARM D17.2.37
        esr = int(facts["esr"], 16)
        if esr >> 26 & 0x3F in (0x24, 0x25):
            kind = "write" if esr & 0x40 else "read"
        elif esr >> 26 & 0x3F in (0x20, 0x21):
            kind = "exec"
    if kind is None and "badaddr" in draft.own.registers:  # RISC-V privileged ISA, scause
        kind = _RISCV_CAUSES.get(draft.own.registers.get("cause", 0))
    access = Access(
        kind=kind,
        size=int(facts["size"]) if "size" in facts else None,
        address=int(facts["addr"], 16) if "addr" in facts else None,
        task=facts.get("comm"),
        pid=int(facts["pid"]) if "pid" in facts else None,
    )
    return access if access != Access() else None


def freeze_memory(draft: Draft) -> MemoryObject | None:
    """The object as a value; None where the report describes none."""
    facts = draft.memory
    if not facts and not draft.story:
        return None
    offset = None
    size = int(facts["size"]) if "size" in facts else None
    if "n" in facts:
        offset = int(facts["n"])
        if facts["side"].endswith("left"):
            offset = -offset
        elif facts["side"].endswith("right") and size is not None:
            offset += size
    return MemoryObject(
        address=int(facts["addr"], 16) if "addr" in facts else None,
        cache=facts.get("cache"),
        size=size,
        offset=offset,
        description=" ".join(draft.story),
    )
