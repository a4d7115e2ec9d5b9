"""Resampling of seeds that redoes averaging, crossing and the choice of lr, and its intervals.

A seed fixes the data stream of a trial, the same for every lr of a batch size and independent
between batch sizes: seeds are resampled once per batch size, jointly for its lrs (and for all batch
sizes where asked). A cell with a diverged seed stays out in every resample: one divergence is
enough to know that the lr is not usable.

Intervals are 95 % percentiles, with the correction that few seeds need: resampling n seeds gives
the mean a variance of (n-1)/n of the unbiased one, and its percentiles are those of a normal
distribution where a Student t is due (Efron and Tibshirani 1993, An Introduction to the Bootstrap,
chapter 12.5; Hesterberg 2015, The American Statistician 69). So the resampled log S of each batch
size are spread about their median by sqrt(n/(n-1)) and by the ratio of t to normal quantiles. This
happens before the fit, which carries the correction through the whole chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit  # scipy.stats takes half a second to import

from analysis.measure.best_lr import refined_lr
from analysis.measure.cells import Cell, mean_of_crossings
from scaling.curves import Crossings, read_crossings

Floats = NDArray[np.float64]

LEVEL = 0.95
FEWEST_SEEDS = 3  # with fewer, a bootstrap over seeds says nothing: intervals come from residuals


@dataclass(frozen=True)
class FrontierDraws:
    """Bootstrap of one batch size. K targets.

    steps [K, n_boot]: least steps over the lrs, NaN where no lr reached the target or one met it at
    its first evaluation;
    best [K, n_boot]: index of that lr, -1 where steps is NaN;
    steps_lower, steps_upper [K, n_boot]: how far the crossing's interpolation may be off; the
    budget's end and NaN where none reached; NaN and a bound where one met it at its first
    evaluation; NaN where not known, None where never known;
    lr [K, n_boot]: the best lr, refined between those tried; NaN where steps is;
    lrs: those that `best` counts (None: the compared ones of the cells);
    of_lrs [K, n_boot, n_lrs]: the steps of each of them, NaN where not reached; None: not known.
    """

    steps: Floats
    best: NDArray[np.int64]
    steps_lower: Floats | None = None
    steps_upper: Floats | None = None
    lr: Floats | None = None
    lrs: Floats | None = None
    of_lrs: Floats | None = None


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
    one_by_one: Sequence[bool] | None = None,
) -> FrontierDraws:
    """Resample the seeds of one batch size's cells n_bootstrap times.

    cells: the compared ones of one group and batch size, lrs increasing; levels [K] of excess
    loss; seeds: to resample, default those of the cells. Batch sizes drawn with the same seeds and
    an equal rng are resampled jointly. one_by_one [K]: levels at which each run is read alone, see
    cells.read_one_by_one.
    """
    if seeds is None:
        seeds = np.unique(np.concatenate([cell.seeds for cell in cells]))
    counts = resample_seeds(len(seeds), n_bootstrap, rng)
    shape = (len(levels), n_bootstrap, len(cells))
    drawn = Crossings(*(np.full(shape, np.nan) for _ in range(3)))
    for i, cell in enumerate(cells):
        if cell.n_diverged or not len(cell.steps):
            continue
        of_cell = counts[:, np.searchsorted(seeds, cell.seeds)]
        resampled = _resampled(cell, of_cell, levels, one_by_one or [False] * len(levels))
        for part, values in zip(drawn, resampled, strict=True):
            part[:, :, i] = values.T
    lrs = np.array([cell.lr for cell in cells])
    least = least_of_lrs(drawn, lrs)
    if cells[0].tuned:  # neighbours are of other settings: nothing lies between them
        least = replace(least, lr=np.where(least.best >= 0, lrs[least.best], np.nan))
    return least


def resample_seeds(n_seeds: int, n_bootstrap: int, rng: np.random.Generator) -> NDArray:
    """How often each seed stands in each resample. [n_bootstrap, n_seeds]"""
    return rng.multinomial(n_seeds, np.full(n_seeds, 1.0 / n_seeds), size=n_bootstrap)


def least_of_lrs(crossings: Crossings, lrs: Floats) -> FrontierDraws:
    """The least steps over the lrs, or what bounds them. crossings [K, n_boot, n_lrs] each.

    Where no lr reached the target: the least of their budgets' ends. Where one met it at its first
    evaluation: at most the least of all. lrs [n_lrs] increasing.
    """
    early = np.isnan(crossings.lower) & np.isnan(crossings.steps) & ~np.isnan(crossings.upper)
    value = np.where(early, crossings.upper, crossings.steps)
    value = np.where(np.isnan(value), np.inf, value)
    best = value.argmin(axis=2)
    at = best[:, :, None]
    least, lower, upper = (
        np.take_along_axis(part, at, axis=2)[:, :, 0]
        for part in (value, crossings.lower, crossings.upper)
    )
    out, first = ~np.isfinite(least), early.any(axis=2)
    ends = np.where(np.isnan(crossings.steps) & ~early, crossings.lower, np.nan)
    end = np.where(np.isnan(ends), np.inf, ends).min(axis=2)
    lower = np.where(out, np.where(np.isfinite(end), end, np.nan), np.where(first, np.nan, lower))
    upper = np.where(out, np.nan, np.where(first, least, upper))
    best = np.where(out | first, -1, best)
    lr = refined_lr(lrs, value, best)
    steps = np.where(best >= 0, least, np.nan)
    return FrontierDraws(steps, best, lower, upper, lr, lrs, crossings.steps)


def _resampled(
    cell: Cell, counts: NDArray, levels: Sequence[float], one_by_one: Sequence[bool]
) -> Crossings:
    """Crossings [n_boot, K] of one cell in resamples; counts [n_boot, n_seeds] of its seeds."""
    curves, lengths = cell.resample(counts)
    crossings = read_crossings(cell.steps, curves, levels, lengths)
    if any(one_by_one):
        of_seeds, some = cell.own_crossings(levels), counts.sum(axis=1) > 0
        for k in np.flatnonzero(one_by_one):
            of_level = Crossings(*(part[:, k] for part in of_seeds))
            mean = mean_of_crossings(of_level, counts)
            for part, values in zip(crossings, mean, strict=True):
                part[:, k] = np.where(some, values, np.nan)
    return crossings


def stack_draws(draws: Mapping[int, FrontierDraws], sizes: Sequence[int], k: int) -> StepDraws:
    """Bootstrap steps of target k at the given batch sizes."""
    nothing = np.full(draws[sizes[0]].steps[k].shape, np.nan) if len(sizes) else np.empty(0)

    def stack(name: str) -> Floats:
        parts = [getattr(draws[size], name) for size in sizes]
        return np.stack([nothing if part is None else part[k] for part in parts], axis=1)

    return StepDraws(stack("steps"), stack("steps_lower"), stack("steps_upper"), stack("lr"))


def percentile_interval(draws: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval over axis 0 of draws [n_boot, ...]; NaN draws count as +infinity.

    An end that falls on an infinite draw is returned as NaN: that side is open. No draws: both NaN.
    """
    if not len(draws):
        nothing = np.full(draws.shape[1:], np.nan)
        return nothing, nothing
    tail = 50 * (1 - level)
    filled = np.where(np.isnan(draws), np.inf, draws)
    low, high = np.percentile(filled, [tail, 100 - tail], axis=0, method="closest_observation")
    return np.where(np.isinf(low), np.nan, low), np.where(np.isinf(high), np.nan, high)


def widening(n_seeds: ArrayLike, degrees_of_freedom: ArrayLike, level: float = LEVEL) -> Floats:
    """sqrt(n/(n-1)) t/z: how much wider than the plain bootstrap. n_seeds >= 2, broadcast."""
    n = np.asarray(n_seeds, float)
    tail = 0.5 + level / 2
    return np.sqrt(n / (n - 1)) * stdtrit(degrees_of_freedom, tail) / ndtri(tail)


def spread(log_draws: Floats, factor: ArrayLike) -> Floats:
    """log_draws [n_boot, B] spread about their median (of what is known) by factor [B] or one."""
    known = ~np.isnan(log_draws)
    filled = np.where(known, log_draws, np.inf)
    count = known.sum(axis=0)
    ordered = np.sort(filled, axis=0)
    last = np.maximum(count - 1, 0)
    columns = np.arange(log_draws.shape[1])
    median = (ordered[last // 2, columns] + ordered[(last + 1) // 2, columns]) / 2
    median = np.where(count > 0, median, 0.0)
    return median + np.asarray(factor) * (log_draws - median)
