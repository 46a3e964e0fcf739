"""Is this file of the crashed build? By release, build-id, and the sizes a trace prints."""

from __future__ import annotations

from kagent.klog.frame_model import Frame
from kagent.symbols.objects import DebugObject

__all__ = ["BuildCheck"]


class BuildCheck:
    """What speaks for and against one file; fed with every frame that was looked up in it."""

    def __init__(self, used: DebugObject, release: str | None, build_id: str | None = None) -> None:
        """`release` and `build_id` are the crashed kernel's, as far as the log tells them."""
        self._name = used.name
        self._build_id = used.image.build_id
        self._release = self._compare_release(used.image.release, release)
        self._other_id = self._differing_id(build_id)
        self._votes: dict[tuple[str, int | None], bool] = {}

    def _compare_release(self, own: str | None, wanted: str | None) -> str | None:
        if own is None or wanted is None or own == wanted:
            return None
        return f"{self._name} is of kernel {own}, the log is of {wanted}"

    def count(self, frame: Frame, agrees: bool) -> None:
        """Take one frame into account."""
        if frame.size is not None:
            self._votes[frame.symbol, frame.size] = agrees
        self._other_id = self._differing_id(frame.build_id) or self._other_id

    def _differing_id(self, printed: str | None) -> str | None:
        printed = (printed or "").lower()
        differs = printed and self._build_id and not self._build_id.startswith(printed)
        return printed if differs else None

    @property
    def reason(self) -> str | None:
        """Why the file is of another build, naming both sides; None as long as it fits."""
        if self._release:
            return self._release
        if self._other_id:
            return f"{self._name} has build-id {self._build_id}, the log says {self._other_id}"
        wrong = sum(not agrees for agrees in self._votes.values())
        if wrong * 2 > len(self._votes):
            example = next(symbol for (symbol, _), agrees in self._votes.items() if not agrees)
            return (
                f"{self._name} is not of the crashed build: {wrong} of {len(self._votes)} "
                f"functions in the log differ from it, {example} for one"
            )
        return None
