"""Which batch size is fastest on this device, and which is cheapest? Seconds to every target.

    T(B) = S(B) t(B)        seconds
    fastest:  least T;  with S = S_min + E_min/B and t = o + p B: B = sqrt(B_crit o/p)
    cheapest: least examples E = B S (compute)

Source: McCandlish et al. 2018, arXiv:1812.06162 (S). Axes: m bootstrap draws, B batch sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import explain_hollow, ordered_look, plot_points
from analysis.fit.fit_result import FitResult
from analysis.fit.forms import hyperbola
from analysis.groups import select
from analysis.measure.bootstrap import FrontierDraws, percentile_interval
from analysis.measure.step_time import StepTime
from analysis.study import Study, join
from analysis.topics.topic import (
    Cell,
    Frames,
    Part,
    Section,
    Table,
    Topic,
    at_target,
    group_cells,
    group_head,
    hardest,
)
from analysis.words import between, rounded, size_words
from scaling.schema import REACHED, target_label

Floats = NDArray[np.float64]

TIME_COLUMNS = [
    "target_loss", "batch_size", "steps", "examples", "step_seconds", "seconds", "seconds_low",
    "seconds_high", "lr", "lr_at_edge", "n_seeds",
]  # fmt: skip
_TOLD = ["lr", "lr_at_edge", "n_seeds"]  # of each point, in its tooltip
CHOICE_COLUMNS = [
    "target_loss", "name", "batch_size", "batch_size_low", "batch_size_high", "steps", "examples",
    "seconds", "seconds_low", "seconds_high", "batch_size_at_edge", "n_timed",
]  # fmt: skip
_CHOICES = {
    "fastest": "fastest (least time), of those measured",
    "fastest_fitted": "fastest, between them by the fits",
    "cheapest": "cheapest (fewest examples), of those measured",
}
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
    were. Intervals over seeds and timed trials; NaN with one seed.
    """
    tables, choices = [], []
    for k, target in enumerate(targets):
        if time is None:
            break
        reached = at_target(frontier, target).sort_values("batch_size")
        reached = reached[reached["outcome"] == REACHED]
        reached = reached[reached["batch_size"].isin(time.batch_sizes)]
        if reached.empty:
            continue
        steps_draws = np.stack([draws[int(b)].steps[k] for b in reached["batch_size"]], axis=1)
        if not (reached["n_seeds"] > 1).all():
            steps_draws = steps_draws[:0]
        table, chosen = _timed(reached, steps_draws, time)
        chosen += [row for fit in fits if fit.target_loss == target for row in _fitted(fit, time)]
        tables.append(table.assign(target_loss=target, **group))
        shared = {**group, "target_loss": target, "n_timed": len(reached)}
        choices += [shared | choice for choice in chosen]
    columns = [*group, *TIME_COLUMNS]
    return (
        pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns),
        pd.DataFrame(choices, columns=[*group, *CHOICE_COLUMNS]),
    )


def _timed(
    reached: pd.DataFrame, steps_draws: Floats, time: StepTime
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Seconds of the batch sizes that reached one target, and the fastest and cheapest of them.

    steps_draws [m, B]: in the order of the rows; none with one seed.
    """
    sizes = reached["batch_size"].to_numpy()
    where = np.searchsorted(time.batch_sizes, sizes)
    seconds_draws = steps_draws * time.draws[: len(steps_draws), where]
    low, high = percentile_interval(seconds_draws)
    t = time.seconds[where]
    table = reached[["batch_size", "steps", "examples", *_TOLD]].assign(
        step_seconds=t, seconds=reached["steps"].to_numpy(float) * t,
        seconds_low=low, seconds_high=high,
    )  # fmt: skip
    return table, [
        _least(table, "fastest", "seconds", seconds_draws),
        _least(table, "cheapest", "examples", steps_draws * sizes),
    ]


def _least(table: pd.DataFrame, name: str, column: str, draws: Floats) -> dict[str, Any]:
    """The batch size with the least of a column; draws [m, B] of it, in the order of the rows."""
    sizes = table["batch_size"].to_numpy(float)
    best = int(table[column].to_numpy(float).argmin())
    low, high = percentile_interval(sizes[np.where(np.isnan(draws), np.inf, draws).argmin(axis=1)])
    kept = ("steps", "examples", "seconds", "seconds_low", "seconds_high")
    return {
        "name": name, "batch_size": sizes[best], "batch_size_low": float(low),
        "batch_size_high": float(high), "batch_size_at_edge": best in (0, len(sizes) - 1),
        **{key: table[key].iloc[best] for key in kept},
    }  # fmt: skip


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


def drawings(part: Part) -> Iterator[Drawing]:
    assert part.family
    whole = part.frames["time_to_target"]
    for i, target in enumerate(sorted(whole["target_loss"].unique())):
        times = at_target(whole, target)
        choices = at_target(part.frames["batch_size_choices"], target)
        members = [
            (label, select(times, member.group), select(choices, member.group))
            for label, member in zip(part.family.labels, part.family.members, strict=True)
        ]
        yield Drawing(
            "time_to_target" + (f"_{target_label(target)}" if i else ""),
            f"Time to target {target:.3g} against batch size",
            "Steps to target times seconds per step, on the device that trained. The fastest batch "
            "size and the cheapest (fewest examples) may differ.",
            partial(plot_time_to_target, [group for group in members if len(group[1])], target),
            "time_to_target",
            times.reset_index(drop=True),
            folded=i > 0,
        )


def plot_time_to_target(
    groups: Sequence[tuple[str, pd.DataFrame, pd.DataFrame]], target: float
) -> Figure:
    """T(B) = S(B) t(B) at one target; (label, rows of time_to_target, of batch_size_choices).

    A star marks the fastest of the measured batch sizes, a ring the cheapest (fewest examples).
    """
    with style.house_style():
        figure, ax = style.new_axes(4.8)
        for i, (label, rows, choices) in enumerate(groups):
            shown = ordered_look(i, len(groups))
            rows = rows.sort_values("batch_size")
            line = {"color": shown["color"], "ls": shown["ls"], "lw": 1.1}
            ax.plot(rows["batch_size"], rows["seconds"], **line)
            plot_points(ax, rows, "seconds", {**shown, "ms": 4.5}, label=label)
            ax.plot([], [], **shown, lw=1.1, ms=4.5, label=label or "measured")
            for name, marker, size in (("fastest", "*", 14), ("cheapest", "o", 13)):
                chosen = choices[choices["name"] == name]
                face = "white" if marker == "*" else "none"
                ax.plot(
                    chosen["batch_size"], chosen["seconds"], ls="", marker=marker, ms=size,
                    mfc=face, mec=shown["color"], mew=1.4, zorder=5,
                )  # fmt: skip
        for name, marker in (("fastest", "*"), ("cheapest (examples)", "o")):
            ax.plot(
                [], [], ls="", marker=marker, ms=10, mfc="none", mec=style.INK, mew=1.2, label=name
            )
        explain_hollow(ax, *(rows for _, rows, _ in groups))
        style.batch_size_axis(ax, {size for _, rows, _ in groups for size in rows["batch_size"]})
        style.log_axis(ax, "y", f"seconds to target {target:.3g}")
        style.legend_beside(figure, ax, "model size" if groups[0][0] else "")
    return figure


def section(study: Study, frames: Frames) -> Section | None:
    if study.is_about_losses:
        return None
    rows = []
    for group in study.groups:
        choices = hardest(select(frames["batch_size_choices"], group))
        rows += [
            [*group_cells(study, group), *_cells(choice)] for choice in choices.to_dict("records")
        ]
    if not rows:
        return None
    head = ["target loss", "", "batch size", "seconds", "steps", "examples"]
    return Section(
        "time",
        "Time on this device",
        [
            "Steps to the hardest target times the measured seconds per step. The fastest batch "
            "size and the cheapest may differ."
        ],
        Table([*group_head(study), *head], rows),
    )


def _cells(choice: Mapping[Any, Any]) -> list[Cell]:
    edge = "at the edge of what was measured" if choice["batch_size_at_edge"] else ""
    sizes = between(choice["batch_size_low"], choice["batch_size_high"])
    return [
        Cell(rounded(choice["target_loss"])),
        Cell(_CHOICES[choice["name"]], edge, is_text=True),
        Cell(size_words(choice["batch_size"]), sizes),
        Cell(rounded(choice["seconds"]), between(choice["seconds_low"], choice["seconds_high"])),
        Cell(rounded(choice["steps"])),
        Cell(rounded(choice["examples"])),
    ]


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    pairs = [
        time_to_target_frames(
            group.frontier, group.draws, group.targets, group.time, study.fits_of(group.group),
            group.group,
        )
        for group in study.measured
    ]  # fmt: skip
    if not pairs:
        pairs = [(pd.DataFrame(columns=TIME_COLUMNS), pd.DataFrame(columns=CHOICE_COLUMNS))]
    times, choices = zip(*pairs, strict=True)
    return {"time_to_target": join(times), "batch_size_choices": join(choices)}


TOPIC = Topic("time_to_target", scope="family", frames=_frames, drawings=drawings, section=section)
