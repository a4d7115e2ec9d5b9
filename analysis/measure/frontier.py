"""The frontier S(B): steps to target at each batch size, minimised over lr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.measure.best_lr import (
    NOTHING_BETWEEN,
    BestLr,
    Between,
    best_lr,
    between_lrs,
    lr_interval,
    refined_lr,
)
from analysis.measure.bootstrap import (
    FEWEST_SEEDS,
    FrontierDraws,
    StepDraws,
    percentile_interval,
    spread,
    widening,
)
from scaling.schema import CENSORED, DIVERGED, LEFT_CENSORED, REACHED

Floats = NDArray[np.float64]

FRONTIER_COLUMNS = [
    "target_loss", "batch_size", "steps", "examples", "lr", "outcome", "lr_at_edge", "n_seeds",
    "n_lrs", "steps_low", "steps_high", "lr_low", "lr_high", "steps_lower", "steps_upper",
    "lr_refined", "better_lrs",
]  # fmt: skip


def frontier_frame(
    cells: pd.DataFrame,
    draws: Mapping[int, FrontierDraws],
    target_losses: Sequence[float],
    group: Mapping[str, object],
    *,
    given: bool = False,
    tuned: Sequence[str] = ("lr",),
) -> pd.DataFrame:
    """A row per target and batch size of one group: the raw minimum over lr and its interval.

    cells: cell_frame of the group, of which the compared ones enter the minimum and all the edges;
    draws: bootstrap of each batch size (its targets in the order of target_losses, its compared lrs
    increasing). outcome is reached, censored (no lr reached the target in its budget),
    left_censored (some lr met it at or before its first evaluation) or diverged (all lrs did).
    steps_lower, steps_upper: see cell_frame; the least of the censored lrs' ends, or of what a
    left-censored one took at most; lr_refined: see refined_lr; better_lrs: "above" or "below" the
    best lr where the tried ones end with it, so that its steps are at most what the best lr takes.
    Intervals (steps_low, steps_high) are 95 % percentiles with the correction of measure.bootstrap.
    The low end is also reduced by what lrs between the tried ones may save (between_lrs), so they
    are of S over every lr; NaN with fewer than 3 seeds. given: the lr of each batch size was
    chosen before, so no point is at the edge of a grid. A censored row counts as at the edge where
    the tried lrs do not lie around the best lr of the nearest batch size that reached the target:
    another lr might have reached it.
    tuned: what the minimum is over; columns other than lr stand after it with their best values,
    and the edge of the lrs is that of the lrs tried with them. name_at_edge of a numeric one with 3
    values or more: its best value is the least or greatest tried; marked, not left out.
    """
    rows = []
    others = [name for name in tuned if name != "lr"]
    for k, target in enumerate(target_losses):
        of_target = cells[cells["target_loss"] == target]
        for size, tried in of_target.groupby("batch_size", sort=True):
            tried = tried.sort_values(["lr", *others], kind="stable")
            row = {**group, "target_loss": target, "batch_size": int(size)}  # type: ignore[arg-type]
            row |= _frontier_row(tried, draws[int(size)], k, given, others)  # type: ignore[arg-type]
            rows.append(row)
    edges = [f"{name}_at_edge" for name in others]
    columns = [
        *FRONTIER_COLUMNS[:5],
        *others,
        *FRONTIER_COLUMNS[5:7],
        *edges,
        *FRONTIER_COLUMNS[7:],
    ]
    frame = pd.DataFrame(rows, columns=[*group, *columns])
    if not given:
        for _, of_target in frame.groupby("target_loss"):
            _mark_censored(frame, of_target, cells)
    return frame


def frontier_is_given(cells: pd.DataFrame) -> bool:
    """Whether each batch size has one setting: it was chosen before, so no grid ends there."""
    return bool((cells.groupby(["target_loss", "batch_size"], dropna=False).size() == 1).all())


def usable(frontier: pd.DataFrame) -> pd.DataFrame:
    """The rows that may enter fits: reached, and the best lr not at the edge of the tried grid."""
    return _fitted(frontier[(frontier["outcome"] == REACHED) & ~_at_edge(frontier)])


def lower_bounds(frontier: pd.DataFrame) -> pd.DataFrame:
    """The censored rows that give the fit a lower bound of their steps."""
    if "steps_lower" not in frontier:
        return frontier.iloc[:0]
    known = frontier["steps_lower"].notna() & ~_at_edge(frontier)
    return _fitted(frontier[(frontier["outcome"] == CENSORED) & known])


def upper_bounds(frontier: pd.DataFrame) -> pd.DataFrame:
    """The rows that give the fit an upper bound of their steps, which stands in steps_upper.

    Left-censored ones, and those whose best lr is at the edge of what was tried: the best lr may
    lie beyond, so that the least steps are at most the measured ones.
    """
    edge = _at_edge(frontier) & (frontier["outcome"] == REACHED)
    rows = _fitted(frontier[edge | (frontier["outcome"] == LEFT_CENSORED)]).copy()
    at_most = rows["steps"]
    if "steps_upper" in rows:
        at_most = at_most.fillna(rows["steps_upper"])
    rows["steps_upper"] = at_most
    return rows[at_most > 0]


def _at_edge(frontier: pd.DataFrame) -> pd.Series:
    return frontier["lr_at_edge"].astype(bool)


def _fitted(frontier: pd.DataFrame) -> pd.DataFrame:
    """Without what lies outside of the form: see final_loss_frontier.mark_below_optimum."""
    if "below_optimum" not in frontier:
        return frontier
    return frontier[~frontier["below_optimum"].astype(bool)]


def lr_draws(frontier: pd.DataFrame, draws: StepDraws) -> Floats | None:
    """Best lrs [n_boot, usable rows] in resamples of the seeds, widened by sqrt(n/(n-1)).

    frontier: all rows of one group and target, as in draws. None with fewer than 3 seeds.
    """
    used = frontier.index.isin(usable(frontier).index)
    seeds = frontier.loc[used, "n_seeds"].to_numpy(float)
    if not used.any() or seeds.min() < FEWEST_SEEDS:
        return None
    return np.exp(spread(np.log(draws.lr[:, used]), np.sqrt(seeds / (seeds - 1))))


def _mark_censored(frame: pd.DataFrame, of_target: pd.DataFrame, cells: pd.DataFrame) -> None:
    """lr_at_edge of the censored rows of one target, from the best lrs around them."""
    sound = usable(of_target).dropna(subset="lr")
    for index, row in of_target[of_target["outcome"] == CENSORED].iterrows():
        lrs = cells.loc[cells["batch_size"] == row["batch_size"], "lr"].dropna()
        if sound.empty or lrs.empty:
            continue
        nearest = (np.log(sound["batch_size"]) - np.log(row["batch_size"])).abs().idxmin()
        lr = sound.loc[nearest, "lr"]
        frame.loc[index, "lr_at_edge"] = not lrs.min() < lr < lrs.max()  # type: ignore[operator]


def _lrs_with(tried: pd.DataFrame, chosen: pd.Series, others: Sequence[str]) -> pd.Series:
    """The lrs that were tried with the best values of the others."""
    same = at_best_values(tried, chosen, others)
    return (tried if len(same) < 2 else same)["lr"]  # drawn at random: no two settings agree


def at_best_values(
    cells: pd.DataFrame, best: Mapping[Any, Any] | pd.Series, others: Sequence[str]
) -> pd.DataFrame:
    """The cells that have the best values of what is tuned beside lr."""
    same = [cells[name].astype(str) == str(best[name]) for name in others]
    return cells[np.logical_and.reduce(same)] if same else cells


def _value_at_edge(values: pd.Series, best: object) -> bool:
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return bool(numeric and values.nunique() > 2 and best in (values.min(), values.max()))


def _frontier_row(
    tried: pd.DataFrame, draws: FrontierDraws, k: int, given: bool, others: Sequence[str] = ()
) -> dict[str, object]:
    everything, tried = tried, tried[tried["compared"]]
    early = tried[tried["outcome"] == LEFT_CENSORED]
    lrs, steps = tried["lr"].to_numpy(float), tried["steps"].to_numpy(float)
    position, at_edge = _best(everything, tried, given, others)
    row: dict[str, object] = dict.fromkeys(FRONTIER_COLUMNS[2:], np.nan)
    row |= {"lr_at_edge": at_edge, "n_lrs": everything["lr"].nunique(dropna=False)}
    row |= {"n_seeds": int(tried["n_seeds"].max()), "better_lrs": None}
    row |= dict.fromkeys(others) | {f"{name}_at_edge": False for name in others}
    if len(early):  # which lr is the best is not known
        at_most = np.nanmin([early["steps_upper"].min(), tried["steps"].min()])
        return row | {"outcome": LEFT_CENSORED, "steps_upper": at_most, "lr_at_edge": False}
    if position < 0:
        out = everything["outcome"] == CENSORED
        if "steps_lower" in everything:
            row["steps_lower"] = everything.loc[out, "steps_lower"].min()
        return row | {"outcome": CENSORED if out.any() else DIVERGED}
    chosen = tried.iloc[position]
    if at_edge:
        least = _lrs_with(everything, chosen, others).min()
        row["better_lrs"] = "below" if chosen["lr"] == least else "above"
    same = at_best_values(tried, chosen, others)  # lrs on either side are of the same settings
    beside = same["lr"].to_numpy(float)
    at = int(np.flatnonzero(same.index == chosen.name)[0])
    steps = same["steps"].to_numpy(float)
    between = NOTHING_BETWEEN if given or len(same) < 2 else between_lrs(beside, steps, at)
    for name in others:
        at_edge = _value_at_edge(everything[name], chosen[name])
        row |= {name: chosen[name], f"{name}_at_edge": at_edge}
    refined = refined_lr(beside, steps, np.array(at))
    return row | {
        "outcome": REACHED,
        "steps": chosen["steps"],
        "examples": chosen["steps"] * chosen["batch_size"],
        "lr": chosen["lr"],
        "n_seeds": int(chosen["n_seeds"]),
        **steps_interval(draws, k, chosen, between),
        **_lr_interval(draws, k, chosen, lrs, between),
        "steps_lower": chosen.get("steps_lower", np.nan),
        "steps_upper": chosen.get("steps_upper", np.nan),
        "lr_refined": float(refined),
    }


def _best(
    everything: pd.DataFrame, tried: pd.DataFrame, given: bool, others: Sequence[str]
) -> BestLr:
    """The best of those compared (tried), and whether all that were tried end with it."""
    lrs = tried["lr"].to_numpy(float)
    best = best_lr(lrs, tried["steps"].to_numpy(float))
    if given or everything["lr"].nunique() == 1:  # chosen before: no grid ends there
        return best._replace(at_edge=False)
    if others and best.position >= 0:
        around = _lrs_with(everything, tried.iloc[best.position], others)
        ends = around.min(), around.max()
        return best._replace(at_edge=bool(lrs[best.position] in ends))
    if best.at_edge:  # of those compared; others may lie around it
        ends = everything["lr"].min(), everything["lr"].max()
        return best._replace(at_edge=bool(lrs[best.position] in ends))
    return best


def steps_interval(
    draws: FrontierDraws, k: int, chosen: pd.Series, between: Between = NOTHING_BETWEEN
) -> dict[str, float]:
    """steps_low, steps_high: percentiles of the draws, down to what lies between the tried lrs.

    chosen: steps and n_seeds; NaN with fewer than 3.
    """
    n_seeds, drawn = int(chosen["n_seeds"]), draws.steps[k]
    if n_seeds < FEWEST_SEEDS:
        return {"steps_low": np.nan, "steps_high": np.nan}
    wide = spread(np.log(drawn)[:, None], widening(n_seeds, n_seeds - 1))[:, 0]
    if draws.steps_upper is not None:  # met at the first evaluation
        wide[np.isnan(drawn) & ~np.isnan(draws.steps_upper[k])] = -np.inf
    low, high = percentile_interval(wide)
    steps = np.log(chosen["steps"])  # of few draws: the value is in its interval
    ends = np.minimum(low, steps) - between.depth, np.maximum(high, steps)
    return {"steps_low": float(np.exp(ends[0])), "steps_high": float(np.exp(ends[1]))}


def _lr_interval(
    draws: FrontierDraws, k: int, chosen: pd.Series, lrs: Floats, between: Between
) -> dict[str, float]:
    """lr_low, lr_high: of the draws, and where the best of all lrs may lie."""
    grid, lr, n_seeds = np.unique(lrs), float(chosen["lr"]), int(chosen["n_seeds"])
    known = draws.best[k][draws.best[k] >= 0]
    drawn = np.searchsorted(grid, (lrs if draws.lrs is None else draws.lrs)[known])
    factor = float(widening(n_seeds, n_seeds - 1)) if n_seeds >= FEWEST_SEEDS else 1.0
    low, high = lr_interval(grid, int(np.searchsorted(grid, lr)), drawn, factor)
    return {"lr_low": float(low), "lr_high": float(max(high, lr * np.exp(between.above)))}


def hardest_reached(frontier: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Of each batch size (a value of `keys`) the row of the hardest target that it reached."""
    reached = frontier[frontier["lr"].notna()].sort_values("target_loss")
    return reached.drop_duplicates(list(keys))
