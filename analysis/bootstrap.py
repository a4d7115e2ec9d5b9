"""Resampling of seeds that redoes averaging, crossing and the choice of lr.

A seed fixes the data stream of a trial, the same for every lr of a batch size and independent
between batch sizes: seeds are resampled once per batch size, jointly for its lrs (and for all batch
sizes where asked). A cell with a diverged seed stays out in every resample: one divergence is
enough to know that the lr is not usable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.best_lr import refined_lr
from analysis.cells import Cell
from analysis.crossings import isotonic_crossing

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FrontierDraws:
    """Bootstrap of one batch size. K targets.

    steps [K, n_boot]: least steps over the lrs, NaN where no lr reached the target;
    best [K, n_boot]: index of that lr, -1 where none reached;
    steps_lower, steps_upper [K, n_boot]: the evaluations around a crossing, or the budget's end
    and NaN where none reached; NaN where not known, None where never known;
    lr [K, n_boot]: the best lr, refined between those tried; NaN where none reached;
    lrs: those that `best` counts (None: the compared ones of the cells).
    """

    steps: Floats
    best: NDArray[np.int64]
    steps_lower: Floats | None = None
    steps_upper: Floats | None = None
    lr: Floats | None = None
    lrs: Floats | None = None


class StepDraws(NamedTuple):
    """Bootstrap of the batch sizes of one target: steps, bounds, best lr. [n_boot, B] each."""

    steps: Floats
    steps_lower: Floats
    steps_upper: Floats
    lr: Floats


def draw_frontier(
    cells: Sequence[Cell],
    levels: Sequence[float],
    n_bootstrap: int,
    rng: np.random.Generator,
    seeds: NDArray | None = None,
) -> FrontierDraws:
    """Resample the seeds of one batch size's cells n_bootstrap times.

    cells: the compared ones of one group and batch size, lrs increasing; levels [K] of excess
    loss; seeds: to resample, default those of the cells. Batch sizes drawn with the same seeds and
    an equal rng are resampled jointly.
    """
    if seeds is None:
        seeds = np.unique(np.concatenate([cell.seeds for cell in cells]))
    counts = resample_seeds(len(seeds), n_bootstrap, rng)
    shape = (len(levels), n_bootstrap, len(cells))
    steps, ends = np.full(shape, np.inf), np.full(shape, np.inf)
    for i, cell in enumerate(cells):
        if cell.n_diverged or not len(cell.steps):
            continue
        curves, lengths = cell.resample(counts[:, np.searchsorted(seeds, cell.seeds)])
        found = isotonic_crossing(cell.steps, curves, levels, lengths)
        steps[:, :, i] = np.where(np.isnan(found), np.inf, found).T
        last = np.where(lengths > 0, cell.steps[np.maximum(lengths - 1, 0)], np.inf)
        ends[:, :, i] = np.where(np.isnan(found), last[:, None], np.inf).T
    lrs = np.array([cell.lr for cell in cells])
    drawn = least_of_lrs(steps, ends, lrs)
    if cells[0].tuned:  # neighbours are of other settings: nothing lies between them
        drawn = replace(drawn, lr=np.where(drawn.best >= 0, lrs[drawn.best], np.nan))
    lower, upper = drawn.steps_lower, np.full(drawn.steps.shape, np.nan)
    assert lower is not None
    for i, cell in enumerate(cells):
        won = drawn.best == i
        after = np.searchsorted(cell.steps, drawn.steps[won], side="left")
        lower[won] = np.where(after > 0, cell.steps[np.maximum(after - 1, 0)], np.nan)
        upper[won] = cell.steps[after]
    return replace(drawn, steps_upper=upper)


def resample_seeds(n_seeds: int, n_bootstrap: int, rng: np.random.Generator) -> NDArray:
    """How often each seed stands in each resample. [n_bootstrap, n_seeds]"""
    return rng.multinomial(n_seeds, np.full(n_seeds, 1.0 / n_seeds), size=n_bootstrap)


def least_of_lrs(steps: Floats, ends: Floats, lrs: Floats) -> FrontierDraws:
    """The least steps over the lrs, or the least of their budgets' ends where none reached.

    steps [K, n_boot, n_lrs]: inf where not reached; ends, same shape: where a censored lr's budget
    ended, inf where it is no bound; lrs [n_lrs] increasing.
    """
    best = steps.argmin(axis=2)
    least = np.take_along_axis(steps, best[:, :, None], axis=2)[:, :, 0]
    reached = np.isfinite(least)
    end = ends.min(axis=2)
    lower = np.where(reached | ~np.isfinite(end), np.nan, end)
    best = np.where(reached, best, -1)
    lr = refined_lr(lrs, steps, best)
    return FrontierDraws(np.where(reached, least, np.nan), best, lower, lr=lr, lrs=lrs)


def stack_draws(draws: Mapping[int, FrontierDraws], sizes: Sequence[int], k: int) -> StepDraws:
    """Bootstrap steps of target k at the given batch sizes."""
    nothing = np.full(draws[sizes[0]].steps[k].shape, np.nan) if len(sizes) else np.empty(0)

    def stack(name: str) -> Floats:
        found = [getattr(draws[size], name) for size in sizes]
        return np.stack([nothing if one is None else one[k] for one in found], axis=1)

    return StepDraws(stack("steps"), stack("steps_lower"), stack("steps_upper"), stack("lr"))


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
