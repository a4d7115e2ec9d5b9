"""Crossings by other libraries: scipy's isotonic regression and its monotone cubic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]


def crossing_by_scipy(steps: Floats, curve: Floats, level: float) -> float:
    """The definition, step by step: fit, find the two blocks, interpolate."""
    fit = isotonic_regression(curve, increasing=False)
    below = np.flatnonzero(fit.x <= level)
    if not len(below):
        return np.nan
    if below[0] == 0:
        return steps[0]
    blocks = list(zip(fit.blocks[:-1], fit.blocks[1:], strict=True))
    right = next(i for i, (begin, _) in enumerate(blocks) if begin == below[0])

    def position(begin: int, end: int) -> float:
        inside = steps[begin:end]
        inside = inside[inside > 0]
        return np.exp(np.log(inside).mean()) if len(inside) else 0.0

    x = np.array([position(*block) for block in blocks[max(right - 2, 0) : right + 2]])
    y = np.array([fit.x[begin] for begin, _ in blocks[max(right - 2, 0) : right + 2]])
    left = min(right, 2) - 1
    if x[left] == 0:
        return x[left + 1]  # at most there
    plain = level <= 0 or (y[left : left + 2] <= 0).any()
    kept = (x > 0) & (plain | (y > 0))
    u, log_x = (-y if plain else -np.log(y[kept])), np.log(x[kept])
    u = u[kept] if plain else u
    at = -level if plain else -np.log(level)
    dense = x[left + 1] / x[left] <= np.exp(0.1)
    if dense or len(u) == 2:
        pair = slice(left - (not kept[0]), left - (not kept[0]) + 2)
        return np.exp(np.interp(at, u[pair], log_x[pair]))
    return np.exp(PchipInterpolator(u, log_x)(at))
