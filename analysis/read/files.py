"""A table from a file that anybody may have written: CSV as texts, or parquet."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.layout import Layout, cells_of, read_layout
from analysis.read.values import GROUPED_DIGITS, first_row, with_grouped_digits

_HEAD = 1 << 20  # bytes that are looked at before anything is parsed
_ENCODING = "utf-8-sig"
FIRST_ROW = 2  # as spreadsheets and editors count: the header is row 1
_DECIMAL_COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"


def read_table(path: str | Path) -> pd.DataFrame:
    """The table in a CSV (comma, semicolon or tab; UTF-8) or parquet file; its index is the row.

    Cells of a CSV stay texts, empty ones are missing; where commas do not separate them, decimal
    commas become points. A first column without a name holds the names of rows and is left out.
    `attrs[GROUPED_DIGITS]`: see there. Raises AnalysisError, one line each,
    for a file that is missing, a directory, empty, no table, in another encoding, with two columns
    of one name, or with rows longer than the header.
    """
    path = Path(path)
    if path.is_dir():
        raise AnalysisError(f"source.path={path}: is a directory; name a CSV or parquet file")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        is_parquet = path.suffix.lower() in (".parquet", ".pq")
        frame = _parquet(path) if is_parquet else _csv(path, head)
    except FileNotFoundError:
        raise AnalysisError(f"source.path={path}: there is no such file") from None
    except OSError as error:
        said = error.strerror or error
        raise AnalysisError(f"source.path={path}: cannot be read ({said})") from None
    frame = frame.dropna(how="all")
    if frame.empty:
        raise AnalysisError(f"source.path={path}: the table has no rows")
    return frame


def _parquet(path: Path) -> pd.DataFrame:
    """A value that is no number (NaN), unlike one that is missing, is the text nan, as in a CSV."""
    try:
        import pyarrow.parquet as pq
        import pyarrow.types as kinds
    except ImportError:
        raise AnalysisError(f"source.path={path}: parquet needs pyarrow; install it") from None
    try:
        table = pq.ParquetFile(path).read()
        _check_names(path, table.column_names)
        frame = table.to_pandas()
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        raise AnalysisError(f"source.path={path}: is no parquet file ({_line(error)})") from None
    named = [name for name in frame.index.names if name is not None]  # pandas' index, if it has one
    frame = (frame.reset_index(named) if named else frame).reset_index(drop=True)
    for name in [field.name for field in table.schema if kinds.is_floating(field.type)]:
        not_a_number = frame[name].isna().to_numpy() & table[name].is_valid().to_numpy()
        if not_a_number.any():
            frame[name] = frame[name].astype(object).mask(not_a_number, "nan")
    frame.index = pd.RangeIndex(FIRST_ROW, FIRST_ROW + len(frame))
    return frame


def _csv(path: Path, head: bytes) -> pd.DataFrame:
    _check_head(path, head)
    layout = read_layout(head.decode(_ENCODING, "replace"))
    if layout is None:
        raise AnalysisError(
            f"source.path={path}: is no CSV table (a quotation mark in its header is never closed)"
        )
    _check_names(path, [name for name in layout.names if name])
    width = len(layout.names)
    try:
        with path.open(encoding=_ENCODING) as file, warnings.catch_warnings():
            _skip(file, layout)
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are too long
            frame = pd.read_csv(
                file,
                sep=layout.separator,
                header=None,
                names=range(width + 1),  # one more, for what lies beyond the header
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                skip_blank_lines=False,
                skipinitialspace=True,
                index_col=False,
            )
    except UnicodeDecodeError as error:
        raise AnalysisError(
            f"source.path={path}: is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=pd.Index(layout.names))
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
        raise _too_long(path, layout) or AnalysisError(
            f"source.path={path}: is no CSV table ({_line(error)})"
        ) from None
    frame.index = pd.RangeIndex(layout.n_lines + 1, layout.n_lines + 1 + len(frame))
    beyond = frame[width].notna()
    if beyond.any():
        raise _long_row(path, first_row(beyond), width + 1, width)
    return _tidied(frame.drop(columns=width), path, layout)


def _tidied(frame: pd.DataFrame, path: Path, layout: Layout) -> pd.DataFrame:
    """With the names of the header and numbers as they are written in English."""
    nameless = [place for place, name in enumerate(layout.names) if not name]
    for place in nameless:
        known = frame[place].notna()
        if place and known.any():
            raise AnalysisError(
                f"source.path={path}: column {place + 1} has no name in the header, but a value in "
                f"row {first_row(known)}; give it a name"
            )
    frame = frame.drop(columns=nameless).rename(columns=dict(enumerate(layout.names)))
    if layout.separator == ",":
        return frame
    grouped = with_grouped_digits(frame)
    frame = frame.apply(_with_points)
    frame.attrs[GROUPED_DIGITS] = grouped
    return frame


def _with_points(column: pd.Series) -> pd.Series:
    with_comma = column.str.fullmatch(_DECIMAL_COMMA).fillna(False).astype(bool)
    return column.where(~with_comma, column.str.replace(",", "."))


def _skip(file: TextIO, layout: Layout) -> None:
    for _ in range(layout.n_lines):
        file.readline()


def _too_long(path: Path, layout: Layout) -> AnalysisError | None:
    """About the first row with more cells than the header and one, if there is any."""
    with path.open(encoding=_ENCODING) as file:
        _skip(file, layout)
        for number, cells in enumerate(cells_of(file, layout.separator)):
            if len(cells) > len(layout.names) + 1:
                return _long_row(path, layout.n_lines + 1 + number, len(cells), len(layout.names))
    return None


def _long_row(path: Path, row: int, n_cells: int, n_names: int) -> AnalysisError:
    return AnalysisError(
        f"source.path={path}: row {row} has {n_cells} cells, but the header has {n_names}; if they "
        "begin with row names (as R writes them), leave these out (row.names=FALSE), and put a "
        "cell that holds the separator into quotation marks"
    )


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        places = [str(i + 1) for i, name in enumerate(names) if name == twice[0]]
        raise AnalysisError(
            f"source.path={path}: column {twice[0]} stands {len(places)} times in the header (as "
            f"number {' and '.join(places)}); rename or delete all but one"
        )


def _check_head(path: Path, head: bytes) -> None:
    """Raise AnalysisError for what is no text or no table."""
    if not head.strip() or head.strip() == b"\xef\xbb\xbf":
        raise AnalysisError(f"source.path={path}: the file is empty")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise AnalysisError(f"source.path={path}: is UTF-16; save it as UTF-8")
    if b"\0" in head:
        raise AnalysisError(f"source.path={path}: is a binary file, not a CSV table")
    if b"\n" not in head and b"\r" not in head and len(head) == _HEAD:
        raise AnalysisError(f"source.path={path}: its first line has no end, so it is no CSV table")


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"\s+", " ", lines[0])[:200]
