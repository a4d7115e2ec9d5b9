"""How do the weights move? Paths and distances, where the answer is known on paper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.drawing import Drawing
from analysis.groups import group_label, select
from analysis.topics.topic import Part, Topic

Series = Sequence[tuple[str, pd.DataFrame]]
_MOST_MARKERS = 12
_DISTANCES = {
    "minimum_norm_distance": "distance to the minimum-norm solution / its length",
    "row_space_residual": "share of w outside the row space of X",
}


def drawings(part: Part) -> Iterator[Drawing]:
    """Metrics of tasks whose answer is known on paper; all batch sizes of a group."""
    trials, curves = part.study.trials, part.study.curves
    if not {"weight_1", *_DISTANCES} & set(curves):
        return
    series = []
    for group in part.groups:
        runs = select(trials, group)["run_id"]
        name = group_label(group) or "all trials"
        series.append((name, curves[curves["run_id"].isin(runs)]))
    example = [f"task.{name}" for name in ("inputs", "labels")]
    one_example = set(example) <= set(trials) and "weight_1" in curves
    texts = trials[example].drop_duplicates().to_numpy() if one_example else []
    if len(texts) == 1 and len(json.loads(texts[0][1])) == 1:
        yield Drawing(
            "weight_paths",
            "Paths of the two weights",
            "Each marker is a step, the first dozen of them. Every point of the solid line fits "
            "the example; gradients are multiples of x, so what follows them stays on span(x).",
            partial(plot_weight_paths, series, *texts[0]),
            "curves",
            curves[["run_id", "step", "loss", "weight_1", "weight_2"]],
        )
    for metric, label in _DISTANCES.items():
        if metric in curves and (curves[metric] > 0).any():
            yield Drawing(
                f"{metric}_against_steps",
                f"{label[0].upper()}{label[1:]}",
                "A line per trial, a colour per group; batch sizes of a group share its colour.",
                partial(plot_metric, series, metric, label),
                "curves",
                curves[["run_id", "step", metric]],
            )


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


TOPIC = Topic("weight_paths", drawings=drawings)
