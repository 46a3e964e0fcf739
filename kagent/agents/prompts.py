"""The prompts: Markdown files, shipped in the wheel, kept at the top of a checkout."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from kagent.errors import MissingDataError

__all__ = ["load_prompt", "prompts_dir"]


def prompts_dir() -> Path:
    """Where the prompts are: inside the installed package, or beside it in a checkout.

    Raises:
        MissingDataError: the installation lost them.
    """
    package = Path(str(resources.files("kagent")))
    for candidate in (package / "prompts", package.parent / "prompts"):
        if (candidate / "general_analyzer.md").is_file():
            return candidate
    raise MissingDataError("the prompt files are missing", hint="reinstall kagent")


@cache
def load_prompt(name: str) -> str:
    """The text of ``prompts/NAME.md``."""
    return (prompts_dir() / f"{name}.md").read_text(encoding="utf-8").strip()
