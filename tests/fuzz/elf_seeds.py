"""ELF files to mutate: what compilers make here, what assemblers make for other machines, modules
of the samples and, where they lie beside the checkout, of the lab."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.foreign_elf import TRIPLES, build_foreign_module  # noqa: E402
from support.kernel_elf import MAIN_C, MODULE_C, RELEASE, build_module, build_vmlinux  # noqa: E402

__all__ = ["write_seeds"]

_LAB = ROOT.parent / "shared" / "logs" / "crashlab-dev" / "modules"
_LAB_MODULES = 4
# What the same sources become with other debug info; each is a way through a DWARF reader.
_DWARF = {
    "dwarf4": ("-gdwarf-4",),
    "dwarf5": ("-gdwarf-5",),
    "sections": ("-gdwarf-5", "-ffunction-sections", "-fdata-sections"),
    "types": ("-gdwarf-5", "-fdebug-types-section"),
    "zlib": ("-gdwarf-5", "-gz=zlib"),
    "zlib-gnu": ("-gdwarf-4", "-gz=zlib-gnu"),
}
# Compilers for other machines, where they are installed.
_CLANG = (
    *("powerpc-linux-gnu", "powerpc64-linux-gnu", "powerpc64le-linux-gnu", "mips-linux-gnu"),
    *("mips64el-linux-gnuabi64", "aarch64-linux-gnu", "arm-linux-gnueabi", "armeb-linux-gnueabi"),
    *("riscv64-linux-gnu", "riscv32-linux-gnu", "s390x-linux-gnu", "sparc64-linux-gnu"),
    *("i386-linux-gnu",),
)


def write_seeds(folder: Path) -> list[Path]:
    """Write every seed this machine can make into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _compiled(folder)
    for triple in TRIPLES:
        _try(lambda triple=triple: build_foreign_module(folder / f"llvm-mc-{triple}.ko", triple))
    _packed(folder)
    return sorted(folder.glob("*.*"))


def _compiled(folder: Path) -> None:
    work = folder / "build"
    for name, build in (("vmlinux", build_vmlinux), ("module", build_module)):
        if made := _try(lambda name=name, build=build: build(work / name)):
            shutil.copy(made, folder / f"gcc.{name}")
    source = work / "fan.c"
    work.mkdir(exist_ok=True)
    source.write_text((MODULE_C + MAIN_C) % {"release": RELEASE})
    options = ("-c", "-g", "-O2", "-ffreestanding", "-fno-pic")
    for name, more in _DWARF.items():
        _try(lambda n=name, m=more: _compile(folder / f"gcc-{n}.ko", "gcc", *options, *m, source))
    for triple in _CLANG:
        target = f"--target={triple}"
        out = folder / f"clang-{triple}.ko"
        _try(lambda out=out, target=target: _compile(out, "clang", target, *options, source))
    shutil.rmtree(work)


def _compile(output: Path, *command: str | Path) -> Path:
    subprocess.run([*command, "-o", output], check=True, capture_output=True)
    return output


def _try(make: Callable[[], Path]) -> Path | None:
    """What `make` makes; None where a program it needs is missing or too old."""
    try:
        return make()
    except (OSError, subprocess.CalledProcessError, pytest.skip.Exception):
        return None


def _packed(folder: Path) -> None:
    samples = [ROOT / "kagent" / "demo" / "data" / "tidelink" / "tidelink.ko.xz"]
    samples += sorted((ROOT / "tests" / "data" / "faults").glob("*/gone.ko.xz"))
    for path in samples:
        name = f"{path.parent.name}-{path.name.removesuffix('.xz')}"
        (folder / name).write_bytes(lzma.decompress(path.read_bytes()))
    for path in sorted(_LAB.glob("*/*.ko"))[:: max(1, 40 // _LAB_MODULES)][:_LAB_MODULES]:
        shutil.copy(path, folder / f"lab-{path.name}")
