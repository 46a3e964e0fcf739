"""One entry of a stack: alone here, because decoding a trace needs nothing else of the model."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Frame"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One stack entry, as ``symbol+offset/size [module build-id]``."""

    symbol: str
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    build_id: str | None = None
    address: int | None = None
    reliable: bool = True
    """False for ``? symbol`` lines: found on the stack, not by unwinding."""
    exact: bool = False
    """True for the trapping PC itself; every other frame is a return address."""
    inline: bool = False
    """True for ``[inline]`` frames of logs that somebody symbolised already."""
    file: str | None = None
    line: int | None = None
    span: tuple[int, int] = field(default=(0, 0), compare=False)
    """Where the log has it. Frames that say the same are equal, wherever they stand."""

    def __str__(self) -> str:
        text = self.symbol
        if self.offset is not None:
            text += f"+{self.offset:#x}"
            if self.size is not None:
                text += f"/{self.size:#x}"
        return f"{text} [{self.module}]" if self.module else text
