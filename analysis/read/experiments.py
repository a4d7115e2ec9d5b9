"""Runs of anybody's training code from an MLflow experiment, with names mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.read.experiment_params import read_params, usable_runs
from analysis.read.logged import abandoned, read_curves, without_abandoned
from analysis.read.names import check_ours, our_names, suggestion
from analysis.read.store_database import read_store
from analysis.read.stores import StoredRuns, Wanted
from analysis.read.trials import OF_A_CURVE, check_losses, complete_trials
from scaling import addresses, schema


def read_mlflow(
    experiment: str,
    tracking_uri: str | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    filter: str | None = None,
    group_by: Sequence[str] | None = None,
    tuned: Sequence[str] = ("lr",),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The finished runs of any MLflow experiment: the frames (trials, curves).

    columns: ours -> theirs. batch_size, lr and, where they exist, seed, model_size,
    irreducible_loss, initial_loss, step_seconds and flops_per_example are looked for among the
    params, then the tags, then the last values of the metrics; loss and, where they exist,
    train_loss, accuracy and examples are metrics. The step of a metric is taken for the optimizer
    updates done; `step`: a metric that holds them instead, logged beside the loss. filter: MLflow's
    search, "params.optimizer = 'sgd'". A run without a param has that of its parent run. Of a step
    that was logged twice the newest value counts. Points above the step from which a run was
    resumed do not count (see logged). A loss that is not finite is a divergence at that step if
    none after it is finite. Runs that lack something are left out, and
    `trials.attrs["left_out"]` says so. Other params stand in trials under groups.PARAMS. Of an
    experiment of this project only trials are read, and only params of what was trained.

    Raises AnalysisError if the store cannot be read, or no run has what is needed.

    >>> names = {"loss": "eval/loss", "batch_size": "train.bs"}  # lr and seed are called so there
    >>> trials, curves = read_mlflow("theirs", tracking_uri, names)  # "sqlite:////data/mlflow.db"
    >>> trials["batch_size"].tolist()
    [8, 16]
    """
    columns = dict(columns or {})
    check_ours(columns)
    names = {ours: columns.get(ours, ours) for ours in OF_A_CURVE}
    stored = _read(experiment, tracking_uri, columns, names, filter)
    is_study = not {"batch_size", "lr"} & set(columns)
    ours = _our_trials(stored) if is_study else set()
    finished = [run for run in _finished(stored, experiment, filter) if not ours or run in ours]
    curves, left_out = _curves(stored, names, columns, finished)
    wanted = [*tuned, *(group_by or ())]
    trials, keys = read_params(stored, finished, columns, wanted, bool(ours))
    tuned, groups = (
        [keys.get(name, name) for name in our_names(given, columns, keys)]
        for given in (tuned, group_by or ())
    )
    needed = list(dict.fromkeys(["batch_size", "lr", *tuned, *groups]))
    trials, unusable = usable_runs(trials, needed, columns)
    left_out = [*_unfinished(stored, ours, finished), *left_out, *unusable]
    curves = curves[curves["run_id"].isin(trials["run_id"])]
    if "examples" in curves and "examples" not in columns:
        curves = curves.drop(columns="examples")
    trials, curves = complete_trials(
        trials,
        curves,
        study=experiment,
        group_by=None if group_by is None else groups,
        tuned=tuned,
        left_out=left_out,
    )
    _check(trials, curves, stored, names["loss"], experiment)
    return trials, curves


def is_ours(experiment: str, tracking_uri: str | None = None) -> bool:
    """Whether an experiment holds trials of this project (runs tagged kind=trial)."""
    stored = read_store(experiment, addresses.resolve_tracking_uri(tracking_uri), Wanted(()))
    return bool(_our_trials(stored))


def _read(
    experiment: str,
    tracking_uri: str | None,
    columns: Mapping[str, str],
    names: Mapping[str, str],
    filter: str | None,
) -> StoredRuns:
    metrics = [names[ours] for ours in ("loss", "train_loss", "accuracy", "examples")]
    metrics += [columns["step"]] if "step" in columns else []
    wanted = Wanted(tuple(dict.fromkeys(metrics)), only_trials=False, filter=filter)
    return read_store(experiment, addresses.resolve_tracking_uri(tracking_uri), wanted)


def _our_trials(stored: StoredRuns) -> set[str]:
    """The runs that are trials of this project."""
    tags = stored.tags
    return set(tags.loc[(tags["key"] == schema.KIND) & (tags["value"] == "trial"), "run_id"])


def _states(status: pd.Series) -> str:
    return ", ".join(f"{n} {state}" for state, n in status.value_counts().sort_index().items())


def _finished(stored: StoredRuns, experiment: str, filter: str | None) -> list[str]:
    runs = stored.runs
    finished = runs.loc[runs["status"] == "FINISHED", "run_id"].tolist()
    if finished:
        return finished
    if runs.empty and filter:
        raise AnalysisError(f"source.filter={filter}: no run of {experiment} matches it")
    states = _states(runs["status"]) or "none at all"
    raise AnalysisError(f"source.experiment={experiment}: it has no finished run ({states})")


def _unfinished(stored: StoredRuns, ours: set[str], finished: list[str]) -> list[str]:
    """A sentence about the runs that did not finish; ours: those that count, if not all do."""
    counted = stored.runs["run_id"].isin(ours) if ours else True
    states = stored.runs.loc[counted & ~stored.runs["run_id"].isin(finished), "status"]
    if states.empty:
        return []
    return [f"Runs left out because they did not finish: {_states(states)}."]


def _curves(
    stored: StoredRuns, names: Mapping[str, str], columns: Mapping[str, str], finished: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """run_id, step, loss and what else was logged, a row an evaluation; sentences about others."""
    _check_names(stored, names, columns)
    loss = names["loss"]
    metrics, n_abandoned = without_abandoned(stored.metrics, loss)
    points = read_curves(replace(stored, metrics=metrics), finite=False)
    left_out: list[str] = []
    if loss not in points:
        points[loss] = np.nan
    if "step" in columns:
        points, n_more, left_out = _at_logged_steps(points, loss, names["step"])
        n_abandoned += n_more
    if n_abandoned:
        left_out.append(
            "Evaluations left out because their run was resumed from an earlier step: "
            f"{n_abandoned}."
        )
    curves = points[["run_id", "step"]].copy()
    for ours in OF_A_CURVE[1:]:
        if ours == "loss" or (names[ours] in points and points[names[ours]].notna().any()):
            curves[ours] = points[names[ours]].to_numpy(float)
    curves = curves[curves["loss"].notna() & curves["run_id"].isin(finished)]
    if (curves["step"] < 0).any():
        row = curves.iloc[int(curves["step"].to_numpy().argmin())]
        raise AnalysisError(
            f"metric {loss} of run {row['run_id']} was logged at step {row['step']:g}; "
            "steps must not be negative"
        )
    # a step that their own counter repeats (a resumed run): the later point counts
    return curves.drop_duplicates(["run_id", "step"], keep="last"), left_out


def _check_names(stored: StoredRuns, names: Mapping[str, str], columns: Mapping[str, str]) -> None:
    """Raise AnalysisError for a metric that no run has."""
    logged = sorted(set(stored.latest["key"]))
    for ours in ("loss", *(name for name in ("step", *OF_A_CURVE[2:]) if name in columns)):
        if names[ours] not in logged:
            raise AnalysisError(
                f"source.columns.{ours}={names[ours]}: no run has a metric of this name"
                f"{suggestion(names[ours] if ours in columns else ours, logged)}"
            )


def _at_logged_steps(
    points: pd.DataFrame, loss: str, counter: str
) -> tuple[pd.DataFrame, int, list[str]]:
    """The points at the steps that the metric `counter` holds; how many losses a resumed run gave
    up, and a sentence about losses without a step."""
    points["step"] = points.get(counter, pd.Series(np.nan, points.index)).astype(float)
    lacking = points["step"].isna() & points[loss].notna()
    left_out = []
    if lacking.any():
        left_out.append(
            f"Evaluations left out because {counter} was not logged with them: "
            f"{int(lacking.sum())}."
        )
    points = points[points["step"].notna()]
    losses = points[points[loss].notna()]
    given_up = abandoned(losses["run_id"], np.arange(len(losses)), losses["step"])
    return points.drop(index=losses.index[given_up]), int(given_up.sum()), left_out


def _check(
    trials: pd.DataFrame, curves: pd.DataFrame, stored: StoredRuns, loss: str, experiment: str
) -> None:
    """Raise AnalysisError where the runs cannot say when they reached a target."""
    where, metric = f"source.experiment={experiment}", f"metric {loss}"
    if trials.empty:
        reasons = " ".join(trials.attrs["left_out"])
        raise AnalysisError(f"{where}: {metric} has no usable value in any run. {reasons}")
    points = stored.metrics[loss]
    if (points["step"] == 0).all() and points["run"].duplicated().any():
        raise AnalysisError(
            f"{where}: {metric} was logged without steps (all of its points are at step 0); "
            "log it with step=..., the optimizer updates done"
        )
    check_losses(trials, curves, where, metric)
