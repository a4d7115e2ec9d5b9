"""MLflow in, two tidy frames out: `trials` (a row a trial) and `curves` (a row an evaluation)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.stores import CURVE_METRICS, StoredRuns, read_store
from scaling import schema

# A run that lacks one of these cannot be placed in the study's grid.
REQUIRED_PARAMS = (
    "batch_size",
    "lr",
    "seed",
    schema.MODEL_SIZE,
    schema.IRREDUCIBLE_LOSS,
    schema.INITIAL_LOSS,
    schema.TARGETS,
)
LEADING = ("run_id", "trial_id", "study", "sweep", "status", "outcome", "last_step", "seconds")
NULLS = {"": None, "None": None, "null": None}


def read_study(study: str, tracking_uri: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The finished trials of the experiment `study` and their evaluations, sorted.

    trials: run_id, trial_id, study, sweep, status, outcome, last_step (last evaluated step),
    seconds, targets (tuple of losses, largest first) and each param under its dotted name, numbers
    converted. Of runs with one trial_id the longest finished one counts. `trials.attrs["left_out"]`
    says in sentences what does not count, `trials.attrs["sweeps"]` holds the tags of the study's
    parent runs, newest first (with their run_id and status).
    curves: run_id, step, loss, train_loss, examples, and accuracy where there is any, sorted by
    trial and step; finite values only.

    Raises AnalysisError if the store cannot be read, has no such experiment, or the experiment has
    no trials, only unfinished ones, or only diverged ones.
    """
    uri = schema.resolve_tracking_uri(tracking_uri)
    return tidy(read_store(study, uri), study)


def tidy(stored: StoredRuns, study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Long form in, the two frames of `read_study` out; everything that both stores share."""
    tags = _wide(stored.tags, stored.runs["run_id"])
    for key in (schema.KIND, schema.TRIAL_ID, schema.SWEEP, schema.OUTCOME, schema.SECONDS):
        if key not in tags:
            tags[key] = None
    runs = stored.runs.set_index("run_id").join(tags)
    trials = runs[runs[schema.KIND] == "trial"]
    curves = _curves(stored.metrics)
    finished, left_out = _countable(trials, study, stored.params, curves)
    frame = _trials(finished, study, stored.params, curves)
    curves = curves[curves["run_id"].isin(frame["run_id"])]
    place = curves["run_id"].map(pd.Series(frame.index, index=frame["run_id"]))
    curves = curves.assign(place=place).sort_values(["place", "step"], ignore_index=True)
    parents = runs[runs[schema.KIND] == "sweep"].sort_values("end_time", na_position="first")[::-1]
    frame.attrs["left_out"] = left_out
    frame.attrs["sweeps"] = [
        {k: v for k, v in row.items() if isinstance(v, str)}
        for row in parents.drop(columns="end_time").reset_index().to_dict("records")
    ]
    return frame, curves.drop(columns="place")


def _countable(
    trials: pd.DataFrame, study: str, params: pd.DataFrame, curves: pd.DataFrame
) -> tuple[pd.DataFrame, list[str]]:
    """The trials that count, and sentences about those that do not."""
    if trials.empty:
        raise AnalysisError(
            f"study={study}: the experiment has no trials (runs tagged {schema.KIND}=trial); "
            f"run `python -m sweeps -m study={study}` first"
        )
    left_out = []
    finished = trials[trials["status"] == "FINISHED"]
    unfinished = trials.loc[trials["status"] != "FINISHED", "status"].value_counts().sort_index()
    states = ", ".join(f"{n} {status}" for status, n in unfinished.items())
    if finished.empty:
        raise AnalysisError(
            f"study={study}: none of its {len(trials)} trials is finished ({states}); wait for the "
            "sweep to end, or start it again if it was stopped"
        )
    if states:
        left_out.append(f"Trials left out because they did not finish: {states}.")
    identity = finished[schema.TRIAL_ID].fillna(pd.Series(finished.index, index=finished.index))
    length = pd.to_numeric(finished[schema.LAST_STEP], errors="coerce").fillna(0)
    longest = finished.assign(**{schema.TRIAL_ID: identity, "length": length}).sort_values(
        ["length", "end_time", "run_id"]
    )
    kept = longest.drop_duplicates(schema.TRIAL_ID, keep="last").drop(columns="length")
    if len(kept) < len(longest):
        n = len(longest) - len(kept)
        left_out.append(f"Shorter or older runs of a trial that was run again, left out: {n}.")
    placed = params[params["key"].isin(REQUIRED_PARAMS)].groupby("run_id").size()
    complete = kept.index.isin(placed.index[placed == len(REQUIRED_PARAMS)])
    complete &= kept.index.isin(curves.loc[curves["loss"].notna(), "run_id"].unique())
    complete &= kept[schema.OUTCOME].notna().to_numpy()
    if not complete.any():
        needed = ", ".join(REQUIRED_PARAMS)
        raise AnalysisError(
            f"study={study}: no finished trial has an outcome, a loss curve and the params "
            f"{needed}; was this experiment written by `python -m sweeps`?"
        )
    if not complete.all():
        n = int((~complete).sum())
        left_out.append(f"Trials left out because their record lacks params or losses: {n}.")
    kept = kept[complete]
    if (kept[schema.OUTCOME] == schema.DIVERGED).all():
        raise AnalysisError(
            f"study={study}: all of its {len(kept)} finished trials diverged; sweep smaller lr"
        )
    return kept, left_out


def _trials(
    finished: pd.DataFrame, study: str, params: pd.DataFrame, curves: pd.DataFrame
) -> pd.DataFrame:
    wide = _wide(params, finished.index)
    frame = wide.drop(columns=schema.TARGETS).apply(_numbers)
    frame[list(REQUIRED_PARAMS[3:6])] = frame[list(REQUIRED_PARAMS[3:6])].astype(np.float64)
    frame = frame.astype({"batch_size": np.int64, "seed": np.int64, "lr": np.float64})
    frame[schema.TARGETS] = [
        tuple(sorted(map(float, json.loads(text)), reverse=True)) for text in wide[schema.TARGETS]
    ]
    frame[["trial_id", "sweep", "status", "outcome"]] = finished[
        [schema.TRIAL_ID, schema.SWEEP, "status", schema.OUTCOME]
    ]
    frame["study"] = study
    frame["last_step"] = curves.dropna(subset="loss").groupby("run_id")["step"].max()
    frame["seconds"] = pd.to_numeric(finished[schema.SECONDS], errors="coerce")
    frame = frame.rename_axis("run_id").reset_index()
    order = [*LEADING, *REQUIRED_PARAMS]
    frame = frame[order + sorted(set(frame.columns) - set(order))]
    return frame.sort_values(["batch_size", "lr", "seed", "trial_id"], ignore_index=True)


def _curves(metrics: pd.DataFrame) -> pd.DataFrame:
    """A row a (run, step). A point written twice (a resumed trial): the newest one counts."""
    # an infinity stands in MLflow's databases as the largest double
    finite = metrics["value"].astype(np.float64).abs() < np.finfo(np.float64).max
    points = metrics[finite].sort_values(["run_id", "step", "timestamp"], kind="stable")
    frames = [
        points.loc[points["key"] == key, ["run_id", "step", "value"]]
        .drop_duplicates(["run_id", "step"], keep="last")
        .set_index(["run_id", "step"])["value"]
        .astype(np.float64)
        .rename(key)
        for key in CURVE_METRICS
        if key != "accuracy" or (points["key"] == key).any()
    ]
    return pd.concat(frames, axis=1).reset_index().astype({"step": np.int64})


def _wide(long: pd.DataFrame, run_ids: Any) -> pd.DataFrame:
    """run_id, key, value in; a row a run, a column a key out."""
    own = long[long["run_id"].isin(run_ids)]
    wide = own.pivot(index="run_id", columns="key", values="value").reindex(list(run_ids))
    wide.columns.name = None
    return wide


def _numbers(column: pd.Series) -> pd.Series:
    """A column of texts as int, float or bool if every one of them is one; "None" is missing."""
    column = column.astype(object).replace(NULLS)
    known = column.dropna()
    if known.isin(["True", "False", "true", "false"]).all() and len(known) == len(column):
        return column.str.lower() == "true"
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers if numbers.notna().sum() == len(known) else column
