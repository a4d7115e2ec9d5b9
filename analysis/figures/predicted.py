"""What studies of pencil-and-paper results measure: distances along runs, paths of weights."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style

Series = Sequence[tuple[str, pd.DataFrame]]
_MOST_MARKERS = 12


def plot_metric(series: Series, metric: str, label: str) -> Figure:
    """A metric against steps, a line a group; thin lines are its trials. Zeros are left out."""
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        colors = style.target_colors(len(series))
        for j, ((name, curves), color) in enumerate(zip(series, colors, strict=True)):
            line = style.LINES[j % len(style.LINES)]
            shown = curves[(curves["step"] > 0) & (curves[metric] > 0)]
            for i, (_, run) in enumerate(shown.groupby("run_id")):
                ax.plot(
                    run["step"], run[metric], color=color, lw=0.9, alpha=0.8, ls=line,
                    label=style.plain_text(name) if i == 0 else None,
                )  # fmt: skip
        style.log_axis(ax, "x", "steps (optimizer updates)")
        ax.set_yscale("log")
        ax.set_ylabel(label)
        style.legend_below(figure, ax, 2)
    return figure


def plot_weight_paths(series: Series, inputs: str, labels: str) -> Figure:
    """Paths in the (w1, w2) plane, the line of solutions x'w = t and span(x), of one example.

    inputs, labels: the params task.inputs and task.labels, "[[x1, x2]]" and "[t]".
    """
    (x,), (t,) = json.loads(inputs), json.loads(labels)
    direction = np.array(x, float)
    nearest = direction * t / (direction @ direction)
    along = np.array([-direction[1], direction[0]]) / np.linalg.norm(direction)
    with style.house_style():
        figure, ax = style.new_axes(6.0)
        line = nearest + np.outer([-1.0, 1.0], along) * 0.9 * np.linalg.norm(nearest)
        ax.plot(*line.T, color=style.INK, lw=1.2, label="solutions, x'w = t")
        ax.plot(*np.outer([-0.3, 2.1], nearest).T, color=style.INK, lw=1.0, ls=(0, (4, 3)),
                label="span(x)")  # fmt: skip
        ax.plot(*nearest, ls="", marker="*", ms=14, mfc="white", mec=style.INK, zorder=6,
                label="minimum norm")  # fmt: skip
        for i, ((name, curves), color) in enumerate(
            zip(series, style.target_colors(len(series)), strict=True)
        ):
            path = curves.sort_values("step")
            ax.plot(
                path["weight_1"], path["weight_2"], color=color, lw=1.2, ms=4, zorder=3 + i,
                marker=style.MARKERS[i % len(style.MARKERS)], markevery=slice(0, _MOST_MARKERS),
                label=style.plain_text(name),
            )  # fmt: skip
        ax.set(xlabel="$w_1$", ylabel="$w_2$", aspect="equal")
        style.legend_below(figure, ax, 3)
    return figure
