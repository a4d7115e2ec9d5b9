"""Tables of steps to target, as papers publish them, from a CSV or parquet file or a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import PARAMS, own_name
from analysis.read.curves import check_outcomes
from analysis.read.files import read_table
from analysis.read.names import namespaced, need, our_names, rename
from analysis.read.trials import group_columns
from analysis.read.values import (
    Where,
    check_thousands,
    finite,
    first_row,
    labels,
    positive,
    seeds,
    whole,
)
from scaling.schema import CENSORED, DIVERGED, REACHED

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
    columns = dict(columns or {})
    place = Where(where, columns)
    frame = rename(frame, columns, where)
    tuned = our_names(tuned, columns, frame.columns)
    named = our_names(group_by or (), columns, frame.columns)
    need(frame, ("batch_size", "steps", *(n for n in tuned if n != "lr"), *named), where)
    check_thousands(frame, ("batch_size", "steps"), place)
    frame, key_of = namespaced(frame, (*STEP_COLUMNS, *_FURTHER), columns)
    tuned, groups = ([key_of.get(name, name) for name in names] for names in (tuned, named))
    frame, said = _known(_typed(frame, place), place)
    if frame.empty:
        raise AnalysisError(f"{where}: no row has a batch_size and steps")
    others = [name for name in tuned if name in frame]
    if group_by is None:
        groups, _ = group_columns(frame, tuned)
    keys = [*groups, "target_loss", "batch_size", *others]
    frame = _once(frame, keys, place)
    if "seed" not in frame:
        frame["seed"] = frame.groupby(keys, dropna=False).cumcount()
    frame["seed"] = frame["seed"].astype(np.int64)
    further = [name for name in _FURTHER if name in frame]
    ordered = list(dict.fromkeys([*keys, "seed", "steps", "outcome", *further]))
    table = frame[ordered].sort_values([*keys, "seed"], ignore_index=True, kind="stable")
    table.attrs |= {"group_by": groups, "left_out": said, "study": "steps"}
    return table


def _typed(frame: pd.DataFrame, place: Where) -> pd.DataFrame:
    frame = frame.copy()
    frame["batch_size"] = whole(frame["batch_size"], "batch_size", place)
    frame["steps"] = positive(frame["steps"], "steps", place)
    if "lr" in frame:
        frame["lr"] = positive(frame["lr"], "lr", place, or_zero=True)
        if frame["lr"].isna().all():
            frame = frame.drop(columns="lr")
    if "target_loss" in frame:
        frame["target_loss"] = finite(frame["target_loss"], "target_loss", place)
    else:
        frame["target_loss"] = NO_TARGET
    for name in _FURTHER:
        if name in frame:
            frame[name] = positive(frame[name], name, place)
    if "outcome" in frame:
        check_outcomes(frame["outcome"], place)
        frame["outcome"] = frame["outcome"].fillna(REACHED)
    else:
        frame["outcome"] = REACHED
    if "seed" in frame:
        if frame["seed"].isna().any():
            row = first_row(frame["seed"].isna())
            raise place.mistake("seed", "", row, "give one in every row, or no such column")
        frame["seed"] = seeds(frame["seed"])
    rest = {name for name in map(str, frame.columns) if name.startswith(PARAMS)}
    return pd.DataFrame({n: labels(frame[n]) if n in rest else frame[n] for n in frame})


def _known(frame: pd.DataFrame, place: Where) -> tuple[pd.DataFrame, list[str]]:
    """The rows that say something, and sentences about the others."""
    names = [n for n in ("batch_size", "lr", "target_loss") if n in frame]
    lacking = frame[names].isna()
    steps = frame["steps"].isna() & (frame["outcome"] != DIVERGED)
    dropped = lacking.any(axis=1) | steps
    said = []
    if dropped.any():
        names = [*(n for n in names if lacking[n].any()), *(["steps"] if steps.any() else [])]
        said.append(
            f"Rows left out because they lack {', '.join(names)}: {int(dropped.sum())} "
            f"(the first: row {first_row(dropped)})."
        )
    return frame[~dropped].astype({"batch_size": np.int64}), said


def _once(frame: pd.DataFrame, keys: Sequence[str], place: Where) -> pd.DataFrame:
    """With seeds, a row stands once: identical repetitions go, contradicting ones are an error."""
    if "seed" not in frame:
        return frame.copy()
    identity = [*keys, "seed"]
    kept = frame.drop_duplicates([*identity, "steps", "outcome"])
    again = kept.duplicated(identity)
    if again.any():
        row = first_row(again)
        group = kept.groupby(identity, dropna=False).ngroup()
        same = kept[group == group[row]]
        first = same.index[0]
        raise AnalysisError(
            f"{place.table}: rows {first} and {row} contradict each other: {place.column('steps')} "
            f"is {_said(same.loc[first])} and {_said(same.loc[row])} for the same "
            f"{', '.join(map(own_name, identity))}; keep one of them, or tell them apart with "
            "group_by=[...]"
        )
    return kept.copy()


def _said(row: pd.Series) -> str:
    return f"{row['steps']:g}" + (f" ({row['outcome']})" if row["outcome"] == CENSORED else "")
