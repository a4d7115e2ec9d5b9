"""What does half or twice the batch size cost or save? Steps, examples and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.fit_result import FitResult
from analysis.groups import select
from analysis.measure.bootstrap import percentile_interval
from analysis.measure.step_time import StepTime
from analysis.study import Study
from analysis.topics.topic import (
    Cell,
    Frames,
    Section,
    Table,
    Topic,
    group_cells,
    group_head,
    hardest,
)
from analysis.words import percent, rounded, size_words

Floats = NDArray[np.float64]

TRADE_COLUMNS = [
    "target_loss", "start", "batch_size", "to_batch_size",
    "steps_percent", "steps_percent_low", "steps_percent_high",
    "examples_percent", "examples_percent_low", "examples_percent_high",
    "seconds_percent", "seconds_percent_low", "seconds_percent_high", "extrapolated",
]  # fmt: skip
_FEWEST_DRAWS = 40


def halve_double_frame(
    fits: Sequence[FitResult], times: Sequence[StepTime], group_by: Sequence[str]
) -> pd.DataFrame:
    """Change of steps, examples and seconds to each target at half and twice the batch size.

    From the balanced batch size (start "balanced": B_crit, where identified) and from each one that
    the fit used ("measured"), by FitResult.log_steps_at. Percent of the value at batch_size;
    positive: one pays. Seconds where steps were timed: by the fit of t(B) where it holds, else
    between measured batch sizes only. extrapolated: to_batch_size lies outside the batch sizes of
    the fit. Columns: group.., TRADE_COLUMNS; 95 % intervals over the fits' bootstrap draws.
    """
    rows = []
    for fit in fits:
        if fit.log_parameters is None or not fit.batch_sizes:
            continue
        time = next((time for time in times if time.group == fit.group), None)
        starts = [("measured", float(size)) for size in fit.batch_sizes]
        if fit.critical_batch_size is not None:
            starts.insert(0, ("balanced", max(1.0, round(fit.critical_batch_size))))
        for start, size in starts:
            for other in (size / 2, size * 2):
                if other >= 1:
                    row = {**fit.group, "target_loss": fit.target_loss, "start": start}
                    rows.append(row | _trade(fit, time, size, other))
    return pd.DataFrame(rows, columns=[*group_by, *TRADE_COLUMNS])


def _trade(fit: FitResult, time: StepTime | None, size: float, other: float) -> dict[str, Any]:
    values, log_draws = fit.log_steps_at([size, other])
    steps, drawn = float(np.exp(values[1] - values[0])), np.exp(log_draws[:, 1] - log_draws[:, 0])
    row: dict[str, Any] = {
        "batch_size": size, "to_batch_size": other,
        "extrapolated": not min(fit.batch_sizes) <= other <= max(fit.batch_sizes),
    }  # fmt: skip
    longer, longer_draws = _step_ratio(time, size, other, len(drawn))
    for name, value, draws in (
        ("steps", steps, drawn),
        ("examples", steps * other / size, drawn * other / size),
        ("seconds", steps * longer, drawn * longer_draws),
    ):
        low, high = percentile_interval(draws if len(draws) >= _FEWEST_DRAWS else draws[:0])
        row |= {f"{name}_percent": 100 * (value - 1)}
        row |= {f"{name}_percent_low": 100 * (low - 1), f"{name}_percent_high": 100 * (high - 1)}
    return row


def _step_ratio(
    time: StepTime | None, size: float, other: float, n_draws: int
) -> tuple[float, Floats]:
    """t(other)/t(size) and draws of it [n_draws], NaN where not known."""
    nothing = np.nan, np.full(n_draws, np.nan)
    if time is None:
        return nothing
    pair = np.array([size, other])
    if np.isin(pair, time.batch_sizes).all():
        at = np.searchsorted(time.batch_sizes, pair)
        t, draws = time.seconds[at], time.draws[:, at]
    elif time.fits and time.batch_sizes[0] <= pair.min() and pair.max() <= time.batch_sizes[-1]:
        t = time.fitted(pair)
        draws = time.fitted_draws[:, :1] + time.fitted_draws[:, 1:] * pair
    else:
        return nothing
    if not len(draws) or not n_draws:
        return float(t[1] / t[0]), np.full(n_draws, np.nan)
    ratio = draws[:, 1] / draws[:, 0]
    return float(t[1] / t[0]), np.resize(ratio, n_draws)


def section(study: Study, frames: Frames) -> Section | None:
    """From the balanced batch size, else the middle one, at each group's hardest target."""
    if study.is_about_losses:
        return None
    measures = ["steps", "examples", *(["seconds"] if len(frames["time_to_target"]) else [])]
    rows = []
    for group in study.groups:
        trades = _from_one_size(hardest(select(frames["halve_double"], group)))
        rows += [
            [*group_cells(study, group), *_cells(trade, measures)]
            for trade in trades.to_dict("records")
        ]
    if not rows:
        return None
    head = [*group_head(study), "target loss", "from batch size", "to", *measures]
    sentence = (
        "What one pays (+) or saves (\N{MINUS SIGN}) to reach the hardest target, by the fitted "
        "curve."
    )
    return Section("halve-double", "Half or twice the batch size", [sentence], Table(head, rows))


def _cells(trade: Mapping[Any, Any], measures: Sequence[str]) -> list[Cell]:
    extrapolated = "extrapolated" if trade["extrapolated"] else ""
    cells = [
        Cell(rounded(trade["target_loss"])),
        Cell(size_words(trade["batch_size"])),
        Cell(size_words(trade["to_batch_size"]), extrapolated),
    ]
    for name in measures:
        low, high = trade[f"{name}_percent_low"], trade[f"{name}_percent_high"]
        known = np.isfinite([low, high]).all()
        span = f"{percent(low)} to {percent(high)}" if known else ""
        cells.append(Cell(percent(trade[f"{name}_percent"]) or "not known", span))
    return cells


def _from_one_size(rows: pd.DataFrame) -> pd.DataFrame:
    """From the balanced batch size, else from the middle one of those measured."""
    if not len(rows) or (rows["start"] == "balanced").any():
        return rows[rows["start"] == "balanced"] if len(rows) else rows
    inside = rows[~rows["extrapolated"].astype(bool)]
    sizes = sorted(inside["batch_size"].unique())
    return inside[inside["batch_size"] == sizes[len(sizes) // 2]] if sizes else inside


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    times = [group.time for group in study.measured if group.time is not None]
    return {"halve_double": halve_double_frame(study.fits, times, study.group_by)}


TOPIC = Topic("halve_double", frames=_frames, section=section)
