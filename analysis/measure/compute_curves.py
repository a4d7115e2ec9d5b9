"""The measured loss of every model size and batch size at equal compute, with its bootstrap.

Axes: m bootstrap draws, K budgets, G model sizes, B batch sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.measure.losses_at_examples import LossesAtExamples, losses_at_examples
from analysis.measure.model_sizes import Family

Floats = NDArray[np.float64]

_N_BUDGETS = 25
_N_COARSE = 80  # points of a first look, over all compute that was spent
# Budgets that leave more than this share of the initial excess loss, or are best spent on fewer
# steps than this, are no answer.
_LEARNT, _FEWEST_STEPS = 0.8, 5


@dataclass(frozen=True)
class ComputeCurves:
    """Excess loss of one family at the best lr, NaN where not trained that far.

    compute [K] in FLOPs; sizes, flops (of an example) [G]; batch_sizes [B]; excess, lr, lr_at_edge
    [K, G, B]; draws [m, K, G, B]; n_not_trained [K]: (model size, batch size) pairs that had
    stopped before.
    """

    compute: Floats
    sizes: Floats
    flops: Floats
    batch_sizes: Floats
    excess: Floats
    lr: Floats
    lr_at_edge: NDArray[np.bool_]
    draws: Floats
    n_not_trained: NDArray[np.int64]


def read_compute_curves(family: Family, n_bootstrap: int, seed: list[int]) -> ComputeCurves | None:
    """At log-spaced compute; only budgets that are decided: nothing that stopped before was already
    as low as the best there, which training it on would have beaten.

    None where FLOPs are not known, the irreducible losses differ, or nothing was trained.
    """
    members = family.members
    flops = np.array([member.flops_per_example or np.nan for member in members])
    ends = [
        cell.batch_size * cell.steps[-1] * f
        for member, f in zip(members, flops, strict=True)
        for cell in member.cells
        if len(cell.steps) and cell.steps[-1] > 0
    ]
    if np.isnan(flops).any() or len({member.floor for member in members}) > 1 or not ends:
        return None
    least = min(m.cells[0].batch_size * f for m, f in zip(members, flops, strict=True) if m.cells)
    coarse = _at(np.geomspace(least, max(ends), _N_COARSE), family, flops, 0, seed).compute
    if not len(coarse):
        return None
    budgets = np.geomspace(coarse[0], coarse[-1], _N_BUDGETS) if len(coarse) > 1 else coarse
    return _at(budgets, family, flops, n_bootstrap, seed)


def _at(
    compute: Floats, family: Family, flops: Floats, n_bootstrap: int, seed: list[int]
) -> ComputeCurves:
    members = family.members
    read = [
        losses_at_examples(member.cells, compute / f, n_bootstrap, [*seed, i])
        for i, (member, f) in enumerate(zip(members, flops, strict=True))
    ]
    start = max(float(c.excess[:, 0].mean()) for m in members for c in m.cells if len(c.steps))
    return _assemble(compute, family.sizes, flops, read, _LEARNT * start)


def _assemble(
    compute: Floats, sizes: Floats, flops: Floats, read: list[LossesAtExamples], most: float
) -> ComputeCurves:
    batch_sizes = np.unique(np.concatenate([losses.batch_sizes for losses in read]))
    shape = (len(compute), len(sizes), len(batch_sizes))
    excess, lr = np.full((2, *shape), np.nan)
    edge, draws = np.zeros(shape, bool), np.full((len(read[0].draws), *shape), np.nan)
    end, end_excess = np.full((2, *shape[1:]), np.nan)
    for g, losses in enumerate(read):
        where = np.searchsorted(batch_sizes, losses.batch_sizes)
        excess[:, g, where], lr[:, g, where] = losses.excess, losses.lr
        edge[:, g, where], draws[:, :, g, where] = losses.lr_at_edge, losses.draws
        end[g, where] = losses.end_examples * flops[g]
        end_excess[g, where] = losses.end_excess
    filled = np.where(np.isnan(excess), np.inf, excess).reshape(len(compute), -1)
    least = filled.min(axis=1)
    steps = (compute[:, None, None] / flops[:, None] / batch_sizes).reshape(len(compute), -1)
    steps = steps[np.arange(len(compute)), filled.argmin(axis=1)]
    stopped = end[None] < compute[:, None, None]
    decided = ~(stopped & (end_excess[None] <= least[:, None, None])).any(axis=(1, 2))
    keep = np.isfinite(least) & decided & (least <= most) & (steps >= _FEWEST_STEPS)
    return ComputeCurves(
        compute[keep], sizes, flops, batch_sizes, excess[keep], lr[keep], edge[keep],
        draws[:, keep], stopped.sum(axis=(1, 2))[keep],
    )  # fmt: skip
