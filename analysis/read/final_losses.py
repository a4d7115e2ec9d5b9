"""Tables of final losses, one row a run, as sweeps and papers report them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import their_name
from analysis.read.files import read_table
from analysis.read.names import their_columns
from analysis.read.tables import left_out_rows, name_columns, repeated_rows
from analysis.read.trials import group_columns
from analysis.read.values import Where, first_row
from scaling.schema import DIVERGED

LENGTHS = ("steps", "examples", "tokens")  # of a run: how long it was trained
FINAL_LOSSES_NEED = ("batch_size", "lr", "|".join(LENGTHS), "loss")
_COLUMNS = ("batch_size", "lr", "seed", *LENGTHS, "loss", "outcome")
_FURTHER = ("model_size", "irreducible_loss", "step_seconds", "flops_per_example")
_FEWEST_LENGTHS = 2
_DISAGREE = 0.02  # relative: steps x batch_size against examples


def read_final_losses_csv(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    group_by: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A table of final losses from a CSV or parquet file, a row a run, tidied.

    Each run was trained to its own end, where its learning-rate schedule had decayed. Columns of
    the file: batch_size (examples), lr (its peak), loss (held-out, at the end; nan or inf:
    diverged) and one of steps, examples or tokens, how long the run was; optionally seed,
    model_size, irreducible_loss, outcome and any further ones that tell groups apart. With tokens
    and steps, an example is tokens/(steps x batch_size) tokens; with tokens alone, the batch size
    counts tokens too. `columns`: ours -> theirs. group_by: the columns that tell groups apart, by
    default all further ones that vary, but for those in proportion to the length (epochs, FLOPs).
    Returns group columns.., batch_size, lr, seed, steps, examples, loss, outcome (diverged, or "").
    `attrs`: group_by, left_out (sentences), study (the file's name), tokens_per_example (or None).

    Raises AnalysisError, one line, for a file or a table that cannot be understood.

    >>> import pathlib
    >>> _ = pathlib.Path("runs.csv").write_text("bs,lr,steps,loss\\n8,.1,100,2.5\\n8,.1,200,2.3\\n")
    >>> table = read_final_losses_csv("runs.csv", {"batch_size": "bs"})
    >>> table[["batch_size", "examples", "loss"]].values.tolist()
    [[8.0, 800.0, 2.5], [8.0, 1600.0, 2.3]]
    """
    table = tidy_final_losses(
        read_table(path), columns, group_by=group_by, where=f"source.path={path}"
    )
    table.attrs["study"] = Path(path).stem
    return table


def tidy_final_losses(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    *,
    group_by: Sequence[str] | None = None,
    where: str = "the frame",
) -> pd.DataFrame:
    """As read_final_losses_csv, from a frame; its index names the rows in messages.

    >>> frame = pd.DataFrame({"batch_size": 8, "lr": 0.1, "tokens": [800, 1600], "loss": [2.5, 2]})
    >>> tidy_final_losses(frame)["steps"].tolist()
    [100.0, 200.0]
    """
    named = name_columns(
        frame,
        columns,
        table=where,
        documented=(*_COLUMNS, *_FURTHER),
        needed=FINAL_LOSSES_NEED,
        counts=("batch_size", *LENGTHS),
        group_by=group_by,
        tuned=("lr",),
    )
    frame, tokens_per_example = _with_lengths(named.frame, named.where)
    marked = frame["outcome"] == DIVERGED if "outcome" in frame else False
    frame["outcome"] = np.where(np.isinf(frame["loss"]) | marked, DIVERGED, "")
    lacking = frame[["batch_size", "lr", "steps"]].isna()
    lacking["loss"] = frame["loss"].isna() & (frame["outcome"] != DIVERGED)
    frame = frame[~lacking.any(axis=1)].astype({"batch_size": np.int64})
    if frame.empty:
        raise AnalysisError(f"{where}: no row has a batch_size, an lr, a length and a loss")
    frame = frame.drop(columns=[n for n in _lengths(frame) if n not in named.groups])
    groups = group_columns(frame, ["lr"])[0] if group_by is None else named.groups
    keys = [*groups, "batch_size", "lr", "steps"]
    frame = _with_seeds(frame, keys, named.where)
    _check_lengths(frame, groups, where)
    further = [name for name in _FURTHER if name in frame]
    ordered = [*keys[:-1], "seed", "steps", "examples", "loss", "outcome", *further]
    ordered = list(dict.fromkeys(ordered))
    table = frame[ordered].sort_values([*keys, "seed"], ignore_index=True, kind="stable")
    table.attrs |= {"group_by": groups, "left_out": left_out_rows(lacking), "study": "final_losses"}
    table.attrs["tokens_per_example"] = tokens_per_example
    return table


def _with_lengths(frame: pd.DataFrame, where: Where) -> tuple[pd.DataFrame, float | None]:
    """With steps and examples in every row, and what an example counts of tokens."""
    size = frame["batch_size"]
    if "steps" not in frame:
        counted = "examples" if "examples" in frame else "tokens"
        steps = frame[counted] / size
        return frame.assign(steps=steps, examples=frame[counted].astype(float)), None
    made = frame["steps"] * size
    if "examples" in frame:
        wrong = _disagree(frame["examples"] / made, frame["steps"])
        if wrong.any():
            row = first_row(wrong)
            raise where.mistake(
                "examples", frame["examples"][row], row,
                f"its steps x batch_size are {made[row]:g}; the batch size must be the global one, "
                "and steps optimizer updates",
            )  # fmt: skip
    frame = frame.assign(examples=made)
    if "tokens" not in frame:
        return frame, None
    per_example = frame["tokens"] / made
    middle = float(per_example.median())
    wrong = _disagree(per_example / middle, frame["steps"])
    if wrong.any():
        row = first_row(wrong)
        raise where.mistake(
            "tokens", frame["tokens"][row], row,
            f"that is {per_example[row]:g} tokens an example, in most rows it is {middle:g}; "
            "batch_size, steps and tokens must belong together",
        )  # fmt: skip
    whole = round(middle)  # steps were rounded
    return frame, float(whole) if abs(middle / whole - 1) < _DISAGREE / 4 else middle


def _disagree(ratio: pd.Series, steps: pd.Series) -> pd.Series:
    """Which ratios are not 1: the last step may be cut, and a count of examples rounded."""
    return (ratio - 1).abs() > np.maximum(_DISAGREE, 1.5 / steps)


def _lengths(frame: pd.DataFrame) -> list[str]:
    """Columns of theirs in proportion to the length of a run, of all runs or of those that agree in
    another column (FLOPs of one model size): they tell no groups apart."""
    theirs = their_columns(frame)
    numeric = [name for name in theirs if pd.api.types.is_numeric_dtype(frame[name])]
    return [name for name in numeric if _follows_length(frame, name, theirs)]


def _follows_length(frame: pd.DataFrame, name: str, others: Sequence[str]) -> bool:
    value = frame[name].astype(float)
    if not (value > 0).all():
        return False
    for other in (None, *others):
        parts = pd.Series(0, frame.index) if other is None else frame[other]
        if (_factors(value, parts) <= 1 + 2 * _DISAGREE).all():
            continue  # the same throughout: that it is in proportion says nothing
        for length in ("examples", "steps"):
            if (_factors(value / frame[length], parts) <= 1 + _DISAGREE).all():
                return True
    return False


def _factors(values: pd.Series, parts: pd.Series) -> pd.Series:
    """Of each part the largest over the smallest."""
    of_part = values.groupby(parts)
    return of_part.max() / of_part.min()


def _with_seeds(frame: pd.DataFrame, keys: Sequence[str], where: Where) -> pd.DataFrame:
    """Without a column of seeds, runs that agree in all else are numbered; with one, each once."""
    frame = frame.copy()
    if "seed" not in frame or frame["seed"].isna().all():
        frame["seed"] = frame.groupby(list(keys), dropna=False).cumcount()
        return frame
    if frame["seed"].isna().any():
        row = first_row(frame["seed"].isna())
        raise where.mistake("seed", "", row, "give one in every row, or leave the column out")
    identity = [*keys, "seed"]
    kept = frame.drop_duplicates([*identity, "loss", "outcome"])
    if repeated := repeated_rows(kept, identity):
        first, second = repeated
        raise AnalysisError(
            f"{where.table}: rows {first.name} and {second.name} contradict each other: "
            f"{where.column('loss')} is {first['loss']:g} and {second['loss']:g} for the same "
            f"{', '.join(map(their_name, identity))}; keep one of them, or tell them apart with "
            "group_by=[...]"
        )
    return kept.astype({"seed": np.int64})


def _check_lengths(frame: pd.DataFrame, groups: Sequence[str], where: str) -> None:
    """Refuse a table in which no batch size was trained to two lengths: it reaches no target."""
    lengths = frame.groupby([*groups, "batch_size"], dropna=False)["steps"].nunique()
    if lengths.max() < _FEWEST_LENGTHS:
        raise AnalysisError(
            f"{where}: every batch size was trained to one length only; runs of other lengths are "
            "required (twice and half as long), so that it is seen where each reaches a target. "
            "If the table has the steps to a target instead, use source=steps_csv"
        )
