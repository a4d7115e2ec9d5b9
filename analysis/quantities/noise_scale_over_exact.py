"""The measured noise scale over its closed form, along the runs, as a quantity of predictions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.groups import group_label
from analysis.quantities.measured import Measured
from analysis.topics.noise_scale import ESTIMATORS, KINDS, placed_records
from analysis.words import rounded
from scaling.schema import DIVERGED

if TYPE_CHECKING:
    from analysis.study import StudyResult

_SUMS = ["trace", "square", "exact_trace", "exact_square"]


def noise_scale_over_exact(result: StudyResult) -> Sequence[Measured]:
    """R = (sum trace / sum square) / (sum exact trace / sum exact square), which is 1 in theory.

    Of every group, estimator, kind, and part of the run: held-out losses above the easiest target,
    between targets, below the hardest. Records of trials that diverged, or above the initial loss,
    are left out. Trials of one batch size and seed see the same data at every lr, so the standard
    error is from the spread of d = (trace - exact trace) - r (square - exact square) between those,
    r the closed form: se(R) = se(sum d) / (r sum square).

    Raises AnalysisError where no record with its closed form is there.
    """
    records = placed_records(result)
    if records.empty or records["exact_square"].isna().all():
        raise AnalysisError("it needs noise_scale.measure=both (or parts, examples)")
    names = ["run_id", "seed", "outcome", "initial_loss"]
    records = records.merge(result.trials[names], on="run_id").dropna(subset=_SUMS)
    records = records[records["outcome"] != DIVERGED]
    records = records[records["loss"] <= records["initial_loss"]]
    found = []
    keys = [*result.group_by, "estimator", "kind"]
    for key, own in records.groupby(keys, sort=False, dropna=False):
        where = dict(zip(keys, key, strict=True))
        label = group_label({name: where[name] for name in result.group_by})
        kind, estimator = str(where["kind"]), str(where["estimator"])
        of = f"{KINDS[kind]} from {ESTIMATORS[estimator]}"
        for losses, part in _parts(own, result.targets):
            what = ", ".join(filter(None, (label, of, losses)))
            found.append(_over_exact(what, part))
    return found


def _parts(records: pd.DataFrame, targets: Sequence[float]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The records by held-out loss, the targets between them, the first of a run first."""
    edges = [np.inf, *sorted(targets, reverse=True), -np.inf]
    for high, low in itertools.pairwise(edges):
        part = records[(records["loss"] > low) & (records["loss"] <= high)]
        if low == -np.inf:
            words = f"losses below {rounded(high)}"
        elif high == np.inf:
            words = f"losses above {rounded(low)}"
        else:
            words = f"losses {rounded(high)} to {rounded(low)}"
        yield words, part


def _over_exact(what: str, records: pd.DataFrame) -> Measured:
    sums = records.groupby(["batch_size", "seed"])[_SUMS].sum()
    if len(sums) < 2:
        return Measured(what, None, reason="fewer than two batch sizes or seeds have records there")
    trace, square, exact_trace, exact_square = (float(sums[name].sum()) for name in _SUMS)
    if square <= 0:
        return Measured(what, None, reason="|G|^2 comes out negative: the signal is too weak")
    exact = exact_trace / exact_square
    off = sums["trace"] - sums["exact_trace"]
    off -= exact * (sums["square"] - sums["exact_square"])
    error = float(off.std(ddof=1)) * len(sums) ** 0.5 / (exact * square)
    return Measured(what, trace / square / exact, error, predicted=1.0)
