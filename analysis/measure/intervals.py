"""95 % intervals over bootstrap draws, and the correction that few seeds need.

Resampling n seeds gives the mean a variance of (n-1)/n of the unbiased one, and its percentiles are
those of a normal distribution where a Student t is due (Efron and Tibshirani 1993, An Introduction
to the Bootstrap, chapter 12.5; Hesterberg 2015, The American Statistician 69). So the resampled
log S of each batch size are spread about their median by sqrt(n/(n-1)) and by the ratio of t to
normal quantiles. This happens before the fit, which carries the correction through the whole chain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, t

Floats = NDArray[np.float64]

LEVEL = 0.95
FEWEST_SEEDS = 3  # with fewer, a bootstrap over seeds says nothing: intervals come from residuals


def percentile_interval(draws: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval over axis 0 of draws [n_boot, ...]; NaN draws count as +infinity.

    An end that falls on an infinite draw is returned as NaN: that side is open. No draws: both NaN.
    """
    if not len(draws):
        nothing = np.full(draws.shape[1:], np.nan)
        return nothing, nothing
    tail = 50 * (1 - level)
    filled = np.where(np.isnan(draws), np.inf, draws)
    low, high = np.percentile(filled, [tail, 100 - tail], axis=0, method="closest_observation")
    return np.where(np.isinf(low), np.nan, low), np.where(np.isinf(high), np.nan, high)


def widening(n_seeds: ArrayLike, degrees_of_freedom: ArrayLike, level: float = LEVEL) -> Floats:
    """sqrt(n/(n-1)) t/z: how much wider than the plain bootstrap. n_seeds >= 2, broadcast."""
    n = np.asarray(n_seeds, float)
    tail = 0.5 + level / 2
    return np.sqrt(n / (n - 1)) * t.ppf(tail, degrees_of_freedom) / norm.ppf(tail)


def spread(log_draws: Floats, factor: ArrayLike) -> Floats:
    """log_draws [n_boot, B] spread about their median (of what is known) by factor [B] or one."""
    known = ~np.isnan(log_draws)
    filled = np.where(known, log_draws, np.inf)
    count = known.sum(axis=0)
    ordered = np.sort(filled, axis=0)
    last = np.maximum(count - 1, 0)
    columns = np.arange(log_draws.shape[1])
    median = (ordered[last // 2, columns] + ordered[(last + 1) // 2, columns]) / 2
    median = np.where(count > 0, median, 0.0)
    return median + np.asarray(factor) * (log_draws - median)
