"""The exact frontier S(B) of streaming linear regression, from the recursions of analysis.theory.

Axes: C contenders (pairs of batch size and lr), K targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.theory import Floats, largest_stable_lr, recursion
from scaling.curves import interpolate_crossing
from scaling.spectrum import RegressionProblem

COLUMNS = ["target_loss", "batch_size", "lr_choice", "steps", "lr"]

_EXPLODED = 1e3  # times the initial risk: a second moment that far up never returns in time
_CHECK_EVERY = 16  # steps between two looks for exploded contenders
_FIRST_ZOOM, _LATER_ZOOM, _N_ZOOMS = 17, 9, 4  # lrs per round of the continuous search
_FIRST_ZOOM_WITH_MOMENTUM = 129  # its curves oscillate: S(lr) has several valleys
_LR_RANGE = 32.0  # the best lr is never this far below the lr whose noise floor is the target
_ABOVE_FLOOR = 1.25  # ... nor this far above it (a few steps can precede the instability)


def exact_steps(
    problem: RegressionProblem,
    batch_size: ArrayLike,
    lr: ArrayLike,
    target_losses: Sequence[float],
    max_steps: int,
    momentum: float = 0.0,
) -> Floats:
    """Steps at which the exact risk crosses each target, interpolated in log-log.

    batch_size and lr are broadcast to [C] contenders; returns [C, K], NaN where the target is not
    reached within max_steps. Units: optimizer steps.
    """
    batch_sizes, lrs = np.broadcast_arrays(np.atleast_1d(batch_size), np.atleast_1d(lr))
    return _race(
        problem,
        batch_sizes.astype(float),
        lrs.astype(float),
        np.tile(np.asarray(target_losses, float), (len(lrs), 1)),
        np.arange(len(lrs)),
        max_steps,
        momentum,
    )


def same_grid_frontier(
    problem: RegressionProblem,
    lrs_tried: Mapping[int, Sequence[float] | Floats],
    target_losses: Sequence[float],
    max_steps: int,
    momentum: float = 0.0,
) -> pd.DataFrame:
    """Exact S(B) minimised over the lrs that were tried at each batch size.

    lrs_tried: batch size -> lrs. Returns target_loss, batch_size, lr_choice ("same_grid"), steps,
    lr, a row per target and batch size; both NaN where no lr reaches the target in max_steps.
    """
    sizes = np.concatenate([np.full(len(lrs), size) for size, lrs in lrs_tried.items()])
    lrs = np.concatenate([np.asarray(lrs, float) for lrs in lrs_tried.values()])
    targets = np.tile(np.asarray(target_losses, float), (len(lrs), 1))
    steps = _race(problem, sizes.astype(float), lrs, targets, sizes, max_steps, momentum)
    rows = []
    for k, target in enumerate(target_losses):
        for size in lrs_tried:
            best_steps, best_lr = _least(steps[sizes == size, k], lrs[sizes == size])
            rows.append((target, size, "same_grid", best_steps, best_lr))
    return pd.DataFrame(rows, columns=COLUMNS)


def continuous_lr_frontier(
    problem: RegressionProblem,
    batch_sizes: Sequence[int],
    target_losses: Sequence[float],
    max_steps: int,
    momentum: float = 0.0,
) -> pd.DataFrame:
    """Exact S(B) minimised over every lr: a grid below the largest useful lr, zoomed in four times.

    The largest useful lr is the one whose risk settles at the target. Columns as of
    same_grid_frontier, lr_choice "continuous_lr". The lr is found to about 1 %, the steps to about
    0.01 %.
    """
    pairs = [(target, size) for target in target_losses for size in batch_sizes]
    top = np.array([_floor_lr(problem, size, target, momentum) for target, size in pairs])
    low, high = np.log(top / _LR_RANGE), np.log(top * _ABOVE_FLOOR)
    best = np.full((len(pairs), 2), np.nan)  # steps, lr
    first = _FIRST_ZOOM_WITH_MOMENTUM if momentum else _FIRST_ZOOM
    for zoom in range(_N_ZOOMS):
        n_lrs = _LATER_ZOOM if zoom else first
        lrs = np.exp(np.linspace(low, high, n_lrs, axis=1))  # [pairs, n_lrs]
        steps = _race(
            problem,
            np.repeat([float(size) for _, size in pairs], n_lrs),
            lrs.ravel(),
            np.repeat([target for target, _ in pairs], n_lrs)[:, None],
            np.repeat(np.arange(len(pairs)), n_lrs),
            max_steps,
            momentum,
        ).reshape(lrs.shape)
        for i in range(len(pairs)):
            found = _least(steps[i], lrs[i])
            if not found[0] >= best[i, 0]:  # also the first one
                best[i] = found
        spacing = (high - low) / (n_lrs - 1)
        centre = np.log(np.where(np.isnan(best[:, 1]), top, best[:, 1]))
        low, high = centre - spacing, centre + spacing
    rows = [(target, size, "continuous_lr", *best[i]) for i, (target, size) in enumerate(pairs)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _race(
    problem: RegressionProblem,
    batch_sizes: Floats,
    lrs: Floats,
    targets: Floats,
    races: NDArray,
    max_steps: int,
    momentum: float = 0.0,
) -> Floats:
    """Interpolated steps [C, K] of contenders to their targets [C, K] (largest first).

    A race ends for all of its contenders as soon as one of them has reached its last target: by
    then that race's least steps to every target are known. Each alone in its race: all steps.
    """
    order = np.argsort(-targets, axis=1, kind="stable")
    goals = np.take_along_axis(targets, order, axis=1)
    start = problem.initial_risk
    found = np.where(goals >= start, 0.0, np.nan)
    alive = np.flatnonzero(np.isnan(found).any(axis=1))
    moving = recursion(problem, batch_sizes[alive], lrs[alive], momentum)
    risk, goal = np.full(len(alive), start), _next_goal(goals[alive], found[alive])
    with np.errstate(over="ignore", invalid="ignore"):  # exploding contenders, dropped below
        for step in range(1, max_steps + 1):
            before, risk = risk, moving.step(risk)
            hits = np.flatnonzero(risk <= goal)
            if not len(hits) and step % _CHECK_EVERY:
                continue
            for i in hits:
                who = alive[i]
                found[who] = _crossings(found[who], goals[who], step, before[i], risk[i])
            winners = races[alive[hits]][~np.isnan(found[alive[hits], -1])]
            keep = (risk < _EXPLODED * start) & ~np.isin(races[alive], winners)
            alive, risk = alive[keep], risk[keep]
            moving.keep(keep)
            goal = _next_goal(goals[alive], found[alive])
            if not len(alive):
                break
    steps = np.empty_like(found)
    np.put_along_axis(steps, order, found, axis=1)
    return steps


def _next_goal(goals: Floats, found: Floats) -> Floats:
    """The largest target of each contender that is still to be reached. [C, K] -> [C]."""
    return np.where(np.isnan(found), goals, -np.inf).max(axis=1)


def _crossings(found: Floats, goals: Floats, step: int, before: float, risk: float) -> Floats:
    """found [K] of one contender with the targets added that lie between two steps' risks."""
    crossed = np.isnan(found) & (risk <= goals)
    steps = [interpolate_crossing(step - 1, before, step, risk, goal) for goal in goals[crossed]]
    updated = found.copy()
    updated[crossed] = steps
    return updated


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
