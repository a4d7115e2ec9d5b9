"""What a fit identifies: its intervals, and the bounds where the data do not bend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.bootstrap import percentile_interval
from analysis.fit_result import FitResult, Interval
from analysis.readings import OVERHEAD, measured_overhead_batch_size, overhead_batch_size

Floats = NDArray[np.float64]

# An interval that ends further outside the sampled batch sizes than this is open on that side: the
# data do not bend there, and where the end lies is the shape's doing.
_BEYOND = 4.0


def judge(result: FitResult, sizes: Floats, steps: Floats) -> None:
    """Fill in what is identified, its intervals, and bounds where it is not.

    sizes, steps [B]: the reached points of the fit; result.draws, .forms and .log_parameters known.
    """
    assert result.log_parameters is not None
    log_min_steps, log_min_examples = result.log_parameters
    smallest, largest = float(sizes.min()), float(sizes.max())
    value = float(np.exp(log_min_examples - log_min_steps))
    low, high = log_interval(result.draws[:, 1] - result.draws[:, 0])
    open_below = value < smallest or (low is not None and low < smallest / _BEYOND)
    open_above = value > largest or (high is not None and high > largest * _BEYOND)
    result.identified = not (open_below or open_above)
    intervals = {
        "min_steps": log_interval(result.draws[:, 0]),
        "min_examples": log_interval(result.draws[:, 1]),
        "critical_batch_size": (low, high),
    }
    if not open_above:
        result.min_steps = float(np.exp(log_min_steps))
    if not open_below:
        result.min_examples = float(np.exp(log_min_examples))
    if result.identified:
        result.critical_batch_size = value
        _overhead(result, intervals, sizes, steps)
    else:
        _bound(result, intervals, smallest, largest)
    result.ci95 = intervals


def log_interval(log_draws: Floats) -> Interval:
    """95 % percentile interval of exp(log_draws) [n]; both None where an end is open."""
    low, high = np.exp(percentile_interval(log_draws))
    return (None, None) if np.isnan(low) or np.isnan(high) else (float(low), float(high))


def _overhead(
    result: FitResult, intervals: dict[str, Interval], sizes: Floats, steps: Floats
) -> None:
    """Definition 2: from the hyperbola, from the knee, and from the data alone."""
    assert result.critical_batch_size is not None
    reference = float(sizes.min())
    knee = next(form for form in result.forms if form["form"] == "knee")
    result.critical_batch_size_overhead = {
        "overhead": OVERHEAD,
        "reference_batch_size": reference,
        "value": overhead_batch_size(result.critical_batch_size, reference),
        "value_from_data": measured_overhead_batch_size(sizes, steps),
        "value_of_knee": overhead_batch_size(
            knee["critical_batch_size"], reference, knee=knee["knee"]
        ),
    }
    ends = intervals["critical_batch_size"]
    intervals["critical_batch_size_overhead"] = (
        None if ends[0] is None else overhead_batch_size(ends[0], reference),
        None if ends[1] is None else overhead_batch_size(ends[1], reference),
    )


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
