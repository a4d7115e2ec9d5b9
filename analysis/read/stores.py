"""What an MLflow store holds of one experiment, and what is said where it cannot be read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError, first_line
from scaling import addresses, schema

NOISE_METRICS = tuple(
    schema.noise_metric(estimator, f"{prefix}{kind}_{part}")
    for estimator in schema.NOISE_ESTIMATORS
    for prefix in ("", "exact_")
    for kind in ("simple", "noise")
    for part in ("trace", "square")
)
# examples are batch_size * step
MEASURED = tuple(name for name in schema.METRICS if name not in ("examples", "lr"))
CURVE_METRICS = (*MEASURED, *NOISE_METRICS)
METRICS = (*CURVE_METRICS, schema.STEP_SECONDS)
PARENT = "mlflow.parentRunId"  # MLflow's tag of nested runs
OURS = ("trial", "probe")  # kinds of runs with metrics
REASONS = {  # pattern in a library's long error -> what is said
    "[Nn]ame or service not known|[Ff]ailed to resolve|nodename nor": "this host is not known",
    "[Cc]onnection refused": "nothing answers at this host and port",
    "timed? ?out": "it does not answer",
    "error code 40[13]": "the server refuses this user",
    "unsupported URI": "this is not the address of a store",
}


@dataclass
class StoredRuns:
    """What a store holds of one experiment, in long form, of active runs of any status.

    runs: run_id, status, end_time; params and tags: run_id, key, value (str), also of parent runs
    that are not in `runs`; latest: run_id, key, value of every metric's last point; metrics: key ->
    run (row of `runs`), step, timestamp, value (infinite or the largest double: not finite), of
    finished runs only.
    """

    runs: pd.DataFrame
    params: pd.DataFrame
    tags: pd.DataFrame
    latest: pd.DataFrame
    metrics: dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Wanted:
    """Which metrics are read, of which runs: of our trials and probes or of all; and which runs."""

    metrics: tuple[str, ...] = METRICS
    only_trials: bool = True
    filter: str | None = None  # in MLflow's search language


OUR_TRIALS = Wanted()


def public_uri(uri: str) -> str:
    """The URI without the password it may carry."""
    return addresses.without_password(uri, whole=True)


def points_frame(rows: Iterable[Any], code: Mapping[str, int]) -> pd.DataFrame:
    """Rows (run_id, step, timestamp, value) of the known runs as a frame of numbers."""
    known = ((code[run], step, at, value) for run, step, at, value in rows if run in code)
    # straight into one array: a million tuples at once would cost more than the query
    values = np.fromiter(chain.from_iterable(known), np.float64).reshape(-1, 4)
    frame = pd.DataFrame(values, columns=["run", "step", "timestamp", "value"])
    return frame.astype({"run": np.int64, "step": np.int64})


class NoExperiment(AnalysisError):
    """There is no active experiment of this name; key: the option that named it."""

    def __init__(self, name: str, where: str, stages: dict[str, str], key: str = "study") -> None:
        self.about = (name, where, stages)
        active = sorted(n for n, stage in stages.items() if stage == "active" and n != "Default")
        near = difflib.get_close_matches(name, active, n=1)
        advice = f"did you mean {near[0]}?" if near else f"there: {', '.join(active) or 'none'}"
        if stages.get(name) == "deleted":
            advice = "it was deleted; restore it (mlflow experiments restore)"
        super().__init__(f"{key}={name}: no experiment of this name in {where}; {advice}")

    def named_by(self, key: str) -> NoExperiment:
        return NoExperiment(*self.about, key)


def unreadable(uri: str, error: BaseException) -> AnalysisError:
    known = (reason for pattern, reason in REASONS.items() if re.search(pattern, str(error)))
    reason = next(known, addresses.without_password(first_line(error), uri))
    return AnalysisError(
        f"tracking_uri={public_uri(uri)}: cannot be read as an MLflow store ({reason}); "
        "name a store with tracking_uri=... or MLFLOW_TRACKING_URI"
    )
