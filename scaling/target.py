"""What "reached a target" means for one curve. Numpy only; shared by training and analysis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def interpolate_crossing(
    step_before: float, loss_before: float, step: float, loss: float, target_loss: float
) -> float:
    """Step at which the loss crosses the target between two evaluations, linear in log-log.

    loss_before > target_loss >= loss. Where a logarithm does not exist (step 0, a loss that is not
    positive) that axis is linear.
    """
    if loss_before > 0 and loss > 0 and target_loss > 0:
        share = math.log(loss_before / target_loss) / math.log(loss_before / loss)
    else:
        share = (loss_before - target_loss) / (loss_before - loss)
    if step_before > 0:
        return step_before * (step / step_before) ** share
    return step_before + share * (step - step_before)


def isotonic_crossing(steps: Floats, curve: Floats, level: float) -> float | None:
    """Step at which the decreasing isotonic regression of a curve crosses `level`, else None.

    steps [T] increasing, curve [T]. The regression's mean blocks on either side of the level stand
    at the geometric mean of their steps; between them the crossing is linear in log-log. A noisy
    curve touches a level earlier than the expected curve crosses it: this does not. None: no block
    at or below the level before the curve's end.

    With prefix sums P_k the points above the level are the first argmax_k (P_k - level k); the
    block before that split is the least mean that ends there, the block after it the greatest mean
    that begins there (min-max formulas, Barlow et al. 1972).
    """
    sums = np.concatenate([[0.0], np.cumsum(curve)])
    index = np.arange(len(sums))
    split = int(np.argmax(sums - level * index))
    if split == 0:
        return float(steps[0])
    if split == len(curve):
        return None
    before = (sums[split] - sums[:split]) / (split - index[:split])
    after = (sums[split + 1 :] - sums[split]) / (index[split + 1 :] - split)
    begin = int(np.argmin(before))
    last = len(after) - 1 - int(np.argmax(after[::-1]))  # a block is as long as it can be
    left, right = _position(steps[begin:split]), _position(steps[split : split + last + 1])
    above, below = float(before[begin]), float(after[last])
    if not above > level >= below:  # a mean equal to the level, but for rounding
        return right if above > level else left
    return interpolate_crossing(left, above, right, below, level)


def seed_mean(curves: Sequence[tuple[Sequence[int], Sequence[float]]]) -> tuple[Floats, Floats]:
    """Steps [T] and mean loss [T] over the window that the curves (steps, losses) have in common.

    Evaluations follow one schedule, so the curves begin alike; a last one off the schedule, at the
    end of a budget, is left out unless all have it.
    """
    length = min(len(steps) for steps, _ in curves)
    rows = np.array([steps[:length] for steps, _ in curves])
    common = (rows == rows[0]).all(axis=0)
    losses = np.array([losses[:length] for _, losses in curves], dtype=float)
    return rows[0, common].astype(float), losses.mean(axis=0)[common]


def _position(steps: Floats) -> float:
    """Geometric mean, without step 0 unless it is alone."""
    later = steps[steps > 0]
    return float(np.exp(np.log(later).mean())) if len(later) else 0.0
