"""What every table goes through before it is read as curves or as steps: names, numbers, gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.groups import their_name
from analysis.read.frames import plain_frame
from analysis.read.names import namespaced, need, our_names, rename, their_columns
from analysis.read.values import (
    Where,
    check_thousands,
    finite,
    first_row,
    labels,
    not_negative,
    numbers,
    positive,
    seeds,
    whole,
)
from scaling.schema import CENSORED, DIVERGED, REACHED


@dataclass(frozen=True)
class NamedTable:
    """A table under our names, with theirs under groups.PARAMS.

    where: its names in messages; tuned, groups: columns of the frame that tuned and group_by name.
    """

    frame: pd.DataFrame
    where: Where
    tuned: list[str]
    groups: list[str]


def name_columns(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | None,
    *,
    table: str,
    documented: Sequence[str],
    needed: Sequence[str],
    counts: Sequence[str],
    group_by: Sequence[str] | None,
    tuned: Sequence[str],
) -> NamedTable:
    """The columns as numbers and labels, under our names. columns: ours -> theirs.

    documented: columns of ours; needed: of these, "step|examples" for either; counts: those in
    which a dot may separate thousands. Raises AnalysisError, one line, for a column that is
    missing and for a cell that its column cannot hold.
    """
    frame = plain_frame(frame, table)
    columns = dict(columns or {})
    where = Where(table, columns)
    frame = rename(frame, columns, table)
    tuned = our_names(tuned, columns, frame.columns)
    groups = our_names(group_by or (), columns, frame.columns)
    for alternatives in needed:
        names = alternatives.split("|")
        need(frame, names[:1] if not set(names) & set(frame) else (), table)
    need(frame, (*(name for name in tuned if name != "lr"), *groups), table)
    check_thousands(frame, counts, where)
    frame, keys = namespaced(frame, documented, columns)
    frame = typed(frame, where)
    return NamedTable(
        frame, where, [keys.get(n, n) for n in tuned], [keys.get(n, n) for n in groups]
    )


def left_out_rows(lacking: pd.DataFrame) -> list[str]:
    """A sentence about the rows that lack something; lacking: which cells of which columns."""
    dropped = lacking.any(axis=1)
    if not dropped.any():
        return []
    names = ", ".join(their_name(str(name)) for name in lacking if lacking[name].any())
    return [
        f"Rows left out because they lack {names}: {int(dropped.sum())} "
        f"(the first: row {first_row(dropped)})."
    ]


def repeated_rows(frame: pd.DataFrame, identity: Sequence[str]) -> tuple[pd.Series, ...]:
    """The first two rows that agree in the columns `identity`; () if all differ."""
    repeated = frame.duplicated(list(identity))
    if not repeated.any():
        return ()
    second = int(repeated.to_numpy().argmax())
    number = frame.groupby(list(identity), dropna=False).ngroup().to_numpy()
    first = int((number == number[second]).argmax())
    return frame.iloc[first], frame.iloc[second]


def typed(frame: pd.DataFrame, where: Where, ours: Sequence[str] | None = None) -> pd.DataFrame:
    """The cells as their columns require; ours: columns that are checked, default all of ours."""
    theirs = set(their_columns(frame))
    rules = _RULES if ours is None else {name: _RULES[name] for name in ours}
    # built anew: a frame of a hundred columns that are replaced one by one draws pandas' warning
    converted = {}
    for name in frame:
        rule = rules.get(str(name), _as_it_stands)
        column = frame[name]
        converted[name] = labels(column) if name in theirs else rule(column, str(name), where)
    return pd.DataFrame(converted)


def _metric(column: pd.Series, name: str, where: Where) -> pd.Series:
    return numbers(column, name, where).replace(np.inf, np.nan)


def _outcomes(column: pd.Series, name: str, where: Where) -> pd.Series:
    allowed = (REACHED, CENSORED, DIVERGED)
    wrong = column.notna() & ~column.isin(allowed)
    if wrong.any():
        row = first_row(wrong)
        raise where.mistake(name, column[row], row, f"it must be {', '.join(allowed)}")
    return column


def _seeds(column: pd.Series, name: str, where: Where) -> pd.Series:
    return seeds(column.dropna()).reindex(column.index).astype(float)


def _as_it_stands(column: pd.Series, name: str, where: Where) -> pd.Series:
    return column


_RULES: dict[str, Callable[[pd.Series, str, Where], pd.Series]] = {
    "run_id": _as_it_stands,
    "batch_size": whole,
    "lr": not_negative,
    "step": not_negative,
    "examples": not_negative,
    "steps": positive,
    "tokens": positive,
    "loss": numbers,
    "train_loss": _metric,
    "accuracy": _metric,
    "target_loss": finite,
    "irreducible_loss": finite,
    "initial_loss": finite,
    "model_size": positive,
    "step_seconds": positive,
    "flops_per_example": positive,
    "outcome": _outcomes,
    "seed": _seeds,
}
