"""The example notebook gives what it stores, and notebooks show a figure once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.analysis.notebook import NOTEBOOK, read

RESULT = """
import pandas as pd
from analysis import analyse_frame
sizes, steps = [8, 32, 128, 512, 2048], [461, 146, 65.6, 46.8, 41.5]
result = analyse_frame(pd.DataFrame({"batch_size": sizes, "steps": steps}), n_bootstrap=5)
"""


def executed(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """In a process of its own: nbclient leaves sockets open."""
    path = folder / "copy.ipynb"
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "tests.analysis.notebook", str(path)]
    subprocess.run(command, cwd=NOTEBOOK.parents[1], check=True)
    return read(path)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each cell prints or shows as text."""
    return [
        [output["text"] if "text" in output else output["data"]["text/plain"] for output in outputs]
        for outputs in (cell.outputs for cell in code_cells(notebook))
    ]


def n_images(cell: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


@pytest.mark.long
def test_running_it_gives_the_texts_that_it_stores(tmp_path: Path) -> None:
    stored = read(NOTEBOOK)
    assert texts(executed(stored, tmp_path)) == texts(stored)


def test_it_is_small_and_was_run_from_top_to_bottom() -> None:
    assert NOTEBOOK.stat().st_size < 200_000
    cells = code_cells(read(NOTEBOOK))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(map(n_images, cells)) == 2
    said = NOTEBOOK.read_text()
    assert "<script" not in said
    assert str(Path.home()) not in said


@pytest.mark.long
def test_a_figure_is_shown_once_with_pyplot_and_without(tmp_path: Path) -> None:
    sources = [
        RESULT + "result.plot()",
        "import sys; assert 'matplotlib.pyplot' not in sys.modules; figure = result.plot()",
        "import matplotlib.pyplot as plt; figure = result.plot()",
        "result.plot('pareto')",
    ]
    notebook = executed(new_notebook(cells=list(map(new_code_cell, sources))), tmp_path)
    assert [n_images(cell) for cell in notebook.cells] == [1, 0, 0, 1]
    assert [len(cell.outputs) for cell in notebook.cells] == [1, 0, 0, 1]
