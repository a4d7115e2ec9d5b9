"""Held-out loss after fixed numbers of examples, with a bootstrap over seeds.

"The same epochs, a bigger batch: what do I lose?", and the measured curves of the compute frontier.
Axes: K budgets (examples), B batch sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.measure.bootstrap import percentile_interval
from analysis.measure.cells import Cell
from scaling.schema import REACHED

Floats = NDArray[np.float64]

BUDGET_COLUMNS = [
    "examples", "batch_size", "loss", "loss_low", "loss_high", "lr",
    "loss_increase", "loss_increase_low", "loss_increase_high",
    "loss_increase_percent", "loss_increase_percent_low", "loss_increase_percent_high",
]  # fmt: skip


@dataclass(frozen=True)
class LossesAtExamples:
    """Least seed-mean excess loss over the lrs of one group.

    batch_sizes [B]; excess, lr [K, B], NaN where not every lr that did not diverge was trained that
    far (and at least one step): else the minimum would be over the slow lrs only; draws
    [n_boot, K, B], the excess in resamples of the seeds, NaN where excess is; lr_at_edge [K, B];
    end_examples, end_excess [B]: where the shortest of the lrs ends, and the least excess loss
    that any of them ends with.
    """

    batch_sizes: Floats
    excess: Floats
    lr: Floats
    lr_at_edge: NDArray[np.bool_]
    draws: Floats
    end_examples: Floats
    end_excess: Floats

    def best(self, examples: Floats) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Position of the best batch size at each budget [K], and whether it is decided [K].

        Not decided: no batch size was trained that far, or one that stopped before the budget had
        already got as low as the best, so that training it on would have beaten it.
        """
        filled = np.where(np.isnan(self.excess), np.inf, self.excess)
        position, least = filled.argmin(axis=1), filled.min(axis=1)
        stopped = self.end_examples[None, :] < examples[:, None]
        lower = stopped & (self.end_excess[None, :] <= least[:, None])
        return position, np.isfinite(least) & ~lower.any(axis=1)


def losses_at_examples(
    cells: Sequence[Cell],
    examples: Sequence[float] | Floats,
    n_bootstrap: int,
    seed: Sequence[int] = (),
) -> LossesAtExamples:
    """Mean curves read at step examples/batch_size, linear in log-log; see LossesAtExamples.

    Seeds are resampled once per batch size, jointly for its lrs. cells: of one group.
    """
    of_size: dict[int, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.batch_size, cell.lr)):
        of_size.setdefault(cell.batch_size, []).append(cell)
    budgets, n = np.asarray(examples, float), len(of_size)
    excess, lr = np.full((2, len(budgets), n), np.nan)
    edge = np.zeros((len(budgets), n), dtype=bool)
    draws = np.full((n_bootstrap, len(budgets), n), np.nan)
    end_examples, end_excess = np.full((2, n), np.nan)
    for b, (size, tried) in enumerate(of_size.items()):
        sound = [cell for cell in tried if not cell.n_diverged and cell.lengths.min() > 0]
        if not sound:
            continue
        ends = [cell.mean_curve() for cell in sound]
        end_examples[b] = size * min(steps[-1] for steps, _ in ends)
        end_excess[b] = min(mean[-1] for _, mean in ends)
        far = (budgets >= size) & (budgets <= end_examples[b])
        if not far.any():
            continue
        steps = budgets[far] / size
        read = np.stack([_excess_at(*cell.mean_curve(), steps) for cell in sound])
        best = read.argmin(axis=0)
        excess[far, b] = read.min(axis=0)
        lrs = np.array([cell.lr for cell in sound])
        lr[far, b] = lrs[best]
        edge[far, b] = (lrs[best] == tried[0].lr) | (lrs[best] == tried[-1].lr)
        rng = np.random.default_rng([*seed, size])
        draws[:, far, b] = _resampled(sound, steps, n_bootstrap, rng)
    sizes = np.array(list(of_size), float)
    return LossesAtExamples(sizes, excess, lr, edge, draws, end_examples, end_excess)


def fixed_budget_frame(
    cells: Sequence[Cell],
    irreducible_loss: float,
    examples: Sequence[float],
    group: Mapping[str, object],
    n_bootstrap: int = 0,
    seed: Sequence[int] = (),
) -> pd.DataFrame:
    """Seed-mean held-out loss after fixed numbers of examples, minimised over lr.

    Columns: group.., BUDGET_COLUMNS. loss_increase: how far the loss lies above that of the best
    batch size at the same budget, where at least two were trained that far; loss_increase_percent:
    the same in percent of the best one's loss, where that is positive. Intervals are
    95 % percentiles over the seeds (the best batch size is chosen anew in each resample); NaN with
    one seed. Rows as LossesAtExamples has values.
    """
    columns = [*group, *BUDGET_COLUMNS]
    several = bool(cells) and min(len(cell.seeds) for cell in cells) > 1
    read = losses_at_examples(cells, examples, n_bootstrap if several else 0, seed)
    loss, draws = read.excess + irreducible_loss, read.draws + irreducible_loss
    known = np.isfinite(loss)
    several_sizes = known.sum(axis=1) > 1
    increase, increase_draws = _increase(loss), _increase(draws)
    bounds = percentile_interval(draws)
    increase_bounds = percentile_interval(increase_draws)  # each of two: absolute, in percent
    rows = []
    for k, b in np.argwhere(known):
        compared = [of[i, k, b] for i in range(2) for of in (increase, *increase_bounds)]
        rows.append(
            (
                *group.values(), float(examples[k]), int(read.batch_sizes[b]), loss[k, b],
                bounds[0][k, b], bounds[1][k, b], read.lr[k, b],
                *(compared if several_sizes[k] else np.full(len(compared), np.nan)),
            )
        )  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _increase(losses: Floats) -> Floats:
    """Losses [.., K, B] less the least of each K, and that in percent of it: [.., 2, K, B]."""
    least = least_of(losses)
    above = losses - least
    percent = 100 * above / np.where(least > 0, least, np.nan)
    return np.stack([above, percent], axis=-3)


def example_budgets(frontier: pd.DataFrame, n_budgets: int = 6) -> list[float]:
    """Log-spaced budgets (two digits) around the examples that the reached targets cost."""
    costs = frontier.loc[frontier["outcome"] == REACHED, "examples"]
    if costs.empty:
        return []
    least = frontier.loc[costs.index].groupby("target_loss")["examples"].min()
    spaced = np.geomspace(0.5 * least.min(), 1.5 * least.max(), n_budgets)
    return sorted({float(f"{value:.2g}") for value in spaced})


def least_of(values: Floats) -> Floats:
    """Minimum over the last axis, NaN apart, kept; NaN where all are."""
    filled = np.where(np.isnan(values), np.inf, values).min(axis=-1, keepdims=True, initial=np.inf)
    return np.where(np.isinf(filled), np.nan, filled)


def _resampled(
    cells: Sequence[Cell], steps: Floats, n_bootstrap: int, rng: np.random.Generator
) -> Floats:
    """Least excess loss [n_boot, K] over the cells of one batch size in resamples of its seeds."""
    seeds = np.unique(np.concatenate([cell.seeds for cell in cells]))
    share = np.full(len(seeds), 1.0 / len(seeds))
    counts = rng.multinomial(len(seeds), share, size=n_bootstrap)
    least = np.full((n_bootstrap, len(steps)), np.inf)
    for cell in cells:
        of_cell = counts[:, np.searchsorted(seeds, cell.seeds)]
        total = of_cell.sum(axis=1)
        window = int(cell.lengths.min())
        weights = of_cell / np.maximum(total, 1)[:, None]
        excess = _excess_at(cell.steps[:window], weights @ cell.excess[:, :window], steps)
        excess[total == 0] = np.inf  # a resample without any seed of this lr
        least = np.minimum(least, excess)
    return np.where(np.isinf(least), np.nan, least)


def _excess_at(steps: Floats, mean: Floats, at: Floats) -> Floats:
    """Excess loss [.., K] of mean curves [.., T] at steps `at` [K] inside the window.

    Linear in log-log where logarithms exist, else linear.
    """
    before = np.clip(np.searchsorted(steps, at, side="right") - 1, 0, max(len(steps) - 2, 0))
    after = np.minimum(before + 1, len(steps) - 1)
    low, high = mean[..., before], mean[..., after]
    width = np.maximum(steps[after] - steps[before], 1e-300)
    linear = low + (high - low) * (at - steps[before]) / width
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(at / steps[before]) / np.log(steps[after] / steps[before])
        curved = np.exp(np.log(low) + share * (np.log(high) - np.log(low)))
    logs = (steps[before] >= 1) & (after > before) & (low > 0) & (high > 0)
    return np.where(logs, curved, linear)
