"""Several groups or studies in one picture: S(B), the best lr, and the loss while training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.series import Look, look, ordered_look, plot_points
from scaling.schema import REACHED


class Fitted(Protocol):
    """What is drawn of a fit."""

    log_parameters: tuple[float, float] | None
    identified: bool
    critical_batch_size: float | None

    def predict(self, batch_size: Any) -> np.ndarray: ...

    def predict_interval(self, batch_size: Any) -> tuple[np.ndarray, np.ndarray]: ...


def plot_overlaid_steps(
    series: Sequence[tuple[str, pd.DataFrame, Fitted]], ordered_by: str = ""
) -> Figure:
    """Steps to target against batch size, a colour a series, with its fit and 95 % band.

    A fit that is not identified has no band.

    series: (label, frontier rows of one target, their fit). Hollow: best lr at the grid's edge.
    ordered_by: the quantity that the labels are values of, in order; colours follow it.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        for i, (label, rows, fit) in enumerate(series):
            shown = _look(i, len(series), ordered_by)
            color, line = shown["color"], {"color": shown["color"], "ls": shown["ls"]}
            rows = rows.dropna(subset="steps").sort_values("batch_size")
            plot_points(ax, rows, "steps", shown)
            name = style.plain_text(label)
            if fit.log_parameters is None or rows.empty:
                ax.plot([], [], **{**shown, "ls": ""}, label=f"{name} (no fit)")
                continue
            ends = rows["batch_size"].min(), rows["batch_size"].max()
            dense = np.geomspace(*ends, 200)
            low, high = fit.predict_interval(dense)
            if fit.identified and np.isfinite(low).all():  # else it would hide the others
                ax.fill_between(dense, low, high, color=color, alpha=0.15, lw=0)
            ax.plot(dense, fit.predict(dense), **line)
            ax.plot([], [], **shown, label=name)
            if fit.critical_batch_size is not None:
                at = fit.critical_batch_size
                ax.plot(at, float(fit.predict(at)), ls="", marker="|", ms=16, mew=1.6, color=color)
        _finish(figure, ax, [rows for _, rows, _ in series], "steps to target S", ordered_by)
    return figure


def plot_overlaid_lr(series: Sequence[tuple[str, pd.DataFrame]], ordered_by: str = "") -> Figure:
    """Best learning rate against batch size, a colour a series; hollow: at the grid's edge.

    series: (label, frontier rows of one target); ordered_by: as in plot_overlaid_steps.
    """
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        for i, (label, rows) in enumerate(series):
            shown = _look(i, len(series), ordered_by)
            rows = rows[rows["outcome"] == REACHED].dropna(subset="lr").sort_values("batch_size")
            # a little apart, so that equal values of several series stay visible
            shift = 1.05 ** (i - (len(series) - 1) / 2)
            rows = rows.assign(batch_size=rows["batch_size"] * shift)
            ax.plot(rows["batch_size"], rows["lr"], color=shown["color"], ls=shown["ls"], lw=1)
            plot_points(ax, rows, "lr", shown)
            ax.plot([], [], **shown, label=style.plain_text(label))
        _finish(figure, ax, [rows for _, rows in series], "best learning rate", ordered_by)
    return figure


def plot_overlaid_curves(
    series: Sequence[tuple[str, pd.DataFrame]], y: str, targets: Sequence[float] = ()
) -> Figure:
    """Held-out loss or accuracy (y) against steps, a colour a series and a line each of its batch
    sizes; the band spans the seeds."""
    with style.house_style():
        figure, ax = style.new_axes(5.2)
        for i, (label, rows) in enumerate(series):
            shown = _look(i, len(series))
            rows = rows[rows["step"] > 0].dropna(subset=y)
            for j, (_, own) in enumerate(rows.groupby("batch_size")):
                if f"{y}_low" in own:
                    band = own[f"{y}_low"], own[f"{y}_high"]
                    ax.fill_between(own["step"], *band, color=shown["color"], alpha=0.13, lw=0)
                ax.plot(
                    own["step"], own[y], **shown, ms=4,
                    markevery=(i % 5, max(1, len(own) // 6)),
                    label=None if j else style.plain_text(label),
                )  # fmt: skip
        style.log_axis(ax, "x", "steps (optimizer updates)")
        if y == "loss":
            names = [name for name in ("loss", "loss_low", "loss_high") if name in series[0][1]]
            shown = [rows.loc[rows["step"] > 0, names] for _, rows in series]
            style.value_axis(ax, "y", "held-out loss", [targets, *shown])
        else:
            ax.set_ylabel(f"held-out {y}")
        for target in targets:
            ax.axhline(target, color=style.INK, lw=0.8, ls=(0, (2, 3)))
        style.legend_below(figure, ax)
    return figure


def _look(i: int, n: int, ordered_by: str = "") -> Look:
    return ordered_look(i, n) if ordered_by else look(i, style.target_colors(n)[i])


def _finish(
    figure: Figure, ax: Axes, frames: Sequence[pd.DataFrame], label: str, ordered_by: str
) -> None:
    style.batch_size_axis(ax, pd.concat([rows["batch_size"] for rows in frames]))
    style.log_axis(ax, "y", label)
    if ordered_by:
        style.legend_beside(figure, ax, ordered_by)
    else:
        style.legend_below(figure, ax)
