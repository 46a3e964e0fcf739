"""A distribution's own debug package: the bundled crash, decoded down to the kernel's frames.

``KAGENT_TEST_VMLINUX`` names the vmlinux of Debian's linux-image-*-cloud-amd64-dbg of the kernel in
the bundled log; where the lab's kernel is at hand, it stands in for what any vmlinux can show.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.symbolizer import llvm_chains, random_addresses, same

from kagent import Settings, analyze
from kagent.symbols.dwarf import drgn_available
from kagent.symbols.objects import open_object

pytestmark = [
    pytest.mark.integration,
    pytest.mark.kernel,
    pytest.mark.skipif(not drgn_available(), reason="drgn has no wheel here"),
]

DEMO = Path(__file__).resolve().parents[2] / "kagent" / "demo" / "data" / "tidelink"


@pytest.fixture(scope="module")
def debian_vmlinux() -> Path:
    named = os.environ.get("KAGENT_TEST_VMLINUX")
    if not named:
        pytest.skip("KAGENT_TEST_VMLINUX does not name the vmlinux of Debian's debug package")
    return Path(named)


@pytest.fixture
def some_vmlinux(request: pytest.FixtureRequest) -> Path:
    """Debian's where it is at hand, else the lab's."""
    if os.environ.get("KAGENT_TEST_VMLINUX"):
        found: Path = request.getfixturevalue("debian_vmlinux")
    else:
        found = request.getfixturevalue("crashlab_vmlinux")
    return found


def test_the_bundled_crash_down_to_the_system_call(debian_vmlinux: Path, tmp_path: Path) -> None:
    shutil.copy(DEMO / "tidelink.ko.xz", tmp_path)
    settings = Settings(vmlinux=debian_vmlinux, modules=tmp_path)
    resolution = analyze((DEMO / "console.log").read_text(), settings=settings)
    report = resolution.reports[0]
    lines = {f.symbol: f"{f.file}:{f.line}" for f in report.frames if f.reliable and f.offset}
    assert lines["vfs_write"].startswith("fs/read_write.c:")
    assert lines["do_syscall_64"].startswith("arch/x86/entry/common.c:")
    assert [name for name, line in lines.items() if line.startswith("None")] == []
    assert resolution.fault is not None
    assert (resolution.fault.struct, resolution.fault.member) == ("tide_datum", "gain_ppm")
    assert not [m for m in resolution.missing if "vmlinux" in m.what]


def test_decode_in_little_memory(debian_vmlinux: Path) -> None:
    command = [sys.executable, "-m", "kagent", "decode", DEMO / "console.log"]
    done = subprocess.run(
        [*command, "--vmlinux", debian_vmlinux], capture_output=True, text=True, check=True
    )
    assert "fs/read_write.c:" in done.stdout
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    assert peak < 400, f"{peak:.0f} MiB"


@pytest.mark.skipif(not shutil.which("llvm-symbolizer"), reason="llvm-symbolizer is not installed")
def test_lines_agree_with_llvm_symbolizer(some_vmlinux: Path) -> None:
    used = open_object(some_vmlinux)
    addresses = random_addresses(used, 300, seed=2)
    theirs = llvm_chains("llvm-symbolizer", some_vmlinux, addresses)
    differing = [
        f"{address:#x}: {ours} {chain}"
        for address, ours, chain in zip(addresses, used.chains(addresses), theirs, strict=True)
        if not same(ours, chain)
    ]
    assert differing == []
