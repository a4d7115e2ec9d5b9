"""A table from a file that anybody may have written; FORMATS says which reader takes which file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.csv_files import read_csv
from analysis.read.parquet_files import read_parquet

# suffix -> reader; any other file is read as CSV
FORMATS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": read_parquet,
    ".pq": read_parquet,
}


def read_table(path: str | Path) -> pd.DataFrame:
    """The table in a CSV (comma, semicolon or tab; UTF-8) or parquet file; its index is the row.

    Cells of a CSV stay texts, empty ones are missing; where commas do not separate them, decimal
    commas become points. A first column without a name holds the names of rows and is left out.
    `attrs[GROUPED_DIGITS]`: see there. Raises AnalysisError, one line each, for a file that is
    missing, a directory, empty, not a table, in another encoding, with two columns of one name, or
    with rows longer than the header.
    """
    path = Path(path)
    if path.is_dir():
        raise AnalysisError(f"source.path={path}: is a directory; name a CSV or parquet file")
    try:
        path.open("rb").close()  # whether it can be read at all
        frame = FORMATS.get(path.suffix.lower(), read_csv)(path).dropna(how="all")
    except FileNotFoundError:
        raise AnalysisError(f"source.path={path}: there is no such file") from None
    except OSError as error:
        reason = error.strerror or error
        raise AnalysisError(f"source.path={path}: cannot be read ({reason})") from None
    if frame.empty:
        raise AnalysisError(f"source.path={path}: the table has no rows")
    return frame
