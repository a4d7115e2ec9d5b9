"""Target losses chosen from the curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.measure.cells import Cell
from scaling.curves import isotonic_crossing

REACHED_BY = 0.75  # share of the batch sizes that a chosen target is reached by
TAIL = 2.0  # a curve should go on to this many times its crossing: see analysis.measure.cells
_FEWEST_STEPS = 10  # a target reached in fewer steps is resolved badly
_DIGITS = range(3, 7)  # of a chosen target


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
    levels = sorted(min(_level_at(cell, 1 / TAIL) for cell in tried) for tried in of_size.values())
    most = math.ceil(REACHED_BY * len(levels)) - 1
    starts = sorted(
        max(float(cell.mean_curve()[1][0]) for cell in tried) for tried in of_size.values()
    )
    below = min(below, starts[::-1][most])
    hardest = _rounded_up(levels[most], below)
    if hardest is None:
        return []
    best = [
        fastest for tried in of_size.values() if (fastest := _fastest(tried, hardest)) is not None
    ]
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
        "curves. Choose others with targets=[...]."
    )


def _level_at(cell: Cell, share: float) -> float:
    """The least excess loss that the mean curve has crossed by this share of its steps."""
    steps, mean = cell.mean_curve()
    n = max(int((steps <= share * steps[-1]).sum()), 1)
    # the isotonic fit ends at the least mean of an end piece
    ends = np.cumsum(mean[:n][::-1]) / np.arange(1, n + 1)
    return float(ends.min())


def _fastest(cells: Sequence[Cell], level: float) -> tuple[Cell, float] | None:
    reached = []
    for cell in cells:
        steps, mean = cell.mean_curve()
        crossing = float(isotonic_crossing(steps, mean[None, :], [level])[0, 0])
        if not math.isnan(crossing):
            reached.append((crossing, len(reached), cell))
    return (min(reached)[2], min(reached)[0]) if reached else None


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
