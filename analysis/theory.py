"""The exact answer for streaming linear regression with plain mini-batch SGD.

With x ~ N(0, diag(lambda)), t = w*.x + sigma eps and loss (w.x - t)^2, the second moments
m_i = E[(w_i - w*_i)^2] of mini-batch SGD follow, exactly,

    m_i' = m_i (1 - 4 lr lambda_i + 4 lr^2 lambda_i^2 (B+1)/B) + (4 lr^2/B) lambda_i (R + sigma^2)

with the excess risk R = sum_i lambda_i m_i, which is the held-out loss (irreducible loss 0).
Source: fourth moments of a Gaussian; with diagonal noise Zhang et al. 2019, arXiv:1907.04164.
Axes: C contenders (pairs of batch size and lr), D inputs, K targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from scaling.spectrum import RegressionProblem
from scaling.target import interpolate_crossing

Floats = NDArray[np.float64]

_EXPLODED = 1e3  # times the initial risk: a second moment that far up never returns in time
_CHECK_EVERY = 16  # steps between two looks for exploded contenders
_FIRST_ZOOM, _LATER_ZOOM, _N_ZOOMS = 17, 9, 4  # lrs per round of the continuous search
_LR_RANGE = 32.0  # the best lr is never this far below the lr whose noise floor is the target
_ABOVE_FLOOR = 1.25  # ... nor this far above it (a few steps can precede the instability)


def exact_risk(problem: RegressionProblem, batch_size: int, lr: ArrayLike, n_steps: int) -> Floats:
    """Expected excess risk R after 0..n_steps updates: the recursion above.

    lr: one value or an array; returns [n_steps + 1] or [*lr.shape, n_steps + 1].
    """
    lrs = np.asarray(lr, float)
    decay, kick = _coefficients(problem, np.full(lrs.size, batch_size), lrs.ravel())
    moments = np.tile(problem.initial_error**2, (lrs.size, 1))
    risks = np.empty((n_steps + 1, lrs.size))
    risks[0] = problem.initial_risk
    for step in range(n_steps):
        moments = moments * decay + kick * (risks[step] + problem.label_noise**2)[:, None]
        risks[step + 1] = moments @ problem.eigenvalues
    return risks.T.reshape(*lrs.shape, n_steps + 1)


def exact_steps(
    problem: RegressionProblem,
    batch_size: ArrayLike,
    lr: ArrayLike,
    target_losses: Sequence[float],
    max_steps: int,
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
    )


def same_grid_frontier(
    problem: RegressionProblem,
    lrs_tried: Mapping[int, Sequence[float] | Floats],
    target_losses: Sequence[float],
    max_steps: int,
) -> pd.DataFrame:
    """Exact S(B) minimised over the lrs that were tried at each batch size.

    lrs_tried: batch size -> lrs. Returns target_loss, batch_size, lr_choice ("same_grid"), steps,
    lr, a row per target and batch size; both NaN where no lr reaches the target in max_steps.
    """
    sizes = np.concatenate([np.full(len(lrs), size) for size, lrs in lrs_tried.items()])
    lrs = np.concatenate([np.asarray(lrs, float) for lrs in lrs_tried.values()])
    targets = np.tile(np.asarray(target_losses, float), (len(lrs), 1))
    steps = _race(problem, sizes.astype(float), lrs, targets, sizes, max_steps)
    rows = []
    for k, target in enumerate(target_losses):
        for size in lrs_tried:
            best_steps, best_lr = _least(steps[sizes == size, k], lrs[sizes == size])
            rows.append((target, size, "same_grid", best_steps, best_lr))
    return pd.DataFrame(rows, columns=_COLUMNS)


def continuous_lr_frontier(
    problem: RegressionProblem,
    batch_sizes: Sequence[int],
    target_losses: Sequence[float],
    max_steps: int,
) -> pd.DataFrame:
    """Exact S(B) minimised over every lr: a grid below the largest useful lr, zoomed in four times.

    The largest useful lr is the one whose risk settles at the target. Columns as of
    same_grid_frontier, lr_choice "continuous_lr". The lr is found to about 1 %, the steps to about
    0.01 %.
    """
    pairs = [(target, size) for target in target_losses for size in batch_sizes]
    top = np.array([_floor_lr(problem, size, target) for target, size in pairs])
    low, high = np.log(top / _LR_RANGE), np.log(top * _ABOVE_FLOOR)
    best = np.full((len(pairs), 2), np.nan)  # steps, lr
    for zoom in range(_N_ZOOMS):
        n_lrs = _LATER_ZOOM if zoom else _FIRST_ZOOM
        lrs = np.exp(np.linspace(low, high, n_lrs, axis=1))  # [pairs, n_lrs]
        steps = _race(
            problem,
            np.repeat([float(size) for _, size in pairs], n_lrs),
            lrs.ravel(),
            np.repeat([target for target, _ in pairs], n_lrs)[:, None],
            np.repeat(np.arange(len(pairs)), n_lrs),
            max_steps,
        ).reshape(lrs.shape)
        for i in range(len(pairs)):
            found = _least(steps[i], lrs[i])
            if not found[0] >= best[i, 0]:  # also the first one
                best[i] = found
        spacing = (high - low) / (n_lrs - 1)
        centre = np.log(np.where(np.isnan(best[:, 1]), top, best[:, 1]))
        low, high = centre - spacing, centre + spacing
    rows = [(target, size, "continuous_lr", *best[i]) for i, (target, size) in enumerate(pairs)]
    return pd.DataFrame(rows, columns=_COLUMNS)


def stationary_risk(problem: RegressionProblem, batch_size: float, lr: float) -> float:
    """Risk at which SGD settles: sigma^2 Q/(1 - Q), inf if unstable (Q >= 1).

    Q = sum_i lr lambda_i / (B - (B+1) lr lambda_i). Source: the recursion's fixed point.
    """
    share = _noise_share(problem, batch_size, lr)
    return problem.label_noise**2 * share / (1 - share) if share < 1 else np.inf


def largest_stable_lr(problem: RegressionProblem, batch_size: float, share: float = 1.0) -> float:
    """The lr at which Q = share (1: the edge of mean-square stability); Q as in stationary_risk."""
    top = batch_size / ((batch_size + 1) * problem.eigenvalues.max())
    edge = top * (1 - 1e-14)
    root = brentq(lambda lr: _noise_share(problem, batch_size, lr) - share, 0.0, edge)
    return cast(float, root)


def exact_theory(
    trials: pd.DataFrame, target_losses: Sequence[float], max_steps: int
) -> pd.DataFrame:
    """Both exact frontiers at the batch sizes and lrs of the trials of one group.

    Columns target_loss, batch_size, lr_choice, steps, lr; no rows where the trials have no exact
    theory (see problem_of).
    """
    problem = problem_of(trials)
    if problem is None:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in _COLUMNS})
    tried_at = trials.astype({"batch_size": int}).groupby("batch_size")
    tried = {cast(int, size): sorted(set(rows["lr"])) for size, rows in tried_at}
    frontiers = [
        same_grid_frontier(problem, tried, target_losses, max_steps),
        continuous_lr_frontier(problem, list(tried), target_losses, max_steps),
    ]
    return pd.concat(frontiers, ignore_index=True)


def problem_of(trials: pd.DataFrame) -> RegressionProblem | None:
    """The regression problem of the trials of one group; None where the recursion is not exact.

    Exact: task linear_regression, optimizer sgd, constant schedule, no weight decay, one value of
    every task param, and a recorded initial loss equal to the problem's initial risk.
    """
    wanted = {
        "task.name": "linear_regression",
        "optimizer.name": "sgd",
        "schedule.name": "constant",
        **{f"task.{name}": None for name in _PARAMS},
    }
    values: dict[str, Any] = {}
    for name, value in wanted.items():
        if name not in trials or trials[name].nunique(dropna=False) != 1:
            return None
        values[name] = trials[name].iloc[0]
        if value is not None and values[name] != value:
            return None
    if "optimizer.weight_decay" in trials and trials["optimizer.weight_decay"].fillna(0).any():
        return None
    problem = RegressionProblem.power_law(
        int(values["task.dimension"]),
        float(values["task.spectrum_exponent"]),
        float(values["task.label_noise"]),
        float(values["task.true_weight"]),
        float(values["task.initial_weight"]),
    )
    excess = trials["initial_loss"] - trials["irreducible_loss"]
    return problem if np.allclose(excess, problem.initial_risk, rtol=1e-4) else None


_COLUMNS = ["target_loss", "batch_size", "lr_choice", "steps", "lr"]
_PARAMS = ("dimension", "spectrum_exponent", "label_noise", "true_weight", "initial_weight")


def _coefficients(
    problem: RegressionProblem, batch_sizes: NDArray, lrs: Floats
) -> tuple[Floats, Floats]:
    """Factors of the recursion, both [C, D]: m' = m * decay + kick * (R + sigma^2)."""
    scaled = lrs[:, None] * problem.eigenvalues[None, :]
    inverse = 1.0 / batch_sizes[:, None]
    decay = 1 - 4 * scaled + 4 * scaled**2 * (1 + inverse)
    return decay, 4 * lrs[:, None] * scaled * inverse


def _race(
    problem: RegressionProblem,
    batch_sizes: Floats,
    lrs: Floats,
    targets: Floats,
    races: NDArray,
    max_steps: int,
) -> Floats:
    """Interpolated steps [C, K] of contenders to their targets [C, K] (largest first).

    A race ends for all of its contenders as soon as one of them has reached its last target: by
    then that race's least steps to every target are known. Each alone in its race: all steps.
    """
    order = np.argsort(-targets, axis=1, kind="stable")
    goals = np.take_along_axis(targets, order, axis=1)
    start, noise = problem.initial_risk, problem.label_noise**2
    found = np.where(goals >= start, 0.0, np.nan)
    alive = np.flatnonzero(np.isnan(found).any(axis=1))
    decay, kick = _coefficients(problem, batch_sizes[alive], lrs[alive])
    moments = np.tile(problem.initial_error**2, (len(alive), 1))
    risk, goal = np.full(len(alive), start), _next_goal(goals[alive], found[alive])
    with np.errstate(over="ignore", invalid="ignore"):  # exploding contenders, dropped below
        for step in range(1, max_steps + 1):
            moments *= decay
            moments += kick * (risk + noise)[:, None]
            before, risk = risk, moments @ problem.eigenvalues
            hits = np.flatnonzero(risk <= goal)
            if not len(hits) and step % _CHECK_EVERY:
                continue
            for i in hits:
                who = alive[i]
                found[who] = _crossings(found[who], goals[who], step, before[i], risk[i])
            winners = races[alive[hits]][~np.isnan(found[alive[hits], -1])]
            keep = (risk < _EXPLODED * start) & ~np.isin(races[alive], winners)
            alive, moments, risk = alive[keep], moments[keep], risk[keep]
            decay, kick = decay[keep], kick[keep]
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


def _noise_share(problem: RegressionProblem, batch_size: float, lr: float) -> float:
    scaled = lr * problem.eigenvalues
    room = batch_size - (batch_size + 1) * scaled
    return float(np.sum(scaled / room)) if (room > 0).all() else np.inf


def _floor_lr(problem: RegressionProblem, batch_size: float, target_loss: float) -> float:
    """The lr at which the risk settles at the target loss."""
    share = target_loss / (target_loss + problem.label_noise**2)
    return largest_stable_lr(problem, batch_size, share)
