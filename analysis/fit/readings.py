"""Critical batch sizes read off a frontier: x % overhead, and half elasticity without a form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from analysis.measure.intervals import percentile_interval

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]

OVERHEAD = 0.2


class Reading(NamedTuple):
    """A critical batch size, or None with the bound that the data do give."""

    value: float | None
    at_least: float | None = None
    at_most: float | None = None


def half_elasticity(
    batch_size: Sequence[float] | Floats,
    steps: Sequence[float] | Floats,
    variance: Sequence[float] | Floats | None = None,
) -> Reading:
    """The batch size at which -dlogS/dlogB falls to 1/2. batch_size [B] increasing, steps [B].

    Slopes of log S between adjacent batch sizes, at geometric midpoints; decreasing isotonic
    regression weighted by their precision (log distance squared over the sum of both points'
    variance [B] of log S; equal by default); linear in log B. A plateau at 1/2 gives its geometric
    midpoint. All steeper than 1/2: at least the largest batch size; all flatter: at most the
    smallest. Fewer than two points: nothing.

    >>> sizes = np.geomspace(1, 4096, 100)
    >>> round(half_elasticity(sizes, 40 + 3360 / sizes).value)
    84
    >>> half_elasticity([1, 2, 4], [400, 210, 120])
    Reading(value=None, at_least=4.0, at_most=None)
    """
    if len(batch_size) < 2:
        return Reading(None)
    log_size, log_steps = np.log(batch_size), np.log(steps)
    width = np.diff(log_size)
    middle = (log_size[1:] + log_size[:-1]) / 2
    spread = np.ones(len(log_size)) if variance is None else np.asarray(variance, float)
    weights = width**2 / (spread[1:] + spread[:-1])
    slope = isotonic_regression(-np.diff(log_steps) / width, weights=weights, increasing=False).x
    half = np.flatnonzero(np.isclose(slope, 0.5, rtol=0, atol=1e-9))
    if len(half):
        return Reading(float(np.exp((middle[half[0]] + middle[half[-1]]) / 2)))
    if slope[-1] > 0.5:
        return Reading(None, at_least=float(batch_size[-1]))
    if slope[0] < 0.5:
        return Reading(None, at_most=float(batch_size[0]))
    return Reading(float(np.exp(np.interp(-0.5, -slope, middle))))


def half_elasticity_interval(
    batch_size: Floats, log_draws: Floats, variance: Floats | None = None
) -> Interval:
    """95 % percentile interval of half_elasticity over draws [n_boot, B] of log S (NaN: unknown).

    A draw that does not cross 1/2 lies beyond the batch sizes on its side; an end among such draws
    is open (None), and the other end is then at most the largest, at least the smallest size.
    """
    readings = []
    for log_steps in log_draws:
        known = ~np.isnan(log_steps)
        known_variance = None if variance is None else variance[known]
        reading = half_elasticity(batch_size[known], np.exp(log_steps[known]), known_variance)
        beyond = 0.0 if reading.at_most is not None else np.inf
        readings.append(beyond if reading.value is None else reading.value)
    low, high = percentile_interval(np.array(readings))
    largest, smallest = float(batch_size[-1]), float(batch_size[0])
    if np.isnan(high):
        return (largest if np.isnan(low) else float(low) or None, None)
    if low == 0:
        return (None, float(high) or smallest)
    return float(low), float(high)


def overhead_batch_size(
    critical_batch_size: float,
    reference_batch_size: float,
    overhead: float = OVERHEAD,
    knee: float = 1.0,
) -> float:
    """The B at which the fitted S exceeds perfect scaling from B_opt by x = overhead.

    B* = B_crit [(1+x)^g (1 + (B_opt/B_crit)^g) - 1]^(1/g); for the hyperbola (g = 1) that is
    (1 + x) B_opt + x E_min/S_min. Source: Zhang et al. 2024, arXiv:2410.21676.

    >>> round(overhead_batch_size(84.0, 4.0), 6), round(overhead_batch_size(84.0, 4.0, knee=2.0), 2)
    (21.6, 55.93)
    """
    g = knee
    share = (1 + overhead) ** g * (1 + (reference_batch_size / critical_batch_size) ** g) - 1
    return critical_batch_size * share ** (1 / g)
