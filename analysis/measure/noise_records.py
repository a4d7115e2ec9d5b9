"""Records of the gradient's noise along the runs, and how they are pooled.

Of a record only tr Sigma and |G|^2 are read (the same of B_noise: tr(H Sigma) and G'HG): they are
averaged over trials apart and only then divided. Records: the parts of training batches, or single
examples (schema.NOISE_ESTIMATORS).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling import schema
from scaling.ratio import ratio_of_means

KINDS = {"simple": "B_simple", "noise": "B_noise"}


def noise_records(trials: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """A row a record: run_id, step, loss, estimator, kind; trace, square and the same of the closed
    form as exact_trace, exact_square; since: the step of the record before (0: the first).

    loss: held out at that step. Empty where the noise scale was not measured.
    """
    frames = []
    for estimator in schema.NOISE_ESTIMATORS:
        for kind in KINDS:
            names = {
                f"{prefix}{part}": schema.noise_metric(estimator, f"{prefix}{kind}_{part}")
                for prefix in ("", "exact_")
                for part in ("trace", "square")
            }
            if names["trace"] not in curves:
                continue
            rows = curves.dropna(subset=[names["trace"], names["square"]])
            sums = {short: rows.get(name, np.nan) for short, name in names.items()}
            frame = rows[["run_id", "step", "loss"]].assign(estimator=estimator, kind=kind, **sums)
            frame["since"] = frame.groupby("run_id")["step"].shift(fill_value=0)
            frames.append(frame)
    if not frames:
        columns = ["run_id", "step", "loss", "estimator", "kind", "trace", "square"]
        return pd.DataFrame(columns=[*columns, "exact_trace", "exact_square", "since"])
    records = pd.concat(frames, ignore_index=True)
    return records[records["run_id"].isin(trials["run_id"])].reset_index(drop=True)


def placed_records(
    trials: pd.DataFrame, curves: pd.DataFrame, group_by: Sequence[str]
) -> pd.DataFrame:
    """All records with their trial's group, batch size and lr; empty for tables of steps."""
    names = ["run_id", *group_by, "batch_size", "lr"]
    if curves.empty or not set(names) <= set(trials):
        return noise_records(pd.DataFrame({"run_id": []}), pd.DataFrame({"run_id": []}))
    records = noise_records(trials, curves)
    return records.merge(trials[names], on="run_id") if len(records) else records


def pooled(records: pd.DataFrame) -> dict[str, Any]:
    """Over the records of one estimator."""
    of_batches = records["estimator"].iloc[0] == "parts"
    weights = records["batch_size"].to_numpy(float) if of_batches else np.ones(len(records))
    trace, square = (records[name].to_numpy(float) * weights for name in ("trace", "square"))
    exact_trace, exact_square = (
        float((records[f"exact_{name}"].to_numpy(float) * weights).sum())
        for name in ("trace", "square")
    )
    ratio = ratio_of_means(trace, square)
    estimate = {"noise_scale": ratio.value, "low": ratio.low, "high": ratio.high}
    exact = exact_trace / exact_square if exact_square else np.nan
    return estimate | {"at_least": ratio.at_least, "exact": exact, "n_records": len(records)}
