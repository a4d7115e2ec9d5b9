"""The loss at which a learning rate settles, and the limit above which it never does."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style

_MOST_SIZES = 8


def plot_noise_floor(
    floors: pd.DataFrame, stability: pd.DataFrame, targets: Sequence[float]
) -> Figure:
    """floors: batch_size, lr, noise_floor; stability: batch_size, largest_stable_lr; one group."""
    with style.house_style():
        figure, ax = style.new_axes()
        sizes = style.thinned(sorted(floors["batch_size"].unique()), _MOST_SIZES)
        limits = stability.set_index("batch_size")["largest_stable_lr"].to_dict()
        for size, color in zip(sizes, style.ordered_colors(len(sizes)), strict=True):
            own = floors[floors["batch_size"] == size]
            ax.plot(own["lr"], own["noise_floor"], color=color, label=f"B = {style.number(size)}")
            ax.axvline(limits[size], color=color, lw=0.9, ls=(0, (4, 3)))
        for target in targets:
            ax.axhline(target, color=style.MUTED, lw=0.9, ls=(0, (1, 1.4)))
        style.log_axis(ax, "x", "learning rate")
        ax.set_yscale("log")
        ax.set_ylabel("excess loss where it settles")
        style.legend_below(figure, ax, 4)
    return figure
