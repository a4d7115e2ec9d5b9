"""Frames as other libraries and habits leave them, made plain before they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.names import check_names, suggestion


def plain_frame(frame: Any, table: str) -> pd.DataFrame:
    """The frame with texts for column names, plain cells, and an index that names each row once.

    frame: pandas', or what has to_pandas(), as polars' and arrow's tables. Named levels of the
    index are columns, as groupby and set_index leave them, except where a column has that name.
    Raises AnalysisError, one line, for what is no frame, for names in several levels, and for a
    name that stands twice.

    >>> by_batch_size = pd.DataFrame({"steps": [90.0]}, index=pd.Index([8], name="batch_size"))
    >>> plain_frame(by_batch_size, "the frame")
       batch_size  steps
    0           8   90.0
    """
    if not isinstance(frame, pd.DataFrame) and hasattr(frame, "to_pandas"):
        frame = frame.to_pandas()
    if not isinstance(frame, pd.DataFrame):
        raise AnalysisError(f"{table} is a {type(frame).__name__}; give a pandas DataFrame")
    if frame.columns.nlevels > 1:
        first = frame.columns[0] if len(frame.columns) else ()
        raise AnalysisError(
            f"{table} has {frame.columns.nlevels} levels of column names, such as {first}; "
            "leave one, for example with frame.columns = frame.columns.map('_'.join)"
        )
    attrs = dict(frame.attrs)
    frame = _with_plain_index(frame.set_axis(frame.columns.map(str), axis="columns"))
    check_names(table, list(frame.columns))
    labelled = [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    frame = frame.astype(dict.fromkeys(labelled, object))
    frame.attrs = attrs
    return frame


def _with_plain_index(frame: pd.DataFrame) -> pd.DataFrame:
    index = frame.index
    columns = [str(name) for name in index.names if name is not None and str(name) not in frame]
    if columns:
        levels = [level for level, name in enumerate(index.names) if str(name) in columns]
        values = {name: index.get_level_values(i) for name, i in zip(columns, levels, strict=True)}
        plain = frame.reset_index(drop=True)
        return pd.concat([pd.DataFrame(values, index=plain.index), plain], axis="columns")
    if index.nlevels > 1 or not index.is_unique:
        return frame.reset_index(drop=True)
    return frame


def check_mapping(columns: Mapping[str, str], names: list[str], table: str) -> None:
    """Raise AnalysisError if `columns` maps theirs to ours, or names what is not there."""
    turned = {theirs: ours for ours, theirs in columns.items()}
    missing = [theirs for theirs in columns.values() if theirs not in names]
    if missing and set(columns) <= set(names):
        raise AnalysisError(f"columns maps our names to those of {table}: columns={turned}")
    if missing:
        raise AnalysisError(
            f"columns={dict(columns)}: {table} has no column {missing[0]}"
            f"{suggestion(missing[0], names)}"
        )
