"""Damaged ELF files through the readers of vmlinux and ``.ko``: ``elf_mutants.py --count 100000``.

Every mutant goes through the project's own readers; one in `_SHARE` also through the whole
`Symbolizer` with its native debug info reader. Only the project's own errors may come out. See
README.md beside this file.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from elf_surgery import Anatomy, damage  # noqa: E402
from harness import Mutant, campaign_main  # noqa: E402

from kagent.errors import KagentError  # noqa: E402
from kagent.klog.model import Frame  # noqa: E402
from kagent.symbols import Symbolizer  # noqa: E402
from kagent.symbols.elf import ElfImage  # noqa: E402

__all__ = ["ElfMutants"]

_SHARE = 10
_SMALL = 64 * 1024
_NAMES = ("fan_apply", "widget_poll", "type_show", "start_kernel", "_stext", "linux_banner", "$x")
_TYPES = ("fan_channel", "widget", "slot", "list_head", "module")
_REGISTERS = dict.fromkeys(("rax", "rbx", "rcx", "rdx", "rsi", "rdi"), 0xFFFF888000000000)


class ElfMutants:
    """The campaign on ELF files."""

    name = "elf"

    def prepare(self, folder: Path) -> None:
        from elf_seeds import write_seeds

        write_seeds(folder / "seeds")

    def load(self, folder: Path) -> None:
        paths = sorted((folder / "seeds").glob("*.*"))
        self._seeds = [Anatomy.of(path.name, path.read_bytes()) for path in paths]
        self._small = [seed for seed in self._seeds if len(seed.content) < _SMALL]
        self._work = Path(tempfile.mkdtemp(prefix="work-", dir=folder))
        self._file = os.memfd_create("mutant")

    def warm(self) -> None:
        for seed in self._seeds[:3]:
            read_image(self._file, seed.content)
            with suppress(KagentError):
                self._symbolize(seed.content)

    def make(self, dice: random.Random) -> Mutant:
        # The large files have every kind of debug info, but cost their size to copy.
        seed = dice.choice(self._seeds if dice.random() < 0.1 else self._small)
        content = bytearray(seed.content)
        told = damage(content, seed, self._small, dice)
        return Mutant(bytes(content), f"{seed.name}: {'; '.join(told)}")

    def check(self, mutant: Mutant, dice: random.Random) -> None:
        with suppress(KagentError):
            read_image(self._file, mutant.content)
        if dice.randrange(_SHARE) == 0:
            with suppress(KagentError):
                self._symbolize(mutant.content)

    def _symbolize(self, content: bytes) -> None:
        """Whatever an analysis asks of debug info, of one file as vmlinux and as module."""
        path = self._work / "fan.ko"
        path.write_bytes(content)
        try:
            with suppress(KagentError):
                symbolize(Symbolizer.open(path, allow_mismatch=True), None)
            symbolize(Symbolizer.open(None, path.parent, allow_mismatch=True), "fan")
        finally:
            path.unlink()


def read_image(file: int, content: bytes) -> None:
    """Ask everything of an `ElfImage` on `content`, written into the open file `file`."""
    os.ftruncate(file, 0)
    os.pwrite(file, content, 0)
    with os.fdopen(os.dup(file), "rb") as stream:
        image = ElfImage(stream, Path("mutant.ko"))
        try:
            _ask(image, len(content))
        finally:
            image.close()


def _ask(image: ElfImage, size: int) -> None:
    for words in (image.release, image.build_id, image.machine, *image.modinfo.values()):
        assert words is None or isinstance(words, str)
    low, high = image.address_range
    assert low <= high
    _ = image.has_dwarf
    for section in image.sections:
        image.linked(section)
        assert len(image.data(section)) <= size
    image.learn({"type_show": [(low, 8), (high, 8)], "fan_apply": [(low + 1, 0)]})
    assert set(image.unknown([*_NAMES, "fan_write"])) <= {*_NAMES, "fan_write"}
    for name in (*_NAMES, "fan_write", "write", "", "é\0", "\ud800"):
        for found in image.find(name):
            assert found.extent is None or found.extent > 0, (name, found)
            found.has_size(16)
            assert len(image.read(found.address - 8, 64)) <= 64
    for address in (0, low, high, -1, 1 << 64):
        assert len(image.read(address, 1 << 20)) <= size


def symbolize(symbolizer: Symbolizer, module: str | None) -> None:
    """Lines, types, members, code and variables."""
    frames = [Frame(name, 4, None, module) for name in _NAMES]
    frames += [Frame("fan_write", 8, 16, module), Frame("fan_apply", 1, 32, module, exact=True)]
    with symbolizer:
        found = symbolizer.symbolize(frames)
        assert [one.frame for one in found] == frames
        for name in _TYPES:
            symbolizer.member_at(name, 8, module=module)
            symbolizer.member_offset(name, "node.next", module=module)
            symbolizer.struct_layout(name, module=module)
        for frame in frames[:3] + frames[-2:]:
            symbolizer.code_at(frame)
            symbolizer.variables(frame)
            symbolizer.variables(frame, _REGISTERS)
        for words in symbolizer.mismatches:
            assert words.isprintable()


if __name__ == "__main__":
    sys.exit(campaign_main(ElfMutants(), Path(__file__).resolve(), default_count=100_000))
