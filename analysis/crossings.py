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
    = last_step, with no upper bound (NaN).
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
    columns = [*CELL_COLUMNS[:3], *others, *CELL_COLUMNS[3:]]
    return pd.DataFrame(rows, columns=[*group_by, *columns])


CELL_COLUMNS = [
    "target_loss", "batch_size", "lr", "steps", "outcome", "n_seeds", "n_diverged", "last_step",
    "steps_lower", "steps_upper",
]  # fmt: skip


def interpolate_loss(steps: Floats, loss: Floats, at: Floats) -> Floats:
    """A curve [T] at other steps within its range, log-log; linear where a logarithm lacks."""
    plain = np.interp(at, steps, loss)
    known = (steps > 0) & (loss > 0)
    if known.sum() < 2:
        return plain
    logs = np.exp(
        np.interp(np.log(np.maximum(at, 1e-300)), np.log(steps[known]), np.log(loss[known]))
    )
    after = np.clip(np.searchsorted(steps, at, side="left"), 1, len(steps) - 1)
    between_known = known[after] & known[after - 1]
    found = np.where(between_known, logs, plain)
    same = np.isin(at, steps)  # what was measured stands to the last bit
    found[same] = loss[np.searchsorted(steps, at[same])]
    return found


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
