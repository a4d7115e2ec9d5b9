"""Parquet files as the texts and numbers that read_table promises."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError, first_line
from analysis.read.names import check_names

_FIRST_ROW = 2  # as in a CSV file, where the header is row 1


def read_parquet(path: Path) -> pd.DataFrame:
    """A NaN that was written, unlike a missing value, becomes the text nan, as in a CSV file."""
    try:
        import pyarrow.parquet as pq
        import pyarrow.types as kinds
    except ImportError:
        raise AnalysisError(f"source.path={path}: parquet needs pyarrow; install it") from None
    try:
        table = pq.ParquetFile(path).read()
        check_names(f"source.path={path}", table.column_names)
        frame = table.to_pandas()
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        raise AnalysisError(
            f"source.path={path}: is not a parquet file ({first_line(error)})"
        ) from None
    named = [name for name in frame.index.names if name is not None]  # pandas' index, if it has one
    frame = (frame.reset_index(named) if named else frame).reset_index(drop=True)
    for name in [field.name for field in table.schema if kinds.is_floating(field.type)]:
        not_a_number = frame[name].isna().to_numpy() & table[name].is_valid().to_numpy()
        if not_a_number.any():
            frame[name] = frame[name].astype(object).mask(not_a_number, "nan")
    frame.index = pd.RangeIndex(_FIRST_ROW, _FIRST_ROW + len(frame))
    return frame
