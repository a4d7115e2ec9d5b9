"""What the series of a figure share: colour, marker and line of each, and bars of intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures import style

Look = dict[str, Any]


def look(i: int, color: Any) -> Look:
    """The i-th series: readable without colours, too, by its marker and line."""
    marker, line = style.MARKERS[i % len(style.MARKERS)], style.LINES[i % len(style.LINES)]
    return {"color": color, "marker": marker, "ls": line}


def ordered_look(i: int, n: int) -> Look:
    """The i-th of n values of an ordered quantity (model sizes): dark to light."""
    return look(i, style.ordered_colors(n)[i])


def bars(values: pd.Series, low: pd.Series, high: pd.Series) -> list[pd.Series]:
    """Lengths below and above for errorbar; none where an end is not known."""
    return [(values - low).clip(lower=0).fillna(0), (high - values).clip(lower=0).fillna(0)]


def bars_of(rows: pd.DataFrame, y: str) -> list[pd.Series]:
    """Bars of column y, whose ends are y_low and y_high."""
    return bars(rows[y], rows[f"{y}_low"], rows[f"{y}_high"])


def plot_points(ax: Axes, rows: pd.DataFrame, y: str, shown: Look) -> None:
    """Points against batch size with their intervals; hollow: the best lr is at a grid's edge."""
    color = shown["color"]
    ax.errorbar(rows["batch_size"], rows[y], bars_of(rows, y), ls="", color=color, lw=1)
    edge = rows["lr_at_edge"].astype(bool)
    for where, face in ((~edge, color), (edge, "white")):
        own = rows[where]
        ax.plot(own["batch_size"], own[y], **{**shown, "ls": ""}, mfc=face, zorder=3)
