"""Runs of anybody's training code from an MLflow experiment, with names mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import own_name
from analysis.read.names import (
    OR_LABEL,
    check_ours,
    namespaced,
    our_names,
    suggestion,
)
from analysis.read.resumed import abandoned, without_abandoned
from analysis.read.runs import read_curves
from analysis.read.selection import question_params
from analysis.read.store_database import read_store
from analysis.read.stores import PARENT, StoredRuns, Wanted
from analysis.read.trials import OF_A_CURVE, OF_A_TRIAL, check_losses, complete_trials
from analysis.read.values import labels, seeds
from scaling import schema
from scaling.schema import CENSORED, DIVERGED, REACHED

_OPTIONAL = (*OF_A_TRIAL[3:], "step_seconds")
_POSITIVE = ("batch_size", "model_size", "step_seconds", "flops_per_example")
_MOST_LEVELS = 10  # of runs within runs
_OF_THE_LOSS = ("irreducible_loss", "initial_loss", "outcome")  # of our trials: of their own loss


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

    columns: ours -> theirs. batch_size, lr and, if there are such, seed, model_size,
    irreducible_loss, initial_loss, step_seconds and flops_per_example are looked for among the
    params, then the tags, then the last values of the metrics; loss and, if there are such,
    train_loss, accuracy and examples are metrics. The step of a metric is taken for the optimizer
    updates done; `step`: a metric that holds them instead, logged beside the loss. filter: MLflow's
    search, "params.optimizer = 'sgd'". A run without a param has that of its parent run. Of a step
    that was logged twice the newest value counts; of a run that was resumed the points above the
    step from which it went on do not count (see resumed). A loss that is not finite is a divergence
    at that step if none after it is. Runs that lack something are left out, and
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
    uri = schema.resolve_tracking_uri(tracking_uri)
    names = {ours: columns.get(ours, ours) for ours in OF_A_CURVE}
    wanted = [names["loss"], names["train_loss"], names["accuracy"], names["examples"]]
    if "step" in columns:
        wanted.append(columns["step"])
    stored = read_store(
        experiment, uri, Wanted(tuple(dict.fromkeys(wanted)), only_trials=False, filter=filter)
    )
    ours = set() if {"batch_size", "lr"} & set(columns) else _our_trials(stored)
    finished = [run for run in _finished(stored, experiment, filter) if not ours or run in ours]
    curves, said = _curves(stored, names, columns, finished)
    asked = [*tuned, *(group_by or ())]
    trials, keys = _values(stored, finished, columns, asked, bool(ours))
    tuned, named = (
        [keys.get(name, name) for name in our_names(wanted, columns, keys)]
        for wanted in (tuned, group_by or ())
    )
    needed = list(dict.fromkeys(["batch_size", "lr", *tuned, *named]))
    trials, more = _usable(trials, needed, columns)
    counted = stored.runs["run_id"].isin(ours) if ours else True
    unfinished = stored.runs.loc[counted & ~stored.runs["run_id"].isin(finished), "status"]
    if len(unfinished):
        states = _states(unfinished)
        said = [f"Runs left out because they did not finish: {states}.", *said]
    curves = curves[curves["run_id"].isin(trials["run_id"])]
    if "examples" in curves and "examples" not in columns:
        curves = curves.drop(columns="examples")
    groups = None if group_by is None else named
    trials, curves = complete_trials(
        trials, curves, study=experiment, group_by=groups, tuned=tuned, left_out=[*said, *more]
    )
    where, loss = f"source.experiment={experiment}", f"metric {names['loss']}"
    if trials.empty:
        raise AnalysisError(f"{where}: {loss} has no usable value in any run. {' '.join(said)}")
    _check_steps(stored, names["loss"], where)
    check_losses(trials, curves, where, loss)
    return trials, curves


def _our_trials(stored: StoredRuns) -> set[str]:
    """The runs that are trials of this project."""
    tags = stored.tags
    return set(tags.loc[(tags["key"] == schema.KIND) & (tags["value"] == "trial"), "run_id"])


def _states(status: pd.Series) -> str:
    return ", ".join(f"{n} {state}" for state, n in status.value_counts().sort_index().items())


def is_ours(experiment: str, tracking_uri: str | None = None) -> bool:
    """Whether an experiment holds trials of this project (runs tagged kind=trial)."""
    stored = read_store(experiment, schema.resolve_tracking_uri(tracking_uri), Wanted(()))
    return bool(_our_trials(stored))


def _finished(stored: StoredRuns, experiment: str, filter: str | None) -> list[str]:
    runs = stored.runs
    found = runs.loc[runs["status"] == "FINISHED", "run_id"].tolist()
    if found:
        return found
    if runs.empty and filter:
        raise AnalysisError(f"source.filter={filter}: no run of {experiment} matches it")
    states = _states(runs["status"]) or "none at all"
    raise AnalysisError(f"source.experiment={experiment}: it has no finished run ({states})")


def _curves(
    stored: StoredRuns, names: Mapping[str, str], columns: Mapping[str, str], finished: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """run_id, step, loss and what else there is, a row an evaluation."""
    there = sorted(set(stored.latest["key"]))
    for ours in ("loss", *(n for n in ("step", *OF_A_CURVE[2:]) if n in columns)):
        if names[ours] not in there:
            raise AnalysisError(
                f"source.columns.{ours}={names[ours]}: no run has a metric of this name"
                f"{suggestion(names[ours] if ours in columns else ours, there)}"
            )
    metrics, n_abandoned = without_abandoned(stored.metrics, names["loss"])
    found = read_curves(replace(stored, metrics=metrics), finite=False)
    said: list[str] = []
    if names["loss"] not in found:
        found[names["loss"]] = np.nan
    if "step" in columns:
        found["step"] = found.get(names["step"], pd.Series(np.nan, found.index)).astype(float)
        lacking = found["step"].isna() & found[names["loss"]].notna()
        if lacking.any():
            said.append(
                f"Evaluations left out because {names['step']} was not logged beside them: "
                f"{int(lacking.sum())}."
            )
        found = found[found["step"].notna()]
        going_on = found[found[names["loss"]].notna()]
        gone = abandoned(going_on["run_id"], np.arange(len(going_on)), going_on["step"])
        n_abandoned += int(gone.sum())
        found = found.drop(index=going_on.index[gone])
    if n_abandoned:
        said.append(
            "Evaluations left out because their run was resumed from an earlier step: "
            f"{n_abandoned}."
        )
    curves = found[["run_id", "step"]].copy()
    for ours in OF_A_CURVE[1:]:
        if ours == "loss" or (names[ours] in found and found[names[ours]].notna().any()):
            curves[ours] = found[names[ours]].to_numpy(float)
    curves = curves[curves["loss"].notna() & curves["run_id"].isin(finished)]
    if (curves["step"] < 0).any():
        row = curves.iloc[int(curves["step"].to_numpy().argmin())]
        raise AnalysisError(
            f"metric {names['loss']} of run {row['run_id']} was logged at step {row['step']:g}; "
            "steps must not be negative"
        )
    # a step that their own counter repeats (a resumed run): the later point counts
    return curves.drop_duplicates(["run_id", "step"], keep="last"), said


def _check_steps(stored: StoredRuns, loss: str, where: str) -> None:
    """Raise AnalysisError where a metric was logged without steps: all at step 0."""
    points = stored.metrics[loss]
    if (points["step"] == 0).all() and points["run"].duplicated().any():
        raise AnalysisError(
            f"{where}: metric {loss} was logged without steps (all of its points are at step 0); "
            "log it with step=..., the optimizer updates done"
        )


def _inherited(params: pd.DataFrame, tags: pd.DataFrame) -> pd.DataFrame:
    """The params with those that a run does not have itself, but its parent runs have."""
    parents = tags.loc[tags["key"] == PARENT, ["run_id", "value"]]
    parents = parents[parents["run_id"] != parents["value"]]
    known, handed_on = params, params
    for _ in range(_MOST_LEVELS):
        handed_on = parents.merge(
            handed_on.rename(columns={"run_id": "parent", "value": "given"}),
            left_on="value", right_on="parent",
        )[["run_id", "key", "given"]].rename(columns={"given": "value"})  # fmt: skip
        if handed_on.empty:
            break
        known = pd.concat([known, handed_on]).drop_duplicates(["run_id", "key"], keep="first")
    return known


def _values(
    stored: StoredRuns,
    finished: list[str],
    columns: Mapping[str, str],
    asked: Sequence[str],
    is_study: bool,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row a run, ours from params, tags or metrics, their params as namespaced; their keys.

    asked: names of theirs that are needed; is_study: whether the runs are trials of this project.
    """
    sources = [
        long[long["run_id"].isin(finished)].pivot(index="run_id", columns="key", values="value")
        for long in (
            _inherited(stored.params, stored.tags),
            stored.tags,
            stored.latest.drop_duplicates(["run_id", "key"]),
        )
    ]
    params = sources[0].reindex(finished).rename_axis(None, axis=1)
    if is_study:
        params = params[question_params(params)]
    taken = {}
    further = [ours for ours in columns if ours not in OF_A_CURVE]
    required = ("batch_size", "lr", *our_names(asked, columns, map(str, params)))
    for ours in dict.fromkeys([*required, *_OPTIONAL, *further]):
        if is_study and ours in _OF_THE_LOSS and ours not in columns:
            continue
        theirs = columns.get(ours, ours)
        holding = [source[theirs] for source in sources if theirs in source]
        if not holding and (ours in required or ours in columns):
            there = {str(name) for source in sources for name in source.columns}
            raise AnalysisError(
                f"source.columns.{ours}={theirs}: no run has a param, tag or metric of this name"
                f"{suggestion(theirs if ours in columns else ours, there)}"
            )
        for values in holding[:1]:
            taken[ours] = values.reindex(finished)
    gone = {*taken, *(columns[ours] for ours in taken if ours in columns)}
    rest = params.drop(columns=list(gone & set(params.columns)))
    rest = rest.apply(labels) if len(rest.columns) else rest
    everything = rest.assign(**{n: labels(v) if n in OR_LABEL else v for n, v in taken.items()})
    frame, keys = namespaced(everything, OF_A_CURVE + OF_A_TRIAL + OR_LABEL, columns)
    return frame.rename_axis("run_id").reset_index(), keys


def _usable(
    trials: pd.DataFrame, needed: Sequence[str], columns: Mapping[str, str]
) -> tuple[pd.DataFrame, list[str]]:
    """The runs of which every needed value can be used, and sentences about the others."""
    said = []
    for name in [n for n in dict.fromkeys([*needed, *_OPTIONAL]) if n in trials]:
        called = columns.get(own_name(name), own_name(name))
        lacking = trials[name].isna()
        if name in needed and lacking.any():
            said.append(f"Runs left out because they have no {called}: {int(lacking.sum())}.")
            trials = trials[~lacking]
        trials, wrong = _converted(trials.copy(), name)
        if wrong.any():
            value = trials.loc[wrong, name].iloc[0]
            said.append(
                f"Runs left out because their {called} cannot be used ({value!r} for one): "
                f"{int(wrong.sum())}."
            )
            trials = trials[~wrong]
        if trials.empty:
            raise AnalysisError(
                f"source.columns.{name}={called}: no run is left. " + " ".join(said)
            )
        if name not in ("outcome", "seed"):
            trials[name] = labels(trials[name])
    return trials, said


def _converted(trials: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.Series]:
    """The frame with the column as numbers where it has to be, and which values are wrong."""
    known = trials[name].notna()
    if name == "outcome":
        return trials, known & ~trials[name].isin((REACHED, CENSORED, DIVERGED))
    if name == "seed":
        trials[name] = seeds(trials.loc[known, name]).reindex(trials.index).astype(float)
        return trials, pd.Series(False, trials.index)
    if name not in (*_POSITIVE, "lr", *_OPTIONAL):
        return trials, pd.Series(False, trials.index)
    values = pd.to_numeric(trials[name], errors="coerce")
    wrong = known & ~np.isfinite(values)
    if name in _POSITIVE:
        wrong |= values <= 0
    if name == "batch_size":
        wrong |= known & (values != np.floor(values))
    if name == "lr":
        wrong |= values < 0
    return trials, wrong
