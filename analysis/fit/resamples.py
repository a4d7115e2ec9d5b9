"""Resamples of a frontier as a fit sees them: the bootstrap over seeds, made honest.

Widened for few seeds, placed anew within what interpolation leaves open, and scattered by the
misfit that seeds do not explain. Axes: n_boot resamples, B batch sizes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.fit_result import FitResult
from analysis.fit.fitting import fit_frontier
from analysis.fit.forms import hyperbola
from analysis.fit.observations import Observations
from analysis.fit.residual_draws import degrees_of_freedom
from analysis.measure.bootstrap import StepDraws
from analysis.measure.intervals import FEWEST_SEEDS, spread, widening

Floats = NDArray[np.float64]

_WORTH_SAYING = 0.01  # of log S: a smaller misfit changes nothing
_EXPLAINED = 4.0  # up to this many times the variance of the resamples may be due to seeds
_FAILED = 0.05  # share of resamples without a fit from which on the bootstrap is not used


def fitted_resamples(
    result: FitResult,
    rows: pd.DataFrame,
    seen: Observations,
    draws: StepDraws | None,
    rng: np.random.Generator,
) -> Observations | None:
    """Resamples of the fitted rows, with their fits in result.draws; None without a bootstrap.

    draws: of these rows, in their order. There is no bootstrap with fewer than FEWEST_SEEDS seeds,
    or where too many resamples cannot be fitted.
    """
    resampled = _resampled(rows, draws, np.array(result.log_parameters), rng)
    if resampled is None:
        return None
    resampled = _with_misfit(result, seen, resampled, rng)
    parameters, _ = fit_frontier(resampled, result.objective)
    failed = np.isnan(parameters).any(axis=1)
    if failed.mean() > _FAILED:
        result.notes.append(
            f"{100 * failed.mean():.0f} % of the resamples have too few batch sizes for a fit, "
            "so intervals come from its residuals"
        )
        return None
    result.draws = parameters[~failed]
    return resampled.rows(np.flatnonzero(~failed))


def residuals_of(result: FitResult, seen: Observations) -> Floats:
    """Of log S at the reached cells, from the fitted hyperbola."""
    assert result.log_parameters is not None
    fitted = np.log(hyperbola(np.exp(seen.log_size), *result.log_parameters))
    return (seen.log_steps[0] - fitted)[seen.reached[0]]


def log_step_draws(
    result: FitResult,
    points: pd.DataFrame,
    resampled: Observations | None,
    rng: np.random.Generator,
) -> Floats:
    """log S [n_boot, B] of the reached points: their resamples, or scattered by residuals."""
    if resampled is not None:
        reached = np.isin(resampled.log_size, np.log(points["batch_size"].to_numpy(float)))
        return resampled.log_steps[:, reached]
    steps = points["steps"].to_numpy(float)
    n_draws, n_free = len(result.draws), max(len(steps) - 2, 1)
    sigma = (result.rmse_log_steps or 0.0) * np.sqrt(len(steps) / n_free)
    wide = np.sqrt(n_free / rng.chisquare(n_free, size=(n_draws, 1)))
    return np.log(steps) + sigma * wide * rng.standard_normal((n_draws, len(steps)))


def _resampled(
    rows: pd.DataFrame, draws: StepDraws | None, fit: Floats, rng: np.random.Generator
) -> Observations | None:
    """Bounds move with their crossings, and each crossing to a place drawn from its interval."""
    points = rows[rows["steps"].notna()]
    seeds = points["n_seeds"].to_numpy(float)
    if draws is None or not len(draws.steps) or seeds.min() < FEWEST_SEEDS:
        return None
    nu = degrees_of_freedom(fit, np.log(points["batch_size"].to_numpy(float)), seeds)
    factor = widening(np.maximum(rows["n_seeds"].to_numpy(float), 2), nu)
    steps, lower, upper = drawn = draws.steps, draws.steps_lower, draws.steps_upper
    # what a row is known by: its crossing, or the end of its budget or what it took at most
    known = np.where(np.isnan(steps), np.where(np.isnan(upper), lower, upper), steps)
    with np.errstate(divide="ignore"):
        moved = np.exp(spread(np.log(known), factor)) / known
    moved = np.where(np.isnan(steps), 1.0, moved)
    steps, lower, upper = (part * moved for part in drawn)
    at_most = rows["steps"].isna().to_numpy() & rows["steps_upper"].notna().to_numpy()
    upper[:, at_most] = np.where(np.isnan(upper), steps, np.fmin(steps, upper))[:, at_most]
    steps[:, at_most] = lower[:, at_most] = np.nan
    return Observations.of(rows["batch_size"], steps, lower, upper).imputed(rng)


def _with_misfit(
    result: FitResult, seen: Observations, resampled: Observations, rng: np.random.Generator
) -> Observations:
    """Resamples that scatter by the misfit as well, where seeds do not explain it.

    With the residuals' variance s^2 = RSS/(n - 2) and that of the resamples v, the excess
    max(s^2 - _EXPLAINED v, 0) is what the points are off by for another reason (an lr that was not
    tuned, another form): it would stay with any number of seeds.
    """
    residuals = residuals_of(result, seen)
    by_seeds = float(np.nanvar(resampled.log_steps[:, seen.reached[0]], axis=0).mean())
    variance = float((residuals**2).sum()) / max(len(residuals) - 2, 1)
    excess = variance - _EXPLAINED * by_seeds
    if excess < _WORTH_SAYING**2 or len(residuals) <= 3:
        return resampled
    result.notes.append(
        f"the points miss the fitted curve by {100 * np.sqrt(variance):.0f} %, which their seeds "
        f"({100 * np.sqrt(by_seeds):.0f} %) do not explain; the intervals include it"
    )
    moved = np.sqrt(excess) * rng.standard_normal(resampled.log_steps.shape)
    return replace(resampled, log_steps=resampled.log_steps + moved)
