"""Residuals of the fits: where the shape does not fit the frontier."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.series import bars
from scaling.schema import CENSORED, REACHED


def plot_residuals(residuals: pd.DataFrame) -> Figure:
    """log S minus the fit's log S against batch size, with 95 % intervals of the points.

    residuals: rows of one group as tables.residuals makes them; an upward arrow is a censored batch
    size (its residual is at least that), a downward one an upper bound (met at the first
    evaluation, or the best lr at the edge of the tried ones); a hollow point was left out.
    """
    with style.house_style():
        figure, ax = style.new_axes(4.2)
        targets = sorted(residuals["target_loss"].unique())
        ax.axhline(0, color=style.INK, lw=1, zorder=1)
        for i, (target, color) in enumerate(
            zip(targets, style.target_colors(len(targets)), strict=True)
        ):
            own = residuals[residuals["target_loss"] == target]
            # targets side by side where they share a batch size
            x = own["batch_size"] * 1.06 ** (i - (len(targets) - 1) / 2)
            y = own["log_residual"]
            ax.errorbar(
                x, y, bars(y, own["low"], own["high"]), ls="", color=color, lw=1.2, zorder=2
            )
            shown = {"ls": "", "color": color, "zorder": 3}
            sound, at_most = style.MARKERS[i % len(style.MARKERS)], own["at_most"].astype(bool)
            reached = (own["outcome"] == REACHED) & ~at_most
            censored = (own["outcome"] == CENSORED) & own["used"]
            for rows, marker, fill, label in (
                (reached & own["used"], sound, color, ""),
                (reached & ~own["used"], sound, "white", ", left out"),
                (censored, "^", "white", ", at least (censored)"),
                (at_most, "v", "white", ", at most"),
            ):
                if rows.any():
                    name = f"target {target:.3g}{label}"
                    ax.plot(x[rows], y[rows], marker=marker, mfc=fill, label=name, **shown)
        style.batch_size_axis(ax, residuals["batch_size"])
        ax.set_ylabel("residual of log S")
        reach = np.nanmax(np.abs(residuals[["log_residual", "low", "high"]].to_numpy(float)))
        ax.set_ylim(-1.15 * reach - 1e-6, 1.15 * reach + 1e-6)
        style.legend_below(figure, ax)
    return figure
