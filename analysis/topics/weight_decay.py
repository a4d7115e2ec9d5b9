"""L2 penalty against decoupled weight decay: how far apart their weights are along the run.

The penalty lambda~ |w|^2 (weight_decay of sgd, momentum, rmsprop, adam is 2 lambda~) and the decay
w <- (1 - lambda) w (weight_decay of sgdw, momentumw, rmspropw, adamw is lambda/lr) are compared
where lambda = 2 lr lambda~, that is at equal weight_decay, and under momentum mu also where
lambda = 2 lr lambda~/(1 - mu). Source: Loshchilov & Hutter 2019, arXiv:1711.05101, section 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.read.selection import question_params
from analysis.study import StudyResult

EQUAL, WITH_MOMENTUM = "2 lr λ~", "2 lr λ~/(1 - μ)"  # the decoupled lambda of a pair
PAIR = ["optimizer", "decay", "weight_decay", "batch_size", "lr", "seed"]
COLUMNS = [*PAIR, "step", "gap"]
_DECOUPLED = {"sgd": "sgdw", "momentum": "momentumw", "rmsprop": "rmspropw", "adam": "adamw"}
_NAME, _AMOUNT, _MU = "optimizer.name", "optimizer.weight_decay", "optimizer.momentum"


def weight_decay_gaps(result: StudyResult) -> pd.DataFrame:
    """COLUMNS: |w - w'| / max |w| at every common evaluation of a pair of trials.

    w has the penalty, w' decays apart; the pair is alike in every other param, batch size, lr and
    seed, and so in its batches; max over the run of w. weight_decay: of w. decay: EQUAL or
    WITH_MOMENTUM, the latter without momentum the same pair as the former. Only trials whose
    weights are recorded (weight_1, ..); no rows where there is no pair.
    """
    weights = [name for name in result.curves if str(name).startswith("weight_")]
    empty = pd.DataFrame(columns=COLUMNS)
    if not weights or not {_NAME, _AMOUNT} <= set(result.trials):
        return empty
    paths = {
        str(run): rows.set_index("step")[weights]
        for run, rows in result.curves.dropna(subset=weights).groupby("run_id")
    }
    same = [name for name in question_params(result.trials) if name not in (_NAME, _AMOUNT)]
    same = [name for name in same if result.trials[name].map(str).nunique() > 1]
    of_name = {str(name): rows for name, rows in result.trials.groupby(_NAME)}
    frames = []
    for name, other in _DECOUPLED.items():
        for _, one in of_name.get(name, result.trials.iloc[:0]).iterrows():
            partners = of_name.get(other, result.trials.iloc[:0])
            for key in ("batch_size", "lr", "seed", *same):
                partners = partners[partners[key].map(str) == str(one[key])]
            frames += _of_pairs(one, partners, paths)
    return pd.concat(frames, ignore_index=True) if frames else empty


def _of_pairs(
    one: pd.Series, partners: pd.DataFrame, paths: dict[str, pd.DataFrame]
) -> list[pd.DataFrame]:
    mu = one.get(_MU, np.nan)
    factors = {EQUAL: 1.0, WITH_MOMENTUM: 1.0 if pd.isna(mu) else 1 - float(mu)}
    frames = []
    for decay, factor in factors.items():
        fitting = np.isclose(partners[_AMOUNT].astype(float) * factor, one[_AMOUNT], rtol=1e-9)
        for _, other in partners[fitting].iterrows():
            if one["run_id"] in paths and other["run_id"] in paths and one[_AMOUNT] > 0:
                gap = _gap(paths[one["run_id"]], paths[other["run_id"]])
                values = (
                    one[_NAME],
                    decay,
                    one[_AMOUNT],
                    one["batch_size"],
                    one["lr"],
                    one["seed"],
                )
                pair: dict[str, Any] = dict(zip(PAIR, values, strict=True))
                frames.append(gap.assign(**pair)[COLUMNS])
    return frames


def _gap(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """step, gap of two paths [evaluations, D] by step."""
    steps = one.index.intersection(other.index)
    apart = np.linalg.norm(one.loc[steps].to_numpy() - other.loc[steps].to_numpy(), axis=1)
    longest = np.linalg.norm(one.to_numpy(), axis=1).max()
    return pd.DataFrame({"step": steps, "gap": apart / longest})
