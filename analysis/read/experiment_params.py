"""What the runs of somebody's experiment were: their params, tags and metrics under our names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import their_name
from analysis.read.names import OR_LABEL, namespaced, our_names, suggestion
from analysis.read.selection import question_params
from analysis.read.stores import PARENT, StoredRuns
from analysis.read.trials import OF_A_CURVE, OF_A_TRIAL
from analysis.read.values import labels, seeds
from scaling.schema import CENSORED, DIVERGED, REACHED

_OPTIONAL = (*OF_A_TRIAL[3:], "step_seconds")
_POSITIVE = ("batch_size", "model_size", "step_seconds", "flops_per_example")
_MOST_LEVELS = 10  # of runs within runs
_OF_THE_LOSS = ("irreducible_loss", "initial_loss", "outcome")  # of our trials: of their own loss


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


def read_params(
    stored: StoredRuns,
    finished: list[str],
    columns: Mapping[str, str],
    wanted: Sequence[str],
    is_study: bool,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row a run, ours from params, tags or metrics, their params as namespaced; their keys.

    wanted: names of theirs that are needed; is_study: whether the runs are trials of this project.
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
    taken: dict[str, pd.Series] = {}
    further = [ours for ours in columns if ours not in OF_A_CURVE]
    required = ("batch_size", "lr", *our_names(wanted, columns, map(str, params)))
    for ours in dict.fromkeys([*required, *_OPTIONAL, *further]):
        if is_study and ours in _OF_THE_LOSS and ours not in columns:
            continue
        values = _first_holding(sources, ours, columns, ours in required)
        if values is not None:
            taken[ours] = values.reindex(finished)
    gone = {*taken, *(columns[ours] for ours in taken if ours in columns)}
    rest = params.drop(columns=list(gone & set(params.columns)))
    rest = rest.apply(labels) if len(rest.columns) else rest
    everything = rest.assign(**{n: labels(v) if n in OR_LABEL else v for n, v in taken.items()})
    frame, keys = namespaced(everything, OF_A_CURVE + OF_A_TRIAL + OR_LABEL, columns)
    return frame.rename_axis("run_id").reset_index(), keys


def _first_holding(
    sources: Sequence[pd.DataFrame], ours: str, columns: Mapping[str, str], is_required: bool
) -> pd.Series | None:
    """The values of one of our names from the first source that has it under theirs."""
    theirs = columns.get(ours, ours)
    for source in sources:
        if theirs in source:
            return source[theirs]
    if is_required or ours in columns:
        known = {str(name) for source in sources for name in source.columns}
        raise AnalysisError(
            f"source.columns.{ours}={theirs}: no run has a param, tag or metric of this name"
            f"{suggestion(theirs if ours in columns else ours, known)}"
        )
    return None


def usable_runs(
    trials: pd.DataFrame, needed: Sequence[str], columns: Mapping[str, str]
) -> tuple[pd.DataFrame, list[str]]:
    """The runs of which every needed value can be used, and sentences about the others."""
    sentences = []
    for name in [n for n in dict.fromkeys([*needed, *_OPTIONAL]) if n in trials]:
        called = columns.get(their_name(name), their_name(name))
        lacking = trials[name].isna()
        if name in needed and lacking.any():
            sentences.append(f"Runs left out because they have no {called}: {int(lacking.sum())}.")
            trials = trials[~lacking]
        trials, wrong = _converted(trials.copy(), name)
        if wrong.any():
            value = trials.loc[wrong, name].iloc[0]
            sentences.append(
                f"Runs left out because their {called} cannot be used ({value!r} for one): "
                f"{int(wrong.sum())}."
            )
            trials = trials[~wrong]
        if trials.empty:
            raise AnalysisError(
                f"source.columns.{name}={called}: no run is left. " + " ".join(sentences)
            )
        if name not in ("outcome", "seed"):
            trials[name] = labels(trials[name])
    return trials, sentences


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
