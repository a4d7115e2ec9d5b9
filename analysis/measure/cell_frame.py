"""The cells of a study as a frame: steps to every target, with bounds and outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.measure.cells import Cell, mean_of_crossings, read_cells, read_one_by_one
from scaling.curves import Crossings
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED, REACHED

Floats = NDArray[np.float64]

CELL_COLUMNS = [
    "target_loss", "batch_size", "lr", "steps", "outcome", "n_seeds", "n_diverged", "last_step",
    "steps_lower", "steps_upper", "compared",
]  # fmt: skip


def steps_to_target(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    targets: Sequence[float],
    *,
    group_by: Sequence[str] = (),
    tuned: Sequence[str] = ("lr",),
) -> pd.DataFrame:
    """Steps to every target of every batch size and setting, with bounds and outcome, a row each.

    trials: run_id, batch_size (examples), lr, seed, outcome (diverged, or else), irreducible_loss
    (NaN: not known, losses are read as they stand); curves: run_id, step (optimizer updates),
    loss (held-out); as analysis.read_curves_csv gives both. targets: losses. Seeds are averaged:
    see analysis.measure.cells. Returns the columns of cell_frame.

    >>> from analysis.read.curves import tidy_curves
    >>> frame = pd.DataFrame({"batch_size": 8, "lr": 0.1, "step": [1, 2, 4], "loss": [8.0, 4, 2]})
    >>> cells = steps_to_target(*tidy_curves(frame), targets=[3.0, 1.0])
    >>> cells[["target_loss", "steps", "outcome", "steps_lower", "steps_upper"]].round(2)
       target_loss  steps   outcome  steps_lower  steps_upper
    0          3.0   2.67   reached         2.67         2.67
    1          1.0    NaN  censored         4.00          NaN
    """
    by_group: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in read_cells(trials, curves, group_by, tuned):
        by_group.setdefault(cell.group, []).append(cell)
    floors = trials.groupby(list(group_by), dropna=False)["irreducible_loss"] if group_by else None
    frames = []
    for group, cells in by_group.items():
        recorded = trials["irreducible_loss"] if floors is None else floors.get_group(group)
        floor = float(recorded.fillna(0.0).iloc[0])
        frames.append(cell_frame(cells, targets, floor, group_by, tuned))
    return pd.concat(frames, ignore_index=True)


def cell_frame(
    cells: Sequence[Cell],
    target_losses: Sequence[float],
    irreducible_loss: float,
    group_by: Sequence[str] = (),
    tuned: Sequence[str] = ("lr",),
) -> pd.DataFrame:
    """Steps to every target of every cell of one group, a row each, with its outcome.

    Columns: group_by.., target_loss, batch_size, lr and the other tuned columns, steps (NaN if not
    reached), outcome (reached, censored, left_censored: met at or before the first evaluation,
    diverged: any seed diverged), n_seeds, n_diverged, last_step (common to all seeds), steps_lower
    and steps_upper: how far interpolation between evaluations may be off; of a censored one where
    its curve ended and NaN, of a left-censored one NaN and its first evaluation; compared: whether
    it may be the best of its batch size.
    """
    levels = [target - irreducible_loss for target in target_losses]
    one_by_one = [read_one_by_one(cells, level) for level in levels]
    others = [name for name in tuned if name != "lr"]
    rows = []
    for cell in cells:
        crossings = _crossings_of(cell, levels, one_by_one)
        seeds = (len(cell.seeds), cell.n_diverged, cell.last_step)
        for k, target in enumerate(target_losses):
            steps, lower, upper = (float(part[k]) for part in crossings)
            place = (*cell.group, target, cell.batch_size, cell.lr, *cell.tuned)
            rows.append((*place, steps, _outcome(cell, steps, upper), *seeds, lower, upper))
    columns = [*CELL_COLUMNS[:3], *others, *CELL_COLUMNS[3:-1]]
    frame = pd.DataFrame(rows, columns=[*group_by, *columns])
    return mark_compared(frame, [*group_by, "target_loss", "batch_size"])


def mark_compared(cells: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The frame of cells with the column `compared`; keys: group, target and batch size."""
    most = cells.groupby(list(keys), dropna=False)["n_seeds"].transform("max")
    return cells.assign(compared=2 * cells["n_seeds"] > most)


def _crossings_of(
    cell: Cell, levels: Sequence[float], one_by_one: Sequence[bool]
) -> tuple[Floats, Floats, Floats]:
    """Steps and bounds [K] of one cell; all NaN where a seed diverged or nothing was evaluated."""
    steps, lower, upper = (np.full(len(levels), np.nan) for _ in range(3))
    if cell.n_diverged or not len(cell.steps):
        return steps, lower, upper
    crossings = cell.crossings(levels)
    if any(one_by_one):
        of_seeds = cell.own_crossings(levels)
        for k in np.flatnonzero(one_by_one):
            of_level = Crossings(*(part[:, k] for part in of_seeds))
            mean = mean_of_crossings(of_level, np.ones((1, len(cell.seeds))))
            for part, value in zip(crossings, mean, strict=True):
                part[k] = value[0]
    return crossings


def _outcome(cell: Cell, steps: float, upper: float) -> str:
    if cell.n_diverged:
        return DIVERGED
    if not np.isnan(steps):
        return REACHED
    return CENSORED if np.isnan(upper) else LEFT_CENSORED
