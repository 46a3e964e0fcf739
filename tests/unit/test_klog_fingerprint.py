"""A fingerprint names the bug, whatever build, machine, console or mail client it came through."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kagent.klog import parse_log

LOGS = sorted((Path(__file__).parents[1] / "data" / "klog").glob("*.log"))
OFFSET = re.compile(r"\+0x([0-9a-f]{1,8})/0x([0-9a-f]{1,8})")
FUNCTION = re.compile(r"\b([a-z_]\w*)(?=\+0x)")
STAMP = re.compile(r"(?m)^\[ *\d+\.\d{6}\](?=\[| )")


def fingerprints(log: str) -> list[str]:
    return [report.fingerprint for report in parse_log(log).reports]


def rebuilt(log: str, dice: random.Random) -> str:
    """Another compiler: functions are larger and every call lies elsewhere in them."""
    grown = dice.randrange(16, 256)
    return OFFSET.sub(
        lambda m: f"+{int(m[1], 16) + dice.randrange(grown):#x}/{int(m[2], 16) + grown:#x}", log
    )


def split(log: str, dice: random.Random) -> str:
    """A compiler that takes functions apart."""
    parts = ("", ".isra.0", ".constprop.0", ".part.0", ".cold", ".llvm.1234567")
    chosen = {name: dice.choice(parts) for name in sorted(set(FUNCTION.findall(log)))}
    return FUNCTION.sub(lambda m: m[1] + chosen[m[1]], log)


def randomised(log: str, dice: random.Random) -> str:
    """Another boot: KASLR moves every address of the kernel."""
    slide = dice.randrange(1, 0x200) << 21
    return re.sub(r"\bffffffff[89a][0-9a-f]{7}\b", lambda m: f"{int(m[0], 16) + slide:x}", log)


def later(log: str, dice: random.Random) -> str:
    shift = dice.randrange(1, 10_000)
    return STAMP.sub(lambda m: f"[{float(m[0][1:-1]) + shift:12.6f}]", log)


def in_a_mail(log: str, dice: random.Random) -> str:
    mark = "> " * dice.randrange(1, 4)
    return "".join(f"{mark}{line}\n" for line in log.splitlines())


def over_a_serial_line(log: str, dice: random.Random) -> str:
    return log.replace("\n", "\r\n")


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "change", [rebuilt, split, randomised, later, in_a_mail, over_a_serial_line]
)
def test_the_same_bug_has_the_same_name(
    path: Path, change: Callable[[str, random.Random], str]
) -> None:
    log = path.read_text()
    for seed in range(3):
        changed = change(log, random.Random(seed))
        assert fingerprints(changed) == fingerprints(log)


def test_every_bug_has_a_name_of_its_own() -> None:
    named: dict[str, str] = {}
    for path in LOGS:
        for report in parse_log(path.read_bytes()).reports:
            assert named.setdefault(report.fingerprint, report.title) == report.title
    assert len(named) > len(LOGS) / 2


X86 = """\
BUG: kernel NULL pointer dereference, address: 0000000000000018
Oops: 0000 [#1] SMP
CPU: 1 PID: 40 Comm: writer Not tainted 6.1.0 #1
RIP: 0010:widget_fill+0x1e/0x70 [widget]
Call Trace:
 <TASK>
 ? page_fault_oops+0xd3/0x280
 ? widget_fill+0x1e/0x70 [widget]
 widget_write+0x65/0x90 [widget]
 vfs_write+0xc7/0x3f0
 ksys_write+0x6b/0xf0
 __x64_sys_write+0x19/0x20
 do_syscall_64+0x5d/0x90
 entry_SYSCALL_64_after_hwframe+0x6e/0xd8
 </TASK>
---[ end trace 0000000000000000 ]---
"""
ARM64 = """\
Unable to handle kernel NULL pointer dereference at virtual address 0000000000000018
Internal error: Oops: 0000000096000004 [#1] PREEMPT SMP
CPU: 3 PID: 77 Comm: writer Not tainted 6.6.0 #1
pc : widget_fill+0x24/0x88 [widget]
lr : widget_write+0x70/0xa0 [widget]
sp : ffff80008a1bbc40
Call trace:
 widget_fill+0x24/0x88 [widget]
 widget_write+0x70/0xa0 [widget]
 vfs_write+0xc8/0x38c
 ksys_write+0x74/0x110
 __arm64_sys_write+0x24/0x30
 invoke_syscall+0x50/0x120
 el0_svc_common.constprop.0+0x48/0xf8
 do_el0_svc+0x28/0x40
 el0_svc+0x34/0x118
 el0t_64_sync_handler+0x100/0x130
 el0t_64_sync+0x190/0x198
---[ end trace 0000000000000000 ]---
"""


def test_the_architecture_is_no_part_of_the_name() -> None:
    assert fingerprints(X86) == fingerprints(ARM64)
    assert fingerprints(X86) != fingerprints(X86.replace("widget_fill", "widget_drain"))
