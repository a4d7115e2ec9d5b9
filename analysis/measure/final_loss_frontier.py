"""From least final losses to the frontier: where L_B(D) reaches each target.

E(B) = D at which the decreasing isotonic regression of L_B(D) crosses the target, between the
trained lengths as between the evaluations of a curve (scaling.curves.read_crossings);
S(B) = E(B)/B. K targets, T lengths of a batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.caveats import Caveat, size_list
from analysis.measure.best_lr import lr_interval
from analysis.measure.bootstrap import FEWEST_SEEDS, FrontierDraws, widening
from analysis.measure.cell_frame import CELL_COLUMNS
from analysis.measure.final_losses import SizeLosses
from analysis.measure.frontier import FRONTIER_COLUMNS, steps_interval
from scaling.curves import Crossings, read_crossings
from scaling.schema import CENSORED, LEFT_CENSORED, REACHED

Floats = NDArray[np.float64]

_MORE_EXAMPLES = 1.1  # than the fewest: see mark_below_optimum


def final_loss_draws(losses: SizeLosses, levels: Sequence[float], floor: float) -> FrontierDraws:
    """Where the resampled L_B(D) reach the levels of excess loss [K]; see FrontierDraws."""
    crossings = read_crossings(losses.steps, losses.loss_draws - floor, levels)
    steps, lower, upper = (part.T for part in crossings)
    at = _nearest(losses.steps, steps)
    rows = np.arange(steps.shape[1])
    best = np.where(at >= 0, losses.best_draws[rows, at], -1)
    lr = _lr_at(losses.steps, losses.lr_draws, steps)
    return FrontierDraws(steps, best, lower, upper, lr, losses.lrs)


def final_loss_frontier(
    sizes: Sequence[SizeLosses],
    draws: dict[int, FrontierDraws],
    targets: Sequence[float],
    group: dict[str, Any],
    floor: float,
) -> pd.DataFrame:
    """A row per target and batch size, as frontier.frontier_frame.

    lr: the best one of the trained length nearest to the crossing; lr_at_edge: the lrs tried at a
    length beside the crossing end with their best. outcome: reached, censored (the longest runs end
    above the target) or left_censored (the shortest end below it).
    """
    rows = [
        {**group, "target_loss": target, "batch_size": losses.batch_size}
        | _row(losses, draws[losses.batch_size], k, target - floor, floor)
        for k, target in enumerate(targets)
        for losses in sizes
    ]
    return mark_below_optimum(pd.DataFrame(rows, columns=pd.Index([*group, *FRONTIER_COLUMNS])))


def mark_below_optimum(frontier: pd.DataFrame) -> pd.DataFrame:
    """With a column below_optimum, for the batch sizes that no form S = S_min + E_min/B describes.

    Where another hyperparameter than the lr (beta2, weight decay, the schedule's last lr) suits
    larger batches, small ones take more examples again. True below the batch size of the fewest
    examples, from the largest one on that takes 10 % more or did not get there.
    """
    below = pd.Series(False, frontier.index)
    for _, rows in frontier.groupby("target_loss"):
        reached = rows[rows["outcome"] == REACHED]
        if reached.empty:
            continue
        fewest = reached.sort_values("examples").iloc[0]
        smaller = rows[rows["batch_size"] < fewest["batch_size"]]
        more = smaller["examples"] > _MORE_EXAMPLES * fewest["examples"]
        worse = smaller.loc[more | (smaller["outcome"] == CENSORED), "batch_size"]
        below |= frontier.index.isin(smaller.index) & (frontier["batch_size"] <= worse.max())
    return frontier.assign(below_optimum=below)


def below_optimum_caveat(frontier: pd.DataFrame) -> Caveat | None:
    """Of the rows of one target."""
    below = frontier[frontier["below_optimum"]]
    if below.empty:
        return None
    fewest = frontier.sort_values("examples").iloc[0]
    text = (
        "Small batches take 10 % more examples than larger ones, or never get there, so they are "
        "left out of the fit: beta2, weight decay or the end of the schedule may not suit them"
    )
    where = f"{size_list(below)} at target loss {fewest['target_loss']:.4g}"
    return Caveat(text, f"{where}; the fewest at {fewest['batch_size']:,}", "edges")


def final_loss_cells(
    sizes: Sequence[SizeLosses], targets: Sequence[float], group: dict[str, Any], floor: float
) -> pd.DataFrame:
    """Of each lr alone: the steps at which its own losses reach the targets, as cell_frame's."""
    rows = []
    for losses in sizes:
        for i, lr in enumerate(losses.lrs):
            sound = np.isfinite(losses.means[:, i])
            if not sound.any():
                continue
            steps, means = losses.steps[sound], losses.means[sound, i]
            crossings = read_crossings(steps, means[None] - floor, [t - floor for t in targets])
            for k, target in enumerate(targets):
                at, lower, upper = (float(part[0, k]) for part in crossings)
                place = (*group.values(), target, losses.batch_size, lr)
                seeds = (int(losses.n_seeds.max()), 0, steps[-1])
                rows.append((*place, at, _outcome(at, upper), *seeds, lower, upper, True))
    return pd.DataFrame(rows, columns=pd.Index([*group, *CELL_COLUMNS]))


def _row(
    losses: SizeLosses, draws: FrontierDraws, k: int, level: float, floor: float
) -> dict[str, Any]:
    read = read_crossings(losses.steps, losses.loss[None] - floor, [level])
    steps, lower, upper = (float(part[0, 0]) for part in Crossings(*read))
    outcome = _outcome(steps, upper)
    row: dict[str, Any] = dict.fromkeys(FRONTIER_COLUMNS[2:], np.nan)
    row |= {"outcome": outcome, "better_lrs": None, "lr_at_edge": False}
    row |= {"n_seeds": int(losses.n_seeds.max()), "n_lrs": int(losses.n_lrs.max())}
    row |= {"steps_lower": lower, "steps_upper": upper}
    if outcome != REACHED:  # another lr might have got the longest runs there
        return row | {"lr_at_edge": outcome == CENSORED and bool(losses.at_edge[-1])}
    after = int(np.clip(np.searchsorted(losses.steps, steps), 1, len(losses.steps) - 1))
    nearest = int(_nearest(losses.steps, np.array([steps]))[0])
    sides = [losses.better_lrs[i] for i in (nearest, after - 1, after)]
    chosen = pd.Series({"n_seeds": int(losses.n_seeds[[after - 1, after]].min()), "steps": steps})
    interval = steps_interval(draws, k, chosen)
    low, high = _lr_interval(losses, draws, k, nearest, int(chosen["n_seeds"]))
    return row | {
        "steps": steps,
        "examples": steps * losses.batch_size,
        "lr": losses.lrs[losses.best[nearest]],
        "lr_refined": float(_lr_at(losses.steps, losses.lr[None], np.array([steps]))[0]),
        "lr_at_edge": any(sides),
        "better_lrs": next(filter(None, sides), None),
        "n_seeds": int(chosen["n_seeds"]),
        "steps_low": steps / _beside(steps / interval["steps_low"], steps / lower),
        "steps_high": steps * _beside(interval["steps_high"] / steps, upper / steps),
        "lr_low": low,
        "lr_high": high,
    }


def _beside(of_seeds: float, of_interpolation: float) -> float:
    """Two independent errors as one factor: their logarithms add in squares."""
    return float(np.exp(np.hypot(np.log(of_seeds), np.log(of_interpolation))))


def _outcome(steps: float, upper: float) -> str:
    if not np.isnan(steps):
        return REACHED
    return CENSORED if np.isnan(upper) else LEFT_CENSORED


def _nearest(lengths: Floats, steps: Floats) -> NDArray[np.int64]:
    """Index of the length nearest in its logarithm; -1 where steps is NaN."""
    distance = np.abs(np.log(steps)[..., None] - np.log(lengths))
    return np.where(np.isnan(steps), -1, np.argmin(distance, axis=-1))


def _lr_at(lengths: Floats, lrs: Floats, steps: Floats) -> Floats:
    """Between the lengths, log-log: lrs [m, T] at steps [.., m]; NaN where steps are."""
    if len(lengths) == 1:
        return np.where(np.isnan(steps), np.nan, lrs[:, 0])
    after = np.clip(np.searchsorted(lengths, steps), 1, len(lengths) - 1)
    logs, at = np.log(lengths), np.arange(len(lrs))
    share = (np.log(steps) - logs[after - 1]) / (logs[after] - logs[after - 1])
    before, later = np.log(lrs[at, after - 1]), np.log(lrs[at, after])
    return np.exp(before + share * (later - before))


def _lr_interval(
    losses: SizeLosses, draws: FrontierDraws, k: int, nearest: int, n_seeds: int
) -> tuple[float, float]:
    """95 % of the best lr, never narrower than half a spacing; NaN of one lr that is not known."""
    lrs = losses.lrs
    if np.isnan(lrs).any():
        return np.nan, np.nan
    factor = float(widening(n_seeds, n_seeds - 1)) if n_seeds >= FEWEST_SEEDS else 1.0
    return lr_interval(lrs, int(losses.best[nearest]), draws.best[k], factor)
