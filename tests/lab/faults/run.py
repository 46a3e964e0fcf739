#!/usr/bin/env python3
"""Crash a kernel in every way the modules here know, and keep the console of each.

    tests/lab/faults/run.py --kernel VMLINUZ --headers DIR [--append WORDS] OUT [MODULE:CASE ...]

The modules are built against the headers (a build directory, or a distribution's) and loaded in
QEMU, without KVM. Each case runs as a process of its own; one that takes the machine down wants a
boot of its own: name it alone. OUT gets the modules and MODULE-CASE.log for each case: the kernel's
banner, and what it printed from the case's start to the next one's.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULES = ("nulls", "objs", "mixed", "gone")
FATAL = (
    "objs:timer",
    "objs:oobwrite",
    "objs:oobmemset",
    "mixed:tasklet",
    "mixed:hrtimer",
    "mixed:waitc",
    "gone:",
)
"""Take the machine down, or never end."""
SECONDS = 400
_CASE = re.compile(r'strcmp\(name, "(\w+)"\)')
_START = re.compile(rb"(?m)^(?=[^\n]*\bLAB (\w+):(\w+)\r?$)")


def cases_of(module: str) -> list[str]:
    """The cases that a module's source knows and that leave the machine up."""
    names = _CASE.findall((HERE / f"{module}.c").read_text())
    found = [f"{module}:{name}" for name in dict.fromkeys(names)]
    return [case for case in found if not case.startswith(FATAL)]


def build(headers: Path, sources: Path, out: Path) -> None:
    """Compile the modules in `sources`; their debug info names /usr/src/faultlab."""
    sources.mkdir(parents=True, exist_ok=True)
    for path in (*HERE.glob("*.h"), *(HERE / f"{name}.c" for name in MODULES)):
        shutil.copy(path, sources)
    objects = " ".join(f"{name}.o" for name in MODULES)
    (sources / "Makefile").write_text(f"obj-m := {objects}\n")
    moved = f"-ffile-prefix-map={sources}=/usr/src/faultlab"
    command = ["make", "-s", "-C", str(headers), f"M={sources}", f"KCFLAGS={moved}"]
    subprocess.run([*command, "KBUILD_MODPOST_WARN=1", "modules"], check=True, capture_output=True)
    for module in sources.glob("*.ko"):
        shutil.copy(module, out)


def pack(work: Path, out: Path, cases: Sequence[str]) -> Path:
    """An initramfs whose init runs the cases one after the other."""
    root = work / "root"
    for name in ("bin", "dev", "proc", "sys"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin")
    poke = ["gcc", "-static", "-O2", "-o", root / "bin" / "poke", HERE / "poke.c"]
    subprocess.run(poke, check=True)
    for module in out.glob("*.ko"):
        shutil.copy(module, root)
    mounts = {"dev": "devtmpfs", "proc": "proc", "sys": "sysfs"}
    lines = ["#!/bin/busybox sh"]
    lines += [f"busybox mount -t {kind} none /{place}" for place, kind in mounts.items()]
    lines += [f"busybox insmod /{module}.ko" for module in MODULES]
    for case in (*cases, "end:end"):
        module, name = case.split(":")
        lines.append(f'echo "LAB {case}" > /dev/kmsg')
        lines.append(f"/bin/poke {module} {name} {name[:13]}_d &")
        lines.append("busybox sleep 1")
        if name == "arm":  # what it left behind is found some time later
            lines += ["busybox rmmod gone", "busybox sleep 3"]
    lines += ["busybox sleep 1", "busybox poweroff -f"]
    init = root / "init"
    init.write_text("\n".join(lines) + "\n")
    init.chmod(0o755)
    image = work / "initramfs.gz"
    archive = f"find . | cpio -o -H newc -R 0:0 --quiet | gzip > {image}"
    subprocess.run(archive, shell=True, check=True, cwd=root)
    return image


def boot(kernel: Path, image: Path, console: Path, append: str) -> None:
    """Run the machine until it powers off, panics or takes too long."""
    words = f"console=ttyS0,115200 printk.time=1 tsc=reliable panic=1 {append}".strip()
    machine = ["qemu-system-x86_64", "-machine", "accel=tcg", "-cpu", "max,la57=off", "-smp", "2"]
    machine += ["-m", "768M", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    machine += ["-serial", f"file:{console}", "-kernel", str(kernel), "-initrd", str(image)]
    try:
        subprocess.run([*machine, "-append", words], check=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"the machine was stopped after {SECONDS} s", file=sys.stderr)


def split(console: Path, out: Path) -> int:
    """Cut the console into cases; how many said anything."""
    head, *rest = _START.split(console.read_bytes())
    banner = [line for line in head.split(b"\n") if b"Linux version" in line]
    kept = 0
    for module, name, text in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        if text.count(b"\n") > 3 and module != b"end":
            path = out / f"{module.decode()}-{name.decode()}.log"
            path.write_bytes(b"\n".join(banner) + b"\n" + text.partition(b"\n")[2])
            kept += 1
    return kept


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kernel", type=Path, required=True)
    parser.add_argument("--headers", type=Path, required=True)
    parser.add_argument("--append", default="", help="further words for the kernel command line")
    parser.add_argument(
        "--build",
        type=Path,
        help="where to compile: UBSAN prints it, whatever the compiler is told",
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("cases", nargs="*", metavar="MODULE:CASE")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    build(given.headers.resolve(), (given.build or work / "modules").resolve(), out)
    cases = given.cases or [case for module in MODULES for case in cases_of(module)]
    console = out / "console.log"
    boot(given.kernel, pack(work, out, cases), console, given.append)
    print(f"{split(console, out)} of {len(cases)} cases left a log in {out}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
