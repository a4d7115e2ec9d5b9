"""Runs the example notebook: `python -m tests.analysis.notebook` stores what it gives in it."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

import analysis

NOTEBOOK = Path(analysis.__file__).parent / "example.ipynb"
_LIMIT_SECONDS = 240
_METADATA = {  # without what differs between machines
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def run(path: Path) -> None:
    """Write the outputs of a fresh kernel, which starts in a folder of its own, into the file."""
    with TemporaryDirectory() as folder:
        kernel = AsyncKernelManager(transport="ipc", ip=f"{folder}/kernel")  # no port is open
        client = NotebookClient(
            read(path), kernel, timeout=_LIMIT_SECONDS, record_timing=False,
            coalesce_streams=True, resources={"metadata": {"path": folder}},
        )  # fmt: skip
        notebook = client.execute()
    notebook.metadata = nbformat.from_dict(_METADATA)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    run(Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOK)
