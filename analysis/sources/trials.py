"""Runs of other projects as `trials`: what they did not record, by one rule each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.selection import splitting
from scaling import schema

# Trial-level columns of ours: never groups by themselves (model_size may be one).
OF_A_TRIAL = (
    "run_id", "batch_size", "lr", "seed", "model_size", "irreducible_loss", "initial_loss",
    "outcome",
)  # fmt: skip
OF_A_CURVE = ("step", "loss", "train_loss", "examples", "accuracy")


def complete_trials(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    study: str,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
    left_out: Sequence[str] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two frames of `analysis.runs.read_study` from runs that another project made.

    trials: run_id, batch_size, lr and whatever else stands with a run; curves: run_id, step, loss
    (NaN: not evaluated there; infinite: not finite, the run diverged at that step). Filled in:
    seed: 0, 1, .. over the runs that agree in all else, in the order of run_id; model_size and
    irreducible_loss: not known (NaN; losses are then read as they stand); initial_loss: the mean
    loss at step 0, not known without; outcome: diverged, else none (it depends on the target);
    status: FINISHED; targets: none. `trials.attrs["group_by"]`: the columns that tell groups apart
    unless the user names them.
    """
    said = list(left_out)
    curves, diverged_at = _cut(curves)
    has_loss = set(curves["run_id"]) | set(diverged_at.index)
    empty = ~trials["run_id"].isin(has_loss)
    if empty.any():
        said.append(f"Trials left out because they have no loss: {int(empty.sum())}.")
    frame = trials[~empty].sort_values("run_id", kind="stable").copy()
    curves = curves[curves["run_id"].isin(frame["run_id"])]
    for name in ("model_size", "irreducible_loss", "initial_loss"):
        frame[name] = frame[name].astype(float) if name in frame else np.nan
    outcome = frame["outcome"] if "outcome" in frame else pd.Series(None, frame.index, dtype=object)
    diverged = frame["run_id"].isin(diverged_at.index) | (outcome == schema.DIVERGED)
    frame["outcome"] = outcome.astype(object).where(~diverged, schema.DIVERGED)
    groups, confounded = list(group_by or ()), []
    if group_by is None:
        passed = {*OF_A_TRIAL, *tuned, "seconds", "step_seconds"} - {"model_size"}
        groups, confounded = group_columns(frame, passed)
    if confounded:
        said.append(
            f"Besides {', '.join(['batch_size', *tuned])} and seed these differ between trials and "
            "are not taken for groups, since each of their values stands with one batch size "
            f"only: {', '.join(confounded)}. Name them in group_by=[...] if they matter."
        )
    frame["seed"] = _numbered(frame, [n for n in groups if n in frame], tuned)
    last = curves.groupby("run_id")["step"].max()
    frame["last_step"] = frame["run_id"].map(last).fillna(frame["run_id"].map(diverged_at))
    start = curves[curves["step"] == 0].groupby("run_id")["loss"].mean()
    known = frame["run_id"].map(start).mean() if len(start) else np.nan
    frame["initial_loss"] = frame["initial_loss"].fillna(frame["run_id"].map(start)).fillna(known)
    frame = frame.assign(trial_id=frame["run_id"], study=study, sweep="", status="FINISHED")
    frame = frame.astype({"batch_size": np.int64, "lr": float})
    frame["last_step"] = _whole(frame["last_step"])
    frame["seconds"] = frame["seconds"].astype(float) if "seconds" in frame else np.nan
    frame[schema.TARGETS] = [()] * len(frame)
    frame = frame.sort_values(["batch_size", "lr", "seed", "run_id"], ignore_index=True)
    frame.attrs |= {"left_out": said, "sweeps": [], "group_by": groups}
    curves = curves.sort_values(["run_id", "step"], ignore_index=True)
    return frame, curves.assign(step=_whole(curves["step"]))


def _whole(steps: pd.Series) -> pd.Series:
    """Int64 if all are whole (they are not where they come from examples)."""
    return steps.astype(np.int64) if (steps == np.floor(steps)).all() else steps.astype(float)


def _cut(curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Curves without gaps and without what follows a loss that is not finite; where that was."""
    broken = curves[np.isinf(curves["loss"])]
    diverged_at = broken.groupby("run_id")["step"].min()
    end = curves["run_id"].map(diverged_at).fillna(np.inf)
    return curves[curves["loss"].notna() & (curves["step"] < end)], diverged_at


def group_columns(frame: pd.DataFrame, passed: set[str]) -> tuple[list[str], list[str]]:
    """Columns that split the rows into groups, and those that go along with the batch size.

    A column of which each value stands with one batch size only is a name, a date, a result, or
    follows from the batch size (its warm-up steps): no group. passed: columns that are none anyway.
    """
    varying = [n for n in frame.columns if n not in passed and frame[n].map(str).nunique() > 1]
    varying.sort(key=lambda name: name != "model_size")
    if frame["batch_size"].nunique() == 1:
        return splitting(frame, varying), []
    alone = [
        name
        for name in varying
        if frame.groupby(frame[name].map(str))["batch_size"].nunique().max() == 1
    ]
    groups = splitting(frame, [name for name in varying if name not in alone])
    # what is different in every row is a name or a result, nothing that anybody set
    return groups, [name for name in alone if frame[name].nunique() < len(frame)]


def _numbered(trials: pd.DataFrame, groups: Sequence[str], tuned: Sequence[str]) -> pd.Series:
    keys = [*groups, "batch_size", *(name for name in tuned if name in trials)]
    number = trials.groupby(keys, dropna=False).cumcount()
    if "seed" not in trials:
        return number.astype(np.int64)
    known = trials["seed"].notna()
    if known.all():
        return trials["seed"].astype(np.int64)
    beyond = int(trials["seed"].max()) + 1 if known.any() else 0
    return trials["seed"].where(known, beyond + number).astype(np.int64)
