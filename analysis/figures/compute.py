"""The compute frontier: the loss that a budget buys, and what to spend it on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.laws import exponent_words, law_curve
from analysis.figures.series import bars, ordered_look

_SPENT_ON = (
    ("model_size", "model size"),
    ("batch_size", "batch size"),
    ("steps", "steps"),
)


def plot_loss_against_compute(loss_by_compute: pd.DataFrame, frontier: pd.DataFrame) -> Figure:
    """Least loss at equal compute of every model size, and their lower envelope with its band.

    loss_by_compute, frontier: rows of one family (compute_frontier.ComputeFrontier).
    """
    with style.house_style():
        figure, ax = style.new_axes(5.0)
        sizes = sorted(loss_by_compute["model_size"].unique())
        for i, size in enumerate(sizes):
            own = loss_by_compute[loss_by_compute["model_size"] == size].sort_values("compute")
            shown = {**ordered_look(i, len(sizes)), "lw": 1.2, "ms": 4.5}
            ax.plot(own["compute"], own["loss"], **shown, label=style.number(size), zorder=3)
        own = frontier.sort_values("compute")
        ax.fill_between(
            own["compute"], own["loss_low"], own["loss_high"], color=style.MUTED, alpha=0.25, lw=0
        )
        ax.plot(own["compute"], own["loss"], color=style.INK, lw=3.2, alpha=0.35, zorder=2)
        ax.plot([], [], color=style.INK, lw=3.2, alpha=0.35, label="the lowest")
        style.log_axis(ax, "x", "training compute C (FLOPs)")
        ends = [own["loss_low"], own["loss_high"]]
        style.value_axis(ax, "y", "held-out loss (best B, lr)", [loss_by_compute["loss"], *ends])
        style.legend_beside(figure, ax, "model size")
    return figure


def plot_compute_allocation(frontier: pd.DataFrame, laws: pd.DataFrame) -> Figure:
    """Best model size, batch size and steps against compute, a panel each, with power laws.

    Hollow: at the edge of what was trained, so the true best may lie beyond; left out of the laws.
    One model size: two panels.
    """
    with style.house_style():
        spent_on = _SPENT_ON[1:] if frontier["model_size"].nunique() == 1 and (
            frontier["model_size_at_edge"].all() and not (laws["y"] == "model_size").any()
        ) else _SPENT_ON  # fmt: skip
        figure, axes = style.new_panels(len(spent_on), 2.6 * len(spent_on) + 0.6)
        own = frontier.sort_values("compute")
        for i, (ax, (name, label)) in enumerate(zip(axes, spent_on, strict=True)):
            color = style.target_colors(3)[i]
            edge = np.zeros(len(own), bool)
            if len(spent_on) == 3:
                edge |= own["model_size_at_edge"].to_numpy(bool)
            if name != "model_size":
                edge |= own["batch_size_at_edge"].to_numpy(bool)
            best = own[f"best_{name}"]
            low, high = own[f"best_{name}_low"], own[f"best_{name}_high"]
            ax.errorbar(
                own["compute"], best, bars(best, low, high), ls="", color=color, lw=1.1,
            )  # fmt: skip
            for where, fill, words in ((~edge, color, "best"), (edge, "white", "at an edge")):
                if where.any():
                    points = {"ls": "", "marker": style.MARKERS[i], "color": color, "mfc": fill}
                    ax.plot(own["compute"][where], best[where], **points, label=words, zorder=3)
            law = laws[(laws["y"] == name) & laws["exponent"].notna()]
            if len(law):
                row = law.iloc[0].to_dict()
                span = own["compute"][~edge]
                dense = np.geomspace(span.min(), span.max(), 50)
                line = {"color": color, "ls": style.LINES[1], "lw": 1.2}
                ax.plot(dense, law_curve(row, dense), **line, label=exponent_words(row))
            style.log_axis(ax, "y", label)
            style.legend_right(ax)
        style.log_axis(axes[-1], "x", "training compute C (FLOPs)")
    return figure
