"""Where decreasing isotonic regressions cross a level: between the blocks on either side of it.

The formulas and their sources are in curves.read_crossings. Axes: n curves, T evaluations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Evaluations closer than this in log step: a chord there is off by less than 0.1 %.
_DENSE = 0.1
# Of the distance between chord and cubic: on hyperbolas, powers, exponentials and curves with a
# floor, evaluated at ratios up to 2, the cubic's error stays below it but for exponentials at 2.
_CUBIC_ERROR = 0.25


class _Nodes(NamedTuple):
    """Blocks in their order: log or plain step, and loss. [n] each; NaN where there is no block."""

    step: Floats
    loss: Floats


def between_blocks(
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
        refined = _cubic(nodes, crossing[sparse], level)
        crossing[sparse], lower[sparse], upper[sparse] = refined
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
    """As curves.interpolate_crossing, for arrays [n]; a block at the level is the crossing."""
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

    log step is a monotone cubic of u = -log loss (of -loss where there is no logarithm). Bounds:
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
