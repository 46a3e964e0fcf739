"""Damaged text: with the user's consent a model may repair what a report was in.

Nothing raw leaves without consent, and with it no more than the lines around the damage. What
comes back counts only as far as it was there before.
"""

from __future__ import annotations

import re

from kagent.agents.answers import Restored
from kagent.agents.model import chat_model, facts_message, structured
from kagent.agents.prompts import load_prompt
from kagent.egress import Destination
from kagent.errors import ModelError
from kagent.klog import KernelLog, parse_log
from kagent.resolution import Usage
from kagent.settings import Settings

__all__ = ["damaged_region", "restore"]

_MAX_LINES, _MAX_CHARACTERS = 200, 16_000  # a report with its call trace is well below
_MAX_LINE = 400
_MARGIN, _GAP = 2, 4
# What survives a scan or a bad line: frames, registers, the words that kernels print in reports.
_MARKS = re.compile(
    r"\+ ?0x[0-9a-f]{1,8} ?/ ?0x[0-9a-f]{1,8}"
    r"|\b(?:[re][a-ds][xip]|r\d{1,2}|[xl]\d{1,2}|pc|lr|sp|cr[234]) ?: ?[0-9a-f]{8,16}\b"
    r"|call ?trace|</?(?:task|irq|nmi)>|\bcode ?: ?(?:[0-9a-f]{2} ){4}|hardware name|not tainted"
    r"|tainted ?:|\bcpu ?: ?\d+ .{0,40}pid ?: ?\d|kernel (?:bug|panic)|unable to handle|oops ?:"
    r"|general protection|blocked for more than|\bbug ?:|cut here|end trace",
    re.IGNORECASE,
)
_STAMP = re.compile(r"^\[\s{0,8}\d{1,9}\.\d{1,9}\]\[\s{0,8}[TC]\d{1,9}\]", re.MULTILINE)
_NOISE = re.compile(r"[^0-9a-z_+./]")


def damaged_region(text: str) -> str:
    """The lines of a report that cannot be read, with two around them; empty if nothing is there.

    Of several such places the one with most marks of a report, at most 200 lines of it.
    """
    lines = text.splitlines()
    marked = [at for at, line in enumerate(lines) if _MARKS.search(line[:_MAX_LINE])]
    runs: list[list[int]] = []
    for at in marked:
        if runs and at - runs[-1][-1] <= _GAP:
            runs[-1].append(at)
        else:
            runs.append([at])
    if not runs:
        return ""
    best = max(runs, key=len)
    start = max(best[0] - _MARGIN, 0)
    end = min(best[-1] + _MARGIN + 1, start + _MAX_LINES)
    return "\n".join(line[:_MAX_LINE] for line in lines[start:end])[:_MAX_CHARACTERS]


def restore(text: str, settings: Settings) -> tuple[str, KernelLog, list[str], Usage]:
    """Let the model repair a text in which the parser sees nothing; keep only what was there."""
    unread = parse_log("")
    damaged = damaged_region(text)
    if not damaged:
        return text, unread, [], Usage()
    destination = Destination.of(settings.endpoint)
    if not (settings.restore or destination.loopback):
        lines = damaged.count("\n") + 1
        note = (
            f"some of the text looks like a damaged report; with --restore (KAGENT_RESTORE=1) "
            f"{lines} lines of it go to {settings.model} at {destination}, to be restored"
        )
        return text, unread, [note], Usage()
    try:
        model = chat_model(settings)
        if model is None:
            return text, unread, [], Usage()
        restored, usage = structured(
            model, load_prompt("reformat"), [facts_message({"text": damaged})], Restored
        )
    except ModelError as error:
        return text, unread, [f"the model could not restore the text: {error}"], Usage(calls=1)
    log = parse_log(restored.report)
    original = _plain(damaged)
    invented = sorted(fact for fact in _facts(restored.report, log) if fact not in original)
    if invented:
        note = f"the model's restored text was refused: it adds {', '.join(invented[:3])}"
        return text, unread, [note], usage
    note = (
        f"the text was damaged; {settings.model} restored {damaged.count(chr(10)) + 1} of its "
        f"{len(text.splitlines())} lines before they were read, and saw no others"
    )
    return restored.report, log, [note], usage


def _plain(text: str) -> str:
    return _NOISE.sub("", text.lower())


def _facts(text: str, log: KernelLog) -> set[str]:
    """What a restored text states and a reader would rely on, in `_plain` form.

    Every word with a digit in it (addresses, registers, offsets, versions), and every symbol;
    only letters of the kernel's own phrases may be repaired. That a short number stands in the
    right place is not checked; the note says that the text was restored.
    """
    words = _STAMP.sub(" ", text).split()
    facts = {_plain(word) for word in words if any(c.isdigit() for c in word)}
    facts |= {_plain(frame.symbol) for report in log.reports for _, frame in report.all_frames()}
    return facts - {""}
