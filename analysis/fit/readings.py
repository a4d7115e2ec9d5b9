"""What is read off a frontier: half elasticity, x % overhead, and S(B) between its points.

On exact regression frontiers the hyperbola is 3 to 6 % high at the knee, which is many times what
seeds leave unknown, and the batch size of 20 % overhead comes out 25 to 40 % low. So what is read
off S(B) away from its asymptotes (steps of a recommended batch size, overheads, half or twice the
batch) is read from a knee of free sharpness plus what the points say beyond it:

    log S(B) = knee(log B) + r(log B),   r: local linear regression of the points' residuals

with a Gaussian kernel as wide as the points lie apart: within 1 % of the exact frontiers. Beyond
the points r stays what it is at the last one. Axes: n curves (the fit first, then its draws), B
fitted batch sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from analysis.fit.forms import KNEE
from analysis.measure.bootstrap import percentile_interval

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]

OVERHEAD = 0.2
FEWEST_FOR_KNEE = 6  # points; with fewer the three parameters of a knee follow the noise
_N_DENSE = 200  # batch sizes at which an overhead is looked for


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


@dataclass(frozen=True)
class MeasuredCurve:
    """log_size [B] increasing; parameters [n, 3] of the knee; log_steps [n, B], NaN: not known."""

    log_size: Floats
    parameters: Floats
    log_steps: Floats

    def log_steps_at(self, batch_size: ArrayLike) -> Floats:
        """log S(B) [n, ...] of the fit and its draws; batch_size of any shape."""
        sizes = np.asarray(batch_size, float)
        at = np.log(sizes).ravel()
        log_steps = KNEE.log_steps(self.parameters, at)[0] + self._beyond_the_knee(at)
        return log_steps.reshape(len(self.parameters), *sizes.shape)

    def misfit_at(self, batch_size: float) -> float:
        """|r| of the fit: how far, in log S, the points lie beyond its knee there.

        On exact frontiers what is left of the misfit at recommended batch sizes is below it.
        """
        return float(np.abs(self._beyond_the_knee(np.log([batch_size]))[0, 0]))

    def overhead(self, overhead: float) -> tuple[float | None, Floats]:
        """Batch size where examples exceed those of the smallest by x = overhead, and its draws.

        S(B) B = (1 + x) S(B_0) B_0: the x % overhead over perfect scaling from B_0 (Zhang et al.
        2024, arXiv:2410.21676), interpolated in log-log. None (inf in draws [n - 1]): not reached
        within the points.
        """
        dense = np.linspace(self.log_size[0], self.log_size[-1], _N_DENSE)
        log_examples = self.log_steps_at(np.exp(dense)) + dense
        excess = log_examples - log_examples[:, :1] - np.log1p(overhead)
        after = np.argmax(excess >= 0, axis=1)
        crossed = (excess >= 0).any(axis=1)
        rows, before = np.arange(len(excess)), np.maximum(after - 1, 0)
        rise = excess[rows, after] - excess[rows, before]
        share = -excess[rows, before] / np.where(rise > 0, rise, 1.0)
        sizes = np.exp(dense[before] + share * (dense[after] - dense[before]))
        crossings = np.where(crossed, sizes, np.inf)
        return (float(crossings[0]) if crossed[0] else None), crossings[1:]

    def _beyond_the_knee(self, at: Floats) -> Floats:
        """r [n, len(at)] at these log batch sizes."""
        knee, _ = KNEE.log_steps(self.parameters, self.log_size)
        inside = np.clip(at, self.log_size[0], self.log_size[-1])
        return self._smooth(self.log_steps - knee, inside)

    def _smooth(self, residual: Floats, at: Floats) -> Floats:
        """Local linear regression [n, len(at)] of residual [n, B] (NaN: left out)."""
        if len(self.log_size) < 2:
            return np.zeros((len(residual), len(at)))
        width = float(np.median(np.diff(self.log_size)))
        distance = (self.log_size[:, None] - at) / width
        kernel = np.exp(-0.5 * distance**2)
        known = (~np.isnan(residual)).astype(float)
        values = np.where(known > 0, residual, 0.0)
        s0, s1, s2 = (known @ (kernel * distance**power) for power in (0, 1, 2))
        t0, t1 = (values @ (kernel * distance**power) for power in (0, 1))
        spread = s0 * s2 - s1**2
        linear = (s2 * t0 - s1 * t1) / np.where(spread > 0, spread, 1.0)
        level = t0 / np.where(s0 > 0, s0, 1.0)
        return np.where(spread > 1e-6 * s0 * s2, linear, level)
