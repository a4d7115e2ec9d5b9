"""Where a constant learning rate settles on a stream by theory, up to the stability limit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.study import StudyResult
from analysis.theory.trials import Streaming, theory_of

_POINTS, _SPAN = 60, 1e3  # lrs of a batch size: from 1/_SPAN of the limit to as near below it


def noise_floor_frame(result: StudyResult) -> pd.DataFrame:
    """group.., batch_size, lr, noise_floor (excess loss) of every stream with an exact theory.

    No rows for streams without label noise: they have no floor.
    """
    shares = 1 / (1 + np.geomspace(_SPAN, 1 / _SPAN, _POINTS))
    rows = []
    keys = [*result.group_by, "batch_size"]
    for group, trials in _groups(result):
        theory = theory_of(trials)
        if not isinstance(theory, Streaming) or not theory.problem.label_noise:
            continue
        for size in sorted(trials["batch_size"].unique()):
            limit = theory.stable_lr(int(size))
            rows += [
                group | {"batch_size": size, "lr": lr, "noise_floor": theory.floor(int(size), lr)}
                for lr in (limit * shares).tolist()
            ]
    return pd.DataFrame(rows, columns=[*keys, "lr", "noise_floor"])


def _groups(result: StudyResult):
    known = result.trials if len(result.stability) else result.trials.iloc[:0]
    if not result.group_by:
        return [({}, known)] if len(known) else []
    return [
        (dict(zip(result.group_by, key, strict=True)), rows)
        for key, rows in known.groupby(result.group_by, sort=False)
    ]
