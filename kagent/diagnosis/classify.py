"""First look: is this about waiting, and whose code is it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kagent.diagnosis.helpers import base_name, is_scaffold
from kagent.diagnosis.locks.primitives import is_spin, waits_in
from kagent.diagnosis.stack import (
    by_frame,
    contexts,
    in_helper,
    is_common,
    own_point,
    points,
    reliable,
)
from kagent.klog.model import Frame, KernelLog, Report
from kagent.resolution import Subsystem
from kagent.symbols.model import Symbolized

if TYPE_CHECKING:
    from kagent.source import SourceTree

__all__ = ["Classification", "classify", "subsystem"]

# Headers of reports that are about waiting, whatever their stack looks like.
_WAITING: tuple[tuple[str, str], ...] = (
    (r"blocked (?:in I/O wait )?for more than|can't die for more than|hung_task: blocked tasks",
     "a task hangs"),
    (r"possible circular locking|possible recursive locking|inconsistent lock state"
     r"|irq lock inversion|(?:HARD|SOFT)IRQ-(?:READ-)?safe|lock order|possible deadlock",
     "lockdep found a lock order that can deadlock"),
    (r"bad unlock balance|held lock freed|lock held when returning|still has locks held"
     r"|Nested lock was not taken|suspicious RCU usage|Invalid wait context"
     r"|workqueue leaked lock|register non-static key"
     r"|exited with .{1,40} locks? held|locks? still held", "lockdep found a broken lock rule"),
    (r"scheduling while atomic|sleeping function called from invalid context"
     r"|voluntary context switch within RCU", "a task sleeps where it must not"),
    (r"workqueue lockup|workqueue: .{1,80} hogged CPU", "a workqueue does not get on"),
)  # fmt: skip
_WAITING_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), why) for pattern, why in _WAITING)
_LOCKUP = re.compile(r"soft lockup|hard LOCKUP|detected stall|self-detected stall|rcu.{0,24} stall"
                     r"|detected expedited stalls|CPU stuck", re.IGNORECASE)  # fmt: skip

# Names of code areas by the beginning of a file, function or module name; longest wins.
_AREAS: dict[str, tuple[str, ...]] = {
    "memory management": ("mm/", "split_huge_", "try_to_migrate", "rmap_", "folio_", "shrink_",
                          "handle_mm_fault", "do_anonymous_page", "khugepaged", "hugetlb_"),
    "slab allocator": ("mm/slub", "mm/slab", "kmem_cache_", "__slab_free"),
    "ext4": ("fs/ext4/", "ext4_", "jbd2_", "fs/jbd2/"),
    "btrfs": ("fs/btrfs/", "btrfs_"),
    "xfs": ("fs/xfs/", "xfs_", "xlog_", "xfsaild"),
    "f2fs": ("fs/f2fs/", "f2fs_"),
    "nfs": ("fs/nfs/", "fs/nfsd/", "nfs_", "nfs4_", "nfsd_", "rpc_", "xprt_", "svc_", "sunrpc"),
    "cifs/smb": ("fs/smb/", "fs/cifs/", "cifs_", "smb2_", "ksmbd_"),
    "overlayfs": ("fs/overlayfs/", "ovl_"),
    "fuse": ("fs/fuse/", "fuse_"),
    "gfs2": ("fs/gfs2/", "gfs2_"),
    "ocfs2": ("fs/ocfs2/", "ocfs2_"),
    "reiserfs": ("fs/reiserfs/", "reiserfs_"),
    "ntfs3": ("fs/ntfs3/", "ntfs_", "ni_", "mi_"),
    "hfs/hfsplus": ("fs/hfs", "hfs_", "hfsplus_"),
    "jfs": ("fs/jfs/", "jfs_", "dbAlloc", "txCommit"),
    "nilfs2": ("fs/nilfs2/", "nilfs_"),
    "io_uring": ("io_uring/", "io_uring", "io_wq_", "io_issue_sqe"),
    "VFS": ("fs/", "vfs_", "path_openat", "d_", "iput", "evict", "do_dentry_open", "lookup_"),
    "block layer": ("block/", "blk_", "bio_", "blkdev_", "loop_", "nbd_", "elv_"),
    "NVMe": ("drivers/nvme/", "nvme_"),
    "SCSI": ("drivers/scsi/", "scsi_", "sd_", "iscsi_", "libata", "ata_"),
    "device mapper and MD": ("drivers/md/", "dm_", "md_", "raid5_", "raid1_", "bcache"),
    "IPv4/IPv6": ("net/ipv4/", "net/ipv6/", "ip_", "ip6_", "ipv6_", "tcp_", "udp_", "inet_", "fib"),
    "netfilter": ("net/netfilter/", "nf_", "nft_", "ipt_", "xt_", "ip_set_"),
    "Bluetooth": ("net/bluetooth/", "drivers/bluetooth/", "hci_", "l2cap_", "sco_", "rfcomm_"),
    "wireless": ("net/mac80211/", "net/wireless/", "drivers/net/wireless/", "ieee80211_",
                 "cfg80211_", "nl80211_", "iwl", "ath"),
    "BPF": ("kernel/bpf/", "bpf_", "___bpf_prog_run", "xdp_"),
    "TIPC": ("net/tipc/", "tipc_"),
    "SCTP": ("net/sctp/", "sctp_"),
    "RDMA": ("drivers/infiniband/", "rdma_", "ib_", "rxe_", "siw_", "mlx5_ib"),
    "network scheduler": ("net/sched/", "qdisc_", "tcf_", "tc_", "sch_"),
    "networking": ("net/", "skb_", "sk_", "sock_", "netlink_", "netif_", "dev_queue_xmit",
                   "__dev_queue_xmit", "rtnl_", "rtnetlink_", "packet_", "vlan_"),
    "network drivers": ("drivers/net/", "e1000", "ixgbe", "mlx5", "bnxt", "virtnet_", "veth_",
                        "tun_"),
    "GPU/DRM": ("drivers/gpu/", "drm_", "amdgpu_", "i915_", "nouveau_", "ttm_", "vmw_", "dc_"),
    "sound": ("sound/", "snd_"),
    "USB": ("drivers/usb/", "usb_", "xhci_", "ehci_", "hub_event", "gadget_"),
    "media": ("drivers/media/", "v4l2_", "vb2_", "dvb_", "em28xx"),
    "input and HID": ("drivers/input/", "drivers/hid/", "hid_", "input_", "evdev_"),
    "framebuffer and console": ("drivers/video/", "drivers/tty/vt/", "fb_", "fbcon_", "vc_",
                                "con_"),
    "tty": ("drivers/tty/", "tty_", "n_tty_", "pty_", "ldsem_", "serial8250_", "uart_"),
    "KVM": ("virt/kvm/", "arch/x86/kvm/", "kvm_", "vmx_", "svm_"),
    "virtio": ("drivers/virtio/", "virtio_", "virtqueue_", "vhost_"),
    "PCI": ("drivers/pci/", "pci_", "pcie_", "pciehp_"),
    "ACPI": ("drivers/acpi/", "acpi_"),
    "driver core": ("drivers/base/", "device_", "driver_", "really_probe", "kobject_", "devres_"),
    "power management": ("kernel/power/", "pm_", "dpm_", "cpuidle_", "cpufreq_"),
    "cgroups": ("kernel/cgroup/", "cgroup_", "css_", "mem_cgroup_"),
    "scheduler": ("kernel/sched/", "sched_", "pick_next_", "enqueue_task", "dequeue_task"),
    "timers": ("kernel/time/", "hrtimer_", "timer_", "tick_", "clock_", "posix_timer"),
    "RCU": ("kernel/rcu/", "rcu_", "srcu_"),
    "tracing": ("kernel/trace/", "trace_", "ftrace_", "ring_buffer_", "perf_trace"),
    "perf events": ("kernel/events/", "perf_", "uprobe_"),
    "workqueues": ("kernel/workqueue", "queue_work_on", "flush_workqueue"),
    "modules": ("kernel/module", "do_init_module", "load_module"),
    "crypto": ("crypto/", "crypto_", "alg_", "aead_", "skcipher_"),
    "security": ("security/", "selinux_", "apparmor_", "smack_", "tomoyo_", "keyring_", "key_"),
    "x86 architecture": ("arch/x86/",),
    "arm64 architecture": ("arch/arm64/",),
}  # fmt: skip
_PREFIXES = {prefix: area for area, prefixes in _AREAS.items() for prefix in prefixes}
_LONGEST = max(map(len, _PREFIXES))


@dataclass(frozen=True, slots=True)
class Classification:
    """Where a report goes and why."""

    route: Literal["general", "deadlock"]
    reason: str
    subsystem: str | None = None
    """A guess from names alone; `subsystem` asks MAINTAINERS."""


def classify(log: KernelLog, index: int, symbolized: Iterable[Symbolized] = ()) -> Classification:
    """Route report number `index` of a log."""
    report = log.reports[index]
    reason = _about_waiting(report)
    area = _area(report, symbolized)
    if reason:
        return Classification("deadlock", reason, area)
    return Classification("general", f"{report.kind or 'report'}: {_because(report)}", area)


def subsystem(
    report: Report, symbolized: Iterable[Symbolized], tree: SourceTree | None
) -> Subsystem | None:
    """Whose code failed, by the tree's MAINTAINERS; without a tree, by its name alone."""
    symbolized = list(symbolized)
    symbols = by_frame(symbolized)
    if tree is not None:
        asked: set[str | None] = set()
        for frame in _stack(report):
            found = own_point([frame], symbols)
            if found is None or (found[1].file in asked and not frame.module):
                continue
            asked.add(found[1].file)
            path = tree.resolve(found[1].file) if found[1].file else None
            if path is None and frame.module:
                break  # not of this tree: its callers are not to blame for it
            entry = tree.subsystem_of(path) if path else None
            if entry is not None:
                return Subsystem(
                    name=entry.name, maintainers=list(entry.maintainers), lists=list(entry.lists)
                )
    area = _area(report, symbolized)
    return Subsystem(name=area) if area else None


def _about_waiting(report: Report) -> str | None:
    if report.locks is not None:
        return f"lockdep report ({report.locks.variant}): {report.header}"
    for pattern, why in _WAITING_PATTERNS:
        if pattern.search(report.header):
            return f"{why}: {report.header}"
    if _LOCKUP.search(report.header) and (lock := _spinning(report)):
        return f"a CPU is stuck waiting for a {lock}: {report.header}"
    return None


def _spinning(report: Report) -> str | None:
    """The kind of lock a stuck CPU spins on; None when it merely keeps running."""
    stacks = [report.call_frames, *(t.frames for t in report.traces if t.role == "cpu")]
    stacks += [(task.pc, *task.frames) if task.pc else task.frames for task in report.tasks]
    for stack in stacks:
        frames = reliable(stack)
        left: set[int] = set()
        for frame, context in zip(frames, contexts(frames), strict=True):
            if context in left:
                continue
            primitive = waits_in(frame.symbol)
            if primitive is not None and (is_spin(primitive) or primitive.kind == "lock"):
                return primitive.type
            if not is_common(frame):
                left.add(context)  # it got out of the primitives: it was not waiting there
    return None


def _because(report: Report) -> str:
    if _LOCKUP.search(report.header):
        return "a CPU keeps running, but in no lock's slow path"
    return "not about locks or waiting"


def _stack(report: Report) -> list[Frame]:
    frames = reliable(report.call_frames)
    if frames:
        return frames
    return next((reliable(t.frames) for t in report.traces if t.frames), [])


def _area(report: Report, symbolized: Iterable[Symbolized]) -> str | None:
    """The first owning frame that names an area; an unknown module names itself."""
    symbols = by_frame(symbolized)
    for frame, point in points(_stack(report), symbols):
        if in_helper(point) or is_scaffold(point.function):
            continue
        names = [point.file or "", base_name(point.function).lstrip("_"), frame.module or ""]
        areas = [area for name in names if name and (area := _by_prefix(name))]
        if areas:
            return areas[0]
        if frame.module:
            return f"module {frame.module}"
    return None


def _by_prefix(name: str) -> str | None:
    for length in range(min(len(name), _LONGEST), 1, -1):
        if area := _PREFIXES.get(name[:length]):
            return area
    return None
