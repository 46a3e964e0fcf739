"""Every exception kagent raises on purpose.

::

    KagentError
    ├── InputError            the user can fix it: bad path, empty log, wrong option
    │   └── NoReportError     the input is readable, but no kernel report is in it
    ├── MissingDataError      something needed is absent; ``hint`` says how to get it
    │   └── MissingExtraError an optional dependency is not installed
    ├── CorruptDataError      a file is there but damaged or of another kind or build
    │   ├── IndexCorruptError a commit index fails its checks
    │   ├── MismatchError     debug info that does not belong to the crashed kernel
    │   └── NativeCodeError   a library crashed or hung on it, in the child kept for that
    └── ModelError            the language model endpoint failed or answered nonsense

``str(error)`` is one line fit for a terminal: what is wrong. ``error.hint`` is what to do.
"""

from __future__ import annotations

__all__ = [
    "CorruptDataError",
    "IndexCorruptError",
    "InputError",
    "KagentError",
    "MismatchError",
    "MissingDataError",
    "MissingExtraError",
    "ModelError",
    "NativeCodeError",
    "NoReportError",
]


class KagentError(Exception):
    """Base of all errors; ``exit_code`` is what the command line returns for it."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InputError(KagentError):
    """Bad usage or input that the user can correct."""

    exit_code = 2


class NoReportError(InputError):
    """The input was read, but holds no kernel report."""

    exit_code = 1


class MissingDataError(KagentError):
    """A file or datum that is needed is not there."""


class MissingExtraError(MissingDataError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional dependency that is not installed",
            hint=f"pip install 'kagent[{extra}]'",
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

    def __init__(self, message: str, *, part: str, repeated: bool = False) -> None:
        """`part` is the library; `repeated` says that it was not even tried again."""
        super().__init__(message)
        self.part = part
        self.repeated = repeated


class ModelError(KagentError):
    """The language model could not be reached or gave no usable answer."""
