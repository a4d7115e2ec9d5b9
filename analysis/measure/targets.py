"""Target losses chosen from the curves, and whether curves went on long enough beyond theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.caveats import Caveat
from analysis.measure.cells import SHORTEST_TAIL, Cell
from scaling.curves import isotonic_crossing
from scaling.schema import REACHED

REACHED_BY = 0.75  # share of the batch sizes that a chosen target is reached by
TAIL = 2.0  # a curve should go on to this many times its crossing: see analysis.measure.cells
_FEWEST_STEPS = 10  # a target reached in fewer steps is resolved badly
_DIGITS = range(3, 7)  # of a chosen target
_WORTH_SAYING = 0.1  # share of trials
_STOPPED = (
    f"Trials that touched the target ended before {SHORTEST_TAIL:g} times that step: where curves "
    "stop at first touch, steps are read too early"
)
_ONE_BY_ONE = (
    "Runs stop where they touch the target, so steps are the geometric mean of the runs' own "
    "crossings: they are read early by as much as a curve's noise lets it touch the target too soon"
)
_THEN_LOW = (
    " and the critical batch size comes out low (by 6 to 10 % with 8 seeds, by 30 % or more with "
    "one)"
)


def choose_targets(cells: Sequence[Cell], below: float = math.inf) -> list[float]:
    """Up to three levels of excess loss that most batch sizes reach, largest first.

    The hardest: the least level that 3 of 4 batch sizes reach at their best lr in the first half
    of their curves, so that these go on to twice the crossing. The others: the median over batch
    sizes of the loss at a half and at a quarter of the steps to it, where these are 10 or more.
    Rounded up to three digits, or more where three leave the curves: a level lies below the first
    loss of 3 of 4 batch sizes, and below `below`. Empty if the curves do not fall.
    """
    of_size: dict[tuple, list[Cell]] = {}
    for cell in cells:
        if not cell.n_diverged and len(cell.mean_curve()[0]) > 1:
            of_size.setdefault((cell.group, cell.batch_size), []).append(cell)
    if not of_size:
        return []
    levels = sorted(min(_level_at(cell, 1 / TAIL) for cell in own) for own in of_size.values())
    most = math.ceil(REACHED_BY * len(levels)) - 1
    starts = sorted(max(float(cell.mean_curve()[1][0]) for cell in own) for own in of_size.values())
    below = min(below, starts[::-1][most])
    hardest = _rounded_up(levels[most], below)
    if hardest is None:
        return []
    best = [found for own in of_size.values() if (found := _fastest(own, hardest)) is not None]
    chosen = [hardest] if best else []
    for share in (0.5, 0.25):
        if not best or min(steps for _, steps in best) * share < _FEWEST_STEPS:
            break
        level = float(np.median([_running_mean(cell, steps * share) for cell, steps in best]))
        easier = _rounded_up(level, below)
        if easier is not None and easier > chosen[-1] + 0.02 * abs(chosen[-1]):
            chosen.append(easier)
    return chosen[::-1]


def targets_sentence(targets: Sequence[float]) -> str:
    listed = ", ".join(f"{target:g}" for target in targets)
    return (
        f"No target was named, so {listed} {'was' if len(targets) == 1 else 'were'} chosen from "
        "the curves: levels that at least 3 of 4 batch sizes reach in the first half of their "
        "curves. Name your own with targets=[...]."
    )


def early_stop_caveats(
    trials: pd.DataFrame,
    curves: pd.DataFrame,
    frontier: pd.DataFrame,
    one_by_one: Sequence[float] = (),
) -> list[Caveat]:
    """What to say of best lrs whose trials touched their target and then hardly went on from it.

    A curve that ends where it first touches a target has nothing to pull it back with: the crossing
    is read too early. frontier: of the same group; other lrs did not win, so their curves may be
    short (those of a search are). one_by_one: targets at which each run was read alone.
    """
    last = curves[curves["loss"].notna()].groupby("run_id")["step"].max()
    then = _THEN_LOW if trials["batch_size"].nunique() > 1 else ""
    found = []
    for target, points in frontier[frontier["outcome"] == REACHED].groupby("target_loss"):
        best = trials.merge(points[["batch_size", "lr"]], on=["batch_size", "lr"])
        own = curves[curves["run_id"].isin(best["run_id"])]
        touch = own[(own["loss"] <= target) & (own["step"] > 0)].groupby("run_id")["step"].min()
        early = last.reindex(touch.index) < SHORTEST_TAIL * touch
        at = f"at target loss {target:.4g}"
        if target in one_by_one:
            found.append(Caveat(_ONE_BY_ONE + then, at, "stopped"))
        elif len(touch) and early.mean() >= _WORTH_SAYING:
            found.append(Caveat(_STOPPED + then, f"{100 * early.mean():.0f} % {at}", "stopped"))
    return found[::-1]  # the easiest first


def _level_at(cell: Cell, share: float) -> float:
    """The least excess loss that the mean curve has crossed by this share of its steps."""
    steps, mean = cell.mean_curve()
    n = max(int((steps <= share * steps[-1]).sum()), 1)
    # the isotonic fit ends at the least mean of an end piece
    ends = np.cumsum(mean[:n][::-1]) / np.arange(1, n + 1)
    return float(ends.min())


def _fastest(cells: Sequence[Cell], level: float) -> tuple[Cell, float] | None:
    found = []
    for cell in cells:
        steps, mean = cell.mean_curve()
        crossing = float(isotonic_crossing(steps, mean[None, :], [level])[0, 0])
        if not math.isnan(crossing):
            found.append((crossing, len(found), cell))
    return (min(found)[2], min(found)[0]) if found else None


def _running_mean(cell: Cell, step: float) -> float:
    steps, mean = cell.mean_curve()
    near = (steps >= step / 1.1) & (steps <= step * 1.1)
    return float(mean[near].mean()) if near.any() else float(np.interp(step, steps, mean))


def _rounded_up(level: float, below: float) -> float | None:
    """With as few digits as leave it below, three or more; None if none do."""
    size = math.floor(math.log10(abs(level))) if level else 0
    for digits in _DIGITS:
        unit = 10.0 ** (size + 1 - digits)
        rounded = float(f"{math.ceil(level / unit - 1e-9) * unit:.{digits + 1}g}")
        if rounded < below:
            return rounded
    return None
