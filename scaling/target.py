"""What "reached a target" means for one curve. Numpy only; shared by training and analysis."""

from __future__ import annotations

import math


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
