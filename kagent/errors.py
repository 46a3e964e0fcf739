"""Every exception kagent raises on purpose.

::

    KagentError
    ├── InputError            the user can fix it: bad path, empty log, wrong option
    │   ├── NoReportError     the input is readable, but no kernel report is in it
    │   └── RequestError      a client of a server may not have what it asks for
    ├── MissingDataError      something needed is absent; ``hint`` says how to get it
    │   └── MissingExtraError an optional dependency is not installed
    ├── CorruptDataError      a file is there but damaged or of another kind or build
    │   ├── IndexCorruptError a commit index fails its checks
    │   ├── MismatchError     debug info that does not belong to the crashed kernel
    │   └── NativeCodeError   a library crashed or hung on it, in the child kept for that
    ├── ModelError            the language model endpoint failed or answered nonsense
    ├── EgressError           something would leave for where the user's settings name nothing
    ├── OutputError           the result cannot be written: full disk, closed output
    └── IncompleteError       a result with gaps, where ``--strict`` asked for a whole one

``str(error)`` is one line fit for a terminal: what is wrong. ``error.hint`` is what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

__all__ = [
    "EXIT_CODES",
    "CorruptDataError",
    "EgressError",
    "ExitCode",
    "IncompleteError",
    "IndexCorruptError",
    "InputError",
    "KagentError",
    "MismatchError",
    "MissingDataError",
    "MissingExtraError",
    "ModelError",
    "NativeCodeError",
    "NoReportError",
    "OutputError",
    "RequestError",
]


class ExitCode(IntEnum):
    """What every command returns; `EXIT_CODES` says it in words."""

    DONE = 0
    NO_REPORT = 1
    USAGE = 2
    MISSING = 3
    INCOMPLETE = 4
    BUG = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 128 + 2  # as a shell reports SIGINT
    READER_LEFT = 128 + 13  # as a shell reports SIGPIPE


EXIT_CODES: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.DONE: "analysed",
        ExitCode.NO_REPORT: "no kernel report found",
        ExitCode.USAGE: "bad usage or input",
        ExitCode.MISSING: "something needed is missing or corrupt, or there is no room to write",
        ExitCode.INCOMPLETE: "with --strict: a part failed, or the model asked for did not speak",
        ExitCode.BUG: "a bug in the command itself",
        ExitCode.INTERRUPTED: "interrupted",
        ExitCode.READER_LEFT: "the reader of the output left",
    }
)
"""The one table of exit codes. An expert that fails costs its part and not the run, so 70 remains
for a bug in the frame around them: reading arguments, choosing a view, writing."""


class KagentError(Exception):
    """Base of all errors; ``exit_code`` is what the command line returns for it."""

    exit_code = ExitCode.MISSING

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InputError(KagentError):
    """Bad usage or input that the user can correct."""

    exit_code = ExitCode.USAGE


class NoReportError(InputError):
    """The input was read, but holds no kernel report."""

    exit_code = ExitCode.NO_REPORT


class RequestError(InputError, ValueError):
    """A request asks for what it may not have; its words are fit for whoever asked.

    A `ValueError` too: of other exceptions the LangGraph server tells its clients nothing but that
    there was one.
    """


class MissingDataError(KagentError):
    """A file or datum that is needed is not there."""


class MissingExtraError(MissingDataError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        from kagent.installed import hint_to_install

        super().__init__(
            f"{what} needs an optional dependency that is not installed",
            hint=hint_to_install(extra),
        )
        self.extra = extra


class CorruptDataError(KagentError):
    """A file is there, but cannot be what it should be."""


class IndexCorruptError(CorruptDataError):
    """A commit index is damaged or was written by another version."""


class MismatchError(CorruptDataError):
    """Debug info of another build than the crashed kernel's."""


class NativeCodeError(CorruptDataError):
    """A native library crashed, hung or gave no sound answer on data that came with a log."""

    def __init__(self, message: str, *, part: str) -> None:
        super().__init__(message)
        self.part = part
        """The library."""


class ModelError(KagentError):
    """The language model could not be reached or gave no usable answer."""


class EgressError(KagentError):
    """Something would leave the machine for a place that the user's settings do not name."""


class OutputError(KagentError):
    """The result is there, but nowhere to go: the disk is full, the output closed."""


class IncompleteError(KagentError):
    """``--strict``: the result was written, but a part of it is missing."""

    exit_code = ExitCode.INCOMPLETE
