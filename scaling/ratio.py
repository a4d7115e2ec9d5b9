"""A ratio of two means with its interval; shared with analysis."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]


class Ratio(NamedTuple):
    """Ratio of means with its 95 % interval; NaN: not known. Unbounded above: at_least."""

    value: float
    low: float = np.nan
    high: float = np.nan
    at_least: float = np.nan


def ratio_of_means(numerator: Floats, denominator: Floats) -> Ratio:
    """mean N / mean D of T independent records, with Fieller's interval (Fieller 1954).

    The r with (mean N - r mean D)^2 <= t^2 (S_NN - 2 r S_ND + r^2 S_DD), S the covariance of the
    means, t the 97.5 % quantile of T - 1 degrees of freedom. Where mean D is not told from 0 the
    set has no upper end, and the lower one is all that is known (or nothing is).

    >>> ratio_of_means(np.array([2.0, 2.2, 1.8]), np.array([1.0, 1.0, 1.0]))._asdict()["value"]
    2.0
    """
    top, bottom, n = float(numerator.mean()), float(denominator.mean()), len(numerator)
    value = top / bottom if bottom else np.nan
    if n < 2:
        return Ratio(value)
    (nn, nd), (_, dd) = np.cov(numerator, denominator) / n * stdtrit(n - 1, 0.975) ** 2
    a, b, c = bottom**2 - dd, top * bottom - nd, top**2 - nn
    inside = b**2 - a * c
    if inside < 0:
        return Ratio(value)
    ends = np.sort([(b - np.sqrt(inside)) / a, (b + np.sqrt(inside)) / a])
    if a > 0:
        return Ratio(value, float(ends[0]), float(ends[1]))
    return Ratio(value, at_least=float(ends[1])) if c > 0 else Ratio(value)
