"""Time to target on the device at hand, and what half or twice the batch size costs or saves.

    T(B) = S(B) t(B)        seconds
    fastest:  least T;  with S = S_min + E_min/B and t = o + p B: B = sqrt(B_crit o/p)
    cheapest: least examples E = B S (compute)

Source: McCandlish et al. 2018, arXiv:1812.06162 (S). Axes: m bootstrap draws, B batch sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit.fitting import FitResult, hyperbola
from analysis.measure.bootstrap import FrontierDraws, percentile_interval
from analysis.measure.step_time import StepTime
from scaling.schema import REACHED

Floats = NDArray[np.float64]

TIME_COLUMNS = [
    "target_loss", "batch_size", "steps", "examples", "step_seconds", "seconds", "seconds_low",
    "seconds_high", "lr_at_edge",
]  # fmt: skip
CHOICE_COLUMNS = [
    "target_loss", "name", "batch_size", "batch_size_low", "batch_size_high", "steps", "examples",
    "seconds", "seconds_low", "seconds_high", "batch_size_at_edge", "n_timed",
]  # fmt: skip
TRADE_COLUMNS = [
    "target_loss", "start", "batch_size", "to_batch_size",
    "steps_percent", "steps_percent_low", "steps_percent_high",
    "examples_percent", "examples_percent_low", "examples_percent_high",
    "seconds_percent", "seconds_percent_low", "seconds_percent_high", "extrapolated",
]  # fmt: skip
FAST, FEWEST_STEPS = "fast", "fewest_steps"  # names of recommendations: by the clock, or by steps
_FEWEST_DRAWS = 40


def time_to_target_frames(
    frontier: pd.DataFrame,
    draws: Mapping[int, FrontierDraws],
    targets: Sequence[float],
    time: StepTime | None,
    fits: Sequence[FitResult],
    group: Mapping[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """T(B) at every measured batch size, and the named ones; of one group.

    frontier, draws, targets, fits: of the group; time: its step time (None: both frames empty).
    First: group.., TIME_COLUMNS, a row where the target was reached and a step was timed. Second:
    group.., CHOICE_COLUMNS, name "fastest" (least seconds of the measured batch sizes), "cheapest"
    (fewest examples of them), "fastest_fitted" (between them, where both fits hold);
    batch_size_at_edge: the best is the smallest or largest measured; n_timed: how many batch sizes
    were. Intervals over seeds and
    timed trials; NaN with one seed.
    """
    rows, choices = [], []
    for k, target in enumerate(targets):
        at_target = frontier[frontier["target_loss"] == target]
        own = at_target[at_target["outcome"] == REACHED].sort_values("batch_size")
        if time is not None:
            own = own[own["batch_size"].isin(time.batch_sizes)]
        if time is None or own.empty:
            continue
        sizes = own["batch_size"].to_numpy()
        where = np.searchsorted(time.batch_sizes, sizes)
        steps, t = own["steps"].to_numpy(float), time.seconds[where]
        seeded = bool((own["n_seeds"] > 1).all())
        steps_draws = np.stack([draws[int(size)].steps[k] for size in sizes], axis=1)
        seconds_draws = steps_draws * time.draws[: len(steps_draws), where]
        low, high = percentile_interval(seconds_draws if seeded else seconds_draws[:0])
        table = own[["batch_size", "steps", "examples", "lr_at_edge"]].assign(
            target_loss=target, step_seconds=t, seconds=steps * t,
            seconds_low=low, seconds_high=high, **group,
        )  # fmt: skip
        rows.append(table)
        compared = seconds_draws, steps_draws * sizes
        chosen = _choices(table, *(draw if seeded else draw[:0] for draw in compared))
        fit = next((fit for fit in fits if fit.target_loss == target), None)
        chosen += [] if fit is None else _fitted(fit, time)
        shared = {**group, "target_loss": target, "n_timed": len(own)}
        choices += [shared | choice for choice in chosen]
    columns = [*group, *TIME_COLUMNS]
    return (
        pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns),
        pd.DataFrame(choices, columns=[*group, *CHOICE_COLUMNS]),
    )


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


def timed_advice(
    advice: Sequence[Mapping[str, Any]], frontier: pd.DataFrame, choices: pd.DataFrame
) -> list[dict[str, Any]]:
    """Recommendations of one group with the fast batch size by the clock.

    advice: rows of recommendations.recommend; frontier, choices: of the group. Where steps to the
    target were timed at two batch sizes or more, "fast" is the fastest measured one, with what was
    measured there; elsewhere the row is called "fewest_steps", which is all that is known of it.
    """
    fastest = choices[(choices["name"] == "fastest") & (choices["n_timed"] > 1)]
    size_of = dict(zip(fastest["target_loss"], fastest["batch_size"], strict=True))
    found = []
    for row in advice:
        if row["name"] == FAST:
            target = row["target_loss"]
            if target in size_of:
                of_target = frontier[frontier["target_loss"] == target]
                points = of_target.set_index("batch_size", drop=False)
                row = {**row, **_as_measured(points.loc[size_of[target]])}
            else:
                row = {**row, "name": FEWEST_STEPS}
        found.append(dict(row))
    return found


def _as_measured(point: pd.Series) -> dict[str, Any]:
    size = int(point["batch_size"])
    row: dict[str, Any] = {"batch_size": size, "extrapolated": False}
    for end in ("", "_low", "_high"):
        row |= {f"steps{end}": float(point[f"steps{end}"]), f"lr{end}": float(point[f"lr{end}"])}
        row[f"examples{end}"] = size * row[f"steps{end}"]
    return row


def _choices(table: pd.DataFrame, seconds: Floats, examples: Floats) -> list[dict[str, Any]]:
    """The least of both columns; draws [m, B] in the order of the rows."""
    found = []
    sizes = table["batch_size"].to_numpy(float)
    for name, column, draws in (
        ("fastest", "seconds", seconds),
        ("cheapest", "examples", examples),
    ):
        best = int(table[column].to_numpy(float).argmin())
        row = table.iloc[best]
        picked = np.where(np.isnan(draws), np.inf, draws).argmin(axis=1)
        low, high = percentile_interval(sizes[picked])
        found.append(
            {
                "name": name, "batch_size": sizes[best], "batch_size_low": float(low),
                "batch_size_high": float(high), "batch_size_at_edge": best in (0, len(sizes) - 1),
                **{key: row[key] for key in ("steps", "examples", "seconds")},
                **{key: row[key] for key in ("seconds_low", "seconds_high")},
            }
        )  # fmt: skip
    return found


def _fitted(fit: FitResult, time: StepTime) -> list[dict[str, Any]]:
    """Where (S_min + E_min/B)(o + p B) is least: B = sqrt(B_crit o/p)."""
    timed = time.fits and time.overhead > 0 and time.per_example > 0
    if fit.critical_batch_size is None or not timed:
        return []
    size = float(np.sqrt(fit.critical_batch_size * time.overhead / time.per_example))
    steps = float(fit.predict(size))
    row: dict[str, Any] = {
        "name": "fastest_fitted", "batch_size": size, "steps": steps, "examples": size * steps,
        "seconds": steps * float(time.fitted(size)),
        "batch_size_at_edge": not min(fit.batch_sizes) <= size <= max(fit.batch_sizes),
    }  # fmt: skip
    n = min(len(fit.draws), len(time.fitted_draws))
    if n >= _FEWEST_DRAWS:
        o, p = time.fitted_draws[:n].T
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = np.sqrt(np.exp(fit.draws[:n, 1] - fit.draws[:n, 0]) * o / p)
        seconds = hyperbola(size, *fit.draws[:n].T) * (o + p * size)
        for name, drawn in (("batch_size", sizes), ("seconds", seconds)):
            low, high = percentile_interval(drawn)
            row |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return [row]


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
