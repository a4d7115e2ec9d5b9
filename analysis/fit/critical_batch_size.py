"""The critical batch size of a measured frontier, by three definitions, and what it recommends.

1. E_min/S_min of the hyperbola: twice the minimum of both steps and examples.
2. x % overhead over perfect scaling from a reference batch size (Zhang et al. 2024,
   arXiv:2410.21676).
3. Half elasticity: where -dlogS/dlogB = 1/2, read from the data without the hyperbola.
2 and 3 are in analysis.fit.readings, what is identified in analysis.fit.identification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.fitting import (
    LIKELIHOOD,
    FitResult,
    compare_forms,
    fit_frontier,
    fit_hyperbola,
    fit_knee,
    hyperbola,
    preferred_form,
)
from analysis.fit.identification import judge, log_interval, what_to_do
from analysis.fit.likelihood import LEAST_SIGMA, Observations
from analysis.fit.measured_curve import FEWEST_FOR_KNEE, MeasuredCurve
from analysis.fit.readings import half_elasticity, half_elasticity_interval
from analysis.fit.residual_draws import degrees_of_freedom, residual_draws
from analysis.measure.bootstrap import StepDraws
from analysis.measure.frontier import lower_bounds, upper_bounds, usable
from analysis.measure.intervals import FEWEST_SEEDS, spread, widening
from scaling.schema import REACHED

Floats = NDArray[np.float64]

FEWEST_BATCH_SIZES = 3  # two parameters are fitted
_OBSERVED = ("batch_size", "steps", "steps_lower", "steps_upper")
_WORTH_SAYING = 0.01  # of log S: a smaller misfit changes nothing
_EXPLAINED = 4.0  # so many times the variance of the resamples may be theirs
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

    frontier: its rows (all; the usable ones are fitted, and by likelihood the censored ones as
    lower bounds, the left-censored ones and those at the edge of the tried lrs as upper bounds);
    draws: bootstrap steps in the order of the rows. objective: one of fitting.OBJECTIVES. Fewer
    than FEWEST_SEEDS seeds: intervals from the fit's residuals, approximate; else the bootstrap
    with the correction of analysis.measure.intervals. What is identified: see
    analysis.fit.identification.
    """
    points = usable(frontier)
    lower, upper = lower_bounds(frontier), upper_bounds(frontier)
    if objective != LIKELIHOOD:
        lower, upper = lower.iloc[:0], upper.iloc[:0]
    result = FitResult(
        group=dict(group),
        target_loss=target_loss,
        n_batch_sizes=len(points),
        n_censored=int((frontier["outcome"] != REACHED).sum()),
        batch_sizes=_sizes(points),
        objective=objective,
        bounded_batch_sizes=_sizes(lower),
        upper_bounded_batch_sizes=_sizes(upper),
    )
    sizes, steps = points["batch_size"].to_numpy(float), points["steps"].to_numpy(float)
    if len(points) < FEWEST_BATCH_SIZES:
        return _too_few(result, sizes, steps, frontier)
    rows = _fitted_rows(frontier, points, lower, upper)
    used = frontier.index.isin(rows.index)
    seen = _observations(rows)
    found, converged = fit_frontier(seen, objective)
    result.log_parameters = (float(found[0, 0]), float(found[0, 1]))
    if not converged[0]:
        result.notes.append("the likelihood did not converge; the fit is its best point so far")
    resampled = _resampled(rows, draws, used, found[0], rng)
    if resampled is not None:
        resampled = _with_misfit(result, seen, resampled, rng)
    resampled = _fit_draws(result, resampled)
    if resampled is None:
        result.approximate_ci = True
        result.draws = residual_draws(
            rows["batch_size"],
            rows["steps"],
            n_bootstrap,
            rng,
            np.exp(seen.log_lower[0]),
            np.exp(seen.log_upper[0]),
            float(seen.least_sigma()[0]),
        )
    knees = _compare(result, seen, resampled)
    drawn = _log_step_draws(result, sizes, steps, resampled, rng)
    result.curve = _measured_curve(result, seen, drawn, knees)
    judge(result, frontier)
    _read_half_elasticity(result, sizes, steps, drawn, resampled is not None)
    return result


def _sizes(rows: pd.DataFrame) -> tuple[int, ...]:
    return tuple(int(size) for size in rows["batch_size"])


def _fitted_rows(
    frontier: pd.DataFrame, points: pd.DataFrame, lower: pd.DataFrame, upper: pd.DataFrame
) -> pd.DataFrame:
    """The rows that the fit sees, in order; of an upper bound only steps_upper is known."""
    at_most = upper.assign(steps=np.nan, steps_lower=np.nan)
    fitted = pd.concat([rows for rows in (points, lower, at_most) if len(rows)]).sort_index()
    return fitted.assign(**{n: np.nan for n in ("steps_lower", "steps_upper") if n not in fitted})


def _too_few(result: FitResult, sizes: Floats, steps: Floats, frontier: pd.DataFrame) -> FitResult:
    """No fit: what half elasticity says, and why."""
    half = half_elasticity(sizes, steps)
    result.critical_batch_size_half_elasticity = half.value
    result.reason = (
        f"only {len(sizes)} of {len(frontier)} batch sizes have a usable point, "
        f"the fit needs {FEWEST_BATCH_SIZES}"
    )
    advice = what_to_do(frontier)
    if advice:
        result.reason += f": {advice}"
        result.next_step = advice
        return result
    result.at_least, result.at_most = half.at_least, half.at_most
    result.ci95["critical_batch_size"] = (half.at_least, half.at_most)
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
    return Observations.of(*(rows[name].to_numpy(float) for name in _OBSERVED))


def _resampled(
    rows: pd.DataFrame,
    draws: StepDraws | None,
    used: NDArray,
    fit: Floats,
    rng: np.random.Generator,
) -> Observations | None:
    """The resamples of the fitted rows, widened for few seeds; None where seeds are too few.

    Bounds move with their crossings, and each crossing to a place drawn from its own: what
    interpolation leaves open is uncertain as well.
    """
    points = rows[rows["steps"].notna()]
    seeds = points["n_seeds"].to_numpy(float)
    if draws is None or not len(draws.steps) or seeds.min() < FEWEST_SEEDS:
        return None
    nu = degrees_of_freedom(fit, np.log(points["batch_size"].to_numpy(float)), seeds)
    factor = widening(np.maximum(rows["n_seeds"].to_numpy(float), 2), nu)
    # what a row is known by: its crossing, or the end of its budget or what it took at most
    by = draws.steps[:, used], draws.steps_lower[:, used], draws.steps_upper[:, used]
    steps, lower, upper = by
    known = np.where(np.isnan(steps), np.where(np.isnan(upper), lower, upper), steps)
    with np.errstate(divide="ignore"):
        moved = np.exp(spread(np.log(known), factor)) / known
    moved = np.where(np.isnan(steps), 1.0, moved)
    steps, lower, upper = (part * moved for part in by)
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
    tuned, another shape): it would stay if there were any number of seeds.
    """
    assert result.log_parameters is not None
    fitted = np.log(hyperbola(np.exp(seen.log_size), *result.log_parameters))
    residuals = (seen.log_steps[0] - fitted)[seen.reached[0]]
    of_seeds = float(np.nanvar(resampled.log_steps[:, seen.reached[0]], axis=0).mean())
    off = float((residuals**2).sum()) / max(len(residuals) - 2, 1)
    excess = off - _EXPLAINED * of_seeds
    if excess < _WORTH_SAYING**2 or len(residuals) <= FEWEST_BATCH_SIZES:
        return resampled
    result.notes.append(
        f"the points miss the fitted curve by {100 * np.sqrt(off):.0f} %, which their seeds "
        f"({100 * np.sqrt(of_seeds):.0f} %) do not explain: the intervals hold it"
    )
    moved = np.sqrt(excess) * rng.standard_normal(resampled.log_steps.shape)
    return replace(resampled, log_steps=resampled.log_steps + moved)


def _compare(
    result: FitResult, seen: Observations, resampled: Observations | None
) -> Floats | None:
    """The other shapes on the same cells; returns the knees of the resamples, if there are any."""
    assert result.log_parameters is not None
    mean = np.log(hyperbola(np.exp(seen.log_size), *result.log_parameters))
    residuals = (seen.log_steps[0] - mean)[seen.reached[0]]
    result.rmse_log_steps = float(np.sqrt(np.mean(residuals**2)))
    result.forms = compare_forms(seen, result.objective)
    result.preferred_form = preferred_form(result.forms)
    knee = next(form for form in result.forms if form["form"] == "knee")
    if resampled is None:
        return None
    knees = _knee_draws(result, resampled)
    knee["ci95"] = log_interval(knees[:, 1] - knees[:, 0])
    return knees


def _knee_draws(result: FitResult, seen: Observations) -> Floats:
    """Knees [n, 3] of curves that result.draws has the hyperbolas of."""
    knee = next(form for form in result.forms if form["form"] == "knee")
    start = np.column_stack([result.draws, np.full(len(result.draws), np.log(knee["knee"]))])
    return fit_knee(seen, start, result.objective).parameters


def _log_step_draws(
    result: FitResult,
    sizes: Floats,
    steps: Floats,
    resampled: Observations | None,
    rng: np.random.Generator,
) -> Floats:
    """log S [n_draws, B] of the reached points: their resamples, or scattered by residuals."""
    if resampled is not None:
        return resampled.log_steps[:, np.isin(resampled.log_size, np.log(sizes))]
    n_draws, n_free = len(result.draws), max(len(steps) - 2, 1)
    sigma = (result.rmse_log_steps or 0.0) * np.sqrt(len(steps) / n_free)
    wide = np.sqrt(n_free / rng.chisquare(n_free, size=(n_draws, 1)))
    return np.log(steps) + sigma * wide * rng.standard_normal((n_draws, len(steps)))


def _measured_curve(
    result: FitResult, seen: Observations, drawn: Floats, knees: Floats | None
) -> MeasuredCurve:
    """See analysis.fit.measured_curve; with few points its knee is the hyperbola."""
    assert result.log_parameters is not None
    points = seen.reached[0]
    log_size, log_steps = seen.log_size[points], seen.log_steps[:, points]
    form = next(form for form in result.forms if form["form"] == "knee")
    if len(log_size) < FEWEST_FOR_KNEE:
        own = [*result.log_parameters, 0.0]
        knees = np.column_stack([result.draws, np.zeros(len(result.draws))])
    else:
        own = np.log([form["min_steps"], form["min_examples"], form["knee"]])
        if knees is None:  # the draws are of the points alone
            nothing = np.full(drawn.shape, np.nan)
            knees = _knee_draws(result, Observations(log_size, drawn, nothing, nothing))
    return MeasuredCurve(
        log_size, np.vstack([own, knees]), np.vstack([log_steps, drawn[: len(knees)]])
    )


def _read_half_elasticity(
    result: FitResult, sizes: Floats, steps: Floats, drawn: Floats, of_seeds: bool
) -> None:
    """Definition 3, with the points' own precision as weights and an interval from their draws."""
    variance = np.nanvar(drawn, axis=0) + LEAST_SIGMA**2 if of_seeds else None
    result.critical_batch_size_half_elasticity = half_elasticity(sizes, steps, variance).value
    if len(drawn):
        interval = half_elasticity_interval(sizes, drawn, variance)
        result.ci95["critical_batch_size_half_elasticity"] = interval
