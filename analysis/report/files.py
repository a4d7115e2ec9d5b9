"""Files of a report: their names and bytes, written whole or not at all."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import with_their_names

MIME = {"svg": "image/svg+xml", "pdf": "application/pdf", "csv": "text/csv"}


@contextmanager
def file_errors(output_dir: str | Path) -> Iterator[None]:
    """What the disk refuses is a mistake in output_dir, in one line."""
    try:
        yield
    except OSError as error:
        raise AnalysisError(
            f"output_dir={output_dir}: cannot be written ({error.strerror or error}); "
            "choose another with output_dir=..."
        ) from None


def csv_bytes(table: pd.DataFrame) -> bytes:
    return with_their_names(table).to_csv(index=False, lineterminator="\n").encode()


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def write_file(path: Path, content: bytes) -> None:
    """Write through a temporary file beside it: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp's own mode is for secrets
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
