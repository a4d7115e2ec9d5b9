"""The best learning rate of a single step against batch size, measured and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.report import tables
from analysis.study import StudyResult
from analysis.topics.one_step_lr import one_step_lr_frame, one_step_theory


def draw_one_step(result: StudyResult, groups: list[dict[str, Any]]) -> Iterator[Drawing]:
    """Nothing where no batch size has the losses of two learning rates."""
    frame, theory = one_step_lr_frame(result), one_step_theory(result)
    if frame.empty:
        return
    series = [
        (
            tables.group_label(group) or "measured",
            tables.select(frame, group),
            tables.select(theory, group),
        )
        for group in groups
    ]
    yield Drawing(
        "one_step_lr",
        "Best learning rate of a single step against batch size",
        "Points are the minima of the parabolas through the mean losses after one step, bars two "
        "standard errors over the seeds. Lines are lr_max / (1 + f B_noise) with f = 1/B with "
        "replacement and (n - B)/(B (n - 1)) without: the noise ends at B = n.",
        plot_one_step_lr(series),
        "one_step_lr",
        frame,
    )


def plot_one_step_lr(series: list[tuple[str, pd.DataFrame, pd.DataFrame]]) -> Figure:
    """(name, one_step_lr_frame, one_step_theory) of each group."""
    with style.house_style():
        figure, ax = style.new_axes()
        colors = style.target_colors(len(series))
        for i, ((name, points, line), color) in enumerate(zip(series, colors, strict=True)):
            text = style.plain_text(name)
            ax.errorbar(
                points["batch_size"], points["lr"], yerr=2 * points["standard_error"], color=color,
                ls="", marker=style.MARKERS[i % len(style.MARKERS)], capsize=3, zorder=4,
                label=f"{text}, measured",
            )  # fmt: skip
            if len(line):
                ax.plot(
                    line["batch_size"], line["predicted_lr"], color=color,
                    ls=style.LINES[i % len(style.LINES)], label=f"{text}, theory",
                )  # fmt: skip
        style.log_axis(ax, "x", "batch size B (examples)")
        style.log_axis(ax, "y", "best learning rate of one step")
        style.legend_below(figure, ax, 2)
    return figure
