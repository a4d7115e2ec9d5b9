"""Resampling of seeds that redoes averaging, crossing and the choice of lr.

A seed fixes the data stream of a trial, the same for every lr of a batch size and independent
between batch sizes: seeds are resampled once per batch size, jointly for its
lrs. A cell with a diverged seed stays out in every resample: one divergence is enough to
know that the lr is not usable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.steps_to_target import Cell, isotonic_crossing

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FrontierDraws:
    """Bootstrap of one batch size. K targets.

    steps [K, n_boot]: least steps over the lrs, NaN where no lr reached the target;
    best [K, n_boot]: index of that lr among the cells' lrs, -1 where none reached.
    """

    steps: Floats
    best: NDArray[np.int64]


def draw_frontier(
    cells: Sequence[Cell], levels: Sequence[float], n_bootstrap: int, rng: np.random.Generator
) -> FrontierDraws:
    """Resample the seeds of one batch size's cells n_bootstrap times.

    cells: all lrs of one group and batch size, lrs increasing; levels [K] of excess loss.
    """
    seeds = np.unique(np.concatenate([cell.seeds for cell in cells]))
    share = np.full(len(seeds), 1.0 / len(seeds))
    counts = rng.multinomial(len(seeds), share, size=n_bootstrap)
    steps = np.full((len(levels), n_bootstrap, len(cells)), np.inf)
    for i, cell in enumerate(cells):
        if cell.n_diverged or not len(cell.steps):
            continue
        curves, lengths = cell.resample(counts[:, np.searchsorted(seeds, cell.seeds)])
        found = isotonic_crossing(cell.steps, curves, levels, lengths)
        steps[:, :, i] = np.where(np.isnan(found), np.inf, found).T
    best = steps.argmin(axis=2)
    least = np.take_along_axis(steps, best[:, :, None], axis=2)[:, :, 0]
    reached = np.isfinite(least)
    return FrontierDraws(np.where(reached, least, np.nan), np.where(reached, best, -1))


def percentile_interval(draws: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval over axis 0 of draws [n_boot, ...]; NaN draws count as +infinity.

    An end that falls on such a draw is returned as NaN: that side is open. No draws: both NaN.
    """
    if not len(draws):
        nothing = np.full(draws.shape[1:], np.nan)
        return nothing, nothing
    tail = 50 * (1 - level)
    filled = np.where(np.isnan(draws), np.inf, draws)
    low, high = np.percentile(filled, [tail, 100 - tail], axis=0, method="closest_observation")
    return np.where(np.isinf(low), np.nan, low), np.where(np.isinf(high), np.nan, high)
