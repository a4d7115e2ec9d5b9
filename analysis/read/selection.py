"""Which trials a study's statistics stand on, how they fall into groups, and at which targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import OPTIMIZER_PATH, prefixed, their_name
from analysis.read.names import their_columns
from scaling.schema import DIVERGED

NONE = "none"  # the value of a param in groups whose trials do not have it
# Columns of trials that do not belong to the question: identity, results, and how it was run.
_NOT_A_GROUP = {
    "run_id", "trial_id", "study", "sweep", "status", "outcome", "last_step", "batch_size", "lr",
    "seed", "irreducible_loss", "initial_loss", "targets", "seconds", "tail_factor", "device",
    "step_seconds", "flops_per_example", "round", "steps", "examples", "loss", "rule",
}  # fmt: skip
_NOT_A_GROUP_PREFIX = (
    "study", "budget", "tracking", "evaluation", "noise_scale", "relative_targets",
    "divergence_factor", "hydra",
)  # fmt: skip
_STILL_A_GROUP = ("evaluation.average", "evaluation.average_half_life_examples")


def varying_params(trials: pd.DataFrame) -> list[str]:
    """Params that vary besides batch_size, lr and seed, without those that only repeat another.

    `*.name` first, then other dotted params, then derived ones (model_size): of params that always
    change together (task.dimension and model_size) the first is kept.
    """
    candidates = [name for name in question_params(trials) if trials[name].map(str).nunique() > 1]
    candidates.sort(key=lambda name: (not name.endswith(".name"), "." not in name))
    kept = splitting(trials, candidates)
    if "optimizer.name" in kept and OPTIMIZER_PATH in set(candidates) - set(kept):
        # "custom" alone says too little
        kept.insert(kept.index("optimizer.name") + 1, OPTIMIZER_PATH)
    return kept


def splitting(trials: pd.DataFrame, candidates: Sequence[str]) -> list[str]:
    """Those of the candidates, in their order, that split the trials further than the ones before.

    >>> frame = pd.DataFrame({"width": [1, 1, 2], "n_params": [10, 10, 20], "task": list("aba")})
    >>> splitting(frame, ["width", "n_params", "task"])
    ['width', 'task']
    """
    kept: list[str] = []
    n_groups = 1
    for name in candidates:
        finer = len(trials[[*kept, name]].astype(str).drop_duplicates())
        if finer > n_groups:
            kept, n_groups = [*kept, name], finer
    return kept


def group_columns_of(
    trials: pd.DataFrame, used: pd.DataFrame, tuned: Sequence[str] = ("lr",)
) -> list[str]:
    """What tells the used trials apart: as their source says, else the params that vary."""
    names = trials.attrs.get("group_by")
    if names is None:
        names = varying_params(used.drop(columns=[n for n in tuned if n in used and n != "lr"]))
    return [name for name in names if name not in tuned]


def floor_of(trials: pd.DataFrame) -> float:
    """The irreducible loss of a group; 0 where it is not known."""
    floor = float(trials["irreducible_loss"].iloc[0])
    return 0.0 if math.isnan(floor) else floor


def question_params(trials: pd.DataFrame) -> list[str]:
    """Columns that say what was trained, not which trial of it, how it was run or what came out."""
    return [
        name
        for name in trials.columns
        if name in _STILL_A_GROUP
        or (name not in _NOT_A_GROUP and name.split(".")[0] not in _NOT_A_GROUP_PREFIX)
    ]


def finished_trials(trials: pd.DataFrame, warnings: list[str]) -> pd.DataFrame:
    """The finished trials; an AnalysisError if there are none or all of them diverged."""
    finished = trials[trials["status"] == "FINISHED"]
    states = ", ".join(f"{n} {str(s).lower()}" for s, n in trials["status"].value_counts().items())
    if finished.empty:
        raise AnalysisError(
            f"no finished trials (status: {states or 'there are none'}); "
            "wait for them or run the sweep first"
        )
    if (finished["outcome"] == DIVERGED).all():
        raise AnalysisError(
            f"all {len(finished)} finished trials diverged; sweep smaller values of lr"
        )
    if len(finished) < len(trials):
        warnings.append(f"Only finished trials are used; the store has {states}.")
    return finished


def named_groups(trials: pd.DataFrame, group_by: Sequence[str]) -> pd.DataFrame:
    """The same trials; a param of group_by that some do not have is NONE in these."""
    trials = trials.copy()
    for name in group_by:
        if trials[name].isna().any():
            trials[name] = trials[name].astype(object).where(trials[name].notna(), NONE)
    return trials


def one_trial_per_seed(
    trials: pd.DataFrame,
    group_by: list[str],
    warnings: list[str],
    tuned: Sequence[str] = ("lr",),
) -> pd.DataFrame:
    """The longest trial of each group, batch size, tuned values and seed.

    A param that some trials do not have is "none" in them. Raises AnalysisError if trials of equal
    batch size, lr and seed differ in another param, or group_by names an unknown one.
    """
    always = [name for name in group_by if name in _NOT_A_GROUP]
    if always:
        raise AnalysisError(f"group_by: {always[0]} cannot split trials into groups; name a param")
    missing = [name for name in group_by if name not in trials]
    if missing:
        known = _named_params(trials)
        raise AnalysisError(f"group_by: no param named {missing[0]}; there are {known}")
    unknown = [name for name in tuned if name not in trials]
    if unknown:
        known = _named_params(trials)
        raise AnalysisError(f"tuned: no param named {unknown[0]}; there are lr, {known}")
    if "batch_size" in tuned or set(tuned) & set(group_by):
        raise AnalysisError("tuned: must not contain batch_size or a param of group_by")
    trials = named_groups(trials, group_by)
    keys = list(dict.fromkeys([*group_by, "batch_size", "lr", *tuned, "seed"]))
    repeated = trials[trials.duplicated(keys, keep=False)]
    if "group_by" in trials.attrs:  # of a foreign source: it says what else may differ
        repeated = repeated.iloc[:0]
    for _, rows in repeated.groupby(keys):
        differing = varying_params(rows)
        if differing:
            raise AnalysisError(
                "group_by: trials of equal batch_size, lr and seed differ in "
                f"{their_name(differing[0])}; add it to group_by, or read fewer sweeps"
            )
    longest = trials.sort_values("last_step", ascending=False, kind="stable").drop_duplicates(keys)
    if len(longest) < len(trials):
        warnings.append(
            f"{len(trials) - len(longest)} trials repeat another one's batch size, lr and seed; "
            "the longest of each is used."
        )
    return longest.sort_index()


def _named_params(trials: pd.DataFrame) -> str:
    """What group_by and tuned can name, as its project calls it."""
    names = their_columns(trials) or set(trials.columns) - _NOT_A_GROUP
    return ", ".join(sorted({their_name(str(name)) for name in names}))


def targets_of(
    trials: pd.DataFrame, wanted: Sequence[float] | None, group: dict[str, Any]
) -> list[float]:
    """Target losses of one group, largest first: those wanted, else all that were recorded."""
    recorded = [target for targets in trials["targets"] for target in targets]
    targets = sorted({float(t) for t in (recorded if wanted is None else wanted)}, reverse=True)
    low, high = float(trials["irreducible_loss"].iloc[0]), float(trials["initial_loss"].iloc[0])
    low, high = -math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high
    if not targets:
        raise AnalysisError(prefixed(group, "targets: none are known; give targets=[..]"))
    bounds = [f"above the irreducible loss {low:g}"] if low > -math.inf else []
    bounds += [f"below the initial loss {high:g}"] if high < math.inf else []
    for target in targets:
        if not low < target < high:
            text = f"targets: {target:g} must lie {' and '.join(bounds)}"
            raise AnalysisError(prefixed(group, text))
    return targets
