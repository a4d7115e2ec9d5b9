"""The critical batch size of a measured frontier, by three definitions, and what it recommends.

1. E_min/S_min of the hyperbola: twice the minimum of both steps and examples.
2. x % overhead over perfect scaling from a reference batch size (Zhang et al. 2024,
   arXiv:2410.21676).
3. Half elasticity: where -dlogS/dlogB = 1/2, read from the data without the hyperbola.
2 and 3 are in analysis.fit.readings, what is identified in analysis.fit.identification.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.fit_result import FitResult
from analysis.fit.fitting import (
    LIKELIHOOD,
    compare_forms,
    counted_cells,
    fit_frontier,
    fit_hyperbola,
    preferred_form,
)
from analysis.fit.forms import KNEE
from analysis.fit.identification import judge, log_interval, what_to_do
from analysis.fit.likelihood import maximise
from analysis.fit.observations import LEAST_SIGMA, Observations
from analysis.fit.readings import (
    FEWEST_FOR_KNEE,
    MeasuredCurve,
    half_elasticity,
    half_elasticity_interval,
)
from analysis.fit.resamples import fitted_resamples, log_step_draws, residual_draws, residuals_of
from analysis.measure.bootstrap import FrontierDraws, StepDraws, stack_draws
from analysis.measure.frontier import lower_bounds, upper_bounds, usable
from scaling.schema import REACHED

Floats = NDArray[np.float64]

FEWEST_BATCH_SIZES = 3  # two parameters are fitted
_OBSERVED = ("batch_size", "steps", "steps_lower", "steps_upper")


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
    draws: bootstrap steps in the order of the rows. objective: one of fitting.OBJECTIVES. With
    fewer than FEWEST_SEEDS seeds intervals come from the fit's residuals and are approximate, else
    from the bootstrap with the correction of analysis.measure.bootstrap. What is identified: see
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
    if len(points) < FEWEST_BATCH_SIZES:
        return _too_few(result, points, frontier)
    rows = _fitted_rows(frontier, points, lower, upper)
    seen = Observations.of(*(rows[name].to_numpy(float) for name in _OBSERVED))
    _fit(result, seen)
    used = frontier.index.isin(rows.index)
    own_draws = None if draws is None else StepDraws(*(part[:, used] for part in draws))
    resampled = fitted_resamples(result, rows, seen, own_draws, rng)
    if resampled is None:
        _draw_from_residuals(result, rows, seen, n_bootstrap, rng)
    _compare_forms(result, seen)
    log_draws = log_step_draws(result, points, resampled, rng)
    result.curve = _measured_curve(result, seen, log_draws, resampled)
    judge(result, frontier)
    _read_half_elasticity(result, points, log_draws, resampled is not None)
    return result


def find_critical_batch_sizes(
    frontier: pd.DataFrame,
    draws: Mapping[int, FrontierDraws],
    targets: Sequence[float],
    *,
    group: Mapping[str, Any],
    n_bootstrap: int,
    rng: np.random.Generator,
    objective: str = LIKELIHOOD,
) -> list[FitResult]:
    """A fit for each target of one group. draws: of each batch size, in the order of targets."""
    fits = []
    for k, target in enumerate(targets):
        points = frontier[frontier["target_loss"] == target]
        fits.append(
            find_critical_batch_size(
                points,
                stack_draws(draws, points["batch_size"].tolist(), k),
                group=group,
                target_loss=target,
                n_bootstrap=n_bootstrap,
                rng=rng,
                objective=objective,
            )
        )
    return fits


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


def _sizes(rows: pd.DataFrame) -> tuple[int, ...]:
    return tuple(int(size) for size in rows["batch_size"])


def _fitted_rows(
    frontier: pd.DataFrame, points: pd.DataFrame, lower: pd.DataFrame, upper: pd.DataFrame
) -> pd.DataFrame:
    """The rows that the fit sees, in order; of an upper bound only steps_upper is known."""
    at_most = upper.assign(steps=np.nan, steps_lower=np.nan)
    fitted = pd.concat([rows for rows in (points, lower, at_most) if len(rows)]).sort_index()
    return fitted.assign(**{n: np.nan for n in ("steps_lower", "steps_upper") if n not in fitted})


def _too_few(result: FitResult, points: pd.DataFrame, frontier: pd.DataFrame) -> FitResult:
    """No fit: what half elasticity says, and why."""
    half = half_elasticity(points["batch_size"].to_numpy(float), points["steps"].to_numpy(float))
    result.critical_batch_size_half_elasticity = half.value
    n = len(points)
    known = f"only {n}" if n else "none"
    known += f" of the {len(frontier)} batch sizes {'have' if n > 1 else 'has'} a usable point"
    if len(frontier) == 1:
        known = "there is only one batch size"
    result.reason = f"{known}; a fit needs {FEWEST_BATCH_SIZES}"
    advice = what_to_do(frontier)
    if advice:
        result.reason += f": {advice}"
        result.next_step = advice
        return result
    result.at_least, result.at_most = half.at_least, half.at_most
    result.ci95["critical_batch_size"] = (half.at_least, half.at_most)
    return result


def _fit(result: FitResult, seen: Observations) -> None:
    """The hyperbola, and how far the points lie from it."""
    parameters, converged = fit_frontier(seen, result.objective)
    result.log_parameters = (float(parameters[0, 0]), float(parameters[0, 1]))
    if not converged[0]:
        result.notes.append("the likelihood did not converge; the fit is its best point so far")
    result.rmse_log_steps = float(np.sqrt(np.mean(residuals_of(result, seen) ** 2)))


def _draw_from_residuals(
    result: FitResult,
    rows: pd.DataFrame,
    seen: Observations,
    n_draws: int,
    rng: np.random.Generator,
) -> None:
    result.approximate_ci = True
    result.draws = residual_draws(
        rows["batch_size"],
        rows["steps"],
        n_draws,
        rng,
        np.exp(seen.log_lower[0]),
        np.exp(seen.log_upper[0]),
        float(seen.least_sigma()[0]),
    )


def _compare_forms(result: FitResult, seen: Observations) -> None:
    result.forms = compare_forms(seen, result.objective)
    result.preferred_form = preferred_form(result.forms)


def _measured_curve(
    result: FitResult, seen: Observations, log_draws: Floats, resampled: Observations | None
) -> MeasuredCurve:
    """See analysis.fit.readings; with few points its knee is the hyperbola."""
    assert result.log_parameters is not None
    knee = next(form for form in result.forms if form["form"] == KNEE.name)
    drawn_knees = None if resampled is None else _knee_draws(result, resampled, knee)
    if drawn_knees is not None:
        knee["ci95"] = log_interval(drawn_knees[:, 1] - drawn_knees[:, 0])
    points = seen.reached[0]
    log_size, log_steps = seen.log_size[points], seen.log_steps[:, points]
    if len(log_size) < FEWEST_FOR_KNEE:
        fit = [*result.log_parameters, 0.0]
        drawn_knees = np.column_stack([result.draws, np.zeros(len(result.draws))])
    else:
        fit = np.log([knee["min_steps"], knee["min_examples"], knee["knee"]])
        if drawn_knees is None:  # the draws are of the points alone
            nothing = np.full(log_draws.shape, np.nan)
            only_points = Observations(log_size, log_draws, nothing, nothing)
            drawn_knees = _knee_draws(result, only_points, knee)
    return MeasuredCurve(
        log_size,
        np.vstack([fit, drawn_knees]),
        np.vstack([log_steps, log_draws[: len(drawn_knees)]]),
    )


def _knee_draws(result: FitResult, resampled: Observations, knee: Mapping[str, Any]) -> Floats:
    """Knees [n, 3] of the resamples that result.draws has the hyperbolas of."""
    start = np.column_stack([result.draws, np.full(len(result.draws), np.log(knee["knee"]))])
    return maximise(KNEE, start, counted_cells(resampled, result.objective)).parameters


def _read_half_elasticity(
    result: FitResult, points: pd.DataFrame, log_draws: Floats, of_seeds: bool
) -> None:
    """Definition 3, with the points' own precision as weights and an interval from their draws."""
    sizes, steps = points["batch_size"].to_numpy(float), points["steps"].to_numpy(float)
    variance = np.nanvar(log_draws, axis=0) + LEAST_SIGMA**2 if of_seeds else None
    result.critical_batch_size_half_elasticity = half_elasticity(sizes, steps, variance).value
    if len(log_draws):
        interval = half_elasticity_interval(sizes, log_draws, variance)
        result.ci95["critical_batch_size_half_elasticity"] = interval
