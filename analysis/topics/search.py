"""What a search for the frontier tried, round by round."""

from __future__ import annotations

import pandas as pd

from analysis.study import StudyResult
from scaling.schema import DIVERGED, ROUND

SEARCH_COLUMNS = ["batch_size", "lr", ROUND, "n_seeds", "n_diverged", "last_step"]


def search_frame(result: StudyResult) -> pd.DataFrame:
    """A row a group, batch size and lr: the round that asked for it first, and what it got.

    Columns: group.., SEARCH_COLUMNS (last_step: of its longest trial). No rows where no trial has a
    round: the grid was given.
    """
    trials, keys = result.trials, [*result.group_by, "batch_size", "lr"]
    if ROUND not in trials or trials[ROUND].isna().all():
        return pd.DataFrame(columns=pd.Index([*result.group_by, *SEARCH_COLUMNS]))
    frame = trials.groupby(keys, dropna=False, as_index=False).agg(
        round=(ROUND, "min"), n_seeds=("seed", "nunique"), last_step=("last_step", "max"),
        n_diverged=("outcome", lambda of: int((of == DIVERGED).sum())),
    )  # fmt: skip
    return frame.astype({ROUND: "Int64"})[[*result.group_by, *SEARCH_COLUMNS]]
