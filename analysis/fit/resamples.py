"""Draws of a fit: from resamples of the seeds, or from its residuals where there are few seeds.

Resamples of a frontier are the bootstrap over seeds, made honest: widened for few seeds, placed
anew within what interpolation leaves open, and scattered by the misfit that seeds do not explain.
Their degrees of freedom are Welch and Satterthwaite's, for the fitted parameter that has the fewest
(Satterthwaite 1946, Biometrics Bulletin 2): nu = (sum a^2 v)^2 / sum(a^4 v^2/(n-1)), with a =
d parameter/d log S of a batch size and v its variance, sigma^2/n with one sigma. Axes: n_boot
resamples, B batch sizes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from analysis.fit.fit_result import FitResult
from analysis.fit.fitting import fit_frontier
from analysis.fit.forms import HYPERBOLA, hyperbola
from analysis.fit.observations import Observations
from analysis.measure.bootstrap import FEWEST_SEEDS, StepDraws, spread, widening

Floats = NDArray[np.float64]

_WORTH_SAYING = 0.01  # of log S: a smaller misfit changes nothing
_EXPLAINED = 4.0  # up to this many times the variance of the resamples may be due to seeds
_FAILED = 0.05  # share of resamples without a fit from which on the bootstrap is not used
_N_GRID, _N_ZOOMS, _NEGLIGIBLE = 1500, 2, 25.0  # a log weight that much below is left out
_FAR = 30.0  # B_crit is drawn this far beyond the sampled batch sizes: there nothing tells it apart
_PROPOSALS = 10  # draws of the reached cells for each one kept in the light of the censored ones


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


def degrees_of_freedom(parameters: Floats, log_size: Floats, n_seeds: Floats) -> float:
    """Of the scatter between seeds that S_min, E_min and B_crit see: the fewest of the three.

    parameters [2] of the hyperbola; log_size, n_seeds [B], all n_seeds >= 2.
    """
    _, jacobian = HYPERBOLA.log_steps(parameters[None, :], log_size)
    sensitivity = np.linalg.pinv(jacobian[0])  # [2, B], d parameter / d log S
    sensitivity = np.vstack([sensitivity, sensitivity[1] - sensitivity[0]])
    part = sensitivity**2 / n_seeds
    nu = part.sum(axis=1) ** 2 / (part**2 / (n_seeds - 1)).sum(axis=1)
    return float(nu.min())


def residual_draws(
    batch_size: ArrayLike,
    steps: ArrayLike,
    n_draws: int,
    rng: np.random.Generator,
    steps_lower: ArrayLike | None = None,
    steps_upper: ArrayLike | None = None,
    least_sigma: float = 1e-6,
) -> Floats:
    """Draws [n_draws, 2] of (log S_min, log E_min) from the residuals of the hyperbola.

    With u = log B_crit and RSS(u) the least sum of squared log residuals at u, u is drawn from
    RSS(u)^(-(n-1)/2): the likelihood of u with level and sigma integrated out, whose intervals are
    locally those of F(1, n-2) and follow the likelihood where it is skewed. Then sigma and
    log S_min given u. batch_size, steps [B], NaN steps where not reached; steps_lower [B]: there,
    a lower bound (right-censored cells weigh the draws by 1 - Phi); steps_upper [B]: an upper one
    (weighed by Phi); least_sigma: of log S, what residuals cannot show. Fewer than three reached:
    no draws. Approximate: misfit of the shape counts as noise. Source: Bates and Watts 1988,
    Nonlinear Regression Analysis, chapter 6.1 (profiles), 2.5 (the integrated likelihood).
    """
    sizes, values = np.asarray(batch_size, float), np.asarray(steps, float)
    reached = ~np.isnan(values)
    n = int(reached.sum())
    if n < 3:
        return np.empty((0, 2))
    x, y = np.log(sizes[reached]), np.log(values[reached])
    u, mean, rss = _likely_profile(x, y, least_sigma)
    log_weight = -(n - 1) / 2 * np.log(rss)
    total = np.cumsum(np.exp(log_weight - log_weight.max()))
    bounds = [
        (sign, x_of, bound)
        for sign, given in ((-1.0, steps_lower), (1.0, steps_upper))
        for x_of, bound in _known_bounds(sizes, reached, given)
    ]
    n_proposed = n_draws * (_PROPOSALS if bounds else 1)
    at = np.interp(rng.uniform(total[0], total[-1], n_proposed), total, np.arange(_N_GRID))
    sigma = np.sqrt(np.interp(at, np.arange(_N_GRID), rss) / rng.chisquare(n - 1, n_proposed))
    drawn = np.interp(at, np.arange(_N_GRID), u)
    log_min_steps = np.interp(at, np.arange(_N_GRID), mean)
    log_min_steps = log_min_steps + sigma / np.sqrt(n) * rng.standard_normal(n_proposed)
    proposed = np.stack([log_min_steps, log_min_steps + drawn], axis=1)
    if not bounds:
        return proposed
    weight = _weight_by_bounds(proposed, sigma, bounds)
    return proposed[rng.choice(n_proposed, n_draws, p=weight / weight.sum())]


def _likely_profile(x: Floats, y: Floats, least_sigma: float) -> tuple[Floats, Floats, Floats]:
    """u where its weight counts, as finely as the weight is narrow, and _profile there."""
    u = np.linspace(x.min() - np.log(_FAR), x.max() + np.log(_FAR), _N_GRID)
    for _ in range(_N_ZOOMS):
        log_weight = -(len(x) - 1) / 2 * np.log(_profile(u, x, y, least_sigma)[1])
        seen = np.flatnonzero(log_weight > log_weight.max() - _NEGLIGIBLE)
        u = np.linspace(u[max(seen[0] - 1, 0)], u[min(seen[-1] + 1, _N_GRID - 1)], _N_GRID)
    return u, *_profile(u, x, y, least_sigma)


def _weight_by_bounds(
    proposed: Floats, sigma: Floats, bounds: list[tuple[float, float, float]]
) -> Floats:
    """How likely each draw makes the censored cells; bounds: sign, batch size and bound of each."""
    log_weight = np.zeros(len(proposed))
    for sign, size, bound in bounds:
        z = (np.log(bound) - np.log(hyperbola(size, *proposed.T))) / sigma
        log_weight += log_ndtr(sign * z)
    return np.exp(log_weight - log_weight.max())


def _profile(u: Floats, x: Floats, y: Floats, least_sigma: float) -> tuple[Floats, Floats]:
    """log S_min and the sum of squared residuals at each u = log B_crit; x = log B, y = log S."""
    level = y - np.log1p(np.exp(np.subtract.outer(u, x)))
    mean = level.mean(axis=1)
    # added, not the greater of both: a flat top would hide where the best u is
    return mean, ((level - mean[:, None]) ** 2).sum(axis=1) + len(x) * least_sigma**2


def _known_bounds(
    sizes: Floats, reached: NDArray[np.bool_], given: ArrayLike | None
) -> list[tuple[float, float]]:
    """(batch size, bound) of the batch sizes without a crossing that have one."""
    if given is None:
        return []
    values = np.asarray(given, float)
    at = np.flatnonzero(~reached & ~np.isnan(values))
    return [(float(sizes[i]), float(values[i])) for i in at]
