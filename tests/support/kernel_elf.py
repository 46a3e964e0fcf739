"""Small ELF files shaped like a vmlinux and a kernel module, compiled on the spot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RELEASE = "6.9.0-test"

MAIN_C = """\
const char linux_banner[] = "Linux version %(release)s (kagent@test) #1 SMP";
struct list_head { struct list_head *next, *prev; };
struct slot { unsigned short kind; unsigned short len; };
struct widget {
	struct list_head node;
	union { unsigned long raw; struct { unsigned int lo, hi; }; };
	struct slot slots[4];
	unsigned int ready : 1;
	const char *name;
};
volatile int sink;
int other(int x);
static inline __attribute__((always_inline)) int widget_kind(struct widget *w, int i)
{
	return w->slots[i].kind;
}
__attribute__((noinline)) int widget_poll(struct widget *w, int i)
{
	sink = i;
	return widget_kind(w, i) + sink;
}
static __attribute__((noinline)) int type_show(int x)
{
	sink = x;
	return sink;
}
int _stext(int x)
{
	return type_show(x) + 1;
}
int start_kernel(struct widget *w)
{
	return widget_poll(w, _stext(2)) + other(3) + 1;
}
"""

OTHER_C = """\
extern volatile int sink;
static __attribute__((noinline)) int type_show(int x)
{
	sink = x;
	sink = x + 1;
	sink = x * 3;
	return sink * 7 + x;
}
int other(int x)
{
	return type_show(x) + 2;
}
"""

MODULE_C = """\
static const char vermagic[] __attribute__((section(".modinfo"), used)) =
	"vermagic=%(release)s SMP mod_unload ";
struct fan_curve { int pad[7]; int nr; };
struct fan_channel { char label[16]; struct fan_curve *curve; };
volatile int pwm;
static inline __attribute__((always_inline)) int lookup(const struct fan_curve *c)
{
	return c->nr;
}
__attribute__((noinline)) int fan_apply(struct fan_channel *ch, int mdeg)
{
	pwm = mdeg;
	return lookup(ch->curve) + pwm;
}
int fan_write(struct fan_channel *ch)
{
	return fan_apply(ch, 5) + 1;
}
"""


def need(*programs: str) -> None:
    """Skip the test when a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run([str(c) for c in command], check=True, capture_output=True, cwd=cwd)


def build_vmlinux(folder: Path, release: str = RELEASE, name: str = "vmlinux") -> Path:
    """An x86-64 vmlinux linked high, with a banner, DWARF, a build-id and two ``type_show``."""
    need("gcc", "ld")
    for file, text in (("init/main.c", MAIN_C), ("lib/other.c", OTHER_C)):
        source = folder / file
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text % {"release": release} if file == "init/main.c" else text)
        run(*COMPILE, "-o", folder / f"{source.stem}.o", file, cwd=folder)
    run(
        *("ld", "-o", folder / name, "--build-id", "-e", "start_kernel"),
        *("-Ttext=0xffffffff81000000", "-z", "max-page-size=4096", "-z", "noexecstack"),
        *(folder / "main.o", folder / "other.o"),
    )
    return folder / name


def build_module(folder: Path, release: str = RELEASE, name: str = "fan-ctl.ko") -> Path:
    """A relocatable module with ``.modinfo``, DWARF and a build-id."""
    need("gcc", "ld")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fan.c").write_text(MODULE_C % {"release": release})
    run(*COMPILE, "-o", folder / "fan.o", "fan.c", cwd=folder)
    run("ld", "-r", "--build-id", "-o", folder / name, folder / "fan.o")
    return folder / name


COMPILE = (
    *("gcc", "-c", "-g", "-O2", "-m64", "-mcmodel=kernel", "-ffreestanding", "-fno-pic"),
    *("-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-fno-stack-protector"),
    *("-fno-optimize-sibling-calls", "-fno-ipa-icf"),
)
