"""The tables of docs/trust.md, so that tests try what the page says."""

from __future__ import annotations

from pathlib import Path

__all__ = ["table"]

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "trust.md"


def table(first_heading: str) -> list[dict[str, str]]:
    """The rows of the table whose first column has this heading; backticks are left out."""
    rows: list[dict[str, str]] = []
    heads: list[str] = []
    for line in _PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if line.startswith(f"| {first_heading} |"):
            heads = cells
        elif heads and line.startswith("|---"):
            continue
        elif heads and line.startswith("|"):
            rows.append(dict(zip(heads, cells, strict=True)))
        elif heads:
            break
    assert rows, f"docs/trust.md has no table of {first_heading}"
    return rows
