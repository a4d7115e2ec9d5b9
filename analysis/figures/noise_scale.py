"""The noise scale along the runs beside the critical batch size, against the loss."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from analysis.figures import style
from analysis.figures.series import bars

MOST_LINES = 8
_DASHED: dict[str, Any] = {"color": style.INK, "lw": 0.7, "ls": (0, (3, 2))}


def plot_noise_scale(along: pd.DataFrame, critical: pd.DataFrame, kind: str, name: str) -> Figure:
    """Noise scale against held-out loss (falling to the right), a marker a batch size.

    along: rows of noise_scale.noise_along_runs of one group and estimator; critical: of the
    critical batch sizes (analysis.report.tables.critical_batch_size) of that group. Dashed: the
    closed form. What is not positive is left out.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        own = along[(along["kind"] == kind) & (along["noise_scale"] > 0)]
        sizes = style.thinned(sorted(own["batch_size"].unique()), MOST_LINES)
        colors = style.ordered_colors(len(sizes))
        for i, size in enumerate(sizes):
            of_size = own[own["batch_size"] == size].sort_values("step")
            ax.plot(
                of_size["loss"], of_size["noise_scale"], ls="", ms=4.5, label=f"B = {size:,.0f}",
                color=colors[i], marker=style.MARKERS[i % len(style.MARKERS)],
            )  # fmt: skip
            exact = of_size.dropna(subset="exact").sort_values("loss")
            ax.plot(
                exact["loss"], exact["exact"], color=style.INK, lw=0.9, ls=(0, (3, 2)), zorder=4
            )
        if own["exact"].notna().any():
            ax.plot([], [], color=style.INK, lw=0.9, ls=(0, (3, 2)), label=f"{name}, closed form")
        _plot_critical(ax, critical)
        label = "held-out loss (falling to the right)"
        on_log = style.value_axis(ax, "x", label, [own["loss"]])
        style.log_axis(ax, "y", f"{name} and critical batch size (examples)")
        if not on_log:
            ax.xaxis.set_inverted(True)
        elif len(own):
            most, least = own["loss"].max() * 1.15, own["loss"].min() / 1.15
            ax.xaxis.set_major_locator(FixedLocator(style.PlainTicks().tick_values(least, most)))
            ax.set_xlim(most, least)
        style.legend_below(figure, ax, 4)
    return figure


def _plot_critical(ax: Axes, critical: pd.DataFrame) -> None:
    known = critical.dropna(subset="min_examples/min_steps")
    if len(known):
        values = known["min_examples/min_steps"]
        error = bars(values, known["low"], known["high"])
        ax.errorbar(
            known["target_loss"], values, error, ls="", marker="*", ms=13,
            mfc="white", mec=style.INK, ecolor=style.INK, elinewidth=1.5, capsize=3, zorder=6,
            label="critical batch size, measured",
        )  # fmt: skip
