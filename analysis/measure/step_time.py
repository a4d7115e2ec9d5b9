"""Seconds per step against batch size, as measured: an overhead, then a cost per example.

    t(B) = overhead + per_example B,  both >= 0, least squares on relative residuals

Axes: m bootstrap draws, B batch sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.schema import STEP_SECONDS

Floats = NDArray[np.float64]

NO_CURVES = pd.DataFrame(
    {name: pd.Series(dtype=float) for name in ("run_id", "step", "loss", "train_loss", "examples")}
).astype({"run_id": object})  # of tables, in which no step was timed

MISFIT = 0.2  # a fitted time further off than this share does not describe the device


@dataclass(frozen=True)
class StepTime:
    """Of one group. batch_sizes, seconds (median over trials), n_trials [B]; draws [m, B] of the
    medians; overhead and per_example in seconds, NaN with one batch size; fitted_draws [m, 2]."""

    group: dict[str, Any]
    model_size: float | None
    batch_sizes: Floats
    seconds: Floats
    n_trials: NDArray[np.int64]
    draws: Floats
    overhead: float
    per_example: float
    fitted_draws: Floats

    def fitted(self, batch_size: Floats | float) -> Floats:
        """t(B) of the fit, in seconds."""
        return self.overhead + self.per_example * np.asarray(batch_size, float)

    @property
    def misfit(self) -> Floats:
        """Fitted over measured, minus one [B]."""
        return self.fitted(self.batch_sizes) / self.seconds - 1

    @property
    def fits(self) -> bool:
        """Whether overhead and cost per example describe every measured batch size."""
        return bool((np.abs(self.misfit) <= MISFIT).all())


def trial_step_seconds(trials: pd.DataFrame, curves: pd.DataFrame) -> pd.Series:
    """Seconds of a step of each trial, NaN where not measured; index as trials.

    From a column step_seconds of trials, else the median of that column of a trial's curve.
    """
    if STEP_SECONDS in trials:
        seconds = pd.to_numeric(trials[STEP_SECONDS], errors="coerce").astype(float)
    elif STEP_SECONDS in curves:
        median = curves.groupby("run_id")[STEP_SECONDS].median()
        seconds = trials["run_id"].map(median).astype(float)
    else:
        seconds = pd.Series(np.nan, index=trials.index)
    return seconds.where(np.isfinite(seconds) & (seconds > 0))


def probe_frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """`trials.attrs["probes"]` of analysis.read.runs as a frame, a row a timed value."""
    if not records:
        return pd.DataFrame(columns=["batch_size", STEP_SECONDS])
    return pd.DataFrame(records).explode(STEP_SECONDS).astype({STEP_SECONDS: float})


def of_group(trials: pd.DataFrame, probes: pd.DataFrame, group: Mapping[str, Any]) -> pd.DataFrame:
    """batch_size and step_seconds of one group: of its probes (steps timed alone), else its
    trials."""
    keep = np.ones(len(probes), dtype=bool)
    for name, value in group.items():
        keep &= (probes[name] == value).to_numpy() if name in probes else value == "none"
    return (probes[keep] if keep.any() else trials)[["batch_size", STEP_SECONDS]]


def read_step_time(
    timed: pd.DataFrame,
    group: dict[str, Any],
    model_size: float | None,
    n_bootstrap: int = 0,
    seed: Sequence[int] = (),
) -> StepTime | None:
    """Medians of one group and their fit; None where nothing was measured.

    timed: batch_size and step_seconds, a row a trial or a block of timed steps; draws resample the
    rows of each batch size.
    """
    known = timed[["batch_size", STEP_SECONDS]].dropna()
    if known.empty:
        return None
    of_size = {
        int(size): rows.to_numpy()  # type: ignore[call-overload]
        for size, rows in known.groupby("batch_size")[STEP_SECONDS]
    }
    sizes = np.array(list(of_size), float)
    rng = np.random.default_rng([*seed, 1])
    draws = np.stack(
        [np.median(rng.choice(v, (n_bootstrap, len(v))), axis=1) for v in of_size.values()], axis=1
    )
    medians = np.array([np.median(values) for values in of_size.values()])
    overhead, per_example = fit_step_time(sizes, medians)
    return StepTime(
        group, model_size, sizes, medians, np.array([len(v) for v in of_size.values()]), draws,
        float(overhead), float(per_example), fit_step_time(sizes, draws),
    )  # fmt: skip


def fit_step_time(batch_size: Floats, seconds: Floats) -> Floats:
    """overhead and per_example of t = overhead + per_example B, none negative.

    Least squares on (fit - t)/t. batch_size [B], seconds [B] or [m, B]; returns [2] or [m, 2], NaN
    for one batch size. Two unknowns: where the free solution has a negative one, that is 0 and the
    other fitted alone.
    """
    t = np.atleast_2d(seconds)
    if len(batch_size) < 2:
        parameters = np.full((len(t), 2), np.nan)
        return parameters if np.ndim(seconds) == 2 else parameters[0]
    u, v = 1 / t, batch_size / t
    uu, vv, uv = (u * u).sum(1), (v * v).sum(1), (u * v).sum(1)
    su, sv = u.sum(1), v.sum(1)
    determinant = uu * vv - uv**2
    overhead = (su * vv - sv * uv) / determinant
    slope = (sv * uu - su * uv) / determinant
    alone_overhead, alone_slope = su / uu, sv / vv
    parameters = np.stack(
        [
            np.where(slope < 0, alone_overhead, np.where(overhead < 0, 0.0, overhead)),
            np.where(overhead < 0, alone_slope, np.where(slope < 0, 0.0, slope)),
        ],
        axis=1,
    )
    return parameters if np.ndim(seconds) == 2 else parameters[0]
