"""The best learning rate of a single step as a quantity of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.errors import AnalysisError
from analysis.groups import group_label
from analysis.quantities.measured import Measured

if TYPE_CHECKING:
    from analysis.study import StudyResult


def best_one_step_lr(result: StudyResult) -> Sequence[Measured]:
    """Of every group and batch size; predicted: finite_theory.best_one_step_lr.

    Raises AnalysisError where no batch size has the losses after one step at two lrs.
    """
    from analysis.topics.one_step_lr import one_step_lr_frame

    frame = one_step_lr_frame(result)
    if frame.empty:
        raise AnalysisError("it needs the losses after one step at two learning rates or more")
    found = []
    for row in frame.to_dict("records"):
        label = group_label({name: row[name] for name in result.group_by})
        error, predicted = (
            float(row[name]) if row[name] == row[name] else None
            for name in ("standard_error", "predicted_lr")
        )
        what = f"{label + ', ' if label else ''}batch size {row['batch_size']:,}"
        found.append(Measured(what, float(row["lr"]), error, predicted=predicted))
    return found
