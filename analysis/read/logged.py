"""Logged points of metrics as curves, without those that a run gave up when it was resumed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.read.stores import StoredRuns


def abandoned(run: ArrayLike, order: ArrayLike, step: ArrayLike) -> NDArray[np.bool_]:
    """Which points were given up: a later point of their run lies at an earlier step, or theirs.

    run, order (of logging: a time), step: a value a point, in any order. A run was resumed where,
    in its order, the step falls back to one within what it has logged and then goes on from there:
    points above it and logged before are given up. A single point that falls back is a value
    measured again, and steps below the first one logged were logged out of order: nothing is given
    up for these. Points of one time are taken by increasing step.

    >>> step = [10, 20, 30, 40, 20, 30]
    >>> abandoned([0] * 6, range(6), step).tolist()
    [False, True, True, True, False, False]
    """
    run, order, step = np.asarray(run), np.asarray(order), np.asarray(step, float)
    gone = np.zeros(len(step), dtype=bool)
    for places in pd.Series(range(len(run))).groupby(run).indices.values():
        index = np.asarray(places)
        logged = index[np.lexsort((step[index], order[index]))]
        steps = step[logged]
        back = np.flatnonzero(np.diff(steps) <= 0) + 1
        least = np.minimum.accumulate(steps)
        for start, end in pairwise([*back, len(steps)]):
            if end - start > 1 and steps[start] >= least[start - 1]:
                gone[logged[:start][steps[:start] >= steps[start]]] = True
    return gone


def without_abandoned(
    metrics: Mapping[str, pd.DataFrame], loss: str
) -> tuple[dict[str, pd.DataFrame], int]:
    """The points of all metrics without those that were given up; how many were of `loss`.

    metrics: as StoredRuns has them. A point of a step that was logged again is no loss: the newest
    one counts there anyway.
    """
    kept, n_lost = {}, 0
    for name, points in metrics.items():
        gone = abandoned(points["run"], points["timestamp"], points["step"])
        kept[name] = points[~gone]
        if name == loss and gone.any():
            places = [set(zip(of["run"], of["step"], strict=True)) for of in (points, kept[name])]
            n_lost = len(places[0] - places[1])
    return kept, n_lost


def read_curves(stored: StoredRuns, finite: bool = True) -> pd.DataFrame:
    """run_id, step and a column a metric, a row a (run, step), sorted by both.

    A point written twice (a resumed run): the newest one counts. What is not finite is left out,
    or infinite with finite=False. Columns of metrics without any point are left out but for the
    first two (loss, train_loss).
    """
    columns, keys = {}, []
    step_range = 1 + max(
        (int(p["step"].max()) for p in stored.metrics.values() if len(p)), default=0
    )
    for index, (name, points) in enumerate(stored.metrics.items()):
        if not len(points) and index > 1:
            continue
        value = points["value"].to_numpy()
        # an infinity stands in MLflow's databases as the largest double
        sound = np.abs(value) < np.finfo(np.float64).max
        value = value if finite else np.where(sound, value, np.inf)
        key = points["run"].to_numpy() * step_range + points["step"].to_numpy()
        if finite:
            points, key, value = points[sound], key[sound], value[sound]
        order = np.lexsort((points["timestamp"].to_numpy(), key))
        key, value = key[order], value[order]
        newest = np.append(key[1:] != key[:-1], True)[: len(key)]
        keys.append(key[newest])
        columns[name] = pd.Series(value[newest], keys[-1])
    union = np.sort(np.concatenate([np.empty(0, np.int64), *keys]), kind="stable")
    union = union[np.append(union[1:] != union[:-1], True)[: len(union)]]
    run_ids = stored.runs["run_id"].to_numpy(object)
    frame = {name: column.reindex(union).to_numpy() for name, column in columns.items()}
    place = {"run_id": run_ids[union // step_range], "step": union % step_range}
    return pd.DataFrame({**place, **frame})
