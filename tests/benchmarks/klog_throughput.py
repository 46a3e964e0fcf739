"""MB/s and peak memory of `parse_log` on a long console with few reports.

::

    python tests/benchmarks/klog_throughput.py [--mb 100] [--reports 50]
"""

from __future__ import annotations

import argparse
import random
import time
import tracemalloc

from kagent.klog import parse_log

_NOISE = (
    "pci 0000:00:{a:02x}.{b}: reg 0x{c:x}: [mem 0x{d:08x}-0x{e:08x} 64bit pref]",
    "usb {a}-{b}: new high-speed USB device number {c} using xhci_hcd",
    "EXT4-fs (sda{b}): mounted filesystem with ordered data mode. Quota mode: none.",
    "systemd[1]: Starting unit number {c} of the boot sequence...",
    "ACPI: Core revision {d}; error: {b} table(s) checked, default policy in use",
    "e1000e 0000:00:19.0 eth0: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: Rx/Tx",
    'audit: type=1400 audit({d}.{c}:{a}): apparmor="STATUS" operation="profile_load"',
    "Freeing unused kernel image (initmem) memory: {c}K",
)
_REPORT = """\
BUG: kernel NULL pointer dereference, address: 00000000000000{n:02x}
#PF: supervisor read access in kernel mode
#PF: error_code(0x0000) - not-present page
PGD 0 P4D 0
Oops: 0000 [#1] PREEMPT SMP NOPTI
CPU: 1 PID: {n} Comm: worker Not tainted 6.1.0-1-amd64 #1  Debian 6.1.4-1
Hardware name: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2-debian-1.16.2-1 04/01/2014
RIP: 0010:widget_apply_{n}+0x1e/0x70 [widget]
Code: 00 00 0f 1f 44 00 00 41 54 55 53 48 8b 2f 48 89 fb <8b> 45 1c 85 c0 74 2f 31 d2
RSP: 0018:ffffb5c4c0413e38 EFLAGS: 00010246
RAX: 0000000000000000 RBX: ffff8a5e01a2b400 RCX: 0000000000000000
CR2: 00000000000000{n:02x} CR3: 0000000004a5c000 CR4: 0000000000750ee0
Call Trace:
 <TASK>
 widget_write+0x65/0x90 [widget]
 proc_reg_write+0x56/0xa0
 vfs_write+0xc7/0x3f0
 ksys_write+0x6b/0xf0
 do_syscall_64+0x5d/0xb0
 entry_SYSCALL_64_after_hwframe+0x6e/0xd8
 </TASK>
Modules linked in: widget(O)
---[ end trace 0000000000000000 ]---
"""


def generate(megabytes: int, reports: int, seed: int = 7) -> bytes:
    """A console of about `megabytes` with `reports` different oopses, evenly spread."""
    rng = random.Random(seed)
    seconds = 0.0
    block: list[str] = []
    for _ in range(20_000):
        seconds += 0.0007
        a, b, c, d = rng.randrange(32), rng.randrange(8), rng.randrange(4096), rng.randrange(2**32)
        text = rng.choice(_NOISE).format(a=a, b=b, c=c, d=d, e=d + 0xFFF)
        block.append(f"[{seconds:12.6f}] {text}\r\n")
    noise = "".join(block).encode()
    chunk = megabytes * 1_000_000 // (reports + 1)
    parts = []
    for n in range(reports + 1):
        repeated = noise * (chunk // len(noise) + 1)
        parts.append(repeated[: repeated.rfind(b"\n", 0, chunk) + 1])
        if n < reports:
            lines = _REPORT.format(n=n + 1).splitlines()
            parts.append("".join(f"[{9e3 + n:12.6f}] {line}\r\n" for line in lines).encode())
    return b"".join(parts)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Throughput of kagent.klog.parse_log")
    parser.add_argument("--mb", type=int, default=100)
    parser.add_argument("--reports", type=int, default=50)
    args = parser.parse_args()
    data = generate(args.mb, args.reports)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        log = parse_log(data)
        best = min(best, time.perf_counter() - started)
    size = len(data) / 1e6
    print(f"{size:.0f} MB, {len(log.reports)} reports: {best:.2f} s, {size / best:.0f} MB/s")
    tracemalloc.start()
    parse_log(data)
    peak = tracemalloc.get_traced_memory()[1]
    print(f"memory: {peak / 1e6:.1f} MB at the peak besides the log itself")


if __name__ == "__main__":
    main()
