"""The noise scale beside the critical batch size: both at the same losses, and their ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.fit.fit_result import FitResult
from analysis.groups import select
from analysis.measure.noise_records import pooled
from scaling.schema import REACHED

CRITICAL_COLUMNS = [
    "target_loss", "estimator", "kind", "noise_scale", "low", "high", "at_least", "exact",
    "critical_batch_size", "critical_low", "critical_high", "ratio", "ratio_low", "ratio_high",
    "n_records", "n_batch_sizes",
]  # fmt: skip
# A record this many times later or earlier than the crossing is not at that loss, nor is one of
# training batches whose first step is so much earlier than its last.
_NEAR = 1.5


def noise_ratio_frame(
    records: pd.DataFrame,
    fits: Sequence[FitResult],
    frontier: pd.DataFrame,
    group_by: Sequence[str],
) -> pd.DataFrame:
    """Noise scale and critical batch size at the same losses, and the ratio of the first to it.

    records: as noise_records.placed_records has them. Of every batch size that reached the target,
    at its best lr, the record of each seed nearest to the step at which the mean curve crosses the
    target; all weigh alike. Where the records of training batches span too many steps to speak of
    one loss they do not count. The ratio's interval joins both intervals on the logarithmic scale
    (the method of variance estimates recovery, Zou & Donner 2008). Columns: group..,
    CRITICAL_COLUMNS.
    """
    rows: list[dict[str, Any]] = []
    for fit in fits if len(records) else ():
        near = _at_target(records, frontier, fit)
        low, high = fit.ci95.get("critical_batch_size", (None, None))
        critical = np.array([fit.critical_batch_size, low, high], float)
        named = ("critical_batch_size", "critical_low", "critical_high")
        shared = {**fit.group, "target_loss": fit.target_loss}
        shared |= dict(zip(named, critical, strict=True))
        for (estimator, kind), of_kind in near.groupby(["estimator", "kind"], sort=False):
            estimate = pooled(of_kind)
            scale = np.array([estimate[name] for name in ("noise_scale", "low", "high")])
            row = {"estimator": estimator, "kind": kind, **estimate, **_ratio(scale, critical)}
            rows.append(shared | row | {"n_batch_sizes": of_kind["batch_size"].nunique()})
    return pd.DataFrame(rows, columns=[*group_by, *CRITICAL_COLUMNS])


def _at_target(records: pd.DataFrame, frontier: pd.DataFrame, fit: FitResult) -> pd.DataFrame:
    """The record of each run, estimator and kind that is nearest to the fit's target."""
    points = select(frontier, fit.group | {"target_loss": fit.target_loss, "outcome": REACHED})
    names = [*fit.group, "batch_size", "lr"]
    near = records.merge(points[[*names, "steps"]], on=names)
    near["far"] = np.abs(np.log(near["step"].clip(lower=0.5) / near["steps"].clip(lower=0.5)))
    short = (near["estimator"] != "parts") | (near["step"] <= _NEAR * near["since"])
    near = near[short & (near["far"] <= np.log(_NEAR))].sort_values("far", kind="stable")
    return near.drop_duplicates(["run_id", "estimator", "kind"])


def _ratio(scale: np.ndarray, critical: np.ndarray) -> dict[str, float]:
    """Ratio of two estimates (value, low, high) with its interval; NaN where not known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value, low, high = np.log(scale)
        other, other_low, other_high = np.log(critical)
    middle = value - other
    ends = {
        "ratio": middle,
        "ratio_low": middle - np.hypot(value - low, other_high - other),
        "ratio_high": middle + np.hypot(high - value, other - other_low),
    }
    return {key: float(np.exp(end)) if np.isfinite(end) else np.nan for key, end in ends.items()}
