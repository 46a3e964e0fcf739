"""Real kernels, real modules, real crashes: lines must be what the ground truth says."""

from __future__ import annotations

import json
import re
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kagent.errors import MismatchError
from kagent.klog.model import Frame
from kagent.symbols import NO_VMLINUX, Location, Symbolizer
from kagent.symbols.dwarf import drgn_available

pytestmark = [
    pytest.mark.integration,
    pytest.mark.kernel,
    pytest.mark.skipif(not drgn_available(), reason="drgn has no wheel here"),
]

FRAME = re.compile(r"([A-Za-z_][\w.]*)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[(\w+)\])?")
STAGES = {"d61": "stage1", "c612": "stage2"}


def frames_of(log: Path) -> list[Frame]:
    """Every ``symbol+offset/size`` of the kernel in a log."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        for match in FRAME.finditer(line):
            symbol, offset, size, module = match.groups()
            exact = "RIP: 0010:" in line
            found.append(Frame(symbol, int(offset, 16), int(size, 16), module, exact=exact))
    return found


def cases(crashlab: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((crashlab / "logs").glob("*.json")):
        yield path.stem, json.loads(path.read_text())


def same_line(found: Location, function: str, file: str, line: int) -> bool:
    suffix = file == found.file or file.endswith("/" + found.file)
    return suffix and (found.function, found.line) == (function, line)


@pytest.fixture(scope="module")
def kernel(crashlab_vmlinux: Path, crashlab: Path) -> Symbolizer:
    modules = crashlab / "modules" / "stage2"
    return Symbolizer.open(crashlab_vmlinux, modules, release="6.12.117-crashlab")


def test_faults_of_crashlab_have_the_true_line_and_inline_chain(
    crashlab: Path, kernel: Symbolizer
) -> None:
    wrong, checked = [], 0
    for name, truth in cases(crashlab):
        fault = truth.get("fault")
        stage = name.partition("-")[0]
        if not fault or (stage == "d61" and not fault.get("module")):
            continue  # the d61 vmlinux is not at hand
        if stage == "d61":
            symbolizer = Symbolizer.open(None, crashlab / "modules" / STAGES[stage])
        else:
            symbolizer = kernel
        match = FRAME.match(fault["symbol"])
        assert match
        symbol, offset, size, _ = match.groups()
        # A call through a NULL pointer leaves the caller's return address as its best frame.
        called = truth.get("deref", {}).get("access") == "call"
        frame = Frame(symbol, int(offset, 16), int(size, 16), fault["module"], exact=not called)
        chain = symbolizer.symbolize([frame])[0].chain
        want = [(c["function"], c["file"], c["line"]) for c in fault["inline_chain"]]
        checked += 1
        if len(chain) != len(want) or not all(
            same_line(at, *link) for at, link in zip(chain, want, strict=True)
        ):
            wrong.append((name, chain, want))
    print(f"\nfaults checked: {checked}, wrong: {len(wrong)}")
    assert checked >= 9
    assert wrong == []


def test_every_frame_of_the_logs_fits_its_build(crashlab: Path, kernel: Symbolizer) -> None:
    """Sizes in traces agree with the symbol table's distances: no false mismatch, no note."""
    total = 0
    doubtful: dict[str, str | None] = {}
    for log in sorted((crashlab / "logs").glob("c612-*.log")):
        for found in kernel.symbolize(frames_of(log)):
            total += 1
            if not found.chain:
                doubtful[str(found.frame)] = found.note
    print(f"\nframes: {total}, without a line: {len(doubtful)} distinct")
    assert total > 2500
    assert kernel.mismatches == ()
    assert len(doubtful) <= total // 50
    assert all(note == "no line in the debug info" for note in doubtful.values())


def test_module_frames_resolve_without_vmlinux(crashlab: Path) -> None:
    for log in sorted((crashlab / "logs").glob("d61-*.log")):
        with Symbolizer.open(None, crashlab / "modules" / "stage1") as symbolizer:
            for found in symbolizer.symbolize(frames_of(log)):
                if found.frame.module:
                    assert found.chain or not found.frame.reliable, found
                else:
                    assert found.note == NO_VMLINUX


def test_modules_of_the_other_kernel_are_refused(crashlab: Path) -> None:
    frames = [f for f in frames_of(crashlab / "logs" / "d61-fanctl.log") if f.module]
    symbolizer = Symbolizer.open(None, crashlab / "modules" / "stage2")
    with pytest.raises(MismatchError, match="fanctl"):
        symbolizer.symbolize(frames)
    relaxed = Symbolizer.open(None, crashlab / "modules" / "stage2", allow_mismatch=True)
    assert all(s.approximate for s in relaxed.symbolize(frames) if s.chain)


def test_wrong_vmlinux_is_refused(crashlab: Path, crashlab_vmlinux: Path) -> None:
    with pytest.raises(MismatchError, match=r"6\.12\.117-crashlab.*6\.1\.0-56-amd64"):
        Symbolizer.open(crashlab_vmlinux, release="6.1.0-56-amd64")
    symbolizer = Symbolizer.open(crashlab_vmlinux)
    with pytest.raises(MismatchError, match="not of the crashed build"):
        symbolizer.symbolize(frames_of(crashlab / "logs" / "d61-evtq.log"))


def test_both_stages_in_one_directory_do_not_confuse(crashlab: Path) -> None:
    frame = Frame("fan_apply", 0x1E, 0x70, "fanctl", exact=True)
    symbolizer = Symbolizer.open(None, crashlab / "modules", release="6.1.0-56-amd64")
    (found,) = symbolizer.symbolize([frame])
    assert [at.function for at in found.chain] == ["fan_curve_lookup", "fan_apply"]


def test_variables_hold_what_the_registers_say(crashlab: Path) -> None:
    """The NULL pointer of fanctl is ``c``, read from ``ch->curve``."""
    text = (crashlab / "logs" / "d61-fanctl.log").read_text(errors="replace")
    dump = text[text.index("RIP: 0010:fan_apply") :][:2000]
    pairs = re.findall(r"\b(R[A-D]X|R[SD]I|R[BS]P|R\d\d): (?:0018:)?([0-9a-f]{16})", dump)
    registers = {name.lower(): int(value, 16) for name, value in pairs[:16]}
    symbolizer = Symbolizer.open(None, crashlab / "modules" / "stage1")
    frame = Frame("fan_apply", 0x1E, 0x70, "fanctl", exact=True)
    variables = {(v.function, v.name): v for v in symbolizer.variables(frame, registers)}
    curve = variables["fan_curve_lookup", "c"]
    assert (curve.type_name, curve.value) == ("const struct fan_curve *", 0)
    assert variables["fan_apply", "ch"].value == registers["rbp"]
    member = symbolizer.member_at("fan_curve", 0x1C, module="fanctl")
    assert member is not None
    assert member.member == "nr"


def test_types_of_the_kernel(kernel: Symbolizer) -> None:
    owner = kernel.member_at("struct mutex", 0)
    assert owner is not None
    assert owner.member == "owner.counter"
    comm = kernel.member_offset("task_struct", "comm")
    assert comm is not None
    assert (comm.size, comm.type_name) == (16, "char [16]")
    found = kernel.member_at("task_struct", comm.offset + 3)
    assert found is not None
    assert found.member == "comm[3]"


def test_speed_and_memory_of_a_trace(crashlab: Path, crashlab_vmlinux: Path) -> None:
    frames = frames_of(crashlab / "logs" / "c612-optparse.log")[:19]
    modules = crashlab / "modules" / "stage2"
    begin = time.perf_counter()
    Symbolizer.open(crashlab_vmlinux, modules).symbolize(frames)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    Symbolizer.open(crashlab_vmlinux, modules).symbolize(frames)
    again = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"\n{len(frames)} frames: {first:.3f} s, again {again:.4f} s, process peak {peak} MB")
    assert first < 5
    assert again < 0.05
