"""What a fit identifies: its intervals, the bounds where the data do not bend, and what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.fit_result import FitResult, Interval
from analysis.fit.readings import OVERHEAD, overhead_batch_size
from analysis.measure.bootstrap import percentile_interval
from analysis.measure.frontier import lower_bounds, upper_bounds, usable
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED

Floats = NDArray[np.float64]

# An interval that ends further outside the sampled batch sizes than this is open on that side: the
# data do not bend there, and where the end lies is the shape's doing.
_BEYOND = 4.0
FEWEST_STEPS = 10.0  # a target reached in fewer steps is resolved badly
_CONTRADICTED = (
    1.05  # a fit whose band lies above a measured bound by more than this is not believed
)


def judge(result: FitResult, frontier: pd.DataFrame) -> None:
    """Fill in what is identified, its intervals, and bounds where it is not.

    frontier: all rows of the fit's group and target; result.draws, .forms, .curve and
    .log_parameters known. Identified: B_crit inside the batch sizes that were fitted, its 95 %
    interval closed, S_min not below FEWEST_STEPS (its whole interval), most batch sizes with a best
    lr that is not at the edge of the tried ones, no batch size lost on the only side that bounds
    B_crit, and no measured bound that the fit contradicts.
    """
    assert result.log_parameters is not None
    sizes = np.array(result.batch_sizes, float)
    log_min_steps, log_min_examples = result.log_parameters
    smallest, largest = float(sizes.min()), float(sizes.max())
    value = float(np.exp(log_min_examples - log_min_steps))
    intervals = {
        "min_steps": _holding(log_interval(result.draws[:, 0]), np.exp(log_min_steps)),
        "min_examples": _holding(log_interval(result.draws[:, 1]), np.exp(log_min_examples)),
        "critical_batch_size": _holding(
            log_interval(result.draws[:, 1] - result.draws[:, 0]), value
        ),
    }
    low, high = intervals["critical_batch_size"]
    open_below = value < smallest or (low is not None and low < smallest / _BEYOND)
    open_above = value > largest or (high is not None and high > largest * _BEYOND)
    # a bound outside the batch sizes that were tried says nothing
    open_below |= open_above and low is not None and low < smallest
    open_above |= open_below and high is not None and high > largest
    result.ci95 = intervals
    obstacle = _obstacle(result, frontier, value)
    if obstacle:
        _unknown(result, obstacle, what_to_do(frontier))
        return
    if not open_above:
        result.min_steps = float(np.exp(log_min_steps))
    if not open_below:
        result.min_examples = float(np.exp(log_min_examples))
    if open_below or open_above:
        _bound(result, frontier, smallest, largest)
    elif (intervals["min_steps"][1] or np.exp(log_min_steps)) < FEWEST_STEPS:
        _too_few_steps(result)
    else:
        result.identified = True
        result.critical_batch_size = value
        _overhead(result, smallest)


def what_to_do(frontier: pd.DataFrame, beyond: float = 0.0) -> str:
    """How batch sizes above `beyond` that are bounds at best would become points; "" if all are.

    "extend the learning rates above 0.8 at batch sizes 64 to 512; evaluate earlier at ..."
    """
    rows = frontier[frontier["batch_size"] > beyond]
    advice = []
    edges = rows[rows["lr_at_edge"].astype(bool) & rows["steps"].notna()]
    if "better_lrs" in edges:
        for side, affected in edges.groupby("better_lrs"):
            lr = affected["lr"].max() if side == "above" else affected["lr"].min()
            where = size_span(affected["batch_size"])
            advice.append(f"extend the learning rates {side} {lr:.3g} at {where}")
    for outcome, text in (
        (LEFT_CENSORED, "evaluate earlier, or name a lower target, at"),
        (CENSORED, "train longer, or name an easier target, at"),
        (DIVERGED, "try smaller learning rates at"),
    ):
        affected = rows[rows["outcome"] == outcome]
        if len(affected):
            advice.append(f"{text} {size_span(affected['batch_size'])}")
    return "; ".join(advice)


def size_span(sizes: pd.Series) -> str:
    """ "batch size 64", "batch sizes 64 to 512"."""
    low, high = sizes.min(), sizes.max()
    return f"batch size {low:,}" if low == high else f"batch sizes {low:,} to {high:,}"


def log_interval(log_draws: Floats) -> Interval:
    """95 % percentile interval of exp(log_draws) [n]; both None where an end is open."""
    low, high = np.exp(percentile_interval(log_draws))
    return (None, None) if np.isnan(low) or np.isnan(high) else (float(low), float(high))


def _holding(interval: Interval, value: float) -> Interval:
    """The interval with the estimate in it: percentiles of few or discrete draws may miss it."""
    low, high = interval
    if low is None or high is None:
        return interval
    return min(low, float(value)), max(high, float(value))


def _obstacle(result: FitResult, frontier: pd.DataFrame, value: float) -> str:
    """Why the fit cannot be believed, if it cannot."""
    used = usable(frontier)
    edges = frontier[frontier["lr_at_edge"].astype(bool) & frontier["steps"].notna()]
    if len(edges) >= len(used):
        return (
            f"the best learning rate is the smallest or largest that was tried at {len(edges)} of "
            f"{len(frontier)} batch sizes"
        )
    bounds = upper_bounds(frontier)
    for size, steps in zip(bounds["batch_size"], bounds["steps_upper"], strict=True):
        low = result.predict_interval(size)[0]
        least = result.predict(size) if np.isnan(low) else low
        if least > _CONTRADICTED * steps:
            return (
                f"the fit predicts at least {float(least):.3g} steps at batch size {size:,}, where "
                f"{steps:.3g} were enough"
            )
    kept = used.index.union(lower_bounds(frontier).index).union(bounds.index)
    lost = frontier.loc[~frontier.index.isin(kept), "batch_size"]
    for side, far, others in (
        ("above", lost > value, used["batch_size"] > value),
        ("below", lost < value, used["batch_size"] < value),
    ):
        if far.any() and others.sum() < 2:
            rest = "only one other bounds" if others.any() else "no other bounds"
            return (
                f"{size_span(lost[far])}, {side} the critical batch size, could not be used, and "
                f"{rest} it there"
            )
    return ""


def _unknown(result: FitResult, reason: str, advice: str) -> None:
    """Nothing is said of B_crit, S_min and E_min."""
    result.ci95 = dict.fromkeys(result.ci95, (None, None))
    result.reason = f"{reason}; {advice}" if advice else reason
    result.next_step = advice


def _too_few_steps(result: FitResult) -> None:
    """S_min below FEWEST_STEPS: fewer are not resolved, so that B_crit is at least E_min/10."""
    assert result.min_examples is not None
    steps, result.min_steps = result.min_steps, None
    low = result.ci95["min_examples"][0] or result.min_examples
    result.at_least = low / FEWEST_STEPS
    result.ci95["min_steps"] = (None, FEWEST_STEPS)
    result.ci95["critical_batch_size"] = (result.at_least, None)
    result.next_step = "name a lower target, which takes more steps"
    result.reason = (
        f"its fewest steps, {steps:.2g}, are below {FEWEST_STEPS:g}, where steps are poorly "
        f"resolved: {result.next_step}"
    )


def _overhead(result: FitResult, reference: float) -> None:
    """Definition 2: from the measured curve, and by the closed forms of hyperbola and knee."""
    assert result.critical_batch_size is not None
    assert result.curve is not None
    knee = next(form for form in result.forms if form["form"] == "knee")
    value, drawn = result.curve.overhead(OVERHEAD)
    result.critical_batch_size_overhead = {
        "overhead": OVERHEAD,
        "reference_batch_size": reference,
        "value": value,
        "value_of_hyperbola": overhead_batch_size(result.critical_batch_size, reference),
        "value_of_knee": overhead_batch_size(
            knee["critical_batch_size"], reference, knee=knee["knee"]
        ),
    }
    low, high = (None if np.isnan(end) else float(end) for end in percentile_interval(drawn))
    if value is not None:
        low = None if low is None else min(low, value)
        high = None if high is None else max(high, value)
    result.ci95["critical_batch_size_overhead"] = (low, high)


def _bound(result: FitResult, frontier: pd.DataFrame, smallest: float, largest: float) -> None:
    """At least or at most, one-sided intervals, the reason and what to do about it."""
    intervals = result.ci95
    low, high = intervals["critical_batch_size"]
    span = f"batch sizes {smallest:g} to {largest:g}"
    if result.min_examples is not None:  # S_min is open: noise dominates everywhere
        result.at_least = largest if low is None else min(low, largest)
        intervals["min_steps"] = (None, intervals["min_steps"][1])
        intervals["critical_batch_size"] = (result.at_least, None)
        result.next_step = what_to_do(frontier, largest) or "try larger batch sizes"
        result.reason = f"{span} do not reach far enough beyond the critical batch size"
    elif result.min_steps is not None:
        result.at_most = smallest if high is None else max(high, smallest)
        intervals["min_examples"] = (None, intervals["min_examples"][1])
        intervals["critical_batch_size"] = (None, result.at_most)
        smaller = frontier[frontier["batch_size"] < smallest]
        result.next_step = what_to_do(smaller) or "try smaller batch sizes"
        result.reason = f"{span} do not reach far enough below the critical batch size"
    else:
        intervals.update(dict.fromkeys(intervals, (None, None)))
        result.next_step = what_to_do(frontier) or "train more seeds and batch sizes"
        result.reason = f"the curve over {span} is too noisy to show where it bends"
