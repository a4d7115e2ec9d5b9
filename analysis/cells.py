"""Cells of a study: all seeds of one group, batch size and lr, and their steps to target.

Seeds are averaged at common steps (mean of loss minus irreducible loss), the mean curve gets its
decreasing isotonic regression, and the target is crossed between the mean blocks on either side of
it. A first touch of the raw curve would come too early (in simulation with 8 seeds it lowers the
critical batch size by 6 to 10 %, more with fewer seeds).

Only lrs with the seeds of their batch size are compared: see `compared`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.crossings import interpolate_loss, isotonic_crossing
from scaling.schema import CENSORED, DIVERGED, REACHED

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """The curves of all seeds of one group, batch size, lr and `tuned` (what else was tuned).

    seeds [n_seeds]; steps [T] common evaluation steps; excess [n_seeds, T] loss minus irreducible
    loss, 0 beyond a seed's own end; lengths [n_seeds] how many of `steps` each seed has;
    last_step: the last step common to all seeds; evaluated [n_seeds, T]: where a value of `excess`
    was measured, not interpolated (None: everywhere).
    """

    group: tuple[Any, ...]
    batch_size: int
    lr: float
    seeds: NDArray[np.int64]
    steps: Floats
    excess: Floats
    lengths: NDArray[np.int64]
    n_diverged: int
    last_step: float
    tuned: tuple[Any, ...] = ()
    evaluated: NDArray[np.bool_] | None = None

    def mean_curve(self) -> tuple[Floats, Floats]:
        """Steps [T'] and seed-mean excess loss [T'] of the window common to all seeds."""
        window = int(self.lengths.min())
        return self.steps[:window], self.excess[:, :window].mean(axis=0)

    def resample(self, counts: NDArray) -> tuple[Floats, NDArray]:
        """Weighted mean curves [n, T] and their window lengths [n].

        counts [n, n_seeds]: how often each seed stands in each resample. A resample's window is
        common to the seeds in it; a resample without any seed of this cell has length 0.
        """
        total = counts.sum(axis=1)
        weights = counts / np.maximum(total, 1)[:, None]
        longest = self.excess.shape[1]
        lengths = np.where(counts > 0, self.lengths[None, :], longest).min(axis=1)
        return weights @ self.excess, np.where(total > 0, lengths, 0)


def compared(cells: Sequence[Cell]) -> list[Cell]:
    """Those that may be the best of their batch size: with more than half of the most seeds there.

    The least over many lrs of which some have one seed is a lucky seed's: a search tries most lrs
    with few seeds, and only the best and their neighbours with all of them.
    """
    most: dict[int, int] = {}
    for cell in cells:
        most[cell.batch_size] = max(most.get(cell.batch_size, 0), len(cell.seeds))
    return [cell for cell in cells if 2 * len(cell.seeds) > most[cell.batch_size]]


def mark_compared(cells: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The frame of cells with the column `compared`; keys: group, target and batch size."""
    most = cells.groupby(list(keys), dropna=False)["n_seeds"].transform("max")
    return cells.assign(compared=2 * cells["n_seeds"] > most)


def read_cells(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    group_by: Sequence[str],
    tuned: Sequence[str] = ("lr",),
) -> list[Cell]:
    """The cells of a study, in the order of group, batch size, lr, then the other tuned columns.

    trials: the finished trials, unique in group, batch_size, tuned columns and seed; curves: their
    evaluations (run_id, step, loss). Trials without any evaluation are taken as diverged at step 0.
    """
    ordered = curves.sort_values(["run_id", "step"], kind="stable")
    run_ids, starts = np.unique(ordered["run_id"].to_numpy(str), return_index=True)
    step = np.split(ordered["step"].to_numpy(np.float64), starts[1:])
    loss = np.split(ordered["loss"].to_numpy(np.float64), starts[1:])
    curve_of = {run_id: (step[i], loss[i]) for i, run_id in enumerate(run_ids)}
    others = [name for name in tuned if name != "lr"]
    keys = [*group_by, "batch_size", "lr", *others]
    return [
        _read_cell(key if isinstance(key, tuple) else (key,), len(group_by), rows, curve_of)
        for key, rows in trials.groupby(keys, dropna=False, sort=True)
    ]


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
    see this module. Returns the columns of cell_frame.

    >>> from analysis.sources.curves import tidy_curves
    >>> frame = pd.DataFrame({"batch_size": 8, "lr": 0.1, "step": [1, 2, 4], "loss": [8.0, 4, 2]})
    >>> cells = steps_to_target(*tidy_curves(frame), targets=[3.0, 1.0])
    >>> cells[["target_loss", "steps", "outcome", "steps_lower", "steps_upper"]].round(2)
       target_loss  steps   outcome  steps_lower  steps_upper
    0          3.0   2.67   reached          2.0          4.0
    1          1.0    NaN  censored          4.0          NaN
    """
    by_group: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in read_cells(trials, curves, group_by, tuned):
        by_group.setdefault(cell.group, []).append(cell)
    floors = trials.groupby(list(group_by), dropna=False)["irreducible_loss"] if group_by else None
    frames = []
    for group, cells in by_group.items():
        own = trials["irreducible_loss"] if floors is None else floors.get_group(group)
        floor = float(own.fillna(0.0).iloc[0])
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
    reached), outcome (reached, censored, diverged: any seed diverged), n_seeds, n_diverged,
    last_step (common to all seeds), steps_lower and steps_upper: the evaluations around the
    crossing, which lies in (steps_lower, steps_upper]; a censored one lies beyond steps_lower
    = last_step, with no upper bound (NaN); compared: whether it may be the best of its batch size.
    """
    levels = [target - irreducible_loss for target in target_losses]
    others = [name for name in tuned if name != "lr"]
    rows = []
    for cell in cells:
        found = np.full(len(levels), np.nan)
        steps, mean = cell.mean_curve()
        if not cell.n_diverged and len(steps):
            found = isotonic_crossing(steps, mean[None, :], levels)[0]
        tail = (len(cell.seeds), cell.n_diverged, cell.last_step)
        for target, value in zip(target_losses, found, strict=True):
            outcome = DIVERGED if cell.n_diverged else CENSORED if np.isnan(value) else REACHED
            place = (*cell.group, target, cell.batch_size, cell.lr, *cell.tuned)
            rows.append((*place, value, outcome, *tail, *_bounds(cell, value)))
    columns = [*CELL_COLUMNS[:3], *others, *CELL_COLUMNS[3:-1]]
    frame = pd.DataFrame(rows, columns=[*group_by, *columns])
    return mark_compared(frame, [*group_by, "target_loss", "batch_size"])


CELL_COLUMNS = [
    "target_loss", "batch_size", "lr", "steps", "outcome", "n_seeds", "n_diverged", "last_step",
    "steps_lower", "steps_upper", "compared",
]  # fmt: skip


def _bounds(cell: Cell, crossing: float) -> tuple[float, float]:
    """The evaluations around a crossing: every seed has one in (lower, crossing, upper]."""
    if cell.n_diverged or not len(cell.steps):
        return np.nan, np.nan
    if np.isnan(crossing):
        return float(cell.last_step), np.nan
    window = int(cell.lengths.min())
    steps = cell.steps[:window]
    own = np.ones((1, window), bool) if cell.evaluated is None else cell.evaluated[:, :window]
    # a crossing read off an evaluation may differ from it in the last bits
    before = steps < crossing * (1 - 1e-12)
    lower = np.where(own & before, steps, 0.0).max(axis=1).min()
    upper = np.where(own & ~before, steps, np.inf).min(axis=1).max()
    return float(lower), float(upper if np.isfinite(upper) else steps[-1])


def _read_cell(
    key: tuple[Any, ...],
    n_group: int,
    rows: pd.DataFrame,
    curve_of: Mapping[str, tuple[Floats, Floats]],
) -> Cell:
    nothing = (np.empty(0), np.empty(0))
    read = [curve_of.get(str(run_id), nothing) for run_id in rows["run_id"]]
    floors = rows["irreducible_loss"].fillna(0.0).to_numpy(float)
    read = [(steps, loss - floor) for (steps, loss), floor in zip(read, floors, strict=True)]
    ends = np.array([steps[-1] if len(steps) else -1.0 for steps, _ in read])
    shared, excess, covered, evaluated = _at_common_steps(read, ends)
    last = float(ends.min())
    return Cell(
        group=key[:n_group],
        batch_size=int(key[n_group]),
        lr=float(key[n_group + 1]),
        seeds=rows["seed"].to_numpy(np.int64),
        steps=shared,
        excess=excess,
        lengths=covered.sum(axis=1),
        n_diverged=int((rows["outcome"] == DIVERGED).sum()),
        last_step=int(last) if last.is_integer() else last,
        tuned=key[n_group + 2 :],
        evaluated=evaluated,
    )


def _at_common_steps(
    read: Sequence[tuple[Floats, Floats]], ends: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Steps [T], excess [n_seeds, T], where each seed covers them, and where it was evaluated.

    Seeds evaluated at the same steps (apart from a last evaluation off their schedule, which is
    dropped) are taken as they are; else each is interpolated onto the steps of all.
    """
    union = np.unique(np.concatenate([steps for steps, _ in read]))
    first = max((steps[0] for steps, _ in read if len(steps)), default=0.0)
    union = union[union >= first]
    covered = union[None, :] <= ends[:, None]
    present = np.array([np.isin(union, steps) for steps, _ in read])
    common = (present | ~covered).all(axis=0)
    if np.isin(union[~common], ends).all():
        shared, covered = union[common], covered[:, common]
        excess = np.zeros(covered.shape)
        for i, (steps, loss) in enumerate(read):
            excess[i, covered[i]] = loss[np.isin(steps, shared)]
        return shared, excess, covered, None
    excess = np.zeros(covered.shape)
    for i, (steps, loss) in enumerate(read):
        if len(steps):
            excess[i, covered[i]] = interpolate_loss(steps, loss, union[covered[i]])
    return union, excess, covered, present
