"""The commits that the faulting line goes back to, where the kernel source has a history."""

from __future__ import annotations

from collections.abc import Iterator

from kagent.agents.toolbox import Toolbox
from kagent.boundary import expert
from kagent.errors import KagentError
from kagent.resolution import Fault

__all__ = ["blamed_commits"]

_SECONDS = 5.0
"""For one line; on the kernel's longest histories ``git blame`` takes longer than it helps."""


def _nobody(*_args: object) -> list[str]:
    return []


@expert("blame", otherwise=_nobody)
def blamed_commits(box: Toolbox, fault: Fault | None) -> list[str]:
    """Who last changed the faulting line, and its caller's where the fault is in a helper.

    Empty without a git repository as source, a line, or an answer in time.
    """
    if box.tree is None or fault is None:
        return []
    return list(dict.fromkeys(_blamed(box, fault)))


def _blamed(box: Toolbox, fault: Fault) -> Iterator[str]:
    assert box.tree is not None
    own = fault.own_frame
    places = [(fault.file, fault.line), (own.file, own.line) if own else (None, None)]
    for path, line in dict.fromkeys(places):
        if path and line:
            try:
                found = box.tree.blame(path, line, seconds=_SECONDS)
            except KagentError:
                continue  # no repository, a file from elsewhere: the other signals remain
            if not found.boundary:
                yield found.commit
