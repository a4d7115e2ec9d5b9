"""The exact frontier S(B) of streaming linear regression, from the recursions of
analysis.theory.streaming.

Exact curves are read as measured ones are: at the steps at which trials are evaluated, over a
window of tail_factor times the first touch of the target, by the log-log crossing of their
decreasing isotonic regression (curves.isotonic_crossing). A curve that only falls crosses where
it first touches the target, but for the interpolation between evaluations. Under momentum the
expected loss oscillates at large batch sizes, and the first touch comes earlier than the crossing.
Axes: C contenders (pairs of batch size and lr), K targets, T evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.theory.streaming import Floats, Recursion, largest_stable_lr, recursion
from scaling.curves import isotonic_crossing
from scaling.problem import RegressionProblem

COLUMNS = ["target_loss", "batch_size", "lr_choice", "steps", "lr"]

_EXPLODED = 1e3  # times the initial risk: a second moment that far up never returns in time
_FIRST_ROUND, _LATER_ROUND, _N_LATER = 41, 9, 2  # lrs per round of the continuous search
_NEAR = 1.15  # the second round covers the lrs with at most so many times the fewest steps ...
_SECOND_ROUND_STEPS, _MOST_LRS = 40_000, 800  # ... in about so many steps a pair
_LR_RANGE = 128.0  # the best lr is never this far below the lr whose noise floor is the target
_ABOVE_FLOOR = 1.25  # ... nor this far above it (a few steps can precede the instability)


@dataclass(frozen=True)
class CurveReading:
    """How trials are read, and so theory. evaluated: the steps at which their curves are known
    (None: every step); tail_factor: a curve goes on to so many times its first touch of a target.
    """

    evaluated: ArrayLike | None = None
    tail_factor: float = 2.0

    def steps(self, max_steps: int) -> NDArray[np.int64]:
        """0 and the evaluations up to max_steps; the schedule goes on as it last grew.

        >>> CurveReading([1, 2, 4]).steps(20).tolist()
        [0, 1, 2, 4, 8, 16]
        """
        if self.evaluated is None:
            return np.arange(max_steps + 1)
        steps = np.union1d([0], np.asarray(self.evaluated, np.int64))
        late = steps[steps > 0][-4:]  # the very last one may be off the schedule, at a budget's end
        growth = float((late[1:] / late[:-1]).max(initial=1.0))
        later = [int(steps[-1])]
        while later[-1] < max_steps:
            later.append(max(later[-1] + 1, int(later[-1] * growth)))
        steps = np.concatenate([steps, np.array(later[1:], np.int64)])
        return steps[steps <= max_steps]


EVERY_STEP = CurveReading()


def exact_steps(
    problem: RegressionProblem,
    batch_size: ArrayLike,
    lr: ArrayLike,
    target_losses: Sequence[float],
    max_steps: int,
    momentum: float = 0.0,
    read_as: CurveReading = EVERY_STEP,
) -> Floats:
    """Steps at which the exact risk crosses each target, read as a trial's curve is.

    batch_size and lr are broadcast to [C] contenders; returns [C, K], NaN where the target is not
    crossed within max_steps or the risk explodes within the window. Units: optimizer steps.
    """
    batch_sizes, lrs = np.broadcast_arrays(np.atleast_1d(batch_size), np.atleast_1d(lr))
    race = _Race(problem, momentum, read_as.steps(max_steps), read_as.tail_factor)
    targets = np.tile(np.asarray(target_losses, float), (len(lrs), 1))
    return race.run(batch_sizes.astype(float), lrs.astype(float), targets, np.arange(len(lrs)))


def same_grid_frontier(
    problem: RegressionProblem,
    lrs_tried: Mapping[int, Sequence[float] | Floats],
    target_losses: Sequence[float],
    max_steps: int,
    momentum: float = 0.0,
    read_as: CurveReading = EVERY_STEP,
) -> pd.DataFrame:
    """Exact S(B) minimised over the lrs that were tried at each batch size.

    lrs_tried: batch size -> lrs; the others as of exact_steps. Returns target_loss, batch_size,
    lr_choice ("same_grid"), steps, lr, a row per target and batch size; both NaN where no lr
    reaches the target in max_steps.
    """
    sizes = np.concatenate([np.full(len(lrs), size) for size, lrs in lrs_tried.items()])
    lrs = np.concatenate([np.asarray(lrs, float) for lrs in lrs_tried.values()])
    targets = np.tile(np.asarray(target_losses, float), (len(lrs), 1))
    race = _Race(problem, momentum, read_as.steps(max_steps), read_as.tail_factor)
    steps = race.run(sizes.astype(float), lrs, targets, sizes)
    rows = []
    for k, target in enumerate(target_losses):
        for size in lrs_tried:
            best_steps, best_lr = _least(steps[sizes == size, k], lrs[sizes == size])
            rows.append((target, size, "same_grid", best_steps, best_lr))
    return pd.DataFrame(rows, columns=COLUMNS)


def continuous_lr_frontier(
    problem: RegressionProblem,
    batch_sizes: Sequence[float],
    target_losses: Sequence[float],
    max_steps: int,
    momentum: float = 0.0,
    read_as: CurveReading = EVERY_STEP,
) -> pd.DataFrame:
    """Exact S(B) minimised over every lr: a grid below the largest useful lr, then its best part.

    The largest useful lr is the one whose risk settles at the target. Columns as of
    same_grid_frontier, lr_choice "continuous_lr"; arguments as of exact_steps. Where the risk
    oscillates (momentum, a few dozen steps) S(lr) has many minima, several within 3 % of the
    least, so that the second grid is the denser the fewer the steps. They are found to about 0.1 %.
    """
    pairs = [(target, size) for target in target_losses for size in batch_sizes]
    top = np.log([_floor_lr(problem, size, target, momentum) for target, size in pairs])
    race = _Race(problem, momentum, read_as.steps(max_steps), read_as.tail_factor)
    targets, sizes = (np.array(column, float) for column in zip(*pairs, strict=True))
    best = np.full((len(pairs), 2), np.nan)  # steps, log lr
    grids = list(np.linspace(top - np.log(_LR_RANGE), top + np.log(_ABOVE_FLOOR), _FIRST_ROUND).T)
    for number in range(2 + _N_LATER):
        pair = np.repeat(np.arange(len(pairs)), [len(grid) for grid in grids])
        lrs = np.exp(np.concatenate(grids))
        steps = race.run(sizes[pair], lrs, targets[pair, None], pair)[:, 0]
        for i, grid in enumerate(grids):
            of_pair = steps[pair == i]
            least = _least(of_pair, grid)
            if not least[0] >= best[i, 0]:  # also the first one
                best[i] = least
            centre = top[i] if np.isnan(best[i, 1]) else best[i, 1]
            grids[i] = _next_grid(grid, of_pair, centre, number)
    rows = [
        (target, size, "continuous_lr", best[i, 0], float(np.exp(best[i, 1])))
        for i, (target, size) in enumerate(pairs)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True)
class _Race:
    """Contenders that race for the least steps to a target, each followed as a trial would be."""

    problem: RegressionProblem
    momentum: float
    evaluated: NDArray[np.int64]
    tail_factor: float

    def run(self, batch_sizes: Floats, lrs: Floats, targets: Floats, races: NDArray) -> Floats:
        """Steps [C, K] of contenders to their targets [C, K]; races [C]: who runs against whom.

        A contender is read at a target when it has gone on to tail_factor times its first touch. A
        race ends at tail_factor times the least steps read at its last target: one not
        read by then touches later than that. Each alone in its race: all steps.
        """
        order = np.argsort(-targets, axis=1, kind="stable")
        goals = np.take_along_axis(targets, order, axis=1)
        start, steps = self.problem.initial_risk, self.evaluated
        reached_at = np.where(goals >= start, 0.0, np.nan)
        unread, windows = goals < start, np.full(goals.shape, np.inf)
        race_of = np.unique(races, return_inverse=True)[1]
        ends = np.full(race_of.max() + 1, np.inf)
        risks = np.full((1, len(lrs)), start)  # grows as the race does: it may end early
        alive = np.flatnonzero(unread[:, -1])
        moving = recursion(self.problem, batch_sizes[alive], lrs[alive], self.momentum)
        risk = risks[0, alive]
        for n in range(1, len(steps)):
            risk = _moved(moving, risk, int(steps[n] - steps[n - 1]))
            if n == len(risks):
                risks = np.concatenate([risks, np.empty_like(risks)])[: len(steps)]
            risks[n, alive] = risk
            sound = risk < _EXPLODED * start
            touched = (risk[:, None] <= goals[alive]) & np.isinf(windows[alive])
            windows[alive] = np.where(touched, self.tail_factor * steps[n], windows[alive])
            last_step = steps[n] if n + 1 < len(steps) else np.finfo(float).max
            whole = unread[alive] & sound[:, None] & (windows[alive] <= last_step)
            for k in np.flatnonzero(whole.any(axis=0)):
                who = alive[whole[:, k]]
                reached_at[who, k] = self._read(risks[: n + 1, who], goals[who, k])
                unread[who, k] = False
            finished = alive[whole[:, -1]]
            np.fmin.at(ends, race_of[finished], self.tail_factor * reached_at[finished, -1])
            keep = sound & unread[alive, -1] & (ends[race_of[alive]] > steps[n])
            alive, risk = alive[keep], risk[keep]
            moving.keep(keep)
            if not len(alive):
                break
        crossings = np.empty_like(reached_at)
        np.put_along_axis(crossings, order, reached_at, axis=1)
        return crossings

    def _read(self, risks: Floats, goals: Floats) -> Floats:
        """Crossings [n] of the curves [T, n] of n contenders, each of its own goal."""
        steps = self.evaluated[: len(risks)].astype(float)
        return isotonic_crossing(steps, (risks / goals).T, [1.0])[:, 0]


def _moved(moving: Recursion, risk: Floats, n_steps: int) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):  # of contenders that explode
        for _ in range(n_steps):
            risk = moving.step(risk)
    return risk


def _next_grid(grid: Floats, steps: Floats, best: float, number: int) -> Floats:
    """log lrs of the round after `number`, around the best log lr so far."""
    spacing = grid[1] - grid[0]
    low, high, n_lrs = best - spacing, best + spacing, _LATER_ROUND
    if number == 0 and not np.isnan(steps).all():
        fewest = np.nanmin(steps)
        near = grid[steps <= _NEAR * fewest]
        low, high = near[0] - spacing, near[-1] + spacing
        n_lrs = int(np.clip(_SECOND_ROUND_STEPS / max(fewest, 1.0), 2 * _LATER_ROUND, _MOST_LRS))
    return np.linspace(low, high, n_lrs)


def _least(steps: Floats, lrs: Floats) -> tuple[float, float]:
    if np.isnan(steps).all():
        return np.nan, np.nan
    best = int(np.nanargmin(steps))
    return float(steps[best]), float(lrs[best])


def _floor_lr(
    problem: RegressionProblem, batch_size: float, target_loss: float, momentum: float
) -> float:
    """The lr at which the risk settles at the target loss."""
    share = target_loss / (target_loss + problem.label_noise**2)
    return largest_stable_lr(problem, batch_size, share, momentum)
