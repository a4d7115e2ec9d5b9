"""CSV files that anybody may have written: what separates their cells, and where they begin."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import pandas as pd

from analysis.errors import AnalysisError, first_line
from analysis.read.names import check_names
from analysis.read.values import (
    GROUPED_DIGITS,
    first_row,
    with_grouped_digits,
)

_HEAD = 1 << 20  # bytes that are looked at before anything is parsed
_ENCODING = "utf-8-sig"
_DECIMAL_COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"
_SEPARATORS = ",;\t"
_SEP_LINE = re.compile(r"\s*\"?sep=(\\t|.)\"?\s*", re.IGNORECASE)  # as spreadsheets write it
_MOST_LINES = 50  # of a header


def read_csv(path: Path) -> pd.DataFrame:
    """Cells stay texts, empty ones are missing; the index is the row, as an editor counts."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    _check_head(path, head)
    layout = read_layout(head.decode(_ENCODING, "replace"))
    if layout is None:
        raise AnalysisError(
            f"source.path={path}: is not a CSV table (a quotation mark in its header "
            "is never closed)"
        )
    check_names(f"source.path={path}", [name for name in layout.names if name])
    width = len(layout.names)
    frame = _parsed(path, layout)
    frame.index = pd.RangeIndex(layout.n_lines + 1, layout.n_lines + 1 + len(frame))
    beyond = frame[width].notna()
    if beyond.any():
        raise _long_row(path, first_row(beyond), width + 1, width)
    return _tidied(frame.drop(columns=width), path, layout)


def _parsed(path: Path, layout: Layout) -> pd.DataFrame:
    """The cells as texts, columns by number: one more than the header has, for what is beyond."""
    columns = range(len(layout.names) + 1)
    try:
        with path.open(encoding=_ENCODING) as file, warnings.catch_warnings():
            _skip(file, layout)
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are too long
            return pd.read_csv(
                file, sep=layout.separator, header=None, names=columns, dtype=str,
                keep_default_na=False, na_values=[""], skip_blank_lines=False,
                skipinitialspace=True, index_col=False,
            )  # fmt: skip
    except UnicodeDecodeError as error:
        raise AnalysisError(
            f"source.path={path}: is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=columns, dtype=object)
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
        raise _too_long(path, layout) or AnalysisError(
            f"source.path={path}: is not a CSV table ({first_line(error)})"
        ) from None


@dataclass(frozen=True)
class Layout:
    """separator; names of the header, stripped, "" for none; n_lines before the first row."""

    separator: str
    names: tuple[str, ...]
    n_lines: int


def read_layout(text: str) -> Layout | None:
    """The layout of a CSV file that begins with `text`; None if its header never ends.

    Before the header there may be empty lines, a line `sep=;` and comments (#). A comment right
    above a row of numbers, with as many cells, is the header (as numpy.savetxt writes it).

    >>> read_layout("sep=;\\n# exported\\nbatch_size;steps\\n8;100\\n")
    Layout(separator=';', names=('batch_size', 'steps'), n_lines=3)
    >>> read_layout("# batch_size,steps\\n8,100\\n").names
    ('batch_size', 'steps')
    """
    lines = list(io.StringIO(text, newline=None))
    place, separator, comment = 0, None, None
    for place, line in enumerate(lines):  # noqa: B007
        if declared := _SEP_LINE.fullmatch(line):
            separator = "\t" if declared[1] == "\\t" else declared[1]
        elif line.startswith("#"):
            comment = line.lstrip("# ")
        elif line.strip():
            break
    if separator is None:
        texts = (lines[place], comment or "")
        separator = max(_SEPARATORS, key=lambda sign: [text.count(sign) for text in texts])
    rows = csv.reader(
        islice(lines, place, place + _MOST_LINES), delimiter=separator, skipinitialspace=True
    )
    try:
        first = next(rows, [])
    except csv.Error:  # of a cell without an end
        return None
    if comment is not None and first and all(map(_is_number, first)):
        names = next(cells_of([comment], separator), [])
        if len(names) == len(first):
            return Layout(separator, _stripped(names), place)
    if rows.line_num == _MOST_LINES < len(lines) - place:
        return None
    return Layout(separator, _stripped(first), place + rows.line_num)


def cells_of(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """The cells of each row, as far as they can be told apart."""
    try:
        yield from csv.reader(lines, delimiter=separator, skipinitialspace=True)
    except csv.Error:
        return


def _stripped(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for name in names)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


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


def _check_head(path: Path, head: bytes) -> None:
    """Raise AnalysisError for what is not a text or not a table."""
    if not head.strip() or head.strip() == b"\xef\xbb\xbf":
        raise AnalysisError(f"source.path={path}: the file is empty")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise AnalysisError(f"source.path={path}: is UTF-16; save it as UTF-8")
    if b"\0" in head:
        raise AnalysisError(f"source.path={path}: is a binary file, not a CSV table")
    if b"\n" not in head and b"\r" not in head and len(head) == _HEAD:
        raise AnalysisError(
            f"source.path={path}: its first line has no end, so it is not a CSV table"
        )
