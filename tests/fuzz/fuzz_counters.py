"""What one fuzzer has done so far, in a file that its supervisor reads while it runs."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

__all__ = ["COUNTERS_VARIABLE", "Counters"]

COUNTERS_VARIABLE = "KAGENT_FUZZ_COUNTERS"
"""Environment variable with the file's path."""
_ROW = struct.Struct("<qdd")


class Counters:
    """Executions, their processor seconds, and those of the slowest."""

    SIZE = _ROW.size

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.SIZE)

    def get(self) -> tuple[int, float, float]:
        runs, cpu, slowest = _ROW.unpack_from(self._map)
        return int(runs), float(cpu), float(slowest)

    def add(self, seconds: float) -> None:
        """Count one execution."""
        runs, cpu, slowest = self.get()
        _ROW.pack_into(self._map, 0, runs + 1, cpu + seconds, max(slowest, seconds))
