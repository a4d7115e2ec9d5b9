"""What more steps or a larger batch leave over the loss of a larger model, at equal compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import group_label
from analysis.quantities.measured import Measured
from analysis.fit.twice_the_compute import BATCH, STEPS

if TYPE_CHECKING:
    from analysis.study import StudyResult


def loss_over_larger_model(result: StudyResult) -> Sequence[Measured]:
    """Of each group: loss after twice the steps, and with twice the batch, minus that of a model
    about twice as large; see analysis.fit.twice_the_compute. AnalysisError where nothing is
    known."""
    frame = result.twice_the_compute
    if frame.empty:
        raise AnalysisError(
            "it needs a model of 1.5 to 2.7 times the FLOPs, and a critical batch size that is "
            "identified and near to a batch size whose double was trained too"
        )
    rows = frame[frame["way"].isin([STEPS, BATCH])].to_dict("records")
    return [_measured(row, {name: row[name] for name in result.group_by}) for row in rows]


def _measured(row: dict[Any, Any], group: dict[str, Any]) -> Measured:
    error, low, high = (
        None if pd.isna(row[f"over_larger_model_{part}"]) else row[f"over_larger_model_{part}"]
        for part in ("error", "low", "high")
    )
    label = group_label(group)
    what = f"{label + ', ' if label else ''}{row['way']}"
    return Measured(what, row["over_larger_model"], error, low, high)
