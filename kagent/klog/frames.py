"""One line of a stack: every spelling the kernel's unwinders use, on nine architectures."""

from __future__ import annotations

import re

from kagent.klog.frame_model import Frame
from kagent.klog.lines import Line

__all__ = ["CALLED_FROM", "parse_caller", "parse_frame", "parse_pc", "trace_match"]

SYMBOL = r"[A-Za-z_.$][\w.$]{0,511}"
_PLACE = (
    r"(?P<sym>" + SYMBOL + r")\+0x(?P<off>[0-9a-f]{1,16})/0x(?P<size>[0-9a-f]{1,16})"
    r"(?: (?P<file>[^\s:]{1,255}):(?P<line>\d{1,7}))?(?P<inl> \[inline\])?"
    r"(?: \[(?P<mod>[\w.-]{1,64})(?: (?P<build>[0-9a-f]{6,64}))?\])?"
)
_ADDRESS = r"\[ ?<?(?:0x)?(?P<addr>[0-9a-f]{6,16})>?\]"

# printk("%s%pB") with what show_trace_log_lvl, dump_backtrace, show_stack (powerpc: two columns
# and "(unreliable)"), s390 ("([<..>] foo)") and arm64 ("(P)", "(CF)") put around it.
FRAME = re.compile(
    r"[ \t]{0,32}(?:#\d{1,3} {1,2})?(?P<open>\()?(?:\[ ?<?(?:0x)?[0-9a-f]{6,16}>?\] {1,4})?"
    r"(?:" + _ADDRESS + r" {0,4})?"
    r"(?P<guess>\? )?" + _PLACE + r"(?P<close>\))?(?: \((?P<why>unreliable|[A-Z]{1,4})\))?\s{0,4}$"
)
INLINE = re.compile(
    r"[ \t]{0,32}(?:\[ ?<?(?:0x)?[0-9a-f]{6,16}>?\] {1,4})?(?:"
    + _ADDRESS
    + r" {1,4})?(?:[RE]IP: [0-9a-f]{4}:)?(?P<guess>\? )?(?P<sym>[A-Za-z_<][\w.:<>$ ]{0,200}?)"
    r" (?P<file>[^\s:]{1,255}\.\w{1,3}):(?P<line>\d{1,7}) \[inline\]$"
)
_BARE = re.compile(
    r"[ \t]{1,32}(?:\[<?[0-9a-f]{8,16}>?\] )?(?P<guess>\? )?0x(?P<addr>[0-9a-f]{8,16})$"
)
# arch/arm/kernel/traps.c, dump_backtrace_entry(): with and without CONFIG_ARM_UNWIND addresses.
CALLED_FROM = re.compile(
    r"[ \t]{0,32}(?:\[<(?P<addr>[0-9a-f]{8})>\] )?\(?(?P<sym>" + SYMBOL + r")"
    r"(?:\+0x(?P<off>[0-9a-f]{1,8})/0x(?P<size>[0-9a-f]{1,8}))?(?: \[(?P<mod>[\w.-]{1,64})\])?\)?"
    r" from (?:\[<(?P<caddr>[0-9a-f]{8})>\] )?\(?(?P<csym>" + SYMBOL + r")"
    r"\+0x(?P<coff>[0-9a-f]{1,8})/0x(?P<csize>[0-9a-f]{1,8})"
    r"(?: (?P<cfile>[^\s:]{1,255}):(?P<cline>\d{1,7}))?(?: \[(?P<cmod>[\w.-]{1,64})\])?"
    r"(?P<close>\)?)\s{0,4}$"
)
# Lines that state the trapping PC. x86: the code segment tells kernel (0010) from user (0033).
_PC = re.compile(
    r"[ \t]{0,8}(?:"
    r"(?:RIP|EIP): (?P<cs>[0-9a-f]{4}):(?:\[<[0-9a-f]{8,16}>\] {1,4})?"
    r"|EIP: |(?:EIP|RIP|PC|pc) is at |IP: (?=\[|" + SYMBOL + r"\+)"
    r"|pc {0,4}: (?=" + SYMBOL + r"\+)|NIP |epc {0,4}: |ERA {0,4}: |Krnl PSW : [0-9a-f]{16} "
    r"|\[<[0-9a-f]{8,16}>\] NIP |--- interrupt: [0-9a-f]{1,4} at "
    r")"
)
_PC_PLACE = re.compile(
    r"(?:\[?<?(?P<addr>[0-9a-f]{8,16})>?\]? {0,4})?\(?(?:\[<[0-9a-f]{8,16}>\] {1,4})?" + _PLACE
)
# arch/arm/kernel/process.c says PC and LR in words; symbolizers repeat them for what is inlined.
_IS_AT = re.compile(r"[ \t]{0,8}(?:(?P<pc>PC|pc)|LR|lr) is at ")
_CALLER = re.compile(r"(?:Allocated|Freed) in " + _PLACE + r" age=")
_PC_BARE = re.compile(r"(?:0x(?=[0-9a-f])|(?=[0-9a-f]{8}))(?P<addr>[0-9a-f]{1,16})(?: |$)")


def parse_frame(line: Line) -> tuple[Frame, ...]:
    """The frames a stack line states; empty when it is none.

    arm prints callee and caller on one line, hence up to two. The first is complete only there.
    """
    text = line.text
    if "+0x" not in text:
        return _rare_frame(line)
    match = FRAME.match(text)
    if match:
        return (_frame(match, line),)
    match = CALLED_FROM.match(text)
    if match:
        return _arm_frames(match, line)
    return ()


def trace_match(text: str) -> re.Match[str] | None:
    """How a line of a trace is spelled, with the groups of FRAME, INLINE or CALLED_FROM.

    None for other lines, as `parse_frame` has it; and for those which only state an address.
    """
    if "+0x" in text:
        return FRAME.match(text) or CALLED_FROM.match(text)
    if text.endswith("[inline]") and not _IS_AT.match(text):
        return INLINE.match(text)
    return None


def _rare_frame(line: Line) -> tuple[Frame, ...]:
    text = line.text
    if text.endswith("[inline]"):
        stated = _IS_AT.match(text)
        if stated and not stated["pc"]:
            return ()
        match = INLINE.match(text, stated.end() if stated else 0)
        if match:
            return (
                Frame(
                    match["sym"],
                    file=match["file"],
                    line=int(match["line"]),
                    inline=True,
                    reliable=match["guess"] is None,
                    span=line.span,
                ),
            )
    elif "0x" in text:
        match = _BARE.match(text)
        if match:
            address = int(match["addr"], 16)
            reliable = match["guess"] is None
            return (Frame(f"{address:#x}", address=address, reliable=reliable, span=line.span),)
    return ()


def _frame(match: re.Match[str], line: Line, *, exact: bool = False) -> Frame:
    groups = match.groupdict()
    # "([<..>] foo)" is s390's; a mail may have torn "(foo)" off the line of an arm stack.
    apart = groups.get("open") and line.text.startswith("[", match.end("open"))
    doubted = groups.get("guess") or apart or groups.get("why") == "unreliable"
    return Frame(
        symbol=match["sym"],
        offset=int(match["off"], 16),
        size=int(match["size"], 16),
        module=match["mod"],
        build_id=match["build"],
        address=int(groups["addr"], 16) if groups.get("addr") else None,
        reliable=not doubted,
        exact=exact,
        inline=match["inl"] is not None,
        file=match["file"],
        line=int(match["line"]) if match["line"] else None,
        span=line.span,
    )


def _arm_frames(match: re.Match[str], line: Line) -> tuple[Frame, ...]:
    caller = Frame(
        match["csym"],
        int(match["coff"], 16),
        int(match["csize"], 16),
        match["cmod"],
        address=int(match["caddr"], 16) if match["caddr"] else None,
        file=match["cfile"],
        line=int(match["cline"]) if match["cline"] else None,
        span=line.span,
    )
    if match["off"] is None:
        # "(foo) from [<..>] (bar+0x10/0x20)": foo is named, its place is not.
        callee = Frame(match["sym"], span=line.span)
    else:
        callee = Frame(
            match["sym"],
            int(match["off"], 16),
            int(match["size"], 16),
            match["mod"],
            address=int(match["addr"], 16) if match["addr"] else None,
            span=line.span,
        )
    return (callee, caller)


def parse_caller(line: Line) -> Frame | None:
    """The frame in slub's ``Freed in foo+0x1e/0x40 age=3 cpu=0 pid=9``, print_track()."""
    match = _CALLER.search(line.text)
    return _frame(match, line) if match else None


def parse_pc(line: Line) -> Frame | None:
    """The kernel's trapping instruction if `line` states one (``RIP:``, ``pc :``, ``NIP`` ...).

    User-space PCs (``RIP: 0033:``) are none.
    """
    text = line.text
    match = _PC.match(text)
    if match is None:
        return None
    segment = match["cs"]
    if segment is not None and int(segment, 16) & 3:
        return None  # the privilege level of CS: user mode
    place = _PC_PLACE.match(text, match.end())
    if place:
        return _frame(place, line, exact=True)
    bare = _PC_BARE.match(text, match.end())
    if bare and segment is not None:
        address = int(bare["addr"], 16)
        return Frame(f"{address:#x}", address=address, exact=True, span=line.span)
    return None
