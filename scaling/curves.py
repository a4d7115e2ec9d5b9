"""What "reached a target" means: seed means and crossings. Numpy only; training, search, analysis.

Axes: n curves (one mean curve, or its bootstrap resamples), T evaluations, K levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Evaluations closer than this in log step: a chord there is off by less than 0.1 %.
_DENSE = 0.1
# Of the distance between chord and cubic: on hyperbolas, powers, exponentials and curves with a
# floor, evaluated at ratios up to 2, the cubic's error stays below it but for exponentials at 2.
_CUBIC_ERROR = 0.25


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
    found = read_crossings(steps, curves, levels, lengths)
    early = np.isnan(found.steps) & ~np.isnan(found.upper)
    return np.where(early, found.upper, found.steps)


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
    found = Crossings(*(np.full((n, len(levels)), np.nan) for _ in range(3)))
    last = steps[np.maximum(ends - 1, 0)] if n_steps else np.empty(0)
    for k, level in enumerate(levels):
        height = sums - level * index
        height[index[None, :] > ends[:, None]] = -np.inf
        above = np.argmax(height, axis=1)
        none = (above == ends) & (ends > 0)
        found.lower[none, k] = last[none]
        found.upper[(above == 0) & (ends > 0), k] = steps[0] if n_steps else np.nan
        inside = np.flatnonzero((above > 0) & (above < ends))
        if len(inside):
            crossed = _between_blocks(steps, sums[inside], above[inside], ends[inside], level)
            for part, values in zip(found, crossed, strict=True):
                part[inside, k] = values
    return found


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


class _Nodes(NamedTuple):
    """Blocks in their order: log or plain step, and loss. [n] each; NaN where there is no block."""

    step: Floats
    loss: Floats


def _between_blocks(
    steps: Floats, sums: Floats, above: NDArray, ends: NDArray, level: float
) -> tuple[Floats, Floats, Floats]:
    """Crossing and its bounds between the blocks that end and begin at index `above`. [n] each."""
    begin, before = _block_ending(sums, above)
    end, after = _block_beginning(sums, above, ends)
    left = _Nodes(_position(steps, begin, above), before)
    right = _Nodes(_position(steps, above, end), after)
    crossing = _chord(left, right, level)
    lower, upper = crossing.copy(), crossing.copy()
    early = left.step == 0
    crossing[early], lower[early], upper[early] = np.nan, np.nan, right.step[early]
    with np.errstate(divide="ignore", invalid="ignore"):
        sparse = np.flatnonzero(~early & (np.log(right.step / left.step) > _DENSE))
    if len(sparse):
        rows = sums[sparse]
        first, further_left = _block_ending(rows, begin[sparse])
        last, further_right = _block_beginning(rows, end[sparse], ends[sparse])
        nodes = (
            _Nodes(_position(steps, first, begin[sparse]), further_left),
            _Nodes(left.step[sparse], left.loss[sparse]),
            _Nodes(right.step[sparse], right.loss[sparse]),
            _Nodes(_position(steps, end[sparse], last), further_right),
        )
        found = _cubic(nodes, crossing[sparse], level)
        crossing[sparse], lower[sparse], upper[sparse] = found
    return crossing, lower, upper


def _block_ending(sums: Floats, at: NDArray) -> tuple[NDArray, Floats]:
    """Begin and mean of the block that ends at index `at` [n]; at itself and NaN if at is 0."""
    rows, index = np.arange(len(at)), np.arange(max(int(at.max()), 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (sums[rows, at][:, None] - sums[:, : len(index)]) / (at[:, None] - index)
    mean[index >= at[:, None]] = np.inf
    begin = np.argmin(mean, axis=1)
    none = at == 0
    return np.where(none, at, begin), np.where(none, np.nan, mean[rows, begin])


def _block_beginning(sums: Floats, at: NDArray, ends: NDArray) -> tuple[NDArray, Floats]:
    """End and mean of the block that begins at index `at` [n]; at and NaN where the curve ends."""
    rows, first = np.arange(len(at)), min(int(at.min()) + 1, sums.shape[1] - 1)
    index = np.arange(first, sums.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (sums[:, first:] - sums[rows, at][:, None]) / (index - at[:, None])
    mean[(index <= at[:, None]) | (index > ends[:, None])] = -np.inf
    # the last of equal maxima: a block is as long as it can be
    last = len(index) - 1 - np.argmax(mean[:, ::-1], axis=1)
    none = at >= ends
    return np.where(none, at, first + last), np.where(none, np.nan, mean[rows, last])


def _chord(left: _Nodes, right: _Nodes, level: float) -> Floats:
    """interpolate_crossing for arrays [n]; a block at the level is the crossing."""
    before, after = left.loss, right.loss
    between = (before > level) & (level >= after)  # but for a mean equal to it, and rounding
    share = np.where(before > level, 1.0, 0.0)
    share[between] = ((before - level) / np.where(between, before - after, 1.0))[between]
    if level > 0:
        positive = between & (after > 0)
        share[positive] = np.log(before[positive] / level) / np.log(
            before[positive] / after[positive]
        )
    crossing = left.step + share * (right.step - left.step)
    late = left.step > 0
    crossing[late] = left.step[late] * (right.step[late] / left.step[late]) ** share[late]
    return np.clip(crossing, left.step, right.step)  # rounding must not leave the blocks


def _cubic(nodes: tuple[_Nodes, ...], chord: Floats, level: float) -> tuple[Floats, ...]:
    """The crossing between the middle two of four blocks, and its bounds. [n] each.

    log step is a monotone cubic of u = -log loss (of -loss where some logarithm lacks). Bounds:
    _CUBIC_ERROR of the distance to the chord, all of it where one outer block is missing, the
    blocks themselves where both are.
    """
    values = np.stack([node.loss for node in nodes])
    logarithmic = (level > 0) & (values[1:3] > 0).all(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where(logarithmic, -np.log(values), -values)
        at = np.where(logarithmic, -np.log(level) if level > 0 else 0.0, -level)
        x = np.log(np.stack([node.step for node in nodes]))
        width, rise = np.diff(u, axis=0), np.diff(x, axis=0)
        slope = rise / width
        known = np.isfinite(slope) & (width > 0)
        at_left = _inner_slope(width[0], slope[0], width[1], slope[1])
        at_right = _inner_slope(width[1], slope[1], width[2], slope[2])
        first_end = _end_slope(width[1], slope[1], width[2], slope[2])
        last_end = _end_slope(width[1], slope[1], width[0], slope[0])
        d_left = np.where(known[0], at_left, np.where(known[2], first_end, slope[1]))
        d_right = np.where(known[2], at_right, np.where(known[0], last_end, slope[1]))
        t = np.clip((at - u[1]) / width[1], 0.0, 1.0)
        log_step = (
            (1 + 2 * t) * (1 - t) ** 2 * x[1]
            + t * (1 - t) ** 2 * width[1] * d_left
            + t**2 * (3 - 2 * t) * x[2]
            - t**2 * (1 - t) * width[1] * d_right
        )
    log_chord = np.log(chord)
    log_step = np.clip(np.where(known[1], log_step, log_chord), x[1], x[2])
    off = np.abs(log_step - log_chord)
    both, neither = known[0] & known[2], ~known[0] & ~known[2]
    off = np.where(both, _CUBIC_ERROR * off, off)
    low = np.where(neither, x[1], np.maximum(log_step - off, x[1]))
    high = np.where(neither, x[2], np.minimum(log_step + off, x[2]))
    left, right = nodes[1].step, nodes[2].step
    return tuple(np.clip(np.exp(part), left, right) for part in (log_step, low, high))


def _inner_slope(h_before: Floats, before: Floats, h_after: Floats, after: Floats) -> Floats:
    """Fritsch and Butland's weighted harmonic mean of the chords' slopes on either side."""
    w_before, w_after = h_before + 2 * h_after, 2 * h_before + h_after
    return (w_before + w_after) / (w_before / before + w_after / after)


def _end_slope(h: Floats, slope: Floats, h_next: Floats, next_slope: Floats) -> Floats:
    """Of a parabola through three nodes at the end of the first; slopes are not negative."""
    return np.maximum(((2 * h + h_next) * slope - h * next_slope) / (h + h_next), 0.0)


def _position(steps: Floats, begin: NDArray, end: NDArray) -> Floats:
    """Geometric mean of steps[begin:end], without step 0 unless it is alone; NaN if empty. [n]"""
    sums = np.concatenate([[0.0], np.cumsum(np.log(np.where(steps > 0, steps, 1.0)))])
    first = np.where((steps[np.minimum(begin, len(steps) - 1)] == 0) & (end > begin + 1),
                     begin + 1, begin)  # fmt: skip
    count = end - first
    least, most = steps[np.minimum(first, len(steps) - 1)], steps[np.maximum(end - 1, 0)]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.exp((sums[end] - sums[first]) / count)
    # a single step is itself: exp(log(step)) may miss it by a bit
    position = np.where(count == 1, least, np.clip(mean, least, most))
    return np.where(count > 0, position, np.nan)
