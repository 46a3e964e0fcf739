"""Finished resolutions, filled in by hand, for tests of the views.

The driver is invented: ``relayctl`` switches banks of relays, and the bank of channel ``spare``
was never allocated.
"""

from __future__ import annotations

from kagent.resolution import (
    Actions,
    Culprit,
    CycleMember,
    Deadlock,
    Engine,
    Evidence,
    Fault,
    Finding,
    Fix,
    FixStatus,
    FrameView,
    MemoryEvent,
    MemoryFacts,
    Missing,
    Pointer,
    ReportView,
    Resolution,
    SourcePoint,
    Subsystem,
    Usage,
    Victim,
)

__all__ = ["deadlock_resolution", "oops_resolution"]

_FILE = "drivers/misc/relayctl.c"
_TITLE = "KASAN: null-ptr-deref Read in relay_switch"

_SOURCE = """\
static bool relay_bank_has(const struct relay_bank *b, unsigned int nr)
{
\tunsigned int i;

\tfor (i = 0; i < b->count; i++) {
\t\tif (b->relay[i] == nr)
\t\t\treturn true;
\t}
\treturn false;
}"""

_REFORMATTED = """\
[   42.118400][  T311] KASAN: null-ptr-deref in range [0x0000000000000018-0x000000000000001f]
[   42.118501][  T311] CPU: 1 UID: 0 PID: 311 Comm: relayd Tainted: G           O       6.12.9 #1
[   42.119002][  T311] RIP: 0010:relay_switch+0x5c/0x1e0 [relayctl]
[   42.121310][  T311] Call Trace:
[   42.121344][  T311]  <TASK>
[   42.121390][  T311]  relayctl_write+0x141/0x200 [relayctl]
[   42.121455][  T311]  ? __pfx_relayctl_write+0x10/0x10 [relayctl]
[   42.121520][  T311]  vfs_write+0x22d/0xf10
[   42.121581][  T311]  ksys_write+0xf6/0x1d0
[   42.121640][  T311]  do_syscall_64+0x71/0x140
[   42.121702][  T311]  entry_SYSCALL_64_after_hwframe+0x4b/0x53
[   42.121790][  T311]  </TASK>
"""

_EXPLANATION = """\
`relay_switch()` hands the bank of the channel to `relay_bank_has()`, which was inlined into it.
The channel **spare** was added without a bank, so `c->bank` is NULL and reading `b->count`
touches address 0x18 [E1, E3].

- The register that holds the bank is zero [E2].
- No caller checks `c->bank`:

```c
if (relay_bank_has(c->bank, nr))
\trelay_toggle(c, nr);
```
"""


def _point(function: str, line: int) -> SourcePoint:
    return SourcePoint(function=function, file=_FILE, line=line, module="relayctl")


def _call(symbol: str, offset: int, size: int, file: str, line: int) -> FrameView:
    return FrameView(symbol=symbol, offset=offset, size=size, file=file, line=line, function=symbol)


def _frames() -> list[FrameView]:
    chain = [_point("relay_bank_has", 48), _point("relay_switch", 61)]
    return [
        FrameView(
            symbol="relay_switch",
            offset=0x5C,
            size=0x1E0,
            module="relayctl",
            function="relay_bank_has",
            file=_FILE,
            line=48,
            inline=chain,
        ),
        FrameView(
            symbol="relayctl_write",
            offset=0x141,
            size=0x200,
            module="relayctl",
            function="relayctl_write",
            file=_FILE,
            line=97,
            inline=[_point("relayctl_write", 97)],
        ),
        FrameView(
            symbol="__pfx_relayctl_write", offset=0x10, size=0x10, module="relayctl", reliable=False
        ),
        _call("vfs_write", 0x22D, 0xF10, "fs/read_write.c", 684),
        _call("ksys_write", 0xF6, 0x1D0, "fs/read_write.c", 739),
        FrameView(symbol="do_syscall_64", offset=0x71, size=0x140, note="no debug info"),
    ]


def _reports() -> list[ReportView]:
    return [
        ReportView(
            title=_TITLE,
            kind="KASAN-NULL-POINTER-DEREFERENCE-READ",
            primary=True,
            span=(1801, 5204),
            fingerprint="9b1c6f0a42d7e853",
            kernel="6.12.9",
            arch="x86_64",
            cpu=1,
            task="relayd",
            pid=311,
            hardware="QEMU Standard PC (i440FX + PIIX, 1996)",
            taint="GO",
            frames=_frames(),
        ),
        ReportView(
            title="WARNING in relay_close",
            kind="WARNING",
            caused_by=0,
            span=(5204, 7001),
            repeats=2,
            kernel="6.12.9",
        ),
    ]


def _fixes() -> list[Fix]:
    return [
        Fix(
            hash="4f0d1c9a7be2836655d0c3b9f1e27a8846ad90c3",
            subject="misc: relayctl: skip channels without a bank",
            author="Ada Example <ada@example.org>",
            date="2025-02-03T09:14:00+00:00",
            score=3.2,
            confidence=0.83,
            why=["touches `relay_switch()`, where it crashed", "the message names `c->bank`"],
            status=FixStatus(
                upstream_tag="v6.13", in_kernel=False, branches_without=["linux-6.12.y"]
            ),
        ),
        Fix(
            hash="b7720e5d13a94cc0f6a1d2e85b3307f9c1248e6d",
            subject="misc: relayctl: lock the channel list",
            author="Bo Example <bo@example.org>",
            date="2024-11-20T17:40:00+00:00",
            score=1.1,
            confidence=0.2,
            why=["touches `relayctl_write()`"],
        ),
    ]


def oops_resolution() -> Resolution:
    """A NULL dereference in an inlined function, fully explained."""
    return Resolution(
        engine=Engine(kind="rules", version="0.1.0"),
        reports=_reports(),
        reformatted=_REFORMATTED,
        subsystem=Subsystem(name="CHAR and MISC DRIVERS"),
        summary="`relay_switch()` read `b->count` through a NULL `struct relay_bank` pointer [E1].",
        explanation=_EXPLANATION,
        fault=Fault(
            symbol="relay_switch+0x5c/0x1e0",
            function="relay_bank_has",
            file=_FILE,
            line=48,
            module="relayctl",
            inline_chain=[_point("relay_bank_has", 48), _point("relay_switch", 61)],
            access="read",
            address=0x18,
            size=4,
            instruction="mov 0x18(%rbx),%eax",
            pointer=Pointer(register="rbx", value=0, meaning="NULL"),
            struct="relay_bank",
            member="count",
            offset=0x18,
            expression="b->count",
            confidence=0.98,
        ),
        memory=MemoryFacts(
            object="relay_bank",
            cache="kmalloc-64",
            size=64,
            access=MemoryEvent(
                function="relay_switch", file=_FILE, line=61, task="relayd", pid=311
            ),
        ),
        fixes=_fixes(),
        findings=[
            Finding(
                claim="`c->bank` is NULL when `relay_switch()` runs",
                confidence=0.98,
                evidence=["E1", "E2"],
                by="rule:null-dereference",
            ),
            Finding(
                claim="The value is member `count` of `struct relay_bank`",
                confidence=0.95,
                evidence=["E3"],
                by="rule:struct-member",
            ),
        ],
        evidence=[
            Evidence(id="E1", kind="source", content=_SOURCE, origin=f"{_FILE}:44-53@v6.12.9"),
            Evidence(id="E2", kind="register", content="rbx = 0x0", origin="log 2210-2290"),
            Evidence(
                id="E3",
                kind="struct-member",
                content="struct relay_bank { u32 count; /* offset 24, size 4 */ }",
                origin="relayctl.ko 1f0c2b",
            ),
        ],
        missing=[
            Missing(
                what="vmlinux of 6.12.9 for `do_syscall_64`",
                how="install the kernel's debug package and pass `--vmlinux FILE`",
            )
        ],
        actions=Actions(
            fix=["Apply 4f0d1c9a7be2, or upgrade to v6.13 or later."],
            verify=["Write `spare 1` to `/proc/relayctl` again: the report must not come back."],
            mitigate=["Unload `relayctl`, or keep `relayd` from switching the channel `spare`."],
        ),
        notes=["`vmlinux` was not given: core frames carry no lines."],
        usage=Usage(seconds={"reformat": 0.01, "evidence": 0.42, "retrieve": 0.08}),
    )


def deadlock_resolution() -> Resolution:
    """Two tasks that took two mutexes in opposite order, and a third that queues."""
    return Resolution(
        engine=Engine(kind="model", model="small-model", version="0.1.0"),
        route="deadlock",
        reports=[
            ReportView(
                title="INFO: task hung in relay_merge",
                kind="HANG",
                primary=True,
                span=(0, 9000),
                kernel="6.12.9",
                arch="arm64",
                task="merger",
                pid=77,
                taint="",
                frames=[
                    FrameView(symbol="__switch_to", offset=0xE0, size=0x120),
                    FrameView(symbol="relay_merge", offset=0x44, size=0xA0, module="relayctl"),
                ],
            )
        ],
        summary="Tasks merger and splitter wait for each other's mutex.",
        deadlock=Deadlock(
            verdict="deadlock",
            reason="merger holds a->lock and wants b->lock, splitter the reverse",
            cycles=[
                [
                    CycleMember(
                        task="merger",
                        pid=77,
                        holds=["&a->lock"],
                        waits_for="&b->lock",
                        lock_type="mutex",
                        where=_point("relay_merge", 140),
                    ),
                    CycleMember(
                        task="splitter",
                        pid=78,
                        holds=["&b->lock"],
                        waits_for="&a->lock",
                        lock_type="mutex",
                        where=_point("relay_split", 171),
                        inferred=True,
                    ),
                ]
            ],
            victims=[Victim(task="relayd", pid=80, waits_for="&a->lock")],
            culprit=Culprit(task="splitter", pid=78, why="it locks b before a"),
        ),
        actions=Actions(fix=["Take both locks in the order of their ids in `relay_split()`."]),
        unverified=["model:small-model cited commit deadbeef1234, which is not in the index"],
        usage=Usage(calls=3, tokens_in=5120, tokens_out=640, seconds={"synthesis": 3.5}),
    )
