"""A campaign whose mutants each break one of the harness's rules, or none."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "fuzz")]

from harness import Mutant, campaign_main  # noqa: E402

__all__ = ["BrokenCampaign"]

DEEDS = (b"nothing", b"raise", b"leave", b"crash", b"spin", b"grow")


class BrokenCampaign:
    """Mutants are called by what is done when they are checked."""

    name = "broken"

    def prepare(self, folder: Path) -> None:
        (folder / "deeds").write_bytes(b" ".join(DEEDS))

    def load(self, folder: Path) -> None:
        self._deeds = (folder / "deeds").read_bytes().split()

    def warm(self) -> None: ...

    def make(self, dice: random.Random) -> Mutant:
        deed = dice.choice(self._deeds)
        return Mutant(deed, deed.decode())

    def check(self, mutant: Mutant, dice: random.Random) -> None:
        match mutant.content:
            case b"raise":
                raise KeyError("a rule")
            case b"leave":
                os._exit(3)
            case b"crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case b"spin":
                while True:
                    pass
            case b"grow":
                _ = b"x" * (300 << 20)


if __name__ == "__main__":
    sys.exit(campaign_main(BrokenCampaign(), Path(__file__).resolve(), default_count=10))
