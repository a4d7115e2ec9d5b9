"""What twice the compute buys: more steps, a larger batch or a larger model."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.series import bars_of, look
from analysis.fit.twice_the_compute import BASE, BATCH, MODEL, STEPS

_APART = {STEPS: 0.985, BATCH: 1.015, MODEL: 1.0}  # equal compute, shown a little apart


def plot_twice_the_compute(rows: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Held-out loss against compute: the point that is started from and the three at twice of it,
    with 95 % intervals, on their seed-mean curves. Hollow: the best lr is at the grid's edge.

    rows: of one group, twice_the_compute.TWICE_COLUMNS; curves: twice_the_compute.way_curves.
    """
    with style.house_style():
        figure, ax = style.new_axes(4.8)
        colors = style.target_colors(3)
        for i, (way, apart) in enumerate(_APART.items()):
            shown = look(i, colors[i])
            own, point = curves[curves["way"] == way], rows[rows["way"] == way]
            ax.plot(own["compute"], own["loss"], color=colors[i], ls=shown["ls"], lw=1.1, alpha=0.7)
            x = point["compute"] * apart
            ax.errorbar(x, point["loss"], bars_of(point, "loss"), ls="", color=colors[i], lw=1.4)
            face = "white" if bool(point["lr_at_edge"].any()) else colors[i]
            ax.plot(x, point["loss"], **{**shown, "ls": ""}, mfc=face, ms=8, zorder=4)
            size, batch = point["model_size"].iloc[0], point["batch_size"].iloc[0]
            name = f"{way}: model {style.number(size)}, B = {batch:,}"
            ax.plot([], [], **shown, label=name)
        base = rows[rows["way"] == BASE]
        ax.errorbar(base["compute"], base["loss"], bars_of(base, "loss"), ls="", color=style.INK)
        ax.plot(base["compute"], base["loss"], ls="", marker="o", ms=8, color=style.INK, zorder=5,
                label="start: half the compute")  # fmt: skip
        style.log_axis(ax, "x", "training compute C (FLOPs)")
        shown = [curves["loss"], *(rows[name] for name in ("loss", "loss_low", "loss_high"))]
        style.value_axis(ax, "y", "held-out loss", shown)
        ax.set_xlim(base["compute"].iloc[0] / 8, base["compute"].iloc[0] * 2.6)
        style.legend_below(figure, ax, 2)
    return figure
