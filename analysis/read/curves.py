"""Loss curves of anybody's runs, from a CSV or parquet file or a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import their_name
from analysis.read.files import read_table
from analysis.read.names import ALSO_CALLED, mapped, their_columns
from analysis.read.tables import left_out_rows, name_columns, repeated_rows
from analysis.read.trials import OF_A_CURVE, OF_A_TRIAL, check_losses, complete_trials
from analysis.read.values import Where, first_row

_OF_AN_EVALUATION = (*OF_A_CURVE, "step_seconds")
CURVES_NEED = ("batch_size", "lr", "step|examples", "loss")
Frames = tuple[pd.DataFrame, pd.DataFrame]


def read_curves_csv(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
    study: str | None = None,
) -> Frames:
    """Loss curves from a CSV or parquet file, a row an evaluation: the frames (trials, curves).

    Columns of the file: batch_size (examples), lr, loss (held-out) and step (optimizer updates
    done) or examples (seen); optionally run_id, seed, model_size, irreducible_loss, initial_loss,
    outcome, train_loss, accuracy, and any further ones: those that do not change within a run
    may tell groups apart. `columns`: ours -> theirs, {"batch_size": "bs", "loss": "val/loss"}.
    study: a name for it all, by default that of the file.
    Without run_id, rows that agree in batch_size, lr, seed, model_size, tuned and group columns
    are one run. An empty loss is a gap; a loss that is written as nan or inf is a divergence at
    that step. Rows may come in any order; a row that stands twice counts once.

    Raises AnalysisError, one line, for a file or a table that cannot be understood: a needed column
    that is missing, text among numbers, rows that contradict each other.

    >>> import pathlib
    >>> _ = pathlib.Path("mine.csv").write_text(
    ...     "bs,learning_rate,iter,val_loss\\n8,0.1,1,2.0\\n8,0.1,2,1.0\\n16,0.1,1,1.5\\n"
    ... )
    >>> names = {"batch_size": "bs", "lr": "learning_rate", "step": "iter", "loss": "val_loss"}
    >>> trials, curves = read_curves_csv("mine.csv", names)
    >>> trials[["batch_size", "lr", "seed", "last_step"]]
       batch_size   lr  seed  last_step
    0           8  0.1     0          2
    1          16  0.1     0          1
    """
    return tidy_curves(
        read_table(path),
        columns,
        group_by=group_by,
        tuned=tuned,
        study=study or Path(path).stem,
        where=f"source.path={path}",
    )


def tidy_curves(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    *,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
    study: str = "curves",
    where: str = "the frame",
) -> Frames:
    """As read_curves_csv, from a frame; its index names the rows in messages.

    >>> frame = pd.DataFrame({"batch_size": 8, "lr": 0.1, "step": [0, 1], "loss": [2.0, 1.0]})
    >>> trials, curves = tidy_curves(frame)
    >>> float(trials["initial_loss"].iloc[0])
    2.0
    """
    table = name_columns(
        frame,
        columns,
        table=where,
        documented=(*OF_A_TRIAL, *_OF_AN_EVALUATION),
        needed=CURVES_NEED,
        counts=("batch_size", "step", "examples"),
        group_by=group_by,
        tuned=tuned,
    )
    frame = table.frame
    if "step" not in frame:
        frame["step"] = frame["examples"] / frame["batch_size"]
    lacking = frame[list(dict.fromkeys(["batch_size", "lr", "step", *table.tuned]))].isna()
    frame = frame[~lacking.any(axis=1)].copy()
    if frame.empty:
        raise AnalysisError(f"{where}: no row has a batch_size, an lr and a step")
    settings = [*table.groups, *table.tuned]
    frame["run_id"] = _runs(frame, settings)
    kept = [name for name in _OF_AN_EVALUATION if name in frame]
    trials, curves = complete_trials(
        _trials(frame, table.where, settings),
        _once(frame[["run_id", *kept]], table.where),
        study=study,
        group_by=None if group_by is None else table.groups,
        tuned=table.tuned,
        left_out=left_out_rows(lacking),
    )
    check_losses(trials, curves, where, table.where.column("loss"))
    return trials, curves


def _runs(frame: pd.DataFrame, further: Sequence[str]) -> pd.Series:
    """Their run_id; else one made of what tells runs apart."""
    if "run_id" in frame and frame["run_id"].notna().all():
        return frame["run_id"].astype(str)
    theirs = their_columns(frame)
    texts = [name for name in theirs if not pd.api.types.is_numeric_dtype(frame[name])]
    candidates = ["batch_size", "lr", "seed", "model_size", *further, *texts]
    keys = [name for name in dict.fromkeys(candidates) if name in frame]
    number = frame.groupby(keys, dropna=False, sort=True).ngroup()
    for name in theirs:
        if (
            name in keys
            or their_name(name) in ALSO_CALLED["seed"]
            or not _n_conflicts(frame, number)
        ):
            continue
        finer = frame.groupby([*keys, name], dropna=False, sort=True).ngroup()
        if _tells_apart(frame, number, finer):
            keys, number = [*keys, name], finer
    width = len(str(number.max()))
    return "run" + number.astype(str).str.zfill(width)


def _n_conflicts(frame: pd.DataFrame, run: pd.Series) -> int:
    """How many rows give another loss for the step of a run than a row before."""
    known = pd.DataFrame({"run": run, "step": frame["step"], "loss": frame["loss"]}).dropna()
    return int(known.drop_duplicates().duplicated(["run", "step"]).sum())


def _tells_apart(frame: pd.DataFrame, run: pd.Series, finer: pd.Series) -> bool:
    """Whether a number is a setting: with it rows conflict less, and runs are still curves.

    A metric would leave single rows, an epoch pieces that follow each other.
    """
    if _n_conflicts(frame, finer) >= _n_conflicts(frame, run):
        return False
    rows_of_piece = len(frame) / finer.nunique()
    steps_of_run = float(frame["step"].groupby(run).nunique().mean())
    return rows_of_piece > max(1.0, steps_of_run / 4)


def _trials(frame: pd.DataFrame, where: Where, needed: Sequence[str]) -> pd.DataFrame:
    """A row a run with all that does not change within runs."""
    ours = [name for name in OF_A_TRIAL[1:] if name in frame]
    by_run = frame.groupby("run_id", sort=False)
    kept = []
    for name in (*ours, *their_columns(frame)):
        first = by_run[name].transform("first")
        differs = frame[name].notna() & (frame[name] != first)
        if not differs.any():
            kept.append(name)
        elif name in ours or name in needed:
            raise _contradiction(frame, name, first_row(differs), where)
    return by_run[kept].first().reset_index()


def _contradiction(frame: pd.DataFrame, name: str, row: Any, where: Where) -> AnalysisError:
    run = frame.at[row, "run_id"]
    known = frame.loc[(frame["run_id"] == run) & frame[name].notna(), name]
    return AnalysisError(
        f"{where.table}: rows {known.index[0]} and {row} of run {run} contradict each other: "
        f"{where.column(their_name(name))} is {known.iloc[0]} and {known[row]}; it must be one "
        f"value per run"
    )


def _once(curves: pd.DataFrame, where: Where) -> pd.DataFrame:
    """A row a run and step; identical repetitions go, contradicting ones are an error."""
    known = curves[curves["loss"].notna()]
    kept = known.drop_duplicates(["run_id", "step", "loss"])
    if repeated := repeated_rows(kept, ["run_id", "step"]):
        first, second = repeated
        raise AnalysisError(
            f"{where.table}: rows {first.name} and {second.name} contradict each other: "
            f"{where.column('loss')} is {first['loss']:g} and {second['loss']:g} "
            f"at step {first['step']:g} of one run; if they are two runs, name the column that "
            f"tells them apart with {mapped(where.table, 'run_id')} or "
            f"{mapped(where.table, 'seed')}, or in group_by=[...]"
        )
    return kept
