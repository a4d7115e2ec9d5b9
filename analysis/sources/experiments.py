"""Runs of anybody's training code from an MLflow experiment, with names mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.runs import read_curves
from analysis.sources.names import check_ours, suggestion
from analysis.sources.trials import OF_A_CURVE, complete_trials
from analysis.sources.values import labels, seeds
from analysis.stores import StoredRuns, Wanted, read_store
from scaling import schema
from scaling.schema import CENSORED, DIVERGED, REACHED

_OPTIONAL = ("seed", "model_size", "irreducible_loss", "initial_loss", "outcome", "seconds")
_POSITIVE = ("batch_size", "model_size")


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
    irreducible_loss and initial_loss are looked for among the params, then the tags, then the last
    values of the metrics; loss and, if there are such, train_loss, accuracy and examples are
    metrics. The step of a metric is taken for the optimizer updates done; `step`: a metric that
    holds them instead, logged beside the loss. filter: MLflow's search, "params.optimizer = 'sgd'".
    Of a step that was logged twice the newest value counts; a loss that is not finite is a
    divergence at that step. Runs that lack something are left out, and
    `trials.attrs["left_out"]` says so. All params stand in trials under their own names.

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
    finished = _finished(stored, experiment, filter)
    curves, said = _curves(stored, names, columns, finished)
    needed = list(dict.fromkeys(["batch_size", "lr", *tuned, *(group_by or ())]))
    trials = _values(stored, finished, columns, needed)
    trials, more = _usable(trials, needed, columns)
    unfinished = stored.runs.loc[~stored.runs["run_id"].isin(finished), "status"].value_counts()
    if len(unfinished):
        states = ", ".join(f"{n} {status}" for status, n in unfinished.sort_index().items())
        said = [f"Runs left out because they did not finish: {states}.", *said]
    curves = curves[curves["run_id"].isin(trials["run_id"])]
    if "examples" in curves and "examples" not in columns:
        curves = curves.drop(columns="examples")
    return complete_trials(
        trials, curves, study=experiment, group_by=group_by, tuned=tuned, left_out=[*said, *more]
    )


def is_ours(experiment: str, tracking_uri: str | None = None) -> bool:
    """Whether an experiment holds trials of this project (runs tagged kind=trial)."""
    stored = read_store(experiment, schema.resolve_tracking_uri(tracking_uri), Wanted(()))
    tags = stored.tags
    return bool(((tags["key"] == schema.KIND) & (tags["value"] == "trial")).any())


def _finished(stored: StoredRuns, experiment: str, filter: str | None) -> list[str]:
    runs = stored.runs
    found = runs.loc[runs["status"] == "FINISHED", "run_id"].tolist()
    if found:
        return found
    if runs.empty and filter:
        raise AnalysisError(f"source.filter={filter}: no run of {experiment} matches it")
    states = ", ".join(f"{n} {status}" for status, n in runs["status"].value_counts().items())
    raise AnalysisError(
        f"source.experiment={experiment}: it has no finished run ({states or 'none at all'})"
    )


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
    found = read_curves(stored, finite=False)
    said: list[str] = []
    if "step" in columns:
        found["step"] = found[names["step"]].astype(float)
        lacking = found["step"].isna() & found[names["loss"]].notna()
        if lacking.any():
            said.append(
                f"Evaluations left out because {names['step']} was not logged beside them: "
                f"{int(lacking.sum())}."
            )
        found = found[found["step"].notna()]
    curves = found[["run_id", "step"]].copy()
    for ours in OF_A_CURVE[1:]:
        if names[ours] in found and found[names[ours]].notna().any():
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


def _values(
    stored: StoredRuns, finished: list[str], columns: Mapping[str, str], needed: Sequence[str]
) -> pd.DataFrame:
    """A row a run: the params under their names, and ours by theirs from params, tags, metrics."""
    sources = [
        long[long["run_id"].isin(finished)].pivot(index="run_id", columns="key", values="value")
        for long in (stored.params, stored.tags, stored.latest.drop_duplicates(["run_id", "key"]))
    ]
    trials = sources[0].reindex(finished).rename_axis(None, axis=1)
    taken = {}
    further = [ours for ours in columns if ours not in OF_A_CURVE]
    for ours in dict.fromkeys([*needed, *_OPTIONAL, *further]):
        theirs = columns.get(ours, ours)
        holding = [source[theirs] for source in sources if theirs in source]
        if not holding and (ours in needed or ours in columns):
            there = {str(name) for source in sources for name in source.columns}
            raise AnalysisError(
                f"source.columns.{ours}={theirs}: no run has a param, tag or metric of this name"
                f"{suggestion(theirs if ours in columns else ours, there)}"
            )
        for values in holding[:1]:
            taken[ours] = values.reindex(finished)
    gone = {*taken, *(columns[ours] for ours in taken if ours in columns)}
    rest = trials.drop(columns=list(gone & set(trials.columns)))
    rest = rest.apply(labels) if len(rest.columns) else rest
    return rest.assign(**taken).rename_axis("run_id").reset_index()


def _usable(
    trials: pd.DataFrame, needed: Sequence[str], columns: Mapping[str, str]
) -> tuple[pd.DataFrame, list[str]]:
    """The runs of which every needed value can be used, and sentences about the others."""
    said = []
    for name in [n for n in dict.fromkeys([*needed, *_OPTIONAL]) if n in trials]:
        called = columns.get(name, name)
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
