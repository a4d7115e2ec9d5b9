"""Several groups or studies in one picture: S(B), the best lr, and the loss while training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.fitting import FitResult
from scaling.schema import REACHED


def plot_overlaid_steps(series: Sequence[tuple[str, pd.DataFrame, FitResult]]) -> Figure:
    """Steps to target against batch size, a colour a series, with its fit and 95 % band.

    A fit that is not identified has no band.

    series: (label, frontier rows of one target, their fit). Hollow: best lr at the grid's edge.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        for i, (label, rows, fit) in enumerate(series):
            color, marker, line = _look(i, len(series))
            rows = rows.dropna(subset="steps").sort_values("batch_size")
            _points(ax, rows, "steps", color, marker)
            name = style.plain_text(label)
            if fit.log_parameters is None or rows.empty:
                ax.plot([], [], ls="", marker=marker, color=color, label=f"{name} (no fit)")
                continue
            ends = rows["batch_size"].min(), rows["batch_size"].max()
            dense = np.geomspace(*ends, 200)
            low, high = fit.predict_interval(dense)
            if fit.identified and np.isfinite(low).all():  # else it would hide the others
                ax.fill_between(dense, low, high, color=color, alpha=0.15, lw=0)
            ax.plot(dense, fit.predict(dense), color=color, ls=line)
            ax.plot([], [], color=color, ls=line, marker=marker, label=name)
            if fit.critical_batch_size is not None:
                at = fit.critical_batch_size
                ax.plot(at, float(fit.predict(at)), ls="", marker="|", ms=16, mew=1.6, color=color)
        _finish(figure, ax, [rows for _, rows, _ in series], "steps to target S")
    return figure


def plot_overlaid_lr(series: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Best learning rate against batch size, a colour a series; hollow: at the grid's edge."""
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        for i, (label, rows) in enumerate(series):
            color, marker, line = _look(i, len(series))
            rows = rows[rows["outcome"] == REACHED].dropna(subset="lr").sort_values("batch_size")
            ax.plot(rows["batch_size"], rows["lr"], color=color, ls=line, lw=1)
            _points(ax, rows, "lr", color, marker)
            name = style.plain_text(label)
            ax.plot([], [], color=color, ls=line, marker=marker, label=name)
        _finish(figure, ax, [rows for _, rows in series], "best learning rate")
    return figure


def plot_overlaid_curves(
    series: Sequence[tuple[str, pd.DataFrame]], y: str, targets: Sequence[float] = ()
) -> Figure:
    """Held-out loss or accuracy (y) against steps, a colour a series; the band spans the seeds."""
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        for i, (label, rows) in enumerate(series):
            color, marker, line = _look(i, len(series))
            rows = rows[rows["step"] > 0].dropna(subset=y)
            if f"{y}_low" in rows:
                band = rows[f"{y}_low"], rows[f"{y}_high"]
                ax.fill_between(rows["step"], *band, color=color, alpha=0.13, lw=0)
            ax.plot(
                rows["step"], rows[y], color=color, ls=line, marker=marker, ms=4,
                markevery=(i % 5, max(1, len(rows) // 6)), label=style.plain_text(label),
            )  # fmt: skip
        style.log_axis(ax, "x", "steps (optimizer updates)")
        if y == "loss":
            style.log_axis(ax, "y", "held-out loss")
        else:
            ax.set_ylabel(f"held-out {y}")
        for target in targets:
            ax.axhline(target, color=style.INK, lw=0.8, ls=(0, (2, 3)))
        style.legend_below(figure, ax)
    return figure


def _look(i: int, n: int) -> tuple[Any, str, Any]:
    color = style.target_colors(n)[i]
    return color, style.MARKERS[i % len(style.MARKERS)], style.LINES[i % len(style.LINES)]


def _points(ax: Axes, rows: pd.DataFrame, y: str, color: Any, marker: str) -> None:
    """Points with their 95 % intervals; hollow where the best lr is at the edge of the grid."""
    below = (rows[y] - rows[f"{y}_low"]).clip(lower=0).fillna(0)
    above = (rows[f"{y}_high"] - rows[y]).clip(lower=0).fillna(0)
    ax.errorbar(rows["batch_size"], rows[y], [below, above], ls="", color=color, lw=1)
    edge = rows["lr_at_edge"].astype(bool)
    for where, face in ((~edge, color), (edge, "white")):
        own = rows[where]
        ax.plot(own["batch_size"], own[y], ls="", marker=marker, color=color, mfc=face, zorder=3)


def _finish(figure: Figure, ax: Axes, frames: Sequence[pd.DataFrame], label: str) -> None:
    style.batch_size_axis(ax, pd.concat([rows["batch_size"] for rows in frames]))
    style.log_axis(ax, "y", label)
    style.legend_below(figure, ax)
