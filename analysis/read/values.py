"""Cells of somebody's table as numbers; one line with row and value for those that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError

GROUPED_DIGITS = "grouped_digits"  # in the attrs of a frame: see with_grouped_digits
_NOT_FINITE = {"nan", "inf", "-inf", "+inf", "infinity", "-infinity", "+infinity"}


class Where:
    """Names a table, its columns as the user wrote them, and its rows, for messages."""

    def __init__(self, table: str, columns: Mapping[str, str] | None = None) -> None:
        self.table = table
        self._columns = columns or {}

    def theirs(self, name: str) -> str:
        return self._columns.get(name, name)

    def column(self, name: str) -> str:
        theirs = self.theirs(name)
        return f"column {name}" if theirs == name else f"column {theirs} ({name})"

    def mistake(self, name: str, value: object, row: object, allowed: str) -> AnalysisError:
        shown = value if isinstance(value, (int, float, np.number)) else repr(str(value)[:60])
        if isinstance(shown, (float, np.floating)):
            shown = f"{shown:g}"
        return AnalysisError(
            f"{self.table}: {self.column(name)} is {shown} in row {row}; {allowed}"
        )


def first_row(wrong: pd.Series) -> Any:
    """The row of the first True."""
    return wrong.index[int(wrong.to_numpy(bool).argmax())]


def numbers(column: pd.Series, name: str, where: Where) -> pd.Series:
    """Float64; missing cells stay NaN, and a written-out nan or inf becomes inf.

    Raises AnalysisError for the first cell that is not a number.
    """
    kinds = pd.api.types
    real = kinds.is_numeric_dtype(column) and not kinds.is_complex_dtype(column)
    if kinds.is_bool_dtype(column) or not real:
        text = column.astype("string").str.strip()
        values = pd.to_numeric(text, errors="coerce").astype("Float64").astype(float)
        not_finite = text.str.lower().isin(_NOT_FINITE).fillna(False).astype(bool)
        values[not_finite] = np.inf
        wrong = values.isna() & text.notna() & (text != "")
        if wrong.any():
            row = first_row(wrong)
            raise where.mistake(name, column[row], row, "it must be a number")
        return values
    return column.astype(float)


def finite(column: pd.Series, name: str, where: Where) -> pd.Series:
    """As `numbers`; AnalysisError for an infinite one."""
    values = numbers(column, name, where)
    wrong = values.abs() == np.inf
    if wrong.any():
        raise where.mistake(name, "inf", first_row(wrong), "it must be a finite number")
    return values


def positive(column: pd.Series, name: str, where: Where) -> pd.Series:
    """As `finite`; AnalysisError for one that is negative or zero."""
    values = finite(column, name, where)
    return _checked(values, values <= 0, name, where, "it must be greater than 0")


def not_negative(column: pd.Series, name: str, where: Where) -> pd.Series:
    """As `finite`; AnalysisError for one that is negative."""
    values = finite(column, name, where)
    return _checked(values, values < 0, name, where, "it must not be negative")


def whole(column: pd.Series, name: str, where: Where) -> pd.Series:
    """As `positive`; AnalysisError for one that is not a whole number."""
    values = positive(column, name, where)
    fraction = values.notna() & (values != np.floor(values))
    return _checked(values, fraction, name, where, "it must be a whole number")


def _checked(
    values: pd.Series, wrong: pd.Series, name: str, where: Where, allowed: str
) -> pd.Series:
    if wrong.any():
        row = first_row(wrong)
        raise where.mistake(name, values[row], row, allowed)
    return values


def with_grouped_digits(frame: pd.DataFrame) -> dict[str, int]:
    """Columns of texts such as 1.125 beside 830, and the first row of each with such a dot.

    As thousands separators and as decimal points these dots give different numbers. A number of
    four digits without a dot, or a dot that is not before three digits, shows that they are points.
    """
    first_rows = {}
    for name in map(str, frame.columns):
        cells = frame[name].dropna().str.strip()
        dotted = cells.str.contains(".", regex=False)
        grouped = cells.str.fullmatch(r"[1-9]\d{0,2}(\.\d{3})+")
        short = (cells[~dotted].str.len() <= 3) | cells[~dotted].str.contains(",", regex=False)
        if dotted.any() and (grouped == dotted).all() and short.all():
            first_rows[name] = first_row(dotted)
    return first_rows


def check_thousands(frame: pd.DataFrame, names: Sequence[str], where: Where) -> None:
    """Refuse counts of which it cannot be known whether a dot separates thousands.

    frame: from read_table, with our names for columns.
    """
    rows = frame.attrs.get(GROUPED_DIGITS, {})
    for name in names:
        row = rows.get(where.theirs(name))
        if row is not None and name in frame:
            value = str(frame.at[row, name])
            raise where.mistake(
                name, value, row,
                f"write {value.replace('.', '')} if its dot separates thousands, and "
                f"{value}0 if it is a decimal point",
            )  # fmt: skip


def labels(column: pd.Series) -> pd.Series:
    """Numbers where every known cell is one, else texts; for columns that only tell apart.

    Dates, categories and what is nested become texts: they are names, whatever they hold.
    """
    if pd.api.types.is_numeric_dtype(column):  # truth values are, too
        return column
    texts = column.astype(object).map(str, na_action="ignore")
    values = pd.to_numeric(texts, errors="coerce")
    if values.notna().sum() == texts.notna().sum() and np.isfinite(values.dropna()).all():
        return values
    return texts.astype(object)


def seeds(column: pd.Series) -> pd.Series:
    """Int64; other labels than whole numbers are numbered in their order."""
    values = labels(column)
    if pd.api.types.is_numeric_dtype(values) and not values.isna().any():
        numbers = values.astype(float)  # of 2^53 and more not every whole number is one
        if (numbers == np.floor(numbers)).all() and (numbers.abs() < 2.0**53).all():
            return values.astype(np.int64)
    return pd.Series(pd.factorize(values.astype(str), sort=True)[0], values.index).astype(np.int64)
