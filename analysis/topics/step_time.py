"""How long does a step take? Seconds per step against batch size, as measured and fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.caveats import Caveat
from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.figures.series import bars_of, ordered_look
from analysis.figures.tooltips import tell
from analysis.groups import select
from analysis.measure.bootstrap import percentile_interval
from analysis.measure.step_time import StepTime
from analysis.study import Group, Study
from analysis.topics.topic import Frames, Part, Topic
from scaling.schema import MODEL_SIZE

STEP_TIME_COLUMNS = [
    MODEL_SIZE, "batch_size", "step_seconds", "step_seconds_low", "step_seconds_high",
    "examples_per_second", "n_trials", "fitted_seconds", "overhead_seconds",
    "seconds_per_example", "misfit", "fits",
]  # fmt: skip


def step_time_frame(times: Sequence[StepTime], group_by: Sequence[str]) -> pd.DataFrame:
    """A row a group and measured batch size: group.., STEP_TIME_COLUMNS. Times in seconds; _low and
    _high: 95 % of the median over trials; misfit: fitted over measured, minus one; fits: whether
    every batch size of the group lies within MISFIT of the fit."""
    rows = []
    for time in times:
        low, high = percentile_interval(time.draws)
        single = time.n_trials < 2
        low, high = np.where(single, np.nan, low), np.where(single, np.nan, high)
        fitted, misfit = time.fitted(time.batch_sizes), time.misfit
        for i, size in enumerate(time.batch_sizes):
            row = {
                **time.group, MODEL_SIZE: time.model_size, "batch_size": int(size),
                "step_seconds": time.seconds[i], "step_seconds_low": low[i],
                "step_seconds_high": high[i], "examples_per_second": size / time.seconds[i],
                "n_trials": int(time.n_trials[i]), "fitted_seconds": fitted[i],
                "overhead_seconds": time.overhead, "seconds_per_example": time.per_example,
                "misfit": misfit[i], "fits": time.fits,
            }  # fmt: skip
            rows.append(row)
    named = [name for name in group_by if name != MODEL_SIZE]
    return pd.DataFrame(rows, columns=[*named, *STEP_TIME_COLUMNS])


def step_time_caveats(time: StepTime) -> list[str]:
    """Where overhead and cost per example do not describe the device."""
    if time.fits or np.isnan(time.overhead):
        return []
    worst = int(np.abs(time.misfit).argmax())
    return [
        "Seconds per step are not an overhead plus a cost per example: at batch size "
        f"{time.batch_sizes[worst]:g} the fit is {100 * time.misfit[worst]:+.0f} % off, so times "
        "between the measured batch sizes are not given."
    ]


def caveats(study: Study, frames: Frames) -> list[tuple[Group | None, Caveat | str]]:
    timed = [(group.group, group.time) for group in study.measured]
    return [
        (group, sentence)
        for group, time in timed
        if time is not None
        for sentence in step_time_caveats(time)
    ]


def drawings(part: Part) -> Iterator[Drawing]:
    assert part.family
    members, step_time = part.family.members, part.frames["step_time"]
    labels = part.family.labels
    timed = [
        (label, select(step_time, member.group))
        for label, member in zip(labels, members, strict=True)
    ]
    timed = [(label, rows) for label, rows in timed if len(rows)]
    if timed:
        yield Drawing(
            "step_time",
            "Seconds per step against batch size",
            "Median over the trials, with its 95 % interval, on the device that trained them; the "
            "line is an overhead plus a cost per example.",
            partial(plot_step_time, timed),
            "step_time",
            step_time,
        )


def plot_step_time(groups: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """t(B) as measured, and overhead + cost per example; (label, rows of step_time) of groups."""
    with style.house_style():
        figure, ax = style.new_axes(4.4)
        for i, (label, rows) in enumerate(groups):
            shown = ordered_look(i, len(groups))
            ax.errorbar(
                rows["batch_size"], rows["step_seconds"], bars_of(rows, "step_seconds"), ls="",
                lw=1.1, color=shown["color"],
            )  # fmt: skip
            ax.plot(rows["batch_size"], rows["step_seconds"], **{**shown, "ls": ""}, zorder=3)
            tell(ax, rows, "batch_size", "step_seconds", label)
            first = rows.iloc[0]
            if np.isfinite(first["overhead_seconds"]):
                dense = np.geomspace(rows["batch_size"].min(), rows["batch_size"].max(), 100)
                fitted = first["overhead_seconds"] + first["seconds_per_example"] * dense
                ax.plot(dense, fitted, color=shown["color"], ls=shown["ls"], lw=1.2)
            ax.plot([], [], **shown, label=label or "measured and fitted")
        style.batch_size_axis(ax, {size for _, rows in groups for size in rows["batch_size"]})
        style.log_axis(ax, "y", "seconds per step t")
        style.legend_beside(figure, ax, "model size" if groups[0][0] else "")
    return figure


def _frames(study: Study, earlier: Frames) -> dict[str, pd.DataFrame]:
    times = [group.time for group in study.measured if group.time is not None]
    return {"step_time": step_time_frame(times, study.group_by)}


TOPIC = Topic("step_time", scope="family", frames=_frames, drawings=drawings, caveats=caveats)
