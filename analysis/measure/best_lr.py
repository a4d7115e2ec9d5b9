"""Best learning rate of a batch size, its mark when the grid ends there, and lrs in between.

The steps of the frontier are the raw minimum over the lrs tried; a parabola would be biased, since
S(lr) has a cliff at the stability edge. The lr itself may lie between those tried.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEEPER, _SMOOTH = 3.0, 0.1  # of a rise beyond the stability edge; of a smooth minimum


class BestLr(NamedTuple):
    """Position among the lrs (-1: none reaches the target), and whether the grid ends there."""

    position: int
    at_edge: bool


def best_lr(lrs: Floats, steps: Floats) -> BestLr:
    """The lr of least steps. lrs [n_lrs] increasing, all that were tried; steps [n_lrs] or NaN.

    At the edge only if the best lr is the smallest or largest that was tried: a larger neighbour
    that diverged or did not reach the target closes the range, it does not end the grid.
    """
    if np.isnan(steps).all():
        return BestLr(-1, False)
    position = int(np.nanargmin(steps))
    return BestLr(position, position in (0, len(lrs) - 1))


def refined_lr(lrs: Floats, steps: Floats, best: NDArray) -> Floats:
    """Best lr between those tried: the vertex of the parabola of log steps in log lr.

    lrs [n_lrs] increasing; steps [..., n_lrs], not finite where not reached; best [...] position of
    the least. Through the best and its two neighbours, no further from the best than half a
    spacing; the best itself where a neighbour is missing or did not reach the target (S(lr) has a
    cliff there). NaN where best is -1. Only the lr is refined so: steps would come out biased.

    >>> refined_lr(np.array([0.1, 0.2, 0.4]), np.array([20.0, 10.0, 14.0]), np.array(1)).round(4)
    np.float64(0.2255)
    """
    log_lrs, n = np.log(lrs), len(lrs)
    at = np.clip(best, 1, max(n - 2, 1))
    tried_best = np.where(best >= 0, lrs[np.maximum(best, 0)], np.nan)
    if n < 3 or (np.diff(lrs) <= 0).any():
        return tried_best
    with np.errstate(invalid="ignore", divide="ignore"):
        down, here, up = (
            np.log(np.take_along_axis(steps, (at + move)[..., None], axis=-1)[..., 0])
            for move in (-1, 0, 1)
        )
        left, right = log_lrs[at] - log_lrs[at - 1], log_lrs[at + 1] - log_lrs[at]
        rise, fall = (up - here) / right, (here - down) / left
        # slope of the parabola at the best, over its curvature
        slope = (fall * right + rise * left) / (left + right)
        vertex = -slope / (2 * (rise - fall) / (left + right))
    moved = np.clip(vertex, -left / 2, right / 2)
    inside = (best == at) & np.isfinite(moved) & (rise > fall)
    return np.where(inside, np.exp(log_lrs[at] + np.where(inside, moved, 0.0)), tried_best)


def lr_interval(
    lrs: Floats, index: int, drawn: NDArray, factor: float = 1.0
) -> tuple[float, float]:
    """95 % percentile interval of the best lr, never narrower than half a spacing to either side.

    lrs [n_lrs] increasing; index of the best; drawn [n_boot] indices of the best lr in bootstrap
    resamples, -1 where none reached the target (left out); factor: by which the draws are widened
    for few seeds (analysis.measure.bootstrap), around the best.
    """
    lr = lrs[index]
    down = lrs[index - 1] if index > 0 else lr**2 / lrs[min(1, len(lrs) - 1)]
    up = lrs[index + 1] if index + 1 < len(lrs) else lr**2 / lrs[max(index - 1, 0)]
    low, high = np.sqrt(lr * down), np.sqrt(lr * up)
    drawn = drawn[drawn >= 0]
    if len(drawn):
        few, most = np.percentile(drawn, [2.5, 97.5], method="nearest").astype(int)
        low, high = (lr * (end / lr) ** factor for end in (lrs[few], lrs[most]))
        low, high = min(low, np.sqrt(lr * down)), max(high, np.sqrt(lr * up))
    return float(low), float(high)


class Between(NamedTuple):
    """What may lie between the tried lrs: how far, in log S, the least steps are below those of the
    best, and how far, in log lr, the best lr is above it."""

    depth: float
    above: float


NOTHING_BETWEEN = Between(0.0, 0.0)


def between_lrs(lrs: Floats, steps: Floats, position: int) -> Between:
    """What the lrs between the tried ones may save, from log S at the best and its neighbours.

    lrs [n_lrs] increasing; steps [n_lrs], not finite where not reached; position of the best. S
    falls up to the stability edge and rises steeply beyond it. With a fall a over a spacing to the
    best and a rise b to the lr above: if that one did not reach the target, S may fall on up to it,
    by a; else to where the fall meets a rise c, at (c - b)/(a + c) of the way: c = min(a, 3 b), or
    3 b where b is as much steeper than a. Where both are below 10 %, at least to the vertex of the
    parabola through the three, on either side.

    >>> parts = between_lrs(np.array([1.0, 1.1, 1.21]), np.array([12.0, 11.0, np.nan]), 1)
    >>> [round(part, 3) for part in parts]
    [0.087, 0.095]
    """
    if not 0 < position < len(lrs) - 1:
        return NOTHING_BETWEEN
    with np.errstate(divide="ignore"):  # an lr of 0
        log_lrs = np.log(lrs[position - 1 : position + 2])
    around = steps[position - 1 : position + 2]
    log_steps = np.log(np.where(np.isfinite(around) & (around > 0), around, np.inf))
    widths, rises = (np.abs(values[[0, 2]] - values[1]) for values in (log_lrs, log_steps))
    fall, rise = rises[0] / widths[0] * widths[1], rises[1]
    reach, depth = 0.0, 0.0
    if np.isfinite(fall) and fall > 0:
        edge = _STEEPER * rise if rise > _STEEPER * fall else min(fall, _STEEPER * rise)
        reach = 1.0 if np.isinf(rise) else max((edge - rise) / (fall + edge), 0.0)
        depth = reach * fall
    if 0 < rises.max() < _SMOOTH:
        slopes = rises / widths
        bend = 2 * slopes.sum() / widths.sum()
        slope = (slopes[1] * widths[0] - slopes[0] * widths[1]) / widths.sum()
        depth = max(depth, slope**2 / (2 * bend))
    return Between(float(depth), float(reach * widths[1]))


class LrAt(NamedTuple):
    lr: float
    lr_low: float
    lr_high: float
    clamped: bool


def lr_at(frontier: pd.DataFrame, batch_size: float) -> LrAt:
    """Best lr at any batch size: log-log between the frontier's neighbouring batch sizes.

    frontier: the usable rows of one group and target (batch_size, lr, lr_low, lr_high). Beyond the
    sampled batch sizes the lr of the nearest one is taken, and `clamped` says so.
    """
    rows = frontier.sort_values("batch_size")
    sizes = rows["batch_size"].to_numpy(float)
    at = np.log(batch_size)
    values = (
        float(np.exp(np.interp(at, np.log(sizes), np.log(rows[name].to_numpy(float)))))
        for name in ("lr", "lr_low", "lr_high")
    )
    return LrAt(*values, clamped=bool(not sizes[0] <= batch_size <= sizes[-1]))
