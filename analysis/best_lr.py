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
    own = np.where(best >= 0, lrs[np.maximum(best, 0)], np.nan)
    if n < 3 or (np.diff(lrs) <= 0).any():
        return own
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
    return np.where(inside, np.exp(log_lrs[at] + np.where(inside, moved, 0.0)), own)


def lr_interval(lrs: Floats, index: int, drawn: NDArray) -> tuple[float, float]:
    """95 % percentile interval of the best lr, never narrower than half a spacing to either side.

    lrs [n_lrs] increasing; index of the best; drawn [n_boot] indices of the best lr in bootstrap
    resamples, -1 where none reached the target (left out).
    """
    lr = lrs[index]
    down = lrs[index - 1] if index > 0 else lr**2 / lrs[min(1, len(lrs) - 1)]
    up = lrs[index + 1] if index + 1 < len(lrs) else lr**2 / lrs[max(index - 1, 0)]
    low, high = np.sqrt(lr * down), np.sqrt(lr * up)
    drawn = drawn[drawn >= 0]
    if len(drawn):
        few, most = np.percentile(drawn, [2.5, 97.5], method="nearest").astype(int)
        low, high = min(low, lrs[few]), max(high, lrs[most])
    return float(low), float(high)


def below_the_best(lrs: Floats, steps: Floats, position: int) -> float:
    """How far, in log S, the least steps between the tried lrs may lie below those of the best.

    lrs [n_lrs] increasing; steps [n_lrs], not finite where not reached (a cliff); position of the
    best. Of a convex log S(log lr) the chords on either side, extended, are a lower bound between
    the best lr and its neighbours. A chord that falls to the best with slope a and one that rises
    beyond the neighbour with slope c, where log S is b higher at a distance h, meet at a (c h - b)
    / (a + c) below the best; next to a cliff S may fall on up to it, by a h.

    >>> below_the_best(np.array([1.0, 1.1, 1.21]), np.array([12.0, 11.0, np.nan]), 1).__round__(3)
    0.087
    """
    log_lrs, n = np.log(lrs), len(lrs)
    log_steps = np.where(np.isfinite(steps), np.log(np.where(steps > 0, steps, 1.0)), np.inf)
    depth = 0.0
    for side in (1, -1):
        before, after, beyond = (position + side * k for k in (-1, 1, 2))
        if not (0 <= before < n and 0 <= after < n and np.isfinite(log_steps[before])):
            continue
        width = abs(log_lrs[after] - log_lrs[position])
        fall = (log_steps[before] - log_steps[position]) / abs(log_lrs[before] - log_lrs[position])
        reach = width
        if 0 <= beyond < n and np.isfinite(log_steps[[after, beyond]]).all():
            rise = log_steps[after] - log_steps[position]
            further = (log_steps[beyond] - log_steps[after]) / abs(log_lrs[beyond] - log_lrs[after])
            if fall + further > 0:
                reach = np.clip((further * width - rise) / (fall + further), 0.0, width)
        depth = max(depth, fall * reach)
    return float(depth)


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
