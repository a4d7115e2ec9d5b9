"""Runs of other projects as `trials`: what they did not record, by one rule each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import PARAMS, their_name
from analysis.read.names import mapped, their_columns
from analysis.read.selection import splitting
from scaling import schema

# The documented columns; any other is theirs and stands under groups.PARAMS.
OF_A_TRIAL = (
    "run_id", "batch_size", "lr", "seed", "model_size", "irreducible_loss", "initial_loss",
    "outcome", "flops_per_example",
)  # fmt: skip
_RISES, _MOST = 4.0, 0.9  # see check_losses
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
    """The two frames of `analysis.read.runs.read_study` from runs that another project made.

    trials: OF_A_TRIAL and columns of theirs under groups.PARAMS; curves: run_id, step, loss (NaN:
    not evaluated there; infinite: not finite. With finite losses after it that is a gap, else the
    run diverged at that step). group_by, tuned: columns of trials. Filled in:
    seed: 0, 1, .. over the runs that agree in all else, in the order of run_id; model_size and
    irreducible_loss: not known (NaN; losses are then read as they stand); initial_loss: the mean
    loss at step 0, not known without; outcome: diverged, else none (it depends on the target);
    status: FINISHED; targets: none. `trials.attrs["group_by"]`: the columns that tell groups apart
    unless the user names them.
    """
    curves, diverged_at, gaps = _cut(curves)
    frame, empty = _with_losses(trials, curves, diverged_at)
    curves = curves[curves["run_id"].isin(frame["run_id"])]
    groups, confounded = list(group_by or ()), []
    if group_by is None:
        groups, confounded = _groups(frame, tuned)
    frame["seed"] = _numbered(frame, [n for n in groups if n in frame], tuned)
    _fill_in(frame, curves, diverged_at)
    frame = frame.assign(
        trial_id=frame["run_id"], study=study, sweep="", status="FINISHED", seconds=np.nan,
        batch_size=frame["batch_size"].astype(np.int64), lr=frame["lr"].astype(float),
    )  # fmt: skip
    frame[schema.TARGETS] = [()] * len(frame)
    frame = frame.sort_values(["batch_size", "lr", "seed", "run_id"], ignore_index=True)
    sentences = [*left_out, *gaps, *empty, *confounded]
    frame.attrs |= {"left_out": sentences, "sweeps": [], "group_by": groups}
    curves = curves.sort_values(["run_id", "step"], ignore_index=True)
    return frame, curves.assign(step=_whole(curves["step"]))


def _with_losses(
    trials: pd.DataFrame, curves: pd.DataFrame, diverged_at: pd.Series
) -> tuple[pd.DataFrame, list[str]]:
    """The trials that have a loss, by run_id, and a sentence about the others."""
    empty = ~trials["run_id"].isin(set(curves["run_id"]) | set(diverged_at.index))
    frame = trials[~empty].sort_values("run_id", kind="stable").copy()
    if not empty.any():
        return frame, []
    return frame, [f"Trials left out because they have no loss: {int(empty.sum())}."]


def _groups(frame: pd.DataFrame, tuned: Sequence[str]) -> tuple[list[str], list[str]]:
    """What tells groups apart, and a sentence about columns that follow the batch size."""
    groups, confounded = group_columns(frame, tuned)
    if not confounded:
        return groups, []
    known = ", ".join(["batch_size", *map(their_name, tuned)])
    return groups, [
        f"Besides {known} and seed these differ between trials, but do not define groups, since "
        "each of their values occurs at only one batch size: "
        f"{', '.join(map(their_name, confounded))}. Name them in group_by=[...] if they matter."
    ]


def _fill_in(frame: pd.DataFrame, curves: pd.DataFrame, diverged_at: pd.Series) -> None:
    """Sizes, losses, the outcome and the last step of trials that did not record them."""
    for name in ("model_size", "irreducible_loss", "initial_loss"):
        frame[name] = frame[name].astype(float) if name in frame else np.nan
    outcome = frame["outcome"] if "outcome" in frame else pd.Series(None, frame.index, dtype=object)
    diverged = frame["run_id"].isin(diverged_at.index) | (outcome == schema.DIVERGED)
    frame["outcome"] = outcome.astype(object).where(~diverged, schema.DIVERGED)
    last = frame["run_id"].map(curves.groupby("run_id")["step"].max())
    frame["last_step"] = _whole(last.fillna(frame["run_id"].map(diverged_at)))
    start = curves[curves["step"] == 0].groupby("run_id")["loss"].mean()
    known = frame["run_id"].map(start).mean() if len(start) else np.nan
    frame["initial_loss"] = frame["initial_loss"].fillna(frame["run_id"].map(start)).fillna(known)


def check_losses(trials: pd.DataFrame, curves: pd.DataFrame, where: str, loss: str) -> None:
    """Raise AnalysisError where no run can say when it reached a target.

    Every run has a single evaluation; or the loss rises: in 9 of 10 runs it goes at least 4 times
    as far above its first value as below it, and ends more than half of that above. where, loss:
    how these are called in messages.
    """
    losses = curves.sort_values(["run_id", "step"]).groupby("run_id")["loss"]
    several = trials["batch_size"].nunique() > 1
    if several and len(losses) == len(trials) and losses.size().max() == 1:
        raise AnalysisError(
            f"{where}: every run has a single evaluation of {loss}; if it is the end of a schedule "
            "of its own, give them to source=final_losses (in Python: kind='final_losses'), else "
            "log more evaluations, or give the steps to a target to source=steps_csv"
        )
    curved = losses.agg(["size", "first", "last", "min", "max"])
    curved = curved[curved["size"] > 1]
    rise, fall = curved["max"] - curved["first"], curved["first"] - curved["min"]
    rising = (rise > _RISES * fall) & (curved["last"] > curved["first"] + rise / 2)
    if len(curved) and rising.mean() >= _MOST:
        raise AnalysisError(
            f"{where}: {loss} rises in {int(rising.sum())} of {len(curved)} runs (from "
            f"{curved['first'].median():.4g} to {curved['max'].median():.4g}, medians), and steps "
            "are counted until it falls to a target; name one that falls with "
            f"{mapped(where, 'loss')}, an error (1 - accuracy) in place of an accuracy"
        )


def _whole(steps: pd.Series) -> pd.Series:
    """Int64 if all are whole (they are not where they come from examples)."""
    return steps.astype(np.int64) if (steps == np.floor(steps)).all() else steps.astype(float)


def _cut(curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, list[str]]:
    """Curves of finite losses, the step at which runs diverged, and a sentence about gaps.

    A run diverged where a loss is not finite and none after it is.
    """
    sound = np.isfinite(curves["loss"])
    last_sound = curves[sound].groupby("run_id")["step"].max()
    broken = curves[np.isinf(curves["loss"])]
    is_gap = broken["step"] < broken["run_id"].map(last_sound).astype(float)
    sentences = []
    if is_gap.any():
        sentences.append(
            f"Losses that are not finite, but have finite ones after them, treated as gaps: "
            f"{int(is_gap.sum())} in {broken.loc[is_gap, 'run_id'].nunique()} runs."
        )
    return curves[sound], broken[~is_gap].groupby("run_id")["step"].min(), sentences


def group_columns(frame: pd.DataFrame, tuned: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Columns of theirs that split the rows into groups, and those that follow the batch size.

    A column of which each value stands with one batch size only is a name, a date, a result, or
    follows from the batch size (its warm-up steps): no group. tuned: columns that are none anyway.
    """
    theirs = [name for name in their_columns(frame) if name not in tuned]
    varying = [name for name in theirs if frame[name].map(str).nunique() > 1]
    varying.sort(key=lambda name: name != PARAMS + schema.MODEL_SIZE)
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
