"""The critical batch size as a quantity of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.fit.fit_result import FitResult
from analysis.groups import group_label
from analysis.quantities.measured import Measured

if TYPE_CHECKING:
    from analysis.study import StudyResult

_WIDTH = 2 * 1.96  # of a 95 % interval of a normal distribution, in standard errors


def critical_batch_size(result: StudyResult) -> Sequence[Measured]:
    """E_min/S_min of every group and target; predicted: from the exact frontier, continuous lr.

    standard_error: the width of the 95 % interval over 2 * 1.96, where it is closed.
    """
    return [_measured(fit) for fit in result.fits]


def _measured(fit: FitResult) -> Measured:
    label = group_label(fit.group)
    low, high = fit.ci95.get("critical_batch_size", (None, None))
    error = (high - low) / _WIDTH if low is not None and high is not None else None
    return Measured(
        what=f"{label + ', ' if label else ''}target {fit.target_loss:.4g}",
        value=fit.critical_batch_size,
        standard_error=error,
        low=low,
        high=high,
        predicted=(fit.exact or {}).get("continuous_lr"),
        reason="" if fit.critical_batch_size is not None else f"not identified: {fit.reason}",
    )
