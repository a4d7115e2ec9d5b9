"""Steps to target of a cell: all seeds of one group, batch size and lr.

Seeds are averaged at common steps (mean of loss minus irreducible loss), the mean curve gets its
decreasing isotonic regression, and the target is crossed between the mean blocks on either side of
it. A first touch of the raw curve would come too early (in simulation with 8 seeds it lowers the
critical batch size by 6 to 10 %, more with fewer seeds).
Axes: n curves (one mean curve, or its bootstrap resamples), T evaluations, K targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.schema import CENSORED, DIVERGED, REACHED

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """The curves of all seeds of one group, batch size and lr.

    seeds [n_seeds]; steps [T] common evaluation steps; excess [n_seeds, T] loss minus irreducible
    loss, 0 beyond a seed's own end; lengths [n_seeds] how many of `steps` each seed has;
    last_step: the last step common to all seeds.
    """

    group: tuple[Any, ...]
    batch_size: int
    lr: float
    seeds: NDArray[np.int64]
    steps: Floats
    excess: Floats
    lengths: NDArray[np.int64]
    n_diverged: int
    last_step: int

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


def isotonic_crossing(
    steps: Floats, curves: Floats, levels: Sequence[float], lengths: NDArray | None = None
) -> Floats:
    """Steps [n, K] at which the decreasing isotonic regression of each curve crosses each level.

    steps [T] increasing; curves [n, T]; levels [K]; lengths [n]: only the first lengths[i] values
    of curve i count. NaN (censored): no block at or below the level before the window's end.

    The fit is never computed. With prefix sums P_k = sum_{i<k} y_i, the points fitted above c are
    the first k* = argmax_k (P_k - c k) (the first maximum); the block left of the crossing is the
    least mean of y[j..k*), the one to the right the greatest mean of y[k*..j). Between the blocks,
    each at the geometric mean of its steps, the crossing is linear in log-log. Source: the greatest
    convex minorant (min-max) formulas, Barlow et al. 1972; a test compares scipy's regression.
    """
    n, n_steps = curves.shape
    index = np.arange(n_steps + 1)
    ends = np.full(n, n_steps) if lengths is None else lengths
    sums = np.zeros((n, n_steps + 1))
    np.cumsum(curves, axis=1, out=sums[:, 1:])
    log_steps = np.log(np.maximum(steps, 1.0))
    crossings = np.full((n, len(levels)), np.nan)
    for k, level in enumerate(levels):
        height = sums - level * index
        height[index[None, :] > ends[:, None]] = -np.inf
        above = np.argmax(height, axis=1)
        crossings[(above == 0) & (ends > 0), k] = steps[0]  # at or below the level from the start
        inside = np.flatnonzero((above > 0) & (above < ends))
        if len(inside):
            crossings[inside, k] = _between_blocks(
                steps, log_steps, sums[inside], above[inside], ends[inside], level
            )
    return crossings


def read_cells(trials: pd.DataFrame, curves: pd.DataFrame, group_by: Sequence[str]) -> list[Cell]:
    """The cells of a study, in the order of group, batch size, lr.

    trials: the finished trials, unique in group, batch_size, lr and seed; curves: their evaluations
    (run_id, step, loss). Trials without any evaluation are taken as diverged at step 0.
    """
    ordered = curves.sort_values(["run_id", "step"], kind="stable")
    run_ids, starts = np.unique(ordered["run_id"].to_numpy(str), return_index=True)
    step = np.split(ordered["step"].to_numpy(np.int64), starts[1:])
    loss = np.split(ordered["loss"].to_numpy(np.float64), starts[1:])
    curve_of = {run_id: (step[i], loss[i]) for i, run_id in enumerate(run_ids)}
    keys = [*group_by, "batch_size", "lr"]
    return [
        _read_cell(key if isinstance(key, tuple) else (key,), rows, curve_of)
        for key, rows in trials.groupby(keys, dropna=False, sort=True)
    ]


def cell_frame(
    cells: Sequence[Cell],
    target_losses: Sequence[float],
    irreducible_loss: float,
    group_by: Sequence[str] = (),
) -> pd.DataFrame:
    """Steps to every target of every cell of one group, a row each, with its outcome.

    Columns: group_by.., target_loss, batch_size, lr, steps (NaN if not reached), outcome (reached,
    censored, diverged: any seed diverged), n_seeds, n_diverged, last_step (common to all seeds).
    """
    levels = [target - irreducible_loss for target in target_losses]
    rows = []
    for cell in cells:
        found = np.full(len(levels), np.nan)
        steps, mean = cell.mean_curve()
        if not cell.n_diverged and len(steps):
            found = isotonic_crossing(steps, mean[None, :], levels)[0]
        tail = (len(cell.seeds), cell.n_diverged, cell.last_step)
        for target, value in zip(target_losses, found, strict=True):
            outcome = DIVERGED if cell.n_diverged else CENSORED if np.isnan(value) else REACHED
            rows.append((*cell.group, target, cell.batch_size, cell.lr, value, outcome, *tail))
    return pd.DataFrame(rows, columns=[*group_by, *CELL_COLUMNS])


CELL_COLUMNS = [
    "target_loss", "batch_size", "lr", "steps", "outcome", "n_seeds", "n_diverged", "last_step"
]  # fmt: skip


def _read_cell(
    key: tuple[Any, ...], rows: pd.DataFrame, curve_of: Mapping[str, tuple[NDArray, Floats]]
) -> Cell:
    nothing = (np.empty(0, np.int64), np.empty(0))
    read = [curve_of.get(str(run_id), nothing) for run_id in rows["run_id"]]
    ends = np.array([steps[-1] if len(steps) else -1 for steps, _ in read])
    union = np.unique(np.concatenate([steps for steps, _ in read]))
    covered = union[None, :] <= ends[:, None]
    present = np.array([np.isin(union, steps) for steps, _ in read])
    common = (present | ~covered).all(axis=0)  # drops a last evaluation that is off the schedule
    shared, covered = union[common], covered[:, common]
    excess = np.zeros(covered.shape)
    for i, (steps, loss) in enumerate(read):
        own = loss[np.isin(steps, shared)]
        excess[i, covered[i]] = own - rows["irreducible_loss"].iloc[i]
    return Cell(
        group=key[:-2],
        batch_size=int(key[-2]),
        lr=float(key[-1]),
        seeds=rows["seed"].to_numpy(np.int64),
        steps=shared.astype(np.float64),
        excess=excess,
        lengths=covered.sum(axis=1),
        n_diverged=int((rows["outcome"] == DIVERGED).sum()),
        last_step=int(ends.min()),
    )


def _between_blocks(
    steps: Floats, log_steps: Floats, sums: Floats, above: NDArray, ends: NDArray, level: float
) -> Floats:
    """Log-log interpolation between the blocks that end and begin at index `above`. Shape [n]."""
    rows = np.arange(len(above))
    at_split = sums[rows, above]
    first, last = int(above.min()), int(above.max())
    index = np.arange(sums.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        left = (at_split[:, None] - sums[:, :last]) / (above[:, None] - index[None, :last])
        right = (sums[:, first + 1 :] - at_split[:, None]) / (index[first + 1 :] - above[:, None])
    left[index[None, :last] >= above[:, None]] = np.inf
    outside = (index[first + 1 :] <= above[:, None]) | (index[first + 1 :] > ends[:, None])
    right[outside] = -np.inf
    begin = np.argmin(left, axis=1)
    # the last of equal maxima: a block is as long as it can be
    end = sums.shape[1] - 1 - np.argmax(right[:, ::-1], axis=1)
    return _interpolate(
        _position(steps, log_steps, begin, above),
        left[rows, begin],
        _position(steps, log_steps, above, end),
        right[rows, end - first - 1],
        level,
    )


def _interpolate(
    step_before: Floats, before: Floats, step: Floats, after: Floats, level: float
) -> Floats:
    """scaling.target.interpolate_crossing for arrays [n]."""
    share = (before - level) / (before - after)
    if level > 0:
        positive = after > 0  # before > level > 0
        share[positive] = np.log(before[positive] / level) / np.log(
            before[positive] / after[positive]
        )
    crossing = step_before + share * (step - step_before)
    late = step_before > 0
    crossing[late] = step_before[late] * (step[late] / step_before[late]) ** share[late]
    return crossing


def _position(steps: Floats, log_steps: Floats, begin: NDArray, end: NDArray) -> Floats:
    """Geometric mean of steps[begin:end], without step 0 unless it is alone. Shape [n]."""
    sums = np.concatenate([[0.0], np.cumsum(log_steps)])
    first = np.where((steps[begin] == 0) & (end > begin + 1), begin + 1, begin)
    position = np.exp((sums[end] - sums[first]) / (end - first))
    return np.where(steps[first] == 0, 0.0, position)
