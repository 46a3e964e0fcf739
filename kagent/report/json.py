"""The JSON contract ``kagent/1`` as text."""

from __future__ import annotations

import json

from kagent.resolution import Resolution

__all__ = ["to_json"]


def to_json(res: Resolution) -> str:
    """The whole resolution, keys in the contract's order, one newline at the end.

    Only ASCII is written, so nothing from the log can act on the terminal that shows it.
    """
    return json.dumps(res.model_dump(mode="json"), indent=2, ensure_ascii=True) + "\n"
