"""How often the intervals of a rule's regret hold the true one, by simulation.

Steps S(B, lr) = (S_min + E_min/B) exp(c/2 log(lr/lr*(B))^2), lr* = c0 sqrt(B), with log-normal
noise of every seed: a part that all lrs of a batch size share, as they share their data, and one
of each lr. Beyond `edge` times lr* trials diverge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.group_statistics import measured_frontier
from analysis.measure.rule_regret import LrRule, Tried, regret_rows
from analysis.measure.step_tables import complete_table, draw_table, table_cells
from scaling.schema import DIVERGED, REACHED

Floats = NDArray[np.float64]

MIN_STEPS, MIN_EXAMPLES, LR_AT_ONE = 20.0, 2000.0, 0.01
SIZES = (4, 16, 64, 256, 1024)
TARGET = 0.1
RULES = ("constant", "sqrt", "linear")


def true_steps(batch_size: float, lrs: Floats, curvature: float, edge: float) -> Floats:
    """S(B, lr), NaN where it diverges."""
    off = np.log(lrs / (LR_AT_ONE * np.sqrt(batch_size)))
    steps = (MIN_STEPS + MIN_EXAMPLES / batch_size) * np.exp(curvature / 2 * off**2)
    return np.where(off > np.log(edge) + 1e-9, np.nan, steps)


def planted_lr_table(
    rng: np.random.Generator,
    n_seeds: int,
    noise: float,
    *,
    spacing: float = 2**0.5,
    offset: float = 0.0,
    curvature: float = 1.0,
    edge: float = 8.0,
    own: float = 0.5,
) -> pd.DataFrame:
    """A table of steps: every lr of a grid that reaches 16-fold to either side of lr*, every seed.

    offset: of the grid from lr*, in spacings; own: how much of the noise each lr has alone.
    """
    rows = []
    for size in SIZES:
        n = int(np.log(16) / np.log(spacing))
        middle = np.round(np.log(np.sqrt(size)) / np.log(spacing))
        lrs = LR_AT_ONE * spacing ** (np.arange(-n, n + 1) + middle + offset)
        steps = true_steps(size, lrs, curvature, edge)
        for seed in range(n_seeds):
            shared = np.sqrt(1 - own**2) * rng.standard_normal()
            waves = shared + own * rng.standard_normal(len(lrs))
            for lr, value in zip(lrs, steps * np.exp(noise * waves), strict=True):
                outcome = DIVERGED if np.isnan(value) else REACHED
                rows.append((size, lr, seed, value, outcome, TARGET))
    names = ["batch_size", "lr", "seed", "steps", "outcome", "target_loss"]
    return complete_table(pd.DataFrame(rows, columns=pd.Index(names)))


def tried(table: pd.DataFrame, n_bootstrap: int, seed: int = 0) -> Tried:
    """One group of a table with one target, measured."""
    targets = [TARGET]
    draws = draw_table(table, targets, n_bootstrap, np.random.default_rng(seed))
    cells = table_cells(table)
    frontier = measured_frontier(cells, draws, targets, {}, ("lr",)).frontier
    return Tried(cells, frontier, draws, 0)


def true_regret(
    rule: LrRule, table: pd.DataFrame, batch_size: float, curvature: float, edge: float
) -> float:
    """From the tried lr that is best at the reference, against the best of those tried; NaN where
    the rule's diverges."""

    def steps(size: float, lrs: Floats) -> Floats:
        return true_steps(size, lrs, curvature, edge)

    here, there = (
        np.unique(table.loc[table["batch_size"] == size, "lr"].to_numpy(float))
        for size in (batch_size, rule.batch_size)
    )
    lr = there[np.nanargmin(steps(rule.batch_size, there))] * rule.ratio(batch_size)
    return float(steps(batch_size, np.array([lr]))[0] / np.nanmin(steps(batch_size, here)) - 1)


def simulate(
    n: int,
    rules: Sequence[str],
    n_seeds: int,
    noise: float,
    *,
    n_bootstrap: int = 300,
    **of_table: float,
) -> pd.DataFrame:
    """A row a study, rule and batch size: the true regret, the estimate and its interval."""
    rows = []
    curvature, edge = of_table.get("curvature", 1.0), of_table.get("edge", 8.0)
    for i in range(n):
        rng = np.random.default_rng([n_seeds, i])
        table = planted_lr_table(rng, n_seeds, noise, **of_table)
        measured = tried(table, n_bootstrap, i)
        for name in rules:
            rule = LrRule(name, SIZES[0])
            for row in regret_rows(rule, measured, measured):
                true = true_regret(rule, table, row["batch_size"], curvature, edge)
                rows.append(row | {"true": true, "study": i})
    found = pd.DataFrame(rows)
    found = found[(found["batch_size"] > SIZES[0]) & found["true"].notna()]
    known = found["regret_low"].notna()
    high = found["regret_high"].fillna(np.inf)
    inside = (found["regret_low"] <= found["true"] + 1e-12) & (found["true"] <= high + 1e-12)
    return found.assign(covered=inside.where(known))


def regret(n: int) -> None:
    """Prints the table: coverage of the right rule (true regret 0) and of the others."""
    print(
        "covered by 95 % intervals (%)           right rule  others   median error, width (points)"
    )
    for n_seeds in (3, 5, 8):
        for noise in (0.02, 0.1):
            for offset in (0.0, 0.3):
                found = simulate(n, RULES, n_seeds, noise, offset=offset)
                found = found.dropna(subset="covered")
                right = found["rule"] == "sqrt"
                error = 100 * (found["regret"] - found["true"])
                width = 100 * (found["regret_high"] - found["regret_low"])
                name = f"{n_seeds} seeds, noise {noise:g}, lr* {offset:g} spacings off"
                shares = [100 * found.loc[of, "covered"].mean() for of in (right, ~right)]
                print(f"{name:<40}{shares[0]:10.1f}{shares[1]:8.1f}", end="")
                print(f"{error[right].median():+9.1f}{error[~right].median():+6.1f}", end="")
                print(f"{width[right].median():8.1f}{width[~right].median():6.1f}", flush=True)
