"""What a client may name: a root that the server was started with, or a path below one.

Every interface that takes a path from a request asks here, so that there is one rule:
symbolic links are resolved first; a root given at a revision (``PATH@REV``) is open at that
revision only, one without a revision at any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["allowed_index", "granted", "split_spec"]


def split_spec(spec: str) -> tuple[Path, str]:
    """``PATH@REV`` in two; a path that exists as it stands has no revision."""
    if "@" not in spec or Path(spec).exists():
        return Path(spec), ""
    path, _, revision = spec.rpartition("@")
    return Path(path), revision


def granted(roots: Iterable[str], asked: str) -> str | None:
    """What to open for `asked`, as ``PATH`` or ``PATH@REV``; None where no root allows it."""
    return next((found for root in roots if (found := _below(root, asked)) is not None), None)


def _below(spec: str, asked: str) -> str | None:
    try:
        root, fixed = split_spec(spec)
        path, revision = split_spec(asked)
        real = path.resolve()
        inside = real.is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):
        return None
    if not inside or (fixed and revision not in ("", fixed)):
        return None
    revision = revision or fixed
    return f"{real}@{revision}" if revision else str(real)


def allowed_index(indexes: Sequence[Path], asked: str) -> Path | None:
    """The index of the server that `asked` names; None where it is none of them."""
    try:
        real = Path(asked).resolve()
        return next((path for path in indexes if path.resolve() == real), None)
    except (OSError, ValueError, RuntimeError):
        return None
