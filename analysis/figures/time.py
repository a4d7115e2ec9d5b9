"""Seconds: of a step against batch size, and to a target on this device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.series import bars_of, ordered_look


def plot_step_time(groups: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """t(B) as measured, and overhead + cost per example; (label, rows of step_time) of groups."""
    with style.house_style():
        figure, ax = style.new_axes(4.4)
        for i, (label, own) in enumerate(groups):
            shown = ordered_look(i, len(groups))
            ax.errorbar(
                own["batch_size"], own["step_seconds"], bars_of(own, "step_seconds"), ls="", lw=1.1,
                color=shown["color"],
            )  # fmt: skip
            ax.plot(own["batch_size"], own["step_seconds"], **{**shown, "ls": ""}, zorder=3)
            first = own.iloc[0]
            if np.isfinite(first["overhead_seconds"]):
                dense = np.geomspace(own["batch_size"].min(), own["batch_size"].max(), 100)
                fitted = first["overhead_seconds"] + first["seconds_per_example"] * dense
                ax.plot(dense, fitted, color=shown["color"], ls=shown["ls"], lw=1.2)
            ax.plot([], [], **shown, label=label or "measured and fitted")
        style.batch_size_axis(ax, {size for _, own in groups for size in own["batch_size"]})
        style.log_axis(ax, "y", "seconds per step t")
        style.legend_beside(figure, ax, "model size" if groups[0][0] else "")
    return figure


def plot_time_to_target(
    groups: Sequence[tuple[str, pd.DataFrame, pd.DataFrame]], target: float
) -> Figure:
    """T(B) = S(B) t(B) at one target; (label, rows of time_to_target, of batch_size_choices).

    A star marks the fastest of the measured batch sizes, a ring the cheapest (fewest examples).
    """
    with style.house_style():
        figure, ax = style.new_axes(4.8)
        for i, (label, own, choices) in enumerate(groups):
            shown = ordered_look(i, len(groups))
            own = own.sort_values("batch_size")
            ax.errorbar(
                own["batch_size"], own["seconds"], bars_of(own, "seconds"), lw=1.1, elinewidth=1.1,
                ms=4.5, **shown,
            )  # fmt: skip
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
        style.batch_size_axis(ax, {size for _, own, _ in groups for size in own["batch_size"]})
        style.log_axis(ax, "y", f"seconds to target {target:.3g}")
        style.legend_beside(figure, ax, "model size" if groups[0][0] else "")
    return figure
