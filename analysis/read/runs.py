"""MLflow in, two tidy frames out: `trials` (a row a trial) and `curves` (a row an evaluation)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.logged import read_curves
from analysis.read.store_database import read_store
from analysis.read.stored_values import check_values
from analysis.read.stores import CURVE_METRICS, StoredRuns, Wanted
from scaling import addresses, schema
from scaling.commands import command

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


def read_study(
    study: str, tracking_uri: str | None = None, filter: str | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The finished trials of this project's experiment `study` and their evaluations, sorted.

    tracking_uri: the MLflow store, by default MLFLOW_TRACKING_URI, else ./mlflow.db. filter:
    MLflow's search language, "params.lr = '0.1'".

    trials: run_id, trial_id, study, sweep, status, outcome, last_step (last evaluated step),
    seconds, round (of a search), step_seconds (where steps were timed), targets (tuple of losses,
    largest first) and each param under its dotted name, numbers converted. Of runs with one
    trial_id the longest finished one counts. `trials.attrs["left_out"]` says in sentences what
    does not count,
    `trials.attrs["probes"]` has records of steps that were timed alone (params that vary and
    step_seconds), the newest of a shape, `trials.attrs["sweeps"]` the tags of the study's parent
    runs, newest first (with their run_id and status), `trials.attrs["tuned"]` the params that a
    search tuned beside lr.
    curves: run_id, step, loss, train_loss, examples, and accuracy and the parts of the noise scale
    (stores.NOISE_METRICS) where there are any, sorted by trial and step; finite values only.

    Raises AnalysisError if the store cannot be read, has no such experiment, or the experiment has
    no trials, only unfinished ones, or only diverged ones.

    >>> trials, curves = read_study("small", tracking_uri)  # "sqlite:////home/me/mlflow.db"
    >>> trials["batch_size"].tolist()
    [1, 1, 1, 1]
    """
    uri = addresses.resolve_tracking_uri(tracking_uri)
    return tidy(read_store(study, uri, Wanted(filter=filter)), study)


def tidy(stored: StoredRuns, study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Long form in, the two frames of `read_study` out; everything that both stores share."""
    stored = replace(stored, params=_with_current_names(_with_requests(stored)))
    tags = _wide(stored.tags, stored.runs["run_id"])
    for key in (schema.KIND, schema.TRIAL_ID, schema.SWEEP, schema.OUTCOME, schema.SECONDS):
        if key not in tags:
            tags[key] = None
    runs = stored.runs.set_index("run_id").join(tags)
    trials = runs[runs[schema.KIND] == "trial"]
    of_curves = {key: stored.metrics[key] for key in CURVE_METRICS if key in stored.metrics}
    curves = read_curves(replace(stored, metrics=of_curves))
    finished, left_out = _countable(trials, study, stored.params, curves)
    strangers = int((~runs[schema.KIND].isin(["trial", "sweep", "probe", "report"])).sum())
    if strangers:
        left_out.append(f"Runs of another project in the same experiment, left out: {strangers}.")
    frame = _trials(finished, study, stored.params, curves)
    curves = _in_order(curves, frame)
    timed = _step_seconds(stored)
    if timed:
        frame[schema.STEP_SECONDS] = frame["run_id"].map(
            {run_id: float(np.median(values)) for run_id, values in timed.items()}
        )
    parents = runs[runs[schema.KIND] == "sweep"].sort_values("end_time", na_position="first")[::-1]
    frame.attrs["left_out"] = left_out
    frame.attrs["probes"] = _probes(stored, runs, frame)
    frame.attrs["tuned"] = _tuned(finished)
    frame.attrs["sweeps"] = [
        {k: v for k, v in row.items() if isinstance(v, str)}
        for row in parents.drop(columns="end_time").reset_index().to_dict("records")
    ]
    return frame, curves


def _with_requests(stored: StoredRuns) -> pd.DataFrame:
    """The params of runs with what was asked of them last: in tags, in older records in params."""
    requested = stored.tags[stored.tags["key"].isin(schema.REQUESTED)]
    both = pd.concat([stored.params, requested], ignore_index=True)
    return both.drop_duplicates(["run_id", "key"], keep="last", ignore_index=True)


def _with_current_names(params: pd.DataFrame) -> pd.DataFrame:
    named = [schema.current_name(*row) for row in zip(params["key"], params["value"], strict=True)]
    return params.assign(value=named)


def _countable(
    trials: pd.DataFrame, study: str, params: pd.DataFrame, curves: pd.DataFrame
) -> tuple[pd.DataFrame, list[str]]:
    """The trials that count, and sentences about those that do not."""
    left_out: list[str] = []
    finished = _finished(trials, study, left_out)
    kept = _longest_of_each(finished)
    if n := len(finished) - len(kept):
        left_out.append(f"Shorter or older runs of a trial that was run again, left out: {n}.")
    placed = params[params["key"].isin(REQUIRED_PARAMS)].groupby("run_id").size()
    complete = kept.index.isin(placed.index[placed == len(REQUIRED_PARAMS)])
    complete &= kept.index.isin(curves.loc[curves["loss"].notna(), "run_id"].unique())
    complete &= kept[schema.OUTCOME].notna().to_numpy()
    if not complete.any():
        needed = ", ".join(REQUIRED_PARAMS)
        raise AnalysisError(
            f"study={study}: no finished trial has an outcome, a loss curve and the params "
            f"{needed}; was this experiment written by `{command('sweep')}`?"
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


def _finished(trials: pd.DataFrame, study: str, left_out: list[str]) -> pd.DataFrame:
    if trials.empty:
        raise AnalysisError(
            f"study={study}: the experiment has no trials (runs tagged {schema.KIND}=trial); "
            f"run `{command('sweep', '-m', f'study={study}')}` first"
        )
    unfinished = trials.loc[trials["status"] != "FINISHED", "status"].value_counts().sort_index()
    states = ", ".join(f"{n} {status}" for status, n in unfinished.items())
    if unfinished.sum() == len(trials):
        raise AnalysisError(
            f"study={study}: none of its {len(trials)} trials is finished ({states}); wait for the "
            "sweep to end, or start it again if it was stopped"
        )
    if states:
        left_out.append(f"Trials left out because they did not finish: {states}.")
    return trials[trials["status"] == "FINISHED"]


def _longest_of_each(finished: pd.DataFrame) -> pd.DataFrame:
    """One run a trial: the one with the most steps, the newest of those."""
    identity = finished[schema.TRIAL_ID].fillna(pd.Series(finished.index, index=finished.index))
    length = pd.to_numeric(finished[schema.LAST_STEP], errors="coerce").fillna(0)
    ordered = finished.assign(**{schema.TRIAL_ID: identity, "length": length}).sort_values(
        ["length", "end_time", "run_id"]
    )
    return ordered.drop_duplicates(schema.TRIAL_ID, keep="last").drop(columns="length")


def _trials(
    finished: pd.DataFrame, study: str, params: pd.DataFrame, curves: pd.DataFrame
) -> pd.DataFrame:
    wide = _wide(params, finished.index)
    check_values(wide, finished, study)
    frame = wide.drop(columns=schema.TARGETS).apply(_numbers)
    frame[list(REQUIRED_PARAMS[3:6])] = frame[list(REQUIRED_PARAMS[3:6])].astype(np.float64)
    frame = frame.astype({"batch_size": np.int64, "seed": np.int64, "lr": np.float64})
    frame[schema.TARGETS] = [
        tuple(sorted(map(float, json.loads(text)), reverse=True)) for text in wide[schema.TARGETS]
    ]
    frame[["trial_id", "sweep", "status", "outcome"]] = finished[
        [schema.TRIAL_ID, schema.SWEEP, "status", schema.OUTCOME]
    ]
    if schema.ROUND in finished:
        frame[schema.ROUND] = finished[schema.ROUND].astype(float)
    frame["study"] = study
    frame["last_step"] = curves.dropna(subset="loss").groupby("run_id")["step"].max()
    frame["seconds"] = finished[schema.SECONDS].astype(float)
    frame = frame.rename_axis("run_id").reset_index()
    order = [*LEADING, *REQUIRED_PARAMS]
    frame = frame[order + sorted(set(frame.columns) - set(order))]
    return frame.sort_values(["batch_size", "lr", "seed", "trial_id"], ignore_index=True)


def _tuned(finished: pd.DataFrame) -> list[str]:
    """The params beside lr that a search tuned."""
    if schema.TUNED not in finished:
        return []
    texts = sorted(finished[schema.TUNED].dropna().unique())
    return list(dict.fromkeys(name for text in texts for name in json.loads(text)))


def _in_order(curves: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The curves of these trials in their order, with the examples seen."""
    place = pd.Index(trials["run_id"]).get_indexer(pd.Index(curves["run_id"]))
    curves, place = curves[place >= 0], place[place >= 0]
    order = np.argsort(place, kind="stable")  # steps are in order already
    curves = curves.take(order).reset_index(drop=True)
    examples = trials["batch_size"].to_numpy(float)[place[order]] * curves["step"]
    further = [
        name for name in curves.columns if name not in ("run_id", "step", *CURVE_METRICS[:2])
    ]
    return curves.assign(examples=examples)[
        ["run_id", "step", *CURVE_METRICS[:2], "examples", *further]
    ]


def _probes(stored: StoredRuns, runs: pd.DataFrame, trials: pd.DataFrame) -> list[dict[str, Any]]:
    """A record a probe: batch_size, the params that vary among trials, step_seconds (a tuple)."""
    finished = runs[(runs[schema.KIND] == "probe") & (runs["status"] == "FINISHED")]
    newest = finished.sort_values("end_time").drop_duplicates(schema.TRIAL_ID, keep="last")
    wide = _wide(stored.params, newest.index).apply(_numbers)
    # pandas copies attrs with every frame that it makes of another: few and plain values only
    names = [n for n in wide if n in trials and n not in (schema.TARGETS, "lr", "seed")]
    names = [n for n in names if n == "batch_size" or trials[n].astype(str).nunique() > 1]
    seconds = _step_seconds(stored)
    return [
        {**{str(k): v for k, v in row.items()}, schema.STEP_SECONDS: seconds[str(run_id)]}
        for run_id, row in wide[names].to_dict("index").items()
        if run_id in seconds
    ]


def _step_seconds(stored: StoredRuns) -> dict[str, tuple[float, ...]]:
    """What was logged as seconds of a step, by run."""
    points = stored.metrics.get(schema.STEP_SECONDS, pd.DataFrame(columns=["run", "value"]))
    run_ids = stored.runs["run_id"].to_numpy(object)
    return {
        str(run_ids[int(run)]): tuple(map(float, values))  # type: ignore[call-overload]
        for run, values in points.groupby("run")["value"]
    }


def _wide(long: pd.DataFrame, run_ids: Any) -> pd.DataFrame:
    """run_id, key, value in; a row a run, a column a key out."""
    of_runs = long[long["run_id"].isin(run_ids)]
    wide = of_runs.pivot(index="run_id", columns="key", values="value").reindex(list(run_ids))
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
