"""The noise scale of the gradients along the runs, and beside the critical batch size measured.

Of a record only tr Sigma and |G|^2 are read (the same of B_noise: tr(H Sigma) and G'HG): they are
averaged over trials apart and only then divided. Records: the parts of training batches, or single
examples (schema.NOISE_ESTIMATORS). The noise scale predicts, the critical batch size is measured;
McCandlish et al. 2018 (arXiv:1812.06162) expect them near each other, and they often differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from analysis.groups import group_label
from analysis.measure.frontier import hardest_reached
from analysis.words import between, rounded, size_words
from scaling import schema
from scaling.schema import REACHED

if TYPE_CHECKING:
    from analysis.study import StudyResult

Floats = NDArray[np.float64]

KINDS = {"simple": "B_simple", "noise": "B_noise"}
ESTIMATORS = {"parts": "parts of batches", "examples": "single examples"}
RUN_COLUMNS = [
    "estimator", "kind", "batch_size", "lr", "step", "loss", "noise_scale", "low", "high",
    "at_least", "exact", "n_records",
]  # fmt: skip
CRITICAL_COLUMNS = [
    "target_loss", "estimator", "kind", "noise_scale", "low", "high", "at_least", "exact",
    "critical_batch_size", "critical_low", "critical_high", "ratio", "ratio_low", "ratio_high",
    "n_records", "n_batch_sizes",
]  # fmt: skip
# A record this many times later or earlier than the crossing is not at that loss, nor is one of
# training batches whose first step is so much earlier than its last.
_NEAR = 1.5


class Ratio(NamedTuple):
    """Ratio of means with its 95 % interval; NaN: not known. Unbounded above: at_least."""

    value: float
    low: float = np.nan
    high: float = np.nan
    at_least: float = np.nan


def ratio_of_means(numerator: Floats, denominator: Floats) -> Ratio:
    """mean N / mean D of T independent records, with Fieller's interval (Fieller 1954).

    The r with (mean N - r mean D)^2 <= t^2 (S_NN - 2 r S_ND + r^2 S_DD), S the covariance of the
    means, t the 97.5 % quantile of T - 1 degrees of freedom. Where mean D is not told from 0 the
    set has no upper end, and the lower one is all that is known (or nothing is).

    >>> ratio_of_means(np.array([2.0, 2.2, 1.8]), np.array([1.0, 1.0, 1.0]))._asdict()["value"]
    2.0
    """
    top, bottom, n = float(numerator.mean()), float(denominator.mean()), len(numerator)
    value = top / bottom if bottom else np.nan
    if n < 2:
        return Ratio(value)
    (nn, nd), (_, dd) = np.cov(numerator, denominator) / n * student.ppf(0.975, n - 1) ** 2
    a, b, c = bottom**2 - dd, top * bottom - nd, top**2 - nn
    inside = b**2 - a * c
    if inside < 0:
        return Ratio(value)
    ends = np.sort([(b - np.sqrt(inside)) / a, (b + np.sqrt(inside)) / a])
    if a > 0:
        return Ratio(value, float(ends[0]), float(ends[1]))
    return Ratio(value, at_least=float(ends[1])) if c > 0 else Ratio(value)


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
            own = curves.dropna(subset=[names["trace"], names["square"]])
            found = {short: own.get(name, np.nan) for short, name in names.items()}
            frame = own[["run_id", "step", "loss"]].assign(estimator=estimator, kind=kind, **found)
            frame["since"] = frame.groupby("run_id")["step"].shift(fill_value=0)
            frames.append(frame)
    if not frames:
        columns = ["run_id", "step", "loss", "estimator", "kind", "trace", "square"]
        return pd.DataFrame(columns=[*columns, "exact_trace", "exact_square", "since"])
    records = pd.concat(frames, ignore_index=True)
    return records[records["run_id"].isin(trials["run_id"])].reset_index(drop=True)


def noise_along_runs(result: StudyResult) -> pd.DataFrame:
    """At each record of each batch size's best lr for the hardest target that it reached.

    Columns: group.., RUN_COLUMNS; pooled over the seeds, negative values as they came.
    """
    records = placed_records(result)
    names = [*result.group_by, "batch_size", "lr"]
    if records.empty:
        return pd.DataFrame(columns=[*result.group_by, *RUN_COLUMNS])
    best = hardest_reached(result.frontier, names[:-1])[names]
    rows = []
    keys = [*result.group_by, "estimator", "kind", "batch_size", "lr", "step"]
    for key, own in records.merge(best, on=names).groupby(keys, sort=True):
        where = dict(zip(keys, key, strict=True))
        rows.append(where | {"loss": own["loss"].mean()} | _pooled(own))
    return pd.DataFrame(rows, columns=[*result.group_by, *RUN_COLUMNS])


def noise_against_critical(result: StudyResult) -> pd.DataFrame:
    """Noise scale and critical batch size at the same losses, and the ratio of the first to it.

    Of every batch size that reached the target, at its best lr, the record of each seed nearest to
    the step at which the mean curve crosses the target; all weigh alike. Where the records of
    training batches span too many steps to speak of one loss they do not count. The ratio's
    interval joins both intervals on the logarithmic scale (the method of variance estimates
    recovery, Zou & Donner 2008). Columns: group.., CRITICAL_COLUMNS.
    """
    records = placed_records(result)
    rows: list[dict[str, Any]] = []
    for fit in result.fits if len(records) else ():
        at = _at_target(result, records, fit.group, fit.target_loss)
        for (estimator, kind), own in at.groupby(["estimator", "kind"], sort=False):
            found = _pooled(own)
            low, high = fit.ci95.get("critical_batch_size", (None, None))
            critical = (fit.critical_batch_size, low, high)
            row = {**fit.group, "target_loss": fit.target_loss, "estimator": estimator}
            row |= {"kind": kind, **found, "n_batch_sizes": own["batch_size"].nunique()}
            names = ("critical_batch_size", "critical_low", "critical_high")
            numbers = [np.nan if value is None else float(value) for value in critical]
            row |= dict(zip(names, numbers, strict=True))
            scale = (found["noise_scale"], found["low"], found["high"])
            rows.append(row | _ratio(scale, (numbers[0], numbers[1], numbers[2])))
    return pd.DataFrame(rows, columns=[*result.group_by, *CRITICAL_COLUMNS])


def placed_records(result: StudyResult) -> pd.DataFrame:
    """All records with their trial's group, batch size and lr; empty for tables of steps."""
    names = ["run_id", *result.group_by, "batch_size", "lr"]
    if result.curves.empty or not set(names) <= set(result.trials):
        return noise_records(pd.DataFrame({"run_id": []}), pd.DataFrame({"run_id": []}))
    records = noise_records(result.trials, result.curves)
    return records.merge(result.trials[names], on="run_id") if len(records) else records


def _at_target(
    result: StudyResult, records: pd.DataFrame, group: dict[str, Any], target: float
) -> pd.DataFrame:
    points = result.frontier[
        (result.frontier["target_loss"] == target) & (result.frontier["outcome"] == REACHED)
    ]
    names = [*group, "batch_size", "lr"]
    for key, value in group.items():
        points = points[points[key] == value]
    own = records.merge(points[[*names, "steps"]], on=names)
    own["far"] = np.abs(np.log(own["step"].clip(lower=0.5) / own["steps"].clip(lower=0.5)))
    short = (own["estimator"] != "parts") | (own["step"] <= _NEAR * own["since"])
    own = own[short & (own["far"] <= np.log(_NEAR))].sort_values("far", kind="stable")
    return own.drop_duplicates(["run_id", "estimator", "kind"])


def _pooled(own: pd.DataFrame) -> dict[str, Any]:
    """Over the records of one estimator."""
    of_batches = own["estimator"].iloc[0] == "parts"
    weights = own["batch_size"].to_numpy(float) if of_batches else np.ones(len(own))
    trace, square = (own[name].to_numpy(float) * weights for name in ("trace", "square"))
    exact_trace, exact_square = (
        float((own[f"exact_{name}"].to_numpy(float) * weights).sum())
        for name in ("trace", "square")
    )
    ratio = ratio_of_means(trace, square)
    found = {"noise_scale": ratio.value, "low": ratio.low, "high": ratio.high}
    exact = exact_trace / exact_square if exact_square else np.nan
    return found | {"at_least": ratio.at_least, "exact": exact, "n_records": len(own)}


def _ratio(scale: Sequence[float], critical: Sequence[float]) -> dict[str, float]:
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


def noise_rows(result: StudyResult) -> list[dict[str, str]]:
    """noise_against_critical as rows of text for the page, hardest target first."""
    table = noise_against_critical(result)
    rows = []
    for row in table.sort_values("target_loss", kind="stable").to_dict("records"):
        value, at_least = row["noise_scale"], row["at_least"]
        weak = f"at least {size_words(at_least)}" if at_least == at_least else "not known"
        interval = between(_known(row["low"]), _known(row["high"])) or weak
        rows.append(
            {
                "group": group_label({key: row[key] for key in result.group_by}),
                "target": rounded(row["target_loss"]),
                "name": KINDS[row["kind"]],
                "estimator": ESTIMATORS[row["estimator"]],
                "noise_scale": size_words(value) if value > 0 else f"{value:.3g}",
                "interval": interval,
                "exact": size_words(_known(row["exact"])),
                "critical": size_words(_known(row["critical_batch_size"])),
                "ratio": rounded(_known(row["ratio"])),
                "ratio_interval": between(
                    *(_known(row[f"ratio_{end}"]) for end in ("low", "high"))
                ),
                "n": str(row["n_records"]),
            }
        )
    return rows


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
