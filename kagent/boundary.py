"""The boundary around every expert: what fails unexpectedly costs its own part, never the run.

An expert is declared once, by name, with what stands in for its answer, and is then called like
the function it is::

    memory_facts = expert("memory", otherwise=nothing)(diagnosis.memory_facts)

While a run collects (`collecting`), an exception of an expert becomes a `Failure`, goes to the
logger ``kagent`` with its full traceback, and the caller gets the stand-in. Where nobody collects
there is nobody to tell, and the exception goes on as from any function.

What kagent raises on purpose (`KagentError`) is dealt with by who expects it, mostly as a note.
Where one comes as far as this boundary, something that was asked for was not done: it is recorded
in its own words, without a trace, as it is no bug.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from kagent.errors import KagentError
from kagent.text import clip, strip_control

if TYPE_CHECKING:
    from kagent.resolution import Failure

__all__ = [
    "EXPERTS",
    "Expert",
    "attempt",
    "collecting",
    "describe",
    "expert",
    "logger",
    "nothing",
    "one_line",
    "record",
    "unexpected",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PACKAGE = Path(__file__).resolve().parent
_LIBRARIES = ("site-packages", "dist-packages")
_CALLS = 6
_LONGEST = 500

logger = logging.getLogger("kagent")
logger.addHandler(logging.NullHandler())

_collected: ContextVar[list[Failure] | None] = ContextVar("kagent_failures", default=None)


@contextmanager
def collecting() -> Iterator[list[Failure]]:
    """Collect the failures of all experts called within the block, also in threads it starts
    with its own context (`contextvars.copy_context`).
    """
    found: list[Failure] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def attempt(
    part: str,
    call: Callable[[], _R],
    otherwise: Callable[[], Any],
    *,
    passing: tuple[type[BaseException], ...] = (),
) -> _R:
    """``call()``, or ``otherwise()`` when it raises; exceptions of `passing` go through."""
    if _collected.get() is None:
        return call()
    try:
        return call()
    except passing:
        raise
    except BaseException as error:
        if not unexpected(error):
            raise
        record(part, error)
    answer: _R = otherwise()
    return answer


def unexpected(error: BaseException) -> bool:
    """Whether something failed, rather than that somebody wants out.

    PyO3 keeps the panic of a library written in Rust out of `Exception`.
    """
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"


class Expert(Generic[_P, _R]):
    """A function behind the boundary."""

    def __init__(
        self,
        part: str,
        function: Callable[_P, _R],
        otherwise: Callable[..., Any],
        passing: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.part = part
        self.function = function
        self.otherwise = otherwise
        self.passing = passing
        functools.update_wrapper(self, function)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call the function; its stand-in where it fails in a run that collects."""
        return attempt(
            self.part,
            lambda: self.function(*args, **kwargs),
            lambda: self.otherwise(*args, **kwargs),
            passing=self.passing,
        )


EXPERTS: dict[str, Expert[..., Any]] = {}
"""Every expert that was declared, by its part."""


def expert(
    part: str,
    *,
    otherwise: Callable[..., Any],
    passing: tuple[type[BaseException], ...] = (),
) -> Callable[[Callable[_P, _R]], Expert[_P, _R]]:
    """Put a function behind the boundary; `otherwise` takes the same arguments, and exceptions of
    `passing` are the caller's.
    """

    def declare(function: Callable[_P, _R]) -> Expert[_P, _R]:
        assert part not in EXPERTS, f"two experts are called {part}"
        declared = Expert(part, function, otherwise, passing)
        EXPERTS[part] = declared
        return declared

    return declare


def nothing(*_args: Any, **_kwargs: Any) -> Any:
    """The stand-in of an expert whose answer may be None."""


def record(part: str, error: BaseException) -> None:
    """File `error` as a failure of `part` with the run that collects, and log it."""
    failure = describe(part, error)
    logger.error("%s failed: %s", part, failure.error, exc_info=error)
    found = _collected.get()
    if found is not None and not any((f.part, f.error) == (part, failure.error) for f in found):
        found.append(failure)


def describe(part: str, error: BaseException) -> Failure:
    """The failure that `error` is: its kind, its own one line, and the innermost calls."""
    from kagent.resolution import Failure

    if isinstance(error, KagentError):
        hint = f" ({error.hint})" if error.hint else ""
        return Failure(part=part, error=one_line(f"{error}{hint}"))
    return Failure(part=part, error=_named(error), trace=_innermost(error.__traceback__))


def _named(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - a library's own __str__
        said = ""
    name = type(error).__name__
    return one_line(f"{name}: {said}") if said.strip() else name


def one_line(text: str) -> str:
    """Without line breaks and control characters, and not too long."""
    return clip(" ".join(strip_control(text).split()), _LONGEST)[0]


def _innermost(trace: TracebackType | None) -> list[str]:
    """The last calls, outermost first; at least one of them is kagent's own."""
    calls: deque[str] = deque(maxlen=_CALLS)
    own = ""
    while trace is not None:
        place, ours = _place(trace.tb_frame, trace.tb_lineno)
        own = place if ours else own
        calls.append(place)
        trace = trace.tb_next
    return list(calls) if own in calls or not own else [own, *list(calls)[1:]]


def _place(frame: FrameType, line: int) -> tuple[str, bool]:
    """``diagnosis/fault.py:96 decode_fault``, and whether it is in this package."""
    path = Path(frame.f_code.co_filename)
    ours = path.is_relative_to(_PACKAGE)
    if ours:
        name = path.relative_to(_PACKAGE).as_posix()
    else:
        parts = path.parts
        at = max((parts.index(one) for one in _LIBRARIES if one in parts), default=len(parts) - 2)
        name = "/".join(parts[at + 1 :])
    return f"{name}:{line} {frame.f_code.co_name}", ours
