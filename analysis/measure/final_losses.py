"""One final loss a run: the least over the lrs at each training length of a batch size.

Every run was trained to its own end, where its schedule had decayed; a shorter run is not the start
of a longer one. So L_B(D), the least loss of batch size B after D examples, is read from other runs
at each D, each length with its own best lr. (A curve of one long run read at D is another quantity:
its schedule has not decayed there.)

Axes: n seeds, T training lengths of a batch size (steps, increasing), L lrs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.measure.bootstrap import resample_seeds
from scaling.schema import DIVERGED

Floats = NDArray[np.float64]

_WIDTH, _RISE = 2.05, 0.02  # of the parabola: factor in lr about the best, log loss above the least
SAME_LENGTH, SAME_LR = 0.02, 0.005  # relative: lengths rounded to steps, lrs rounded to digits


@dataclass(frozen=True)
class SizeLosses:
    """Seed-mean final losses of one batch size, and the least of them over the lrs.

    steps [T]; lrs [L]; means [T, L]: infinite where an lr was not tried, diverged with some seed,
    or has at most half the seeds of another lr; loss [T]: the least; best [T]: its index; lr [T]:
    refined between those tried (measure.best_lr.refined_lr); better_lrs [T]: "above" or "below"
    where the tried lrs end with the best one, else ""; n_seeds [T] of the best; n_lrs [T] tried.
    Bootstrap over the seeds: loss_draws, lr_draws, best_draws [n_boot, T].
    """

    batch_size: int
    steps: Floats
    lrs: Floats
    means: Floats
    loss: Floats
    best: NDArray[np.int64]
    lr: Floats
    better_lrs: tuple[str, ...]
    n_seeds: NDArray[np.int64]
    n_lrs: NDArray[np.int64]
    loss_draws: Floats
    lr_draws: Floats
    best_draws: NDArray[np.int64]

    @property
    def examples(self) -> Floats:
        return self.batch_size * self.steps

    @property
    def at_edge(self) -> NDArray[np.bool_]:
        return np.array([side != "" for side in self.better_lrs], bool)


def size_losses(
    runs: pd.DataFrame, n_bootstrap: int, rng: np.random.Generator, seeds: NDArray | None = None
) -> SizeLosses | None:
    """Of the runs of one group and batch size; None where all of them diverged.

    runs: batch_size, lr, seed, steps, loss, outcome; seeds: to resample, default those of the runs.
    Seeds are resampled jointly for all lrs and lengths. Lengths within 2 % of each other are one,
    lrs within 0.5 %. A length at which every lr diverged is left out.
    """
    of_length = merged(runs["steps"].to_numpy(float), SAME_LENGTH)
    of_lr = merged(runs["lr"].to_numpy(float), SAME_LR)
    steps, at_length = np.unique(of_length, return_inverse=True)
    lrs, at_lr = np.unique(of_lr, return_inverse=True)
    known = np.unique(runs["seed"]) if seeds is None else seeds
    table = np.full((len(known), len(steps), len(lrs)), np.nan)
    losses = np.where(runs["outcome"] == DIVERGED, np.inf, runs["loss"].to_numpy(float))
    table[np.searchsorted(known, runs["seed"]), at_length, at_lr] = losses
    tried = np.logical_not(np.isnan(table))
    sound = _comparable(tried) & ~np.isinf(table).any(axis=0)
    keep = sound.any(axis=1)
    if not keep.any():
        return None
    table, tried, sound = table[:, keep], tried[:, keep], sound[keep]
    counts = np.vstack([np.ones((1, len(known))), resample_seeds(len(known), n_bootstrap, rng)])
    means = np.where(sound, _means(table, tried, counts), np.inf)
    best = means.argmin(axis=2)
    there = np.any(tried, axis=0)
    loss, lr = _least(lrs, means, there)
    at = (np.arange(keep.sum()), best[0])
    return SizeLosses(
        int(runs["batch_size"].iloc[0]), steps[keep], lrs, means[0], loss[0], best[0], lr[0],
        tuple(_better_lrs(there, best[0])), tried.sum(axis=0)[at],
        there.sum(axis=1), loss[1:], lr[1:], best[1:],
    )  # fmt: skip


def merged(values: Floats, tolerance: float) -> Floats:
    """Each value, or the least of those that follow one another within `tolerance` of that least.

    >>> merged(np.array([1000.0, 2000.0, 1003.0]), 0.01).tolist()
    [1000.0, 2000.0, 1000.0]
    """
    distinct = np.unique(values)
    least: list[float] = []
    for value in distinct.tolist():
        least.append(least[-1] if least and value <= least[-1] * (1 + tolerance) else value)
    return np.array(least, float)[np.searchsorted(distinct, values)]


def _comparable(tried: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[T, L]: more than half the seeds of the lr with most of that length."""
    count = tried.sum(axis=0)
    return (count > 0) & (2 * count > count.max(axis=1, keepdims=True))


def _means(table: Floats, tried: NDArray[np.bool_], counts: Floats) -> Floats:
    """[m, T, L]: means over the seeds, weighted by counts [m, n]. Where a resample has none of the
    seeds of a cell, the mean of all of them."""
    finite = np.where(np.isfinite(table), table, 0.0)
    total = np.einsum("mn,ntl->mtl", counts, finite)
    weight = np.einsum("mn,ntl->mtl", counts, tried.astype(float))
    with np.errstate(invalid="ignore", divide="ignore"):
        plain = finite.sum(axis=0) / tried.sum(axis=0)
        return np.where(weight > 0, total / weight, plain)


def least_by_parabola(x: Floats, y: Floats, width: float) -> tuple[Floats, Floats]:
    """Least y over every x, and its x. x [w] increasing; y [m, 1, w]; both results [m, 1].

    The vertex of a parabola of log y in log x, fitted to the points within a factor `width` of the
    least one, of which there must be some on either side: else that point itself. Points more than
    2 % above it do not count (beyond the stability edge a loss rises steeply), nor a parabola that
    opens downwards or whose vertex is beyond the points beside the least one. In simulations with
    4 seeds and 0.5 % of noise the raw minimum over 9 lrs is as much too low as takes 1 to 2 % of
    the steps away; this, 0.1 to 1 %.
    """
    best = y.argmin(axis=-1)
    least, at = y.min(axis=-1), x[best]
    for position in np.unique(best):
        rows = np.nonzero(best == position)
        near = np.flatnonzero(np.abs(np.log(x / x[position])) <= np.log(width))
        if near[0] < position < near[-1]:
            vertex = _vertices(np.log(x[near] / x[position]), y[rows][:, near])
            least[rows], at[rows] = vertex[0], x[position] * np.exp(vertex[1])
    return least, at


def _least(lrs: Floats, means: Floats, tried: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Least loss over every lr and its lr, [m, T] each, from the means [m, T, L] at those tried."""
    columns = [
        least_by_parabola(lrs[there], means[:, t : t + 1, there], _WIDTH)
        for t, there in enumerate(tried)
    ]
    loss, lr = zip(*columns, strict=True)
    return np.hstack(loss), np.hstack(lr)


def _vertices(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Of least_by_parabola: least y and its x for each row of y [m, w]; x [w], 0 at the least."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.log(y)
        z -= z.min(axis=1, keepdims=True)
    counted = np.isfinite(z) & (z <= _RISE)
    weight = counted.astype(float)
    powers = x[:, None] ** np.arange(3)
    normal = np.einsum("mw,wi,wj->mij", weight, powers, powers)
    sides = (counted & (x > 0)).any(axis=1) & (counted & (x < 0)).any(axis=1)
    normal[~sides] = np.eye(3)
    right = np.einsum("mw,wi->mi", np.where(counted, z, 0.0), powers)
    c, b, a = np.linalg.solve(normal, right[..., None])[..., 0].T
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = -b / (2 * a)
        depth = c - b**2 / (4 * a)
    inside = sides & (a > 0) & (vertex > x[x < 0].max()) & (vertex < x[x > 0].min())
    least = y.min(axis=1)
    return np.where(inside, least * np.exp(depth), least), np.where(inside, vertex, 0.0)


def _better_lrs(tried: NDArray[np.bool_], best: NDArray) -> Iterable[str]:
    """Whether the lrs of each length end with the best; one lr ends nothing where all have one."""
    one_everywhere = (tried.sum(axis=1) == 1).all()
    for there, position in zip(tried, best, strict=True):
        own = np.flatnonzero(there)
        if one_everywhere or own[0] < position < own[-1]:
            yield ""
        else:
            yield "above" if position == own[-1] else "below"
