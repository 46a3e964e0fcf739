"""The notebook runs from top to bottom and ends in a resolution."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

pytestmark = pytest.mark.integration

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_and_no_machine_path_is_stored(path):
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", path.read_text("utf-8"))


def test_the_crash_is_explored_to_its_fix(tmp_path):
    outputs = run(NOTEBOOKS[0].with_stem("explore_a_crash"), tmp_path)
    text = "\n".join(output.get("text", "") for output in outputs)
    values = "\n".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "tide_station_push+0x9e/0x100 [tidelink]" in text
    assert "skip the surge check for stations without a datum" in text
    assert re.search(r"tide_datum_level at \S*tidelink.h:54 reads tide_datum.gain_ppm", values)
    (page,) = [out.data for out in outputs if "text/html" in out.get("data", {})]
    assert "tide_datum_level" in page["text/html"]
    assert "tide_datum_level" in page["text/markdown"]
    assert page["text/plain"].startswith("BUG: unable to handle kernel NULL pointer dereference")


def run(path: Path, where: Path) -> list[dict]:
    """Execute a notebook in the directory `where`; all outputs in order."""
    book = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(where)}}
    )
    client.execute()
    return [out for cell in book.cells if cell.cell_type == "code" for out in cell.outputs]
