"""Damaged logs through the whole engine and every view: ``end_to_end_mutants.py --count 20000``.

A share of them runs with the demo's module, source and commit index. See README.md beside this
file.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from harness import Mutant, campaign_main  # noqa: E402
from log_surgery import MAX_BYTES, Lines, mutate  # noqa: E402
from seed_logs import seed_logs  # noqa: E402

from kagent.errors import InputError  # noqa: E402

__all__ = ["BrokenRuleError", "EndToEndMutants", "check_views"]

_SHARE_WITH_DATA = 0.25
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_TRACEBACK = re.compile(r'Traceback \(most recent call last\)|File "[^"\n]{1,200}", line \d+')


class BrokenRuleError(AssertionError):
    """A rule does not hold; ``args`` are its name and the particulars."""


class EndToEndMutants:
    """The campaign on whole analyses."""

    name = "end-to-end"

    def prepare(self, folder: Path) -> None:
        """Unpack the demo and build its index, as the user would."""
        from kagent.commits import CommitIndex
        from kagent.demo.runner import SAMPLES, unpack

        into = folder / "demo"
        into.mkdir()
        unpacked = unpack(SAMPLES["tidelink"], into)
        assert unpacked.repository is not None
        assert unpacked.index is not None
        CommitIndex.build(unpacked.repository, unpacked.index).close()
        data = {
            "modules": str(unpacked.modules),
            "kernel_src": unpacked.kernel_src,
            "index": str(unpacked.index),
        }
        (folder / "data.json").write_text(json.dumps(data))

    def load(self, folder: Path) -> None:
        for name in list(os.environ):  # the settings of who runs this must not decide
            if name.startswith(("KAGENT_", "OPENAI_", "LANGCHAIN_", "LANGSMITH_", "DEBUGINFOD_")):
                del os.environ[name]
        os.chdir(folder)
        self._settings = _settings(folder)
        paths = list(seed_logs())
        self._logs = [(path.name, path.read_bytes().split(b"\n")) for path in paths]
        self._lines = [lines for _, lines in self._logs]
        at = next(i for i, path in enumerate(paths) if path.parent.name == "tidelink")
        self._demo = self._logs[at]

    def warm(self) -> None:
        self._run(b"\n".join(self._demo[1]), with_data=True)

    def make(self, dice: random.Random) -> Mutant:
        with_data = dice.random() < _SHARE_WITH_DATA
        name, lines = self._demo if with_data else dice.choice(self._logs)
        content, told = mutate(_window(lines, dice), self._lines, dice)
        data = "with the demo's data" if with_data else "alone"
        return Mutant(content, f"{name} ({data}): {told}", {"with_data": with_data})

    def check(self, mutant: Mutant, dice: random.Random) -> None:
        assert len(mutant.content) <= MAX_BYTES
        self._run(mutant.content, with_data=mutant.facts["with_data"])

    def _run(self, content: bytes, *, with_data: bool) -> None:
        from kagent.agents.api import analyze

        settings = self._settings[with_data]
        with suppress(InputError):  # NoReportError is one
            check_views(analyze(content.decode("utf-8", "replace"), settings=settings))


def _settings(folder: Path) -> dict[bool, Any]:
    from kagent.settings import Settings

    nothing = {"vmlinux": None, "debug_dir": folder / "nothing"}
    data = json.loads((folder / "data.json").read_text())
    data["index"] = (Path(data["index"]),)
    data["modules"] = Path(data["modules"])
    return {False: Settings(**nothing), True: Settings(**nothing, **data)}


def _window(lines: Lines, dice: random.Random) -> Lines:
    """All of a log, or a part of a long one, as people paste it."""
    if len(lines) <= 300 or dice.random() < 0.3:
        return list(lines)
    at = dice.randrange(len(lines) - 200)
    return lines[at : at + dice.choice((60, 200, 1000))]


def check_views(res: Any) -> None:
    """Hold the rules on a resolution and on every view of it.

    Raises:
        BrokenRuleError: one does not hold.
    """
    from kagent.report import to_html, to_json, to_markdown, to_text
    from kagent.report.notebook import mimebundle
    from kagent.resolution import Resolution

    for failure in res.failures:  # the boundary made a note of what would have come out
        raise BrokenRuleError("no part fails", failure.part, failure.error, failure.trace)
    _hold("complete", not res.incomplete, res.notes)
    text = to_json(res)
    _hold("JSON says the same", Resolution.model_validate_json(text) == res)
    _hold("JSON is ASCII", text.isascii())
    bundle = mimebundle(res)
    views = {
        "markdown": to_markdown(res),
        "html": to_html(res),
        "terminal": to_text(res),
        "narrow terminal": to_text(res, width=40),
        "json": text,
        **{f"notebook {kind}": shown for kind, shown in bundle.items()},
    }
    for name, shown in views.items():
        _hold(f"{name} says something", bool(shown.strip()))
        unseen = {hex(ord(c)) for c in _not_printable(shown)}
        _hold(f"no unseen characters in {name}", not unseen, sorted(unseen)[:8])
        _hold(f"no traceback in {name}", not _TRACEBACK.search(shown))


def _not_printable(text: str) -> set[str]:
    return {c for c in set(text) - {"\n", "\t"} if unicodedata.category(c) in _UNSEEN}


def _hold(name: str, condition: bool, *particulars: object) -> None:
    if not condition:
        raise BrokenRuleError(name, *particulars)


if __name__ == "__main__":
    sys.exit(campaign_main(EndToEndMutants(), Path(__file__).resolve(), default_count=20_000))
