"""A table from a file that anybody may have written: CSV as texts, or parquet."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError

_HEAD = 1 << 20  # bytes that are looked at before anything is parsed
FIRST_ROW = 2  # as spreadsheets and editors count: the header is row 1


def read_table(path: str | Path) -> pd.DataFrame:
    """The table in a CSV (comma, semicolon or tab; UTF-8) or parquet file; its index is the row.

    Cells of a CSV stay texts, empty ones are missing. Raises AnalysisError, one line each, for
    a file that is missing, a directory, empty, no table, or in another encoding.
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
    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise AnalysisError(f"source.path={path}: parquet needs pyarrow; install it") from None
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        raise AnalysisError(f"source.path={path}: is no parquet file ({_line(error)})") from None
    frame.columns = frame.columns.map(str)
    return frame.reset_index(drop=True).rename(index=lambda i: i + FIRST_ROW)


def _csv(path: Path, head: bytes) -> pd.DataFrame:
    encoding = _check_head(path, head)
    header = head.split(b"\n", 1)[0].decode(encoding, "replace")
    separator = max(",;\t", key=header.count)
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            encoding=encoding,
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
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise AnalysisError(f"source.path={path}: is no CSV table ({_line(error)})") from None
    frame.columns = frame.columns.str.strip()
    frame.index = pd.RangeIndex(FIRST_ROW, FIRST_ROW + len(frame))
    return frame


def _check_head(path: Path, head: bytes) -> str:
    """The encoding; AnalysisError for what is no text or no table."""
    if not head.strip():
        raise AnalysisError(f"source.path={path}: the file is empty")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise AnalysisError(f"source.path={path}: is UTF-16; save it as UTF-8")
    if b"\0" in head:
        raise AnalysisError(f"source.path={path}: is a binary file, not a CSV table")
    if b"\n" not in head and b"\r" not in head and len(head) == _HEAD:
        raise AnalysisError(f"source.path={path}: its first line has no end, so it is no CSV table")
    return "utf-8-sig"


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"\s+", " ", lines[0])[:200]
