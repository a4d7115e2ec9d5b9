"""The critical batch size of a measured frontier, by three definitions, and what it recommends.

1. E_min/S_min of the hyperbola: twice the minimum of both steps and examples.
2. x % overhead over perfect scaling from a reference batch size (Zhang et al. 2024,
   arXiv:2410.21676).
3. Half elasticity: where -dlogS/dlogB = 1/2, read from the data without the hyperbola.
2 and 3 are in analysis.readings, what is identified in analysis.identification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.bootstrap import StepDraws
from analysis.fitting import (
    LIKELIHOOD,
    FitResult,
    compare_forms,
    fit_frontier,
    fit_hyperbola,
    fit_knee,
    hyperbola,
    preferred_form,
)
from analysis.frontier import bounded, usable
from analysis.identification import judge, log_interval
from analysis.intervals import (
    FEWEST_SEEDS,
    degrees_of_freedom,
    residual_draws,
    spread,
    widening,
)
from analysis.likelihood import LEAST_SIGMA, Observations
from analysis.readings import half_elasticity, half_elasticity_interval
from scaling.schema import REACHED

Floats = NDArray[np.float64]

FEWEST_BATCH_SIZES = 3  # two parameters are fitted
_FAILED = 0.05  # share of resamples without a fit from which the bootstrap is not used


def find_critical_batch_size(
    frontier: pd.DataFrame,
    draws: StepDraws | None,
    *,
    group: Mapping[str, Any],
    target_loss: float,
    n_bootstrap: int,
    rng: np.random.Generator,
    objective: str = LIKELIHOOD,
) -> FitResult:
    """Fit one group and target's frontier and say what is known of B_crit.

    frontier: its rows (all; only the usable ones are fitted, and by likelihood the censored ones as
    lower bounds); draws: bootstrap steps in the order of the rows. objective: one of
    fitting.OBJECTIVES. Fewer than FEWEST_SEEDS seeds: intervals from the fit's residuals,
    approximate; else the bootstrap with the correction of analysis.intervals. Identified: B_crit
    inside the sampled batch sizes and its 95 % interval closed.
    """
    points = usable(frontier)
    bounds = bounded(frontier) if objective == LIKELIHOOD else frontier.iloc[:0]
    result = FitResult(
        group=dict(group),
        target_loss=target_loss,
        n_batch_sizes=len(points),
        n_censored=int((frontier["outcome"] != REACHED).sum()),
        batch_sizes=tuple(int(size) for size in points["batch_size"]),
        objective=objective,
        bounded_batch_sizes=tuple(int(size) for size in bounds["batch_size"]),
    )
    sizes, steps = points["batch_size"].to_numpy(float), points["steps"].to_numpy(float)
    if len(points) < FEWEST_BATCH_SIZES:
        return _too_few(result, sizes, steps, len(frontier))
    used = frontier.index.isin(points.index) | frontier.index.isin(bounds.index)
    rows = frontier[used]
    seen = _observations(rows)
    found, converged = fit_frontier(seen, objective)
    result.log_parameters = (float(found[0, 0]), float(found[0, 1]))
    if not converged[0]:
        result.notes.append("the likelihood did not converge; the fit is its best point so far")
    resampled = _fit_draws(result, _resampled(rows, draws, used, found[0]))
    if resampled is None:
        result.approximate_ci = True
        lower = np.exp(seen.log_lower[0])
        result.draws = residual_draws(rows["batch_size"], rows["steps"], n_bootstrap, rng, lower)
    _compare(result, seen, resampled)
    judge(result, sizes, steps)
    _read_half_elasticity(result, sizes, steps, resampled, rng)
    return result


def _too_few(result: FitResult, sizes: Floats, steps: Floats, n_sizes: int) -> FitResult:
    """No fit: what half elasticity says, and why."""
    half = half_elasticity(sizes, steps)
    result.critical_batch_size_half_elasticity = half.value
    result.at_least, result.at_most = half.at_least, half.at_most
    result.ci95["critical_batch_size"] = (half.at_least, half.at_most)
    result.reason = (
        f"only {len(sizes)} of {n_sizes} batch sizes have a usable point, "
        f"the fit needs {FEWEST_BATCH_SIZES}"
    )
    return result


def _fit_draws(result: FitResult, resampled: Observations | None) -> Observations | None:
    """Fit the resamples; None where there are none or too many of them cannot be fitted."""
    if resampled is None:
        return None
    kept, _ = fit_frontier(resampled, result.objective)
    failed = np.isnan(kept).any(axis=1)
    if failed.mean() > _FAILED:
        result.notes.append(
            f"{100 * failed.mean():.0f} % of the resamples have too few batch sizes for a fit, "
            "so intervals come from its residuals"
        )
        return None
    result.draws = kept[~failed]
    return resampled.rows(np.flatnonzero(~failed))


def exact_critical_batch_size(
    theory: pd.DataFrame, fit: FitResult
) -> dict[str, float | None] | None:
    """B_crit of the hyperbola fitted to the exact frontiers at the batch sizes the fit used.

    theory: its rows of the fit's group and target. A frontier in which some batch size does not
    reach the target, or does not bend, gives None.
    """
    if theory.empty or fit.n_batch_sizes < FEWEST_BATCH_SIZES:
        return None
    exact: dict[str, float | None] = {}
    for choice in ("same_grid", "continuous_lr"):
        rows = theory[(theory["lr_choice"] == choice) & theory["batch_size"].isin(fit.batch_sizes)]
        sizes, steps = rows["batch_size"].to_numpy(float), rows["steps"].to_numpy(float)
        exact[choice] = None
        if not np.isnan(steps).any():
            log_min_steps, log_min_examples = fit_hyperbola(sizes, steps)
            value = float(np.exp(log_min_examples - log_min_steps))
            exact[choice] = value if sizes.min() <= value <= sizes.max() else None
    return exact


def _observations(rows: pd.DataFrame) -> Observations:
    lower, upper = (
        rows[name].to_numpy(float) if name in rows else None
        for name in ("steps_lower", "steps_upper")
    )
    return Observations.of(rows["batch_size"], rows["steps"], lower, upper)


def _resampled(
    rows: pd.DataFrame, draws: StepDraws | None, used: NDArray, fit: Floats
) -> Observations | None:
    """The resamples of the fitted rows, widened for few seeds; None where seeds are too few."""
    points = rows[rows["steps"].notna()]
    seeds = points["n_seeds"].to_numpy(float)
    if draws is None or not len(draws.steps) or seeds.min() < FEWEST_SEEDS:
        return None
    nu = degrees_of_freedom(fit, np.log(points["batch_size"].to_numpy(float)), seeds)
    factor = widening(np.maximum(rows["n_seeds"].to_numpy(float), 2), nu)
    log_steps = np.log(draws.steps[:, used])
    wide = np.exp(spread(log_steps, factor))
    moved = np.where(np.isnan(log_steps), 1.0, wide / draws.steps[:, used])
    lower, upper = draws.steps_lower[:, used] * moved, draws.steps_upper[:, used] * moved
    if "steps_upper" not in rows:  # the points are taken as exact, so their resamples are as well
        upper = np.full(upper.shape, np.nan)
    else:
        upper[:, rows["steps_upper"].isna() & rows["steps"].notna()] = np.nan
    return Observations.of(rows["batch_size"], wide, lower, upper)


def _compare(result: FitResult, seen: Observations, resampled: Observations | None) -> None:
    """The other shapes on the same cells, and what the knee makes of B_crit."""
    assert result.log_parameters is not None
    mean = np.log(hyperbola(np.exp(seen.log_size), *result.log_parameters))
    residuals = (seen.log_steps[0] - mean)[seen.reached[0]]
    result.rmse_log_steps = float(np.sqrt(np.mean(residuals**2)))
    result.forms = compare_forms(seen, result.objective)
    result.preferred_form = preferred_form(result.forms)
    knee = next(form for form in result.forms if form["form"] == "knee")
    if resampled is None:
        return
    start = np.column_stack([result.draws, np.full(len(result.draws), np.log(knee["knee"]))])
    drawn = fit_knee(resampled, start, result.objective).parameters
    knee["ci95"] = log_interval(drawn[:, 1] - drawn[:, 0])


def _read_half_elasticity(
    result: FitResult,
    sizes: Floats,
    steps: Floats,
    resampled: Observations | None,
    rng: np.random.Generator,
) -> None:
    """Definition 3, with the points' own precision as weights and an interval from their draws."""
    variance = None
    n_draws = len(result.draws)
    if resampled is not None:
        columns = np.isin(resampled.log_size, np.log(sizes))
        drawn = resampled.log_steps[:, columns]
        variance = np.nanvar(drawn, axis=0) + LEAST_SIGMA**2
    else:
        n_free = max(len(steps) - 2, 1)
        sigma = (result.rmse_log_steps or 0.0) * np.sqrt(len(steps) / n_free)
        wide = np.sqrt(n_free / rng.chisquare(n_free, size=(n_draws, 1)))
        drawn = np.log(steps) + sigma * wide * rng.standard_normal((n_draws, len(steps)))
    result.critical_batch_size_half_elasticity = half_elasticity(sizes, steps, variance).value
    if n_draws:
        interval = half_elasticity_interval(sizes, drawn, variance)
        result.ci95["critical_batch_size_half_elasticity"] = interval
