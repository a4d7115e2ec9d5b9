"""Where curves cross a level: isotonic regressions of many curves at once, and losses in between.

Axes: n curves (one mean curve, or its bootstrap resamples), T evaluations, K levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def isotonic_crossing(
    steps: Floats, curves: Floats, levels: Sequence[float], lengths: NDArray | None = None
) -> Floats:
    """Steps [n, K] at which the decreasing isotonic regression of each curve crosses each level.

    steps [T] increasing; curves [n, T]; levels [K]; lengths [n]: only the first lengths[i] values
    of curve i count. NaN (censored): no block at or below the level before the window's end.

    The fit is never computed. With prefix sums P_k = sum_{i<k} y_i, the points fitted above c are
    the first k* = argmax_k (P_k - c k) (the first maximum); the block left of the crossing is the
    least mean of y[j..k*), the one to the right the greatest mean of y[k*..j). Between the blocks,
    each at the geometric mean of its steps, the crossing is linear in log-log. Source: the greatest
    convex minorant (min-max) formulas, Barlow et al. 1972; a test compares scipy's regression.
    """
    n, n_steps = curves.shape
    index = np.arange(n_steps + 1)
    ends = np.full(n, n_steps) if lengths is None else lengths
    sums = np.zeros((n, n_steps + 1))
    np.cumsum(curves, axis=1, out=sums[:, 1:])
    log_steps = np.log(np.maximum(steps, 1.0))
    crossings = np.full((n, len(levels)), np.nan)
    for k, level in enumerate(levels):
        height = sums - level * index
        height[index[None, :] > ends[:, None]] = -np.inf
        above = np.argmax(height, axis=1)
        crossings[(above == 0) & (ends > 0), k] = steps[0]  # at or below the level from the start
        inside = np.flatnonzero((above > 0) & (above < ends))
        if len(inside):
            crossings[inside, k] = _between_blocks(
                steps, log_steps, sums[inside], above[inside], ends[inside], level
            )
    return crossings


def interpolate_loss(steps: Floats, loss: Floats, at: Floats) -> Floats:
    """A curve [T] at other steps within its range, log-log; linear where a logarithm lacks."""
    plain = np.interp(at, steps, loss)
    known = (steps > 0) & (loss > 0)
    if known.sum() < 2:
        return plain
    logs = np.exp(
        np.interp(np.log(np.maximum(at, 1e-300)), np.log(steps[known]), np.log(loss[known]))
    )
    after = np.clip(np.searchsorted(steps, at, side="left"), 1, len(steps) - 1)
    between_known = known[after] & known[after - 1]
    found = np.where(between_known, logs, plain)
    same = np.isin(at, steps)  # what was measured stands to the last bit
    found[same] = loss[np.searchsorted(steps, at[same])]
    return found


def _between_blocks(
    steps: Floats, log_steps: Floats, sums: Floats, above: NDArray, ends: NDArray, level: float
) -> Floats:
    """Log-log interpolation between the blocks that end and begin at index `above`. Shape [n]."""
    rows = np.arange(len(above))
    at_split = sums[rows, above]
    first, last = int(above.min()), int(above.max())
    index = np.arange(sums.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        left = (at_split[:, None] - sums[:, :last]) / (above[:, None] - index[None, :last])
        right = (sums[:, first + 1 :] - at_split[:, None]) / (index[first + 1 :] - above[:, None])
    left[index[None, :last] >= above[:, None]] = np.inf
    outside = (index[first + 1 :] <= above[:, None]) | (index[first + 1 :] > ends[:, None])
    right[outside] = -np.inf
    begin = np.argmin(left, axis=1)
    # the last of equal maxima: a block is as long as it can be
    end = sums.shape[1] - 1 - np.argmax(right[:, ::-1], axis=1)
    return _interpolate(
        _position(steps, log_steps, begin, above),
        left[rows, begin],
        _position(steps, log_steps, above, end),
        right[rows, end - first - 1],
        level,
    )


def _interpolate(
    step_before: Floats, before: Floats, step: Floats, after: Floats, level: float
) -> Floats:
    """scaling.target.interpolate_crossing for arrays [n]; a block at the level is the crossing."""
    between = (before > level) & (level >= after)  # but for a mean equal to it, and rounding
    share = np.where(before > level, 1.0, 0.0)
    share[between] = ((before - level) / np.where(between, before - after, 1.0))[between]
    if level > 0:
        positive = between & (after > 0)
        share[positive] = np.log(before[positive] / level) / np.log(
            before[positive] / after[positive]
        )
    crossing = step_before + share * (step - step_before)
    late = step_before > 0
    crossing[late] = step_before[late] * (step[late] / step_before[late]) ** share[late]
    return crossing


def _position(steps: Floats, log_steps: Floats, begin: NDArray, end: NDArray) -> Floats:
    """Geometric mean of steps[begin:end], without step 0 unless it is alone. Shape [n]."""
    sums = np.concatenate([[0.0], np.cumsum(log_steps)])
    first = np.where((steps[begin] == 0) & (end > begin + 1), begin + 1, begin)
    position = np.exp((sums[end] - sums[first]) / (end - first))
    return np.where(steps[first] == 0, 0.0, position)
