"""What a rule costs that gives the lr of each batch size by formula, instead of tuning it there.

The regret at batch size B is S(B, lr of the rule) / S(B) - 1, S(B) the least steps over the lrs
tried there. The rule starts from the best lr at a reference batch size (redrawn in every
resample of the seeds) or from an lr that is given. Its steps are those of the trials at its lr;
between two lrs that reached the target log S is interpolated linearly in log lr, nowhere else.

The least of noisy steps is below the least of the expected ones, so the regret of the right rule
comes out above 0. How far, the resamples tell: the lr that is best in one takes, on average, so
many more steps in the sample than there (Tibshirani & Tibshirani 2009, The Annals of Applied
Statistics 3). Resamples of the sample add as much again, so that twice as much is taken off them
before the percentiles; the estimate itself stays the plain ratio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.measure.best_lr import between_lrs
from analysis.measure.bootstrap import (
    FEWEST_SEEDS,
    FrontierDraws,
    percentile_interval,
    spread,
    widening,
)
from scaling.rules import lr_ratio
from scaling.schema import CENSORED, DIVERGED, REACHED

Floats = NDArray[np.float64]

RUN, INTERPOLATED, OUTSIDE = "run", "interpolated", "outside"  # also CENSORED and DIVERGED
REGRET_COLUMNS = [
    "target_loss", "rule", "exponent", "batch_scale", "reference_batch_size", "reference_lr",
    "batch_size", "lr", "steps", "best_steps", "regret", "regret_low", "regret_high", "how",
]  # fmt: skip
_SAME = 1e-4  # of log lr: a search's lrs have six digits
_FEWEST_LRS = 3  # of a batch size whose lr was tuned


@dataclass(frozen=True)
class LrRule:
    """One of scaling.rules.LR_RULES from batch_size (B0). lr: the one there; None: its best."""

    name: str
    batch_size: int
    exponent: float | None = None
    batch_scale: float | None = None
    lr: float | None = None

    def ratio(self, batch_size: float) -> float:
        given = self.batch_size, self.exponent, self.batch_scale
        return float(lr_ratio(self.name, batch_size, *given))


@dataclass(frozen=True)
class Tried:
    """One target of one group: its cells, its frontier and the k-th target of its draws."""

    cells: pd.DataFrame
    frontier: pd.DataFrame
    draws: Mapping[int, FrontierDraws]
    k: int


@dataclass(frozen=True)
class Reading:
    """Steps at an lr (NaN: not known) and how they are known. weights: {lr tried: its share of
    log S}; rise: how far log S between two lrs may lie below the line that joins them."""

    steps: float
    how: str
    weights: Mapping[float, float]
    rise: float = 0.0


def default_reference(frontier: pd.DataFrame) -> int | None:
    """The smallest batch size of one target whose best lr lies inside of those that were tried:
    rules lead from where tuning takes the fewest examples to larger batches."""
    inside = (frontier["outcome"] == REACHED) & ~frontier["lr_at_edge"].astype(bool)
    sizes = frontier.loc[inside & (frontier["n_lrs"] >= _FEWEST_LRS), "batch_size"]
    return int(sizes.min()) if len(sizes) else None


def regret_rows(rule: LrRule, ruled: Tried, tuned: Tried) -> list[dict[str, Any]]:
    """REGRET_COLUMNS but target_loss, a row each batch size of `ruled` whose lr `tuned` tuned.

    ruled: the trials under the rule; tuned: those that it is compared with, mostly the same.
    regret_low, regret_high: 95 %, from at least 3 seeds. regret_high is NaN, and the regret at
    least that, where the best lr is at the edge of those tried, or the rule's trial ran out of
    budget (CENSORED).
    """
    start = _reference(rule, ruled)
    if start is None:
        return []
    rows = []
    for best in tuned.frontier.sort_values("batch_size").to_dict("records"):
        size = int(best["batch_size"])
        cells = ruled.cells[ruled.cells["batch_size"] == size].sort_values("lr")
        if best["outcome"] != REACHED or best["n_lrs"] < _FEWEST_LRS or cells.empty:
            continue
        lr = start * rule.ratio(size)
        at = read_steps(cells, lr)
        row = {
            "rule": rule.name, "exponent": rule.exponent, "batch_scale": rule.batch_scale,
            "reference_batch_size": rule.batch_size, "reference_lr": start, "batch_size": size,
            "lr": lr, "steps": at.steps, "best_steps": best["steps"], "how": at.how,
            "regret": at.steps / best["steps"] - 1,
        }  # fmt: skip
        low, high = _interval(rule, ruled, tuned, best, at)
        rows.append(row | {"regret_low": low, "regret_high": high})
    elsewhere = any(row["batch_size"] != rule.batch_size for row in rows)
    return rows if elsewhere else []


def read_steps(cells: pd.DataFrame, lr: float) -> Reading:
    """Steps at one lr from the cells of one batch size and target, by increasing lr.

    >>> cells = pd.DataFrame({"lr": [0.1, 0.4], "steps": [100.0, 25.0], "outcome": "reached"})
    >>> round(read_steps(cells, 0.2).steps, 3), read_steps(cells, 0.8).how
    (50.0, 'outside')
    """
    x = np.log(cells["lr"].to_numpy(float))
    outcome, steps = cells["outcome"].to_numpy(str), cells["steps"].to_numpy(float)
    at = np.log(lr)
    nearest = int(np.abs(x - at).argmin())
    if abs(x[nearest] - at) < _SAME:
        how = {REACHED: RUN, CENSORED: CENSORED, DIVERGED: DIVERGED}.get(outcome[nearest], OUTSIDE)
        value = steps[nearest] if how == RUN else np.nan
        return Reading(value, how, {float(cells["lr"].iloc[nearest]): 1.0})
    after = int(np.searchsorted(x, at))
    before = after - 1
    if before >= 0 and outcome[before] == DIVERGED:  # and so does all above
        return Reading(np.nan, DIVERGED, {})
    if not 0 < after < len(x) or {outcome[before], outcome[after]} != {REACHED}:
        return Reading(np.nan, OUTSIDE, {})
    share = (at - x[before]) / (x[after] - x[before])
    lrs = cells["lr"].to_numpy(float)
    weights = {float(lrs[before]): 1 - share, float(lrs[after]): share}
    y = np.log(steps)
    value = float(np.exp((1 - share) * y[before] + share * y[after]))
    return Reading(value, INTERPOLATED, weights, _sag(x, y, before, share))


def _sag(x: Floats, y: Floats, before: int, share: float) -> float:
    """How far a parabola through two lrs and a neighbour lies below the line between the two."""
    width = x[before + 1] - x[before]
    slope = (y[before + 1] - y[before]) / width
    bends = [0.0]
    for outer, inner in ((before - 1, before), (before + 2, before + 1)):
        if 0 <= outer < len(x) and np.isfinite(y[outer]):
            other = (y[outer] - y[inner]) / (x[outer] - x[inner])
            bends.append(abs(other - slope) / abs(x[outer] - x[2 * before + 1 - inner]))
    return float(max(bends) * share * (1 - share) * width**2)


def _reference(rule: LrRule, tried: Tried) -> float | None:
    """The lr at B0; None where none is known."""
    if rule.lr is not None:
        return rule.lr
    frontier = tried.frontier
    at = frontier[(frontier["batch_size"] == rule.batch_size) & (frontier["outcome"] == REACHED)]
    return float(at["lr"].iloc[0]) if len(at) else None


def _interval(
    rule: LrRule, ruled: Tried, tuned: Tried, best: Mapping[Any, Any], at: Reading
) -> tuple[float, float]:
    if at.how == CENSORED:
        size, [lr] = best["batch_size"], at.weights
        cells = ruled.cells
        row = cells[(cells["batch_size"] == size) & (cells["lr"] == lr)].iloc[0]
        return max(0.0, float(row["steps_lower"] / best["steps"] - 1)), np.nan
    drawn = None if at.how not in (RUN, INTERPOLATED) else _draws(rule, ruled, tuned, best)
    if drawn is None:
        return np.nan, np.nan
    n_seeds = int(best["n_seeds"])
    wide = spread(drawn[:, None], widening(n_seeds, n_seeds - 1))[:, 0]
    low, high = percentile_interval(wide)
    value = np.log(at.steps / best["steps"])
    low = max(0.0, float(np.minimum(low, value)) - at.rise)
    high = float(np.maximum(high, value)) + _between(tuned, best)
    return float(np.expm1(low)), np.nan if best["lr_at_edge"] else float(np.expm1(high))


def _draws(rule: LrRule, ruled: Tried, tuned: Tried, best: Mapping[Any, Any]) -> Floats | None:
    """log(1 + regret) [n_boot], without what the least of noisy steps is too low by."""
    size, lrs = int(best["batch_size"]), _drawn_lrs(rule, ruled)
    of_rule, of_best = ruled.draws.get(size), tuned.draws.get(size)
    if of_rule is None or of_best is None or lrs is None or best["n_seeds"] < FEWEST_SEEDS:
        return None
    if of_rule.of_lrs is None or of_rule.lrs is None:
        return None
    cells = ruled.cells[ruled.cells["batch_size"] == size].sort_values("lr")
    log_steps = np.full(len(lrs), np.nan)
    for lr in np.unique(lrs[~np.isnan(lrs)]):
        at = read_steps(cells, lr * rule.ratio(size))
        columns = [np.flatnonzero(of_rule.lrs == one) for one in at.weights]
        if at.how not in (RUN, INTERPOLATED) or not all(len(one) for one in columns):
            continue  # also where a neighbour has too few seeds to be drawn
        here = lrs == lr
        parts = of_rule.of_lrs[ruled.k][np.ix_(here, np.concatenate(columns))]
        log_steps[here] = np.log(parts) @ np.array(list(at.weights.values()))
    if np.isnan(log_steps).all():
        return None
    least = np.log(of_best.steps[tuned.k])
    return log_steps - least - 2 * _too_low(tuned, of_best, size)


def _drawn_lrs(rule: LrRule, tried: Tried) -> Floats | None:
    """The lr at B0 in each resample [n_boot]; None with too few seeds."""
    n_boot = next(iter(tried.draws.values())).steps.shape[1]
    if rule.lr is not None:
        return np.full(n_boot, rule.lr)
    drawn = tried.draws.get(rule.batch_size)
    at = tried.frontier[tried.frontier["batch_size"] == rule.batch_size]
    if drawn is None or drawn.lrs is None or at["n_seeds"].iloc[0] < FEWEST_SEEDS:
        return None
    best = drawn.best[tried.k]
    return np.where(best >= 0, drawn.lrs[best], np.nan)


def _too_low(tried: Tried, drawn: FrontierDraws, size: int) -> float:
    """How far log S(B) of the sample lies below its expectation, by the resamples."""
    cells = tried.cells[(tried.cells["batch_size"] == size) & tried.cells["compared"]]
    in_sample = cells.set_index("lr")["steps"]
    assert drawn.lrs is not None
    best = drawn.best[tried.k]
    steps = in_sample.reindex(drawn.lrs).to_numpy(float)[best]
    gap = np.log(steps) - np.log(drawn.steps[tried.k])
    gap = gap[(best >= 0) & np.isfinite(gap)]
    return max(0.0, float(gap.mean())) if len(gap) else 0.0


def _between(tried: Tried, best: Mapping[Any, Any]) -> float:
    """What lrs between the tried ones may save, in log S: the best lr of all is below."""
    same = (tried.cells["batch_size"] == best["batch_size"]) & tried.cells["compared"]
    cells = tried.cells[same].sort_values("lr")
    lrs = cells["lr"].to_numpy(float)
    position = int(np.flatnonzero(lrs == best["lr"])[0])
    return between_lrs(lrs, cells["steps"].to_numpy(float), position).depth
