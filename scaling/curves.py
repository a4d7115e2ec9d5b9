"""What "reached a target" means: seed means and crossings. Numpy only; training, search, analysis.

Axes: n curves (one mean curve, or its bootstrap resamples), T evaluations, K levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scaling.isotonic import between_blocks

Floats = NDArray[np.float64]


class Crossings(NamedTuple):
    """Where curves cross levels, in steps. [n, K] each.

    steps: the crossing, NaN where none is seen; then lower is the window's end and upper NaN
    (right-censored), or lower NaN and upper the first evaluation (left-censored: at most there),
    or both are NaN (no curve). lower <= steps <= upper: how far interpolation may be off.
    """

    steps: Floats
    lower: Floats
    upper: Floats


def interpolate_crossing(
    step_before: float, loss_before: float, step: float, loss: float, target_loss: float
) -> float:
    """Step at which the loss crosses the target between two evaluations, linear in log-log.

    loss_before > target_loss >= loss. Where a logarithm does not exist (step 0, a loss that is not
    positive) that axis is linear.
    """
    if loss_before > 0 and loss > 0 and target_loss > 0:
        share = math.log(loss_before / target_loss) / math.log(loss_before / loss)
    else:
        share = (loss_before - target_loss) / (loss_before - loss)
    if step_before > 0:
        return min(step_before * (step / step_before) ** share, step)
    return step_before + share * (step - step_before)


def isotonic_crossing(
    steps: Floats, curves: Floats, levels: Sequence[float], lengths: NDArray | None = None
) -> Floats:
    """Steps [n, K] of read_crossings; a left-censored one stands at the curve's first step."""
    crossings = read_crossings(steps, curves, levels, lengths)
    early = np.isnan(crossings.steps) & ~np.isnan(crossings.upper)
    return np.where(early, crossings.upper, crossings.steps)


def read_crossings(
    steps: Floats, curves: Floats, levels: Sequence[float], lengths: NDArray | None = None
) -> Crossings:
    """Where the decreasing isotonic regression of each curve crosses each level.

    steps [T] increasing; curves [n, T]; levels [K]; lengths [n]: only the first lengths[i] values
    of curve i count. Between the regression's mean blocks, each at the geometric mean of its steps,
    the crossing is a monotone cubic in log-log (a chord where evaluations are dense).
    Right-censored: no block at or below the level before the window's end. Left-censored: the first
    evaluation is there already, or step 0 is the only one above.

    The regression is never computed. With prefix sums P_k = sum_{i<k} y_i, the points fitted above
    c are the first k* = argmax_k (P_k - c k) (the first maximum); the block left of the crossing is
    the least mean of y[j..k*), the one to the right the greatest mean of y[k*..j). Source: the
    greatest convex minorant (min-max) formulas, Barlow et al. 1972; the cubic: Fritsch and Butland
    1984, SIAM J. Sci. Stat. Comput. 5. Tests compare scipy's regression and PchipInterpolator.
    """
    n, n_steps = curves.shape
    index = np.arange(n_steps + 1)
    ends = np.full(n, n_steps) if lengths is None else lengths
    sums = np.zeros((n, n_steps + 1))
    np.cumsum(curves, axis=1, out=sums[:, 1:])
    crossings = Crossings(*(np.full((n, len(levels)), np.nan) for _ in range(3)))
    last = steps[np.maximum(ends - 1, 0)] if n_steps else np.empty(0)
    for k, level in enumerate(levels):
        height = sums - level * index
        height[index[None, :] > ends[:, None]] = -np.inf
        above = np.argmax(height, axis=1)
        none = (above == ends) & (ends > 0)
        crossings.lower[none, k] = last[none]
        crossings.upper[(above == 0) & (ends > 0), k] = steps[0] if n_steps else np.nan
        inside = np.flatnonzero((above > 0) & (above < ends))
        if len(inside):
            crossed = between_blocks(steps, sums[inside], above[inside], ends[inside], level)
            for part, values in zip(crossings, crossed, strict=True):
                part[inside, k] = values
    return crossings


def interpolate_loss(steps: Floats, loss: Floats, at: Floats) -> Floats:
    """A curve [T] at other steps within its range, log-log; linear where there is no logarithm."""
    plain = np.interp(at, steps, loss)
    known = (steps > 0) & (loss > 0)
    if known.sum() < 2:
        return plain
    logs = np.exp(
        np.interp(np.log(np.maximum(at, 1e-300)), np.log(steps[known]), np.log(loss[known]))
    )
    after = np.clip(np.searchsorted(steps, at, side="left"), 1, len(steps) - 1)
    between_known = known[after] & known[after - 1]
    between = np.where(between_known, logs, plain)
    same = np.isin(at, steps)  # what was measured stands to the last bit
    between[same] = loss[np.searchsorted(steps, at[same])]
    return between


class CommonSteps(NamedTuple):
    """Curves of several seeds at the same steps.

    steps [T]; loss [n_seeds, T], 0 beyond a seed's own end; lengths [n_seeds] how many of `steps`
    each seed covers.
    """

    steps: Floats
    loss: Floats
    lengths: NDArray[np.int64]


def at_common_steps(curves: Sequence[tuple[Floats, Floats]]) -> CommonSteps:
    """Curves (steps, losses) of any lengths at common steps, from the latest first evaluation on.

    Seeds evaluated at the same steps (apart from a last evaluation off their schedule, which is
    dropped) are taken as they are; else each is interpolated in log-log onto the steps of all.
    """
    ends = np.array([steps[-1] if len(steps) else -1.0 for steps, _ in curves])
    union = np.unique(np.concatenate([steps for steps, _ in curves]))
    first = max((steps[0] for steps, _ in curves if len(steps)), default=0.0)
    union = union[union >= first]
    covered = union[None, :] <= ends[:, None]
    present = np.array([np.isin(union, steps) for steps, _ in curves])
    common = (present | ~covered).all(axis=0)
    if np.isin(union[~common], ends).all():
        union, covered = union[common], covered[:, common]
    loss = np.zeros(covered.shape)
    for i, (steps, values) in enumerate(curves):
        if len(steps):
            loss[i, covered[i]] = interpolate_loss(steps, values, union[covered[i]])
    return CommonSteps(union, loss, covered.sum(axis=1))


def seed_mean(curves: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[Floats, Floats]:
    """Steps [T] and mean loss [T] over the window that the curves (steps, losses) have in common.

    >>> steps, mean = seed_mean([(np.array([1, 2, 4]), np.array([8.0, 4.0, 2.0])),
    ...                          (np.array([1, 2]), np.array([6.0, 2.0]))])
    >>> steps.tolist(), mean.tolist()
    ([1.0, 2.0], [7.0, 3.0])
    """
    as_floats = [(np.asarray(steps, float), np.asarray(loss, float)) for steps, loss in curves]
    steps, loss, lengths = at_common_steps(as_floats)
    window = int(lengths.min())
    return steps[:window], loss[:, :window].mean(axis=0)
