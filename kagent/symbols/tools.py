"""Lines by ``llvm-symbolizer`` or ``addr2line``, for machines where drgn has no wheel."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from itertools import groupby
from typing import BinaryIO

from kagent.errors import CorruptDataError
from kagent.symbols.elf import ElfImage, ElfSection
from kagent.symbols.model import UNNAMED, Location
from kagent.symbols.paths import tidy_path

__all__ = ["ToolDwarf", "line_tool"]

_SECONDS = 180
_LANDMARK = ("start_kernel", "init/main.c")


def line_tool(image: ElfImage) -> str | None:
    """The program that can give lines for this file; llvm-symbolizer cannot read ``.ko``."""
    names = ["eu-addr2line", "addr2line"]
    if image.kind == "vmlinux":
        names.insert(0, "llvm-symbolizer")
    return next(filter(None, map(shutil.which, names)), None)


class ToolDwarf:
    """The DWARF of one ELF image, asked of a child process, one run for all addresses."""

    def __init__(self, image: ElfImage, stream: BinaryIO, program: str) -> None:
        self._image = image
        self._stream = stream
        self._program = program
        self._root: str | None = None
        self.damage: str | None = None

    def chains(self, addresses: Sequence[int]) -> list[tuple[Location, ...]]:
        """The inline chain at each address, innermost first; empty where there is no line."""
        if self._root is None:
            self._root = self._find_root()
        return self._ask(addresses, self._root)

    def _find_root(self) -> str:
        symbol, file = _LANDMARK
        found = self._image.find(symbol)
        for chain in self._ask([s.address for s in found], ""):
            for at in chain:
                if at.file.endswith("/" + file):
                    return at.file[: -len(file) - 1]
        return ""

    def _ask(self, addresses: Sequence[int], root: str) -> list[tuple[Location, ...]]:
        answers: dict[int, tuple[Location, ...]] = {}
        if "llvm-symbolizer" in self._program:
            answers.update(self._llvm(addresses, root))
        elif self._image.kind == "vmlinux":
            answers.update(self._addr2line(None, addresses, root))
        else:
            ordered = sorted(addresses, key=lambda a: self._index(a))
            for _, group in groupby(ordered, key=lambda a: self._index(a)):
                members = list(group)
                section = self._section(members[0])
                if section is not None:
                    answers.update(self._addr2line(section, members, root))
        return [answers.get(address, ()) for address in addresses]

    def _section(self, address: int) -> ElfSection | None:
        return next(
            (
                s
                for s in self._image.sections
                if s.allocated and s.address <= address < s.address + s.size
            ),
            None,
        )

    def _index(self, address: int) -> int:
        section = self._section(address)
        return section.index if section else -1

    def _llvm(self, addresses: Sequence[int], root: str) -> dict[int, tuple[Location, ...]]:
        text = self._run(
            ["--output-style=JSON", "--inlines", "--functions=linkage"],
            f"--obj={self._file}",
            addresses,
        )
        answers: dict[int, tuple[Location, ...]] = {}
        for line in text.splitlines():  # LLVM 14 writes one list, later ones a record a line
            answer = json.loads(line)
            for record in answer if isinstance(answer, list) else [answer]:
                answers[int(record["Address"], 16)] = tuple(
                    Location(
                        at.get("FunctionName") or UNNAMED,
                        tidy_path(at["FileName"], root),
                        int(at.get("Line", 0)),
                        int(at.get("Column", 0)),
                    )
                    for at in record.get("Symbol", ())
                    if at.get("FileName")
                )
        return answers

    def _addr2line(
        self, section: ElfSection | None, addresses: Sequence[int], root: str
    ) -> dict[int, tuple[Location, ...]]:
        """``addr2line -a -i -f``: an address line, then pairs of function and file:line."""
        base = section.address if section else 0
        options = ["-a", "-i", "-f", *(["-j", section.name] if section else [])]
        text = self._run(options, f"--exe={self._file}", [a - base for a in addresses])
        answers: dict[int, tuple[Location, ...]] = {}
        chain: list[Location] = []
        function: str | None = None
        address = 0
        for line in text.splitlines():
            if line.startswith("0x"):
                address, chain, function = int(line, 16) + base, [], None
                answers[address] = ()
            elif function is None:
                function = line
            else:
                file, _, number = line.partition(" (")[0].rpartition(":")
                number = number.partition(":")[0]
                if file and file != "??":
                    row = int(number) if number.isdigit() else 0
                    chain.append(Location(function, tidy_path(file, root), row))
                    answers[address] = tuple(chain)
                function = None
        return answers

    @property
    def _file(self) -> str:
        return f"/dev/fd/{self._stream.fileno()}"

    def _run(self, options: list[str], target: str, addresses: Sequence[int]) -> str:
        if not addresses:
            return ""
        try:
            done = subprocess.run(
                [self._program, *options, target, *(f"{a:#x}" for a in addresses)],
                pass_fds=(self._stream.fileno(),),
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=True,
                text=True,
                errors="replace",
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise CorruptDataError(
                f"{self._program} could not read {self._image.path} ({type(error).__name__})"
            ) from error
        return done.stdout
