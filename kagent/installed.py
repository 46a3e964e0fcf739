"""How this kagent was installed, and so how more of it is.

No package index is assumed to have it: PEP 610's ``direct_url.json`` says where an installed copy
came from; a copy that was installed by name came from an index, which has it.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["hint_to_install"]

_NAME = "kagent"
_PACKAGE = Path(__file__).resolve().parent


def hint_to_install(extra: str) -> str:
    """The command that adds an optional dependency to this installation."""
    if (checkout := _checkout()) is not None:
        return _from_directory(checkout, extra)
    origin = _origin()
    if origin is None:
        return f"install the extra {extra!r} of the package this kagent came from"
    if not origin:
        return _pip(f"{_NAME}[{extra}]")
    url = str(origin.get("url", ""))
    vcs = origin.get("vcs_info")
    if isinstance(vcs, dict):
        revision = vcs.get("requested_revision") or vcs.get("commit_id")
        at = f"@{revision}" if revision else ""
        return _pip(f"{_NAME}[{extra}] @ {vcs.get('vcs')}+{url}{at}")
    path = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
    if path is None:
        return _pip(f"{_NAME}[{extra}] @ {url}")
    if path.is_dir():
        return _from_directory(path, extra)
    if path.is_file():
        return _pip(f"{path}[{extra}]")
    return f"install the extra {extra!r} from where {path} came from"


def _checkout() -> Path | None:
    """The source tree that this very module runs from, if it does."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "prompts").is_dir() else None


def _origin() -> dict[str, object] | None:
    """``direct_url.json`` of the installed copy; empty where it came from an index by name, None
    where nothing is known of it.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        text = distribution(_NAME).read_text("direct_url.json")
        found = json.loads(text) if text else {}
    except (PackageNotFoundError, OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _from_directory(path: Path, extra: str) -> str:
    try:
        here = path.samefile(".")
    except OSError:  # the working directory is gone
        here = False
    return _pip(f"{'.' if here else path}[{extra}]")


def _pip(requirement: str) -> str:
    return f"pip install {shlex.quote(requirement)}"
