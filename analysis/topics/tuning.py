"""What was spent on each batch size? Trials, learning rates, seeds, steps and seconds."""

from __future__ import annotations

import pandas as pd

from analysis.study import Study
from analysis.topics.topic import Topic
from scaling.schema import DIVERGED


def tuning_budget(study: Study) -> pd.DataFrame:
    """What was spent on each batch size, a row a group and batch size.

    Columns: group.., batch_size, n_lrs, n_seeds, n_trials, n_diverged, steps and examples (sums
    over the trials), seconds (of training, where every trial has them). The least of more trials
    is lower: each batch size should have the same number. No rows where trials are not known.
    """
    trials = study.trials
    columns = [*study.group_by, "batch_size", "n_lrs", "n_seeds", "n_trials", "n_diverged"]
    columns += ["steps", "examples", "seconds"]
    if trials.empty or not {"batch_size", "last_step", "outcome"} <= set(trials):
        return pd.DataFrame(columns=columns)
    known = trials.assign(
        **{name: None for name in ("lr", "seed", "seconds") if name not in trials}
    )
    spent = known.groupby([*study.group_by, "batch_size"], as_index=False, dropna=False).agg(
        n_lrs=("lr", "nunique"), n_seeds=("seed", "nunique"), n_trials=("outcome", "size"),
        n_diverged=("outcome", lambda of: int((of == DIVERGED).sum())), steps=("last_step", "sum"),
        seconds=("seconds", lambda of: pd.to_numeric(of).sum(skipna=False)),
    )  # fmt: skip
    spent["examples"] = spent["steps"] * spent["batch_size"]
    return spent[columns]


TOPIC = Topic("tuning", frames=lambda study, _: {"tuning_budget": tuning_budget(study)})
