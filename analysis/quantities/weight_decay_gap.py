"""Gaps between L2 penalty and decoupled weight decay as quantities of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.errors import AnalysisError
from analysis.quantities.measured import Measured

if TYPE_CHECKING:
    from analysis.study import StudyResult


def weight_decay_path_gap(result: StudyResult) -> Sequence[Measured]:
    """Of each pair with lambda = 2 lr lambda~ the greatest gap of its weights along the run."""
    from analysis.topics.weight_decay import EQUAL

    return _gaps(result, EQUAL, "max")


def weight_decay_last_gap(result: StudyResult) -> Sequence[Measured]:
    """Of the same pairs the gap at the last evaluation."""
    from analysis.topics.weight_decay import EQUAL

    return _gaps(result, EQUAL, "last")


def weight_decay_fixed_point_gap(result: StudyResult) -> Sequence[Measured]:
    """Of each pair with lambda = 2 lr lambda~/(1 - mu) the gap at the last evaluation."""
    from analysis.topics.weight_decay import WITH_MOMENTUM

    return _gaps(result, WITH_MOMENTUM, "last")


def _gaps(result: StudyResult, decay: str, which: str) -> Sequence[Measured]:
    """Raises AnalysisError where there is no such pair."""
    from analysis.topics.weight_decay import PAIR, weight_decay_gaps

    gaps = weight_decay_gaps(result)
    gaps = gaps[gaps["decay"] == decay].sort_values("step")
    if gaps.empty:
        needed = "a trial with a penalty and one with decoupled decay that are alike otherwise"
        raise AnalysisError(f"it needs {needed}, with their weights recorded")
    found = gaps.groupby(PAIR)["gap"].agg(which)  # in the order of PAIR's values
    one_seed, one_lr = gaps["seed"].nunique() == 1, gaps["lr"].nunique() == 1
    measured = []
    for (optimizer, _, amount, size, lr, seed), gap in found.items():  # pyright: ignore[reportGeneralTypeIssues]
        what = f"{optimizer}, weight_decay {amount:g}, batch size {size}"
        what += "" if one_lr else f", lr {lr:g}"
        what += "" if one_seed else f", seed {seed}"
        measured.append(Measured(what, float(gap)))
    return measured
