"""The frontier S(B): steps to target at each batch size, minimised over lr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.best_lr import best_lr, lr_interval
from analysis.bootstrap import FrontierDraws, percentile_interval
from analysis.steps_to_target import Cell
from scaling.schema import CENSORED, DIVERGED, REACHED

Floats = NDArray[np.float64]

FRONTIER_COLUMNS = [
    "target_loss", "batch_size", "steps", "examples", "lr", "outcome", "lr_at_edge", "n_seeds",
    "n_lrs", "steps_low", "steps_high", "lr_low", "lr_high",
]  # fmt: skip
BUDGET_COLUMNS = ["examples", "batch_size", "loss", "lr"]


def frontier_frame(
    cells: pd.DataFrame,
    draws: Mapping[int, FrontierDraws],
    target_losses: Sequence[float],
    group: Mapping[str, object],
) -> pd.DataFrame:
    """A row per target and batch size of one group: the raw minimum over lr and its interval.

    cells: cell_frame of the group; draws: bootstrap of each batch size (its targets in the order of
    target_losses, its lrs increasing). outcome is reached, censored (no lr reached the target in
    its budget) or diverged (all lrs did). Intervals are 95 % percentiles; NaN with one seed.
    """
    rows = []
    for k, target in enumerate(target_losses):
        of_target = cells[cells["target_loss"] == target]
        for size, tried in of_target.groupby("batch_size", sort=True):
            tried = tried.sort_values("lr")
            row = {**group, "target_loss": target, "batch_size": int(size)}  # type: ignore[arg-type]
            rows.append(row | _frontier_row(tried, draws[int(size)], k))  # type: ignore[arg-type]
    return pd.DataFrame(rows, columns=[*group, *FRONTIER_COLUMNS])


def usable(frontier: pd.DataFrame) -> pd.DataFrame:
    """The rows that may enter fits: reached, and the best lr not at the edge of the tried grid."""
    return frontier[(frontier["outcome"] == REACHED) & ~frontier["lr_at_edge"].astype(bool)]


def fixed_budget_frame(
    cells: Sequence[Cell],
    irreducible_loss: float,
    examples: Sequence[float],
    group: Mapping[str, object],
) -> pd.DataFrame:
    """Seed-mean held-out loss after fixed numbers of examples, minimised over lr.

    The mean curve is read at step examples/batch_size, linear in log-log. Columns: group..,
    examples, batch_size, loss, lr. A batch size has a row only where every lr that did not diverge
    was trained that far (and at least one step): else the minimum would be over the slow lrs only.
    """
    means: dict[int, list[tuple[float, Floats, Floats]]] = {}
    for cell in cells:
        if not cell.n_diverged:
            means.setdefault(cell.batch_size, []).append((cell.lr, *cell.mean_curve()))
    rows = []
    for budget in examples:
        for size, sound in means.items():
            step = budget / size
            if step < 1 or any(not len(steps) or steps[-1] < step for _, steps, _ in sound):
                continue
            losses = [_excess_at(steps, mean, step) for _, steps, mean in sound]
            best = int(np.argmin(losses))
            rows.append(
                (*group.values(), budget, size, losses[best] + irreducible_loss, sound[best][0])
            )
    return pd.DataFrame(rows, columns=[*group, *BUDGET_COLUMNS])


def example_budgets(frontier: pd.DataFrame, n_budgets: int = 6) -> list[float]:
    """Log-spaced budgets (two digits) around the examples that the reached targets cost."""
    costs = frontier.loc[frontier["outcome"] == REACHED, "examples"]
    if costs.empty:
        return []
    least = frontier.loc[costs.index].groupby("target_loss")["examples"].min()
    spaced = np.geomspace(0.5 * least.min(), 1.5 * least.max(), n_budgets)
    return sorted({float(f"{value:.2g}") for value in spaced})


def _frontier_row(tried: pd.DataFrame, draws: FrontierDraws, k: int) -> dict[str, object]:
    lrs, steps = tried["lr"].to_numpy(float), tried["steps"].to_numpy(float)
    best = best_lr(lrs, steps)
    row: dict[str, object] = dict.fromkeys(FRONTIER_COLUMNS[2:], np.nan)
    row |= {"lr_at_edge": best.at_edge, "n_lrs": len(lrs), "n_seeds": int(tried["n_seeds"].max())}
    if best.position < 0:
        out = (tried["outcome"] == CENSORED).any()
        return row | {"outcome": CENSORED if out else DIVERGED}
    chosen = tried.iloc[best.position]
    several = chosen["n_seeds"] > 1
    steps_low, steps_high = percentile_interval(draws.steps[k] if several else draws.steps[k][:0])
    lr_low, lr_high = lr_interval(lrs, best.position, draws.best[k])
    return row | {
        "outcome": REACHED,
        "steps": chosen["steps"],
        "examples": chosen["steps"] * chosen["batch_size"],
        "lr": chosen["lr"],
        "n_seeds": int(chosen["n_seeds"]),
        "steps_low": float(steps_low),
        "steps_high": float(steps_high),
        "lr_low": lr_low,
        "lr_high": lr_high,
    }


def _excess_at(steps: Floats, mean: Floats, step: float) -> float:
    """Mean excess loss [T] at any step of the window, linear in log-log where logarithms exist."""
    before = int(np.searchsorted(steps, step, side="right")) - 1
    pair = slice(before, before + 2)
    if steps[before] < 1 or (mean[pair] <= 0).any():
        return float(np.interp(step, steps[pair], mean[pair]))
    return float(np.exp(np.interp(np.log(step), np.log(steps[pair]), np.log(mean[pair]))))
