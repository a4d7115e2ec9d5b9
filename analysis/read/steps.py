"""Tables of steps to target, as papers publish them, from a CSV or parquet file or a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import their_name
from analysis.read.files import read_table
from analysis.read.names import suggestion
from analysis.read.tables import left_out_rows, name_columns, repeated_rows, typed
from analysis.read.trials import group_columns
from analysis.read.values import Where, first_row
from scaling.schema import CENSORED, DIVERGED, REACHED

STEPS_NEED = ("batch_size", "steps")
STEP_COLUMNS = ("target_loss", "batch_size", "lr", "seed", "steps", "outcome")
_FURTHER = ("model_size", "step_seconds", "flops_per_example")
NO_TARGET = 0.0  # stands for the one target of a table that names none


def read_steps_csv(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
) -> pd.DataFrame:
    """A table of steps to target from a CSV or parquet file, a row a trial, tidied.

    Columns of the file: batch_size (examples), steps (optimizer updates until the target was
    reached); optionally lr, seed, model_size, target_loss, outcome (reached, censored: `steps` is
    where the budget ended, diverged: steps may be empty) and any further ones that tell groups
    apart. `columns`: ours -> theirs. group_by: the columns that tell groups apart, by default all
    further ones that vary.
    Returns group columns.., target_loss, batch_size, lr (and other tuned columns) if there is one,
    seed, steps, outcome. Filled in: target_loss 0 where no column names one; seed 0, 1, .. over the
    rows that agree in all else; outcome reached. `attrs["group_by"]`, `attrs["left_out"]`
    (sentences) and `attrs["study"]` (the file's name) go with it.

    Raises AnalysisError, one line, for a file or a table that cannot be understood.

    >>> import pathlib
    >>> _ = pathlib.Path("paper.csv").write_text("B,updates\\n32,1000\\n64,520\\n128,300\\n")
    >>> table = read_steps_csv("paper.csv", {"batch_size": "B", "steps": "updates"})
    >>> table.iloc[0].to_dict()
    {'target_loss': 0.0, 'batch_size': 32, 'seed': 0, 'steps': 1000.0, 'outcome': 'reached'}
    """
    table = tidy_steps(
        read_table(path), columns, group_by=group_by, tuned=tuned, where=f"source.path={path}"
    )
    table.attrs["study"] = Path(path).stem
    return table


def tidy_steps(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    *,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
    where: str = "the frame",
) -> pd.DataFrame:
    """As read_steps_csv, from a frame; its index names the rows in messages.

    >>> tidy_steps(pd.DataFrame({"batch_size": [8, 8], "steps": [90, 110]}))["seed"].tolist()
    [0, 1]
    """
    named = name_columns(
        frame,
        columns,
        table=where,
        documented=(*STEP_COLUMNS, *_FURTHER),
        needed=STEPS_NEED,
        counts=("batch_size", "steps"),
        group_by=group_by,
        tuned=tuned,
    )
    frame = _filled_in(named.frame, named.where)
    lacking = frame[[n for n in ("batch_size", "lr", "target_loss") if n in frame]].isna()
    lacking["steps"] = frame["steps"].isna() & (frame["outcome"] != DIVERGED)
    frame = frame[~lacking.any(axis=1)].astype({"batch_size": np.int64})
    if frame.empty:
        raise AnalysisError(f"{where}: no row has a batch_size and steps")
    groups = group_columns(frame, named.tuned)[0] if group_by is None else named.groups
    keys = [*groups, "target_loss", "batch_size", *(n for n in named.tuned if n in frame)]
    frame = _once(frame, keys, named.where)
    if "seed" not in frame:
        frame["seed"] = frame.groupby(keys, dropna=False).cumcount()
    frame["seed"] = frame["seed"].astype(np.int64)
    further = [name for name in _FURTHER if name in frame]
    ordered = list(dict.fromkeys([*keys, "seed", "steps", "outcome", *further]))
    table = frame[ordered].sort_values([*keys, "seed"], ignore_index=True, kind="stable")
    table.attrs |= {"group_by": groups, "left_out": left_out_rows(lacking), "study": "steps"}
    return table


def checked_steps(table: pd.DataFrame, group_by: Sequence[str] = ()) -> pd.DataFrame:
    """A table of steps under our names, as a notebook has it; nothing is filled in.

    Raises AnalysisError, one line, for what cannot be read so.
    """
    for name in ("batch_size", "steps", *group_by):
        if name not in table:
            raise AnalysisError(f"column {name} is missing{suggestion(name, table.columns)}")
    if table.empty:
        raise AnalysisError("the table is empty; it needs a row for each batch size")
    where = Where("the table")
    table = typed(table.reset_index(drop=True), where, ("batch_size", "steps", "outcome"))
    needed = {"batch_size": table["batch_size"].isna(), "steps": table["steps"].isna()}
    if "outcome" in table:
        needed["steps"] &= table["outcome"] != DIVERGED
    if "target_loss" in table:
        needed["target_loss"] = table["target_loss"].isna()
    for name, lacking in needed.items():
        if lacking.any():
            raise where.mistake(name, "", first_row(lacking), "every row needs one")
    table["batch_size"] = table["batch_size"].astype(np.int64)
    keys = [*group_by, "batch_size", "target_loss", "lr", "seed"]
    keys = [name for name in keys if name in table]
    if repeated := repeated_rows(table, keys):
        first = table.loc[[repeated[0].name]]
        named = ", ".join(f"{name}={first[name].iloc[0]}" for name in keys)
        raise AnalysisError(f"two rows for {named}; tell them apart by a column seed or group_by")
    return table


def _filled_in(frame: pd.DataFrame, where: Where) -> pd.DataFrame:
    """With a target_loss and an outcome in every row; without an lr that is empty throughout."""
    if "lr" in frame and frame["lr"].isna().all():
        frame = frame.drop(columns="lr")
    if "target_loss" not in frame:
        frame["target_loss"] = NO_TARGET
    frame["outcome"] = frame["outcome"].fillna(REACHED) if "outcome" in frame else REACHED
    if "seed" in frame and frame["seed"].isna().any():
        row = first_row(frame["seed"].isna())
        raise where.mistake("seed", "", row, "give one in every row, or leave the column out")
    return frame


def _once(frame: pd.DataFrame, keys: Sequence[str], where: Where) -> pd.DataFrame:
    """With seeds, a row stands once: identical repetitions go, contradicting ones are an error."""
    if "seed" not in frame:
        return frame.copy()
    identity = [*keys, "seed"]
    kept = frame.drop_duplicates([*identity, "steps", "outcome"])
    if repeated := repeated_rows(kept, identity):
        first, second = repeated
        raise AnalysisError(
            f"{where.table}: rows {first.name} and {second.name} contradict each other: "
            f"{where.column('steps')} is {_steps_words(first)} and {_steps_words(second)} for the "
            f"same {', '.join(map(their_name, identity))}; keep one of them, or tell them apart "
            "with group_by=[...]"
        )
    return kept.copy()


def _steps_words(row: pd.Series) -> str:
    return f"{row['steps']:g}" + (f" ({row['outcome']})" if row["outcome"] == CENSORED else "")
