"""The critical batch size of a measured frontier, by three definitions, and what it recommends.

1. E_min/S_min of the hyperbola: twice the minimum of both steps and examples.
2. x % overhead over perfect scaling from a reference batch size (Zhang et al. 2024,
   arXiv:2410.21676).
3. Half elasticity: where -dlogS/dlogB = 1/2, read from the data without the hyperbola.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from analysis.bootstrap import FrontierDraws, percentile_interval
from analysis.fitting import (
    FitResult,
    Interval,
    compare_forms,
    fit_hyperbola,
    hyperbola,
    preferred_form,
    residual_draws,
)
from analysis.frontier import usable

Floats = NDArray[np.float64]

OVERHEAD = 0.2
FEWEST_BATCH_SIZES = 3  # two parameters are fitted
FEWEST_SEEDS = 3  # below, a bootstrap over seeds says nothing: intervals from the fit's residuals
# An interval that ends further outside the sampled batch sizes than this is open on that side: the
# data do not bend there, and where the end lies is the shape's doing.
_BEYOND = 4.0


class Reading(NamedTuple):
    """A critical batch size, or None with the bound that the data do give."""

    value: float | None
    at_least: float | None = None
    at_most: float | None = None


def half_elasticity(
    batch_size: Sequence[float] | Floats, steps: Sequence[float] | Floats
) -> Reading:
    """The batch size at which -dlogS/dlogB falls to 1/2. batch_size [B] increasing, steps [B].

    Slopes of log S between adjacent batch sizes, at geometric midpoints; decreasing isotonic
    regression weighted by the squared log distance (their precision); linear in log B. A plateau at
    1/2 gives its geometric midpoint. All steeper than 1/2: at least the largest batch size; all
    flatter: at most the smallest. Fewer than two points: nothing.
    """
    if len(batch_size) < 2:
        return Reading(None)
    log_size, log_steps = np.log(batch_size), np.log(steps)
    width = np.diff(log_size)
    middle = (log_size[1:] + log_size[:-1]) / 2
    slope = isotonic_regression(-np.diff(log_steps) / width, weights=width**2, increasing=False).x
    half = np.flatnonzero(np.isclose(slope, 0.5, rtol=0, atol=1e-9))
    if len(half):
        return Reading(float(np.exp((middle[half[0]] + middle[half[-1]]) / 2)))
    if slope[-1] > 0.5:
        return Reading(None, at_least=float(batch_size[-1]))
    if slope[0] < 0.5:
        return Reading(None, at_most=float(batch_size[0]))
    return Reading(float(np.exp(np.interp(-0.5, -slope, middle))))


def overhead_batch_size(
    critical_batch_size: float, reference_batch_size: float, overhead: float = OVERHEAD
) -> float:
    """B* = (1 + x) B_opt + x E_min/S_min: where the hyperbola exceeds perfect scaling by x."""
    return (1 + overhead) * reference_batch_size + overhead * critical_batch_size


def measured_overhead_batch_size(
    batch_size: Sequence[float] | Floats,
    steps: Sequence[float] | Floats,
    overhead: float = OVERHEAD,
) -> float | None:
    """Batch size at which S B / (S B of the smallest one) crosses 1 + x, from the data alone.

    Increasing isotonic regression of that ratio in log B, linear in log-log; None if not crossed.
    """
    log_size = np.log(batch_size)
    excess = log_size + np.log(steps)
    rise = isotonic_regression(excess - excess[0]).x
    goal = np.log1p(overhead)
    if len(rise) < 2 or rise[-1] < goal or rise[0] >= goal:
        return None
    after = int(np.argmax(rise >= goal))
    pair = slice(after - 1, after + 1)
    return float(np.exp(np.interp(goal, rise[pair], log_size[pair])))


def find_critical_batch_size(
    frontier: pd.DataFrame,
    draws: Floats | None,
    *,
    group: Mapping[str, Any],
    target_loss: float,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> FitResult:
    """Fit one group and target's frontier and say what is known of B_crit.

    frontier: its rows (all; only the usable ones are fitted); draws [n_boot, rows]: bootstrap steps
    in the order of the rows. Fewer than FEWEST_SEEDS seeds: intervals from the fit's residuals,
    approximate. Identified: B_crit inside the sampled batch sizes and its 95 % interval closed.
    """
    points = usable(frontier)
    sizes, steps = points["batch_size"].to_numpy(float), points["steps"].to_numpy(float)
    result = FitResult(
        group=dict(group),
        target_loss=target_loss,
        n_batch_sizes=len(points),
        n_censored=int((frontier["outcome"] != "reached").sum()),
        batch_sizes=tuple(int(size) for size in sizes),
    )
    half = half_elasticity(sizes, steps)
    result.critical_batch_size_half_elasticity = half.value
    if len(points) < FEWEST_BATCH_SIZES:
        result.at_least, result.at_most = half.at_least, half.at_most
        result.reason = (
            f"only {len(points)} of {len(frontier)} batch sizes have a usable point, "
            f"the fit needs {FEWEST_BATCH_SIZES}"
        )
        return result
    fit = fit_hyperbola(sizes, steps)
    result.approximate_ci = bool(points["n_seeds"].min() < FEWEST_SEEDS)
    if result.approximate_ci or draws is None:
        result.draws = residual_draws(sizes, steps, n_bootstrap, rng)
    elif n_bootstrap:
        kept = fit_hyperbola(sizes, draws[:, frontier.index.isin(points.index)])
        result.draws = kept[~np.isnan(kept).any(axis=1)]
    result.log_parameters = (float(fit[0]), float(fit[1]))
    result.rmse_log_steps = float(np.sqrt(np.mean(np.log(steps / hyperbola(sizes, *fit)) ** 2)))
    result.forms = compare_forms(sizes, steps)
    result.preferred_form = preferred_form(result.forms)
    _judge(result, sizes, steps)
    return result


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


def stack_draws(draws: Mapping[int, FrontierDraws], sizes: Sequence[int], k: int) -> Floats:
    """Bootstrap steps [n_boot, B] of target k at the given batch sizes."""
    return np.stack([draws[size].steps[k] for size in sizes], axis=1)


def _judge(result: FitResult, sizes: Floats, steps: Floats) -> None:
    """Fill in what is identified, its intervals, and bounds where it is not."""
    assert result.log_parameters is not None
    log_min_steps, log_min_examples = result.log_parameters
    smallest, largest = float(sizes.min()), float(sizes.max())
    value = float(np.exp(log_min_examples - log_min_steps))
    low, high = _interval(result.draws[:, 1] - result.draws[:, 0])
    open_below = value < smallest or (low is not None and low < smallest / _BEYOND)
    open_above = value > largest or (high is not None and high > largest * _BEYOND)
    result.identified = not (open_below or open_above)
    intervals = {
        "min_steps": _interval(result.draws[:, 0]),
        "min_examples": _interval(result.draws[:, 1]),
        "critical_batch_size": (low, high),
    }
    if not open_above:
        result.min_steps = float(np.exp(log_min_steps))
    if not open_below:
        result.min_examples = float(np.exp(log_min_examples))
    if result.identified:
        result.critical_batch_size = value
        result.critical_batch_size_overhead = {
            "overhead": OVERHEAD,
            "reference_batch_size": smallest,
            "value": overhead_batch_size(value, smallest),
            "value_from_data": measured_overhead_batch_size(sizes, steps),
        }
    else:
        _bound(result, intervals, smallest, largest)
    result.ci95 = intervals


def _bound(
    result: FitResult, intervals: dict[str, Interval], smallest: float, largest: float
) -> None:
    """At least or at most, one-sided intervals and the reason, where B_crit is not identified."""
    low, high = intervals["critical_batch_size"]
    span = f"batch sizes {smallest:g} to {largest:g}"
    if result.min_examples is not None:  # S_min is open: noise dominates everywhere
        result.at_least = largest if low is None else min(low, largest)
        intervals["min_steps"] = (None, intervals["min_steps"][1])
        intervals["critical_batch_size"] = (result.at_least, None)
        result.reason = f"{span} do not reach far enough beyond the critical batch size"
    elif result.min_steps is not None:
        result.at_most = smallest if high is None else max(high, smallest)
        intervals["min_examples"] = (None, intervals["min_examples"][1])
        intervals["critical_batch_size"] = (None, result.at_most)
        result.reason = f"{span} do not reach far enough below the critical batch size"
    else:
        intervals.update(dict.fromkeys(intervals, (None, None)))
        result.reason = f"the curve over {span} is too noisy to show where it bends"


def _interval(log_draws: Floats) -> Interval:
    low, high = np.exp(percentile_interval(log_draws))
    return (None, None) if np.isnan(low) or np.isnan(high) else (float(low), float(high))
